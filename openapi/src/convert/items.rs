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
    convert::messages::image,
    fields::refused_in_input,
    kept::{KeptResponses, Owner},
    refusal::{echo, empty_array, invalid, missing, unsupported, unsupported_value},
    wire::{
        ResponseInput, ResponseInputContent, ResponseInputItem, ResponseInputItemType as Type,
        ResponseInputPart, ResponseInputPartType as PartType, ResponseItem, ResponseItemType,
        ResponseOutput, ResponsePart, ResponsePartType as PartKind, ResponseRole, given,
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
            let part = ResponsePart::new(PartKind::InputText, text);
            let item = ResponseItem::message(random_id("msg_"), ResponseRole::User, vec![part]);
            context.push(Arc::new(item));
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
            let parts = parts(&below("content"), kind_of(role), content)?;
            ResponseItem::message(wire.id.unwrap_or_else(|| random_id("msg_")), role, parts)
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
                output: Some(result(parts(&below("output"), PartKind::InputText, output)?)),
                ..new(ResponseItemType::FunctionCallOutput, "fco_", wire.id)
            }
        }
        Type::Reasoning => {
            let content = given(wire.content)
                .map(|content| parts(&below("content"), PartKind::ReasoningText, content));
            let summary = wire.summary.unwrap_or_default();
            ResponseItem {
                summary: Some(typed(&below("summary"), PartKind::SummaryText, summary)?),
                content: content.transpose()?,
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

const fn kind_of(role: ResponseRole) -> PartKind {
    match role {
        ResponseRole::Assistant => PartKind::OutputText,
        ResponseRole::User | ResponseRole::System | ResponseRole::Developer => PartKind::InputText,
    }
}

fn parts(
    param: &str,
    kind: PartKind,
    content: ResponseInputContent,
) -> Result<Vec<ResponsePart>, ApiError> {
    match content {
        ResponseInputContent::Text(text) => Ok(vec![ResponsePart::new(kind, text)]),
        ResponseInputContent::Parts(parts) if parts.is_empty() => Err(empty_array(param)),
        ResponseInputContent::Parts(parts) => typed(param, kind, parts),
    }
}

/// Parts whose texts become texts of this kind.
fn typed(
    param: &str,
    kind: PartKind,
    parts: Vec<ResponseInputPart>,
) -> Result<Vec<ResponsePart>, ApiError> {
    let parts = parts.into_iter().enumerate();
    parts.map(|(index, wire)| part(&format!("{param}[{index}]"), kind, wire)).collect()
}

fn part(param: &str, kind: PartKind, wire: ResponseInputPart) -> Result<ResponsePart, ApiError> {
    let below = |field: &str| format!("{param}.{field}");
    if let Some(field) = refused_in_input(&wire) {
        return Err(unsupported(&below(field)));
    }
    let (text, field) = match wire.kind {
        PartType::InputText
        | PartType::OutputText
        | PartType::ReasoningText
        | PartType::SummaryText => (wire.text, "text"),
        PartType::Refusal => (wire.refusal, "refusal"),
        PartType::InputImage if kind == PartKind::InputText => {
            let url = wire.image_url.ok_or_else(|| missing(&below("image_url")))?;
            return Ok(ResponsePart::image(url, wire.detail));
        }
        PartType::InputImage | PartType::InputFile | PartType::InputAudio => {
            let supported = match kind {
                PartKind::OutputText => "output_text', 'refusal".to_owned(),
                other => name(&other),
            };
            return Err(unsupported_value(&below("type"), &name(&wire.kind), &supported));
        }
    };
    let text = text.ok_or_else(|| missing(&below(field)))?;
    Ok(ResponsePart::new(kind, text))
}

/// Text stays text, in whatever parts it came.
fn result(parts: Vec<ResponsePart>) -> ResponseOutput {
    if parts.iter().any(|part| part.kind == PartKind::InputImage) {
        return ResponseOutput::Parts(parts);
    }
    ResponseOutput::Text(joined(&parts))
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

/// The conversation: instructions, then the items, of which so many are of earlier responses.
pub(super) fn messages(
    instructions: Option<&str>,
    items: &[Arc<ResponseItem>],
    earlier: usize,
) -> Result<Vec<Message>, ApiError> {
    let mut messages: Vec<_> =
        instructions.map(|text| Message::new(Role::System, text)).into_iter().collect();
    let mut turn = Turn::default();
    for (index, item) in items.iter().enumerate() {
        let place = index.checked_sub(earlier);
        let field = |part: usize, field: &str| match place {
            None => "previous_response_id".to_owned(),
            Some(index) => format!("input[{index}].{field}[{part}].image_url"),
        };
        match (item.kind, item.role) {
            (ResponseItemType::Reasoning, _) => turn.think(&thoughts(item), &mut messages),
            (ResponseItemType::FunctionCall, _) => turn.call(item),
            (ResponseItemType::Message, Some(ResponseRole::Assistant)) => {
                turn.say(&joined(item.content.as_deref().unwrap_or_default()), &mut messages);
            }
            (ResponseItemType::Message, role) => {
                turn.end(&mut messages);
                let parts = item.content.as_deref().unwrap_or_default();
                let role = role.map_or(Role::User, speaker);
                messages.push(said(role, parts, |part| field(part, "content"))?);
            }
            (ResponseItemType::FunctionCallOutput, _) => {
                turn.end(&mut messages);
                let result = match &item.output {
                    None => Message::new(Role::Tool, ""),
                    Some(ResponseOutput::Text(text)) => Message::new(Role::Tool, text),
                    Some(ResponseOutput::Parts(parts)) => {
                        said(Role::Tool, parts, |part| field(part, "output"))?
                    }
                };
                messages.push(Message { tool_call_id: item.call_id.clone(), ..result });
            }
        }
    }
    turn.end(&mut messages);
    Ok(messages)
}

/// A message in parts, whose texts are joined and whose images stand where they are.
fn said(
    role: Role,
    parts: &[ResponsePart],
    field: impl Fn(usize) -> String,
) -> Result<Message, ApiError> {
    let mut message = Message::new(role, "");
    for (index, part) in parts.iter().enumerate() {
        match &part.image_url {
            Some(url) => message.push_image(image(&field(index), url)?),
            None => message.push_text(part.text.as_deref().unwrap_or_default()),
        }
    }
    Ok(message)
}

const fn speaker(role: ResponseRole) -> Role {
    match role {
        ResponseRole::User => Role::User,
        ResponseRole::Assistant => Role::Assistant,
        ResponseRole::System => Role::System,
        ResponseRole::Developer => Role::Developer,
    }
}

/// What was thought; a summary where there is nothing else.
fn thoughts(item: &ResponseItem) -> String {
    let content = item.content.as_ref().filter(|parts| !parts.is_empty());
    joined(content.or(item.summary.as_ref()).map(Vec::as_slice).unwrap_or_default())
}

fn joined(parts: &[ResponsePart]) -> String {
    parts.iter().filter_map(|part| part.text.as_deref()).collect::<Vec<_>>().join("\n")
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
    fn think(&mut self, text: &str, messages: &mut Vec<Message>) {
        if self.content.is_some() || !self.calls.is_empty() {
            self.end(messages);
        }
        self.reasoning =
            Some(self.reasoning.take().map_or(text.to_owned(), |all| all + "\n" + text));
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
