//! A response, whole and in events.
//!
//! Both are made by one machine, so that a stream ends in what a whole answer is:
//!
//! ```text
//!   Reasoning → reasoning item ─┐
//!   Text      → message item   ─┼─ one is open at a time; another kind, or a call, closes it
//!   Begin     → call item      ─┘
//!   Finished  → closes what is open, then the response, which is kept before it is told
//! ```

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use poem::http::StatusCode;
use rkllama_core::{Event, Finish, Finished, ToolCallPiece};
use rkllama_http::ApiError;

use super::{Step, Steps, Tally, Work, Writer, encode, now_s, random_id, runs::Call};
use crate::{
    kept::{Kept, KeptResponses, Owner},
    wire::{
        ContentLogprob, IncompleteDetails, IncompleteReason, Nullable, Response, ResponseEvent,
        ResponseEventType as Type, ResponseFailure, ResponseItem, ResponseItemStatus,
        ResponseItemType, ResponsePart, ResponsePartType, ResponseRole, ResponseStatus, Timings,
    },
};

/// What a response is kept with when it has ended.
pub(crate) struct Keep {
    pub(crate) responses: KeptResponses,
    pub(crate) owner: Owner,
    pub(crate) context: Vec<Arc<ResponseItem>>,
}

/// Makes a response of what happens.
pub(crate) struct Composer {
    response: Response,
    open: Option<ResponseItem>,
    /// Whether thoughts stand in the place of summaries.
    summarised: bool,
    /// What to do with it at its end; nothing where it is not to be kept.
    keep: Option<Keep>,
    sequence_number: u32,
}

impl Composer {
    /// Begins with a response without output.
    pub(crate) fn new(response: Response, keep: Option<Keep>) -> Self {
        let summarised = response.reasoning.summary.as_given().is_some();
        Self { response, open: None, summarised, keep, sequence_number: 0 }
    }

    fn event(&mut self, kind: Type) -> ResponseEvent {
        let event = ResponseEvent::new(kind, self.sequence_number);
        self.sequence_number = self.sequence_number.saturating_add(1);
        event
    }

    /// An event with the whole response.
    fn told(&mut self, kind: Type) -> ResponseEvent {
        let response = Some(self.response.clone());
        ResponseEvent { response, ..self.event(kind) }
    }

    /// An event about what is open.
    fn about(&mut self, kind: Type, item: &ResponseItem) -> ResponseEvent {
        let (item_id, output_index) = (Some(item.id.clone()), Some(self.output_index()));
        ResponseEvent { item_id, output_index, ..self.event(kind) }
    }

    fn about_item(&mut self, kind: Type, item: &ResponseItem) -> ResponseEvent {
        let (item, output_index) = (Some(item.clone()), Some(self.output_index()));
        ResponseEvent { item, output_index, ..self.event(kind) }
    }

    /// The place of what is open: behind all that is closed. A context holds far fewer tokens.
    fn output_index(&self) -> u32 {
        u32::try_from(self.response.output.len()).unwrap_or(u32::MAX)
    }

    fn begin(&mut self) -> Vec<ResponseEvent> {
        vec![self.told(Type::Created), self.told(Type::InProgress)]
    }

    fn take(&mut self, event: Event) -> Vec<ResponseEvent> {
        let mut events = Vec::new();
        match event {
            Event::Started(_) => {}
            Event::Reasoning(text) => {
                self.open_text(ResponseItemType::Reasoning, &mut events);
                self.append(text, &mut events);
            }
            Event::Text(text) => {
                self.open_text(ResponseItemType::Message, &mut events);
                self.append(text, &mut events);
            }
            Event::ToolCall(ToolCallPiece::Begin { name, .. }) => {
                self.close(ResponseItemStatus::Completed, &mut events);
                let item = ResponseItem::new(random_id("fc_"), ResponseItemType::FunctionCall);
                self.open(
                    ResponseItem {
                        call_id: Some(Call::new_id()),
                        name: Some(name),
                        arguments: Some(String::new()),
                        ..item
                    },
                    &mut events,
                );
            }
            Event::ToolCall(ToolCallPiece::Arguments { json, .. }) => {
                self.append(json, &mut events);
            }
            Event::Finished(finished) => self.finish(&finished, &mut events),
        }
        events
    }

    /// Sees to it that an item of this kind is open.
    fn open_text(&mut self, kind: ResponseItemType, events: &mut Vec<ResponseEvent>) {
        if self.open.as_ref().is_some_and(|open| open.kind == kind) {
            return;
        }
        self.close(ResponseItemStatus::Completed, events);
        let item = if kind == ResponseItemType::Message {
            ResponseItem::message(random_id("msg_"), ResponseRole::Assistant, Vec::new())
        } else {
            let item = ResponseItem::new(random_id("rs_"), kind);
            let content = (!self.summarised).then(Vec::new);
            ResponseItem { summary: Some(Vec::new()), content, ..item }
        };
        self.open(item, events);
        let Some(mut item) = self.open.take() else { return };
        let part = ResponsePart::new(self.part_type(kind), "");
        // OpenAI's clients know parts of messages and of summaries only.
        if let Some((kind, _)) = self.part_events(kind) {
            let event = self.about(kind, &item);
            events.push(self.placed(ResponseEvent { part: Some(part.clone()), ..event }));
        }
        parts(&mut item, self.summarised).push(part);
        self.open = Some(item);
    }

