//! The events of a streamed response.

use poem_openapi::{Enum, Object, types::Example};
use rkllama_http::EventData;
use serde::Serialize;

use super::{Response, ResponseItem, ResponsePart};
use crate::wire::{ContentLogprob, Nullable};

/// Declares the events with their names, which stand in the event's `event:` too.
macro_rules! event_types {
    ($($(#[doc = $words:literal])+ $variant:ident = $name:literal,)*) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
        pub enum ResponseEventType {
            $($(#[doc = $words])+ #[oai(rename = $name)] #[serde(rename = $name)] $variant,)*
        }

        impl ResponseEventType {
            /// Its name, as on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

event_types! {
    /// It begins; `response` is all that is known of it.
    Created = "response.created",
    /// It is being made; `response` as before.
    InProgress = "response.in_progress",
    /// The model came to its end; `response` is complete.
    Completed = "response.completed",
    /// It was cut short; `response` has what there is.
    Incomplete = "response.incomplete",
    /// It broke off; `response` has what there is, and the error. Comes behind `error`.
    Failed = "response.failed",
    /// `item` begins.
    OutputItemAdded = "response.output_item.added",
    /// `item` is at its end.
    OutputItemDone = "response.output_item.done",
    /// `part` of a message begins.
    ContentPartAdded = "response.content_part.added",
    /// `part` of a message is at its end.
    ContentPartDone = "response.content_part.done",
    /// More text in `delta`.
    OutputTextDelta = "response.output_text.delta",
    /// All of it in `text`.
    OutputTextDone = "response.output_text.done",
    /// More of a thought in `delta`.
    ReasoningTextDelta = "response.reasoning_text.delta",
    /// All of it in `text`.
    ReasoningTextDone = "response.reasoning_text.done",
    /// `part` of a summary begins.
    ReasoningSummaryPartAdded = "response.reasoning_summary_part.added",
    /// `part` of a summary is at its end.
    ReasoningSummaryPartDone = "response.reasoning_summary_part.done",
    /// More of a thought, in the place of a summary, in `delta`.
    ReasoningSummaryTextDelta = "response.reasoning_summary_text.delta",
    /// All of it in `text`.
    ReasoningSummaryTextDone = "response.reasoning_summary_text.done",
    /// More of a call's arguments in `delta`.
    FunctionCallArgumentsDelta = "response.function_call_arguments.delta",
    /// All of them in `arguments`.
    FunctionCallArgumentsDone = "response.function_call_arguments.done",
    /// Something went wrong: `code`, `message` and `param` as in an error's body.
    Error = "error",
}

/// An event. `type` says which of the other fields it has.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example, skip_serializing_if_is_none)]
pub struct ResponseEvent {
    /// What happened.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ResponseEventType,
    /// Its place among the events: 0, 1, 2 …
    pub sequence_number: u32,
    /// The response as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Response>,
    /// The place of the item in the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_index: Option<u32>,
    /// The item's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_id: Option<String>,
    /// The item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<ResponseItem>,
    /// The place of the part in the item's content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_index: Option<u32>,
    /// The place of the part in the item's summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary_index: Option<u32>,
    /// The part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<ResponsePart>,
    /// What is new: whole characters, to be appended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<String>,
    /// The whole text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The function's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The whole arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// With text: how likely its tokens were, when all of it is told; see `include`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<ContentLogprob>>,
    /// Of an error: for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Nullable<String>>,
    /// Of an error: what went wrong, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Of an error: the field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param: Option<Nullable<String>>,
}

impl ResponseEvent {
    /// An event of which only the kind is known.
    pub const fn new(kind: ResponseEventType, sequence_number: u32) -> Self {
        Self {
            kind,
            sequence_number,
            response: None,
            output_index: None,
            item_id: None,
            item: None,
            content_index: None,
            summary_index: None,
            part: None,
            delta: None,
            text: None,
            name: None,
            arguments: None,
            logprobs: None,
            code: None,
            message: None,
            param: None,
        }
    }
}

impl Example for ResponseEvent {
    fn example() -> Self {
        Self {
            output_index: Some(0),
            item_id: Some("msg_5f0c3c1e8a5b4a0f9a3f1d2b7c6e4d10".to_owned()),
            content_index: Some(0),
            delta: Some(" processor".to_owned()),
            logprobs: Some(Vec::new()),
            ..Self::new(ResponseEventType::OutputTextDelta, 5)
        }
    }
}

impl EventData for ResponseEvent {
    const STREAM_DESCRIPTION: &'static str = "Server-sent events, each named by its `type`. The \
        data of each is JSON, a `ResponseEvent`; the last is `response.completed`, \
        `response.incomplete` or `response.failed`. No `[DONE]` follows.";
}
