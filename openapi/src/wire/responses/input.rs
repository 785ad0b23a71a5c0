//! What a response answers: a text, or items.
//!
//! Flat, with a field for each kind of item, for the reasons of the messages of a chat.

use std::fmt;

use poem_openapi::{Enum, Object};
use rkllama_http::{document_one_of, read_from_object, read_from_string};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use crate::wire::{AnyValue, Nullable, tool::serialize_as_json};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ResponseRole {
    /// The person.
    User,
    /// The model.
    Assistant,
    /// Instructions of the application.
    System,
    /// Instructions of the application; today's name for `system`.
    Developer,
}

/// What kind of item it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum ResponseInputItemType {
    /// Something said, with `role` and `content`.
    Message,
    /// A call of a function, with `call_id`, `name` and `arguments`.
    FunctionCall,
    /// The result of a call, with `call_id` and `output`.
    FunctionCallOutput,
    /// Thoughts, with `content` or `summary`.
    Reasoning,
    /// An item of a response that is kept, by its `id`.
    ItemReference,
    /// Of a built-in tool. Refused with 400.
    FileSearchCall,
    /// Of a built-in tool. Refused with 400.
    ComputerCall,
    /// Of a built-in tool. Refused with 400.
    ComputerCallOutput,
    /// Of a built-in tool. Refused with 400.
    WebSearchCall,
    /// Of a built-in tool. Refused with 400.
    ToolSearchCall,
    /// Of a built-in tool. Refused with 400.
    ToolSearchOutput,
    /// Tools among the input. Refused with 400.
    AdditionalTools,
    /// A shortened conversation that only OpenAI's server can read. Refused with 400.
    Compaction,
    /// The wish to shorten the conversation. Refused with 400.
    CompactionTrigger,
    /// Of a built-in tool. Refused with 400.
    ImageGenerationCall,
    /// Of a built-in tool. Refused with 400.
    CodeInterpreterCall,
    /// Of a built-in tool. Refused with 400.
    LocalShellCall,
    /// Of a built-in tool. Refused with 400.
    LocalShellCallOutput,
    /// Of a built-in tool. Refused with 400.
    ShellCall,
    /// Of a built-in tool. Refused with 400.
    ShellCallOutput,
    /// Of a built-in tool. Refused with 400.
    ApplyPatchCall,
    /// Of a built-in tool. Refused with 400.
    ApplyPatchCallOutput,
    /// Of a built-in tool. Refused with 400.
    McpListTools,
    /// Of a built-in tool. Refused with 400.
    McpApprovalRequest,
    /// Of a built-in tool. Refused with 400.
    McpApprovalResponse,
    /// Of a built-in tool. Refused with 400.
    McpCall,
    /// A call of a `custom` tool. Refused with 400.
    CustomToolCall,
    /// The result of a `custom` tool. Refused with 400.
    CustomToolCallOutput,
    /// A program that calls tools. Refused with 400.
    Program,
    /// The result of a program. Refused with 400.
    ProgramOutput,
}

/// What kind of part it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum ResponseInputPartType {
    /// Text, in `text`.
    InputText,
    /// Text of an earlier answer, in `text`.
    OutputText,
    /// A thought, in `text`.
    ReasoningText,
    /// The summary of a thought, in `text`.
    SummaryText,
    /// An earlier refusal of the assistant, in `refusal`.
    Refusal,
    /// An image, in `image_url`; of models that see. Not of the assistant's.
    InputImage,
    /// A file. Refused with 400.
    InputFile,
    /// A recording. Refused with 400.
    InputAudio,
}