    fn open(&mut self, item: ResponseItem, events: &mut Vec<ResponseEvent>) {
        let item = ResponseItem { status: ResponseItemStatus::InProgress, ..item };
        events.push(self.about_item(Type::OutputItemAdded, &item));
        self.open = Some(item);
    }

    fn append(&mut self, text: String, events: &mut Vec<ResponseEvent>) {
        let Some(mut item) = self.open.take() else { return };
        let whole = match item.kind {
            ResponseItemType::FunctionCall => item.arguments.as_mut(),
            _ => parts(&mut item, self.summarised).last_mut().and_then(|part| part.text.as_mut()),
        };
        if let Some(whole) = whole {
            whole.push_str(&text);
        }
        let (delta, _) = self.text_events(item.kind);
        let event = self.about(delta, &item);
        events.push(self.placed(ResponseEvent { delta: Some(text), ..event }));
        self.open = Some(item);
    }

    /// Closes what is open, if anything is.
    fn close(&mut self, status: ResponseItemStatus, events: &mut Vec<ResponseEvent>) {
        let Some(mut item) = self.open.take() else { return };
        let (_, done) = self.text_events(item.kind);
        let event = self.about(done, &item);
        if item.kind == ResponseItemType::FunctionCall {
            let (name, arguments) = (item.name.clone(), item.arguments.clone());
            events.push(ResponseEvent { name, arguments, ..event });
        } else {
            let part = parts(&mut item, self.summarised).last().cloned();
            let text = part.as_ref().and_then(|part| part.text.clone());
            let logprobs = part.as_ref().and_then(|part| part.logprobs.clone());
            events.push(ResponseEvent { logprobs, ..self.placed(ResponseEvent { text, ..event }) });
            if let Some((_, done)) = self.part_events(item.kind) {
                let event = self.about(done, &item);
                events.push(self.placed(ResponseEvent { part, ..event }));
            }
        }
        item.status = status;
        events.push(self.about_item(Type::OutputItemDone, &item));
        self.response.output.push(Arc::new(item));
    }

    fn finish(&mut self, finished: &Finished, events: &mut Vec<ResponseEvent>) {
        let is_cut = finished.finish == Finish::Length;
        let says_nothing = self.open.is_none() && self.response.output.is_empty();
        // Clients look for a message in an answer that is complete.
        if finished.finish == Finish::Stop && (says_nothing || self.only_thought()) {
            self.open_text(ResponseItemType::Message, events);
        }
        if let (Some(told), Some(open)) = (&finished.logprobs, &mut self.open)
            && open.kind == ResponseItemType::Message
            && let Some(part) = parts(open, false).last_mut()
        {
            part.logprobs = Some(told.answer.iter().cloned().map(ContentLogprob::from).collect());
        }
        let is_call = |item: &ResponseItem| item.kind == ResponseItemType::FunctionCall;
        let is_broken =
            self.open.as_ref().is_some_and(is_call) && finished.finish != Finish::ToolCalls;
        let status = match is_cut || is_broken {
            true => ResponseItemStatus::Incomplete,
            false => ResponseItemStatus::Completed,
        };
        self.close(status, events);
        let response = &mut self.response;
        response.usage = Some(finished.usage.into());
        response.timings = Some(Timings::from(&Work::from(finished)));
        let kind = if is_cut {
            response.status = ResponseStatus::Incomplete;
            let reason = IncompleteReason::MaxOutputTokens;
            response.incomplete_details = Nullable(Some(IncompleteDetails { reason }));
            Type::Incomplete
        } else {
            response.status = ResponseStatus::Completed;
            response.completed_at = Nullable(Some(now_s()));
            Type::Completed
        };
        // Before it is told: a client may go on from it at once.
        if let Some(Keep { responses, owner, context }) = self.keep.take() {
            let kept = Kept { response: self.response.clone(), context };
            self.response.store = responses.keep(owner, kept);
        }
        events.push(self.told(kind));
    }

    fn only_thought(&self) -> bool {
        let mut items = self.response.output.iter().map(|item| &**item).chain(&self.open);
        items.all(|item| item.kind == ResponseItemType::Reasoning)
    }

