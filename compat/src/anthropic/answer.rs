//! From the domain's events to Anthropic's: one block at a time, each opened, filled and closed.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream::BoxStream};
use rkllama_core::{Event, Finish, Finished, Started, ToolCallPiece};
use rkllama_http::{ApiError, JsonObject, Nullable, sse_event};
use serde_json::{Map, Value};

use super::{
    convert::Checked,
    failure,
    wire::{
        AnswerBlock, AnswerRole, BlockType, Delta, DeltaType, EventType, Message, MessageType,
        StopReason, StreamEvent, Usage,
    },
};
use crate::{
    State,
    run::{self, Call},
};

/// What all parts of one answer share.
#[derive(Debug, Clone)]
struct Envelope {
    id: String,
    model: String,
    stop: Vec<String>,
    shows_thoughts: bool,
    several_calls: bool,
}

fn random_id(prefix: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{prefix}{}", &id[..24])
}

impl Envelope {
    fn of(checked: &Checked) -> Self {
        Self {
            id: random_id("msg_"),
            model: checked.model.clone(),
            stop: checked.request.stop.clone(),
            shows_thoughts: checked.shows_thoughts,
            several_calls: checked.several_calls,
        }
    }

    fn message(&self, content: Vec<AnswerBlock>, usage: Usage) -> Message {
        Message {
            id: self.id.clone(),
            kind: MessageType::Message,
            role: AnswerRole::Assistant,
            model: self.model.clone(),
            content,
            stop_reason: Nullable(None),
            stop_sequence: Nullable(None),
            usage,
        }
    }

    /// Why it ended. An answer that had its only call is complete, whatever became of a second.
    fn reason(&self, finished: &Finished, hid_calls: bool) -> (StopReason, Option<String>) {
        let text = finished.stopped_by.and_then(|at| self.stop.get(at).cloned());
        match finished.finish {
            Finish::ToolCalls => (StopReason::ToolUse, None),
            _ if hid_calls => (StopReason::ToolUse, None),
            Finish::Stop if text.is_some() => (StopReason::StopSequence, text),
            Finish::Stop => (StopReason::EndTurn, None),
            Finish::Length => (StopReason::MaxTokens, None),
        }
    }
}

fn usage(finished: &Finished) -> Usage {
    let usage = finished.usage;
    Usage {
        input_tokens: usage.prompt_tokens.saturating_sub(usage.cached_tokens),
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: usage.cached_tokens,
        output_tokens: usage.completion_tokens,
    }
}

fn block(kind: BlockType) -> AnswerBlock {
    AnswerBlock {
        kind,
        text: None,
        thinking: None,
        signature: None,
        id: None,
        name: None,
        input: None,
    }
}

fn text_block(text: String) -> AnswerBlock {
    AnswerBlock { text: Some(text), ..block(BlockType::Text) }
}

fn thinking_block(text: String) -> AnswerBlock {
    let signature = Some(String::new());
    AnswerBlock { thinking: Some(text), signature, ..block(BlockType::Thinking) }
}

fn call_block(name: String, input: Option<JsonObject>) -> AnswerBlock {
    let (id, name) = (Some(random_id("toolu_")), Some(name));
    let input = input.or_else(|| JsonObject::of(&Value::Object(Map::new())).ok());
    AnswerBlock { id, name, input, ..block(BlockType::ToolUse) }
}

/// A call whose arguments broke off is none.
fn whole_call(call: Call) -> Option<AnswerBlock> {
    let input = serde_json::from_str::<JsonObject>(&call.arguments).ok()?;
    Some(call_block(call.name, Some(input)))
}

