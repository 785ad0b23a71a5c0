//! From Anthropic's words to the domain's.

use std::sync::Arc;

use rkllama_core::{
    Chat, Format, Image, Message, Model, Prompt, Request, Role, Sampling, Tool, ToolCall,
    ToolChoice,
};
use rkllama_http::{ApiError, given, image_of_base64, image_of_url};

use super::{
    failure::{bad, unresolved},
    wire::{
        BlockSource, InputBlock, InputContent, InputMessage, InputRole, MessagesRequest,
        ThinkingType, ToolChoiceType, ToolDefinition,
    },
};
use crate::{
    State,
    checks::{SCHEMA_BYTES_MAX, TOOLS_MAX, echo, is_tool_name, saturated, top_k},
};

/// A request that may run, and how to answer it.
pub(super) struct Checked {
    pub(super) request: Request,
    /// The model's name for the answer.
    pub(super) model: String,
    pub(super) stream: bool,
    /// Whether the client is told what the model thinks.
    pub(super) shows_thoughts: bool,
    /// Whether it gets more than the first call.
    pub(super) several_calls: bool,
    /// Fields that were used in vain.
    pub(super) ignored: Vec<&'static str>,
}

/// A conversation whose tokens are wanted: none of its answer is.
pub(super) fn counted(
    mut wire: MessagesRequest,
    client: Arc<str>,
    state: &State,
) -> Result<Request, ApiError> {
    wire.max_tokens.get_or_insert(1);
    message(wire, client, state).map(|checked| checked.request)
}

fn model(name: Option<String>, state: &State) -> Result<(Arc<Model>, String), ApiError> {
    let model = state.fallback.for_answers(name.as_deref(), &*state.models);
    let model = model.map_err(unresolved)?;
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| model.id.clone());
    Ok((model, name))
}

/// A conversation to be answered.
pub(super) fn message(
    mut wire: MessagesRequest,
    client: Arc<str>,
    state: &State,
) -> Result<Checked, ApiError> {
    let (model, name) = model(wire.model.take(), state)?;
    let tokens_max = wire.max_tokens.ok_or_else(|| bad("max_tokens", "Field required"))?;
    check_tokens_max(&wire)?;
    let sampling = sampling(&wire)?;
    let format = format(&wire)?;
    refuse_servers(&wire)?;
    let mut ignored = Vec::new();
    let named =
        [("metadata", wire.metadata.is_some()), ("service_tier", wire.service_tier.is_some())];
    ignored.extend(named.into_iter().filter_map(|(name, is_there)| is_there.then_some(name)));
    let stream = wire.stream.unwrap_or(false);
    let mut stop = wire.stop_sequences.take().unwrap_or_default();
    stop.retain(|text| !text.is_empty());
    let (chat, shows_thoughts) = chat(wire)?;
    let several_calls = chat.parallel_tool_calls;
    let request = Request {
        model,
        prompt: Prompt::Chat(chat),
        sampling,
        tokens_max: Some(saturated(tokens_max)),
        stop,
        format,
        ignore_eos: false,
        logprobs: None,
        keep_alive: None,
        client,
    };
    Ok(Checked { request, model: name, stream, shows_thoughts, several_calls, ignored })
}

fn check_tokens_max(wire: &MessagesRequest) -> Result<(), ApiError> {
    match wire.max_tokens {
        Some(..1) => Err(bad("max_tokens", "Input should be greater than or equal to 1")),
        _ => Ok(()),
    }
}

fn sampling(wire: &MessagesRequest) -> Result<Sampling, ApiError> {
    Ok(Sampling {
        temperature: fraction("temperature", wire.temperature)?,
        top_p: fraction("top_p", wire.top_p)?,
        top_k: match wire.top_k {
            Some(..0) => return Err(bad("top_k", "Input should be greater than or equal to 0")),
            k => k.map(top_k),
        },
        ..Sampling::default()
    })
}

fn refuse_servers(wire: &MessagesRequest) -> Result<(), ApiError> {
    let has_servers = wire.mcp_servers.as_ref().is_some_and(|servers| !servers.is_empty());
    if has_servers { Err(bad("mcp_servers", "this server connects to no others")) } else { Ok(()) }
}

fn fraction(field: &str, value: Option<f64>) -> Result<Option<f32>, ApiError> {
    match value {
        Some(value) if !(0.0..=1.0).contains(&value) => Err(bad(field, "range: 0..1")),
        value => Ok(value.map(|value| value as f32)),
    }
}

fn format(wire: &MessagesRequest) -> Result<Option<Format>, ApiError> {
    let config = wire.output_config.as_ref().and_then(|config| config.as_given());
    let Some(format) = config.and_then(|config| config.format.as_ref()?.as_given()) else {
        return Ok(None);
    };
    let schema = format.schema.text();
    if schema.len() > SCHEMA_BYTES_MAX {
        let words = format!("the schema is larger than {SCHEMA_BYTES_MAX} bytes");
        return Err(bad("output_config.format.schema", words));
    }
    Ok(Some(Format::JsonSchema(schema.to_owned())))
}

