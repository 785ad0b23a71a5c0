//! Conversations put into other words for templates that cannot say them: instructions where there
//! is no system turn, tools and calls where there are none.

use std::{borrow::Cow, fmt::Write as _};

use rkllama_core::{Chat, IMAGE_MARK, Message, Role, Tool, ToolCall, ToolChoice};

use crate::{CallForm, python};

pub(crate) const fn is_instruction(role: Role) -> bool {
    matches!(role, Role::System | Role::Developer)
}

/// The tools that the model may call now.
pub(crate) fn offered(chat: &Chat) -> &[Tool] {
    if chat.tool_choice == ToolChoice::None { &[] } else { &chat.tools }
}

/// The same conversation without system messages: their text stands before that of the next user
/// turn; behind the last one it is a user turn of its own.
pub(crate) fn instructions_merged(messages: &[Message]) -> Vec<Message> {
    let mut merged: Vec<Message> = Vec::with_capacity(messages.len());
    let mut pending: Vec<&str> = Vec::new();
    let mut images = Vec::new();
    for message in messages {
        if is_instruction(message.role) {
            pending.push(&message.content);
            images.extend_from_slice(&message.images);
        } else if message.role == Role::User && !pending.is_empty() {
            pending.push(&message.content);
            let content = std::mem::take(&mut pending).join("\n\n");
            // Whose images they are is told by their order alone.
            let images = std::mem::take(&mut images);
            let images = [images, message.images.clone()].concat();
            merged.push(Message { content, images, ..message.clone() });
        } else {
            merged.push(message.clone());
        }
    }
    if !pending.is_empty() {
        merged.push(Message { images, ..Message::new(Role::User, pending.join("\n\n")) });
    }
    merged
}

/// The same conversation with one call for each turn, the result behind it.
pub(crate) fn single_calls(messages: &[Message]) -> Vec<Message> {
    let mut single: Vec<Message> = Vec::with_capacity(messages.len());
    let mut rest = messages;
    while let Some((message, behind)) = rest.split_first() {
        let results = behind.iter().take_while(|message| message.role == Role::Tool).count();
        let (results, behind) = match message.tool_calls.len() {
            0 | 1 => behind.split_at(0),
            _ => behind.split_at(results),
        };
        rest = behind;
        if message.tool_calls.len() < 2 {
            single.push(message.clone());
            continue;
        }
        let answers = |result: &Message, call: &ToolCall| {
            result.tool_call_id.as_deref() == Some(call.id.as_str())
        };
        for (index, call) in message.tool_calls.iter().enumerate() {
            let turn = Message { tool_calls: vec![call.clone()], ..message.clone() };
            single.push(match index {
                0 => turn,
                _ => Message { content: String::new(), reasoning: None, ..turn },
            });
            single.extend(results.iter().filter(|result| answers(result, call)).cloned());
        }
        let known = |result: &&Message| message.tool_calls.iter().any(|call| answers(result, call));
        single.extend(results.iter().filter(|result| !known(result)).cloned());
    }
    single
}

/// The same messages, the first of which is an instruction with this text, made from its own.
pub(crate) fn with_system(messages: &[Message], text: impl FnOnce(&str) -> String) -> Vec<Message> {
    let mut messages = messages.to_vec();
    match messages.first_mut() {
        Some(first) if is_instruction(first.role) => first.content = text(&first.content),
        _ => messages.insert(0, Message::new(Role::System, text(""))),
    }
    messages
}

/// The same conversation with the tools as words of the system turn.
pub(crate) fn prompted(chat: &Chat, form: &CallForm) -> Chat {
    let prompt = tool_prompt(chat, form);
    let text = |system: &str| match system.is_empty() {
        true => prompt.clone(),
        false => format!("{system}\n\n{prompt}"),
    };
    let messages = with_system(&chat.messages, text);
    Chat { messages, tools: Vec::new(), ..chat.clone() }
}

/// What a model is told that was not taught how to call tools. The wording is part of prompts that
/// are kept in caches: do not change it without need.
fn tool_prompt(chat: &Chat, form: &CallForm) -> String {
    let mut prompt = String::from("You can call these functions:\n");
    for tool in &chat.tools {
        let json = python::to_json(&python::tool(tool));
        let _ = writeln!(prompt, "{json}");
    }
    let example = form.write([("NAME", "{\"PARAMETER\": VALUE}")]);
    let _ = write!(
        prompt,
        "\nTo call a function, answer with nothing but this, where the arguments are JSON that \
         follows the function's parameters:\n{example}"
    );
    if chat.parallel_tool_calls {
        prompt.push_str("\nTo call several, write one after the other.");
    }
    prompt.push_str(match &chat.tool_choice {
        ToolChoice::Required | ToolChoice::Named(_) => "\nYou have to call a function now.",
        ToolChoice::None | ToolChoice::Auto => {
            "\nIf no function helps, answer in plain words. The results of calls come in \
             <tool_response></tool_response>."
        }
    });
    prompt
}