/// A part of an item's content. `type` says which of the other fields is meant.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ResponseInputPart {
    /// What kind of part it is.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ResponseInputPartType,
    /// The text of every part that is one.
    #[oai(nullable)]
    pub text: Option<String>,
    /// The text of a `refusal` part.
    #[oai(nullable)]
    pub refusal: Option<String>,
    /// The image of an `input_image` part: a data URL in base64 (`data:image/png;base64,…`) with a JPEG, PNG,
    /// WebP, GIF (of which the first frame counts) or BMP image; or an address of http or https, where the
    /// server is allowed to fetch images.
    #[oai(nullable)]
    pub image_url: Option<String>,
    /// Of an `input_image` part: `auto`, `low`, `high` or `original`. Other than `auto` is ignored and named in
    /// `x-rkllama-ignored`: a model sees every image in its encoder's size.
    #[oai(nullable)]
    pub detail: Option<String>,
    /// Of an `input_image` or `input_file` part. Refused with 400.
    pub file_id: Option<AnyValue>,
    /// Of an `input_file` part. Refused with 400.
    pub file_data: Option<AnyValue>,
    /// Of an `input_file` part. Refused with 400.
    pub file_url: Option<AnyValue>,
    /// Of an `input_audio` part. Refused with 400.
    pub input_audio: Option<AnyValue>,
}

/// Plain text, or typed parts.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum ResponseInputContent {
    /// Plain text.
    Text(String),
    /// Typed parts.
    Parts(#[serde(serialize_with = "serialize_as_json")] Vec<ResponseInputPart>),
}

/// An item of the input. `type` says which of the other fields is meant.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ResponseInputItem {
    /// What kind of item it is. Absent: a message where there is a `role`, else a reference.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: Option<Nullable<ResponseInputItemType>>,
    /// The item's id, as an output had it; required of a reference.
    #[oai(nullable)]
    pub id: Option<String>,
    /// Who speaks; required of a message.
    pub role: Option<Nullable<ResponseRole>>,
    /// What is said, or thought; required of a message.
    pub content: Option<Nullable<ResponseInputContent>>,
    /// The summary of thoughts; stands in where `content` is absent.
    #[oai(nullable)]
    pub summary: Option<Vec<ResponseInputPart>>,
    /// The call; required of a call and its result. A result needs its call before it.
    #[oai(nullable)]
    pub call_id: Option<String>,
    /// The function; required of a call.
    #[oai(nullable)]
    pub name: Option<String>,
    /// Its arguments as JSON text; required of a call.
    #[oai(nullable)]
    pub arguments: Option<String>,
    /// The result of a call; required of one.
    pub output: Option<Nullable<ResponseInputContent>>,
    /// Thoughts that only OpenAI's server can read. Has no effect.
    #[oai(nullable)]
    pub encrypted_content: Option<String>,
}

/// What to answer.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum ResponseInput {
    /// What the person says.
    Text(String),
    /// A conversation, oldest item first.
    Items(#[serde(serialize_with = "serialize_as_json")] Vec<ResponseInputItem>),
}

/// Reads a string or an array of objects, so that errors point into the array.
macro_rules! read_text_or_array {
    ($($type:ident: $array:ident),* $(,)?) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ContentVisitor;
                impl<'de> Visitor<'de> for ContentVisitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("one of a string or an array of objects")
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        Ok($type::Text(text.to_owned()))
                    }
                    fn visit_string<E: de::Error>(self, text: String) -> Result<$type, E> {
                        Ok($type::Text(text))
                    }
                    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<$type, A::Error> {
                        Vec::deserialize(SeqAccessDeserializer::new(seq)).map($type::$array)
                    }
                }
                deserializer.deserialize_any(ContentVisitor)
            }
        }
    )*};
}

read_text_or_array!(ResponseInput: Items, ResponseInputContent: Parts);

document_one_of!(
    ResponseInput,
    "What the person says, or the items of a conversation, oldest first.",
    [String, Vec<ResponseInputItem>]
);
document_one_of!(
    ResponseInputContent,
    "Plain text, or an array of typed parts. The texts of several parts are joined with a line feed; images \
     stand where they are.",
    [String, Vec<ResponseInputPart>]
);
read_from_object!(ResponseInputItem, ResponseInputPart);
read_from_string!(ResponseInputItemType, ResponseInputPartType);
