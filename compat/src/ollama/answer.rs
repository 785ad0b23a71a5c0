//! From the domain's events to Ollama's lines.
//!
//! The last line has `done` and no text: some clients throw away what stands there. Calls of
//! functions come complete, one in a line.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use jiff::Timestamp;
use rkllama_core::{
    Cutting, Engine, EngineError, Event, Finish, Finished, Logprobs, Model, Prompt, Request, Texts,
};
use rkllama_http::{ApiError, JsonObject, ndjson_line};
use serde::Serialize;
use serde_json::Value;

use super::{
    convert::{Answer, shorten},
    failure,
    wire::{
        AnswerMessage, CalledFunction, ChatLine, DebugInfo, DoneReason, ErrorBody, GenerateLine,
        Metrics, TokenLogprob, ToolCall,
    },
};
use crate::{
    State,
    card::moment,
    run::{self, Call, Calls, Opened, Whole},
};

/// What all lines of one answer share.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    /// The model's name as the request gave it.
    pub(super) model: String,
    /// When the request came.
    pub(super) received: Instant,
    pub(super) shows_thoughts: bool,
}

/// An answer's words between two moments.
#[derive(Debug, Default)]
pub(super) struct Words {
    text: String,
    thinking: String,
    calls: Vec<ToolCall>,
    logprobs: Option<Vec<TokenLogprob>>,
}

/// How a route writes lines.
pub(super) trait Lines: Send + 'static {
    /// A line is this.
    type Line: Serialize + Send + 'static;

    /// A piece of the answer.
    fn piece(&self, envelope: &Envelope, words: Words) -> Self::Line;

    /// The last line, or all of the answer.
    fn done(
        &self,
        envelope: &Envelope,
        words: Words,
        reason: DoneReason,
        metrics: Metrics,
        context: Option<Vec<i32>>,
    ) -> Self::Line;

    /// The prompt and nothing more.
    fn shown(&self, envelope: &Envelope, info: DebugInfo) -> Self::Line;
}

/// `/api/chat`.
pub(super) struct ChatLines;

/// `/api/generate`.
pub(super) struct GenerateLines;

