//! Calls of tools: how they are written, and how they are read out of an answer.

mod format;

pub use format::{CallForm, ToolFormat, UnknownFormat};
