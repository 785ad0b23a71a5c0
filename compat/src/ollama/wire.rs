//! The wire types: what Ollama's clients send and get. `///` comments here are published.

use std::collections::BTreeMap;

use poem_openapi::{Enum, Object, types::Example};
use rkllama_http::{JsonObject, JsonValue, document_one_of};
use serde::{Deserialize, Serialize};

use super::{settings::Setting, store_wire::PresetMessage};

/// What is wrong.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaError")]
pub struct ErrorBody {
    /// In words.
    pub error: String,
}

/// A conversation to be answered.
#[derive(Debug, Clone, Default, Object)]
#[oai(rename = "OllamaChatRequest", example, skip_serializing_if_is_none)]
pub struct ChatRequest {
    /// The model's name, `:latest` or not.
    pub model: String,
    /// Oldest first. Where there is none the model is loaded, or unloaded with `keep_alive: 0`.
    #[oai(nullable)]
    pub messages: Option<Vec<ChatMessage>>,
    /// Functions that the model may call. A model whose template knows none is refused with 400.
    #[oai(nullable)]
    pub tools: Option<Vec<ToolDefinition>>,
    /// What every request for an answer has.
    #[oai(flatten)]
    pub common: Common,
}

/// What every request for an answer has.
#[derive(Debug, Clone, Default, Object)]
#[oai(rename = "OllamaCommon", skip_serializing_if_is_none)]
pub struct Common {
    /// Whether the answer comes in lines, one for each piece. Default true.
    #[oai(nullable)]
    pub stream: Option<bool>,
    /// `"json"`, or a JSON Schema that the answer follows.
    #[oai(nullable)]
    pub format: Option<JsonValue>,
    /// How long the model stays loaded afterwards: seconds or a text such as `"5m"`; 0 unloads it,
    /// a negative number keeps it.
    #[oai(nullable)]
    pub keep_alive: Option<OllamaKeepAlive>,
    /// Sampling and limits: `temperature`, `top_k`, `top_p`, `repeat_penalty`, `presence_penalty`,
    /// `frequency_penalty`, `num_predict`, `stop`. All others are ignored, `num_ctx` and `seed`
    /// among them: the context is the model's, and no runtime has a seed.
    #[oai(nullable)]
    pub options: Option<JsonObject>,
    /// Whether the model thinks first, or how much: `true`, `false`, `"low"`, `"medium"`, `"high"`,
    /// `"max"`. Default true for models that think; refused with 400 for others.
    #[oai(nullable)]
    pub think: Option<OllamaThink>,
    /// Whether the oldest messages of a conversation that is too long are left out. Default true.
    #[oai(nullable)]
    pub truncate: Option<bool>,
    /// Ignored: the context is never shifted, an answer that fills it ends with `length`.
    #[oai(nullable)]
    pub shift: Option<bool>,
    /// Whether to tell how likely the answer's tokens were, in its last line. The text is read once more
    /// for it. Ignored and named in `x-rkllama-ignored` where the runtime does not tell its scores, with
    /// pictures, and where the text is too long.
    #[oai(nullable)]
    pub logprobs: Option<bool>,
    /// From 0 to 20: how many of the likeliest tokens are told in each place.
    #[oai(nullable)]
    pub top_logprobs: Option<i64>,
    /// Answers with the prompt that the model would get, and asks it nothing.
    #[oai(nullable, rename = "_debug_render_only")]
    pub debug_render_only: Option<bool>,
}

impl Example for ChatRequest {
    fn example() -> Self {
        let message = ChatMessage {
            role: Some("user".to_owned()),
            content: Some("Say hello in one word.".to_owned()),
            ..ChatMessage::default()
        };
        Self {
            model: "demo".to_owned(),
            messages: Some(vec![message]),
            common: Common { stream: Some(false), ..Common::default() },
            ..Self::default()
        }
    }
}

