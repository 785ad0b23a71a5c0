//! What a response consists of, and what went into it.

use std::sync::Arc;

use poem_openapi::{Enum, Object, types::Example};
use rkllama_http::document_one_of;
use serde::{Deserialize, Serialize, Serializer};

use super::ResponseRole;
use crate::wire::{AnyObject, ContentLogprob, ModelListObject, Nullable};

/// What kind of item it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ResponseItemType {
    /// Something said, with `role` and `content`.
    Message,
    /// A call of a function, with `call_id`, `name` and `arguments`.
    FunctionCall,
    /// The result of a call, with `call_id` and `output`.
    FunctionCallOutput,
    /// Thoughts, with `summary` and `content`.
    Reasoning,
}

/// How far an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ResponseItemStatus {
    /// It is being written.
    InProgress,
    /// It is complete.
    Completed,
    /// It breaks off; the `arguments` of such a call may be no JSON.
    Incomplete,
}

/// What kind of part it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ResponsePartType {
    /// Text of the input.
    InputText,
    /// An image of the input, in `image_url`.
    InputImage,
    /// Text of an answer.
    OutputText,
    /// A thought.
    ReasoningText,
    /// A thought in the place of a summary.
    SummaryText,
}

/// A part of an item's content.
#[derive(Debug, Clone, PartialEq, Object, Serialize, Deserialize)]
#[oai(skip_serializing_if_is_none)]
pub struct ResponsePart {
    /// What kind of part it is.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ResponsePartType,
    /// The text of every part that is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of an `input_image`: the image, as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// Of an `input_image`: the detail that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Of an `output_text`: always empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Vec<AnyObject>>,
    /// Of an `output_text`: how likely its tokens were; empty unless `include` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<ContentLogprob>>,
}

impl ResponsePart {
    /// A part with this text.
    pub fn new(kind: ResponsePartType, text: impl Into<String>) -> Self {
        let is_text = kind == ResponsePartType::OutputText;
        Self {
            kind,
            text: Some(text.into()),
            image_url: None,
            detail: None,
            annotations: is_text.then(Vec::new),
            logprobs: is_text.then(Vec::new),
        }
    }

    /// An image.
    pub fn image(url: String, detail: Option<String>) -> Self {
        Self {
            text: None,
            image_url: Some(url),
            detail: Some(detail.unwrap_or_else(|| "auto".to_owned())),
            ..Self::new(ResponsePartType::InputImage, "")
        }
    }

    fn texts(&self) -> impl Iterator<Item = &String> {
        [&self.text, &self.image_url, &self.detail].into_iter().flatten()
    }
}

/// What a tool gave back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ResponseOutput {
    /// Text.
    Text(String),
    /// Parts with images among them.
    Parts(Vec<ResponsePart>),
}

document_one_of!(
    ResponseOutput,
    "What a tool gave back: text, or parts with images among them.",
    [String, Vec<ResponsePart>]
);

/// An item. `type` says which of the other fields it has.
#[derive(Debug, Clone, PartialEq, Object, Serialize)]
#[oai(example, skip_serializing_if_is_none)]
pub struct ResponseItem {
    /// Its id: `msg_`, `fc_`, `fco_` or `rs_` and a random number, or the client's own.
    pub id: String,
    /// What kind of item it is.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ResponseItemType,
    /// How far it is.
    pub status: ResponseItemStatus,
    /// Of a message: who speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<ResponseRole>,
    /// Of reasoning: the thoughts, where the request asked for a summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Vec<ResponsePart>>,
    /// Of a message: what is said. Of reasoning: the thoughts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Vec<ResponsePart>>,
    /// Of a call: its id, `call_` and a random number. Of a result: the call it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// Of a call: the function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Of a call: its arguments as JSON text, which is valid where the item is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// Of a result: its text, or parts with images among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<ResponseOutput>,
}

impl ResponseItem {
    /// An item of which nothing is known yet.
    pub const fn new(id: String, kind: ResponseItemType) -> Self {
        Self {
            id,
            kind,
            status: ResponseItemStatus::Completed,
            role: None,
            summary: None,
            content: None,
            call_id: None,
            name: None,
            arguments: None,
            output: None,
        }
    }

    /// Something said.
    pub fn message(id: String, role: ResponseRole, content: Vec<ResponsePart>) -> Self {
        let item = Self::new(id, ResponseItemType::Message);
        Self { role: Some(role), content: Some(content), ..item }
    }

    /// Bytes it takes in memory, as far as that depends on what is in it.
    pub(crate) fn len_bytes(&self) -> usize {
        let (said, shown): (_, &[ResponsePart]) = match &self.output {
            None => (None, &[]),
            Some(ResponseOutput::Text(text)) => (Some(text), &[]),
            Some(ResponseOutput::Parts(parts)) => (None, parts),
        };
        let parts = self.content.iter().chain(&self.summary).flatten().chain(shown);
        let texts = [self.call_id.as_ref(), self.name.as_ref(), self.arguments.as_ref(), said];
        let texts = texts.into_iter().flatten().chain(parts.flat_map(ResponsePart::texts));
        size_of::<Self>() + self.id.len() + texts.map(|text| text.len() + OVERHEAD).sum::<usize>()
    }
}

/// Bytes around a text in memory.
const OVERHEAD: usize = 64;

/// Items are shared with what is kept; serde writes an `Arc` only with a feature of its own.
pub(super) fn serialize_items<S: Serializer>(
    items: &[Arc<ResponseItem>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(items.iter().map(|item| &**item))
}

/// A page of the items that a response was made from.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example)]
pub struct ResponseItemList {
    /// Always `list`.
    pub object: ModelListObject,
    /// The items.
    #[serde(serialize_with = "serialize_items")]
    pub data: Vec<Arc<ResponseItem>>,
    /// The id of the first of them; null where there is none.
    pub first_id: Nullable<String>,
    /// The id of the last of them, for `after`; null where there is none.
    pub last_id: Nullable<String>,
    /// Whether there are more behind them.
    pub has_more: bool,
}

impl Example for ResponseItem {
    fn example() -> Self {
        let part = ResponsePart::new(ResponsePartType::InputText, "What is an NPU?");
        let id = "msg_5f0c3c1e8a5b4a0f9a3f1d2b7c6e4d10".to_owned();
        Self::message(id, ResponseRole::User, vec![part])
    }
}

impl Example for ResponseItemList {
    fn example() -> Self {
        let item = ResponseItem::example();
        Self {
            object: ModelListObject::List,
            first_id: Nullable(Some(item.id.clone())),
            last_id: Nullable(Some(item.id.clone())),
            data: vec![Arc::new(item)],
            has_more: false,
        }
    }
}
