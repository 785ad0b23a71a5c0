//! The wire types of `/v1/responses`.

mod event;
mod input;
mod item;
mod object;
mod request;
mod text;
mod tool;

pub use event::{ResponseEvent, ResponseEventType};
pub use input::{
    ResponseInput, ResponseInputContent, ResponseInputItem, ResponseInputItemType,
    ResponseInputPart, ResponseInputPartType, ResponseRole,
};
pub use item::{
    ResponseItem, ResponseItemList, ResponseItemStatus, ResponseItemType, ResponseOutput,
    ResponsePart, ResponsePartType,
};
pub use object::{
    DeletedResponse, IncompleteDetails, IncompleteReason, Response, ResponseFailure,
    ResponseInputTokensDetails, ResponseObjectName, ResponseOutputTokensDetails, ResponseStatus,
    ResponseUsage, TruncationMode,
};
pub use request::{CreateResponse, IncludeName, ResponseStreamOptions};
pub use text::{
    ReasoningSummary, ResponseReasoning, ResponseReasoningState, ResponseText, ResponseTextFormat,
    ResponseTextFormatState, ResponseTextState,
};
pub use tool::{
    ResponseAllowedTool, ResponseFunctionTool, ResponseTool, ResponseToolChoice,
    ResponseToolChoiceObject, ResponseToolChoiceType, ResponseToolType,
};
