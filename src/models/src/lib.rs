//! The models on disk: names, manifests, Modelfiles.
