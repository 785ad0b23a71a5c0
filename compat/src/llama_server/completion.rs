//! `/completion` and `/infill`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use rkllama_core::{Event, Finish, Finished, Format, Infill, LogprobsWanted, Prompt, Request};
use rkllama_http::{ApiError, given, sse_event};
use serde::Serialize;

use super::{
    failure::{self, bad, not_supported, unresolved},
    wire::{self, Completion, CompletionRequest, Settings, StopType, Timings},
};
use crate::{
    State,
    checks::{Knobs, SCHEMA_BYTES_MAX, saturated},
    run::{self, Opened},
};

/// One more than the likeliest tokens that are told of in each place.
const PROBS_MAX: i64 = 101;

/// A request that may run, and how to answer it.
pub(super) struct Checked {
    request: Request,
    pub(super) stream: bool,
    envelope: Envelope,
    ignored: Vec<&'static str>,
}

/// What all parts of one answer share.
#[derive(Debug, Clone)]
struct Envelope {
    model: String,
    prompt: Option<String>,
    settings: Settings,
}

/// What is gone on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// A text.
    Complete,
    /// A gap.
    Infill,
}

/// Checks a request.
pub(super) async fn check(
    mut wire: CompletionRequest,
    task: Task,
    client: Arc<str>,
    state: &State,
) -> Result<Checked, ApiError> {
    let model = state.fallback.for_answers(wire.model.as_deref(), &*state.models);
    let model = model.map_err(unresolved)?;
    if wire.grammar.as_ref().is_some_and(|grammar| !grammar.is_empty()) {
        return Err(bad("grammar", "GBNF is not supported by this server; json_schema is"));
    }
    let (prompt, text) = match (task, given(wire.prompt.take())) {
        (Task::Complete, None) => return Err(bad("prompt", "\"prompt\" must be provided")),
        (Task::Complete, Some(wire::Prompt::Text(text))) => {
            (Prompt::Text(text.clone()), Some(text))
        }
        (Task::Complete, Some(wire::Prompt::Tokens(tokens))) => {
            if let Some(at) = tokens.iter().position(|id| *id < 0) {
                return Err(bad(&format!("prompt[{at}]"), "a token's id is not negative"));
            }
            (Prompt::Tokens(tokens), None)
        }
        (Task::Infill, Some(wire::Prompt::Tokens(_))) => {
            return Err(bad("prompt", "\"prompt\" must be a string"));
        }
        (Task::Infill, prompt) => {
            let (Some(mut before), Some(after)) =
                (wire.input_prefix.take(), wire.input_suffix.take())
            else {
                let words = "\"input_prefix\" and \"input_suffix\" are required";
                return Err(bad("input_prefix", words));
            };
            let traits = state.texts.traits(Arc::clone(&model)).await.map_err(failure::engine)?;
            if !traits.infill {
                return Err(not_supported("Infill is not supported by this model"));
            }
            if let Some(wire::Prompt::Text(text)) = prompt {
                before.push_str(&text);
            }
            (Prompt::Infill(Infill { before, after }), None)
        }
    };
    let format = match wire.json_schema.take() {
        Some(schema) if schema.text().len() > SCHEMA_BYTES_MAX => {
            let words = format!("the schema is larger than {SCHEMA_BYTES_MAX} bytes");
            return Err(bad("json_schema", words));
        }
        schema => schema.map(|schema| Format::JsonSchema(schema.text().to_owned())),
    };
    let knobs = Knobs {
        temperature: wire.temperature,
        top_p: wire.top_p,
        top_k: wire.top_k,
        repeat_penalty: wire.repeat_penalty,
        frequency_penalty: wire.frequency_penalty,
        presence_penalty: wire.presence_penalty,
    };
    let logprobs = match wire.n_probs {
        Some(PROBS_MAX..) => {
            return Err(bad("n_probs", format!("n_probs is less than {PROBS_MAX}")));
        }
        Some(n @ 1..) => Some(LogprobsWanted { top: saturated(n), of_prompt: false }),
        _ => None,
    };
    let mut stop = wire.stop.take().unwrap_or_default();
    stop.retain(|text| !text.is_empty());
    let stream = wire.stream.unwrap_or(false);
    let tokens_max = wire.n_predict.map(|n| if n < 0 { u32::MAX } else { saturated(n) });
    let sampling = knobs.sampling();
    let request = Request {
        model: Arc::clone(&model),
        prompt,
        sampling,
        tokens_max,
        stop: stop.clone(),
        format,
        ignore_eos: wire.ignore_eos.unwrap_or(false),
        logprobs,
        keep_alive: None,
        client,
    };
    let settings =
        Settings { n_predict: wire.n_predict.unwrap_or(-1), stop, stream, ..settings(&sampling) };
    let name = wire.model.take().filter(|name| !name.is_empty());
    let envelope =
        Envelope { model: name.unwrap_or_else(|| model.id.clone()), prompt: text, settings };
    Ok(Checked { request, stream, envelope, ignored: ignored(&wire) })
}

/// Sampling in llama-server's words.
pub(super) fn settings(sampling: &rkllama_core::Sampling) -> Settings {
    Settings {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        repeat_penalty: sampling.repeat_penalty,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        n_predict: -1,
        stop: Vec::new(),
        stream: false,
    }
}

/// The fields that were used in vain.
fn ignored(wire: &CompletionRequest) -> Vec<&'static str> {
    let used = [
        ("seed", wire.seed.is_some()),
        ("min_p", wire.min_p.is_some()),
        ("logit_bias", wire.logit_bias.is_some()),
    ];
    used.into_iter().filter_map(|(name, is_used)| is_used.then_some(name)).collect()
}

