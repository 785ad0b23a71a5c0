//! One id, one log line and one count for every request.
//!
//! The id is the client's where it sent one, so that both sides' logs can be joined. The line
//! carries the route's pattern and never the path, which holds names, nor anything of a body.

use std::{sync::Arc, time::Instant};

use poem::{
    Endpoint, IntoResponse, Middleware, PathPattern, Request, Response, Result,
    http::{HeaderValue, Method, header::HeaderName},
};
use tracing::Instrument;

use crate::Metrics;

/// The header, both ways.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id taken from a client; OpenAI's own have 36 characters.
const REQUEST_ID_LEN_MAX: usize = 128;
/// Logged where the client left before the answer's head: no status was sent.
const STATUS_CLIENT_GONE: u16 = 499;

/// The id of a request.
#[derive(Debug, PartialEq, Eq)]
struct RequestId(String);

impl RequestId {
    /// The client's id if it is one line of visible ASCII, else a new one.
    fn of(request: &Request) -> Self {
        let given = request.headers().get(X_REQUEST_ID).and_then(|id| id.to_str().ok());
        let usable = |id: &&str| {
            (1..=REQUEST_ID_LEN_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
        };
        match given.filter(usable) {
            Some(id) => Self(id.to_owned()),
            None => Self(format!("req_{}", uuid::Uuid::new_v4().simple())),
        }
    }
}

/// The middleware: outermost, so that every answer has an id and a line.
#[derive(Debug, Clone)]
pub struct Observe {
    metrics: Arc<Metrics>,
}

impl Observe {
    /// Counts in `metrics`.
    pub const fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl<E: Endpoint> Middleware<E> for Observe {
    type Output = ObserveEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        ObserveEndpoint { inner, metrics: Arc::clone(&self.metrics) }
    }
}

/// See [`Observe`].
pub struct ObserveEndpoint<E> {
    inner: E,
    metrics: Arc<Metrics>,
}

impl<E: Endpoint> Endpoint for ObserveEndpoint<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let id = RequestId::of(&request);
        let span = tracing::info_span!("request", id = %id.0);
        let metrics = Arc::clone(&self.metrics);
        let line = Line::begin(request.method().clone(), span.clone(), metrics);
        let answer = self.inner.call(request).instrument(span).await;
        let mut response =
            answer.map_or_else(|error| error.into_response(), E::Output::into_response);
        line.end(&response);
        if let Ok(value) = HeaderValue::try_from(id.0) {
            response.headers_mut().insert(X_REQUEST_ID, value);
        }
        Ok(response)
    }
}

/// The log line of a request and its count, written when its head is ready or when it is dropped before.
struct Line {
    method: Method,
    span: tracing::Span,
    metrics: Arc<Metrics>,
    started: Instant,
    is_written: bool,
}

impl Line {
    fn begin(method: Method, span: tracing::Span, metrics: Arc<Metrics>) -> Self {
        Self { method, span, metrics, started: Instant::now(), is_written: false }
    }

    fn end(mut self, response: &Response) {
        let route = response.data::<PathPattern>().map_or("-", |pattern| &pattern.0);
        let is_stream = response.content_type().is_some_and(|content_type| {
            ["text/event-stream", "application/x-ndjson"]
                .iter()
                .any(|it| content_type.starts_with(it))
        });
        self.write(route, response.status().as_u16(), is_stream);
    }

    fn write(&mut self, route: &str, status: u16, is_stream: bool) {
        self.is_written = true;
        self.metrics.answered(&self.method, route, status);
        let _entered = self.span.enter();
        let (method, ms) = (&self.method, self.started.elapsed().as_millis());
        // Of a stream no more than the head is there yet.
        if is_stream {
            tracing::info!(%method, route, status, head_ms = ms, "answered");
        } else {
            tracing::info!(%method, route, status, ms, "answered");
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.is_written {
            self.write("-", STATUS_CLIENT_GONE, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usable_id_is_kept_and_any_other_replaced() {
        let of =
            |id: &str| RequestId::of(&Request::builder().header("x-request-id", id).finish()).0;
        assert_eq!(of("abc-123"), "abc-123");
        for unusable in ["", "a b", &"x".repeat(129)] {
            let id = of(unusable);
            assert!(id.starts_with("req_") && id.len() == 36, "{id}");
        }
        let fresh = RequestId::of(&Request::builder().finish());
        assert_ne!(fresh, RequestId::of(&Request::builder().finish()));
    }
}