/// The answer in one piece.
pub(super) async fn whole(
    state: &State,
    checked: Checked,
) -> Result<(Message, Vec<&'static str>), ApiError> {
    let envelope = Envelope::of(&checked);
    let mut ignored = checked.ignored;
    let opened = run::open(state.engine.generate(checked.request), Duration::MAX).await;
    let opened = opened.map_err(failure::engine)?;
    ignored.extend(&opened.ignored);
    let mut whole = run::whole(opened.joined()).await.map_err(failure::engine)?;
    let hid_calls = !envelope.several_calls && whole.calls.len() > 1;
    if hid_calls {
        whole.calls.truncate(1);
    }
    let mut content = Vec::new();
    if envelope.shows_thoughts && !whole.reasoning.is_empty() {
        content.push(thinking_block(whole.reasoning));
    }
    if !whole.text.is_empty() {
        content.push(text_block(whole.text));
    }
    content.extend(whole.calls.into_iter().filter_map(whole_call));
    let (reason, text) = envelope.reason(&whole.finished, hid_calls);
    let message = Message {
        stop_reason: Nullable(Some(reason)),
        stop_sequence: Nullable(text),
        ..envelope.message(content, usage(&whole.finished))
    };
    Ok((message, ignored))
}

/// The answer's events, encoded.
pub(super) async fn events(
    state: &State,
    checked: Checked,
) -> Result<(BoxStream<'static, Bytes>, Vec<&'static str>), ApiError> {
    let mut composer = Composer::new(Envelope::of(&checked));
    let mut ignored = checked.ignored;
    let patience = state.intake.limits().heartbeat;
    let opened = run::open(state.engine.generate(checked.request), patience).await;
    let opened = opened.map_err(failure::engine)?;
    ignored.extend(&opened.ignored);
    if let Some(prompt_tokens) = opened.prompt_tokens {
        composer.prompt_tokens = prompt_tokens;
    }
    let mut events = opened.joined();
    // The body is polled outside of the request's span.
    let span = tracing::Span::current();
    let stream = async_stream::stream! {
        loop {
            let event = events.next().await.unwrap_or_else(|| Err(run::broken_off()));
            let (bytes, is_last) = match event {
                Ok(event) => {
                    let is_last = matches!(event, Event::Finished(_));
                    (encode(&composer.take(event)), is_last)
                }
                Err(error) => {
                    let error = failure::engine(error);
                    span.in_scope(|| error.log());
                    (encode(&composer.fail(&error)), true)
                }
            };
            if !bytes.is_empty() {
                yield bytes;
            }
            if is_last {
                return;
            }
        }
    };
    Ok((stream.boxed(), ignored))
}

/// Makes Anthropic's events of the domain's.
struct Composer {
    envelope: Envelope,
    prompt_tokens: u32,
    has_begun: bool,
    /// The block that is open.
    open: Option<BlockType>,
    /// The next block's place.
    index: u32,
    calls: usize,
    hid_calls: bool,
}

fn event(kind: EventType) -> StreamEvent {
    StreamEvent {
        kind,
        message: None,
        index: None,
        content_block: None,
        delta: None,
        usage: None,
        error: None,
    }
}

impl Composer {
    const fn new(envelope: Envelope) -> Self {
        Self {
            envelope,
            prompt_tokens: 0,
            has_begun: false,
            open: None,
            index: 0,
            calls: 0,
            hid_calls: false,
        }
    }

    fn take(&mut self, event: Event) -> Vec<StreamEvent> {
        let mut events = Vec::new();
        if let Event::Started(Started { prompt_tokens, .. }) = event {
            self.prompt_tokens = prompt_tokens;
            return events;
        }
        self.begin(&mut events);
        match event {
            Event::Started(_) => {}
            Event::Reasoning(_) if !self.envelope.shows_thoughts => {}
            Event::Reasoning(text) => {
                self.continue_with(BlockType::Thinking, &mut events);
                let thinking = Some(text);
                let kind = Some(DeltaType::ThinkingDelta);
                events.push(self.delta(Delta { kind, thinking, ..Delta::default() }));
            }
            Event::Text(text) => {
                self.continue_with(BlockType::Text, &mut events);
                let (kind, text) = (Some(DeltaType::TextDelta), Some(text));
                events.push(self.delta(Delta { kind, text, ..Delta::default() }));
            }
            Event::ToolCall(piece) => self.call(piece, &mut events),
            Event::Finished(finished) => self.finish(&finished, &mut events),
        }
        events
    }

