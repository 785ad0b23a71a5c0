//! Newline-delimited JSON: each line is complete, none is blank, and nothing else is sent. Clients
//! parse every line, so there is no heartbeat.

use std::{io, marker::PhantomData};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream::BoxStream};
use poem::{Body, IntoResponse, Response};
use poem_openapi::{
    payload::Payload,
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;

/// A stream of lines that are, as the document says, JSON of the type `T`.
///
/// The lines come encoded (see [`line`]), so that a last one can say what went wrong. The stream is
/// owned by the response's body and dropped with it: that is how a client that leaves cancels.
pub struct Ndjson<T> {
    lines: BoxStream<'static, Bytes>,
    line: PhantomData<fn() -> T>,
}

impl<T> Ndjson<T> {
    /// A payload that sends `lines`.
    pub fn new(lines: BoxStream<'static, Bytes>) -> Self {
        Self { lines, line: PhantomData }
    }
}

/// Encodes one line.
///
/// # Errors
/// As `serde_json` does: only for maps with keys that are no strings.
pub fn line(value: &impl Serialize) -> serde_json::Result<Bytes> {
    // A line with one token is about 130 bytes.
    let mut writer = BytesMut::with_capacity(160).writer();
    serde_json::to_writer(&mut writer, value)?;
    let mut bytes = writer.into_inner();
    bytes.put_u8(b'\n');
    Ok(bytes.freeze())
}

impl<T: Type> Payload for Ndjson<T> {
    const CONTENT_TYPE: &'static str = "application/x-ndjson";

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            description: Some("One JSON object in each line."),
            // As with events: a string has no items, but it has to name the schema somewhere.
            items: Some(Box::new(T::schema_ref())),
            ..MetaSchema::new("string")
        }))
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Send> IntoResponse for Ndjson<T> {
    fn into_response(self) -> Response {
        Response::builder()
            .content_type("application/x-ndjson")
            .header("cache-control", "no-cache")
            .header("x-accel-buffering", "no")
            .body(Body::from_bytes_stream(self.lines.map(Ok::<_, io::Error>)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_one_line_feed_at_its_end() {
        let bytes = line(&serde_json::json!({"text": "a\nb"})).unwrap();
        assert_eq!(bytes, "{\"text\":\"a\\nb\"}\n");
    }
}