impl Envelope {
    fn piece(&self, content: String, predicted: u32, evaluated: u32) -> Completion {
        Completion {
            index: 0,
            content,
            tokens: Vec::new(),
            id_slot: 0,
            stop: false,
            model: self.model.clone(),
            tokens_predicted: predicted,
            tokens_evaluated: evaluated,
            generation_settings: None,
            prompt: None,
            has_new_line: None,
            truncated: None,
            stop_type: None,
            stopping_word: None,
            tokens_cached: None,
            timings: None,
            completion_probabilities: None,
        }
    }

    /// The whole answer; where it has been sent in pieces, what is known at its end.
    fn all(&self, content: String, has_new_line: bool, finished: &Finished) -> Completion {
        let word = finished.stopped_by.and_then(|at| self.settings.stop.get(at));
        let stop_type = match finished.finish {
            Finish::Length => StopType::Limit,
            Finish::Stop | Finish::ToolCalls if word.is_some() => StopType::Word,
            Finish::Stop | Finish::ToolCalls => StopType::Eos,
        };
        let usage = finished.usage;
        Completion {
            stop: true,
            generation_settings: Some(self.settings.clone()),
            prompt: self.prompt.clone(),
            has_new_line: Some(has_new_line),
            truncated: Some(false),
            stop_type: Some(stop_type),
            stopping_word: Some(word.cloned().unwrap_or_default()),
            tokens_cached: Some(usage.cached_tokens),
            timings: Some(timings(finished)),
            completion_probabilities: finished
                .logprobs
                .clone()
                .map(|told| told.answer.into_iter().map(wire::TokenProbability::from).collect()),
            ..self.piece(content, usage.completion_tokens, usage.prompt_tokens)
        }
    }
}

/// Where the time went.
fn timings(finished: &Finished) -> Timings {
    let (usage, times) = (finished.usage, finished.timings);
    let read = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    // The first token ends the reading.
    let gaps = usage.completion_tokens.saturating_sub(1);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    // JSON has no infinity.
    let ratio = |of: f64, to: f64| if to > 0.0 { of / to } else { 0.0 };
    Timings {
        cache_n: usage.cached_tokens,
        prompt_n: read,
        prompt_ms: ms(times.prefill),
        prompt_per_token_ms: ratio(ms(times.prefill), read.into()),
        prompt_per_second: ratio(read.into(), times.prefill.as_secs_f64()),
        predicted_n: usage.completion_tokens,
        predicted_ms: ms(times.decode),
        predicted_per_token_ms: ratio(ms(times.decode), gaps.into()),
        predicted_per_second: ratio(gaps.into(), times.decode.as_secs_f64()),
    }
}

/// The answer in one piece.
pub(super) async fn whole(
    state: &State,
    checked: Checked,
) -> Result<(Completion, Vec<&'static str>), ApiError> {
    let Checked { request, envelope, mut ignored, .. } = checked;
    let opened = run::open(state.engine.generate(request), Duration::MAX).await;
    let opened = opened.map_err(failure::engine)?;
    ignored.extend(&opened.ignored);
    let whole = run::whole(opened.joined()).await.map_err(failure::engine)?;
    let has_new_line = whole.text.contains('\n');
    Ok((envelope.all(whole.text, has_new_line, &whole.finished), ignored))
}

/// The answer's events, encoded.
pub(super) async fn events(
    state: &State,
    checked: Checked,
) -> Result<(BoxStream<'static, Bytes>, Vec<&'static str>), ApiError> {
    let Checked { request, envelope, mut ignored, .. } = checked;
    let patience = state.intake.limits().heartbeat;
    let opened = run::open(state.engine.generate(request), patience).await;
    let opened = opened.map_err(failure::engine)?;
    ignored.extend(&opened.ignored);
    Ok((in_pieces(opened, envelope), ignored))
}

fn in_pieces(opened: Opened, envelope: Envelope) -> BoxStream<'static, Bytes> {
    let mut evaluated = opened.prompt_tokens.unwrap_or_default();
    let mut events = opened.joined();
    // The body is polled outside of the request's span.
    let span = tracing::Span::current();
    let stream = async_stream::stream! {
        let (mut predicted, mut has_new_line) = (0, false);
        loop {
            let event = events.next().await.unwrap_or_else(|| Err(run::broken_off()));
            match event {
                Ok(Event::Started(started)) => evaluated = started.prompt_tokens,
                Ok(Event::Text(text)) => {
                    predicted += 1;
                    has_new_line |= text.contains('\n');
                    yield encode(&envelope.piece(text, predicted, evaluated));
                }
                // What is no conversation has neither.
                Ok(Event::Reasoning(_) | Event::ToolCall(_)) => {}
                Ok(Event::Finished(finished)) => {
                    yield encode(&envelope.all(String::new(), has_new_line, &finished));
                    return;
                }
                Err(error) => {
                    let error = failure::engine(error);
                    span.in_scope(|| error.log());
                    yield encode(&failure::body(&error));
                    return;
                }
            }
        }
    };
    stream.boxed()
}

fn encode(data: &impl Serialize) -> Bytes {
    sse_event(data).unwrap_or_else(|error| {
        // Only maps with keys that are no strings can fail, and no wire type has one.
        tracing::error!(%error, "an event could not be written as JSON");
        Bytes::new()
    })
}
