//! The port through which the APIs ask for answers.

use std::pin::Pin;

use futures_core::Stream;

use crate::{EngineError, Event, Request};

/// A running or waiting generation. Dropping it cancels: it leaves the queue, or aborts the run.
pub type Generation = Pin<Box<dyn Stream<Item = Result<Event, EngineError>> + Send>>;

/// Something that keeps the server from doing its work well, in words for its operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is about: `runtime`, or a model's id.
    pub subject: String,
    /// What is wrong, naming the file and the version, and what to do.
    pub detail: String,
}

/// Answers conversations. Implemented by `rkllama-engine`.
pub trait Engine: Send + Sync + 'static {
    /// Begins to answer. Returns at once; errors are the stream's first item.
    fn generate(&self, request: Request) -> Generation;

    /// What is wrong at the moment; empty when all is well.
    fn problems(&self) -> Vec<Problem>;
}
