//! The C side: layouts as data, raw reads and writes, and the exported functions.

mod decode;
pub mod default_param;
pub mod entry;
mod export;
pub mod layout;
pub(crate) mod raw;
pub(crate) mod result;
