//! A request for a response.

use std::{collections::BTreeMap, sync::Arc};

use rkllama_core::{Chat, Format, LogprobsWanted, Prompt, Request};
use rkllama_http::{ApiError, Caller};

use super::{
    Checked, View,
    chat::{effort_in_words, read_variables, thinking, tokens_max},
    common::{CommonFields, check_integer, clamp_u32},
    format::named_schema,
    items,
    model::resolve,
    refuse_ignored,
    tools::{Places, tools},
};
use crate::{
    State,
    answer::{Composer, Keep, now_s, random_id},
    failure::Blame,
    fields::Fields,
    kept::Owner,
    refusal::{
        Bound, array_too_long, echo, invalid, missing, string_too_long, unsupported,
        unsupported_value,
    },
    wire::{
        self, AllowedTool, AllowedTools, CreateResponse, FunctionDefinition, FunctionName,
        FunctionType, IncludeName, Nullable, Response, ResponseFormatType, ResponseFunctionTool,
        ResponseObjectName, ResponseReasoning, ResponseReasoningState, ResponseStatus,
        ResponseText, ResponseTextFormatState, ResponseTextState, ResponseTool, ResponseToolChoice,
        ResponseToolChoiceType, ResponseToolType, ToolChoiceMode, ToolChoiceObject, ToolChoiceType,
        ToolType, TruncationMode, given,
    },
};

/// Fewest tokens that can be asked for: OpenAI's own number.
const OUTPUT_TOKENS_MIN: f64 = 16.0;
/// Pairs of metadata, and how long they are, in characters: OpenAI's own numbers.
const METADATA_PAIRS_MAX: usize = 16;
const METADATA_KEY_LEN_MAX: usize = 64;
const METADATA_TEXT_LEN_MAX: usize = 512;

/// Whose a response is. Without keys there is nobody to be told apart: an address is no person,
/// and the ids cannot be guessed.
pub(crate) fn owner(caller: Caller, state: &State) -> Owner {
    (!state.keys.is_empty()).then_some(caller.0)
}

/// Checks a request and translates it, and prepares the answer.
pub(crate) fn response(
    mut wire: CreateResponse,
    caller: Caller,
    state: &State,
) -> Result<(Checked, Composer), ApiError> {
    if let Some(field) = wire.refused() {
        return Err(unsupported(field));
    }
    let ignored = wire.ignored();
    refuse_ignored(&ignored, state)?;
    check_numbers(&wire)?;
    let metadata = wire.metadata.take().unwrap_or_default();
    check_metadata(&metadata)?;
    let mut common = common_fields(&mut wire);
    let (sampling, stop, keep_alive) = (common.sampling()?, common.stop()?, common.keep_alive()?);
    let text = given(wire.text.take()).unwrap_or_default();
    let (format, text) = form(text)?;
    let reasoning = given(wire.reasoning.take()).unwrap_or_default();
    let owner = owner(Caller(Arc::clone(&caller.0)), state);
    let (context, earlier) = context(&mut wire, state, &owner)?;
    let mut chat = conversation(&wire, &reasoning)?;
    chat.messages = items::messages(wire.instructions.as_deref(), &context, earlier)?;
    let shown_tools = shown(wire.tools.as_deref().unwrap_or_default());
    let choice = given(wire.tool_choice.take());
    let shown_choice = choice.clone().unwrap_or(ResponseToolChoice::Mode(ToolChoiceMode::Auto));
    let choice = choice.map(nested_choice).transpose()?;
    (chat.tools, chat.tool_choice) =
        tools(wire.tools.take().map(nested_tools).transpose()?, choice, Places::FLAT)?;
    let several_calls = chat.parallel_tool_calls;
    let (model, name) = resolve(wire.model.take(), state)?;
    let in_use = |request: Option<f64>, own: Option<f32>| request.unwrap_or_else(|| rounded(own));
    let response = Response {
        id: random_id("resp_"),
        object: ResponseObjectName::Response,
        created_at: now_s(),
        status: ResponseStatus::InProgress,
        completed_at: Nullable(None),
        background: false,
        error: Nullable(None),
        incomplete_details: Nullable(None),
        instructions: Nullable(wire.instructions.take()),
        max_output_tokens: Nullable(wire.max_output_tokens),
        model: name.clone(),
        output: Vec::new(),
        parallel_tool_calls: several_calls,
        previous_response_id: Nullable(wire.previous_response_id.take()),
        reasoning: reasoning_state(&reasoning),
        service_tier: "default".to_owned(),
        store: wire.store.unwrap_or(true),
        temperature: in_use(wire.temperature, model.sampling.temperature),
        text,
        tool_choice: shown_choice,
        tools: shown_tools,
        top_p: in_use(wire.top_p, model.sampling.top_p),
        truncation: TruncationMode::Disabled,
        usage: None,
        metadata,
        timings: None,
    };
    let keep = Keep { responses: state.responses.clone(), owner, context };
    let keep = response.store.then_some(keep);
    let names = wire.include.as_ref().filter(|names| names.contains(&IncludeName::Logprobs));
    let logprobs = names
        .map(|_| LogprobsWanted { top: wire.top_logprobs.map_or(0, clamp_u32), of_prompt: false });
    let request = Request {
        tokens_max: tokens_max(wire.max_output_tokens, &model),
        model,
        prompt: Prompt::Chat(chat),
        sampling,
        stop,
        format,
        ignore_eos: false,
        logprobs,
        keep_alive,
        client: caller.0,
    };
    let view = View {
        reasoning: true,
        several_calls,
        timings_per_token: false,
        logprobs: logprobs.is_some(),
        strict: state.strict_parameters,
        blame: Blame {
            prompt: "input",
            format: if request.format.is_some() { "text.format" } else { "tools" },
        },
    };
    let stream = common.is_streamed();
    let checked = Checked {
        requests: vec![request],
        n: 1,
        best_of: 1,
        view,
        model: name,
        stream,
        include_usage: false,
        echoes: Vec::new(),
        ignored,
    };
    Ok((checked, Composer::new(response, keep)))
}

