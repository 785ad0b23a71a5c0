//! Tools, and the choice among them.

use std::collections::HashSet;

use rkllama_core::{Tool, ToolCall, ToolChoice};
use rkllama_http::ApiError;
use serde_json::Value;

use super::format::read_schema;
use crate::{
    refusal::{array_too_long, echo, empty_array, invalid, missing, unsupported_value},
    wire::{
        self, AllowedTools, AllowedToolsMode, FunctionDefinition, FunctionName, MessageToolCall,
        Nullable, TOOLS_MAX, ToolChoiceMode, ToolChoiceObject, ToolChoiceType, ToolType, given,
    },
};

/// Longest name of a function or a schema, in characters: OpenAI's own limit.
const NAME_LEN_MAX: usize = 64;

/// Where an API has the parts of a tool, for the paths in errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// Below a tool: its name, description and parameters.
    function: &'static str,
    /// Below a choice: the tools that are allowed.
    allowed: &'static str,
}

impl Places {
    /// In objects of their own, as chat completions have them.
    pub(super) const NESTED: Self = Self { function: ".function", allowed: ".allowed_tools" };
    /// In the tool and in the choice themselves, as responses have them.
    pub(super) const FLAT: Self = Self { function: "", allowed: "" };
}

/// The tools that may be called, and whether one is.
pub(super) fn tools(
    wire: Option<Vec<wire::Tool>>,
    choice: Option<wire::ToolChoice>,
    places: Places,
) -> Result<(Vec<Tool>, ToolChoice), ApiError> {
    let wire = wire.unwrap_or_default();
    if wire.len() > TOOLS_MAX {
        return Err(array_too_long("tools", TOOLS_MAX, wire.len()));
    }
    let tools = wire.into_iter().enumerate().map(|(index, wire)| tool(index, wire, places));
    let tools = tools.collect::<Result<Vec<_>, _>>()?;
    let mut names = HashSet::new();
    if let Some(index) = tools.iter().position(|tool| !names.insert(&*tool.name)) {
        let param = format!("tools[{index}]{}.name", places.function);
        return Err(invalid(format!(
            "Invalid '{param}': tool names must be unique, and '{}' is there already.",
            tools[index].name
        ))
        .code("invalid_value")
        .param(param));
    }
    choose(tools, choice, places)
}

fn tool(index: usize, wire: wire::Tool, places: Places) -> Result<Tool, ApiError> {
    let param = format!("tools[{index}]");
    check_type(&param, wire.kind)?;
    let param = format!("{param}{}", places.function);
    let function = given(wire.function).ok_or_else(|| missing(&param))?;
    let FunctionDefinition { name, description, parameters, strict } = function;
    check_name(&format!("{param}.name"), &name)?;
    if let Some(parameters) = &parameters {
        check_parameters(&format!("{param}.parameters"), &name, parameters.text())?;
    }
    Ok(Tool {
        name,
        description,
        parameters: parameters.map(|object| object.text().to_owned()),
        strict: strict.unwrap_or(false),
    })
}

fn check_type(param: &str, kind: ToolType) -> Result<(), ApiError> {
    match kind {
        ToolType::Function => Ok(()),
        ToolType::Custom => Err(unsupported_value(&format!("{param}.type"), "custom", "function")),
    }
}

/// Names of functions and of schemas follow the same rule.
pub(super) fn check_name(param: &str, name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(invalid(format!(
            "Invalid '{param}': empty string. Expected a string with minimum length 1, but got an \
             empty string instead."
        ))
        .code("empty_string")
        .param(param));
    }
    let len = name.chars().count();
    if len > NAME_LEN_MAX {
        return Err(crate::refusal::string_too_long(param, NAME_LEN_MAX, len));
    }
    if name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) {
        return Ok(());
    }
    Err(invalid(format!(
        "Invalid '{param}': string does not match pattern. Expected a string that matches the \
         pattern '^[a-zA-Z0-9_-]+$'."
    ))
    .code("invalid_value")
    .param(param))
}

