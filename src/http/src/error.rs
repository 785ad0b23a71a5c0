//! The one error type at the edge.
//!
//! Layers below know no status codes; each API maps their errors to this type in one place, and
//! its [`crate::ErrorShape`] turns it into bytes. It is logged once, where it is rendered.

use std::fmt;

use poem::{
    error::ResponseError,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{self, HeaderName},
    },
};
use serde_json::{Map, Value};

use crate::{AuthError, Trouble};

/// Clients of OpenAI's and Anthropic's repeat every 5xx twice unless this header says no.
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// A refusal or a failure, as a client will see it.
///
/// Rare parts are boxed: the type travels in `Result`s on the good path too.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// OpenAI's `type`, such as `invalid_request_error`.
    pub kind: &'static str,
    /// OpenAI's `code`, such as `model_not_found`.
    pub code: Option<&'static str>,
    /// The field at fault, such as `messages[0].role`.
    pub param: Option<Box<str>>,
    /// For the client.
    pub message: String,
    /// Seconds after which the client may try again.
    pub retry_after_s: Option<u32>,
    /// For the operator: never sent.
    pub detail_for_log: Option<Box<str>>,
    /// Further keys of the error object.
    pub extra: Option<Box<Map<String, Value>>>,
    /// Further headers of the answer.
    pub headers: Option<Box<HeaderMap>>,
}

impl ApiError {
    /// An error without any of the optional parts.
    pub fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            message: message.into(),
            retry_after_s: None,
            detail_for_log: None,
            extra: None,
            headers: None,
        }
    }

    /// Sets the code.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Names the field at fault.
    #[must_use]
    pub fn param(mut self, param: impl Into<Box<str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Tells the client when to try again.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Tells the client when to try again, or that it need not.
    #[must_use]
    pub fn until(mut self, trouble: Trouble) -> Self {
        self.retry_after_s = trouble.retry_after_s;
        if trouble.is_lasting {
            return self.header(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        self
    }

    /// Tells the client which methods would do, as an `Allow` header lists them.
    #[must_use]
    pub fn allowing(self, methods: &str) -> Self {
        match HeaderValue::try_from(methods) {
            Ok(methods) => self.header(header::ALLOW, methods),
            Err(_) => self,
        }
    }

    /// Tells the client how it gets in: with a key, or later.
    #[must_use]
    pub fn barred(self, refused: &AuthError) -> Self {
        match refused.retry_after_s() {
            Some(seconds) => self.retry_after_s(seconds),
            None => self.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        }
    }

    /// Adds what only the operator may read.
    #[must_use]
    pub fn detail_for_log(mut self, detail: impl Into<Box<str>>) -> Self {
        self.detail_for_log = Some(detail.into());
        self
    }

    /// Adds a key to the error object.
    #[must_use]
    pub fn extra(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.get_or_insert_default().insert(key.to_owned(), value.into());
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().insert(name, value);
        self
    }

    /// Writes the one log line of this error. Whoever renders it calls this.
    pub fn log(&self) {
        let status = self.status.as_u16();
        let code = self.code.unwrap_or("-");
        let param = self.param.as_deref().unwrap_or("-");
        let detail = self.detail_for_log.as_deref().unwrap_or("-");
        // A client's mistake is no event for the operator, a failure of ours is, and in between
        // is what passes or what was refused for a reason that the operator has been told.
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                tracing::warn!(status, code, param, detail, "{}", self.message);
            }
            ours if ours.is_server_error() => {
                tracing::error!(status, code, param, detail, "{}", self.message);
            }
            _ => tracing::debug!(status, code, param, detail, "{}", self.message),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status(&self) -> StatusCode {
        self.status
    }
}
