//! From the domain's errors to OpenAI's, in one place; and what of it the document says.

use std::{error::Error, fmt, marker::PhantomData};

use poem::http::{HeaderValue, StatusCode, header::HeaderName};
use poem_openapi::{
    ApiResponse,
    payload::Payload,
    registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::Type,
};
use rkllama_core::{EngineError, ModelError};
use rkllama_http::{ApiError, ApiJson};

use crate::{
    refusal::{echo, invalid},
    wire::ErrorResponse,
};

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

/// The statuses with which an operation fails: what the document lists.
pub(crate) trait Statuses: Send + Sync + 'static {
    /// In rising order.
    const STATUSES: &'static [u16];
    /// What 404 means.
    const NOT_FOUND: &'static str = "There is no such model.";
}

/// An error of an operation, documented with the statuses of `S`.
pub(crate) struct Failure<S> {
    error: ApiError,
    statuses: PhantomData<fn() -> S>,
}

impl<S> From<ApiError> for Failure<S> {
    fn from(error: ApiError) -> Self {
        Self { error, statuses: PhantomData }
    }
}

impl<S: Statuses> From<Failure<S>> for poem::Error {
    fn from(failure: Failure<S>) -> Self {
        debug_assert!(
            S::STATUSES.contains(&failure.error.status.as_u16()),
            "{} is not documented for this operation",
            failure.error.status
        );
        failure.error.into()
    }
}

impl<S> fmt::Debug for Failure<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<S> fmt::Display for Failure<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<S> Error for Failure<S> {}

impl<S: Statuses> ApiResponse for Failure<S> {
    fn meta() -> MetaResponses {
        MetaResponses { responses: S::STATUSES.iter().copied().map(documented::<S>).collect() }
    }

    fn register(registry: &mut Registry) {
        ErrorResponse::register(registry);
    }
}

fn documented<S: Statuses>(status: u16) -> MetaResponse {
    MetaResponse {
        description: match status {
            400 => "The request is at fault; `param` names the field.",
            401 => "The request needs a key, and carries none or one that is not known here.",
            404 => S::NOT_FOUND,
            408 => "The request's body did not arrive in time.",
            413 => "The request's body is too large.",
            429 => "The key's own limit, in a minute or at once, is reached.",
            500 => "The server is at fault.",
            _ => {
                "The server cannot answer now: the queue is full, the runtime or the model \
                  cannot be used, or the server is shutting down."
            }
        },
        status: Some(status),
        status_range: None,
        content: vec![MetaMediaType {
            content_type: ApiJson::<ErrorResponse>::CONTENT_TYPE,
            schema: ErrorResponse::schema_ref(),
        }],
        headers: match status {
            401 => vec![header("WWW-AUTHENTICATE", "Always `Bearer`.", String::schema_ref())],
            429 => {
                vec![header(RETRY_AFTER, "Seconds after which to try again.", u32::schema_ref())]
            }
            503 => {
                let words = "Seconds after which to try again, where that makes sense.";
                vec![header(RETRY_AFTER, words, u32::schema_ref())]
            }
            _ => Vec::new(),
        },
    }
}

const RETRY_AFTER: &str = "RETRY-AFTER";

fn header(name: &str, description: &str, schema: MetaSchemaRef) -> MetaHeader {
    MetaHeader {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required: false,
        deprecated: false,
        schema,
    }
}
