//! JSON bodies, in and out.
//!
//! [`ApiJson`] has the schema of `poem_openapi::payload::Json` and differs in what it does. The
//! media type carries no `charset`, over which client generators trip. Any `Content-Type` is
//! taken, since people use `curl -d`. The size is bounded while reading and not by the announced
//! length, which a chunked body has not. serde reads the bytes, so that an error names its field.

use std::{cell::LazyCell, panic::resume_unwind};

use bytes::BytesMut;
use futures_util::StreamExt;
use poem::{
    Body, IntoResponse, Request, RequestBody, Response, Result,
    error::ResponseError,
    http::{StatusCode, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    payload::{ParsePayload, Payload},
    registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry},
    types::Type,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Limits,
    intake::{Intake, Room, Share},
};

/// What some clients send before the first byte of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A JSON body.
#[derive(Debug, Clone)]
pub struct ApiJson<T>(pub T);

/// Why a body cannot be taken as a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More bytes than [`Limits::body_bytes_max`].
    #[error("the request body is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// Not all there within [`Limits::body_read_timeout`].
    #[error("the request body did not arrive within {timeout_s} seconds")]
    TooSlow {
        /// The limit.
        timeout_s: u64,
    },
    /// The connection broke.
    #[error("the request body could not be read: {reason}")]
    Unreadable {
        /// The system's words.
        reason: String,
    },
    /// Not JSON.
    #[error("{reason}")]
    Syntax {
        /// The parser's words, with line and column.
        reason: String,
    },
    /// Refused in the words of the API that it was meant for.
    #[error("{0}")]
    Worded(String),
    /// JSON, but not of the expected form.
    #[error("{reason}")]
    Data {
        /// Where: `messages[0].role`; `None` for the body as a whole.
        path: Option<String>,
        /// The parser's words, without line and column.
        reason: String,
    },
}

impl ResponseError for BodyError {
    fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Unreadable { .. } | Self::Syntax { .. } | Self::Worded(_) | Self::Data { .. } => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

impl<T: Type> Payload for ApiJson<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Type + DeserializeOwned + 'static> ParsePayload for ApiJson<T> {
    const IS_REQUIRED: bool = true;

    async fn from_request(request: &Request, body: &mut RequestBody) -> Result<Self> {
        Ok(Self(read_as(request, body, parse).await?))
    }
}

/// The body of a request as `parse` reads it, within the limits of all bodies.
pub(crate) async fn read_as<T: Send + 'static>(
    request: &Request,
    body: &mut RequestBody,
    parse: fn(&[u8]) -> Result<T, BodyError>,
) -> Result<T> {
    let default = LazyCell::new(|| Intake::new(Limits::default()));
    let room = request.data::<Intake>().unwrap_or_else(|| &default).room();
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let held = read(body.take()?, announced, &room).await?;
    Ok(parse_held(held, &room.limits, parse).await?)
}

/// A body, and the room it takes as long as it lives.
#[derive(Debug)]
struct Held {
    text: BytesMut,
    share: Share,
}

impl Held {
    fn len(&self) -> usize {
        self.text.len()
    }
}

/// Reads a body to its end, or says why not.
async fn read(body: Body, announced: Option<usize>, room: &Room) -> Result<Held, BodyError> {
    let reading = read_bounded(body, announced, room);
    let timeout = room.limits.body_read_timeout;
    match tokio::time::timeout(timeout, reading).await {
        Ok(result) => result,
        Err(_) => Err(BodyError::TooSlow { timeout_s: timeout.as_secs() }),
    }
}

async fn read_bounded(
    body: Body,
    announced: Option<usize>,
    room: &Room,
) -> Result<Held, BodyError> {
    let limits = &room.limits;
    let too_large = BodyError::TooLarge { limit_bytes: limits.body_bytes_max };
    let discardable = limits.body_bytes_max + limits.body_bytes_discarded_max;
    if announced.is_some_and(|length| length > discardable) {
        return Err(too_large);
    }
    // The announced length is a hint to allocate once, capped: it is the client's claim.
    let capacity = announced.unwrap_or(0).min(limits.body_bytes_inline_max);
    let mut held = Held { text: BytesMut::with_capacity(capacity), share: room.share() };
    let mut read_len = 0;
    let mut chunks = body.into_bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|err| BodyError::Unreadable { reason: err.to_string() })?;
        read_len += chunk.len();
        if read_len > discardable {
            break;
        }
        if read_len <= limits.body_bytes_max {
            held.share.grow(chunk.len()).await;
            held.text.extend_from_slice(&chunk);
        } else {
            held = Held { text: BytesMut::new(), share: room.share() };
        }
    }
    if read_len > limits.body_bytes_max { Err(too_large) } else { Ok(held) }
}

/// Reads a body that nobody wants, as far as it makes sense: so that the refusal is read.
pub(crate) async fn discard(body: Body, limits: &Limits) {
    let reading = async {
        let mut read_len = 0;
        let mut chunks = body.into_bytes_stream();
        while let Some(Ok(chunk)) = chunks.next().await {
            read_len += chunk.len();
            if read_len > limits.body_bytes_discarded_max {
                return;
            }
        }
    };
    // Who sends as slowly as this gets a reset.
    let _ = tokio::time::timeout(limits.header_read_timeout, reading).await;
}

/// Parses a body, a large one on a thread of its own, and gives its room back.
async fn parse_held<T: Send + 'static>(
    held: Held,
    limits: &Limits,
    parse: fn(&[u8]) -> Result<T, BodyError>,
) -> Result<T, BodyError> {
    if held.len() <= limits.body_bytes_inline_max {
        return parse(&held.text);
    }
    // The room goes along: a client that leaves does not stop the thread.
    let parsing = tokio::task::spawn_blocking(move || {
        let Held { text, share: _room } = held;
        parse(&text)
    });
    parsing.await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(error) => Err(BodyError::Unreadable { reason: error.to_string() }),
    })
}

