//! Ollama's error body, and its words for what goes wrong.

use poem::http::{HeaderValue, StatusCode, header};
use rkllama_core::{EngineError, ModelError};
use rkllama_http::{ApiError, AuthError, ErrorShape, Fault};

use super::wire::ErrorBody;
use crate::names::Lookup;

/// Seconds until a queue may have moved.
const QUEUE_RETRY_AFTER_S: u32 = 5;
/// Seconds until a restarted server answers again.
const RESTART_RETRY_AFTER_S: u32 = 10;
/// The code of the errors that Ollama's server writes as plain text.
const PLAIN_TEXT: &str = "plain_text";

/// Errors as Ollama writes them.
#[derive(Debug, Clone, Copy, Default)]
pub struct OllamaShape;

impl ErrorShape for OllamaShape {
    fn error(&self, fault: Fault) -> ApiError {
        match fault {
            Fault::UnknownRoute { .. } => {
                error(StatusCode::NOT_FOUND, "404 page not found").code(PLAIN_TEXT)
            }
            Fault::WrongMethod { allow, .. } => {
                let words = "405 method not allowed";
                let error = error(StatusCode::METHOD_NOT_ALLOWED, words).code(PLAIN_TEXT);
                match HeaderValue::try_from(allow) {
                    Ok(allow) => error.header(header::ALLOW, allow),
                    Err(_) => error,
                }
            }
            Fault::Body(body) => {
                let status = poem::error::ResponseError::status(&body);
                error(status, body.to_string())
            }
            Fault::Auth(refused) => auth(&refused),
            Fault::Panic { what } => {
                error(StatusCode::INTERNAL_SERVER_ERROR, "the server had an error")
                    .detail_for_log(format!("a handler panicked: {what}"))
            }
            Fault::Parameter { name } => bad(format!("invalid {name}")),
            Fault::Framework { status, reason } => error(status, reason),
        }
    }

    fn body(&self, error: &ApiError) -> Vec<u8> {
        if error.code == Some(PLAIN_TEXT) {
            return error.message.clone().into_bytes();
        }
        serde_json::to_vec(&ErrorBody { error: error.message.clone() }).unwrap_or_default()
    }

    fn content_type(&self, error: &ApiError) -> &'static str {
        if error.code == Some(PLAIN_TEXT) { "text/plain" } else { "application/json" }
    }
}

fn auth(refused: &AuthError) -> ApiError {
    let status = poem::error::ResponseError::status(refused);
    let error = error(status, refused.to_string());
    match refused.retry_after_s() {
        Some(seconds) => error.retry_after_s(seconds),
        None if status == StatusCode::UNAUTHORIZED => {
            error.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
        }
        None => error,
    }
}

fn error(status: StatusCode, words: impl Into<String>) -> ApiError {
    ApiError::new(status, "ollama_error", words)
}

/// The request is at fault.
pub(super) fn bad(words: impl Into<String>) -> ApiError {
    error(StatusCode::BAD_REQUEST, words)
}

/// There is no such model.
pub(super) fn not_found(words: impl Into<String>) -> ApiError {
    error(StatusCode::NOT_FOUND, words)
}

/// No model was found; `absent` words it for a name that nobody has.
pub(super) fn lookup(lookup: Lookup, absent: impl FnOnce(&str) -> String) -> ApiError {
    match lookup {
        Lookup::Malformed => bad("invalid model name"),
        Lookup::NotFound(name) => not_found(absent(&name.to_string())),
        Lookup::Error(failed) => model(failed),
    }
}

fn model(failed: ModelError) -> ApiError {
    let words = failed.to_string();
    match failed {
        ModelError::NotFound { .. } => not_found(words),
        ModelError::Ambiguous { .. } => bad(words),
        ModelError::Incomplete { .. } => error(StatusCode::SERVICE_UNAVAILABLE, words),
        // The path is the operator's business.
        ModelError::Unreadable { .. } => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "the model's files cannot be read")
                .detail_for_log(words)
        }
    }
}

/// The answer to an error of the engine.
pub(super) fn engine(failed: EngineError) -> ApiError {
    let words = failed.to_string();
    let unavailable = |words: &str| error(StatusCode::SERVICE_UNAVAILABLE, words);
    match failed {
        EngineError::Model(failed) => model(failed),
        EngineError::Template { .. }
        | EngineError::Prompt { .. }
        | EngineError::Format { .. }
        | EngineError::Unsupported { .. } => bad(words),
        EngineError::ContextExceeded { prompt_tokens, context_tokens_max, .. } => bad(format!(
            "the prompt is longer than the context length currently available to the model; \
             shorten the prompt, adjust the context length in settings, or use a model with a \
             longer context length ({prompt_tokens} tokens, context length {context_tokens_max})"
        )),
        EngineError::QueueFull { .. } => {
            unavailable("server busy, please try again.  maximum pending requests exceeded")
                .retry_after_s(QUEUE_RETRY_AFTER_S)
                .detail_for_log(words)
        }
        EngineError::QueueTimeout { .. } => unavailable(&words).retry_after_s(QUEUE_RETRY_AFTER_S),
        EngineError::Degraded { retry_after_s, .. } => {
            unavailable(&words).retry_after_s(retry_after_s)
        }
        EngineError::ShuttingDown => unavailable(&words).retry_after_s(RESTART_RETRY_AFTER_S),
        EngineError::Runtime { .. } => unavailable(&words),
        EngineError::Load { .. } => error(StatusCode::INTERNAL_SERVER_ERROR, words),
        EngineError::Worker { .. } | EngineError::Run { .. } => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("an error was encountered while running the model: {words}"),
        ),
    }
}
