//! Tools: which there are, which to call, and which have been called.

use std::fmt;

use poem_openapi::{Enum, Object};
use rkllama_http::{document_one_of, read_from_object, read_from_string};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IntoDeserializer, MapAccess, Visitor, value},
};

use super::{AnyObject, JsonObject, Nullable};

/// Tools of one request: OpenAI's own limit.
pub const TOOLS_MAX: usize = 128;

/// What kind of tool it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum ToolType {
    /// A function with JSON arguments.
    Function,
    /// A tool with text arguments. Refused with 400.
    Custom,
}

/// A tool the model may call.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct Tool {
    /// What kind of tool it is.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ToolType,
    /// The function of a `function` tool.
    pub function: Option<Nullable<FunctionDefinition>>,
    /// `{"name", "description", "format"}` of a `custom` tool. Refused with 400.
    #[oai(nullable)]
    pub custom: Option<AnyObject>,
}

/// A function the model may call.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct FunctionDefinition {
    /// Its name: 1 to 64 letters, digits, underscores and dashes; no two tools share one.
    pub name: String,
    /// What it does, for the model.
    #[oai(nullable)]
    pub description: Option<String>,
    /// Its arguments, as a JSON Schema of an object: at most 262144 bytes. Absent: no arguments.
    #[oai(nullable)]
    pub parameters: Option<JsonObject>,
    /// Whether arguments must follow the schema to the letter; 400 where the server cannot hold
    /// the model to it.
    #[oai(nullable)]
    pub strict: Option<bool>,
}

/// Whether tools are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum ToolChoiceMode {
    /// Never.
    None,
    /// As the model decides.
    Auto,
    /// Always.
    Required,
}

/// What a choice names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum ToolChoiceType {
    /// The function in `function`, which will be called.
    Function,
    /// The tools in `allowed_tools`.
    AllowedTools,
    /// A custom tool. Refused with 400.
    Custom,
}

/// A choice among the tools. `type` says which of the other fields is meant.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ToolChoiceObject {
    /// What it names.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ToolChoiceType,
    /// The function to call.
    pub function: Option<Nullable<FunctionName>>,
    /// The tools that may be called; the others are left out of the prompt.
    pub allowed_tools: Option<Nullable<AllowedTools>>,
    /// The custom tool to call. Refused with 400.
    #[oai(nullable)]
    pub custom: Option<AnyObject>,
}

/// A function by its name.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
pub struct FunctionName {
    /// Its name among the `tools`.
    pub name: String,
}

/// Whether one of the allowed tools is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum AllowedToolsMode {
    /// As the model decides.
    Auto,
    /// Always.
    Required,
}

/// Some of the tools.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
pub struct AllowedTools {
    /// Whether one of them is called.
    pub mode: AllowedToolsMode,
    /// Which: at least one.
    #[oai(validator(min_items = 1))]
    pub tools: Vec<AllowedTool>,
}

/// A tool that may be called.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct AllowedTool {
    /// What kind of tool it is.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ToolType,
    /// The function of a `function` tool.
    pub function: Option<Nullable<FunctionName>>,
}

/// Which tool to call.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum ToolChoice {
    /// By mode.
    Mode(#[serde(serialize_with = "serialize_as_json")] ToolChoiceMode),
    /// By name.
    Named(#[serde(serialize_with = "serialize_as_json")] Box<ToolChoiceObject>),
}

// `remote = "Self"` leaves these without the trait; the document needs the value only.
pub(super) fn serialize_as_json<T: poem_openapi::types::ToJSON, S: serde::Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.to_json().serialize(serializer)
}

impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChoiceVisitor;
        impl<'de> Visitor<'de> for ChoiceVisitor {
            type Value = ToolChoice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of a string or an object")
            }
            fn visit_str<E: de::Error>(self, mode: &str) -> Result<ToolChoice, E> {
                ToolChoiceMode::deserialize(mode.into_deserializer()).map(ToolChoice::Mode)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ToolChoice, A::Error> {
                ToolChoiceObject::deserialize(value::MapAccessDeserializer::new(map))
                    .map(|object| ToolChoice::Named(Box::new(object)))
            }
        }
        deserializer.deserialize_any(ChoiceVisitor)
    }
}

document_one_of!(
    ToolChoice,
    "A mode, or an object that names a function or restricts the tools. Absent: `auto`. Anything \
     but `none` and `auto` needs `tools`.",
    [ToolChoiceMode, ToolChoiceObject]
);

/// A call that the assistant made in an earlier turn.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct MessageToolCall {
    /// The call's id, to which the `tool` message with its result refers.
    pub id: String,
    /// What kind of tool was called; absent: a function.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: Option<Nullable<ToolType>>,
    /// The function and its arguments.
    pub function: Option<Nullable<CalledFunction>>,
    /// `{"name", "input"}` of a `custom` tool. Refused with 400.
    #[oai(nullable)]
    pub custom: Option<AnyObject>,
}

/// A function as it was called.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
pub struct CalledFunction {
    /// Its name.
    pub name: String,
    /// Its arguments, as JSON text.
    pub arguments: String,
}

read_from_object!(
    Tool,
    FunctionDefinition,
    ToolChoiceObject,
    FunctionName,
    AllowedTools,
    AllowedTool,
    MessageToolCall,
    CalledFunction,
);
read_from_string!(ToolType, ToolChoiceMode, ToolChoiceType, AllowedToolsMode);
