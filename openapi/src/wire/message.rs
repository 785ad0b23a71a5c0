//! A message of a request.
//!
//! Flat, with a field for each kind of part, and not a union by `type`: serde would have to buffer
//! the part before it knows its kind, which copies images and loses the path of a fault inside.

use std::fmt;

use poem_openapi::{Enum, Object};
use rkllama_http::{document_one_of, read_from_object, read_from_string};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use super::{AnyObject, MessageToolCall, Nullable};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum MessageRole {
    /// Instructions of the application; today's name for `system`.
    Developer,
    /// Instructions of the application.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// What kind of part it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum ContentPartType {
    /// Text, in `text`.
    Text,
    /// An earlier refusal of the assistant, in `refusal`.
    Refusal,
    /// An image, in `image_url`; of models that see.
    ImageUrl,
    /// A recording, in `input_audio`. Not supported yet.
    InputAudio,
    /// A file, in `file`. Not supported yet.
    File,
}

/// An image of a request.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ImageUrl {
    /// A data URL in base64 (`data:image/png;base64,…`) with a JPEG, PNG, WebP, GIF (of which the first
    /// frame counts) or BMP image; or an address of http or https, where the server is allowed to fetch
    /// images.
    pub url: String,
    /// `auto`, `low` or `high`. Other than `auto` is ignored and named in `x-rkllama-ignored`: a model sees
    /// every image in its encoder's size.
    #[oai(nullable)]
    pub detail: Option<String>,
}

/// A part of a message's content. `type` says which of the other fields is meant.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ContentPart {
    /// What kind of part it is.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ContentPartType,
    /// The text of a `text` part.
    #[oai(nullable)]
    pub text: Option<String>,
    /// The text of a `refusal` part.
    #[oai(nullable)]
    pub refusal: Option<String>,
    /// The image of an `image_url` part.
    pub image_url: Option<Nullable<ImageUrl>>,
    /// `{"data", "format"}` of an `input_audio` part. Refused with 400.
    #[oai(nullable)]
    pub input_audio: Option<AnyObject>,
    /// `{"filename", "file_data", "file_id"}` of a `file` part. Refused with 400.
    #[oai(nullable)]
    pub file: Option<AnyObject>,
}

/// Plain text, or typed parts.
///
/// Not serde's `untagged` for reading: it would say only that nothing fits, where the visitor
/// lets the error point at `messages[0].content[1].text`.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum MessageContent {
    /// Plain text.
    Text(String),
    /// Typed parts.
    Parts(#[serde(serialize_with = "serialize_parts")] Vec<ContentPart>),
}

// `remote = "Self"` leaves `ContentPart` without the trait; the document needs the value only.
fn serialize_parts<S: serde::Serializer>(
    parts: &[ContentPart],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    use poem_openapi::types::ToJSON;
    parts.to_json().serialize(serializer)
}

impl<'de> Deserialize<'de> for MessageContent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = MessageContent;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of a string or an array of objects")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<MessageContent, E> {
                Ok(MessageContent::Text(text.to_owned()))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<MessageContent, E> {
                Ok(MessageContent::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<MessageContent, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(MessageContent::Parts)
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

document_one_of!(
    MessageContent,
    "Plain text, or an array of typed parts. The texts of several parts are joined with a line feed.",
    [String, Vec<ContentPart>]
);

/// One turn of the conversation.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: MessageRole,
    /// What is said. May be null or absent for the assistant only.
    pub content: Option<Nullable<MessageContent>>,
    /// The speaker's name; models whose template knows names see it.
    #[oai(nullable)]
    pub name: Option<String>,
    /// What the assistant said when it refused; stands in where `content` is null.
    #[oai(nullable)]
    pub refusal: Option<String>,
    /// In a `tool` message, where it is required: the call it answers, one of those of the last
    /// assistant's message with calls.
    #[oai(nullable)]
    pub tool_call_id: Option<String>,
    /// Calls the assistant made.
    #[oai(nullable)]
    pub tool_calls: Option<Vec<MessageToolCall>>,
    /// What the assistant thought before, as an answer gave it. Most models are not shown the
    /// thoughts of earlier turns.
    #[oai(nullable)]
    pub reasoning_content: Option<String>,
    /// As `reasoning_content`, which wins over it.
    #[oai(nullable)]
    pub reasoning: Option<String>,
    /// Deprecated form of `tool_calls`. Refused with 400.
    #[oai(nullable, deprecated)]
    pub function_call: Option<AnyObject>,
    /// An earlier answer in sound. Refused with 400.
    #[oai(nullable)]
    pub audio: Option<AnyObject>,
}

impl ChatMessage {
    /// A message that says nothing yet.
    pub const fn of(role: MessageRole) -> Self {
        Self {
            role,
            content: None,
            name: None,
            refusal: None,
            tool_call_id: None,
            tool_calls: None,
            reasoning_content: None,
            reasoning: None,
            function_call: None,
            audio: None,
        }
    }
}

read_from_object!(ChatMessage, ContentPart, ImageUrl);
read_from_string!(MessageRole, ContentPartType);