/// Reads one JSON value and nothing behind it.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    // RFC 8259 lets a reader skip it, and editors and shells of Windows write it.
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|err| {
        let path = err.path().to_string();
        let path = (!matches!(&*path, "." | "?")).then_some(path);
        let err = err.into_inner();
        if err.classify() != serde_json::error::Category::Data {
            return BodyError::Syntax { reason: err.to_string() };
        }
        let reason = err.to_string();
        let place = format!(" at line {} column {}", err.line(), err.column());
        let reason = reason.strip_suffix(&place).unwrap_or(&reason).to_owned();
        BodyError::Data { path, reason }
    })?;
    deserializer.end().map_err(|err| BodyError::Syntax { reason: err.to_string() })?;
    Ok(value)
}

// By hand and not by `impl_apirequest_for_payload!`: the macro answers 415 where the header is
// missing.
impl<'a, T: Type + DeserializeOwned + 'static> ApiExtractor<'a> for ApiJson<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <Self as Payload>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: Self::CONTENT_TYPE,
                schema: Self::schema_ref(),
            }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        <Self as ParsePayload>::from_request(request, body).await
    }
}

impl<T: Serialize + Send> IntoResponse for ApiJson<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => Response::builder().content_type("application/json").body(bytes),
            // Only a map with keys that are no strings can fail, and no wire type has one.
            Err(err) => {
                tracing::error!(%err, "an answer could not be written as JSON");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Turn {
        role: String,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Chat {
        messages: Vec<Turn>,
    }

    #[test]
    fn an_error_carries_the_path_of_its_field_and_no_position() {
        let error = parse::<Chat>(br#"{"messages":[{"role":"user"},{"role":7}]}"#).unwrap_err();
        assert_eq!(
            error,
            BodyError::Data {
                path: Some("messages[1].role".into()),
                reason: "invalid type: integer `7`, expected a string".into(),
            }
        );
    }

    #[test]
    fn a_byte_order_mark_is_skipped_once_and_at_the_start() {
        let parse = |text: &str| parse::<Chat>(text.as_bytes());
        assert_eq!(parse("\u{feff}{\"messages\":[]}"), Ok(Chat { messages: Vec::new() }));
        assert!(parse("\u{feff}\u{feff}{\"messages\":[]}").is_err());
        assert!(parse("{\"messages\":[]}\u{feff}").is_err());
    }

    #[test]
    fn broken_json_and_trailing_data_are_errors_of_syntax() {
        for body in [&b"{"[..], b"", b"{\"messages\":[]} x", b"{\"messages\":[]}{}"] {
            let error = parse::<Chat>(body).unwrap_err();
            assert!(matches!(error, BodyError::Syntax { .. }), "{error:?}");
        }
    }

    #[tokio::test]
    async fn the_bound_holds_whatever_length_was_announced() {
        let room = Room::new(Limits { body_bytes_max: 8, ..Limits::default() });
        for announced in [None, Some(1), Some(9), Some(usize::MAX)] {
            let body = Body::from_bytes(Bytes::from_static(b"123456789"));
            let error = read(body, announced, &room).await.unwrap_err();
            assert_eq!(error, BodyError::TooLarge { limit_bytes: 8 });
        }
        let body = Body::from_bytes(Bytes::from_static(b"12345678"));
        assert_eq!(read(body, None, &room).await.unwrap().text, "12345678");
    }

    /// Bodies that are half there and do not fit together: all are read, one after the other.
    #[tokio::test(start_paused = true)]
    async fn bodies_share_their_room_and_all_come_through() {
        let room = Room::new(Limits { body_bytes_max: 8, full_bodies_max: 1, ..Limits::default() });
        let body = || {
            let halves = futures_util::stream::iter(["1234", "5678"]).then(async |half| {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                Ok::<_, std::io::Error>(Bytes::from_static(half.as_bytes()))
            });
            Body::from_bytes_stream(halves.boxed())
        };
        let read_len = async || read(body(), None, &room).await.unwrap().len();
        let lens = tokio::join!(read_len(), read_len(), read_len(), read_len());
        assert_eq!(lens, (8, 8, 8, 8));
        let held = read(body(), None, &room).await.unwrap();
        let overdrawn = read(body(), None, &room).await.unwrap();
        let error = read(body(), None, &room).await.unwrap_err();
        assert!(matches!(error, BodyError::TooSlow { .. }), "what is held counts: {error}");
        drop((held, overdrawn));
        assert_eq!(read_len().await, 8);
    }

    /// Remembers on which thread it was read.
    #[derive(Debug)]
    struct Reader(std::thread::ThreadId);

    impl<'de> Deserialize<'de> for Reader {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            serde::de::IgnoredAny::deserialize(deserializer)?;
            Ok(Self(std::thread::current().id()))
        }
    }

    #[tokio::test]
    async fn a_large_body_is_parsed_beside_the_threads_that_serve() {
        let limits = Limits { body_bytes_inline_max: 9, ..Limits::default() };
        let room = Room::new(limits);
        for (text, is_here) in [("[1234567]", true), ("[12345678]", false)] {
            let held = read(Body::from_string(text.to_owned()), None, &room).await.unwrap();
            let Reader(thread) = parse_held(held, &room.limits, parse).await.unwrap();
            assert_eq!(thread == std::thread::current().id(), is_here, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let room = Room::new(Limits::default());
        let silent = futures_util::stream::pending::<std::io::Result<Bytes>>();
        let error = read(Body::from_bytes_stream(silent), None, &room).await.unwrap_err();
        assert_eq!(error, BodyError::TooSlow { timeout_s: 120 });
    }
}
