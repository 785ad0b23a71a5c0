//! The tools of a response: functions, and the built-in tools that there are none of here.

use std::fmt;

use poem_openapi::{Enum, Object};
use rkllama_http::{document_one_of, read_from_object, read_from_string};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IntoDeserializer, MapAccess, Visitor, value},
};

use crate::wire::{
    AllowedToolsMode, FunctionType, JsonObject, Nullable, ToolChoiceMode, tool::serialize_as_json,
};

/// What kind of tool it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum ResponseToolType {
    /// A function with JSON arguments.
    Function,
    /// Refused with 400.
    FileSearch,
    /// Refused with 400.
    WebSearch,
    /// Refused with 400.
    #[oai(rename = "web_search_2025_08_26")]
    #[serde(rename = "web_search_2025_08_26")]
    WebSearch20250826,
    /// Refused with 400.
    WebSearchPreview,
    /// Refused with 400.
    #[oai(rename = "web_search_preview_2025_03_11")]
    #[serde(rename = "web_search_preview_2025_03_11")]
    WebSearchPreview20250311,
    /// Refused with 400.
    Computer,
    /// Refused with 400.
    ComputerUse,
    /// Refused with 400.
    ComputerUsePreview,
    /// Refused with 400.
    Mcp,
    /// Refused with 400.
    CodeInterpreter,
    /// Refused with 400.
    ProgrammaticToolCalling,
    /// Refused with 400.
    ImageGeneration,
    /// Refused with 400.
    LocalShell,
    /// Refused with 400.
    Shell,
    /// A tool with text arguments. Refused with 400.
    Custom,
    /// Refused with 400.
    Namespace,
    /// Refused with 400.
    ToolSearch,
    /// Refused with 400.
    ApplyPatch,
}

/// A tool the model may call.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ResponseTool {
    /// What kind of tool it is.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ResponseToolType,
    /// The function's name, required: 1 to 64 letters, digits, underscores and dashes; no two
    /// tools share one.
    #[oai(nullable)]
    pub name: Option<String>,
    /// What it does, for the model.
    #[oai(nullable)]
    pub description: Option<String>,
    /// Its arguments, as a JSON Schema of an object: at most 262144 bytes. Absent: no arguments.
    #[oai(nullable)]
    pub parameters: Option<JsonObject>,
    /// Whether arguments must follow the schema to the letter; 400 where the server cannot hold
    /// the model to it. Default false.
    #[oai(nullable)]
    pub strict: Option<bool>,
}

/// A function the model may have called, as the request had it.
#[derive(Debug, Clone, Object, Serialize)]
pub struct ResponseFunctionTool {
    /// Always `function`.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: FunctionType,
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Nullable<String>,
    /// The JSON Schema of its arguments.
    pub parameters: Nullable<JsonObject>,
    /// Whether arguments had to follow the schema to the letter.
    pub strict: bool,
}

/// What a choice names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum ResponseToolChoiceType {
    /// The function `name`, which will be called.
    Function,
    /// The tools in `tools`.
    AllowedTools,
    /// Refused with 400.
    FileSearch,
    /// Refused with 400.
    WebSearch,
    /// Refused with 400.
    WebSearchPreview,
    /// Refused with 400.
    #[oai(rename = "web_search_preview_2025_03_11")]
    #[serde(rename = "web_search_preview_2025_03_11")]
    WebSearchPreview20250311,
    /// Refused with 400.
    Computer,
    /// Refused with 400.
    ComputerUse,
    /// Refused with 400.
    ComputerUsePreview,
    /// Refused with 400.
    Mcp,
    /// Refused with 400.
    CodeInterpreter,
    /// Refused with 400.
    ProgrammaticToolCalling,
    /// Refused with 400.
    ImageGeneration,
    /// Refused with 400.
    Shell,
    /// Refused with 400.
    Custom,
    /// Refused with 400.
    ApplyPatch,
}

/// A choice among the tools. `type` says which of the other fields is meant.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ResponseToolChoiceObject {
    /// What it names.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ResponseToolChoiceType,
    /// The function to call.
    #[oai(nullable)]
    pub name: Option<String>,
    /// Whether one of `tools` is called; required with them.
    pub mode: Option<Nullable<AllowedToolsMode>>,
    /// The tools that may be called, at least one; the others are left out of the prompt.
    #[oai(nullable)]
    pub tools: Option<Vec<ResponseAllowedTool>>,
}

/// A tool that may be called.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ResponseAllowedTool {
    /// What kind of tool it is.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ResponseToolType,
    /// The function's name among the request's `tools`.
    #[oai(nullable)]
    pub name: Option<String>,
}

/// Which tool to call.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum ResponseToolChoice {
    /// By mode.
    Mode(#[serde(serialize_with = "serialize_as_json")] ToolChoiceMode),
    /// By name.
    Named(#[serde(serialize_with = "serialize_as_json")] Box<ResponseToolChoiceObject>),
}

impl<'de> Deserialize<'de> for ResponseToolChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChoiceVisitor;
        impl<'de> Visitor<'de> for ChoiceVisitor {
            type Value = ResponseToolChoice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of a string or an object")
            }
            fn visit_str<E: de::Error>(self, mode: &str) -> Result<ResponseToolChoice, E> {
                ToolChoiceMode::deserialize(mode.into_deserializer()).map(ResponseToolChoice::Mode)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ResponseToolChoice, A::Error> {
                ResponseToolChoiceObject::deserialize(value::MapAccessDeserializer::new(map))
                    .map(|object| ResponseToolChoice::Named(Box::new(object)))
            }
        }
        deserializer.deserialize_any(ChoiceVisitor)
    }
}

document_one_of!(
    ResponseToolChoice,
    "A mode, or an object that names a function or restricts the tools. Absent: `auto`. Anything \
     but `none` and `auto` needs `tools`.",
    [ToolChoiceMode, ResponseToolChoiceObject]
);
read_from_object!(ResponseTool, ResponseToolChoiceObject, ResponseAllowedTool);
read_from_string!(ResponseToolType, ResponseToolChoiceType);