/// The conversation, and whether the client is told what the model thinks.
fn chat(wire: MessagesRequest) -> Result<(Chat, bool), ApiError> {
    if wire.messages.is_empty() {
        return Err(bad("messages", "at least one message is required"));
    }
    let (tools, tool_choice, several) = tools(&wire)?;
    let mut messages = Vec::with_capacity(wire.messages.len() + 1);
    let system = given(wire.system).map(without_billing);
    let system = system.map(|system| text_of("system", system)).transpose()?;
    if let Some(system) = system.filter(|system| !system.is_empty()) {
        messages.push(Message::new(Role::System, system));
    }
    for (at, message) in wire.messages.into_iter().enumerate() {
        add(&mut messages, &format!("messages.{at}"), message)?;
    }
    let continue_last = messages.last().is_some_and(|last| {
        last.role == Role::Assistant && last.tool_calls.is_empty() && !last.content.is_empty()
    });
    let thinking = match given(wire.thinking).map(|thinking| thinking.kind) {
        Some(ThinkingType::Enabled) => Some(true),
        Some(ThinkingType::Adaptive) => None,
        Some(ThinkingType::Disabled) | None => Some(false),
    };
    let chat = Chat {
        tools,
        tool_choice,
        parallel_tool_calls: several,
        thinking,
        reasoning_effort: given(wire.output_config).and_then(|config| config.effort),
        continue_last,
        ..Chat::new(messages)
    };
    Ok((chat, thinking != Some(false)))
}

/// Claude Code's first block of instructions is none: it tells Anthropic whom to charge, in other words in
/// each conversation. In a prompt it would keep all that comes behind it from being found in the cache.
fn without_billing(system: InputContent) -> InputContent {
    const BEGIN: &str = "x-anthropic-billing-header:";
    let InputContent::Blocks(mut blocks) = system else { return system };
    blocks.retain(|block| !block.text.as_ref().is_some_and(|text| text.starts_with(BEGIN)));
    InputContent::Blocks(blocks)
}

fn tools(wire: &MessagesRequest) -> Result<(Vec<Tool>, ToolChoice, bool), ApiError> {
    let defined = wire.tools.as_deref().unwrap_or_default();
    if defined.len() > TOOLS_MAX {
        return Err(bad("tools", format!("{} tools are more than {TOOLS_MAX}", defined.len())));
    }
    let tools = defined.iter().enumerate().map(|(at, tool)| tool_of(at, tool));
    let tools: Vec<Tool> = tools.collect::<Result<_, _>>()?;
    let Some(choice) = wire.tool_choice.as_ref().and_then(|choice| choice.as_given()) else {
        return Ok((tools, ToolChoice::Auto, true));
    };
    let several = !choice.disable_parallel_tool_use.unwrap_or(false);
    let choice = match (choice.kind, &choice.name) {
        (ToolChoiceType::Auto, _) => ToolChoice::Auto,
        (ToolChoiceType::None, _) => ToolChoice::None,
        (ToolChoiceType::Any, _) if tools.is_empty() => {
            return Err(bad("tool_choice", "there are no tools to choose from"));
        }
        (ToolChoiceType::Any, _) => ToolChoice::Required,
        (ToolChoiceType::Tool, None) => return Err(bad("tool_choice.name", "Field required")),
        (ToolChoiceType::Tool, Some(name)) => {
            if !tools.iter().any(|tool| tool.name == *name) {
                let words = format!("tool '{}' is not among the tools", echo(name));
                return Err(bad("tool_choice.name", words));
            }
            ToolChoice::Named(name.clone())
        }
    };
    Ok((tools, choice, several))
}

fn tool_of(at: usize, wire: &ToolDefinition) -> Result<Tool, ApiError> {
    if let Some(kind) = wire.kind.as_deref().filter(|kind| *kind != "custom") {
        let words = format!("'{}' is not supported by this server, 'custom' is", echo(kind));
        return Err(bad(&format!("tools.{at}.type"), words));
    }
    if !is_tool_name(&wire.name) {
        let words = "a name has 1 to 64 letters, digits, underscores and dashes";
        return Err(bad(&format!("tools.{at}.name"), words));
    }
    Ok(Tool {
        name: wire.name.clone(),
        description: wire.description.clone(),
        parameters: wire.input_schema.as_ref().map(|schema| schema.text().to_owned()),
        strict: wire.strict.unwrap_or(false),
    })
}