fn common_fields(wire: &mut CreateResponse) -> CommonFields {
    CommonFields {
        temperature: wire.temperature,
        top_p: wire.top_p,
        top_k: wire.top_k,
        repeat_penalty: wire.repeat_penalty,
        repetition_penalty: wire.repetition_penalty,
        frequency_penalty: wire.frequency_penalty,
        presence_penalty: wire.presence_penalty,
        stop: wire.stop.take(),
        keep_alive: wire.keep_alive.take(),
        stream: wire.stream,
        ..CommonFields::default()
    }
}

fn check_numbers(wire: &CreateResponse) -> Result<(), ApiError> {
    check_integer("top_logprobs", wire.top_logprobs, 0, 20)?;
    let Some(tokens) = wire.max_output_tokens else { return Ok(()) };
    #[expect(clippy::cast_precision_loss, reason = "only compared with a small bound and printed")]
    Bound::AtLeast(OUTPUT_TOKENS_MIN).check("max_output_tokens", tokens as f64, true)
}

fn check_metadata(pairs: &BTreeMap<String, String>) -> Result<(), ApiError> {
    if pairs.len() > METADATA_PAIRS_MAX {
        return Err(array_too_long("metadata", METADATA_PAIRS_MAX, pairs.len()));
    }
    for (key, text) in pairs {
        let (key_len, text_len) = (key.chars().count(), text.chars().count());
        if key_len > METADATA_KEY_LEN_MAX {
            return Err(string_too_long("metadata", METADATA_KEY_LEN_MAX, key_len));
        }
        if text_len > METADATA_TEXT_LEN_MAX {
            let param = format!("metadata.{key}");
            return Err(string_too_long(&param, METADATA_TEXT_LEN_MAX, text_len));
        }
    }
    Ok(())
}

/// The form of the text, and what is shown of it.
fn form(text: ResponseText) -> Result<(Option<Format>, ResponseTextState), ApiError> {
    const PARAM: &str = "text.format";
    let Some(wire) = given(text.format) else {
        return Ok((None, ResponseTextState { format: ResponseTextFormatState::plain() }));
    };
    let kind = wire.kind;
    match kind {
        ResponseFormatType::Text | ResponseFormatType::JsonObject => {
            let format = (kind == ResponseFormatType::JsonObject).then_some(Format::JsonObject);
            let shown = ResponseTextFormatState { kind, ..ResponseTextFormatState::plain() };
            Ok((format, ResponseTextState { format: shown }))
        }
        ResponseFormatType::JsonSchema => {
            let name = wire.name.ok_or_else(|| missing("text.format.name"))?;
            let format = named_schema(PARAM, &name, wire.schema.as_ref())?;
            let shown = ResponseTextFormatState {
                kind,
                name: Some(name),
                description: wire.description,
                schema: wire.schema.map(wire::JsonObject::on_one_line),
                strict: wire.strict,
            };
            Ok((Some(format), ResponseTextState { format: shown }))
        }
    }
}

/// All items that are answered, and how many of them are of earlier responses.
fn context(
    wire: &mut CreateResponse,
    state: &State,
    owner: &Owner,
) -> Result<(Vec<Arc<wire::ResponseItem>>, usize), ApiError> {
    let mut context = match &wire.previous_response_id {
        None => Vec::new(),
        Some(id) => {
            let kept = state.responses.get(owner, id).ok_or_else(|| {
                invalid(format!("Previous response with id '{}' not found.", echo(id)))
                    .code("previous_response_not_found")
                    .param("previous_response_id")
            })?;
            kept.items().cloned().collect()
        }
    };
    let earlier = context.len();
    items::add(&mut context, given(wire.input.take()), &state.responses, owner)?;
    Ok((context, earlier))
}

