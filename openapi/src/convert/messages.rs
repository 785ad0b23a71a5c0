//! The conversation.

use std::collections::HashSet;

use rkllama_core::{Image, Message, Role};
use rkllama_http::{ApiError, image_of_url};

use super::tools;
use crate::{
    fields,
    refusal::{echo, empty_array, invalid, invalid_image, missing, unsupported},
    wire::{ChatMessage, ContentPart, ContentPartType, MessageContent, MessageRole, given},
};

/// The messages, in which results of tools belong to calls.
pub(super) fn messages(wire: Vec<ChatMessage>) -> Result<Vec<Message>, ApiError> {
    if wire.is_empty() {
        return Err(empty_array("messages"));
    }
    let messages = wire.into_iter().enumerate().map(|(index, wire)| message(index, wire));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    check_results(&messages)?;
    Ok(messages)
}

fn message(index: usize, wire: ChatMessage) -> Result<Message, ApiError> {
    if let Some(field) = fields::refused_in_message(&wire) {
        return Err(unsupported(&format!("messages[{index}].{field}")));
    }
    let param = format!("messages[{index}].content");
    let role = match wire.role {
        MessageRole::Developer => Role::Developer,
        MessageRole::System => Role::System,
        MessageRole::User => Role::User,
        MessageRole::Assistant => Role::Assistant,
        MessageRole::Tool => Role::Tool,
    };
    let said = match given(wire.content) {
        Some(MessageContent::Text(text)) => Message::new(role, text),
        Some(MessageContent::Parts(parts)) => said(role, &param, parts)?,
        None if wire.role == MessageRole::Assistant => {
            Message::new(role, wire.refusal.unwrap_or_default())
        }
        None => return Err(missing(&param)),
    };
    let calls = wire.tool_calls.unwrap_or_default().into_iter().enumerate().map(|(call, wire)| {
        if role != Role::Assistant {
            let param = format!("messages[{index}].tool_calls");
            return Err(invalid(format!("Invalid '{param}': only the assistant calls tools."))
                .code("invalid_value")
                .param(param));
        }
        tools::call(&format!("messages[{index}].tool_calls[{call}]"), wire)
    });
    Ok(Message {
        name: wire.name,
        reasoning: wire.reasoning_content.or(wire.reasoning),
        tool_calls: calls.collect::<Result<_, _>>()?,
        tool_call_id: wire.tool_call_id,
        ..said
    })
}

/// A message in parts, whose texts are joined and whose images stand where they are.
fn said(role: Role, param: &str, parts: Vec<ContentPart>) -> Result<Message, ApiError> {
    if parts.is_empty() {
        return Err(empty_array(param));
    }
    let mut message = Message::new(role, "");
    for (index, part) in parts.into_iter().enumerate() {
        if let Some(field) = fields::refused_in_part(&part) {
            return Err(unsupported(&format!("{param}[{index}].{field}")));
        }
        let below = |field: &str| format!("{param}[{index}].{field}");
        let (text, field) = match part.kind {
            ContentPartType::ImageUrl => {
                let field = below("image_url");
                let given = given(part.image_url);
                let url = given.ok_or_else(|| missing(&field))?.url;
                message.push_image(image(&format!("{field}.url"), &url)?);
                continue;
            }
            ContentPartType::Refusal => (part.refusal, "refusal"),
            ContentPartType::Text | ContentPartType::InputAudio | ContentPartType::File => {
                (part.text, "text")
            }
        };
        message.push_text(&text.ok_or_else(|| missing(&below(field)))?);
    }
    Ok(message)
}

/// An image behind a URL.
pub(super) fn image(field: &str, url: &str) -> Result<Image, ApiError> {
    let source = image_of_url(url).map_err(|reason| invalid_image(field, &reason))?;
    Ok(Image { field: field.to_owned(), source })
}

/// Each result answers a call of the last turn that made any. Calls without a result are taken:
/// a client that gave up on a tool goes on all the same.
fn check_results(messages: &[Message]) -> Result<(), ApiError> {
    let mut calls: HashSet<&str> = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        if !message.tool_calls.is_empty() {
            calls = message.tool_calls.iter().map(|call| &*call.id).collect();
        }
        if message.role != Role::Tool {
            continue;
        }
        let param = format!("messages[{index}].tool_call_id");
        let id = message.tool_call_id.as_deref().ok_or_else(|| missing(&param))?;
        if calls.is_empty() {
            return Err(invalid(
                "Invalid parameter: messages with role 'tool' must be a response to a preceeding \
                 message with 'tool_calls'.",
            )
            .code("invalid_value")
            .param(format!("messages[{index}].role")));
        }
        if !calls.contains(id) {
            return Err(invalid(format!(
                "Invalid parameter: 'tool_call_id' of '{}' not found in 'tool_calls' of previous \
                 message.",
                echo(id)
            ))
            .code("invalid_value")
            .param(param));
        }
    }
    Ok(())
}
