//! A chat completion, whole and in chunks.

use poem_openapi::{Enum, Object, types::Example};
use rkllama_http::EventData;
use serde::Serialize;

use super::{AnyObject, Nullable};

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

/// Probabilities of the tokens. Never given: the runtime keeps its scores to itself.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
pub struct Logprobs {
    /// Of the content: OpenAI's `{"token", "logprob", "bytes", "top_logprobs"}` for each token.
    pub content: Nullable<Vec<AnyObject>>,
    /// Of a refusal, in the same form.
    pub refusal: Nullable<Vec<AnyObject>>,
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
    /// One choice.
    pub choices: Vec<ChatChoice>,
    /// Token counts.
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
    /// Always null.
    pub logprobs: Nullable<Logprobs>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// What the model says.
#[derive(Debug, Clone, Object, Serialize)]
pub struct ChatAnswerMessage {
    /// Always `assistant`.
    pub role: AssistantRole,
    /// The text.
    pub content: Nullable<String>,
    /// Always null: the server adds no refusals of its own.
    pub refusal: Nullable<String>,
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
    /// One choice; none in the chunk that carries the usage.
    pub choices: Vec<ChatChunkChoice>,
    /// With `stream_options.include_usage` only: null, and the token counts in the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Nullable<CompletionUsage>>,
    /// Where the time went; in the chunk with the `finish_reason` only.
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
    /// Always null.
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
    /// Those spent on reasoning; 0 while reasoning is part of the content.
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

impl From<&rkllama_core::Finished> for Timings {
    fn from(finished: &rkllama_core::Finished) -> Self {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        // JSON has no infinity: a stretch that took no time has no rate.
        let rate = |count: u32, time: std::time::Duration| {
            if time.is_zero() { 0.0 } else { f64::from(count) / time.as_secs_f64() }
        };
        let rkllama_core::Finished { usage, timings, .. } = finished;
        let prompt_n = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
        let predicted_n = usage.completion_tokens;
        Self {
            queued_ms: ms(timings.queued),
            cache_n: usage.cached_tokens,
            prompt_n,
            prompt_ms: ms(timings.prefill),
            prompt_per_second: rate(prompt_n, timings.prefill),
            predicted_n,
            predicted_ms: ms(timings.decode),
            // The first token ends the prefill: n tokens have n - 1 gaps.
            predicted_per_second: rate(predicted_n.saturating_sub(1), timings.decode),
        }
    }
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
        let finished = rkllama_core::Finished {
            finish: rkllama_core::Finish::Stop,
            usage,
            timings: rkllama_core::Timings {
                queued: std::time::Duration::ZERO,
                prefill: std::time::Duration::from_millis(125),
                decode: std::time::Duration::from_millis(500),
            },
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
                },
                logprobs: Nullable(None),
                finish_reason: FinishReason::Stop,
            }],
            usage: usage.into(),
            timings: Timings::from(&finished),
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
                delta: ChatDelta { role: None, content: Some(" processor".to_owned()) },
                logprobs: Nullable(None),
                finish_reason: Nullable(None),
            }],
            usage: None,
            timings: None,
        }
    }
}
