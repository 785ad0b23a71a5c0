//! The request for a chat completion: every field of OpenAI's, and a few of other servers'.

use std::fmt;

use poem_openapi::{Enum, Object, registry::MetaSchema, types::Example};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor, value},
};

use super::{
    AnyObject, AnyValue, ChatMessage, MessageContent, MessageRole, Nullable,
    primitive::{document_one_of, read_from_object, read_from_string},
};

/// A conversation to continue.
///
/// Fields fall into three classes. Most are honoured. Some are *ignored and named*: they cannot
/// matter here or the runtime has no knob for them; the response header `x-rkllama-ignored` lists
/// those that a request used. A few are *refused* with 400, since without them the answer would be
/// wrong. Fields that are not listed here are ignored. `null` means absent everywhere.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(example, skip_serializing_if_is_none)]
pub struct ChatCompletionRequest {
    /// The model, by its id in `GET /v1/models`. Where absent: the server's fallback, else the
    /// only model there is.
    #[oai(nullable)]
    pub model: Option<String>,
    /// The conversation so far, oldest message first.
    #[oai(validator(min_items = 1))]
    pub messages: Vec<ChatMessage>,
    /// Answer with server-sent events, a chunk for each piece of text, and `data: [DONE]` at the
    /// end. Default false.
    #[oai(nullable)]
    pub stream: Option<bool>,
    /// Options of a streamed answer; ignored without `stream`.
    pub stream_options: Option<Nullable<StreamOptions>>,
    /// Softmax temperature; 0 always takes the most likely token. Default: the model's own.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "2")))]
    pub temperature: Option<f64>,
    /// Sample from the most likely tokens that together have this probability. Default: the
    /// model's own.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "1")))]
    pub top_p: Option<f64>,
    /// Lowers the probability of tokens that have occurred at all. Default 0.
    #[oai(nullable, validator(minimum(value = "-2"), maximum(value = "2")))]
    pub presence_penalty: Option<f64>,
    /// Lowers the probability of tokens with each time they have occurred. Default 0.
    #[oai(nullable, validator(minimum(value = "-2"), maximum(value = "2")))]
    pub frequency_penalty: Option<f64>,
    /// Most tokens of the answer. 0 answers with nothing; a negative number means until the
    /// context is full. Wins over `max_tokens`.
    #[oai(nullable)]
    pub max_completion_tokens: Option<i64>,
    /// Older name of `max_completion_tokens`.
    #[oai(nullable, deprecated)]
    pub max_tokens: Option<i64>,
    /// Texts that end the answer and are no part of it: at most 64, each of at most 4096 bytes.
    pub stop: Option<Nullable<Stop>>,
    /// Number of answers. More than 1 is refused with 400.
    #[oai(nullable, validator(minimum(value = "1"), maximum(value = "128")))]
    pub n: Option<i64>,
    /// Sample from this many most likely tokens; 0 and negative numbers from all of them. Default:
    /// the model's own. Known from llama-server and vLLM.
    #[oai(nullable)]
    pub top_k: Option<i64>,
    /// Divides the score of tokens already present; 1 is off. Known from llama-server.
    #[oai(nullable, validator(minimum(value = "0.01"), maximum(value = "10")))]
    pub repeat_penalty: Option<f64>,
    /// vLLM's name of `repeat_penalty`, which wins over it.
    #[oai(nullable, validator(minimum(value = "0.01"), maximum(value = "10")))]
    pub repetition_penalty: Option<f64>,

    /// How long the model stays loaded afterwards: seconds, or a text such as `"5m"`; 0 unloads it
    /// at once, a negative number keeps it. Known from Ollama.
    pub keep_alive: Option<Nullable<KeepAlive>>,

    /// Functions the model may call. A non-empty array is refused with 400, unless `tool_choice`
    /// is `none`.
    #[oai(nullable)]
    pub tools: Option<Vec<Tool>>,
    /// Which tool to call. Anything but `none` and `auto` is refused with 400.
    pub tool_choice: Option<Nullable<ToolChoice>>,
    /// The form of the answer. Anything but `{"type": "text"}` is refused with 400.
    pub response_format: Option<Nullable<ResponseFormat>>,
    /// What to answer with. `audio` is refused with 400.
    #[oai(nullable)]
    pub modalities: Option<Vec<Modality>>,

