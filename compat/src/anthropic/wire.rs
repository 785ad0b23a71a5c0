//! The wire types: what Anthropic's clients send and get. `///` comments here are published.

use std::fmt;

use poem_openapi::{Enum, Object, types::Example};
use rkllama_http::{
    EventData, JsonObject, JsonValue, Nullable, document_one_of, read_from_object, read_from_string,
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor, value::SeqAccessDeserializer},
};

/// A conversation to be answered.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "AnthropicRequest", example, skip_serializing_if_is_none)]
pub struct MessagesRequest {
    /// The model. For a name that nobody knows the server's fallback answers, where it has one.
    #[oai(nullable)]
    pub model: Option<String>,
    /// Oldest first. Where the last one is the assistant's, the answer goes on with it.
    pub messages: Vec<InputMessage>,
    /// Most tokens of the answer, what the model thinks among them. Not used to count tokens.
    #[oai(nullable, validator(minimum(value = "1")))]
    pub max_tokens: Option<i64>,
    /// Instructions: a text, or blocks of text.
    pub system: Option<Nullable<InputContent>>,
    /// Whether the answer comes as events. Default false.
    #[oai(nullable)]
    pub stream: Option<bool>,
    /// From 0 to 1.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "1")))]
    pub temperature: Option<f64>,
    /// From 0 to 1.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "1")))]
    pub top_p: Option<f64>,
    /// Number of most likely tokens to choose from; 0 means all.
    #[oai(nullable, validator(minimum(value = "0")))]
    pub top_k: Option<i64>,
    /// Texts that end the answer.
    #[oai(nullable)]
    pub stop_sequences: Option<Vec<String>>,
    /// Functions that the model may call. Those that Anthropic's own servers run are refused.
    #[oai(nullable)]
    pub tools: Option<Vec<ToolDefinition>>,
    /// Whether it calls them. Default `auto`.
    pub tool_choice: Option<Nullable<ToolChoice>>,
    /// Whether the model thinks first, where its template leaves the choice. Default: it does not.
    pub thinking: Option<Nullable<Thinking>>,
    /// How much it thinks, and the form of its answer.
    pub output_config: Option<Nullable<OutputConfig>>,
    /// Ignored and named.
    #[oai(nullable)]
    pub metadata: Option<JsonObject>,
    /// Ignored and named.
    #[oai(nullable)]
    pub service_tier: Option<String>,
    /// Refused unless it is empty: nobody runs servers of tools here.
    #[oai(nullable)]
    pub mcp_servers: Option<Vec<JsonValue>>,
}

impl Example for MessagesRequest {
    fn example() -> Self {
        let text = "Say hello in one word.".to_owned();
        Self {
            model: Some("demo".to_owned()),
            messages: vec![InputMessage {
                role: InputRole::User,
                content: InputContent::Text(text),
            }],
            max_tokens: Some(256),
            ..Self::default()
        }
    }
}

/// A message of a conversation.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "AnthropicInputMessage")]
pub struct InputMessage {
    /// Who speaks.
    pub role: InputRole,
    /// A text, or blocks.
    pub content: InputContent,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename = "AnthropicInputRole", rename_all = "lowercase")]
#[serde(rename_all = "lowercase", remote = "Self")]
pub enum InputRole {
    /// The person, or results of calls.
    User,
    /// The model.
    Assistant,
    /// Instructions in the middle of a conversation.
    System,
}

/// What is said.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum InputContent {
    /// A text.
    Text(String),
    /// Blocks.
    Blocks(Vec<InputBlock>),
}

