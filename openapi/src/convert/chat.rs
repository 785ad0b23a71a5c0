//! A chat request.

use rkllama_core::{Chat, LogprobsWanted, Message, Model, Prompt, Request, Role, ToolChoice};
use rkllama_http::{ApiError, Caller};
use serde_json::Value;

use super::{
    Checked, View,
    common::{check_integer, clamp_u32, common_fields},
    format::{format, read_schema},
    messages::messages,
    model::resolve,
    refuse_ignored,
    tools::{Places, tools},
};
use crate::{
    State,
    failure::Blame,
    fields::Fields,
    refusal::{invalid, invalid_type, unsupported},
    wire::{
        ChatCompletionRequest, JsonObject, ReasoningEffort, ReasoningFormat, Thinking,
        ThinkingObject, ThinkingType, given,
    },
};

/// Checks a request and translates it.
pub(crate) fn chat(
    mut wire: ChatCompletionRequest,
    caller: Caller,
    state: &State,
) -> Result<Checked, ApiError> {
    if let Some(field) = wire.refused() {
        return Err(unsupported(field));
    }
    let ignored = wire.ignored();
    refuse_ignored(&ignored, state)?;
    check_integer("top_logprobs", wire.top_logprobs, 0, 20)?;
    let logprobs = logprobs(wire.logprobs, wire.top_logprobs)?;
    let mut common = common_fields!(wire);
    let (sampling, stop, keep_alive) = (common.sampling()?, common.stop()?, common.keep_alive()?);
    let n = common.n()?;
    let format = format(given(wire.response_format.take()), &mut common)?;
    let asked = wire.max_completion_tokens.or(wire.max_tokens);
    let view = View {
        reasoning: wire.include_reasoning.unwrap_or(true),
        several_calls: wire.parallel_tool_calls.unwrap_or(true),
        timings_per_token: wire.timings_per_token.unwrap_or(false),
        logprobs: logprobs.is_some(),
        strict: state.strict_parameters,
        blame: Blame {
            prompt: "messages",
            format: format.as_ref().map_or("tools", |(_, field)| field),
        },
    };
    let ignore_eos = wire.ignore_eos.unwrap_or(false);
    let model = wire.model.take();
    let chat = conversation(wire)?;
    let (model, name) = resolve(model, state)?;
    Ok(Checked {
        requests: vec![Request {
            tokens_max: tokens_max(asked, &model),
            model,
            prompt: Prompt::Chat(chat),
            sampling,
            stop,
            format: format.map(|(format, _)| format),
            ignore_eos,
            logprobs,
            keep_alive,
            client: caller.0,
        }],
        n,
        best_of: n,
        view,
        model: name,
        stream: common.is_streamed(),
        include_usage: common.includes_usage(),
        echoes: Vec::new(),
        ignored,
    })
}

fn conversation(wire: ChatCompletionRequest) -> Result<Chat, ApiError> {
    let variables = wire.chat_template_kwargs.as_ref().map(read_variables).transpose()?;
    let effort = given(wire.reasoning_effort);
    let switch = wire.enable_thinking.or(given(wire.thinking).and_then(switched));
    let thinking = thinking(switch, effort, variables.as_ref())?;
    let messages = messages(wire.messages)?;
    let continue_last = wire.continue_final_message.unwrap_or(false);
    if continue_last {
        check_continuable(&messages, wire.add_generation_prompt)?;
    }
    let (tools, tool_choice) = tools(wire.tools, given(wire.tool_choice), Places::NESTED)?;
    if continue_last && matches!(tool_choice, ToolChoice::Required | ToolChoice::Named(_)) {
        return Err(unsupported("continue_final_message"));
    }
    Ok(Chat {
        preface: Vec::new(),
        messages,
        tools,
        tool_choice,
        parallel_tool_calls: wire.parallel_tool_calls.unwrap_or(true),
        thinking,
        reasoning_effort: effort_in_words(effort),
        template_variables: wire.chat_template_kwargs.map(|object| object.text().to_owned()),
        continue_last,
        split_reasoning: given(wire.reasoning_format) != Some(ReasoningFormat::None),
    })
}

fn logprobs(is_wanted: Option<bool>, top: Option<i64>) -> Result<Option<LogprobsWanted>, ApiError> {
    if is_wanted != Some(true) {
        // 0 of none is what clients send who send everything.
        return match top {
            Some(1..) => Err(invalid("'top_logprobs' needs 'logprobs' to be true.")
                .code("invalid_value")
                .param("top_logprobs")),
            _ => Ok(None),
        };
    }
    Ok(Some(LogprobsWanted { top: top.map_or(0, clamp_u32), of_prompt: false }))
}

/// The limit of the request, else the model's. A negative limit asks for all that the context
/// holds, also where the model has a limit of its own: `None` would leave that one in force.
pub(super) fn tokens_max(asked: Option<i64>, model: &Model) -> Option<u32> {
    asked.map_or(model.tokens_max, |tokens| Some(clamp_u32(tokens)))
}

pub(super) fn read_variables(object: &JsonObject) -> Result<Value, ApiError> {
    read_schema("chat_template_kwargs", object.text())
}

/// What a template hears; not to think at all it is told in another way.
pub(super) fn effort_in_words(effort: Option<ReasoningEffort>) -> Option<String> {
    effort.filter(|effort| *effort != ReasoningEffort::None).map(|e| e.as_str().to_owned())
}

/// Whether the model thinks: the most particular field wins.
pub(super) fn thinking(
    switch: Option<bool>,
    effort: Option<ReasoningEffort>,
    variables: Option<&Value>,
) -> Result<Option<bool>, ApiError> {
    for name in ["enable_thinking", "thinking"] {
        match variables.and_then(|variables| variables.get(name)) {
            None | Some(Value::Null) => {}
            Some(Value::Bool(is_on)) => return Ok(Some(*is_on)),
            Some(other) => {
                let param = format!("chat_template_kwargs.{name}");
                return Err(invalid_type(&param, "a boolean", other));
            }
        }
    }
    Ok(switch.or((effort == Some(ReasoningEffort::None)).then_some(false)))
}

const fn switched(thinking: Thinking) -> Option<bool> {
    match thinking {
        Thinking::Is(is_on) => Some(is_on),
        Thinking::Object(ThinkingObject { kind: ThinkingType::Enabled }) => Some(true),
        Thinking::Object(ThinkingObject { kind: ThinkingType::Disabled }) => Some(false),
        Thinking::Object(ThinkingObject { kind: ThinkingType::Auto }) => None,
    }
}

/// There has to be something of the assistant's to go on with.
fn check_continuable(messages: &[Message], prompted: Option<bool>) -> Result<(), ApiError> {
    const PARAM: &str = "continue_final_message";
    if prompted == Some(true) {
        return Err(invalid(
            "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
        )
        .code("invalid_value")
        .param(PARAM));
    }
    match messages.last() {
        Some(last) if last.role == Role::Assistant && last.tool_calls.is_empty() => Ok(()),
        _ => Err(invalid(format!(
            "Invalid '{PARAM}': the last message has to be the assistant's, without calls of tools."
        ))
        .code("invalid_value")
        .param(PARAM)),
    }
}
