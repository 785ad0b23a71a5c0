//! The wire types: what clients of `/v1` send and get.
//!
//! Two derives per type: serde's gives the bytes, poem-openapi's the schema. serde reads because
//! its errors name the field and it copies nothing; `tests/agreement.rs` keeps the two together.
//! `///` comments here are published: they are written for users of the API.

mod answer;
mod health;
mod message;
mod model;
mod primitive;
mod request;

pub use answer::{
    AssistantRole, ChatAnswerMessage, ChatChoice, ChatChunk, ChatChunkChoice, ChatChunkObject,
    ChatCompletion, ChatCompletionObject, ChatDelta, CompletionTokensDetails, CompletionUsage,
    FinishReason, Logprobs, PromptTokensDetails, Timings,
};
pub use health::{Health, HealthProblem, HealthRuntime, HealthStatus};
pub use message::{ChatMessage, ContentPart, ContentPartType, MessageContent, MessageRole};
pub use model::{ModelList, ModelListObject, ModelObject, ModelObjectName, ModelStatus};
pub(crate) use primitive::given;
pub use primitive::{AnyObject, AnyValue, ErrorObject, ErrorResponse, Nullable};
pub use request::{
    ChatCompletionRequest, FunctionDefinition, KeepAlive, Modality, ResponseFormat,
    ResponseFormatType, STOP_TEXT_BYTES_MAX, STOP_TEXTS_MAX, Stop, StreamOptions, Tool, ToolChoice,
    ToolChoiceMode, ToolType,
};
