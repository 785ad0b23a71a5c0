//! From the domain's events to the wire: one answer, whole or in chunks.
//!
//! ```text
//!   events   Started    Text ..            Finished
//!   whole       |        append               answer
//!   chunks      |   (role) content ..   (role) finish [usage] [DONE]
//! ```
//!
//! The generation is owned by what is returned here, in the end by the response's body. Nothing
//! is spawned: when the client goes, the body is dropped, the generation with it, and that cancels.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use rkllama_core::{EngineError, Event, Finished, Generation, Started};
use rkllama_http::{ApiError, sse_event};
use serde::Serialize;

use crate::{
    failure, shape,
    wire::{
        AssistantRole, ChatAnswerMessage, ChatChoice, ChatChunk, ChatChunkChoice, ChatChunkObject,
        ChatCompletion, ChatCompletionObject, ChatDelta, CompletionUsage, FinishReason, Nullable,
        Timings,
    },
};

/// The end of every stream, after an error too.
const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// What all parts of one answer share.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    id: String,
    created: u64,
    model: String,
    system_fingerprint: String,
    include_usage: bool,
}

impl Envelope {
    /// For an answer that begins now.
    pub(crate) fn new(model: String, system_fingerprint: String, include_usage: bool) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            id: format!("chatcmpl-{}", uuid::Uuid::new_v4().simple()),
            created: since_1970.as_secs(),
            model,
            system_fingerprint,
            include_usage,
        }
    }

    fn whole(self, content: String, finished: &Finished) -> ChatCompletion {
        let message = ChatAnswerMessage {
            role: AssistantRole::Assistant,
            content: Nullable(Some(content)),
            refusal: Nullable(None),
        };
        ChatCompletion {
            id: self.id,
            object: ChatCompletionObject::ChatCompletion,
            created: self.created,
            model: self.model,
            system_fingerprint: self.system_fingerprint,
            choices: vec![ChatChoice {
                index: 0,
                message,
                logprobs: Nullable(None),
                finish_reason: finished.finish.into(),
            }],
            usage: finished.usage.into(),
            timings: finished.into(),
        }
    }

    fn chunk(&self, choices: Vec<ChatChunkChoice>) -> ChatChunk {
        ChatChunk {
            id: self.id.clone(),
            object: ChatChunkObject::ChatCompletionChunk,
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: self.system_fingerprint.clone(),
            choices,
            usage: self.include_usage.then_some(Nullable(None)),
            timings: None,
        }
    }

    fn delta(&self, delta: ChatDelta, finish_reason: Option<FinishReason>) -> ChatChunk {
        self.chunk(vec![ChatChunkChoice {
            index: 0,
            delta,
            logprobs: Nullable(None),
            finish_reason: Nullable(finish_reason),
        }])
    }

    fn role(&self) -> ChatChunk {
        let role = Some(AssistantRole::Assistant);
        self.delta(ChatDelta { role, content: Some(String::new()) }, None)
    }

    fn text(&self, text: String) -> ChatChunk {
        self.delta(ChatDelta { role: None, content: Some(text) }, None)
    }

    fn finish(&self, finished: &Finished) -> ChatChunk {
        let chunk = self.delta(ChatDelta::default(), Some(finished.finish.into()));
        ChatChunk { timings: Some(Timings::from(finished)), ..chunk }
    }

    fn usage(&self, finished: &Finished) -> Option<ChatChunk> {
        let usage = Some(Nullable(Some(CompletionUsage::from(finished.usage))));
        self.include_usage.then(|| ChatChunk { usage, ..self.chunk(Vec::new()) })
    }
}

/// A whole answer and the parameters the runtime ignored.
pub(crate) async fn whole(
    mut generation: Generation,
    envelope: Envelope,
) -> Result<(ChatCompletion, Vec<&'static str>), ApiError> {
    let mut content = String::new();
    let mut ignored = Vec::new();
    while let Some(event) = generation.next().await {
        match event.map_err(failure::engine)? {
            Event::Started(started) => ignored = started.ignored,
            Event::Text(text) => content.push_str(&text),
            Event::Reasoning(_) | Event::ToolCall(_) => {}
            Event::Finished(finished) => return Ok((envelope.whole(content, &finished), ignored)),
        }
    }
    Err(failure::broken_off())
}

/// A generation whose answer has begun, or has kept its client waiting long enough.
pub(crate) struct Opened {
    generation: Generation,
    /// The event that ended the wait.
    first: Option<Event>,
    /// The parameters the runtime ignores, if it said so in time.
    pub(crate) ignored: Vec<&'static str>,
}

/// Waits for the first text or the end, at most `patience`: an error until then becomes the
/// answer's status, and the header can name what the runtime ignores.
pub(crate) async fn open(
    mut generation: Generation,
    patience: Duration,
) -> Result<Opened, ApiError> {
    let mut ignored = Vec::new();
    let waiting = async {
        loop {
            match generation.next().await {
                Some(Ok(Event::Started(started))) => ignored = started.ignored,
                Some(Ok(event)) => return Ok(event),
                Some(Err(error)) => return Err(failure::engine(error)),
                None => return Err(failure::broken_off()),
            }
        }
    };
    // Running out of patience is no failure: the headers go and comments follow.
    let first = tokio::time::timeout(patience, waiting).await.ok().transpose()?;
    Ok(Opened { generation, first, ignored })
}

/// The answer's events, encoded.
pub(crate) fn chunks(opened: Opened, envelope: Envelope) -> BoxStream<'static, Bytes> {
    let Opened { generation, first, .. } = opened;
    let first = futures_util::stream::iter(first.map(Ok::<_, EngineError>));
    let mut events = first.chain(generation);
    // The body is polled outside of the request's span: what it logs would have no request id.
    let span = tracing::Span::current();
    let stream = async_stream::stream! {
        let mut has_begun = false;
        loop {
            let event = events.next().await;
            let begins = matches!(&event, Some(Ok(event)) if !matches!(event, Event::Started(_)));
            if !has_begun && begins {
                has_begun = true;
                yield encode(&envelope.role());
            }
            match event {
                Some(Ok(Event::Started(started))) => span.in_scope(|| name_in_log(&started)),
                Some(Ok(Event::Text(text))) => yield encode(&envelope.text(text)),
                Some(Ok(Event::Reasoning(_) | Event::ToolCall(_))) => {}
                Some(Ok(Event::Finished(finished))) => {
                    yield encode(&envelope.finish(&finished));
                    if let Some(usage) = envelope.usage(&finished) {
                        yield encode(&usage);
                    }
                    break;
                }
                Some(Err(error)) => {
                    yield span.in_scope(|| encode_error(&failure::engine(error)));
                    break;
                }
                None => {
                    yield span.in_scope(|| encode_error(&failure::broken_off()));
                    break;
                }
            }
        }
        yield DONE;
    };
    stream.boxed()
}

/// The headers are gone: the log is the only place left to say it.
fn name_in_log(started: &Started) {
    if !started.ignored.is_empty() {
        tracing::info!(ignored = ?started.ignored, "the runtime ignores parameters of a request");
    }
}

fn encode_error(error: &ApiError) -> Bytes {
    error.log();
    encode(&shape::value(error))
}

fn encode(data: &impl Serialize) -> Bytes {
    sse_event(data).unwrap_or_else(|error| {
        // Only maps with keys that are no strings can fail, and no wire type has one.
        tracing::error!(%error, "a chunk could not be written as JSON");
        Bytes::new()
    })
}