/// A message of a conversation.
#[derive(Debug, Clone, Default, Object)]
#[oai(rename = "OllamaMessage", skip_serializing_if_is_none)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or `tool`, in either case. What is none of these counts as
    /// `user`.
    #[oai(nullable)]
    pub role: Option<String>,
    /// What is said.
    #[oai(nullable)]
    pub content: Option<String>,
    /// What the assistant thought.
    #[oai(nullable)]
    pub thinking: Option<String>,
    /// Pictures as base64. Refused with 400 unless the model sees.
    #[oai(nullable)]
    pub images: Option<Vec<String>>,
    /// The calls that the assistant made.
    #[oai(nullable)]
    pub tool_calls: Option<Vec<ToolCall>>,
    /// In a message of the role `tool`: the function whose result it is.
    #[oai(nullable)]
    pub tool_name: Option<String>,
    /// In a message of the role `tool`: the call that it answers.
    #[oai(nullable)]
    pub tool_call_id: Option<String>,
}

/// A call of a function.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaToolCall", skip_serializing_if_is_none)]
pub struct ToolCall {
    /// The call's id.
    #[oai(nullable)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What is called.
    pub function: CalledFunction,
}

/// What is called.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaCalledFunction", skip_serializing_if_is_none)]
pub struct CalledFunction {
    /// The call's place in its answer.
    #[oai(nullable)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// The function.
    pub name: String,
    /// Its arguments; in an answer always there.
    #[oai(nullable)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<JsonObject>,
}

/// A function that the model may call.
#[derive(Debug, Clone, Object)]
#[oai(rename = "OllamaTool", skip_serializing_if_is_none)]
pub struct ToolDefinition {
    /// `function`.
    #[oai(nullable, rename = "type")]
    pub kind: Option<String>,
    /// What it is.
    pub function: ToolFunction,
}

/// What a function is.
#[derive(Debug, Clone, Object)]
#[oai(rename = "OllamaToolFunction", skip_serializing_if_is_none)]
pub struct ToolFunction {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    #[oai(nullable)]
    pub description: Option<String>,
    /// The JSON Schema of its arguments.
    #[oai(nullable)]
    pub parameters: Option<JsonObject>,
}

/// How long a model stays loaded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OllamaKeepAlive {
    /// Seconds; a negative number means for ever.
    Seconds(f64),
    /// A length of time.
    Text(String),
}

document_one_of!(OllamaKeepAlive, "Seconds, or a text such as `\"1h30m\"`.", [f64, String]);

/// Whether a model thinks, or how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OllamaThink {
    /// Whether.
    Switch(bool),
    /// How much.
    Level(String),
}

document_one_of!(OllamaThink, "A boolean, or a level.", [bool, String]);

/// A prompt to be gone on from.
#[derive(Debug, Clone, Default, Object)]
#[oai(rename = "OllamaGenerateRequest", example, skip_serializing_if_is_none)]
pub struct GenerateRequest {
    /// The model's name, `:latest` or not.
    pub model: String,
    /// What the user says. Where it is empty the model is loaded, or unloaded with `keep_alive: 0`.
    #[oai(nullable)]
    pub prompt: Option<String>,
    /// What stands behind the gap that the model fills. For models that can.
    #[oai(nullable)]
    pub suffix: Option<String>,
    /// Instructions.
    #[oai(nullable)]
    pub system: Option<String>,
    /// A template in Go's language, in place of the model's own: `.System`, `.Prompt`, `.Suffix`,
    /// `.Messages`, `if`, `range`, `eq`, `and`, `or`. What the model thinks is then a part of its answer.
    #[oai(nullable)]
    pub template: Option<String>,
    /// The `context` of an earlier answer, to go on from. Messages of `/api/chat` do it better.
    #[oai(nullable)]
    pub context: Option<Vec<i32>>,
    /// Whether the prompt goes to the model as it is, without a template. Default false.
    #[oai(nullable)]
    pub raw: Option<bool>,
    /// Pictures as base64. Refused with 400 unless the model sees.
    #[oai(nullable)]
    pub images: Option<Vec<String>>,
    /// What every request for an answer has.
    #[oai(flatten)]
    pub common: Common,
}

