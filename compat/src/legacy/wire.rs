//! The wire types: what scripts for the old RKLLama send and get. `///` comments here are published.

use std::fmt;

use poem_openapi::{Enum, Object, types::Example};
use rkllama_http::{EventData, JsonObject, JsonValue, Nullable, document_one_of, read_from_object};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use crate::messages::PlainMessage;

/// What went wrong.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LegacyError")]
pub struct ErrorBody {
    /// In words.
    pub error: String,
}

/// What was done.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LegacyMessage")]
pub struct Done {
    /// In words.
    pub message: String,
}

/// The server, to whoever knocks.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "Welcome")]
pub struct Welcome {
    /// As the old server said it.
    pub message: String,
    /// The old server's project.
    pub github: String,
    /// As Ollama says it.
    pub status: String,
    /// This server's version.
    pub version: String,
}

/// The models, for old scripts (`models`) and for llama-server's clients (`data`).
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LegacyModels")]
pub struct Models {
    /// Their names.
    pub models: Vec<String>,
    /// Always `list`.
    pub object: ListObject,
    /// The same as objects.
    pub data: Vec<ModelData>,
}

/// Always `list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "LegacyListObject", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ListObject {
    /// The only value.
    List,
}

/// A model.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LegacyModel")]
pub struct ModelData {
    /// Its name.
    pub id: String,
    /// Always `model`.
    pub object: ModelObject,
    /// When its file was last written, in seconds since 1970.
    pub created: u64,
    /// Always `rkllama`.
    pub owned_by: String,
}

/// Always `model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "LegacyModelObject", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ModelObject {
    /// The only value.
    Model,
}

/// Which model is to be loaded.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "LegacyLoadRequest", example, skip_serializing_if_is_none)]
pub struct LoadRequest {
    /// Its name, with `.rkllm` or without.
    #[oai(nullable)]
    pub model_name: Option<String>,
    /// Ignored: where a model comes from is known.
    #[oai(nullable)]
    pub from: Option<String>,
    /// Ignored: a model's tokenizer lies beside it.
    #[oai(nullable)]
    pub huggingface_path: Option<String>,
}

impl Example for LoadRequest {
    fn example() -> Self {
        Self { model_name: Some("demo".to_owned()), ..Self::default() }
    }
}

/// The model that answers.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LegacyCurrentModel")]
pub struct CurrentModel {
    /// Its name.
    pub model_name: String,
}

/// What the current model is asked.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "LegacyGenerateRequest", example, skip_serializing_if_is_none)]
pub struct GenerateRequest {
    /// What the user says, or a conversation.
    pub messages: Option<Nullable<Messages>>,
    /// Whether the answer comes in pieces. Default false.
    #[oai(nullable)]
    pub stream: Option<bool>,
    /// `"json"`, or a JSON Schema that the answer follows.
    #[oai(nullable)]
    pub format: Option<JsonValue>,
    /// As in `/api/chat`.
    #[oai(nullable)]
    pub options: Option<JsonObject>,
}

impl Example for GenerateRequest {
    fn example() -> Self {
        let messages = Some(Nullable(Some(Messages::Text("Hello, how are you?".to_owned()))));
        Self { messages, ..Self::default() }
    }
}

/// What the user says, or a conversation.
#[derive(Debug, Clone)]
pub enum Messages {
    /// What the user says.
    Text(String),
    /// A conversation.
    Conversation(Vec<PlainMessage>),
}

impl Serialize for Messages {
    /// Only for the document's example, which is a text.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Conversation(messages) => serializer.collect_seq(messages.iter().map(|_| ())),
        }
    }
}

document_one_of!(Messages, "What the user says, or a conversation.", [String, Vec<PlainMessage>]);

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MessagesVisitor;
        impl<'de> Visitor<'de> for MessagesVisitor {
            type Value = Messages;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of messages")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Messages, E> {
                Ok(Messages::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, messages: A) -> Result<Messages, A::Error> {
                let messages = SeqAccessDeserializer::new(messages);
                Vec::deserialize(messages).map(Messages::Conversation)
            }
        }
        deserializer.deserialize_any(MessagesVisitor)
    }
}

read_from_object!(DebugRequest, LoadRequest, GenerateRequest, PullRequest, RemoveRequest);

/// Always `rkllm_chat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "LegacyChatObject", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ChatObject {
    /// The only value.
    RkllmChat,
}

/// An answer, or a piece of one.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LegacyAnswer")]
pub struct Answer {
    /// Always `rkllm_chat`.
    pub id: ChatObject,
    /// Always `rkllm_chat`.
    pub object: ChatObject,
    /// When, in seconds since 1970.
    pub created: u64,
    /// One.
    pub choices: Vec<Choice>,
    /// Token counts; of a piece, those so far.
    pub usage: Usage,
}

impl EventData for Answer {
    const STREAM_DESCRIPTION: &'static str = "Pieces, each a LegacyAnswer on a line of its own \
         with an empty line behind it; `{\"error\": …}` where the answer breaks off.";
}

/// What is said.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LegacyChoice", skip_serializing_if_is_none)]
pub struct Choice {
    /// Always `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
    /// Always null.
    pub logprobs: Nullable<f64>,
    /// Why it ended: `stop` or `length`; null while it has not.
    pub finish_reason: Nullable<String>,
    /// The form that was asked for, where the answer has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<JsonValue>,
    /// The answer as JSON, where it was to be that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parsed: Option<JsonValue>,
}

/// Token counts.
#[derive(Debug, Clone, Copy, Default, Object, Serialize)]
#[oai(rename = "LegacyUsage")]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub completion_tokens: u32,
    /// Tokens of the answer in a second.
    pub tokens_per_second: f64,
    /// Both.
    pub total_tokens: u32,
}

/// A model to be fetched.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "LegacyPullRequest", example, skip_serializing_if_is_none)]
pub struct PullRequest {
    /// `org/repo/file.rkllm`, with or without `hf/` in front; or all that `/api/pull` takes.
    #[oai(nullable)]
    pub model: Option<String>,
    /// What the model is called here. Default: the repository's or the file's name.
    #[oai(nullable)]
    pub model_name: Option<String>,
}

impl Example for PullRequest {
    fn example() -> Self {
        Self { model: Some("hf/org/repo/model.rkllm".to_owned()), model_name: None }
    }
}

/// A model to be removed.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "LegacyRemoveRequest", example, skip_serializing_if_is_none)]
pub struct RemoveRequest {
    /// Its name, with or without `.rkllm`.
    #[oai(nullable)]
    pub model: Option<String>,
}

impl Example for RemoveRequest {
    fn example() -> Self {
        Self { model: Some("demo-copy".to_owned()) }
    }
}

/// An answer that a client has received, to be looked at.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "LegacyDebugRequest", example, skip_serializing_if_is_none)]
pub struct DebugRequest {
    /// The lines of `/api/generate` or `/api/chat`, as they came.
    #[oai(nullable)]
    pub stream_data: Option<String>,
}

impl Example for DebugRequest {
    fn example() -> Self {
        Self { stream_data: Some("{\"response\":\"Hi\",\"done\":true}\n".to_owned()) }
    }
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LegacyDebug", skip_serializing_if_is_none)]
pub struct Debugged {
    /// `ok` or `error`.
    pub status: String,
    /// That all is well, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What is wrong, line by line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issues: Option<Vec<String>>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommendation: Option<String>,
}
