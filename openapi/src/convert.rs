//! From the wire to the domain: every check of a chat request, once.

use std::sync::Arc;

use rkllama_core::{
    Chat as Conversation, KeepAlive, Message, Model, ModelError, ModelState, Prompt, Request, Role,
    Sampling,
};
use rkllama_http::ApiError;

use crate::{
    State, failure, fields,
    refusal::{Bound, echo, empty_array, invalid, missing, string_too_long, unsupported},
    wire::{
        self, ChatCompletionRequest, ChatMessage, ContentPart, ContentPartType, MessageContent,
        MessageRole, STOP_TEXT_BYTES_MAX, Stop, given,
    },
};

/// A chat request that may run.
pub(crate) struct Chat {
    /// What to generate.
    pub(crate) request: Request,
    /// The model's name for the answer: the client's own words.
    pub(crate) model: String,
    /// Whether to answer in chunks.
    pub(crate) stream: bool,
    /// Whether the last chunk carries the usage.
    pub(crate) include_usage: bool,
    /// Fields that were used in vain.
    pub(crate) ignored: Vec<&'static str>,
}

/// Checks a request and translates it.
pub(crate) fn chat(
    mut wire: ChatCompletionRequest,
    client: &str,
    state: &State,
) -> Result<Chat, ApiError> {
    let sampling = sampling(&wire)?;
    let stop = stop(given(wire.stop.take()))?;
    let keep_alive = given(wire.keep_alive.take()).as_ref().map(keep_alive).transpose()?;
    check_integer("n", wire.n, 1, 128)?;
    check_integer("top_logprobs", wire.top_logprobs, 0, 20)?;
    if let Some(field) = fields::refused_in(&wire) {
        return Err(unsupported(field));
    }
    let ignored = fields::ignored_by(&wire);
    if wire.messages.is_empty() {
        return Err(empty_array("messages"));
    }
    let messages = wire.messages.into_iter().enumerate().map(|(index, wire)| message(index, wire));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    let (model, name) = resolve(wire.model, state)?;
    let tokens_max = tokens_max(wire.max_completion_tokens.or(wire.max_tokens), &model);
    Ok(Chat {
        request: Request {
            model,
            prompt: Prompt::Chat(Conversation::new(messages)),
            sampling,
            tokens_max,
            stop,
            format: None,
            ignore_eos: false,
            keep_alive,
            client: client.into(),
        },
        model: name,
        stream: wire.stream.unwrap_or(false),
        include_usage: given(wire.stream_options).is_some_and(|o| o.include_usage.unwrap_or(false)),
        ignored,
    })
}

fn keep_alive(wire: &wire::KeepAlive) -> Result<KeepAlive, ApiError> {
    let read = match wire {
        wire::KeepAlive::Seconds(seconds) => KeepAlive::from_seconds(*seconds),
        wire::KeepAlive::Text(text) => echo(text).parse(),
    };
    read.map_err(|error| {
        invalid(format!("Invalid 'keep_alive': {error}")).code("invalid_value").param("keep_alive")
    })
}

fn sampling(wire: &ChatCompletionRequest) -> Result<Sampling, ApiError> {
    const PENALTY: [Bound; 2] = [Bound::AtLeast(-2.0), Bound::AtMost(2.0)];
    const REPEAT_PENALTY: [Bound; 2] =
        [Bound::AtLeast(Sampling::REPEAT_PENALTY_MIN), Bound::AtMost(Sampling::REPEAT_PENALTY_MAX)];
    let repeat = decimal("repeat_penalty", wire.repeat_penalty, &REPEAT_PENALTY)?;
    let repetition = decimal("repetition_penalty", wire.repetition_penalty, &REPEAT_PENALTY)?;
    Ok(Sampling {
        temperature: decimal(
            "temperature",
            wire.temperature,
            &[Bound::AtLeast(0.0), Bound::AtMost(2.0)],
        )?,
        top_p: decimal("top_p", wire.top_p, &[Bound::AtLeast(0.0), Bound::AtMost(1.0)])?,
        // 0 and -1 mean "off" in other servers, which is the whole vocabulary and not the model's
        // own number. The runtime's seam clamps it to what the runtime takes.
        top_k: wire.top_k.map(|k| if k > 0 { clamp_u32(k) } else { u32::MAX }),
        repeat_penalty: repeat.or(repetition),
        frequency_penalty: decimal("frequency_penalty", wire.frequency_penalty, &PENALTY)?,
        presence_penalty: decimal("presence_penalty", wire.presence_penalty, &PENALTY)?,
    })
}

fn decimal(param: &str, value: Option<f64>, bounds: &[Bound]) -> Result<Option<f32>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    bounds.iter().try_for_each(|bound| bound.check(param, value, false))?;
    #[expect(clippy::cast_possible_truncation, reason = "the runtime's parameters are f32")]
    Ok(Some(value as f32))
}