/// A function's arguments are an object.
fn check_parameters(param: &str, name: &str, text: &str) -> Result<(), ApiError> {
    let schema = read_schema(param, text)?;
    let got = match schema.get("type") {
        None => return Ok(()),
        Some(Value::String(kind)) if kind == "object" => return Ok(()),
        Some(Value::String(kind)) => format!("\"{}\"", echo(kind)),
        Some(_) => "something else".to_owned(),
    };
    Err(invalid(format!(
        "Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"', \
         got 'type: {got}'."
    ))
    .code("invalid_function_parameters")
    .param(param))
}

fn choose(
    tools: Vec<Tool>,
    choice: Option<wire::ToolChoice>,
    places: Places,
) -> Result<(Vec<Tool>, ToolChoice), ApiError> {
    let choice = match choice {
        None | Some(wire::ToolChoice::Mode(ToolChoiceMode::Auto)) => {
            return Ok((tools, ToolChoice::Auto));
        }
        Some(wire::ToolChoice::Mode(ToolChoiceMode::None)) => {
            return Ok((tools, ToolChoice::None));
        }
        Some(choice) => choice,
    };
    if tools.is_empty() {
        return Err(invalid(
            "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are \
             specified.",
        )
        .param("tool_choice"));
    }
    match choice {
        wire::ToolChoice::Mode(_) => Ok((tools, ToolChoice::Required)),
        wire::ToolChoice::Named(object) => choose_by_name(tools, *object, places),
    }
}

fn choose_by_name(
    tools: Vec<Tool>,
    object: ToolChoiceObject,
    places: Places,
) -> Result<(Vec<Tool>, ToolChoice), ApiError> {
    match object.kind {
        ToolChoiceType::Function => {
            let param = format!("tool_choice{}", places.function);
            let name = known(&tools, &param, object.function)?;
            Ok((tools, ToolChoice::Named(name)))
        }
        ToolChoiceType::AllowedTools => {
            let param = format!("tool_choice{}", places.allowed);
            let allowed = given(object.allowed_tools).ok_or_else(|| missing(&param))?;
            restrict(tools, allowed, &format!("{param}.tools"), places)
        }
        ToolChoiceType::Custom => Err(unsupported_value("tool_choice.type", "custom", "function")),
    }
}

/// Leaves the tools that are allowed.
fn restrict(
    tools: Vec<Tool>,
    allowed: AllowedTools,
    param: &str,
    places: Places,
) -> Result<(Vec<Tool>, ToolChoice), ApiError> {
    if allowed.tools.is_empty() {
        return Err(empty_array(param));
    }
    let mut names = HashSet::new();
    for (index, tool) in allowed.tools.into_iter().enumerate() {
        let param = format!("{param}[{index}]");
        check_type(&param, tool.kind)?;
        names.insert(known(&tools, &format!("{param}{}", places.function), tool.function)?);
    }
    let choice = match allowed.mode {
        AllowedToolsMode::Auto => ToolChoice::Auto,
        AllowedToolsMode::Required => ToolChoice::Required,
    };
    Ok((tools.into_iter().filter(|tool| names.contains(&tool.name)).collect(), choice))
}

/// The name of a function that must be one of the tools.
fn known(
    tools: &[Tool],
    param: &str,
    function: Option<Nullable<FunctionName>>,
) -> Result<String, ApiError> {
    let name = given(function).ok_or_else(|| missing(param))?.name;
    if tools.iter().any(|tool| tool.name == name) {
        return Ok(name);
    }
    Err(invalid(format!("Tool choice '{}' not found in 'tools' parameter.", echo(&name)))
        .code("invalid_value")
        .param(format!("{param}.name")))
}

/// A call of an earlier turn.
pub(super) fn call(param: &str, wire: MessageToolCall) -> Result<ToolCall, ApiError> {
    check_type(param, given(wire.kind).unwrap_or(ToolType::Function))?;
    let function = given(wire.function).ok_or_else(|| missing(&format!("{param}.function")))?;
    Ok(ToolCall { id: wire.id, name: function.name, arguments: function.arguments })
}
