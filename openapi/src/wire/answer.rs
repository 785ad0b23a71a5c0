//! A chat completion, whole and in chunks.

use poem_openapi::{Enum, Object, types::Example};
use rkllama_http::EventData;
use serde::{Deserialize, Serialize};

use super::Nullable;

/// Always `chat.completion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
pub enum ChatCompletionObject {
    /// The only value.
    #[oai(rename = "chat.completion")]
    #[serde(rename = "chat.completion")]
    ChatCompletion,
}

/// Always `chat.completion.chunk`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
pub enum ChatChunkObject {
    /// The only value.
    #[oai(rename = "chat.completion.chunk")]
    #[serde(rename = "chat.completion.chunk")]
    ChatCompletionChunk,
}

/// Always `assistant`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum AssistantRole {
    /// The only value.
    Assistant,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model came to its end, or to a stop text.
    Stop,
    /// The token limit or the end of the context.
    Length,
    /// The model called tools.
    #[oai(rename = "tool_calls")]
    #[serde(rename = "tool_calls")]
    ToolCalls,
}

impl From<rkllama_core::Finish> for FinishReason {
    fn from(finish: rkllama_core::Finish) -> Self {
        match finish {
            rkllama_core::Finish::Stop => Self::Stop,
            rkllama_core::Finish::Length => Self::Length,
            rkllama_core::Finish::ToolCalls => Self::ToolCalls,
        }
    }
}

/// How likely the tokens of an answer were, before temperature, penalties and filters.
#[derive(Debug, Clone, PartialEq, Object, Serialize)]
pub struct Logprobs {
    /// The tokens of the content, in their order.
    pub content: Nullable<Vec<ContentLogprob>>,
    /// Always null.
    pub refusal: Nullable<Vec<ContentLogprob>>,
}

/// A token of an answer.
#[derive(Debug, Clone, PartialEq, Object, Serialize, Deserialize)]
pub struct ContentLogprob {
    /// Its text, with U+FFFD where it is a part of a character.
    pub token: String,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// Its text in UTF-8.
    pub bytes: Vec<u8>,
    /// The likeliest tokens in its place, the likeliest first: as many as `top_logprobs` says.
    pub top_logprobs: Vec<TopLogprob>,
}

/// A token that could have been in a place.
#[derive(Debug, Clone, PartialEq, Object, Serialize, Deserialize)]
pub struct TopLogprob {
    /// Its text, with U+FFFD where it is a part of a character.
    pub token: String,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// Its text in UTF-8.
    pub bytes: Vec<u8>,
}

impl From<rkllama_core::TokenLogprob> for ContentLogprob {
    fn from(told: rkllama_core::TokenLogprob) -> Self {
        let top = |(token, logprob): (rkllama_core::TokenText, f32)| TopLogprob {
            token: token.text(),
            logprob: logprob.into(),
            bytes: token.bytes,
        };
        Self {
            token: told.token.text(),
            // Only the first token of a prompt has none.
            logprob: told.logprob.unwrap_or_default().into(),
            bytes: told.token.bytes,
            top_logprobs: told.top.into_iter().map(top).collect(),
        }
    }
}

impl From<rkllama_core::Logprobs> for Logprobs {
    fn from(told: rkllama_core::Logprobs) -> Self {
        let content = told.answer.into_iter().map(ContentLogprob::from).collect();
        Self { content: Nullable(Some(content)), refusal: Nullable(None) }
    }
}

/// An answer.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example)]
pub struct ChatCompletion {
    /// Its id, `chatcmpl-` and a random number.
    pub id: String,
    /// Always `chat.completion`.
    pub object: ChatCompletionObject,
    /// When the request came, in seconds since 1970.
    pub created: u64,
    /// The model's name as the request gave it.
    pub model: String,
    /// The server's version: answers may differ where it differs.
    pub system_fingerprint: String,
    /// The answers, `n` of them.
    pub choices: Vec<ChatChoice>,
    /// Token counts of all answers together; the prompt counts once.
    pub usage: CompletionUsage,
    /// Where the time went.
    pub timings: Timings,
}

