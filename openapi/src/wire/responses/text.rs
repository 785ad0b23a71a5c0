//! The form of a response's text, and how much is thought before it.

use poem_openapi::{Enum, Object};
use rkllama_http::{read_from_object, read_from_string};
use serde::{Deserialize, Serialize};

use crate::wire::{
    JsonObject, Nullable, ReasoningEffort, ResponseFormatType, tool::serialize_as_json,
};

/// The form of the text.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ResponseText {
    /// The form. Default: plain text.
    pub format: Option<Nullable<ResponseTextFormat>>,
    /// Ignored and named: `low`, `medium` or `high`.
    #[oai(nullable)]
    pub verbosity: Option<String>,
}

/// A form. An answer that ends by itself has it; one that is cut short by a limit, with the status
/// `incomplete`, may break off anywhere.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ResponseTextFormat {
    /// The form.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ResponseFormatType,
    /// Of `json_schema`, where it is required: 1 to 64 letters, digits, underscores and dashes.
    #[oai(nullable)]
    pub name: Option<String>,
    /// What it is for. Has no effect.
    #[oai(nullable)]
    pub description: Option<String>,
    /// Of `json_schema`, where it is required: the JSON Schema, of at most 262144 bytes. What of
    /// it cannot be held is refused with 400 and named.
    #[oai(nullable)]
    pub schema: Option<JsonObject>,
    /// Answers follow the schema whether this is set or not.
    #[oai(nullable)]
    pub strict: Option<bool>,
}

/// The form of a response's text.
#[derive(Debug, Clone, Object, Serialize)]
pub struct ResponseTextState {
    /// The form.
    pub format: ResponseTextFormatState,
}

/// A form, as the request had it.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct ResponseTextFormatState {
    /// The form.
    #[oai(rename = "type")]
    #[serde(rename = "type", serialize_with = "serialize_as_json")]
    pub kind: ResponseFormatType,
    /// The schema's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<JsonObject>,
    /// As the request had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

impl ResponseTextFormatState {
    /// Plain text.
    pub const fn plain() -> Self {
        let kind = ResponseFormatType::Text;
        Self { kind, name: None, description: None, schema: None, strict: None }
    }
}

/// How much the model thinks, and how its thoughts are shown.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ResponseReasoning {
    /// How much the model thinks before it answers, for models that know levels. `none` switches
    /// thinking off where the model leaves the choice. Default: the model's own.
    pub effort: Option<Nullable<ReasoningEffort>>,
    /// Where set, thoughts stand in the `summary` of a reasoning item instead of in its `content`,
    /// as they are: no summary is made.
    pub summary: Option<Nullable<ReasoningSummary>>,
    /// Older name of `summary`, which wins over it.
    #[oai(deprecated)]
    pub generate_summary: Option<Nullable<ReasoningSummary>>,
    /// Ignored and named: which thoughts of earlier turns a model sees is its template's choice.
    #[oai(nullable)]
    pub context: Option<String>,
    /// Ignored and named where not `standard`: there is one mode.
    #[oai(nullable)]
    pub mode: Option<String>,
}

/// How long a summary is. All of them mean the thoughts themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum ReasoningSummary {
    /// As the server likes.
    Auto,
    /// Short.
    Concise,
    /// Long.
    Detailed,
}

/// How much was to be thought, and how it was to be shown.
#[derive(Debug, Clone, Copy, Object, Serialize)]
pub struct ResponseReasoningState {
    /// As the request had it.
    #[serde(serialize_with = "serialize_as_json")]
    pub effort: Nullable<ReasoningEffort>,
    /// As the request had it.
    #[serde(serialize_with = "serialize_as_json")]
    pub summary: Nullable<ReasoningSummary>,
}

read_from_object!(ResponseText, ResponseTextFormat, ResponseReasoning);
read_from_string!(ReasoningSummary);
