//! The wire types: what llama-server's clients send and get. `///` comments here are published.

use poem_openapi::{Enum, Object, types::Example};
use rkllama_http::{EventData, JsonObject, JsonValue, Nullable, document_one_of, read_from_object};
use serde::{Deserialize, Serialize};

use crate::messages::{PlainMessage, PlainTool};

/// The server's version, where vLLM's clients ask for it.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "ServerVersion")]
pub struct ServerVersion {
    /// `x.y.z`.
    pub version: String,
}

/// A text to be gone on from, or a gap to be filled.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "LlamaCompletionRequest", example, skip_serializing_if_is_none)]
pub struct CompletionRequest {
    /// The model. Where absent: the server's fallback, else the only model there is.
    #[oai(nullable)]
    pub model: Option<String>,
    /// A text, or token ids. Of `/infill`: what follows `input_prefix`.
    pub prompt: Option<Nullable<Prompt>>,
    /// Of `/infill`: what stands before the gap.
    #[oai(nullable)]
    pub input_prefix: Option<String>,
    /// Of `/infill`: what stands behind it.
    #[oai(nullable)]
    pub input_suffix: Option<String>,
    /// Most tokens of the answer; negative means until the end of the context, 0 none.
    #[oai(nullable)]
    pub n_predict: Option<i64>,
    /// Whether the answer comes as events. Default false.
    #[oai(nullable)]
    pub stream: Option<bool>,
    /// As near as the knob goes, which is from 0 to 2.
    #[oai(nullable)]
    pub temperature: Option<f64>,
    /// As near as the knob goes, which is from 0 to 1.
    #[oai(nullable)]
    pub top_p: Option<f64>,
    /// Number of most likely tokens to choose from; 0 and less mean all.
    #[oai(nullable)]
    pub top_k: Option<i64>,
    /// As near as the knob goes, which is from 0.01 to 10.
    #[oai(nullable)]
    pub repeat_penalty: Option<f64>,
    /// As near as the knob goes, which is from -2 to 2.
    #[oai(nullable)]
    pub frequency_penalty: Option<f64>,
    /// As near as the knob goes, which is from -2 to 2.
    #[oai(nullable)]
    pub presence_penalty: Option<f64>,
    /// Texts that end the answer.
    #[oai(nullable)]
    pub stop: Option<Vec<String>>,
    /// A JSON Schema that the answer follows.
    #[oai(nullable)]
    pub json_schema: Option<JsonObject>,
    /// Refused unless it is empty.
    #[oai(nullable)]
    pub grammar: Option<String>,
    /// Ignored and named.
    #[oai(nullable)]
    pub seed: Option<i64>,
    /// Ignored and named.
    #[oai(nullable)]
    pub min_p: Option<f64>,
    /// Above 0: how likely the tokens were, with so many of the likeliest in each place, at most 100. Ignored
    /// and named (as `logprobs`) where the runtime does not tell its scores.
    #[oai(nullable)]
    pub n_probs: Option<i64>,
    /// Ignored and named.
    #[oai(nullable)]
    pub logit_bias: Option<JsonValue>,
    /// Whether the end of the sequence is gone over. Named as ignored where the runtime cannot.
    #[oai(nullable)]
    pub ignore_eos: Option<bool>,
}

impl Example for CompletionRequest {
    fn example() -> Self {
        let prompt = Some(Nullable(Some(Prompt::Text("Once upon a time".to_owned()))));
        Self { prompt, n_predict: Some(16), ..Self::default() }
    }
}

/// What is gone on from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged, expecting = "a string or an array of token ids")]
pub enum Prompt {
    /// A text.
    Text(String),
    /// Token ids.
    Tokens(Vec<i32>),
}

document_one_of!(Prompt, "A text, or token ids.", [String, Vec<i32>]);

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "LlamaStopType", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum StopType {
    /// It has not.
    None,
    /// By itself.
    Eos,
    /// At a limit.
    Limit,
    /// At one of `stop`.
    Word,
}

