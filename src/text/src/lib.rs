//! Text machines: chat templates, tokenizers, stop strings.
//!
//! Pure: files come in as bytes ([`rkllama_core::TextFiles`]), nothing here reads a disk, a socket
//! or the environment. Tokens are the truth of the whole server (what the NPU sees, what is
//! counted, what ends an answer), so what this crate promises is exactness: the ids of a
//! conversation are those the model's makers would get from the same files.
#![forbid(unsafe_code)]

mod bound;
mod codec;
mod config;
mod eos;
mod error;
mod guard;
mod python;
mod stop;
mod template;
mod utf8;

pub use codec::{Codec, Encoded, Rendered};
pub use error::TextError;
pub use stop::{Passed, StopStrings};
pub use template::RenderOptions;
pub use utf8::Utf8Assembler;
