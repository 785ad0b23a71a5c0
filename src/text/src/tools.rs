//! Calls of tools: how they are written, and how they are read out of an answer.

mod format;
mod object;
mod parser;
mod python_call;
mod schema;
mod sink;
mod tagged;
mod tags;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod value;

pub use format::{CallForm, ToolFormat, UnknownFormat};
pub use parser::{Calls, ToolParser};
pub use sink::Piece;
pub(crate) use tags::{Found, find};