    /// It breaks off: nothing is kept.
    fn fail(&mut self, error: &ApiError) -> Vec<ResponseEvent> {
        let mut events = Vec::new();
        self.close(ResponseItemStatus::Incomplete, &mut events);
        events.push(ResponseEvent {
            code: Some(Nullable(error.code.map(str::to_owned))),
            message: Some(error.message.clone()),
            param: Some(Nullable(error.param.as_deref().map(str::to_owned))),
            ..self.event(Type::Error)
        });
        let code = match error.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_exceeded",
            status if status.is_client_error() => "invalid_prompt",
            _ => "server_error",
        };
        self.response.status = ResponseStatus::Failed;
        self.response.error = Nullable(Some(ResponseFailure {
            code: code.to_owned(),
            message: error.message.clone(),
        }));
        events.push(self.told(Type::Failed));
        events
    }

    const fn part_type(&self, kind: ResponseItemType) -> ResponsePartType {
        match (kind, self.summarised) {
            (ResponseItemType::Reasoning, true) => ResponsePartType::SummaryText,
            (ResponseItemType::Reasoning, false) => ResponsePartType::ReasoningText,
            _ => ResponsePartType::OutputText,
        }
    }

    /// The events around a part, where there are any.
    const fn part_events(&self, kind: ResponseItemType) -> Option<(Type, Type)> {
        match (kind, self.summarised) {
            (ResponseItemType::Reasoning, true) => {
                Some((Type::ReasoningSummaryPartAdded, Type::ReasoningSummaryPartDone))
            }
            (ResponseItemType::Reasoning, false) => None,
            _ => Some((Type::ContentPartAdded, Type::ContentPartDone)),
        }
    }

    /// The events of a text: more of it, and all of it.
    const fn text_events(&self, kind: ResponseItemType) -> (Type, Type) {
        match (kind, self.summarised) {
            (ResponseItemType::FunctionCall, _) => {
                (Type::FunctionCallArgumentsDelta, Type::FunctionCallArgumentsDone)
            }
            (ResponseItemType::Reasoning, true) => {
                (Type::ReasoningSummaryTextDelta, Type::ReasoningSummaryTextDone)
            }
            (ResponseItemType::Reasoning, false) => {
                (Type::ReasoningTextDelta, Type::ReasoningTextDone)
            }
            _ => (Type::OutputTextDelta, Type::OutputTextDone),
        }
    }

    /// Adds where in its item it happens. Each has one part.
    fn placed(&self, event: ResponseEvent) -> ResponseEvent {
        match event.kind {
            Type::FunctionCallArgumentsDelta => event,
            Type::ReasoningSummaryPartAdded
            | Type::ReasoningSummaryPartDone
            | Type::ReasoningSummaryTextDelta
            | Type::ReasoningSummaryTextDone => ResponseEvent { summary_index: Some(0), ..event },
            Type::OutputTextDelta | Type::OutputTextDone => {
                ResponseEvent { content_index: Some(0), logprobs: Some(Vec::new()), ..event }
            }
            _ => ResponseEvent { content_index: Some(0), ..event },
        }
    }
}

/// Where an item has its text.
fn parts(item: &mut ResponseItem, summarised: bool) -> &mut Vec<ResponsePart> {
    let is_summary = item.kind == ResponseItemType::Reasoning && summarised;
    let parts = if is_summary { &mut item.summary } else { &mut item.content };
    parts.get_or_insert_default()
}

/// Waits for the whole response; with what the runtime ignored.
pub(crate) async fn whole_response(
    mut steps: Steps,
    mut composer: Composer,
) -> Result<(Response, Vec<&'static str>), ApiError> {
    let mut ignored = Vec::new();
    while let Some(step) = steps.next().await {
        match step?.event {
            Event::Started(started) => ignored = started.ignored,
            event => drop(composer.take(event)),
        }
    }
    Ok((composer.response, ignored))
}

/// Writes events with their names.
fn encode_all(events: &[ResponseEvent]) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    for event in events {
        bytes.extend_from_slice(b"event: ");
        bytes.extend_from_slice(event.kind.as_str().as_bytes());
        bytes.extend_from_slice(b"\n");
        bytes.extend_from_slice(&encode(event));
    }
    (!bytes.is_empty()).then(|| bytes.freeze())
}

impl Writer for Composer {
    fn open(&mut self) -> Option<Bytes> {
        encode_all(&self.begin())
    }

    fn begin(&mut self, _choice: usize) -> Option<Bytes> {
        None
    }

    fn step(&mut self, step: Step) -> Option<Bytes> {
        encode_all(&self.take(step.event))
    }

    fn end(&mut self, _tally: &Tally) -> Option<Bytes> {
        None
    }

    fn fail(&mut self, error: &ApiError) -> Bytes {
        encode_all(&Self::fail(self, error)).unwrap_or_default()
    }

    /// OpenAI's clients know the end by its event.
    fn mark(&self) -> Option<Bytes> {
        None
    }
}
