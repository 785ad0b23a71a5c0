//! From the domain's events to the wire: an answer, whole or in chunks.
//!
//! ```text
//!   steps     Started    Text ..            Finished     the next choice's ..
//!   whole        |        append               answer
//!   chunks       |   (role) content ..   (role) finish                          [usage] [DONE]
//! ```
//!
//! The generation is owned by what is returned here, in the end by the response's body. Nothing
//! is spawned: when the client goes, the body is dropped, the generation with it, and that cancels.

mod chat;
mod completion;
mod embedding;
mod gui_actor;
mod responses;
mod runs;
mod tally;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use rkllama_core::{Event, Started};
use rkllama_http::{ApiError, sse_event};
use serde::Serialize;

use crate::{failure, shape};

pub(crate) use chat::{ChatWriter, whole_chat};
pub(crate) use completion::{CompletionWriter, Echoes, whole_completion};
pub(crate) use embedding::embeddings;
pub(crate) use gui_actor::gui_actor;
pub(crate) use responses::{Composer, Keep, whole_response};
pub(crate) use runs::{Choice, Step, Steps, Whole, in_turn, whole};
pub(crate) use tally::{Tally, Work};

/// The mark behind the last chunk.
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
    /// For an answer that begins now, with an id that begins with `prefix`.
    pub(crate) fn new(
        prefix: &str,
        model: String,
        system_fingerprint: String,
        include_usage: bool,
    ) -> Self {
        Self { id: random_id(prefix), created: now_s(), model, system_fingerprint, include_usage }
    }
}

/// The time, in seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A new id that begins with `prefix`.
pub(crate) fn random_id(prefix: &str) -> String {
    format!("{prefix}{}", uuid::Uuid::new_v4().simple())
}

/// How an API writes an answer in chunks.
pub(crate) trait Writer: Send + 'static {
    /// What opens the answer, before anything is known of it.
    fn open(&mut self) -> Option<Bytes> {
        None
    }

    /// What opens a choice.
    fn begin(&mut self, choice: usize) -> Option<Bytes>;

    /// A step of a choice; none where it shows nothing.
    fn step(&mut self, step: Step) -> Option<Bytes>;

    /// What follows the last choice.
    fn end(&mut self, tally: &Tally) -> Option<Bytes>;

    /// What says that the answer breaks off.
    fn fail(&mut self, error: &ApiError) -> Bytes {
        encode(&shape::value(error))
    }

    /// The mark behind everything, after an error too.
    fn mark(&self) -> Option<Bytes> {
        Some(DONE)
    }
}

/// An answer that has begun, or has kept its client waiting long enough.
pub(crate) struct Opened {
    steps: Steps,
    /// What ended the wait.
    first: Option<Step>,
    /// The parameters the runtime ignores, if it said so in time.
    pub(crate) ignored: Vec<&'static str>,
}

/// Waits for the first text or the end, at most `patience`: an error until then becomes the
/// answer's status, and the header can name what the runtime ignores.
pub(crate) async fn open(mut steps: Steps, patience: Duration) -> Result<Opened, ApiError> {
    let mut ignored = Vec::new();
    let waiting = async {
        while let Some(step) = steps.next().await {
            match step? {
                Step { event: Event::Started(started), .. } => ignored = started.ignored,
                step => return Ok(step),
            }
        }
        Err(failure::broken_off())
    };
    // Running out of patience is no failure: the headers go and comments follow.
    let first = tokio::time::timeout(patience, waiting).await.ok().transpose()?;
    Ok(Opened { steps, first, ignored })
}

/// The answer's events, encoded by `writer`.
pub(crate) fn chunks(opened: Opened, mut writer: impl Writer) -> BoxStream<'static, Bytes> {
    let Opened { steps, first, .. } = opened;
    let mut steps = futures_util::stream::iter(first.map(Ok)).chain(steps);
    // The body is polled outside of the request's span: what it logs would have no request id.
    let span = tracing::Span::current();
    let stream = async_stream::stream! {
        let (mut begun, mut tally) = (None, Tally::default());
        if let Some(chunk) = writer.open() {
            yield chunk;
        }
        let failed = loop {
            let step = match steps.next().await {
                None => break false,
                Some(Ok(step)) => step,
                Some(Err(error)) => {
                    yield span.in_scope(|| {
                        error.log();
                        writer.fail(&error)
                    });
                    break true;
                }
            };
            if let Event::Started(started) = &step.event {
                span.in_scope(|| name_in_log(started));
                continue;
            }
            if begun != Some(step.choice) {
                begun = Some(step.choice);
                if let Some(chunk) = writer.begin(step.choice) {
                    yield chunk;
                }
            }
            tally.add(&step);
            if let Some(chunk) = writer.step(step) {
                yield chunk;
            }
        };
        if !failed && let Some(chunk) = writer.end(&tally) {
            yield chunk;
        }
        if let Some(mark) = writer.mark() {
            yield mark;
        }
    };
    stream.boxed()
}

/// The headers are gone: the log is the only place left to say it.
fn name_in_log(started: &Started) {
    if !started.ignored.is_empty() {
        tracing::info!(ignored = ?started.ignored, "the runtime ignores parameters of a request");
    }
}

fn encode(data: &impl Serialize) -> Bytes {
    sse_event(data).unwrap_or_else(|error| {
        // Only maps with keys that are no strings can fail, and no wire type has one.
        tracing::error!(%error, "a chunk could not be written as JSON");
        Bytes::new()
    })
}