fn check_integer(param: &str, value: Option<i64>, min: i32, max: i32) -> Result<(), ApiError> {
    let Some(value) = value else { return Ok(()) };
    // Exact where it matters: beyond 2^53 any rounding is still far out of range.
    #[expect(clippy::cast_precision_loss, reason = "only compared with small bounds and printed")]
    let value = value as f64;
    Bound::AtLeast(min.into()).check(param, value, true)?;
    Bound::AtMost(max.into()).check(param, value, true)
}

/// Negative numbers and those too large become the largest.
fn clamp_u32(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// The limit of the request, else the model's. A negative limit asks for all that the context
/// holds, also where the model has a limit of its own: `None` would leave that one in force.
fn tokens_max(asked: Option<i64>, model: &Model) -> Option<u32> {
    asked.map_or(model.tokens_max, |tokens| Some(clamp_u32(tokens)))
}

/// Empty texts are dropped: they would end every answer at once.
fn stop(stop: Option<Stop>) -> Result<Vec<String>, ApiError> {
    let mut texts = match stop {
        None => Vec::new(),
        Some(Stop::One(text)) => vec![text],
        Some(Stop::Several(texts)) => texts,
    };
    if let Some(long) = texts.iter().find(|text| text.len() > STOP_TEXT_BYTES_MAX) {
        return Err(string_too_long("stop", STOP_TEXT_BYTES_MAX, long.len()));
    }
    texts.retain(|text| !text.is_empty());
    Ok(texts)
}

fn message(index: usize, wire: ChatMessage) -> Result<Message, ApiError> {
    if let Some(field) = fields::refused_in_message(&wire) {
        return Err(unsupported(&format!("messages[{index}].{field}")));
    }
    let param = format!("messages[{index}].content");
    let content = match given(wire.content) {
        Some(MessageContent::Text(text)) => text,
        Some(MessageContent::Parts(parts)) => join(&param, parts)?,
        None if wire.role == MessageRole::Assistant => wire.refusal.unwrap_or_default(),
        None => return Err(missing(&param)),
    };
    let role = match wire.role {
        MessageRole::Developer => Role::Developer,
        MessageRole::System => Role::System,
        MessageRole::User => Role::User,
        MessageRole::Assistant => Role::Assistant,
        MessageRole::Tool => Role::Tool,
    };
    Ok(Message { name: wire.name, ..Message::new(role, content) })
}

fn join(param: &str, parts: Vec<ContentPart>) -> Result<String, ApiError> {
    if parts.is_empty() {
        return Err(empty_array(param));
    }
    let texts = parts.into_iter().enumerate().map(|(index, part)| {
        if let Some(field) = fields::refused_in_part(&part) {
            return Err(unsupported(&format!("{param}[{index}].{field}")));
        }
        let (text, field) = match part.kind {
            ContentPartType::Refusal => (part.refusal, "refusal"),
            ContentPartType::Text
            | ContentPartType::ImageUrl
            | ContentPartType::InputAudio
            | ContentPartType::File => (part.text, "text"),
        };
        text.ok_or_else(|| missing(&format!("{param}[{index}].{field}")))
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// The model and the name under which it answers.
fn resolve(name: Option<String>, state: &State) -> Result<(Arc<Model>, String), ApiError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        let model = default_model(state)?;
        let name = model.id.clone();
        return Ok((model, name));
    };
    let model = match (state.models.resolve(&name), &*state.fallback.load()) {
        (Err(asked @ ModelError::NotFound { .. }), Some(fallback)) => {
            match state.models.resolve(fallback) {
                // The client knows its own name and not the fallback's.
                Err(ModelError::NotFound { .. }) => Err(asked),
                result => result,
            }
        }
        (result, _) => result,
    };
    Ok((usable(model, state)?, name))
}

/// The model of a request that names none.
fn default_model(state: &State) -> Result<Arc<Model>, ApiError> {
    if let Some(fallback) = &*state.fallback.load() {
        return usable(state.models.resolve(fallback), state);
    }
    let all = state.models.list();
    let ready = only(all.iter().filter(|model| model.state == ModelState::Ready));
    let model = ready.or_else(|| only(all.iter()));
    usable(Ok(Arc::clone(model.ok_or_else(|| missing("model"))?)), state)
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    items.next().filter(|_| items.next().is_none())
}

/// Says early what the engine would say after a place in the queue.
fn usable(model: Result<Arc<Model>, ModelError>, state: &State) -> Result<Arc<Model>, ApiError> {
    let model = model.map_err(|error| state.explain(failure::model(error)))?;
    match &model.state {
        ModelState::Ready => Ok(model),
        ModelState::Incomplete(reason) => Err(failure::model(ModelError::Incomplete {
            model: model.id.clone(),
            reason: reason.clone(),
        })),
    }
}
