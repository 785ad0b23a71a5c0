//! From the domain's errors to OpenAI's, in one place.

use poem::http::{HeaderValue, StatusCode, header::HeaderName};
use rkllama_core::{EngineError, ModelError};
use rkllama_http::ApiError;
pub(crate) use rkllama_http::{Failure, Statuses};

use crate::refusal::{echo, invalid};

/// Seconds until a queue may have moved: an answer of a few dozen tokens takes about as long.
const QUEUE_RETRY_AFTER_S: u32 = 5;
/// Seconds until a restarted server answers again.
const RESTART_RETRY_AFTER_S: u32 = 10;
/// OpenAI's clients repeat every 5xx twice unless this header says no. For a fault that does not
/// go away by itself that would load a model in vain, three times.
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

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
    let words = error.to_string();
    let wrong = |reason: String, param| invalid(reason).code("invalid_value").param(param);
    match error {
        EngineError::Model(error) => model(error),
        EngineError::Template { reason } | EngineError::Prompt { reason } => {
            wrong(reason, blame.prompt)
        }
        EngineError::Format { reason } => wrong(reason, blame.format),
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
        EngineError::QueueFull { .. } => {
            unavailable(words).code("queue_full").retry_after_s(QUEUE_RETRY_AFTER_S)
        }
        EngineError::QueueTimeout { .. } => {
            unavailable(words).code("queue_timeout").retry_after_s(QUEUE_RETRY_AFTER_S)
        }
        EngineError::Degraded { retry_after_s, .. } => {
            unavailable(words).code("model_degraded").retry_after_s(retry_after_s)
        }
        EngineError::Runtime { .. } => lasting(unavailable(words).code("runtime_unavailable")),
        EngineError::Load { .. } => lasting(unavailable(words).code("model_load_failed")),
        EngineError::Worker { .. } | EngineError::Run { .. } => broken(words),
        EngineError::ShuttingDown => {
            unavailable(words).code("shutting_down").retry_after_s(RESTART_RETRY_AFTER_S)
        }
    }
}

/// The answer to an error about a model.
pub(crate) fn model(error: ModelError) -> ApiError {
    let words = error.to_string();
    match error {
        ModelError::NotFound { name } => ApiError::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            format!("The model `{}` does not exist or you do not have access to it.", echo(&name)),
        )
        .code("model_not_found"),
        ModelError::Ambiguous { .. } => invalid(words).code("model_ambiguous").param("model"),
        ModelError::Incomplete { .. } => lasting(unavailable(words).code("model_incomplete")),
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

fn unavailable(words: String) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", words)
}

fn lasting(error: ApiError) -> ApiError {
    error.header(X_SHOULD_RETRY, HeaderValue::from_static("false"))
}
