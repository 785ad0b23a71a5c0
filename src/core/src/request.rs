//! One thing to generate.

use std::sync::Arc;

use crate::{KeepAlive, LogprobsWanted, Message, Model, Sampling, Tool, ToolChoice};

/// A request to generate, checked by the API that received it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The model, already resolved from the name the client used.
    pub model: Arc<Model>,
    /// What to go on from.
    pub prompt: Prompt,
    /// What the client said about sampling.
    pub sampling: Sampling,
    /// Most tokens to generate: 0 generates nothing, more than the context holds means its end,
    /// `None` leaves it to the model's own setting.
    pub tokens_max: Option<u32>,
    /// Texts that end the answer; none is empty, none is ever part of the answer.
    pub stop: Vec<String>,
    /// The form that the answer has to have.
    pub format: Option<Format>,
    /// Whether to go on beyond the model's end of sequence, to the token limit. No runtime can be
    /// told so for a single request.
    pub ignore_eos: bool,
    /// What is to be told of the tokens' probabilities.
    pub logprobs: Option<LogprobsWanted>,
    /// How long the model stays loaded afterwards; `None` leaves it to the server.
    pub keep_alive: Option<KeepAlive>,
    /// Who asks, as far as the API can tell (an address, a key's name): clients take turns.
    pub client: Arc<str>,
}

/// What a model goes on from.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// A conversation, rendered with the model's own template.
    Chat(Chat),
    /// A text, tokenized as it is; names of control tokens in it are control tokens.
    Text(String),
    /// A place in a text, to be filled in.
    Infill(Infill),
    /// Token ids, as they are. None is negative.
    Tokens(Vec<i32>),
}

/// The texts around what is missing; names of control tokens in them are text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Infill {
    /// What stands before it.
    pub before: String,
    /// What stands behind it.
    pub after: String,
}

/// A conversation to be answered.
#[derive(Debug, Clone, Default)]
pub struct Chat {
    /// Token ids in front of everything, as they are: what an earlier answer of an API without
    /// messages went on from. None is negative.
    pub preface: Vec<i32>,
    /// Oldest message first; not empty.
    pub messages: Vec<Message>,
    /// Functions that the model may call.
    pub tools: Vec<Tool>,
    /// Whether it calls them. `Required` and `Named` come with tools, `Named` with one of them.
    pub tool_choice: ToolChoice,
    /// Whether one answer may call several.
    pub parallel_tool_calls: bool,
    /// Whether the model thinks first, where its template leaves the choice; `None` is its default.
    pub thinking: Option<bool>,
    /// How much the model thinks, for templates that know levels: `low`, `medium`, `high` …
    pub reasoning_effort: Option<String>,
    /// Further variables for the template, as the text of a JSON object.
    pub template_variables: Option<String>,
    /// Whether the answer goes on with the last message, which is the assistant's, instead of
    /// beginning a turn.
    pub continue_last: bool,
    /// Whether thoughts are told apart from the answer; else they are a part of its text.
    pub split_reasoning: bool,
}

impl Chat {
    /// A conversation without tools.
    pub fn new(messages: Vec<Message>) -> Self {
        Self { messages, parallel_tool_calls: true, split_reasoning: true, ..Self::default() }
    }
}

/// The form of an answer. It holds for answers that end by themselves; one that is cut short by a
/// limit may break off anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// A JSON object.
    JsonObject,
    /// JSON that validates against this JSON Schema, which is JSON text.
    JsonSchema(String),
}
