//! The items of a response: from the wire, and to the messages of a conversation.
//!
//! A turn of the assistant is one message in the domain and in chat templates, and several items
//! here: thoughts, text, calls. They are joined again, so that the prompt of the next turn begins
//! with what the runtime's cache holds.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use poem::http::StatusCode;
use poem_openapi::types::ToJSON;
use rkllama_core::{Message, Role, ToolCall};
use rkllama_http::ApiError;

use crate::{
    answer::random_id,
    kept::{KeptResponses, Owner},
    refusal::{echo, empty_array, invalid, missing, unsupported_value},
    wire::{
        ResponseInput, ResponseInputContent, ResponseInputItem, ResponseInputItemType as Type,
        ResponseInputPart, ResponseInputPartType as PartType, ResponseItem, ResponseItemType,
        ResponsePart, ResponsePartType, ResponseRole, given,
    },
};

/// Adds what is new to the items of earlier turns.
pub(super) fn add(
    context: &mut Vec<Arc<ResponseItem>>,
    input: Option<ResponseInput>,
    kept: &KeptResponses,
    owner: &Owner,
) -> Result<(), ApiError> {
    let items = match input {
        None if context.is_empty() => return Err(missing("input")),
        None => return Ok(()),
        Some(ResponseInput::Text(text)) => {
            context.push(Arc::new(said(None, ResponseRole::User, vec![text])));
            return Ok(());
        }
        Some(ResponseInput::Items(items)) => items,
    };
    if items.is_empty() && context.is_empty() {
        return Err(empty_array("input"));
    }
    let referred = referred(&items, kept, owner);
    for (index, wire) in items.into_iter().enumerate() {
        context.push(item(&format!("input[{index}]"), wire, &referred)?);
    }
    check_results(context)
}

/// The items that others refer to.
fn referred(
    items: &[ResponseInputItem],
    kept: &KeptResponses,
    owner: &Owner,
) -> HashMap<String, Arc<ResponseItem>> {
    let references = items.iter().filter(|item| kind(item) == Type::ItemReference);
    let ids: HashSet<&str> = references.filter_map(|item| item.id.as_deref()).collect();
    if ids.is_empty() { HashMap::new() } else { kept.items(owner, &ids) }
}

/// OpenAI lets messages and references be without a type.
fn kind(item: &ResponseInputItem) -> Type {
    let stated = item.kind.as_ref().and_then(|kind| kind.as_given()).copied();
    let is_reference = item.role.is_none() && item.content.is_none() && item.id.is_some();
    stated.unwrap_or(if is_reference { Type::ItemReference } else { Type::Message })
}

fn item(
    param: &str,
    wire: ResponseInputItem,
    referred: &HashMap<String, Arc<ResponseItem>>,
) -> Result<Arc<ResponseItem>, ApiError> {
    let below = |field: &str| format!("{param}.{field}");
    let required = |field: &str, value: Option<String>| value.ok_or_else(|| missing(&below(field)));
    let new = |kind, prefix, id: Option<String>| {
        ResponseItem::new(id.unwrap_or_else(|| random_id(prefix)), kind)
    };
    let item = match kind(&wire) {
        Type::Message => {
            let role = given(wire.role).ok_or_else(|| missing(&below("role")))?;
            let content = given(wire.content).ok_or_else(|| missing(&below("content")))?;
            said(wire.id, role, texts(&below("content"), content)?)
        }
        Type::FunctionCall => ResponseItem {
            call_id: Some(required("call_id", wire.call_id)?),
            name: Some(required("name", wire.name)?),
            arguments: Some(required("arguments", wire.arguments)?),
            ..new(ResponseItemType::FunctionCall, "fc_", wire.id)
        },
        Type::FunctionCallOutput => {
            let output = given(wire.output).ok_or_else(|| missing(&below("output")))?;
            ResponseItem {
                call_id: Some(required("call_id", wire.call_id)?),
                output: Some(texts(&below("output"), output)?.join("\n")),
                ..new(ResponseItemType::FunctionCallOutput, "fco_", wire.id)
            }
        }
        Type::Reasoning => {
            let content = given(wire.content).map(|content| texts(&below("content"), content));
            let summary = wire.summary.map(|parts| part_texts(&below("summary"), parts));
            let parts = |kind, texts: Vec<String>| {
                texts.into_iter().map(|text| ResponsePart::new(kind, text)).collect::<Vec<_>>()
            };
            let summary = summary.transpose()?.unwrap_or_default();
            let content = content.transpose()?;
            ResponseItem {
                summary: Some(parts(ResponsePartType::SummaryText, summary)),
                content: content.map(|texts| parts(ResponsePartType::ReasoningText, texts)),
                ..new(ResponseItemType::Reasoning, "rs_", wire.id)
            }
        }
        Type::ItemReference => {
            let id = required("id", wire.id)?;
            return referred.get(&id).cloned().ok_or_else(|| unknown_item(&id));
        }
        other => {
            const SUPPORTED: &str =
                "message', 'function_call', 'function_call_output', 'reasoning', 'item_reference";
            return Err(unsupported_value(&below("type"), &name(&other), SUPPORTED));
        }
    };
    Ok(Arc::new(item))
}

/// The name of a value as on the wire.
pub(super) fn name(value: &impl ToJSON) -> String {
    let json = value.to_json().unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}

fn said(id: Option<String>, role: ResponseRole, texts: Vec<String>) -> ResponseItem {
    let kind = match role {
        ResponseRole::Assistant => ResponsePartType::OutputText,
        ResponseRole::User | ResponseRole::System | ResponseRole::Developer => {
            ResponsePartType::InputText
        }
    };
    let parts = texts.into_iter().map(|text| ResponsePart::new(kind, text)).collect();
    ResponseItem::message(id.unwrap_or_else(|| random_id("msg_")), role, parts)
}

