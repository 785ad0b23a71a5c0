//! The running of one answer, before any API's words.

use std::time::Duration;

use futures_util::StreamExt;
use rkllama_core::{EngineError, Event, Finished, Generation, ToolCallPiece};

/// A call of a tool, complete: its name and its arguments as JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// An answer in one piece.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) reasoning: String,
    pub(crate) text: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) finished: Finished,
}

/// Waits for an answer to end.
pub(crate) async fn whole(mut generation: Generation) -> Result<Whole, EngineError> {
    let (mut reasoning, mut text, mut calls) = (String::new(), String::new(), Calls::default());
    while let Some(event) = generation.next().await {
        match event? {
            Event::Started(_) => {}
            Event::Reasoning(piece) => reasoning.push_str(&piece),
            Event::Text(piece) => text.push_str(&piece),
            Event::ToolCall(piece) => calls.take(piece),
            Event::Finished(finished) => {
                return Ok(Whole { reasoning, text, calls: calls.all, finished });
            }
        }
    }
    Err(broken_off())
}

/// Calls, put together from their pieces.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    all: Vec<Call>,
}

impl Calls {
    pub(crate) fn take(&mut self, piece: ToolCallPiece) {
        match piece {
            ToolCallPiece::Begin { name, .. } => {
                self.all.push(Call { name, arguments: String::new() });
            }
            ToolCallPiece::Arguments { json, .. } => {
                if let Some(call) = self.all.last_mut() {
                    call.arguments.push_str(&json);
                }
            }
        }
    }

    /// The calls that are there, out of here. What follows belongs to others.
    pub(crate) fn drain(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.all)
    }
}

/// An answer that has begun, or has kept its client waiting long enough.
pub(crate) struct Opened {
    /// What came while waiting.
    pub(crate) first: Option<Event>,
    /// What comes.
    pub(crate) rest: Generation,
    /// Parameters that the runtime ignores, if it said so in time.
    pub(crate) ignored: Vec<&'static str>,
    /// Tokens of the prompt, likewise.
    pub(crate) prompt_tokens: Option<u32>,
}

impl Opened {
    /// All events, those that came while waiting too.
    pub(crate) fn joined(self) -> Generation {
        futures_util::stream::iter(self.first.map(Ok)).chain(self.rest).boxed()
    }
}

/// Waits for the first words or the end, at most `patience`: an error until then can be the
/// answer's status. The generation belongs to what is returned, and ends when that is dropped.
pub(crate) async fn open(
    mut generation: Generation,
    patience: Duration,
) -> Result<Opened, EngineError> {
    let (mut ignored, mut prompt_tokens) = (Vec::new(), None);
    let waiting = async {
        loop {
            match generation.next().await {
                Some(Ok(Event::Started(started))) => {
                    prompt_tokens = Some(started.prompt_tokens);
                    ignored = started.ignored;
                }
                Some(event) => return event,
                None => return Err(broken_off()),
            }
        }
    };
    // Running out of patience is no failure: the head is sent, and the rest follows.
    let first = tokio::time::timeout(patience, waiting).await.ok().transpose()?;
    Ok(Opened { first, rest: generation, ignored, prompt_tokens })
}

/// The answer where the engine broke off without a word.
pub(crate) fn broken_off() -> EngineError {
    EngineError::Run { reason: "the answer broke off".to_owned() }
}

/// The value of the header that names what was ignored.
pub(crate) fn named(ignored: &[&str]) -> Option<String> {
    (!ignored.is_empty()).then(|| ignored.join(", "))
}
