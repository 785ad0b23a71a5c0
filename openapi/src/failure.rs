//! From the domain's errors to OpenAI's, in one place.

use poem::http::StatusCode;
use rkllama_core::{EngineError, ModelError};
use rkllama_http::{ApiError, Trouble};
pub(crate) use rkllama_http::{Failure, Statuses};

use crate::refusal::{echo, invalid, invalid_image};

/// The fields of a request that errors of the engine are about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blame {
    /// What the model goes on from: `messages` or `prompt`.
    pub(crate) prompt: &'static str,
    /// What asks for the form of the answer.
    pub(crate) format: &'static str,
}

/// The answer to an error of the engine.
pub(crate) fn engine(error: EngineError, blame: Blame) -> ApiError {
    let (words, trouble) = (error.to_string(), Trouble::from(&error));
    let ours =
        |code| ApiError::new(trouble.status, "server_error", &*words).code(code).until(trouble);
    let wrong = |reason: String, param| invalid(reason).code("invalid_value").param(param);
    match error {
        EngineError::Model(error) => model(error),
        EngineError::Template { reason } | EngineError::Prompt { reason } => {
            wrong(reason, blame.prompt)
        }
        EngineError::Format { reason } => wrong(reason, blame.format),
        EngineError::Image { field, reason } => invalid_image(&field, &reason),
        EngineError::Unsupported { .. } => invalid(words).code("unsupported_value").param("model"),
        EngineError::ContextExceeded { prompt_tokens, context_tokens_max, margin_tokens } => {
            invalid(format!(
                "This model's maximum context length is {context_tokens_max} tokens. However, \
                 your {prompt} resulted in {prompt_tokens} tokens, and {margin_tokens} are kept \
                 for the answer. Please reduce the length of the {prompt}.",
                prompt = blame.prompt
            ))
            .code("context_length_exceeded")
            .param(blame.prompt)
            .extra("n_prompt_tokens", prompt_tokens.known())
            .extra("n_ctx", context_tokens_max)
        }
        EngineError::QueueFull { .. } => ours("queue_full"),
        EngineError::QueueTimeout { .. } => ours("queue_timeout"),
        EngineError::Degraded { .. } => ours("model_degraded"),
        EngineError::Runtime { .. } => ours("runtime_unavailable"),
        EngineError::Load { .. } => ours("model_load_failed"),
        EngineError::Worker { .. } | EngineError::Run { .. } => broken(words),
        EngineError::ShuttingDown => ours("shutting_down"),
    }
}

/// The answer to an error about a model.
pub(crate) fn model(error: ModelError) -> ApiError {
    let (words, trouble) = (error.to_string(), Trouble::from(&error));
    match error {
        ModelError::NotFound { name } => ApiError::new(
            trouble.status,
            "invalid_request_error",
            format!("The model `{}` does not exist or you do not have access to it.", echo(&name)),
        )
        .code("model_not_found"),
        ModelError::Ambiguous { .. } => invalid(words).code("model_ambiguous").param("model"),
        ModelError::Incomplete { .. } => ApiError::new(trouble.status, "server_error", words)
            .code("model_incomplete")
            .until(trouble),
        // The path is the operator's business.
        ModelError::Unreadable { .. } => {
            broken("The server cannot read this model's files.").detail_for_log(words)
        }
    }
}

/// The answer where the engine broke off without a word: a fault of ours.
pub(crate) fn broken_off() -> ApiError {
    broken("The answer broke off.").detail_for_log("the event stream ended without `Finished`")
}

fn broken(words: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", words)
}
