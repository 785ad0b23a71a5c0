//! Documents by how well they answer a query.

use std::sync::Arc;

use crate::{KeepAlive, Model};

/// Documents to be compared with a query.
#[derive(Debug, Clone)]
pub struct RerankRequest {
    /// The model, already resolved from the name the client used.
    pub model: Arc<Model>,
    /// What is looked for. Names of control tokens in it are text.
    pub query: String,
    /// Where it is looked for; not empty. Names of control tokens in them are text. One that is too
    /// long loses its end.
    pub documents: Vec<String>,
    /// What it means to answer the query; `None` is what the model's makers say.
    pub instruction: Option<String>,
    /// How long the model stays loaded afterwards; `None` leaves it to the server.
    pub keep_alive: Option<KeepAlive>,
    /// Who asks: clients take turns.
    pub client: Arc<str>,
}

/// What a reranker is given to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RerankFrame {
    /// Instruction, query and document as a question, in the words of Qwen3-Reranker's makers.
    #[default]
    Qwen3,
    /// Instruction, query and document alone, the last two indented by eight blanks: what old RKLLama
    /// servers gave, for scores like theirs.
    Bare,
}

/// How well a document answers a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Relevance {
    /// From 0 to 1: the model's probability of yes, where yes and no are all there is.
    pub score: f64,
    /// Tokens that were read for it, those of the query and the model's frame among them.
    pub tokens: u32,
}