/// The same messages with calls and results as text: calls in the form that the model is told to
/// write, results in the user's turn. Turns of the same side that follow each other are one.
pub(crate) fn calls_as_text(messages: &[Message], form: &CallForm) -> Vec<Message> {
    let concerned =
        |message: &Message| message.role == Role::Tool || !message.tool_calls.is_empty();
    if !messages.iter().any(concerned) {
        return messages.to_vec();
    }
    let mut texts: Vec<Message> = Vec::with_capacity(messages.len());
    let mut behind_result = false;
    for message in messages {
        let text = as_text(message, form);
        match texts.last_mut() {
            Some(last) if behind_result && text.role == Role::User => {
                last.content = [&last.content, "\n", &text.content].concat();
                last.images.extend(text.images);
            }
            _ => texts.push(text),
        }
        behind_result = message.role == Role::Tool;
    }
    texts
}

fn as_text(message: &Message, form: &CallForm) -> Message {
    if message.role == Role::Tool {
        let content = format!("<tool_response>\n{}\n</tool_response>", message.content);
        return Message { images: message.images.clone(), ..Message::new(Role::User, content) };
    }
    if message.tool_calls.is_empty() {
        return message.clone();
    }
    let calls = message.tool_calls.iter().map(|call| (call.name.as_str(), &*call.arguments));
    let calls = form.write(calls);
    let content = match message.content.is_empty() {
        true => calls,
        false => [&message.content, "\n", &calls].concat(),
    };
    Message { content, tool_calls: Vec::new(), ..message.clone() }
}

/// An id of nine letters and digits, always the same for the same id.
pub(crate) fn short_id(id: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    // FNV-1a: it must be stable over versions of compiler and server, so that caches hold.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let digit = |place: u32| {
        let index = usize::try_from(hash / 62_u64.pow(place) % 62).unwrap_or(0);
        char::from(DIGITS[index])
    };
    (0..9).map(digit).collect()
}

/// A conversation whose every word of a client has gone through `guard`, JSON string by string: an
/// escape in JSON text could hide what the template would then write out.
pub(crate) fn guarded(chat: &Chat, guard: impl Fn(&str) -> String) -> Chat {
    let json = |text: &str| {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return guard(text) };
        let guarded = guarded_json(value.clone(), &guard);
        // As the model or the client wrote it, wherever that is harmless: the blanks count.
        if guarded == value && guard(text) == text {
            return text.to_owned();
        }
        python::to_json(&python::value(guarded))
    };
    let option = |text: &Option<String>| text.as_deref().map(&guard);
    let call = |call: &ToolCall| ToolCall {
        id: guard(&call.id),
        name: guard(&call.name),
        arguments: json(&call.arguments),
    };
    let message = |message: &Message| Message {
        role: message.role,
        content: match message.images.as_slice() {
            [] => guard(&message.content).replace(IMAGE_MARK, "\u{fffd}"),
            _ => guard(&message.content),
        },
        images: message.images.clone(),
        name: option(&message.name),
        reasoning: option(&message.reasoning),
        tool_calls: message.tool_calls.iter().map(call).collect(),
        tool_call_id: option(&message.tool_call_id),
    };
    let tool = |tool: &Tool| Tool {
        name: guard(&tool.name),
        description: option(&tool.description),
        parameters: tool.parameters.as_deref().map(json),
        strict: tool.strict,
    };
    Chat {
        messages: chat.messages.iter().map(message).collect(),
        tools: chat.tools.iter().map(tool).collect(),
        reasoning_effort: option(&chat.reasoning_effort),
        template_variables: chat.template_variables.as_deref().map(json),
        ..chat.clone()
    }
}

fn guarded_json(value: serde_json::Value, guard: &impl Fn(&str) -> String) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => Value::String(guard(&text)),
        Value::Array(items) => items.into_iter().map(|item| guarded_json(item, guard)).collect(),
        Value::Object(fields) => {
            let field = |(key, value): (String, Value)| (guard(&key), guarded_json(value, guard));
            Value::Object(fields.into_iter().map(field).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// What a prompt ends with that goes on with the last message: everything behind its words is cut
/// off. As the reference does it: blank space that the template trimmed stays trimmed.
pub(crate) fn continued<'a>(rendered: &'a str, content: &str) -> Option<Cow<'a, str>> {
    let trimmed = content.trim();
    let at = rendered.rfind(trimmed)?;
    let whole = content.trim_start();
    let kept = if rendered[at..].starts_with(whole) { whole } else { trimmed };
    Some(Cow::Borrowed(&rendered[..at + kept.len()]))
}