/// One of the answers.
#[derive(Debug, Clone, Object, Serialize)]
pub struct ChatChoice {
    /// Its place.
    pub index: u32,
    /// What the model says.
    pub message: ChatAnswerMessage,
    /// With `logprobs`, where the runtime tells its scores; else null.
    pub logprobs: Nullable<Logprobs>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// What the model says.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct ChatAnswerMessage {
    /// Always `assistant`.
    pub role: AssistantRole,
    /// The text; null where the model only called tools.
    pub content: Nullable<String>,
    /// Always null: the server adds no refusals of its own.
    pub refusal: Nullable<String>,
    /// What the model thought before it answered, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The same once more: clients differ in where they look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The calls of tools, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ChatToolCall>>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
pub struct ChatToolCall {
    /// Its id, `call_` and a random number: the `tool` message with the result refers to it.
    pub id: String,
    /// Always `function`.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: FunctionType,
    /// The function and its arguments.
    pub function: ChatFunctionCall,
}

/// Always `function`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum FunctionType {
    /// The only value.
    Function,
}

/// A function to call.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
pub struct ChatFunctionCall {
    /// Its name.
    pub name: String,
    /// Its arguments as JSON text, which is valid if the `finish_reason` is `tool_calls`.
    pub arguments: String,
}

/// A piece of a call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct ChatToolCallDelta {
    /// The call's place among those of the answer.
    pub index: u32,
    /// Its id, in its first piece only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Always `function`; in its first piece only.
    #[oai(rename = "type")]
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<FunctionType>,
    /// What is new of the function.
    pub function: ChatFunctionDelta,
}

/// What is new of a function to call.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct ChatFunctionDelta {
    /// Its name, in the first piece of the call only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of its arguments' JSON text, to be appended.
    pub arguments: String,
}

/// A piece of a streamed answer.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example, skip_serializing_if_is_none)]
pub struct ChatChunk {
    /// The answer's id, the same in all its chunks.
    pub id: String,
    /// Always `chat.completion.chunk`.
    pub object: ChatChunkObject,
    /// When the request came, in seconds since 1970; the same in all chunks.
    pub created: u64,
    /// The model's name as the request gave it.
    pub model: String,
    /// The server's version: answers may differ where it differs.
    pub system_fingerprint: String,
    /// A piece of one of the answers, which come one after the other; none in the chunk that
    /// carries the usage.
    pub choices: Vec<ChatChunkChoice>,
    /// With `stream_options.include_usage` only: null, and the token counts in the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Nullable<CompletionUsage>>,
    /// Where the time of this answer went; in the chunk with the `finish_reason`, and in all with
    /// `timings_per_token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
}

impl EventData for ChatChunk {
    const STREAM_DESCRIPTION: &'static str = "Server-sent events without names. The data of each \
        is JSON, a `ChatChunk` or, where the answer breaks off, an `ErrorResponse`; that of the \
        last is `[DONE]`.";
}

/// A piece of one of the answers.
#[derive(Debug, Clone, Object, Serialize)]
pub struct ChatChunkChoice {
    /// Its place.
    pub index: u32,
    /// What is new.
    pub delta: ChatDelta,
    /// With `logprobs`, in the last chunk of an answer and for all of it; else null.
    pub logprobs: Nullable<Logprobs>,
    /// Why the answer ended; null until then.
    pub finish_reason: Nullable<FinishReason>,
}

/// What is new. Empty in the last chunk of an answer.
#[derive(Debug, Clone, Default, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct ChatDelta {
    /// In the first chunk only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<AssistantRole>,
    /// More text: whole characters, to be appended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// More of what the model thinks before it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The same once more: clients differ in where they look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// A piece of a call of a tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ChatToolCallDelta>>,
}

