//! Ollama's error body, and its words for what goes wrong.

use poem::{error::ResponseError, http::StatusCode};
use rkllama_core::{EngineError, ModelError};
use rkllama_http::{ApiError, BodyError, ErrorShape, Fault, Trouble};

use super::wire::ErrorBody;
use crate::names::Lookup;

/// The code of the errors that Ollama's server writes as plain text.
const PLAIN_TEXT: &str = "plain_text";

/// Errors as Ollama writes them.
#[derive(Debug, Clone, Copy, Default)]
pub struct OllamaShape;

impl ErrorShape for OllamaShape {
    fn error(&self, fault: Fault) -> ApiError {
        match fault {
            Fault::UnknownRoute { .. } => no_route(),
            Fault::WrongMethod { allow, .. } => {
                let words = "405 method not allowed";
                error(StatusCode::METHOD_NOT_ALLOWED, words).code(PLAIN_TEXT).allowing(&allow)
            }
            Fault::Body(body) => {
                let field = match &body {
                    BodyError::Data { path: Some(path), .. } => format!("{path}: "),
                    _ => String::new(),
                };
                error(ResponseError::status(&body), format!("{field}{body}"))
            }
            Fault::Auth(refused) => {
                error(ResponseError::status(&refused), refused.to_string()).barred(&refused)
            }
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

pub(super) fn error(status: StatusCode, words: impl Into<String>) -> ApiError {
    ApiError::new(status, "ollama_error", words)
}

/// The request is at fault.
pub(crate) fn bad(words: impl Into<String>) -> ApiError {
    error(StatusCode::BAD_REQUEST, words)
}

/// There is no such route.
pub(crate) fn no_route() -> ApiError {
    error(StatusCode::NOT_FOUND, "404 page not found").code(PLAIN_TEXT)
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

pub(super) fn model(failed: ModelError) -> ApiError {
    let (words, trouble) = (failed.to_string(), Trouble::from(&failed));
    match failed {
        // The path is the operator's business.
        ModelError::Unreadable { .. } => {
            error(trouble.status, "the model's files cannot be read").detail_for_log(words)
        }
        _ => error(trouble.status, words).until(trouble),
    }
}

/// The answer to an error of the engine.
pub(crate) fn engine(failed: EngineError) -> ApiError {
    let (words, trouble) = (failed.to_string(), Trouble::from(&failed));
    match failed {
        EngineError::Model(failed) => model(failed),
        EngineError::ContextExceeded { prompt_tokens, context_tokens_max, .. } => bad(format!(
            "the prompt is longer than the context length currently available to the model; \
             shorten the prompt, adjust the context length in settings, or use a model with a \
             longer context length ({prompt_tokens} tokens, context length {context_tokens_max})"
        )),
        EngineError::QueueFull { .. } => {
            let busy = "server busy, please try again.  maximum pending requests exceeded";
            error(trouble.status, busy).until(trouble).detail_for_log(words)
        }
        // Of Ollama's own status.
        EngineError::Load { .. } => error(StatusCode::INTERNAL_SERVER_ERROR, words).until(trouble),
        EngineError::Worker { .. } | EngineError::Run { .. } => error(
            trouble.status,
            format!("an error was encountered while running the model: {words}"),
        ),
        _ => error(trouble.status, words).until(trouble),
    }
}
