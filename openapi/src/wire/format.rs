//! The form of an answer: OpenAI's way to ask for one, and those of other servers.

use poem_openapi::{Enum, Object};
use rkllama_http::{read_from_object, read_from_string};
use serde::Deserialize;

use super::{AnyValue, JsonObject, JsonValue, Nullable};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum ResponseFormatType {
    /// Plain text.
    Text,
    /// Some JSON object, or one after `schema`.
    JsonObject,
    /// JSON after the schema in `json_schema`.
    JsonSchema,
}

/// The form of the answer. An answer that ends by itself has it; one that is cut short by a limit,
/// with the `finish_reason` `length`, may break off anywhere.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ResponseFormat {
    /// The form.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ResponseFormatType,
    /// The schema of `json_schema`.
    pub json_schema: Option<Nullable<JsonSchemaFormat>>,
    /// A JSON Schema with `json_object`. Known from llama-server.
    #[oai(nullable)]
    pub schema: Option<JsonObject>,
}

/// A schema with its name.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct JsonSchemaFormat {
    /// Its name: 1 to 64 letters, digits, underscores and dashes.
    pub name: String,
    /// What it is for. Has no effect.
    #[oai(nullable)]
    pub description: Option<String>,
    /// The JSON Schema, of at most 262144 bytes. Required. What of it cannot be held is refused
    /// with 400 and named.
    #[oai(nullable)]
    pub schema: Option<JsonObject>,
    /// Answers follow the schema whether this is set or not.
    #[oai(nullable)]
    pub strict: Option<bool>,
}

/// vLLM's way to ask for a form. One of the fields at most.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct StructuredOutputs {
    /// A JSON Schema, or its text.
    pub json: Option<JsonValue>,
    /// Some JSON object, where true.
    #[oai(nullable)]
    pub json_object: Option<bool>,
    /// A regular expression. Refused with 400.
    pub regex: Option<AnyValue>,
    /// One of some texts. Refused with 400.
    pub choice: Option<AnyValue>,
    /// A grammar. Refused with 400.
    pub grammar: Option<AnyValue>,
    /// A grammar of tags. Refused with 400.
    pub structural_tag: Option<AnyValue>,
}

read_from_object!(ResponseFormat, JsonSchemaFormat, StructuredOutputs);
read_from_string!(ResponseFormatType);
