//! The wire types: what clients of `/v1` send and get.
//!
//! Two derives per type: serde's gives the bytes, poem-openapi's the schema. serde reads because
//! its errors name the field and it copies nothing; `tests/agreement.rs` keeps the two together.
//! `///` comments here are published: they are written for users of the API.

mod answer;
mod completion;
mod count;
mod embedding;
mod format;
mod gui_actor;
mod health;
mod message;
mod model;
mod parameter;
mod primitive;
mod reasoning;
mod request;
mod responses;
mod tool;

pub use answer::{
    AssistantRole, ChatAnswerMessage, ChatChoice, ChatChunk, ChatChunkChoice, ChatChunkObject,
    ChatCompletion, ChatCompletionObject, ChatDelta, ChatFunctionCall, ChatFunctionDelta,
    ChatToolCall, ChatToolCallDelta, CompletionTokensDetails, CompletionUsage, ContentLogprob,
    FinishReason, FunctionType, Logprobs, PromptTokensDetails, Timings, TopLogprob,
};
pub use completion::{
    Completion, CompletionChoice, CompletionChunk, CompletionChunkChoice, CompletionFinishReason,
    CompletionLogprobs, CompletionObject, CompletionPrompt, CompletionRequest, PROMPTS_MAX,
};
pub use count::{InputTokens, InputTokensObject};
pub use embedding::{
    EMBEDDING_INPUTS_MAX, EmbeddingInput, EmbeddingList, EmbeddingListObject, EmbeddingObject,
    EmbeddingObjectName, EmbeddingRequest, EmbeddingUsage, EmbeddingVector, EncodingFormat,
    InputType,
};
pub use format::{JsonSchemaFormat, ResponseFormat, ResponseFormatType, StructuredOutputs};
pub use gui_actor::{GuiActorObject, GuiActorPoint, GuiActorRequest, GuiActorUsage};
pub use health::{Health, HealthProblem, HealthRuntime, HealthStatus, Readiness, ReadyStatus};
pub use message::{
    ChatMessage, ContentPart, ContentPartType, ImageUrl, MessageContent, MessageRole,
};
pub use model::{ModelList, ModelListObject, ModelObject, ModelObjectName, ModelStatus};
pub use parameter::{KeepAlive, STOP_TEXT_BYTES_MAX, STOP_TEXTS_MAX, Stop};
pub use primitive::{AnyObject, AnyValue, ErrorObject, ErrorResponse, PageLen};
pub use reasoning::{ReasoningEffort, ReasoningFormat, Thinking, ThinkingObject, ThinkingType};
pub use request::{ChatCompletionRequest, Modality, StreamOptions};
pub use responses::*;
pub(crate) use rkllama_http::given;
pub use rkllama_http::{JsonObject, JsonValue, Nullable};
pub use tool::{
    AllowedTool, AllowedTools, AllowedToolsMode, CalledFunction, FunctionDefinition, FunctionName,
    MessageToolCall, TOOLS_MAX, Tool, ToolChoice, ToolChoiceMode, ToolChoiceObject, ToolChoiceType,
    ToolType,
};
