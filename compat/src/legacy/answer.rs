//! `/generate`: the old server's answers.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream::BoxStream};
use poem::{Body, IntoResponse, Response};
use poem_openapi::{
    payload::Payload,
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use rkllama_core::{Chat, Event, Finish, Finished, Format, Message, Model, Prompt, Request, Role};
use rkllama_http::{ApiError, EventData, JsonValue, Nullable, given};
use serde::Serialize;

use super::{
    bad, engine,
    wire::{Answer, ChatObject, Choice, ErrorBody, GenerateRequest, Messages, Usage},
};
use crate::{
    State,
    messages::conversation,
    ollama::{Options, format},
    run::{self, Opened},
};

/// A request that may run.
pub(super) struct Checked {
    request: Request,
    pub(super) stream: bool,
    /// The form as it was asked for.
    format: Option<JsonValue>,
}

/// Checks a request to a model.
pub(super) fn check(
    wire: GenerateRequest,
    model: Arc<Model>,
    client: Arc<str>,
) -> Result<Checked, ApiError> {
    let messages = match given(wire.messages) {
        Some(Messages::Text(text)) if !text.is_empty() => vec![Message::new(Role::User, text)],
        Some(Messages::Conversation(messages)) if !messages.is_empty() => {
            let wrong = |(field, words): (String, String)| bad(format!("{field}: {words}"));
            conversation(messages).map_err(wrong)?
        }
        _ => return Err(bad("Invalid JSON data! messages: a text or a conversation is wanted")),
    };
    let options = Options::of(wire.options.as_ref())?;
    let form: Option<Format> = format(wire.format.as_ref())?;
    let asked = wire.format.filter(|_| form.is_some());
    let request = Request {
        model,
        prompt: Prompt::Chat(Chat::new(messages)),
        sampling: options.sampling,
        tokens_max: options.tokens_max,
        stop: options.stop,
        format: form,
        ignore_eos: false,
        logprobs: None,
        keep_alive: None,
        client,
    };
    Ok(Checked { request, stream: wire.stream.unwrap_or(false), format: asked })
}

fn answer(content: String, finish_reason: Option<&str>, usage: Usage) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Answer {
        id: ChatObject::RkllmChat,
        object: ChatObject::RkllmChat,
        created: now.as_secs(),
        choices: vec![Choice {
            role: "assistant".to_owned(),
            content,
            logprobs: Nullable(None),
            finish_reason: Nullable(finish_reason.map(str::to_owned)),
            format: None,
            parsed: None,
        }],
        usage,
    }
}

const fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::ToolCalls => "stop",
        Finish::Length => "length",
    }
}

fn usage(finished: &Finished) -> Usage {
    let (usage, decode) = (finished.usage, finished.timings.decode);
    // The first token ends the reading of the prompt.
    let gaps = f64::from(usage.completion_tokens.saturating_sub(1));
    let seconds = decode.as_secs_f64();
    Usage {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        tokens_per_second: if seconds > 0.0 { gaps / seconds } else { 0.0 },
        total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
    }
}

/// The answer in one piece.
pub(super) async fn whole(state: &State, checked: Checked) -> Result<Answer, ApiError> {
    let opened = run::open(state.engine.generate(checked.request), Duration::MAX).await;
    let whole = run::whole(opened.map_err(engine)?.joined()).await.map_err(engine)?;
    let reason = reason(whole.finished.finish);
    let parsed = checked.format.as_ref().and_then(|_| serde_json::from_str(&whole.text).ok());
    let mut answer = answer(whole.text, Some(reason), usage(&whole.finished));
    if let (Some(choice), Some(parsed)) = (answer.choices.first_mut(), parsed) {
        choice.format = checked.format;
        choice.parsed = Some(parsed);
    }
    Ok(answer)
}

/// The answer in pieces.
pub(super) async fn pieces(state: &State, checked: Checked) -> Result<Pieces, ApiError> {
    let patience = state.intake.limits().heartbeat;
    let opened = run::open(state.engine.generate(checked.request), patience).await;
    Ok(Pieces(lines(opened.map_err(engine)?)))
}

fn lines(opened: Opened) -> BoxStream<'static, Bytes> {
    let mut so_far =
        Usage { prompt_tokens: opened.prompt_tokens.unwrap_or_default(), ..Usage::default() };
    let mut events = opened.joined();
    // The body is polled outside of the request's span.
    let span = tracing::Span::current();
    let stream = async_stream::stream! {
        loop {
            let event = events.next().await.unwrap_or_else(|| Err(run::broken_off()));
            match event {
                Ok(Event::Started(started)) => so_far.prompt_tokens = started.prompt_tokens,
                Ok(Event::Text(text)) => {
                    so_far.completion_tokens += 1;
                    so_far.total_tokens = so_far.prompt_tokens + so_far.completion_tokens;
                    yield encode(&answer(text, None, so_far));
                }
                // The old scripts know neither thoughts nor calls.
                Ok(Event::Reasoning(_) | Event::ToolCall(_)) => {}
                Ok(Event::Finished(finished)) => {
                    let reason = reason(finished.finish);
                    yield encode(&answer(String::new(), Some(reason), usage(&finished)));
                    return;
                }
                Err(error) => {
                    let error = engine(error);
                    span.in_scope(|| error.log());
                    yield encode(&ErrorBody { error: error.message });
                    return;
                }
            }
        }
    };
    stream.boxed()
}

/// A line with an empty one behind it, and no `data:`.
fn encode(value: &impl Serialize) -> Bytes {
    let mut writer = BytesMut::new().writer();
    if let Err(error) = serde_json::to_writer(&mut writer, value) {
        // Only maps with keys that are no strings can fail, and no wire type has one.
        tracing::error!(%error, "a piece could not be written as JSON");
        return Bytes::new();
    }
    let mut bytes = writer.into_inner();
    bytes.put_slice(b"\n\n");
    bytes.freeze()
}

/// A text of pieces.
pub(super) struct Pieces(BoxStream<'static, Bytes>);

impl Payload for Pieces {
    const CONTENT_TYPE: &'static str = "text/plain";

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            description: Some(Answer::STREAM_DESCRIPTION),
            // As with events: a string has no items, but it has to name the schema somewhere.
            items: Some(Box::new(Answer::schema_ref())),
            ..MetaSchema::new("string")
        }))
    }

    fn register(registry: &mut Registry) {
        Answer::register(registry);
    }
}

impl IntoResponse for Pieces {
    fn into_response(self) -> Response {
        growing_text(self.0)
    }
}

/// A text that is sent as it comes.
pub(super) fn growing_text(text: BoxStream<'static, Bytes>) -> Response {
    Response::builder()
        .content_type("text/plain; charset=utf-8")
        .header("cache-control", "no-cache")
        .header("x-accel-buffering", "no")
        .body(Body::from_bytes_stream(text.map(Ok::<_, std::io::Error>)))
}