/// By hand: serde's `untagged` keeps no JSON as it is written, and names no field.
impl<'de> Deserialize<'de> for InputContent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = InputContent;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of blocks")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<InputContent, E> {
                Ok(InputContent::Text(text.to_owned()))
            }
            fn visit_string<E: serde::de::Error>(self, text: String) -> Result<InputContent, E> {
                Ok(InputContent::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, blocks: A) -> Result<InputContent, A::Error> {
                let blocks = SeqAccessDeserializer::new(blocks);
                Vec::deserialize(blocks).map(InputContent::Blocks)
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

impl Default for InputContent {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

document_one_of!(InputContent, "A text, or an array of blocks.", [String, Vec<InputBlock>]);

/// A block of a message.
#[derive(Debug, Clone, Default, Object, Serialize, Deserialize)]
#[oai(rename = "AnthropicInputBlock", skip_serializing_if_is_none)]
pub struct InputBlock {
    /// `text`, `thinking`, `redacted_thinking`, `tool_use`, `tool_result`, `image` or `document`.
    /// Documents are taken as plain text only, images by models that see.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: String,
    /// Of `text`: the text.
    #[oai(nullable)]
    pub text: Option<String>,
    /// Of `thinking`: what the model thought.
    #[oai(nullable)]
    pub thinking: Option<String>,
    /// Of `tool_use`: the call's id.
    #[oai(nullable)]
    pub id: Option<String>,
    /// Of `tool_use`: the function.
    #[oai(nullable)]
    pub name: Option<String>,
    /// Of `tool_use`: the arguments.
    #[oai(nullable)]
    pub input: Option<JsonObject>,
    /// Of `tool_result`: the call whose result it is.
    #[oai(nullable)]
    pub tool_use_id: Option<String>,
    /// Of `tool_result`: a text, or blocks of text.
    pub content: Option<Nullable<Box<InputContent>>>,
    /// Of `tool_result`: whether the function failed, which the model is told.
    #[oai(nullable)]
    pub is_error: Option<bool>,
    /// Of `image` and `document`: where it comes from.
    pub source: Option<Nullable<BlockSource>>,
}

/// Where an image or a document comes from.
#[derive(Debug, Clone, Default, Object, Serialize, Deserialize)]
#[oai(rename = "AnthropicBlockSource", skip_serializing_if_is_none)]
pub struct BlockSource {
    /// Of an image `base64` or `url`, of a document `text`.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: String,
    /// The image in base64, or the text.
    #[oai(nullable)]
    pub data: Option<String>,
    /// The image's address, which the server fetches where it is allowed to.
    #[oai(nullable)]
    pub url: Option<String>,
    /// Of an image not looked at, the image tells; of a document `text/plain`.
    #[oai(nullable)]
    pub media_type: Option<String>,
}

/// A function that the model may call.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "AnthropicTool", skip_serializing_if_is_none)]
pub struct ToolDefinition {
    /// `custom`, which is the default; all others are refused.
    #[oai(nullable, rename = "type")]
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    #[oai(nullable)]
    pub description: Option<String>,
    /// The JSON Schema of its arguments.
    #[oai(nullable)]
    pub input_schema: Option<JsonObject>,
    /// Whether arguments have to follow the schema to the letter. Default false.
    #[oai(nullable)]
    pub strict: Option<bool>,
}

/// Whether functions are called.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "AnthropicToolChoice", skip_serializing_if_is_none)]
pub struct ToolChoice {
    /// How.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ToolChoiceType,
    /// With `tool`: which one.
    #[oai(nullable)]
    pub name: Option<String>,
    /// Whether an answer calls one function at most. Default false.
    #[oai(nullable)]
    pub disable_parallel_tool_use: Option<bool>,
}

/// Whether functions are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename = "AnthropicToolChoiceType", rename_all = "lowercase")]
#[serde(rename_all = "lowercase", remote = "Self")]
pub enum ToolChoiceType {
    /// As the model decides.
    Auto,
    /// At least one.
    Any,
    /// The one that is named.
    Tool,
    /// None.
    None,
}

/// Whether the model thinks.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "AnthropicThinking", skip_serializing_if_is_none)]
pub struct Thinking {
    /// Whether.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ThinkingType,
    /// Ignored: how long a model thinks is its own affair; `max_tokens` bounds both.
    #[oai(nullable)]
    pub budget_tokens: Option<i64>,
}

/// Whether the model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename = "AnthropicThinkingType", rename_all = "lowercase")]
#[serde(rename_all = "lowercase", remote = "Self")]
pub enum ThinkingType {
    /// It does.
    Enabled,
    /// As the model is used to.
    Adaptive,
    /// It does not.
    Disabled,
}

/// How much the model thinks, and the form of its answer.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "AnthropicOutputConfig", skip_serializing_if_is_none)]
pub struct OutputConfig {
    /// For templates that know levels: `low`, `medium`, `high` …
    #[oai(nullable)]
    pub effort: Option<String>,
    /// The form.
    pub format: Option<Nullable<OutputFormat>>,
}

/// The form of an answer.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "AnthropicOutputFormat")]
pub struct OutputFormat {
    /// `json_schema`.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: OutputFormatType,
    /// The JSON Schema that the answer follows.
    pub schema: JsonObject,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename = "AnthropicOutputFormatType", rename_all = "snake_case")]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum OutputFormatType {
    /// The only value.
    JsonSchema,
}

read_from_object!(
    MessagesRequest,
    InputMessage,
    ToolDefinition,
    ToolChoice,
    Thinking,
    OutputConfig,
    OutputFormat
);
read_from_string!(InputRole, ToolChoiceType, ThinkingType, OutputFormatType);

/// Always `message`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "AnthropicMessageType", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum MessageType {
    /// The only value.
    Message,
}

/// Always `assistant`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "AnthropicAnswerRole", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum AnswerRole {
    /// The only value.
    Assistant,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "AnthropicStopReason", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// By itself.
    EndTurn,
    /// At `max_tokens` or the end of the context.
    MaxTokens,
    /// At one of `stop_sequences`.
    StopSequence,
    /// With calls of functions.
    ToolUse,
}

