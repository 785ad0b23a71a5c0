//! OpenAI's error body, and OpenAI's words for what goes wrong outside the operations.

use poem::http::StatusCode;
use rkllama_http::{ApiError, ErrorShape, Fault};
use serde_json::{Map, Value};

use crate::refusal::{self, echo};

/// Errors as OpenAI writes them.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenAiShape;

impl ErrorShape for OpenAiShape {
    fn error(&self, fault: Fault) -> ApiError {
        match fault {
            Fault::UnknownRoute { method, path } => ApiError::new(
                StatusCode::NOT_FOUND,
                "invalid_request_error",
                format!("Invalid URL ({method} {})", echo(&path)),
            ),
            Fault::WrongMethod { method, path, allow } => ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "invalid_request_error",
                format!(
                    "Not allowed to {method} on {} (HINT: this URL takes {allow})",
                    echo(&path)
                ),
            )
            .code("method_not_supported")
            .allowing(&allow),
            Fault::Body(error) => refusal::body(error),
            Fault::Auth(error) => refusal::auth(error),
            Fault::Panic { what } => failed().detail_for_log(format!("a handler panicked: {what}")),
            Fault::Parameter { name } => {
                refusal::invalid(format!("Invalid '{name}': it is not UTF-8 in percent-encoding."))
                    .code("invalid_value")
                    .param(name)
            }
            Fault::Framework { status, reason } if status.is_client_error() => {
                ApiError::new(status, "invalid_request_error", reason)
            }
            Fault::Framework { reason, .. } => failed().detail_for_log(reason),
        }
    }

    fn body(&self, error: &ApiError) -> Vec<u8> {
        value(error).to_string().into_bytes()
    }
}

/// The server is at fault and the client need not know how.
fn failed() -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "server_error",
        "The server had an error while processing your request.",
    )
}

/// The body: all four keys always, `null` where there is nothing to say.
pub(crate) fn value(error: &ApiError) -> Value {
    let mut object = Map::new();
    object.insert("message".to_owned(), error.message.as_str().into());
    object.insert("type".to_owned(), error.kind.into());
    object.insert("param".to_owned(), error.param.as_deref().into());
    object.insert("code".to_owned(), error.code.into());
    for (key, value) in error.extra.iter().flat_map(|extra| extra.iter()) {
        object.insert(key.clone(), value.clone());
    }
    Value::Object(Map::from_iter([("error".to_owned(), Value::Object(object))]))
}