fn conversation(wire: &CreateResponse, reasoning: &ResponseReasoning) -> Result<Chat, ApiError> {
    let variables = wire.chat_template_kwargs.as_ref();
    let read = variables.map(read_variables).transpose()?;
    let effort = given(reasoning.effort);
    Ok(Chat {
        parallel_tool_calls: wire.parallel_tool_calls.unwrap_or(true),
        thinking: thinking(wire.enable_thinking, effort, read.as_ref())?,
        reasoning_effort: effort_in_words(effort),
        template_variables: variables.map(|object| object.text().to_owned()),
        ..Chat::new(Vec::new())
    })
}

fn reasoning_state(wire: &ResponseReasoning) -> ResponseReasoningState {
    let summary = given(wire.summary).or(given(wire.generate_summary));
    ResponseReasoningState { effort: Nullable(given(wire.effort)), summary: Nullable(summary) }
}

/// The model's own value where the request has none: 0.7 and not what that is as f32.
fn rounded(value: Option<f32>) -> f64 {
    value.and_then(|value| value.to_string().parse().ok()).unwrap_or(1.0)
}

fn shown(tools: &[ResponseTool]) -> Vec<ResponseFunctionTool> {
    let shown = tools.iter().map(|tool| ResponseFunctionTool {
        kind: FunctionType::Function,
        name: tool.name.clone().unwrap_or_default(),
        description: Nullable(tool.description.clone()),
        parameters: Nullable(tool.parameters.clone().map(wire::JsonObject::on_one_line)),
        strict: tool.strict.unwrap_or(false),
    });
    shown.collect()
}

/// As chat completions have them.
fn nested_tools(tools: Vec<ResponseTool>) -> Result<Vec<wire::Tool>, ApiError> {
    let nested = tools.into_iter().enumerate().map(|(index, tool)| {
        let param = format!("tools[{index}]");
        check_function(&param, tool.kind)?;
        let ResponseTool { name, description, parameters, strict, .. } = tool;
        let name = name.ok_or_else(|| missing(&format!("{param}.name")))?;
        let function = FunctionDefinition { name, description, parameters, strict };
        let function = Some(Nullable(Some(function)));
        Ok(wire::Tool { kind: ToolType::Function, function, custom: None })
    });
    nested.collect()
}

fn check_function(param: &str, kind: ResponseToolType) -> Result<(), ApiError> {
    if kind == ResponseToolType::Function {
        return Ok(());
    }
    Err(unsupported_value(&format!("{param}.type"), &items::name(&kind), "function"))
}

fn nested_choice(choice: ResponseToolChoice) -> Result<wire::ToolChoice, ApiError> {
    const PARAM: &str = "tool_choice";
    let object = match choice {
        ResponseToolChoice::Mode(mode) => return Ok(wire::ToolChoice::Mode(mode)),
        ResponseToolChoice::Named(object) => *object,
    };
    let named = |param: &str, name: Option<String>| {
        let name = name.ok_or_else(|| missing(&format!("{param}.name")))?;
        Ok::<_, ApiError>(Some(Nullable(Some(FunctionName { name }))))
    };
    let nested = match object.kind {
        ResponseToolChoiceType::Function => ToolChoiceObject {
            kind: ToolChoiceType::Function,
            function: named(PARAM, object.name)?,
            allowed_tools: None,
            custom: None,
        },
        ResponseToolChoiceType::AllowedTools => {
            let mode = given(object.mode).ok_or_else(|| missing("tool_choice.mode"))?;
            let tools = object.tools.ok_or_else(|| missing("tool_choice.tools"))?;
            let tools = tools.into_iter().enumerate().map(|(index, tool)| {
                let param = format!("{PARAM}.tools[{index}]");
                check_function(&param, tool.kind)?;
                let function = named(&param, tool.name)?;
                Ok(AllowedTool { kind: ToolType::Function, function })
            });
            let tools = tools.collect::<Result<_, ApiError>>()?;
            ToolChoiceObject {
                kind: ToolChoiceType::AllowedTools,
                function: None,
                allowed_tools: Some(Nullable(Some(AllowedTools { mode, tools }))),
                custom: None,
            }
        }
        other => {
            let supported = "function', 'allowed_tools";
            return Err(unsupported_value("tool_choice.type", &items::name(&other), supported));
        }
    };
    Ok(wire::ToolChoice::Named(Box::new(nested)))
}
