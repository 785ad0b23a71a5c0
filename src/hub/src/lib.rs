//! The Hugging Face hub: what a repository holds, and its files, whole or not at all.
//!
//! The talking is `hf-hub`'s, the transfer is this crate's: a file of gigabytes comes over a link
//! that breaks, so it goes on where it stopped, is compared with the checksum the hub gives, and
//! takes its name only when all of it is on the disk. Nothing runs on once a future is dropped.
//!
//! The hub is a stranger: what it says is bounded, names of files that are no plain paths are
//! dropped, and the token goes to the hub alone, not to where it sends its clients for content.
#![forbid(unsafe_code)]

mod address;
mod attempts;
mod config;
mod disk;
mod error;
mod hub;
mod link;
mod part;
mod repository;
mod transfer;

pub use address::fetch_address;
pub use config::{HubConfig, Patience};
pub use error::HubError;
pub use hub::Hub;
pub use repository::{RemoteFile, Repository};