/// Times, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Object, Serialize)]
#[oai(rename = "LlamaTimings")]
pub struct Timings {
    /// Prompt tokens that were in the cache.
    pub cache_n: u32,
    /// Prompt tokens that had to be read.
    pub prompt_n: u32,
    /// Reading them.
    pub prompt_ms: f64,
    /// Reading one of them.
    pub prompt_per_token_ms: f64,
    /// How many were read in a second.
    pub prompt_per_second: f64,
    /// Tokens of the answer.
    pub predicted_n: u32,
    /// From the first to the last.
    pub predicted_ms: f64,
    /// From one to the next.
    pub predicted_per_token_ms: f64,
    /// How many in a second, the first not counted.
    pub predicted_per_second: f64,
}

/// An answer, or a piece of one.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LlamaCompletion", skip_serializing_if_is_none)]
pub struct Completion {
    /// Always 0.
    pub index: u32,
    /// What the model says.
    pub content: String,
    /// Always empty.
    pub tokens: Vec<i32>,
    /// Always 0: a model answers one request at a time.
    pub id_slot: u32,
    /// Whether this is all.
    pub stop: bool,
    /// The model's name.
    pub model: String,
    /// Tokens of the answer.
    pub tokens_predicted: u32,
    /// Tokens of the prompt.
    pub tokens_evaluated: u32,
    /// Of an answer that is all there: what it was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_settings: Option<Settings>,
    /// Of an answer that is all there: the prompt, where it was a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Of an answer that is all there: whether it has more than one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_new_line: Option<bool>,
    /// Always false: a prompt that is too long is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
    /// Of an answer that is all there: why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_type: Option<StopType>,
    /// Of an answer that is all there: the one of `stop` that ended it, else empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping_word: Option<String>,
    /// Of an answer that is all there: tokens of the prompt that were in the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_cached: Option<u32>,
    /// Of an answer that is all there: where the time went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// With `n_probs`, of an answer that is all there: how likely its tokens were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_probabilities: Option<Vec<TokenProbability>>,
}

/// How likely a token of the answer was.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LlamaTokenProbability")]
pub struct TokenProbability {
    /// Its id.
    pub id: i32,
    /// Its text, with U+FFFD where it is a part of a character.
    pub token: String,
    /// Its text in UTF-8.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// The likeliest tokens in its place, the likeliest first.
    pub top_logprobs: Vec<LikelyToken>,
}

/// A token that could have been in a place.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LlamaLikelyToken")]
pub struct LikelyToken {
    /// Its id.
    pub id: i32,
    /// Its text, with U+FFFD where it is a part of a character.
    pub token: String,
    /// Its text in UTF-8.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f64,
}

impl From<rkllama_core::TokenLogprob> for TokenProbability {
    fn from(told: rkllama_core::TokenLogprob) -> Self {
        let likely = |(token, logprob): (rkllama_core::TokenText, f32)| LikelyToken {
            id: token.id,
            token: token.text(),
            bytes: token.bytes,
            logprob: logprob.into(),
        };
        Self {
            id: told.token.id,
            token: told.token.text(),
            bytes: told.token.bytes,
            // Only the first token of a prompt has none.
            logprob: told.logprob.unwrap_or_default().into(),
            top_logprobs: told.top.into_iter().map(likely).collect(),
        }
    }
}

impl EventData for Completion {
    const STREAM_DESCRIPTION: &'static str = "Server-sent events without names, each with a \
         LlamaCompletion as its data, the last one with `stop`; an event with `error` where the \
         answer breaks off.";
}

/// What an answer is made with, as far as somebody stated it.
#[derive(Debug, Clone, Default, Object, Serialize)]
#[oai(rename = "LlamaSettings", skip_serializing_if_is_none)]
pub struct Settings {
    /// Softmax temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Nucleus mass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Number of most likely tokens to choose from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Multiplicative penalty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f32>,
    /// Additive penalty per occurrence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// Additive penalty for having occurred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// Most tokens; -1 until the end of the context.
    pub n_predict: i64,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Whether it comes as events.
    pub stream: bool,
}