fn now() -> String {
    moment(Timestamp::now())
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl ChatLines {
    fn line(envelope: &Envelope, words: Words) -> ChatLine {
        let Words { text, thinking, calls, logprobs } = words;
        ChatLine {
            model: envelope.model.clone(),
            created_at: now(),
            message: AnswerMessage {
                role: "assistant".to_owned(),
                content: text,
                thinking: some(thinking),
                tool_calls: (!calls.is_empty()).then_some(calls),
            },
            done: false,
            done_reason: None,
            metrics: Metrics::default(),
            debug_info: None,
            logprobs,
        }
    }
}

impl Lines for ChatLines {
    type Line = ChatLine;

    fn piece(&self, envelope: &Envelope, words: Words) -> ChatLine {
        Self::line(envelope, words)
    }

    fn done(
        &self,
        envelope: &Envelope,
        words: Words,
        reason: DoneReason,
        metrics: Metrics,
        _: Option<Vec<i32>>,
    ) -> ChatLine {
        let line = Self::line(envelope, words);
        ChatLine { done: true, done_reason: Some(reason), metrics, ..line }
    }

    fn shown(&self, envelope: &Envelope, info: DebugInfo) -> ChatLine {
        let line = Self::line(envelope, Words::default());
        ChatLine { message: AnswerMessage::default(), debug_info: Some(info), ..line }
    }
}

impl GenerateLines {
    fn line(envelope: &Envelope, words: Words) -> GenerateLine {
        GenerateLine {
            model: envelope.model.clone(),
            created_at: now(),
            response: words.text,
            thinking: some(words.thinking),
            done: false,
            done_reason: None,
            context: None,
            metrics: Metrics::default(),
            debug_info: None,
            logprobs: words.logprobs,
        }
    }
}

impl Lines for GenerateLines {
    type Line = GenerateLine;

    fn piece(&self, envelope: &Envelope, words: Words) -> GenerateLine {
        Self::line(envelope, words)
    }

    fn done(
        &self,
        envelope: &Envelope,
        words: Words,
        reason: DoneReason,
        metrics: Metrics,
        context: Option<Vec<i32>>,
    ) -> GenerateLine {
        let line = Self::line(envelope, words);
        GenerateLine { done: true, done_reason: Some(reason), context, metrics, ..line }
    }

    fn shown(&self, envelope: &Envelope, info: DebugInfo) -> GenerateLine {
        GenerateLine { debug_info: Some(info), ..Self::line(envelope, Words::default()) }
    }
}

/// An answer, whole or in lines.
pub(super) enum Answered<T> {
    Whole(T),
    Lines(BoxStream<'static, Bytes>),
}

/// Runs an answer. Returns with the parameters that had no effect, as far as they are known.
pub(super) async fn answer<L: Lines>(
    state: &State,
    answer: Answer,
    envelope: Envelope,
    lines: L,
) -> Result<(Answered<L::Line>, Vec<&'static str>), ApiError> {
    let Answer { mut request, stream, truncates, tells_context, mut ignored, .. } = answer;
    let context = tells_context.then(|| Context::of(state, &request));
    let patience = if stream { state.intake.limits().heartbeat } else { Duration::MAX };
    let opened = open(&*state.engine, &mut request, truncates, patience).await;
    let opened = opened.map_err(failure::engine)?;
    ignored.extend(&opened.ignored);
    if stream {
        return Ok((Answered::Lines(in_lines(opened, envelope, lines, context)), ignored));
    }
    let Whole { reasoning, text, calls, finished, .. } =
        run::whole(opened.joined()).await.map_err(failure::engine)?;
    let context = match context {
        Some(context) => context.with(&text).await,
        None => None,
    };
    let thinking = if envelope.shows_thoughts { reasoning } else { String::new() };
    let (reason, metrics) = end(&finished, &envelope);
    let logprobs = finished.logprobs.map(logprobs_of);
    let words = Words { text, thinking, calls: calls_of(calls, &mut 0), logprobs };
    Ok((Answered::Whole(lines.done(&envelope, words, reason, metrics, context)), ignored))
}

/// Opens an answer, to what is left of a conversation that is too long.
async fn open(
    engine: &dyn Engine,
    request: &mut Request,
    truncates: bool,
    patience: Duration,
) -> Result<Opened, EngineError> {
    loop {
        let opened = run::open(engine.generate(request.clone()), patience).await;
        let Err(EngineError::ContextExceeded { prompt_tokens, context_tokens_max, margin_tokens }) =
            &opened
        else {
            return opened;
        };
        let room = context_tokens_max.saturating_sub(*margin_tokens);
        if !truncates || !shorten(request, prompt_tokens.known(), room) {
            return opened;
        }
    }
}

fn in_lines<L: Lines>(
    opened: Opened,
    envelope: Envelope,
    lines: L,
    context: Option<Context>,
) -> BoxStream<'static, Bytes> {
    let mut events = opened.joined();
    // The body is polled outside of the request's span.
    let span = tracing::Span::current();
    let stream = async_stream::stream! {
        let (mut calls, mut count, mut text_so_far) = (Calls::default(), 0, String::new());
        loop {
            let event = events.next().await.unwrap_or_else(|| Err(run::broken_off()));
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    let error = failure::engine(error);
                    span.in_scope(|| error.log());
                    yield encode(&ErrorBody { error: error.message });
                    return;
                }
            };
            let mut words = Words::default();
            // A call is complete when something else comes.
            let is_piece_of_call = matches!(
                event,
                Event::ToolCall(rkllama_core::ToolCallPiece::Arguments { .. })
            );
            if !is_piece_of_call {
                for call in calls_of(calls.drain(), &mut count) {
                    let words = Words { calls: vec![call], ..Words::default() };
                    yield encode(&lines.piece(&envelope, words));
                }
            }
            match event {
                Event::Started(_) => continue,
                Event::ToolCall(piece) => {
                    calls.take(piece);
                    continue;
                }
                Event::Reasoning(_) if !envelope.shows_thoughts => continue,
                Event::Reasoning(text) => words.thinking = text,
                Event::Text(text) => {
                    if context.is_some() {
                        text_so_far.push_str(&text);
                    }
                    words.text = text;
                }
                Event::Finished(finished) => {
                    let tokens = match &context {
                        Some(context) => context.clone().with(&text_so_far).await,
                        None => None,
                    };
                    let (reason, metrics) = end(&finished, &envelope);
                    // They are known when all is read once more, so that no line before has some.
                    let logprobs = finished.logprobs.map(logprobs_of);
                    let words = Words { logprobs, ..Words::default() };
                    yield encode(&lines.done(&envelope, words, reason, metrics, tokens));
                    return;
                }
            }
            yield encode(&lines.piece(&envelope, words));
        }
    };
    stream.boxed()
}

