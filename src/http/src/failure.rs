//! What the document says of the errors of an operation.

use std::{error::Error, fmt, marker::PhantomData};

use poem_openapi::{
    ApiResponse,
    registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::Type,
};

use crate::ApiError;

/// The statuses with which an operation fails: what the document lists.
pub trait Statuses: Send + Sync + 'static {
    /// The error's body.
    type Body: Type;
    /// In rising order.
    const STATUSES: &'static [u16];
    /// What 404 means.
    const NOT_FOUND: &'static str = "There is no such model.";
}

/// An error of an operation, documented with the statuses of `S`.
pub struct Failure<S> {
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
        S::Body::register(registry);
    }
}

fn documented<S: Statuses>(status: u16) -> MetaResponse {
    MetaResponse {
        description: match status {
            400 => "The request is at fault; `param` names the field.",
            401 => "The request needs a key, and carries none or one that is not known here.",
            403 => "The hub refuses: the model is not for everybody, or the token is missing.",
            404 => S::NOT_FOUND,
            408 => "The request's body did not arrive in time.",
            413 => "The request's body is too large.",
            429 => "The key's own limit, in a minute or at once, is reached.",
            500 => "The server is at fault.",
            501 => "The model cannot do this.",
            502 => "The hub cannot be reached, or does not do what it should.",
            507 => "There is no room on the disk.",
            _ => {
                "The server cannot answer now: the queue is full, the runtime or the model \
                  cannot be used, or the server is shutting down."
            }
        },
        status: Some(status),
        status_range: None,
        content: vec![MetaMediaType {
            content_type: "application/json",
            schema: S::Body::schema_ref(),
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
