//! Text machines: chat templates, tokenizers, stop strings, thoughts and calls of tools, structured
//! output.
//!
//! Pure: files come in as bytes ([`rkllama_core::TextFiles`]), nothing here reads a disk, a socket
//! or the environment. Tokens are the truth of the whole server (what the NPU sees, what is
//! counted, what ends an answer), so what this crate promises is exactness: the ids of a
//! conversation are those the model's makers would get from the same files.
#![forbid(unsafe_code)]

mod answer;
mod bound;
mod capabilities;
mod codec;
mod config;
mod eos;
mod error;
pub mod grammar;
mod guard;
mod harmony;
mod history;
mod infill;
mod pictured;
mod probe;
mod python;
mod reasoning;
mod stop;
mod template;
mod thoughts;
mod token_bytes;
mod tools;
mod utf8;

pub use answer::AnswerParser;
pub use capabilities::{Capabilities, Formats};
pub use codec::{ChatPrompt, Codec, Encoded, Rendered};
pub use error::TextError;
pub use pictured::{image_place, image_placeholder, without_marks};
pub use reasoning::ReasoningFormat;
pub use stop::{Passed, StopStrings};
pub use template::{RenderOptions, check_template};
pub use tools::{CallForm, Calls, Piece, ToolFormat, ToolParser, UnknownFormat};
pub use utf8::Utf8Assembler;
