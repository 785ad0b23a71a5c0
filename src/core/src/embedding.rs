//! Texts as vectors.

use std::sync::Arc;

use crate::{EngineError, KeepAlive, Model};

/// Texts to be read, of each of which one vector is wanted.
#[derive(Debug, Clone)]
pub struct EmbedRequest {
    /// The model, already resolved from the name the client used.
    pub model: Arc<Model>,
    /// The texts; not empty.
    pub inputs: Vec<EmbedInput>,
    /// Whether the texts are queries, which models that tell them from documents read with an
    /// instruction in front. Token ids stay as they are.
    pub are_queries: bool,
    /// Whether a text that is longer than the context loses its end instead of being refused.
    pub truncate: bool,
    /// How long the model stays loaded afterwards; `None` leaves it to the server.
    pub keep_alive: Option<KeepAlive>,
    /// Who asks: clients take turns.
    pub client: Arc<str>,
}

/// A text to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbedInput {
    /// As the model's tokenizer takes it. Names of control tokens in it are text.
    Text(String),
    /// Token ids, as they are. None is negative.
    Tokens(Vec<i32>),
}

/// A text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct EmbedError {
    /// The text's place in the request.
    pub input: usize,
    /// What is wrong.
    pub error: EngineError,
}

/// A text as a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// As many numbers as the model is wide; of length 1.
    pub vector: Vec<f32>,
    /// Tokens that were read.
    pub tokens: u32,
}

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooling {
    /// The last token's.
    #[default]
    Last,
    /// The mean of all.
    Mean,
    /// The first token's: of models that were made so, as BERT is.
    Cls,
}