/// Token counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Object, Serialize)]
#[oai(rename = "AnthropicUsage")]
pub struct Usage {
    /// Tokens of the prompt but for those that were in the cache.
    pub input_tokens: u32,
    /// Always 0: what is kept costs nothing more.
    pub cache_creation_input_tokens: u32,
    /// Tokens of the prompt that were in the cache.
    pub cache_read_input_tokens: u32,
    /// Tokens of the answer, what the model thought among them.
    pub output_tokens: u32,
}

/// An answer.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "AnthropicMessage")]
pub struct Message {
    /// The answer's id.
    pub id: String,
    /// Always `message`.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: MessageType,
    /// Always `assistant`.
    pub role: AnswerRole,
    /// The model's name as the request gave it.
    pub model: String,
    /// What is said, in blocks.
    pub content: Vec<AnswerBlock>,
    /// Why it ended; null while it has not.
    pub stop_reason: Nullable<StopReason>,
    /// The one of `stop_sequences` that ended it.
    pub stop_sequence: Nullable<String>,
    /// Token counts.
    pub usage: Usage,
}

/// The kind of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "AnthropicBlockType", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum BlockType {
    /// What the model thought.
    Thinking,
    /// What it says.
    Text,
    /// A call of a function.
    ToolUse,
}

/// A block of an answer.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "AnthropicAnswerBlock", skip_serializing_if_is_none)]
pub struct AnswerBlock {
    /// Its kind.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: BlockType,
    /// Of `text`: the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of `thinking`: what the model thought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// Of `thinking`: always empty, nobody signs here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Of `tool_use`: the call's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Of `tool_use`: the function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Of `tool_use`: the arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<JsonObject>,
}

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "AnthropicEventType", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// The answer begins.
    MessageStart,
    /// A block begins.
    ContentBlockStart,
    /// A piece of a block.
    ContentBlockDelta,
    /// A block ends.
    ContentBlockStop,
    /// What is known at the answer's end.
    MessageDelta,
    /// The answer has ended.
    MessageStop,
    /// The answer broke off.
    Error,
}

impl EventType {
    /// The name as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MessageStart => "message_start",
            Self::ContentBlockStart => "content_block_start",
            Self::ContentBlockDelta => "content_block_delta",
            Self::ContentBlockStop => "content_block_stop",
            Self::MessageDelta => "message_delta",
            Self::MessageStop => "message_stop",
            Self::Error => "error",
        }
    }
}

/// An event of a streamed answer.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "AnthropicEvent", skip_serializing_if_is_none)]
pub struct StreamEvent {
    /// Its kind.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Of `message_start`: the answer without anything in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// Of blocks: the block's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Of `content_block_start`: the block without anything in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_block: Option<AnswerBlock>,
    /// A piece of a block, or why the answer ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<Delta>,
    /// Of `message_delta`: token counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Of `error`: what went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorObject>,
}

impl EventData for StreamEvent {
    const STREAM_DESCRIPTION: &'static str = "Server-sent events, each with its kind as its name \
         and an AnthropicEvent as its data.";
}

/// The kind of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "AnthropicDeltaType", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum DeltaType {
    /// More text.
    TextDelta,
    /// More of what the model thinks.
    ThinkingDelta,
    /// The end of what it thought.
    SignatureDelta,
    /// More of the arguments' JSON.
    InputJsonDelta,
}

/// A piece of a block, or why the answer ended.
#[derive(Debug, Clone, Default, Object, Serialize)]
#[oai(rename = "AnthropicDelta", skip_serializing_if_is_none)]
pub struct Delta {
    /// Of a block: the piece's kind.
    #[oai(rename = "type")]
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<DeltaType>,
    /// More text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// More of what the model thinks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// Always empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// More of the arguments' JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial_json: Option<String>,
    /// Of `message_delta`: why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<StopReason>,
    /// Of `message_delta`: the one of `stop_sequences` that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_sequence: Option<Nullable<String>>,
}

/// How many tokens a conversation has.
#[derive(Debug, Clone, Copy, Object, Serialize)]
#[oai(rename = "AnthropicTokenCount")]
pub struct TokenCount {
    /// Tokens of the prompt that the model would be given. Where that is certainly too long for its
    /// context it may be a lower bound.
    pub input_tokens: u32,
}

/// Always `error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "AnthropicErrorType", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ErrorType {
    /// The only value.
    Error,
}

/// What went wrong.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "AnthropicErrorObject")]
pub struct ErrorObject {
    /// Of which kind: `invalid_request_error`, `not_found_error`, `overloaded_error` …
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: String,
    /// In words.
    pub message: String,
}

/// An error.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "AnthropicError")]
pub struct ErrorBody {
    /// Always `error`.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// What went wrong.
    pub error: ErrorObject,
}