/// Token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Object, Serialize)]
pub struct CompletionUsage {
    /// Of the conversation as the model sees it, its template included.
    pub prompt_tokens: u32,
    /// Of the answer.
    pub completion_tokens: u32,
    /// Both.
    pub total_tokens: u32,
    /// More about the prompt.
    pub prompt_tokens_details: PromptTokensDetails,
    /// More about the answer.
    pub completion_tokens_details: CompletionTokensDetails,
}

/// More about the prompt's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Object, Serialize)]
pub struct PromptTokensDetails {
    /// Those that were still in the model's cache.
    pub cached_tokens: u32,
}

/// More about the answer's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Object, Serialize)]
pub struct CompletionTokensDetails {
    /// Those spent on reasoning; 0 where reasoning is a part of the content.
    pub reasoning_tokens: u32,
}

impl From<rkllama_core::Usage> for CompletionUsage {
    fn from(usage: rkllama_core::Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
            prompt_tokens_details: PromptTokensDetails { cached_tokens: usage.cached_tokens },
            completion_tokens_details: CompletionTokensDetails {
                reasoning_tokens: usage.reasoning_tokens,
            },
        }
    }
}

/// Where the time went, in llama-server's terms. No part of OpenAI's API.
#[derive(Debug, Clone, Copy, PartialEq, Object, Serialize)]
pub struct Timings {
    /// Waiting for other requests and for the model to load, in milliseconds.
    pub queued_ms: f64,
    /// Prompt tokens that were still in the model's cache.
    pub cache_n: u32,
    /// Prompt tokens that had to be read.
    pub prompt_n: u32,
    /// Reading them, in milliseconds.
    pub prompt_ms: f64,
    /// Prompt tokens read in a second.
    pub prompt_per_second: f64,
    /// Tokens generated.
    pub predicted_n: u32,
    /// Generating them, from the first to the last, in milliseconds.
    pub predicted_ms: f64,
    /// Tokens generated in a second, the first not counted.
    pub predicted_per_second: f64,
}

const EXAMPLE_ID: &str = "chatcmpl-5f0c3c1e8a5b4a0f9a3f1d2b7c6e4d10";
const EXAMPLE_CREATED: u64 = 1_795_225_178;

impl Example for ChatCompletion {
    fn example() -> Self {
        let usage = rkllama_core::Usage {
            prompt_tokens: 26,
            completion_tokens: 13,
            ..rkllama_core::Usage::default()
        };
        Self {
            id: EXAMPLE_ID.to_owned(),
            object: ChatCompletionObject::ChatCompletion,
            created: EXAMPLE_CREATED,
            model: "Qwen3-0.6B".to_owned(),
            system_fingerprint: "fp_rkllama".to_owned(),
            choices: vec![ChatChoice {
                index: 0,
                message: ChatAnswerMessage {
                    role: AssistantRole::Assistant,
                    content: Nullable(Some("A processor made for neural networks.".to_owned())),
                    refusal: Nullable(None),
                    reasoning_content: None,
                    reasoning: None,
                    tool_calls: None,
                },
                logprobs: Nullable(None),
                finish_reason: FinishReason::Stop,
            }],
            usage: usage.into(),
            timings: Timings {
                queued_ms: 0.0,
                cache_n: 0,
                prompt_n: usage.prompt_tokens,
                prompt_ms: 125.0,
                prompt_per_second: 208.0,
                predicted_n: usage.completion_tokens,
                predicted_ms: 500.0,
                predicted_per_second: 24.0,
            },
        }
    }
}

impl Example for ChatChunk {
    fn example() -> Self {
        Self {
            id: EXAMPLE_ID.to_owned(),
            object: ChatChunkObject::ChatCompletionChunk,
            created: EXAMPLE_CREATED,
            model: "Qwen3-0.6B".to_owned(),
            system_fingerprint: "fp_rkllama".to_owned(),
            choices: vec![ChatChunkChoice {
                index: 0,
                delta: ChatDelta { content: Some(" processor".to_owned()), ..ChatDelta::default() },
                logprobs: Nullable(None),
                finish_reason: Nullable(None),
            }],
            usage: None,
            timings: None,
        }
    }
}
