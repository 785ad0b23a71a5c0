//! A response.

use std::{collections::BTreeMap, sync::Arc};

use poem_openapi::{Enum, Object, types::Example};
use rkllama_core::Usage;
use serde::{Deserialize, Serialize};

use super::{
    ResponseFunctionTool, ResponseItem, ResponsePart, ResponsePartType, ResponseReasoningState,
    ResponseRole, ResponseTextFormatState, ResponseTextState, ResponseToolChoice,
    item::serialize_items,
};
use crate::wire::{Nullable, Timings, ToolChoiceMode};

/// Always `response`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ResponseObjectName {
    /// The only value.
    Response,
}

/// How far a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ResponseStatus {
    /// It is being made.
    InProgress,
    /// The model came to its end, or to a stop text, or called tools.
    Completed,
    /// It was cut short; `incomplete_details` says why.
    Incomplete,
    /// It broke off; `error` says why.
    Failed,
}

/// Why a response is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum IncompleteReason {
    /// The token limit or the end of the context.
    MaxOutputTokens,
}

/// Why a response is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Object, Serialize)]
pub struct IncompleteDetails {
    /// Why.
    pub reason: IncompleteReason,
}

/// Why a response failed.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
pub struct ResponseFailure {
    /// `server_error`, `rate_limit_exceeded` or `invalid_prompt`.
    pub code: String,
    /// What went wrong, in a sentence.
    pub message: String,
}

/// What happens to a conversation that does not fit the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum TruncationMode {
    /// Its beginning is left out. Not done by this server.
    Auto,
    /// It is refused.
    Disabled,
}

/// Token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Object, Serialize)]
pub struct ResponseUsage {
    /// Of the conversation as the model sees it, its template included.
    pub input_tokens: u32,
    /// More about them.
    pub input_tokens_details: ResponseInputTokensDetails,
    /// Of the output.
    pub output_tokens: u32,
    /// More about them.
    pub output_tokens_details: ResponseOutputTokensDetails,
    /// Both.
    pub total_tokens: u32,
}

/// More about the input's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Object, Serialize)]
pub struct ResponseInputTokensDetails {
    /// Those that were still in the model's cache.
    pub cached_tokens: u32,
    /// Always 0: nothing is written to a cache that would be accounted for.
    pub cache_write_tokens: u32,
}

/// More about the output's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Object, Serialize)]
pub struct ResponseOutputTokensDetails {
    /// Those spent on reasoning.
    pub reasoning_tokens: u32,
}

impl From<Usage> for ResponseUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: ResponseInputTokensDetails {
                cached_tokens: usage.cached_tokens,
                cache_write_tokens: 0,
            },
            output_tokens: usage.completion_tokens,
            output_tokens_details: ResponseOutputTokensDetails {
                reasoning_tokens: usage.reasoning_tokens,
            },
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
        }
    }
}

/// A response.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example, skip_serializing_if_is_none)]
pub struct Response {
    /// Its id, `resp_` and a random number.
    pub id: String,
    /// Always `response`.
    pub object: ResponseObjectName,
    /// When the request came, in seconds since 1970.
    pub created_at: u64,
    /// How far it is.
    pub status: ResponseStatus,
    /// When it was complete, in seconds since 1970.
    pub completed_at: Nullable<u64>,
    /// Always false.
    pub background: bool,
    /// Why it failed.
    pub error: Nullable<ResponseFailure>,
    /// Why it is incomplete.
    pub incomplete_details: Nullable<IncompleteDetails>,
    /// As the request had them.
    pub instructions: Nullable<String>,
    /// As the request had it.
    pub max_output_tokens: Nullable<i64>,
    /// The model's name as the request gave it.
    pub model: String,
    /// What the model thought, said and called, in its order.
    #[serde(serialize_with = "serialize_items")]
    pub output: Vec<Arc<ResponseItem>>,
    /// Whether one answer may call several tools.
    pub parallel_tool_calls: bool,
    /// The response that this one goes on from.
    pub previous_response_id: Nullable<String>,
    /// How much was to be thought.
    pub reasoning: ResponseReasoningState,
    /// Always `default`.
    pub service_tier: String,
    /// Whether the server keeps the response. False too where it is larger than all that may be kept, which
    /// is known when it is complete.
    pub store: bool,
    /// The temperature in use.
    pub temperature: f64,
    /// The form of the text.
    pub text: ResponseTextState,
    /// Which tool was to be called.
    pub tool_choice: ResponseToolChoice,
    /// The functions that could be called.
    pub tools: Vec<ResponseFunctionTool>,
    /// The probability mass in use.
    pub top_p: f64,
    /// Always `disabled`.
    pub truncation: TruncationMode,
    /// Token counts, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<ResponseUsage>,
    /// As the request had it.
    pub metadata: BTreeMap<String, String>,
    /// Where the time went, once it has ended. No part of OpenAI's API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
}

/// A response that is kept no more.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example)]
pub struct DeletedResponse {
    /// Its id.
    pub id: String,
    /// Always `response`.
    pub object: ResponseObjectName,
    /// Always true.
    pub deleted: bool,
}

const EXAMPLE_ID: &str = "resp_5f0c3c1e8a5b4a0f9a3f1d2b7c6e4d10";

impl Example for Response {
    fn example() -> Self {
        let usage = Usage { prompt_tokens: 26, completion_tokens: 13, ..Usage::default() };
        let text = "A processor made for neural networks.";
        let part = ResponsePart::new(ResponsePartType::OutputText, text);
        let id = "msg_5f0c3c1e8a5b4a0f9a3f1d2b7c6e4d10".to_owned();
        Self {
            id: EXAMPLE_ID.to_owned(),
            object: ResponseObjectName::Response,
            created_at: 1_795_225_178,
            status: ResponseStatus::Completed,
            completed_at: Nullable(Some(1_795_225_179)),
            background: false,
            error: Nullable(None),
            incomplete_details: Nullable(None),
            instructions: Nullable(Some("Answer in one sentence.".to_owned())),
            max_output_tokens: Nullable(Some(128)),
            model: "Qwen3-0.6B".to_owned(),
            output: vec![Arc::new(ResponseItem::message(id, ResponseRole::Assistant, vec![part]))],
            parallel_tool_calls: true,
            previous_response_id: Nullable(None),
            reasoning: ResponseReasoningState { effort: Nullable(None), summary: Nullable(None) },
            service_tier: "default".to_owned(),
            store: true,
            temperature: 1.0,
            text: ResponseTextState { format: ResponseTextFormatState::plain() },
            tool_choice: ResponseToolChoice::Mode(ToolChoiceMode::Auto),
            tools: Vec::new(),
            top_p: 1.0,
            truncation: TruncationMode::Disabled,
            usage: Some(usage.into()),
            metadata: BTreeMap::new(),
            timings: None,
        }
    }
}

impl Example for DeletedResponse {
    fn example() -> Self {
        let object = ResponseObjectName::Response;
        Self { id: EXAMPLE_ID.to_owned(), object, deleted: true }
    }
}