impl Example for GenerateRequest {
    fn example() -> Self {
        Self {
            model: "demo".to_owned(),
            prompt: Some("Say hello in one word.".to_owned()),
            common: Common { stream: Some(false), ..Common::default() },
            ..Self::default()
        }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "OllamaDoneReason", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum DoneReason {
    /// By itself, or at a stop text; also behind calls of functions.
    Stop,
    /// At the limit of tokens or the end of the context.
    Length,
    /// It was none: the model has been loaded.
    Load,
    /// It was none: the model is being unloaded.
    Unload,
}

/// Counts, and where the time went.
#[derive(Debug, Clone, Copy, Default, Object, Serialize)]
#[oai(rename = "OllamaMetrics", skip_serializing_if_is_none)]
pub struct Metrics {
    /// Nanoseconds from the request to the answer's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_duration: Option<u64>,
    /// Nanoseconds of waiting for other requests and for the model to load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_duration: Option<u64>,
    /// Tokens of the prompt, those among them that the cache had too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_eval_count: Option<u32>,
    /// Nanoseconds until the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_eval_duration: Option<u64>,
    /// Tokens of the answer, its end and what it thought among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_count: Option<u32>,
    /// Nanoseconds from the first token to the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_duration: Option<u64>,
}

/// A piece of an answer, or an answer as a whole.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaChatResponse", skip_serializing_if_is_none)]
pub struct ChatLine {
    /// The model's name as the request gave it.
    pub model: String,
    /// When, in UTC.
    pub created_at: String,
    /// What is said.
    pub message: AnswerMessage,
    /// Whether this is all.
    pub done: bool,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_reason: Option<DoneReason>,
    /// Counts and times, where this is all.
    #[oai(flatten)]
    #[serde(flatten)]
    pub metrics: Metrics,
    /// The prompt, where only that was asked for.
    #[oai(rename = "_debug_info")]
    #[serde(rename = "_debug_info", skip_serializing_if = "Option::is_none")]
    pub debug_info: Option<DebugInfo>,
    /// With `logprobs`, in the last line and for all of the text: how likely its tokens were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogprob>>,
}

/// How likely a token of the answer was.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaTokenLogprob", skip_serializing_if_is_none)]
pub struct TokenLogprob {
    /// Its text, with U+FFFD where it is a part of a character.
    pub token: String,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// Its text in UTF-8.
    pub bytes: Vec<u8>,
    /// With `top_logprobs` above 0: the likeliest tokens in its place, the likeliest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<Vec<TopLogprob>>,
}

/// A token that could have been in a place.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaTopLogprob")]
pub struct TopLogprob {
    /// Its text, with U+FFFD where it is a part of a character.
    pub token: String,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// Its text in UTF-8.
    pub bytes: Vec<u8>,
}

impl From<rkllama_core::TokenLogprob> for TokenLogprob {
    fn from(told: rkllama_core::TokenLogprob) -> Self {
        let top = |(token, logprob): (rkllama_core::TokenText, f32)| TopLogprob {
            token: token.text(),
            logprob: logprob.into(),
            bytes: token.bytes,
        };
        let top: Vec<_> = told.top.into_iter().map(top).collect();
        Self {
            token: told.token.text(),
            // Only the first token of a prompt has none.
            logprob: told.logprob.unwrap_or_default().into(),
            bytes: told.token.bytes,
            top_logprobs: (!top.is_empty()).then_some(top),
        }
    }
}

/// What is said.
#[derive(Debug, Clone, Default, Object, Serialize)]
#[oai(rename = "OllamaAnswerMessage", skip_serializing_if_is_none)]
pub struct AnswerMessage {
    /// `assistant`.
    pub role: String,
    /// The answer, possibly empty.
    pub content: String,
    /// What the model thought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// Calls of functions, each complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
}

/// The prompt that the model would get.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaDebugInfo", skip_serializing_if_is_none)]
pub struct DebugInfo {
    /// Its text.
    pub rendered_template: String,
    /// Pictures in it, where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_count: Option<u32>,
}

/// A piece of an answer, or an answer as a whole.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaGenerateResponse", skip_serializing_if_is_none)]
pub struct GenerateLine {
    /// The model's name as the request gave it.
    pub model: String,
    /// When, in UTC.
    pub created_at: String,
    /// The answer, possibly empty.
    pub response: String,
    /// What the model thought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// Whether this is all.
    pub done: bool,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_reason: Option<DoneReason>,
    /// The tokens of prompt and answer, to go on from. Not with `raw`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Vec<i32>>,
    /// Counts and times, where this is all.
    #[oai(flatten)]
    #[serde(flatten)]
    pub metrics: Metrics,
    /// The prompt, where only that was asked for.
    #[oai(rename = "_debug_info")]
    #[serde(rename = "_debug_info", skip_serializing_if = "Option::is_none")]
    pub debug_info: Option<DebugInfo>,
    /// With `logprobs`, in the last line and for all of the text: how likely its tokens were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogprob>>,
}

/// Texts to be read into vectors.
#[derive(Debug, Clone, Object)]
#[oai(rename = "OllamaEmbedRequest", example, skip_serializing_if_is_none)]
pub struct EmbedRequest {
    /// The model's name, `:latest` or not.
    pub model: String,
    /// A text or several. Where there is none the model is loaded.
    #[oai(nullable)]
    pub input: Option<OllamaTexts>,
    /// Whether a text that is too long loses its end instead of being refused. Default true.
    #[oai(nullable)]
    pub truncate: Option<bool>,
    /// How many numbers of each vector are wanted, which are then brought to length 1 again; more
    /// than there are means all.
    #[oai(nullable)]
    pub dimensions: Option<i64>,
    /// How long the model stays loaded afterwards.
    #[oai(nullable)]
    pub keep_alive: Option<OllamaKeepAlive>,
    /// Checked and ignored: none of them is about vectors.
    #[oai(nullable)]
    pub options: Option<JsonObject>,
}

impl Example for EmbedRequest {
    fn example() -> Self {
        Self {
            model: "demo".to_owned(),
            input: Some(OllamaTexts::One("An NPU is a processor.".to_owned())),
            truncate: None,
            dimensions: None,
            keep_alive: None,
            options: None,
        }
    }
}

/// A text or several.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OllamaTexts {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

document_one_of!(OllamaTexts, "A text, or several.", [String, Vec<String>]);

/// Vectors.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaEmbedResponse", skip_serializing_if_is_none)]
pub struct EmbedAnswer {
    /// The model's name as the request gave it.
    pub model: String,
    /// One for each text, in their order, each of length 1.
    pub embeddings: Vec<Vec<f32>>,
    /// Nanoseconds from the request to the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_duration: Option<u64>,
    /// Nanoseconds of it for which the model was not there yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_duration: Option<u64>,
    /// Tokens that were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_eval_count: Option<u32>,
}

/// A text to be read into a vector.
#[derive(Debug, Clone, Default, Object)]
#[oai(rename = "OllamaEmbeddingsRequest", example, skip_serializing_if_is_none)]
pub struct EmbeddingsRequest {
    /// The model's name, `:latest` or not.
    pub model: String,
    /// The text. Where it is empty the model is loaded.
    #[oai(nullable)]
    pub prompt: Option<String>,
    /// How long the model stays loaded afterwards.
    #[oai(nullable)]
    pub keep_alive: Option<OllamaKeepAlive>,
    /// Checked and ignored.
    #[oai(nullable)]
    pub options: Option<JsonObject>,
}

impl Example for EmbeddingsRequest {
    fn example() -> Self {
        let prompt = Some("An NPU is a processor.".to_owned());
        Self { model: "demo".to_owned(), prompt, ..Self::default() }
    }
}

/// A vector.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaEmbeddingsResponse")]
pub struct EmbeddingsAnswer {
    /// The vector, of length 1; empty where there was no text.
    pub embedding: Vec<f32>,
}

/// The server's version, as one of Ollama's: the one whose API this is.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaVersion")]
pub struct Version {
    /// `x.y.z`.
    pub version: String,
}

/// Whether this server would ask others: never.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaStatus")]
pub struct Status {
    /// Of models elsewhere.
    pub cloud: Cloud,
}

/// Of models elsewhere.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaCloud")]
pub struct Cloud {
    /// Always true.
    pub disabled: bool,
    /// Who says so: `none`, since it is nobody's choice.
    pub source: String,
}

/// What a model is.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaDetails", skip_serializing_if_is_none)]
pub struct Details {
    /// The model it was made from, if it was made from one here.
    pub parent_model: String,
    /// `rkllm`.
    pub format: String,
    /// The architecture, where it is known.
    pub family: String,
    /// The architectures; `bert` among them marks a model that is made for vectors.
    pub families: Vec<String>,
    /// How many parameters, where the name says it.
    pub parameter_size: String,
    /// How the weights are stored, where the name says it.
    pub quantization_level: String,
    /// Tokens of the context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
}

/// What a model can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "OllamaCapability", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// It answers.
    Completion,
    /// Its template knows tools.
    Tools,
    /// It fills gaps.
    Insert,
    /// It sees.
    Vision,
    /// It finds places on pictures of screens. Not Ollama's.
    #[oai(rename = "gui_actor")]
    #[serde(rename = "gui_actor")]
    GuiActor,
    /// It makes vectors.
    Embedding,
    /// It thinks before it answers.
    Thinking,
}

/// The models on this server.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaTags")]
pub struct Tags {
    /// The latest first.
    pub models: Vec<TagsModel>,
}

/// A model.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaTagsModel")]
pub struct TagsModel {
    /// Its name, with a tag.
    pub name: String,
    /// The same.
    pub model: String,
    /// When its file was last written, in UTC.
    pub modified_at: String,
    /// The file's size, in bytes.
    pub size: u64,
    /// 64 hexadecimal digits that are this model's alone and change with its file.
    pub digest: String,
    /// What it is.
    pub details: Details,
    /// What it is made for. `/api/show` knows more.
    pub capabilities: Vec<Capability>,
}

/// The models that are loaded.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaProcesses")]
pub struct Processes {
    /// The one that stays longest first.
    pub models: Vec<ProcessModel>,
}

/// A model that is loaded.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaProcessModel")]
pub struct ProcessModel {
    /// Its name, with a tag.
    pub name: String,
    /// The same.
    pub model: String,
    /// The memory it is planned with, in bytes.
    pub size: u64,
    /// As in `/api/tags`.
    pub digest: String,
    /// What it is.
    pub details: Details,
    /// When it is unloaded if nobody asks it, in UTC. Hundreds of years ahead means never.
    pub expires_at: String,
    /// As `size`: all of it is where the NPU works.
    pub size_vram: u64,
    /// Tokens of the context.
    pub context_length: u32,
}

/// Which model is to be shown.
#[derive(Debug, Clone, Default, Object)]
#[oai(rename = "OllamaShowRequest", example, skip_serializing_if_is_none)]
pub struct ShowRequest {
    /// The model's name, `:latest` or not.
    #[oai(nullable)]
    pub model: Option<String>,
    /// The same, as older clients say it.
    #[oai(nullable)]
    pub name: Option<String>,
    /// Ignored: nothing is left out.
    #[oai(nullable)]
    pub verbose: Option<bool>,
}

impl Example for ShowRequest {
    fn example() -> Self {
        Self { model: Some("demo".to_owned()), ..Self::default() }
    }
}

/// All about a model.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "OllamaShow", skip_serializing_if_is_none)]
pub struct Show {
    /// The model in the words of a Modelfile.
    pub modelfile: String,
    /// Its parameters, one in each line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
    /// Its chat template.
    pub template: String,
    /// Where each of its parameters is said: a file's name. What is not here is nobody's word but
    /// this server's. Ollama does not have this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<BTreeMap<String, String>>,
    /// What else counts for it and who says so. Ollama does not have this field.
    pub settings: Vec<Setting>,
    /// Its licences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// What it is told before everything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Turns that stand before every conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<PresetMessage>>,
    /// What it is.
    pub details: Details,
    /// Sizes by names such as `qwen3.context_length`.
    pub model_info: JsonObject,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// When its file was last written, in UTC.
    pub modified_at: String,
}
