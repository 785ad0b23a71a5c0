//! Server-sent events with a heartbeat.
//!
//! Not poem's own payload: that sends its comments on a fixed beat whether events flow or not,
//! catches up on missed beats in a burst, and copies every event through a reader.

use std::{
    io,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, stream::BoxStream};
use poem::{Body, IntoResponse, Response};
use poem_openapi::{
    payload::Payload,
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;
use tokio::time::{Instant, Sleep};

/// A comment: clients skip it, a dead connection refuses it.
const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// A stream of events whose data is, as the document says, JSON of the type `T`.
///
/// The events come encoded (see [`event`]), so that an API can end its stream with a mark that is
/// no `T`. The stream is owned by the response's body and dropped with it: that is how a client
/// that leaves cancels its generation.
pub struct Sse<T> {
    events: BoxStream<'static, Bytes>,
    heartbeat: Duration,
    data: PhantomData<fn() -> T>,
}

impl<T> Sse<T> {
    /// A payload that sends `events` and, after each `heartbeat` of silence, a comment.
    pub fn new(events: BoxStream<'static, Bytes>, heartbeat: Duration) -> Self {
        Self { events, heartbeat, data: PhantomData }
    }
}

/// Encodes one event without a name.
///
/// # Errors
/// As `serde_json` does: only for maps with keys that are no strings.
pub fn event(data: &impl Serialize) -> serde_json::Result<Bytes> {
    // A chunk with one token is about 250 bytes.
    let mut writer = BytesMut::with_capacity(320).writer();
    writer.get_mut().put_slice(b"data: ");
    serde_json::to_writer(&mut writer, data)?;
    let mut bytes = writer.into_inner();
    bytes.put_slice(b"\n\n");
    Ok(bytes.freeze())
}

/// A type whose values are the data of events.
pub trait EventData: Type {
    /// The stream in words, for the document. OpenAPI 3.0 has no schema for events: it can only
    /// say here which one their data has.
    const STREAM_DESCRIPTION: &'static str;
}

impl<T: EventData> Payload for Sse<T> {
    const CONTENT_TYPE: &'static str = "text/event-stream";

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            description: Some(T::STREAM_DESCRIPTION),
            // It says nothing about a string. Without any reference poem-openapi would drop the
            // schema that the description names.
            items: Some(Box::new(T::schema_ref())),
            ..MetaSchema::new("string")
        }))
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Send> IntoResponse for Sse<T> {
    fn into_response(self) -> Response {
        Response::builder()
            .content_type("text/event-stream")
            .header("cache-control", "no-cache")
            .header("x-accel-buffering", "no")
            .body(Body::from_bytes_stream(Beating::new(self.events, self.heartbeat)))
    }
}

/// The events, with comments in their gaps.
struct Beating {
    events: Option<BoxStream<'static, Bytes>>,
    heartbeat: Duration,
    silence: Pin<Box<Sleep>>,
}

impl Beating {
    fn new(events: BoxStream<'static, Bytes>, heartbeat: Duration) -> Self {
        let silence = Box::pin(tokio::time::sleep(heartbeat));
        Self { events: Some(events), heartbeat, silence }
    }
}

impl Stream for Beating {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(events) = &mut this.events else { return Poll::Ready(None) };
        let bytes = match events.as_mut().poll_next(cx) {
            Poll::Ready(Some(bytes)) => bytes,
            Poll::Ready(None) => {
                this.events = None;
                return Poll::Ready(None);
            }
            Poll::Pending => {
                std::task::ready!(this.silence.as_mut().poll(cx));
                HEARTBEAT
            }
        };
        this.silence.as_mut().reset(Instant::now() + this.heartbeat);
        Poll::Ready(Some(Ok(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    const BEAT: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn comments_fill_silence_and_only_silence() {
        let events = async_stream::stream! {
            // Four events two seconds apart: never three seconds of silence.
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(2)).await;
                yield Bytes::from_static(b"e");
            }
            tokio::time::sleep(Duration::from_secs(7)).await;
            yield Bytes::from_static(b"last");
        };
        let sent: Vec<_> =
            Beating::new(events.boxed(), BEAT).map(|item| item.unwrap()).collect().await;
        assert_eq!(sent, ["e", "e", "e", "e", ":\n\n", ":\n\n", "last"]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_follows_the_end() {
        let mut beating = Beating::new(futures_util::stream::empty().boxed(), BEAT);
        for _ in 0..3 {
            assert!(beating.next().await.is_none());
        }
    }

    #[test]
    fn an_event_is_one_line_of_data() {
        let bytes = event(&serde_json::json!({"text": "a\nb"})).unwrap();
        assert_eq!(bytes, "data: {\"text\":\"a\\nb\"}\n\n");
    }
}