/// Adds a message: one of ours, or several where it carries results of calls.
fn add(messages: &mut Vec<Message>, field: &str, wire: InputMessage) -> Result<(), ApiError> {
    let field = format!("{field}.content");
    let blocks = match wire.content {
        InputContent::Text(text) => {
            messages.push(Message::new(role(wire.role), text));
            return Ok(());
        }
        InputContent::Blocks(blocks) => blocks,
    };
    let mut said = Message::new(role(wire.role), "");
    let mut has_parts = false;
    let mut thoughts = Vec::new();
    for (at, block) in blocks.into_iter().enumerate() {
        let field = format!("{field}.{at}");
        match (&*block.kind, wire.role) {
            ("tool_use", InputRole::Assistant) => said.tool_calls.push(call(&field, block)?),
            ("tool_result", InputRole::User) => messages.push(result(&field, block)?),
            ("thinking", InputRole::Assistant) => thoughts.extend(block.thinking),
            // Nobody here can read what another provider encrypted.
            ("redacted_thinking", InputRole::Assistant) => {}
            _ => {
                has_parts = true;
                push_block(&mut said, &field, block)?;
            }
        }
    }
    said.reasoning = (!thoughts.is_empty()).then(|| thoughts.join("\n"));
    // Results of calls alone leave nothing to be said.
    let says = has_parts || !said.tool_calls.is_empty() || said.reasoning.is_some();
    if says {
        messages.push(said);
    }
    Ok(())
}

const fn role(role: InputRole) -> Role {
    match role {
        InputRole::User => Role::User,
        InputRole::Assistant => Role::Assistant,
        InputRole::System => Role::System,
    }
}

fn call(field: &str, block: InputBlock) -> Result<ToolCall, ApiError> {
    let required = |name: &str| bad(&format!("{field}.{name}"), "Field required");
    Ok(ToolCall {
        id: block.id.ok_or_else(|| required("id"))?,
        name: block.name.ok_or_else(|| required("name"))?,
        arguments: block.input.map_or_else(|| "{}".to_owned(), |input| input.text().to_owned()),
    })
}

fn result(field: &str, block: InputBlock) -> Result<Message, ApiError> {
    let required = || bad(&format!("{field}.tool_use_id"), "Field required");
    let id = block.tool_use_id.ok_or_else(required)?;
    let mut message = Message { tool_call_id: Some(id), ..Message::new(Role::Tool, "") };
    match given(block.content).map(|content| *content) {
        None => {}
        Some(InputContent::Text(text)) => message.content = text,
        Some(InputContent::Blocks(blocks)) => {
            for (at, block) in blocks.into_iter().enumerate() {
                push_block(&mut message, &format!("{field}.content.{at}"), block)?;
            }
        }
    }
    if block.is_error.unwrap_or(false) {
        // No template has a place for this.
        message.content.insert_str(0, "Error: ");
    }
    Ok(message)
}

/// Adds a block that is said or shown.
fn push_block(message: &mut Message, field: &str, block: InputBlock) -> Result<(), ApiError> {
    if block.kind == "image" {
        message.push_image(image(&format!("{field}.source"), given(block.source))?);
        return Ok(());
    }
    message.push_text(&text_of_block(field, block)?);
    Ok(())
}

fn image(field: &str, source: Option<BlockSource>) -> Result<Image, ApiError> {
    let source = source.ok_or_else(|| bad(field, "Field required"))?;
    let required = |name: &str| bad(&format!("{field}.{name}"), "Field required");
    let found = match &*source.kind {
        "base64" => image_of_base64(source.data.as_deref().ok_or_else(|| required("data"))?),
        "url" => image_of_url(source.url.as_deref().ok_or_else(|| required("url"))?),
        other => Err(format!("'{}' is neither 'base64' nor 'url'", echo(other))),
    };
    let source = found.map_err(|reason| bad(field, reason))?;
    Ok(Image { field: field.to_owned(), source })
}

/// A text, or blocks that are nothing but text.
fn text_of(field: &str, content: InputContent) -> Result<String, ApiError> {
    match content {
        InputContent::Text(text) => Ok(text),
        InputContent::Blocks(blocks) => {
            let blocks = blocks.into_iter().enumerate();
            let texts = blocks.map(|(at, block)| text_of_block(&format!("{field}.{at}"), block));
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
    }
}

fn text_of_block(field: &str, block: InputBlock) -> Result<String, ApiError> {
    match &*block.kind {
        "text" => block.text.ok_or_else(|| bad(&format!("{field}.text"), "Field required")),
        "document" => {
            let source = given(block.source);
            let text = source.filter(|source| source.kind == "text").and_then(|it| it.data);
            let words = "documents are supported as plain text only (source.type 'text')";
            text.ok_or_else(|| bad(&format!("{field}.source"), words))
        }
        "image" => Err(bad(field, "images have no place in instructions")),
        other => {
            let words = format!("'{}' is not supported here", echo(other));
            Err(bad(&format!("{field}.type"), words))
        }
    }
}