    /// Ignored and named: the runtime draws its own random numbers.
    #[oai(nullable, deprecated)]
    pub seed: Option<i64>,
    /// Ignored and named: the runtime samples where the server cannot reach its scores.
    #[oai(nullable)]
    pub logit_bias: Option<AnyObject>,
    /// Ignored and named when true: `choices[].logprobs` is null.
    #[oai(nullable)]
    pub logprobs: Option<bool>,
    /// Ignored and named, as `logprobs`.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "20")))]
    pub top_logprobs: Option<i64>,
    /// Ignored and named: the runtime has no such filter. Known from llama-server and vLLM.
    #[oai(nullable)]
    pub min_p: Option<f64>,
    /// Ignored and named when false: no tools are called.
    #[oai(nullable)]
    pub parallel_tool_calls: Option<bool>,
    /// Ignored and named: `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`.
    #[oai(nullable)]
    pub reasoning_effort: Option<String>,
    /// Ignored and named: `low`, `medium` or `high`.
    #[oai(nullable)]
    pub verbosity: Option<String>,
    /// Ignored and named: a prediction of the answer. It would save time only.
    #[oai(nullable)]
    pub prediction: Option<AnyObject>,
    /// Ignored and named: there is one tier. `auto` and `default` are not named.
    #[oai(nullable)]
    pub service_tier: Option<String>,
    /// Ignored and named when true: nothing is stored.
    #[oai(nullable)]
    pub store: Option<bool>,
    /// Ignored and named: nothing is stored that it could describe.
    #[oai(nullable)]
    pub metadata: Option<AnyObject>,
    /// Ignored and named: an id of the person who asks.
    #[oai(nullable, deprecated)]
    pub user: Option<String>,
    /// Ignored and named: an id of the person who asks.
    #[oai(nullable)]
    pub safety_identifier: Option<String>,
    /// Ignored and named: the runtime finds what it can reuse by itself.
    #[oai(nullable)]
    pub prompt_cache_key: Option<String>,
    /// Ignored and named, as `prompt_cache_key`.
    #[oai(nullable)]
    pub prompt_cache_options: Option<AnyObject>,
    /// Ignored and named, as `prompt_cache_key`.
    #[oai(nullable)]
    pub prompt_cache_retention: Option<String>,
    /// Ignored and named: the server does not search.
    #[oai(nullable)]
    pub web_search_options: Option<AnyObject>,
    /// Ignored and named: the server does not moderate.
    #[oai(nullable)]
    pub moderation: Option<AnyObject>,
    /// Ignored and named: the voice of an answer in sound.
    #[oai(nullable)]
    pub audio: Option<AnyObject>,
    /// Ignored and named: the deprecated form of `tools`.
    #[oai(nullable, deprecated)]
    pub functions: Option<Vec<AnyObject>>,
    /// Ignored and named: the deprecated form of `tool_choice`, a string or an object.
    #[oai(deprecated)]
    pub function_call: Option<AnyValue>,
}

impl Example for ChatCompletionRequest {
    fn example() -> Self {
        let message = |role, text: &str| ChatMessage {
            role,
            content: Some(Nullable(Some(MessageContent::Text(text.to_owned())))),
            name: None,
            refusal: None,
            tool_call_id: None,
            tool_calls: None,
            function_call: None,
            audio: None,
        };
        Self {
            model: Some("Qwen3-0.6B".to_owned()),
            messages: vec![
                message(MessageRole::System, "Answer in one sentence."),
                message(MessageRole::User, "What is an NPU?"),
            ],
            max_completion_tokens: Some(128),
            temperature: Some(0.7),
            stream: Some(false),
            ..Self::default()
        }
    }
}

/// Options of a streamed answer.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct StreamOptions {
    /// Send one more chunk before `[DONE]`, with `usage` and without choices.
    #[oai(nullable)]
    pub include_usage: Option<bool>,
    /// Ignored and named when true: chunks are not padded.
    #[oai(nullable)]
    pub include_obfuscation: Option<bool>,
}

/// What kind of tool it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum ToolType {
    /// A function with JSON arguments.
    Function,
    /// A tool with text arguments.
    Custom,
}

/// A tool the model may call.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct Tool {
    /// What kind of tool it is.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ToolType,
    /// The function of a `function` tool.
    pub function: Option<Nullable<FunctionDefinition>>,
    /// `{"name", "description", "format"}` of a `custom` tool.
    #[oai(nullable)]
    pub custom: Option<AnyObject>,
}

/// A function the model may call.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct FunctionDefinition {
    /// Its name: at most 64 letters, digits, underscores and dashes.
    pub name: String,
    /// What it does, for the model.
    #[oai(nullable)]
    pub description: Option<String>,
    /// Its arguments, as a JSON Schema.
    #[oai(nullable)]
    pub parameters: Option<AnyObject>,
    /// Whether arguments must follow the schema.
    #[oai(nullable)]
    pub strict: Option<bool>,
}

/// Whether tools are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum ToolChoiceMode {
    /// Never.
    None,
    /// As the model decides.
    Auto,
    /// Always.
    Required,
}

/// Which tool to call.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum ToolChoice {
    /// By mode.
    Mode(#[serde(serialize_with = "serialize_mode")] ToolChoiceMode),
    /// By name.
    Named(AnyObject),
}

