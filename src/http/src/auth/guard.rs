//! The middleware that asks for the key.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, SizeHint};
use poem::{
    Endpoint, IntoResponse, Middleware, Request, Response, Result,
    http::{HeaderMap, header},
};
use tracing::Instrument;

use super::{
    AuthError, Keys,
    caller::KeyName,
    usage::{self, Place},
};
use crate::{Intake, json::discard};

/// Another place for the key, which some clients use.
const X_API_KEY: &str = "x-api-key";
/// Characters of a wrong key that are repeated to its sender; never more than a third of it.
const HINT_LEN_MAX: usize = 4;

/// Paths that need no key: what tells of the server's state and what documents it.
const OPEN_PATHS: [&str; 6] =
    ["/", "/health", "/v1/health", "/ready", "/openapi.json", "/openapi.yaml"];
/// The pages of the document, with everything below.
const OPEN_PAGES: &str = "/docs";

fn is_open(path: &str) -> bool {
    OPEN_PATHS.contains(&path)
        || path
            .strip_prefix(OPEN_PAGES)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Lets in whoever has a key.
#[derive(Debug, Clone)]
pub struct Guard {
    keys: Keys,
    intake: Intake,
}

impl Guard {
    /// Lets in these keys; the intake's limits bound what is read of a body that is refused.
    pub const fn new(keys: Keys, intake: Intake) -> Self {
        Self { keys, intake }
    }

    /// The place of a request with these headers, and its key's name.
    fn admit(&self, headers: &HeaderMap) -> Result<(Place, KeyName), AuthError> {
        let secret = secret(headers).ok_or(AuthError::Missing)?;
        let Some(entry) = self.keys.find(secret) else {
            return Err(AuthError::Unknown { hint: hint(secret) });
        };
        Ok((usage::take_place(&entry)?, KeyName(entry.key.shared_name())))
    }
}

/// The key that a request carries. Schemes are written in either case.
fn secret(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = authorization.and_then(|value| {
        let (scheme, secret) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
    });
    let api_key = || headers.get(X_API_KEY).and_then(|value| value.to_str().ok()).map(str::trim);
    bearer.or_else(api_key).filter(|secret| !secret.is_empty())
}

fn hint(secret: &str) -> String {
    let len = HINT_LEN_MAX.min(secret.chars().count() / 3);
    secret.chars().take(len).chain("****".chars()).collect()
}

impl<E: Endpoint> Middleware<E> for Guard {
    type Output = Guarded<E>;

    fn transform(&self, inner: E) -> Self::Output {
        Guarded { inner, guard: self.clone() }
    }
}

/// See [`Guard`].
pub struct Guarded<E> {
    inner: E,
    guard: Guard,
}

impl<E: Endpoint> Endpoint for Guarded<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        if self.guard.keys.is_empty() || is_open(request.uri().path()) {
            return self.inner.call(request).await.map(IntoResponse::into_response);
        }
        match self.guard.admit(request.headers()) {
            Ok((place, name)) => {
                let span = tracing::info_span!("client", key = %name.0);
                request.set_data(name);
                let response = self.inner.call(request).instrument(span).await?.into_response();
                Ok(holding(place, response))
            }
            Err(error) => {
                // A client that is still sending when the socket closes sees a reset and no answer.
                discard(request.take_body(), &self.guard.intake.limits()).await;
                Err(error.into())
            }
        }
    }
}

/// The response, which gives the place back when its last byte is sent or its client has gone.
fn holding(place: Place, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let body = HoldingBody { inner: body.into(), _place: place };
    Response::from_parts(parts, BoxBody::new(body).into())
}

/// A body with the place of its request.
struct HoldingBody {
    inner: BoxBody<Bytes, io::Error>,
    _place: Place,
}

impl Body for HoldingBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    // So that an answer that is there as a whole keeps its length in the head.
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_taken_from_either_header() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                (header::HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            secret(&pairs.collect()).map(str::to_owned)
        };
        assert_eq!(of(&[("authorization", "Bearer k")]).as_deref(), Some("k"));
        assert_eq!(of(&[("authorization", "bearer  k ")]).as_deref(), Some("k"));
        assert_eq!(of(&[("x-api-key", "k")]).as_deref(), Some("k"));
        assert_eq!(of(&[("authorization", "Basic abc"), ("x-api-key", "k")]).as_deref(), Some("k"));
        assert_eq!(of(&[("authorization", "Bearer a"), ("x-api-key", "b")]).as_deref(), Some("a"));
        for none in [
            &[][..],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("authorization", "k")],
            &[("x-api-key", "")],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    #[test]
    fn the_open_paths_are_whole_paths() {
        for open in ["/", "/health", "/docs", "/docs/", "/docs/index.css", "/openapi.json"] {
            assert!(is_open(open), "{open}");
        }
        for closed in ["/healthy", "/v1/models", "/docsx", "/openapi.jsonx", "/health/", "//", ""] {
            assert!(!is_open(closed), "{closed}");
        }
    }

    #[test]
    fn little_of_a_wrong_key_is_repeated() {
        assert_eq!(hint("sk-abcdefghijklmnop"), "sk-a****");
        assert_eq!(hint("abcdef"), "ab****");
        assert_eq!(hint("a"), "****");
        assert_eq!(hint("éééééé"), "éé****");
    }
}