/// What the server would answer with.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LlamaProps")]
pub struct Props {
    /// Where a request says nothing.
    pub default_generation_settings: DefaultSettings,
    /// How many requests the model answers at a time: one.
    pub total_slots: u32,
    /// The model's id.
    pub model_alias: String,
    /// How its weights are stored, where the name says it.
    pub model_ftype: String,
    /// The weights' file, without its folder.
    pub model_path: String,
    /// What it takes besides text.
    pub modalities: Modalities,
    /// Always true.
    pub endpoint_slots: bool,
    /// Always false: nothing can be changed from outside.
    pub endpoint_props: bool,
    /// Always true.
    pub endpoint_metrics: bool,
    /// Always false.
    pub webui: bool,
    /// The chat template's source.
    pub chat_template: String,
    /// What the template knows.
    pub chat_template_caps: TemplateCaps,
    /// The token that begins a text; empty where the tokenizer has none.
    pub bos_token: String,
    /// The token that ends one; empty where the tokenizer has none.
    pub eos_token: String,
    /// The server's name and version.
    pub build_info: String,
    /// Whether the model is not loaded.
    pub is_sleeping: bool,
}

/// Where a request says nothing.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LlamaDefaultSettings")]
pub struct DefaultSettings {
    /// Sampling as the model's files state it.
    pub params: Settings,
    /// Tokens of the context.
    pub n_ctx: u32,
}

/// What a model takes besides text.
#[derive(Debug, Clone, Copy, Default, Object, Serialize)]
#[oai(rename = "LlamaModalities")]
pub struct Modalities {
    /// Images.
    pub vision: bool,
    /// Films.
    pub video: bool,
    /// Sound.
    pub audio: bool,
}

/// What a template knows.
#[derive(Debug, Clone, Copy, Object, Serialize)]
#[oai(rename = "LlamaTemplateCaps")]
pub struct TemplateCaps {
    /// Tools.
    pub supports_tools: bool,
    /// Calls of earlier turns.
    pub supports_tool_calls: bool,
    /// Instructions.
    pub supports_system_role: bool,
}

/// A model that is loaded, as one that answers.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LlamaSlot")]
pub struct Slot {
    /// Its place in this list.
    pub id: u32,
    /// Tokens of the context.
    pub n_ctx: u32,
    /// Always false.
    pub speculative: bool,
    /// Whether it answers at the moment.
    pub is_processing: bool,
    /// The model.
    pub model: String,
}

/// A text to be cut into tokens.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "TokenizeRequest", example, skip_serializing_if_is_none)]
pub struct TokenizeRequest {
    /// The model. Where absent: the server's fallback, else the only model there is.
    #[oai(nullable)]
    pub model: Option<String>,
    /// The text, as llama-server's clients send it.
    #[oai(nullable)]
    pub content: Option<String>,
    /// The text, as vLLM's clients send it.
    #[oai(nullable)]
    pub prompt: Option<String>,
    /// A conversation, as vLLM's clients send it: the tokens that the model would be given.
    #[oai(nullable)]
    pub messages: Option<Vec<PlainMessage>>,
    /// Whether what the tokenizer's makers put around a text is put there. Default false.
    #[oai(nullable)]
    pub add_special: Option<bool>,
    /// The same in vLLM's words, whose default is true where the text is `prompt`.
    #[oai(nullable)]
    pub add_special_tokens: Option<bool>,
    /// Whether names of control tokens are control tokens. Default true.
    #[oai(nullable)]
    pub parse_special: Option<bool>,
    /// Whether each token comes with its text. Default false.
    #[oai(nullable)]
    pub with_pieces: Option<bool>,
}

impl Example for TokenizeRequest {
    fn example() -> Self {
        Self { content: Some("Hello world".to_owned()), ..Self::default() }
    }
}