    fn begin(&mut self, events: &mut Vec<StreamEvent>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        let usage = Usage { input_tokens: self.prompt_tokens, ..Usage::default() };
        let message = Some(self.envelope.message(Vec::new(), usage));
        events.push(StreamEvent { message, ..event(EventType::MessageStart) });
    }

    /// Sees to it that a block of this kind is open.
    fn continue_with(&mut self, kind: BlockType, events: &mut Vec<StreamEvent>) {
        if self.open == Some(kind) {
            return;
        }
        let block = match kind {
            BlockType::Thinking => thinking_block(String::new()),
            BlockType::Text | BlockType::ToolUse => text_block(String::new()),
        };
        self.start(block, events);
    }

    fn start(&mut self, block: AnswerBlock, events: &mut Vec<StreamEvent>) {
        self.stop(events);
        self.open = Some(block.kind);
        let (index, content_block) = (Some(self.index), Some(block));
        events.push(StreamEvent { index, content_block, ..event(EventType::ContentBlockStart) });
    }

    fn stop(&mut self, events: &mut Vec<StreamEvent>) {
        let Some(kind) = self.open.take() else { return };
        if kind == BlockType::Thinking {
            let (kind, signature) = (Some(DeltaType::SignatureDelta), Some(String::new()));
            events.push(self.delta(Delta { kind, signature, ..Delta::default() }));
        }
        events.push(StreamEvent { index: Some(self.index), ..event(EventType::ContentBlockStop) });
        self.index += 1;
    }

    fn delta(&self, delta: Delta) -> StreamEvent {
        let (index, delta) = (Some(self.index), Some(delta));
        StreamEvent { index, delta, ..event(EventType::ContentBlockDelta) }
    }

    fn call(&mut self, piece: ToolCallPiece, events: &mut Vec<StreamEvent>) {
        match piece {
            ToolCallPiece::Begin { name, .. } => {
                self.calls += 1;
                self.hid_calls = self.calls > 1 && !self.envelope.several_calls;
                if !self.hid_calls {
                    self.start(call_block(name, None), events);
                }
            }
            ToolCallPiece::Arguments { .. } if self.hid_calls => {}
            ToolCallPiece::Arguments { json, .. } => {
                let (kind, partial_json) = (Some(DeltaType::InputJsonDelta), Some(json));
                events.push(self.delta(Delta { kind, partial_json, ..Delta::default() }));
            }
        }
    }

    fn finish(&mut self, finished: &Finished, events: &mut Vec<StreamEvent>) {
        self.stop(events);
        let (reason, text) = self.envelope.reason(finished, self.hid_calls);
        let (stop_reason, stop_sequence) = (Some(reason), Some(Nullable(text)));
        let delta = Some(Delta { stop_reason, stop_sequence, ..Delta::default() });
        let usage = Some(usage(finished));
        events.push(StreamEvent { delta, usage, ..event(EventType::MessageDelta) });
        events.push(event(EventType::MessageStop));
    }

    /// What says that the answer breaks off. Clients take no event before the first.
    fn fail(&mut self, error: &ApiError) -> Vec<StreamEvent> {
        let mut events = Vec::new();
        self.begin(&mut events);
        let error = Some(failure::object(error));
        events.push(StreamEvent { error, ..event(EventType::Error) });
        events
    }
}

fn encode(events: &[StreamEvent]) -> Bytes {
    let mut bytes = BytesMut::new();
    for event in events {
        match sse_event(event) {
            Ok(data) => {
                bytes.put_slice(b"event: ");
                bytes.put_slice(event.kind.as_str().as_bytes());
                bytes.put_slice(b"\n");
                bytes.put_slice(&data);
            }
            // Only maps with keys that are no strings can fail, and no event has one.
            Err(error) => tracing::error!(%error, "an event could not be written as JSON"),
        }
    }
    bytes.freeze()
}
