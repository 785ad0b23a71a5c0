//! The models on disk: names, manifests, Modelfiles; making, fetching and removing them.
//!
//! A model is a folder below one root. What it needs is found by looking, what cannot be found is
//! said in a file beside the weights, and whatever is wrong with one folder is told about that
//! model and leaves the others alone. Names that clients send are compared with the list of what
//! was found and never become paths.
#![forbid(unsafe_code)]

mod adapter;
mod blobs;
mod catalog;
mod draft;
mod files;
mod fingerprint;
mod folder;
mod generation_config;
mod library;
mod lock;
mod make;
mod manifest;
mod modelfile;
mod names;
mod pull;
mod recipe;
mod reference;
mod settings;
mod store;
mod template;
mod transfer;
mod vision;

pub use catalog::Catalog;
pub use library::{Library, Sources};
pub use make::TemplateCheck;
pub use recipe::{Dialect, ModelFile, Recipe, adapter_file, model_files};
pub use rkllama_hub::{HubConfig, Patience};
pub use store::{Defaults, Store};