/// A token, with its text or without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Token {
    /// Its id.
    Id(i32),
    /// Its id and its text.
    Piece(Piece),
}

document_one_of!(Token, "A token's id, or an object with its text.", [i32, Piece]);

/// A token with its text.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
#[oai(rename = "TokenPiece")]
pub struct Piece {
    /// The token's id.
    pub id: i32,
    /// Its text. What is no whole character is a replacement character.
    pub piece: String,
}

/// A text as tokens.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "Tokens")]
pub struct Tokens {
    /// The tokens.
    pub tokens: Vec<Token>,
    /// How many.
    pub count: u32,
    /// Tokens of the model's context.
    pub max_model_len: u32,
}

/// Tokens to be made a text.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "DetokenizeRequest", example, skip_serializing_if_is_none)]
pub struct DetokenizeRequest {
    /// The model. Where absent: the server's fallback, else the only model there is.
    #[oai(nullable)]
    pub model: Option<String>,
    /// Token ids.
    pub tokens: Vec<i32>,
}

impl Example for DetokenizeRequest {
    fn example() -> Self {
        Self { model: None, tokens: vec![77, 78] }
    }
}

/// Tokens as a text.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "Detokenized")]
pub struct Detokenized {
    /// The text, as llama-server's clients look for it.
    pub content: String,
    /// The same, as vLLM's do.
    pub prompt: String,
}

/// A conversation to be written by the model's template.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "ApplyTemplateRequest", example, skip_serializing_if_is_none)]
pub struct ApplyTemplateRequest {
    /// The model. Where absent: the server's fallback, else the only model there is.
    #[oai(nullable)]
    pub model: Option<String>,
    /// Oldest first.
    pub messages: Vec<PlainMessage>,
    /// Functions that the model may call.
    #[oai(nullable)]
    pub tools: Option<Vec<PlainTool>>,
}

impl Example for ApplyTemplateRequest {
    fn example() -> Self {
        use crate::messages::{PlainContent, PlainRole};
        let message = PlainMessage {
            role: PlainRole::User,
            content: Some(Nullable(Some(PlainContent::Text("Say hi".to_owned())))),
            ..PlainMessage::default()
        };
        Self { messages: vec![message], ..Self::default() }
    }
}

/// A conversation as the model's template writes it.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "AppliedTemplate")]
pub struct AppliedTemplate {
    /// The prompt.
    pub prompt: String,
}

/// Texts to be read into vectors.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "LlamaEmbeddingRequest", example, skip_serializing_if_is_none)]
pub struct EmbeddingRequest {
    /// The model. Where absent: the server's fallback for embeddings, else the only model there is.
    #[oai(nullable)]
    pub model: Option<String>,
    /// A text, texts, or token ids.
    pub content: EmbeddingContent,
}

impl Example for EmbeddingRequest {
    fn example() -> Self {
        Self { model: None, content: EmbeddingContent::Text("An NPU".to_owned()) }
    }
}

/// What is read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged, expecting = "a string, an array of strings or an array of token ids")]
pub enum EmbeddingContent {
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// Token ids.
    Tokens(Vec<i32>),
}

document_one_of!(
    EmbeddingContent,
    "A text, texts, or token ids.",
    [String, Vec<String>, Vec<i32>]
);

/// A vector.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LlamaEmbedding")]
pub struct Embedding {
    /// The text's place.
    pub index: u32,
    /// One vector, of length 1.
    pub embedding: Vec<Vec<f32>>,
}

read_from_object!(
    CompletionRequest,
    TokenizeRequest,
    DetokenizeRequest,
    ApplyTemplateRequest,
    EmbeddingRequest
);

/// Whether the server can answer.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LlamaHealth")]
pub struct Health {
    /// `ok`.
    pub status: String,
}

/// What went wrong.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LlamaErrorObject")]
pub struct ErrorObject {
    /// The status.
    pub code: u16,
    /// In words.
    pub message: String,
    /// Of which kind.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: String,
}

/// An error.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LlamaError")]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorObject,
}
