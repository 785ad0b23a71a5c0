//! llama-server's error body, and words for what goes wrong.

use poem::{error::ResponseError, http::StatusCode};
use rkllama_core::{EngineError, ModelError};
use rkllama_http::{ApiError, ErrorShape, Fault, Trouble, Unresolved};

use super::wire::{ErrorBody, ErrorObject};
use crate::checks::echo;

/// Seconds until an answer may have ended or a model be there.
const RETRY_AFTER_S: u32 = 5;

/// Errors as llama-server writes them.
#[derive(Debug, Clone, Copy, Default)]
pub struct LlamaServerShape;

impl ErrorShape for LlamaServerShape {
    fn error(&self, fault: Fault) -> ApiError {
        match fault {
            Fault::UnknownRoute { .. } => of(StatusCode::NOT_FOUND, "File Not Found"),
            Fault::WrongMethod { allow, .. } => {
                of(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").allowing(&allow)
            }
            Fault::Body(error) => {
                let status = ResponseError::status(&error);
                let path = match &error {
                    rkllama_http::BodyError::Data { path: Some(path), .. } => format!("{path}: "),
                    _ => String::new(),
                };
                of(status, format!("{path}{}", echo(&error.to_string())))
            }
            Fault::Auth(refused) => {
                of(ResponseError::status(&refused), refused.to_string()).barred(&refused)
            }
            Fault::Panic { what } => {
                of(StatusCode::INTERNAL_SERVER_ERROR, "the server had an error")
                    .detail_for_log(format!("a handler panicked: {what}"))
            }
            Fault::Parameter { name } => bad(&name, "it cannot be read"),
            Fault::Framework { status, reason } => of(status, reason),
        }
    }

    fn body(&self, error: &ApiError) -> Vec<u8> {
        serde_json::to_vec(&body(error)).unwrap_or_default()
    }
}

/// The error as a body or as the data of an event.
pub(super) fn body(error: &ApiError) -> ErrorBody {
    ErrorBody {
        error: ErrorObject {
            code: error.status.as_u16(),
            message: error.message.clone(),
            kind: error.kind.to_owned(),
        },
    }
}

fn of(status: StatusCode, words: impl Into<String>) -> ApiError {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        501 => "not_supported_error",
        503 => "unavailable_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    };
    ApiError::new(status, kind, words)
}

/// A field is at fault.
pub(crate) fn bad(field: &str, words: impl AsRef<str>) -> ApiError {
    of(StatusCode::BAD_REQUEST, format!("{field}: {}", words.as_ref())).param(field)
}

/// The model cannot do it.
pub(crate) fn not_supported(words: &str) -> ApiError {
    of(StatusCode::NOT_IMPLEMENTED, words)
}

/// The model is on its way.
pub(super) fn loading() -> ApiError {
    of(StatusCode::SERVICE_UNAVAILABLE, "Loading model").retry_after_s(RETRY_AFTER_S)
}

/// All that are loaded are busy.
pub(super) fn no_slot() -> ApiError {
    of(StatusCode::SERVICE_UNAVAILABLE, "no slot available").retry_after_s(RETRY_AFTER_S)
}

/// No model answers.
pub(crate) fn unresolved(unresolved: Unresolved) -> ApiError {
    match unresolved {
        Unresolved::Unnamed => bad("model", "model name is missing from the request"),
        Unresolved::Model(error) => model(error),
    }
}

fn model(error: ModelError) -> ApiError {
    let (words, trouble) = (error.to_string(), Trouble::from(&error));
    match error {
        ModelError::NotFound { name } => {
            of(trouble.status, format!("model '{}' not found", echo(&name)))
        }
        ModelError::Ambiguous { .. } => bad("model", words),
        ModelError::Incomplete { .. } => of(trouble.status, words).until(trouble),
        // The path is the operator's business.
        ModelError::Unreadable { .. } => {
            of(trouble.status, "the model's files cannot be read").detail_for_log(words)
        }
    }
}

/// The answer to an error of the engine.
pub(crate) fn engine(error: EngineError) -> ApiError {
    let (words, trouble) = (error.to_string(), Trouble::from(&error));
    match error {
        EngineError::Model(error) => model(error),
        EngineError::Unsupported { .. } => not_supported(&words),
        _ => of(trouble.status, words).until(trouble),
    }
}
