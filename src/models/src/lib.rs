//! The models on disk: names, manifests, Modelfiles.
//!
//! A model is a folder below one root. What it needs is found by looking, what cannot be found is
//! said in a file beside the weights, and whatever is wrong with one folder is told about that
//! model and leaves the others alone. Names that clients send are compared with the list of what
//! was found and never become paths.
#![forbid(unsafe_code)]

mod files;
mod fingerprint;
mod folder;
mod generation_config;
mod manifest;
mod modelfile;
mod names;
mod settings;
mod store;

pub use store::{Defaults, Store};
