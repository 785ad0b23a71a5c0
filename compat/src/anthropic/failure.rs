//! Anthropic's error body, and words for what goes wrong.

use poem::{error::ResponseError, http::StatusCode};
use rkllama_core::{EngineError, ModelError};
use rkllama_http::{ApiError, BodyError, ErrorShape, Fault, Trouble, Unresolved};

use super::wire::{ErrorBody, ErrorObject, ErrorType};
use crate::checks::echo;

/// Errors as Anthropic writes them.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnthropicShape;

impl ErrorShape for AnthropicShape {
    fn error(&self, fault: Fault) -> ApiError {
        match fault {
            Fault::UnknownRoute { path, .. } => {
                of(StatusCode::NOT_FOUND, format!("Not found: {}", echo(&path)))
            }
            Fault::WrongMethod { allow, .. } => {
                of(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").allowing(&allow)
            }
            Fault::Body(error) => body(error),
            Fault::Auth(refused) => {
                of(ResponseError::status(&refused), refused.to_string()).barred(&refused)
            }
            Fault::Panic { what } => of(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
                .detail_for_log(format!("a handler panicked: {what}")),
            Fault::Parameter { name } => bad(&name, "it cannot be read"),
            Fault::Framework { status, reason } => of(status, reason),
        }
    }

    fn body(&self, error: &ApiError) -> Vec<u8> {
        let body = ErrorBody { kind: ErrorType::Error, error: object(error) };
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

/// The error as an object, for a body or an event.
pub(super) fn object(error: &ApiError) -> ErrorObject {
    ErrorObject { kind: error.kind.to_owned(), message: error.message.clone() }
}

fn of(status: StatusCode, words: impl Into<String>) -> ApiError {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    ApiError::new(status, kind, words)
}

/// A field is at fault.
pub(super) fn bad(field: &str, words: impl AsRef<str>) -> ApiError {
    of(StatusCode::BAD_REQUEST, format!("{field}: {}", words.as_ref())).param(field)
}

fn body(error: BodyError) -> ApiError {
    let status = ResponseError::status(&error);
    match error {
        BodyError::Data { path, reason } => {
            // Anthropic writes `messages.0.role`.
            let path = path.unwrap_or_default().replace('[', ".").replace(']', "");
            let field = reason.strip_prefix("missing field `").and_then(|it| it.strip_suffix('`'));
            match field {
                Some(field) if path.is_empty() => bad(field, "Field required"),
                Some(field) => bad(&format!("{path}.{field}"), "Field required"),
                None if path.is_empty() => of(status, echo(&reason)),
                None => bad(&path, echo(&reason)),
            }
        }
        BodyError::Syntax { reason } => {
            of(status, format!("The request body is not valid JSON: {reason}"))
        }
        other => of(status, other.to_string()),
    }
}

/// No model answers.
pub(super) fn unresolved(unresolved: Unresolved) -> ApiError {
    match unresolved {
        Unresolved::Unnamed => bad("model", "Field required"),
        Unresolved::Model(error) => model(error),
    }
}

fn model(error: ModelError) -> ApiError {
    let (words, trouble) = (error.to_string(), Trouble::from(&error));
    match error {
        ModelError::NotFound { name } => of(trouble.status, format!("model: {}", echo(&name))),
        ModelError::Ambiguous { .. } => bad("model", words),
        ModelError::Incomplete { .. } => of(trouble.status, words).until(trouble),
        // The path is the operator's business.
        ModelError::Unreadable { .. } => {
            of(trouble.status, "The server cannot read this model's files.").detail_for_log(words)
        }
    }
}

/// The answer to an error of the engine.
pub(super) fn engine(error: EngineError) -> ApiError {
    let (words, trouble) = (error.to_string(), Trouble::from(&error));
    match error {
        EngineError::Model(error) => model(error),
        EngineError::Template { .. } | EngineError::Prompt { .. } => bad("messages", words),
        EngineError::Format { .. } => bad("output_config.format", words),
        EngineError::Image { field, reason } => bad(&field, reason),
        EngineError::Unsupported { .. } => bad("model", words),
        EngineError::ContextExceeded { prompt_tokens, context_tokens_max, margin_tokens } => {
            // Claude Code looks for these words and then makes the conversation shorter.
            let room = context_tokens_max.saturating_sub(margin_tokens);
            let tokens = prompt_tokens.known();
            of(trouble.status, format!("prompt is too long: {tokens} tokens > {room} maximum"))
                .param("messages")
        }
        _ => of(trouble.status, words).until(trouble),
    }
}