// `remote = "Self"` leaves the mode without the trait; the document needs the value only.
fn serialize_mode<S: serde::Serializer>(
    mode: &ToolChoiceMode,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    use poem_openapi::types::ToJSON;
    mode.to_json().serialize(serializer)
}

impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChoiceVisitor;
        impl<'de> Visitor<'de> for ChoiceVisitor {
            type Value = ToolChoice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of a string or an object")
            }
            fn visit_str<E: de::Error>(self, mode: &str) -> Result<ToolChoice, E> {
                ToolChoiceMode::deserialize(mode.into_deserializer()).map(ToolChoice::Mode)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ToolChoice, A::Error> {
                AnyObject::deserialize(value::MapAccessDeserializer::new(map))
                    .map(ToolChoice::Named)
            }
        }
        deserializer.deserialize_any(ChoiceVisitor)
    }
}

document_one_of!(
    ToolChoice,
    "A mode, or an object that names a tool or restricts the tools.",
    [ToolChoiceMode, AnyObject]
);

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum ResponseFormatType {
    /// Plain text.
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON after a schema.
    JsonSchema,
}

/// The form of the answer.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ResponseFormat {
    /// The form.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ResponseFormatType,
    /// `{"name", "description", "schema", "strict"}` with `json_schema`.
    #[oai(nullable)]
    pub json_schema: Option<AnyObject>,
}

/// What an answer consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum Modality {
    /// Text.
    Text,
    /// Sound.
    Audio,
}

/// Stop texts of one request. Each is searched for in all that is generated; OpenAI takes 4,
/// llama-server's clients send a few dozen.
pub const STOP_TEXTS_MAX: usize = 64;
/// Bytes of one stop text. As many have to be held back while they may be its beginning, and no
/// model says so much by accident.
pub const STOP_TEXT_BYTES_MAX: usize = 4096;

/// What the document can say of a text's length: it counts characters, which are never more.
fn stop_text_bounds() -> MetaSchema {
    MetaSchema { max_length: Some(STOP_TEXT_BYTES_MAX), ..MetaSchema::ANY }
}

/// Texts that end an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Stop {
    /// One.
    One(String),
    /// Up to [`STOP_TEXTS_MAX`].
    Several(Vec<String>),
}

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StopVisitor;
        impl<'de> Visitor<'de> for StopVisitor {
            type Value = Stop;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of a string or an array of strings")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Stop, E> {
                Ok(Stop::One(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Stop, A::Error> {
                let mut texts = Vec::new();
                while texts.len() < STOP_TEXTS_MAX {
                    match seq.next_element()? {
                        Some(text) => texts.push(text),
                        None => return Ok(Stop::Several(texts)),
                    }
                }
                // Counted and not kept: a body may hold millions.
                let mut len = texts.len();
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    len += 1;
                }
                if len == STOP_TEXTS_MAX {
                    return Ok(Stop::Several(texts));
                }
                let expected = format!("an array with maximum length {STOP_TEXTS_MAX}");
                Err(de::Error::invalid_length(len, &&*expected))
            }
        }
        deserializer.deserialize_any(StopVisitor)
    }
}

document_one_of!(
    Stop,
    "One text, or up to 64 of them, each of at most 4096 bytes. Empty texts are dropped.",
    [
        String: stop_text_bounds(),
        Vec<String>: MetaSchema {
            items: Some(Box::new(String::schema_ref().merge(stop_text_bounds()))),
            max_items: Some(STOP_TEXTS_MAX),
            ..MetaSchema::ANY
        }
    ]
);

/// A length of time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum KeepAlive {
    /// Seconds; negative means for ever.
    Seconds(f64),
    /// A number with units: `300ms`, `5m`, `1h30m`.
    Text(String),
}

impl<'de> Deserialize<'de> for KeepAlive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeepAliveVisitor;
        impl Visitor<'_> for KeepAliveVisitor {
            type Value = KeepAlive;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of a number or a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<KeepAlive, E> {
                Ok(KeepAlive::Text(text.to_owned()))
            }
            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<KeepAlive, E> {
                Ok(KeepAlive::Seconds(seconds))
            }
            #[allow(clippy::cast_precision_loss, reason = "seconds beyond 2^53 are for ever")]
            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<KeepAlive, E> {
                Ok(KeepAlive::Seconds(seconds as f64))
            }
            #[allow(clippy::cast_precision_loss, reason = "seconds beyond 2^53 are for ever")]
            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<KeepAlive, E> {
                Ok(KeepAlive::Seconds(seconds as f64))
            }
        }
        deserializer.deserialize_any(KeepAliveVisitor)
    }
}

document_one_of!(
    KeepAlive,
    "Seconds, or a number with units such as `5m`. 0 means not at all, negative for ever.",
    [f64, String]
);

read_from_object!(ChatCompletionRequest, StreamOptions, Tool, FunctionDefinition, ResponseFormat);
read_from_string!(ToolType, ToolChoiceMode, ResponseFormatType, Modality);
