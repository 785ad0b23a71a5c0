//! From the wire to the domain: every check of a request, once.

mod chat;
mod common;
mod completion;
mod embedding;
mod format;
mod gui_actor;
mod items;
mod messages;
mod model;
mod responses;
mod tools;

pub(crate) use chat::chat;
pub(crate) use common::check_integer;
pub(crate) use completion::completion;
pub(crate) use embedding::{CheckedEmbedding, embedding};
pub(crate) use gui_actor::gui_actor;
pub(crate) use responses::{owner, response};

use rkllama_core::Request;
use rkllama_http::ApiError;

use crate::{State, failure::Blame, refusal::unsupported};

/// A request that may run, and how to answer it.
pub(crate) struct Checked {
    /// What to generate, for each prompt.
    pub(crate) requests: Vec<Request>,
    /// Answers to each prompt.
    pub(crate) n: usize,
    /// How many are made for that.
    pub(crate) best_of: usize,
    /// What the client wants to see of them.
    pub(crate) view: View,
    /// The model's name for the answer: the client's own words.
    pub(crate) model: String,
    /// Whether to answer in chunks.
    pub(crate) stream: bool,
    /// Whether the last chunk carries the usage.
    pub(crate) include_usage: bool,
    /// What each answer begins with, for each prompt; empty where it begins with itself.
    pub(crate) echoes: Vec<String>,
    /// Fields that were used in vain.
    pub(crate) ignored: Vec<&'static str>,
}

/// What a client wants to see of a generation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// Whether it is told what the model thought.
    pub(crate) reasoning: bool,
    /// Whether it gets more than the first call of a tool.
    pub(crate) several_calls: bool,
    /// Whether each chunk carries the time.
    pub(crate) timings_per_token: bool,
    /// Whether it is told how likely tokens were.
    pub(crate) logprobs: bool,
    /// Whether a parameter that the runtime ignores is an error.
    pub(crate) strict: bool,
    /// The fields that errors of the engine are about.
    pub(crate) blame: Blame,
}

/// Refuses ignored fields where the server is configured to be strict.
fn refuse_ignored(ignored: &[&str], state: &State) -> Result<(), ApiError> {
    match ignored.first() {
        Some(field) if state.strict_parameters => Err(unsupported(field)),
        _ => Ok(()),
    }
}