fn texts(param: &str, content: ResponseInputContent) -> Result<Vec<String>, ApiError> {
    match content {
        ResponseInputContent::Text(text) => Ok(vec![text]),
        ResponseInputContent::Parts(parts) if parts.is_empty() => Err(empty_array(param)),
        ResponseInputContent::Parts(parts) => part_texts(param, parts),
    }
}

fn part_texts(param: &str, parts: Vec<ResponseInputPart>) -> Result<Vec<String>, ApiError> {
    let texts = parts.into_iter().enumerate().map(|(index, part)| {
        let (text, field) = match part.kind {
            PartType::InputText
            | PartType::OutputText
            | PartType::ReasoningText
            | PartType::SummaryText => (part.text, "text"),
            PartType::Refusal => (part.refusal, "refusal"),
            PartType::InputImage | PartType::InputFile | PartType::InputAudio => {
                let param = format!("{param}[{index}].type");
                return Err(unsupported_value(&param, &name(&part.kind), "input_text"));
            }
        };
        text.ok_or_else(|| missing(&format!("{param}[{index}].{field}")))
    });
    texts.collect()
}

/// Each result answers a call before it.
fn check_results(context: &[Arc<ResponseItem>]) -> Result<(), ApiError> {
    let mut calls = HashSet::new();
    for item in context {
        let id = item.call_id.as_deref().unwrap_or_default();
        match item.kind {
            ResponseItemType::FunctionCall => drop(calls.insert(id)),
            ResponseItemType::FunctionCallOutput if !calls.contains(id) => {
                return Err(invalid(format!(
                    "No tool call found for function call output with call_id {}.",
                    echo(id)
                ))
                .param("input"));
            }
            ResponseItemType::FunctionCallOutput
            | ResponseItemType::Message
            | ResponseItemType::Reasoning => {}
        }
    }
    Ok(())
}

/// In OpenAI's words.
fn unknown_item(id: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "invalid_request_error",
        format!(
            "Item with id '{}' not found. Items are not persisted when `store` is set to false. \
             Try again with `store` set to true, or remove this item from your input.",
            echo(id)
        ),
    )
    .param("input")
}

/// The conversation: instructions, then the items.
pub(super) fn messages(instructions: Option<&str>, items: &[Arc<ResponseItem>]) -> Vec<Message> {
    let mut messages: Vec<_> =
        instructions.map(|text| Message::new(Role::System, text)).into_iter().collect();
    let mut turn = Turn::default();
    for item in items {
        match (item.kind, item.role) {
            (ResponseItemType::Reasoning, _) => turn.think(joined(item), &mut messages),
            (ResponseItemType::FunctionCall, _) => turn.call(item),
            (ResponseItemType::Message, Some(ResponseRole::Assistant)) => {
                turn.say(&joined(item), &mut messages);
            }
            (ResponseItemType::Message, role) => {
                turn.end(&mut messages);
                messages.push(Message::new(role.map_or(Role::User, speaker), joined(item)));
            }
            (ResponseItemType::FunctionCallOutput, _) => {
                turn.end(&mut messages);
                let result = item.output.clone().unwrap_or_default();
                let tool_call_id = item.call_id.clone();
                messages.push(Message { tool_call_id, ..Message::new(Role::Tool, result) });
            }
        }
    }
    turn.end(&mut messages);
    messages
}

const fn speaker(role: ResponseRole) -> Role {
    match role {
        ResponseRole::User => Role::User,
        ResponseRole::Assistant => Role::Assistant,
        ResponseRole::System => Role::System,
        ResponseRole::Developer => Role::Developer,
    }
}

/// What an item says; a summary where there is nothing else.
fn joined(item: &ResponseItem) -> String {
    let content = item.content.as_ref().filter(|parts| !parts.is_empty());
    let parts = content.or(item.summary.as_ref()).into_iter().flatten();
    parts.map(|part| &*part.text).collect::<Vec<_>>().join("\n")
}

/// A turn of the assistant's in the making.
#[derive(Default)]
struct Turn {
    reasoning: Option<String>,
    content: Option<String>,
    calls: Vec<ToolCall>,
}

impl Turn {
    /// Thoughts come first: behind text they begin another turn.
    fn think(&mut self, text: String, messages: &mut Vec<Message>) {
        if self.content.is_some() || !self.calls.is_empty() {
            self.end(messages);
        }
        self.reasoning = Some(self.reasoning.take().map_or(text.clone(), |all| all + "\n" + &text));
    }

    /// Text behind calls belongs to them; behind text it is another turn.
    fn say(&mut self, text: &str, messages: &mut Vec<Message>) {
        if self.content.is_some() && self.calls.is_empty() {
            self.end(messages);
        }
        self.content.get_or_insert_default().push_str(text);
    }

    fn call(&mut self, item: &ResponseItem) {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        self.calls.push(ToolCall {
            id: text(&item.call_id),
            name: text(&item.name),
            arguments: text(&item.arguments),
        });
    }

    fn end(&mut self, messages: &mut Vec<Message>) {
        let Self { reasoning, content, calls } = std::mem::take(self);
        if reasoning.is_none() && content.is_none() && calls.is_empty() {
            return;
        }
        let message = Message::new(Role::Assistant, content.unwrap_or_default());
        messages.push(Message { reasoning, tool_calls: calls, ..message });
    }
}