fn logprobs_of(told: Logprobs) -> Vec<TokenLogprob> {
    told.answer.into_iter().map(TokenLogprob::from).collect()
}

/// Calls with ids and places. One whose arguments broke off is none.
fn calls_of(calls: Vec<Call>, count: &mut u32) -> Vec<ToolCall> {
    let call = |call: Call| {
        let arguments = arguments(&call.arguments)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let index = Some(*count);
        *count += 1;
        let arguments = Some(arguments);
        let function = CalledFunction { index, name: call.name, arguments };
        Some(ToolCall { id: Some(format!("call_{}", &id[..8])), function })
    };
    calls.into_iter().filter_map(call).collect()
}

/// Arguments as the object that clients take for granted.
fn arguments(json: &str) -> Option<JsonObject> {
    if json.trim().is_empty() {
        return JsonObject::of(&Value::Object(serde_json::Map::new())).ok();
    }
    let object = serde_json::from_str::<JsonObject>(json).map(JsonObject::on_one_line);
    object.ok().or_else(|| {
        let value = serde_json::from_str::<Value>(json).ok()?;
        JsonObject::of(&serde_json::json!({ "value": value })).ok()
    })
}

/// The tokens that an answer is gone on from.
#[derive(Clone)]
struct Context {
    texts: Arc<dyn Texts>,
    model: Arc<Model>,
    prompt: Prompt,
}

impl Context {
    fn of(state: &State, request: &Request) -> Self {
        let texts = Arc::clone(&state.texts);
        Self { texts, model: Arc::clone(&request.model), prompt: request.prompt.clone() }
    }

    /// Prompt and answer. The answer's own tokens are not known any more: these are those of its
    /// text. None where they cannot be had, which costs no answer.
    async fn with(self, text: &str) -> Option<Vec<i32>> {
        let Self { texts, model, prompt } = self;
        let cutting = Cutting { add_special: false, parse_special: true };
        let mut tokens = texts.prompt_tokens(Arc::clone(&model), prompt).await.ok()?;
        tokens.extend(texts.tokenize(model, text.to_owned(), cutting).await.ok()?);
        Some(tokens)
    }
}

/// Why and with what counts it ended.
fn end(finished: &Finished, envelope: &Envelope) -> (DoneReason, Metrics) {
    let reason = match finished.finish {
        // Behind calls too.
        Finish::Stop | Finish::ToolCalls => DoneReason::Stop,
        Finish::Length => DoneReason::Length,
    };
    let (usage, timings) = (finished.usage, finished.timings);
    let metrics = Metrics {
        total_duration: Some(nanos(envelope.received.elapsed())),
        load_duration: Some(nanos(timings.queued)),
        prompt_eval_count: Some(usage.prompt_tokens),
        prompt_eval_duration: Some(nanos(timings.prefill)),
        eval_count: Some(usage.completion_tokens),
        eval_duration: Some(nanos(timings.decode)),
    };
    (reason, metrics)
}

/// Clients divide by these: never zero.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// A model has been loaded, or is being unloaded.
pub(super) fn moved<L: Lines>(envelope: &Envelope, lines: L, reason: DoneReason) -> L::Line {
    lines.done(envelope, Words::default(), reason, Metrics::default(), None)
}

/// The prompt that the model would get.
pub(super) async fn shown<L: Lines>(
    state: &State,
    model: Arc<Model>,
    prompt: Prompt,
    envelope: &Envelope,
    lines: L,
) -> Result<L::Line, ApiError> {
    let rendered_template = match prompt {
        Prompt::Chat(chat) => {
            // What is gone on from stands in front.
            let before = chat.preface.clone();
            let before = state.texts.detokenize(Arc::clone(&model), before).await;
            let rendered = state.texts.render(model, chat).await.map_err(failure::engine)?;
            before.map_err(failure::engine)? + &rendered
        }
        Prompt::Text(text) => text,
        other => {
            let tokens = state.texts.prompt_tokens(Arc::clone(&model), other).await;
            let tokens = tokens.map_err(failure::engine)?;
            state.texts.detokenize(model, tokens).await.map_err(failure::engine)?
        }
    };
    Ok(lines.shown(envelope, DebugInfo { rendered_template, image_count: None }))
}

pub(super) fn encode(line: &impl Serialize) -> Bytes {
    ndjson_line(line).unwrap_or_else(|error| {
        // Only maps with keys that are no strings can fail, and no line has one.
        tracing::error!(%error, "a line could not be written as JSON");
        Bytes::new()
    })
}
