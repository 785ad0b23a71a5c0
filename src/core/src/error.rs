//! What can go wrong in the domain. No status codes here: each API has its own.

use std::{fmt, path::PathBuf};

/// A model cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// No model of this name.
    #[error("model '{name}' not found")]
    NotFound {
        /// As the client wrote it.
        name: String,
    },
    /// Several models answer to this name.
    #[error("model name '{name}' is ambiguous: {}", candidates.join(", "))]
    Ambiguous {
        /// As the client wrote it.
        name: String,
        /// The ids it could mean.
        candidates: Vec<String>,
    },
    /// The model's folder lacks something or its settings are wrong.
    #[error("model '{model}' is incomplete: {reason}")]
    Incomplete {
        /// The model's id.
        model: String,
        /// Names the file and says what to do.
        reason: String,
    },
    /// The disk refused.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
}

/// A generation cannot begin or cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The model itself is the problem.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The conversation does not fit the model's template.
    #[error("{reason}")]
    Template {
        /// The template's own words where it raised, else what we could not render.
        reason: String,
    },
    /// The text or the token ids to go on from cannot be used.
    #[error("{reason}")]
    Prompt {
        /// What is wrong with them.
        reason: String,
    },
    /// The answer cannot have the form that was asked for.
    #[error("{reason}")]
    Format {
        /// Names the keyword or the construct that is not supported.
        reason: String,
    },
    /// An image cannot be used.
    #[error("{field} {reason}")]
    Image {
        /// The field of the request in which it came.
        field: String,
        /// What is wrong with it: the end of a sentence that begins with its name.
        reason: String,
    },
    /// The model has no way to do what was asked for, such as calling tools.
    #[error("model '{model}' does not support {what}")]
    Unsupported {
        /// The model's id.
        model: String,
        /// What was asked for.
        what: &'static str,
    },
    /// The prompt leaves no room in the context.
    #[error(
        "the prompt has {prompt_tokens} tokens, the model's context holds {context_tokens_max}, \
         of which {margin_tokens} are kept for the answer"
    )]
    ContextExceeded {
        /// Tokens of the rendered prompt.
        prompt_tokens: PromptTokens,
        /// The model's context, as it is listed or as the runtime clamped it.
        context_tokens_max: u32,
        /// Tokens of the context that a prompt must leave free.
        margin_tokens: u32,
    },
    /// Too many requests wait for this model, or for all models together.
    #[error("{waiting} requests already wait for {what}")]
    QueueFull {
        /// `model 'x'`, or `this server`.
        what: String,
        /// Requests in the queue.
        waiting: usize,
    },
    /// No usable vendor runtime; the text names each file that was looked at and its version.
    #[error("{reason}")]
    Runtime {
        /// Which file, which version, what is wrong.
        reason: String,
    },
    /// The runtime refused the model.
    #[error("model '{model}' failed to load: {reason}")]
    Load {
        /// The model's id.
        model: String,
        /// The runtime's own words where it gave any.
        reason: String,
    },
    /// The worker process ended or stopped answering in the middle of something.
    #[error("the worker of model '{model}' {what}")]
    Worker {
        /// The model's id.
        model: String,
        /// What happened, with the runtime's last lines.
        what: String,
    },
    /// The model's worker died too often; the next attempt has to wait.
    #[error("model '{model}' is out of order: {what}; it can be tried again in {retry_after_s} s")]
    Degraded {
        /// The model's id.
        model: String,
        /// How often what happened.
        what: String,
        /// Seconds until the next attempt.
        retry_after_s: u32,
    },
    /// The model's turn did not come in time.
    #[error("the request waited {waited_s} s for model '{model}' and its turn did not come")]
    QueueTimeout {
        /// The model's id.
        model: String,
        /// Seconds it waited.
        waited_s: u64,
    },
    /// The runtime reported a failed run.
    #[error("the runtime failed while answering: {reason}")]
    Run {
        /// The runtime's own words where it gave any.
        reason: String,
    },
    /// The server is going down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// How many tokens a prompt has. What is far too long is not tokenized to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptTokens {
    /// Counted.
    Exactly(u32),
    /// Certainly no fewer.
    AtLeast(u32),
}

impl PromptTokens {
    /// The number that is known.
    pub const fn known(self) -> u32 {
        match self {
            Self::Exactly(tokens) | Self::AtLeast(tokens) => tokens,
        }
    }
}

impl fmt::Display for PromptTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(tokens) => write!(f, "{tokens}"),
            Self::AtLeast(tokens) => write!(f, "at least {tokens}"),
        }
    }
}
