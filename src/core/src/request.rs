//! One thing to generate.

use std::sync::Arc;

use crate::{KeepAlive, Message, Model, Sampling};

/// A request to answer a conversation, checked by the API that received it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The model, already resolved from the name the client used.
    pub model: Arc<Model>,
    /// The conversation, oldest message first; not empty.
    pub messages: Vec<Message>,
    /// What the client said about sampling.
    pub sampling: Sampling,
    /// Most tokens to generate: 0 generates nothing, more than the context holds means its end,
    /// `None` leaves it to the model's own setting.
    pub tokens_max: Option<u32>,
    /// Texts that end the answer; none is empty, none is ever part of the answer.
    pub stop: Vec<String>,
    /// How long the model stays loaded afterwards; `None` leaves it to the server.
    pub keep_alive: Option<KeepAlive>,
    /// Who asks, as far as the API can tell (an address, a key's name): clients take turns.
    pub client: Arc<str>,
}
