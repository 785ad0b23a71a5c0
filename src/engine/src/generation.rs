//! From a conversation to events: render, tokenise, wait, and turn the runtime's bytes into text.
//!
//! The whole state of a generation lives in its stream. Dropping the stream closes the reply
//! channel, and the model's task aborts the run.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_stream::try_stream;
use rkllama_core::{
    EngineError, Event, Finish, Generation, Model, ModelError, ModelState, Prompt as Asked,
    PromptTokens, Request, Started,
};
use rkllama_protocol::{End, Stats};
use rkllama_text::{Encoded, TextError};
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};

use crate::{
    answer::Answer,
    engine::Inner,
    queue::{Job, Reply, Ticket},
    report::Report,
};

/// Replies of a run beside its pieces: the start and the end.
const REPLIES_BESIDE_PIECES: usize = 2;

/// Prompts that are rendered and tokenized at once, of all models together. More would not be
/// faster beside the threads that pass tokens on, and each may hold several times its body.
pub(crate) const ENCODINGS_MAX: usize = 2;

/// How long the end of an aborted run is waited for: two tokens of a slow model. The text has
/// been sent before.
const END_TIMEOUT: Duration = Duration::from_millis(200);

/// A rendered and counted prompt.
struct Prompt {
    tokens: Vec<i32>,
    /// The model's end-of-sequence ids.
    stop_tokens: Vec<i32>,
}

/// Begins a generation.
pub(crate) fn start(engine: Arc<Inner>, mut request: Request) -> Generation {
    Box::pin(try_stream! {
        let mut report = Report::new(&request.model.id);
        let prompt = report.watch(prepare(&engine, &mut request).await)?;
        report.prompt_tokens = count(&prompt.tokens);
        let mut answer = Answer::new(request.stop.clone(), report.prompt_tokens);
        if request.tokens_max == Some(0) {
            // Legal in OpenAI's API. The NPU has nothing to do.
            yield Event::Started(Started {
                prompt_tokens: report.prompt_tokens,
                ignored: Vec::new(),
            });
            let finished = answer.finished(Finish::Length, Stats::default());
            yield Event::Finished(report.finish(finished));
            return;
        }
        let mut waiting = report.watch(admit(&engine, &request, prompt))?;
        let first = report.watch(waiting.turn(&engine, &request).await)?;
        let mut replies = waiting.replies;
        let mut next = Some(first);
        loop {
            let reply = match next.take() {
                Some(first) => Ok(first),
                None => replies.recv().await.ok_or(EngineError::ShuttingDown),
            };
            let events = reply.and_then(|reply| answer.take(reply));
            if let Err(EngineError::ContextExceeded { context_tokens_max, .. }) = &events {
                engine.clamped(&request.model, *context_tokens_max);
            }
            for event in report.watch(events)? {
                if let Event::Finished(finished) = event {
                    yield Event::Finished(report.finish(finished));
                    return;
                }
                yield event;
            }
            if answer.is_stopped() {
                let end = end_run(replies).await;
                yield Event::Finished(report.finish(answer.stopped(end.as_ref())));
                return;
            }
        }
    })
}

/// Has the run behind a stop string aborted, and takes its end if that has come already: it tells
/// how much of the prompt was cached, which usage has to say.
async fn end_run(mut replies: mpsc::Receiver<Reply>) -> Option<End> {
    // The model's task takes this for the client's leaving, and sends no more. As long as no profile
    // trusts the runtime's count of cached tokens, nothing is lost by that: it would be 0.
    replies.close();
    let end = async {
        loop {
            if let Reply::End(end) = replies.recv().await? {
                return Some(end);
            }
        }
    };
    timeout(END_TIMEOUT, end).await.ok().flatten()
}

/// Refuses what cannot succeed before any work is put into it.
pub(crate) fn check(engine: &Inner, model: &Model) -> Result<(), EngineError> {
    if engine.is_stopping() {
        return Err(EngineError::ShuttingDown);
    }
    if let ModelState::Incomplete(reason) = &model.state {
        let reason = reason.clone();
        return Err(ModelError::Incomplete { model: model.id.clone(), reason }.into());
    }
    engine.runtimes().choose(model).map(drop)
}

/// Everything that can be refused without the NPU. Takes the prompt out of the request, of which
/// nothing else has any need: it can be most of a body.
async fn prepare(engine: &Inner, request: &mut Request) -> Result<Prompt, EngineError> {
    let model = &request.model;
    check(engine, model)?;
    let codec = engine.codecs.get(model).await?;
    let context_tokens_max = engine.context_tokens_max(model);
    let margin_tokens = engine.config().context_margin_tokens;
    let room = context_tokens_max.saturating_sub(margin_tokens);
    let exceeded = |prompt_tokens| {
        Err(EngineError::ContextExceeded { prompt_tokens, context_tokens_max, margin_tokens })
    };

    // Waiting here costs nothing, and a client that leaves is waited for no more.
    let Ok(permit) = Arc::clone(&engine.encodings).acquire_owned().await else {
        return Err(EngineError::ShuttingDown);
    };
    let asked = std::mem::replace(&mut request.prompt, Asked::Tokens(Vec::new()));
    // A long prompt takes tens of milliseconds: not on a thread that others' tokens go through.
    let encoded = spawn_blocking(move || {
        // Given back when the work is over, not when its client has gone.
        let _permit = permit;
        let tokens_max = usize::try_from(room).unwrap_or(usize::MAX);
        let encoded = match &asked {
            Asked::Chat(chat) => codec.encode_chat_within(&chat.messages, tokens_max)?,
            Asked::Text(text) => codec.encode_text_within(text, tokens_max)?,
            Asked::Tokens(tokens) => codec.check_tokens(tokens)?,
        };
        Ok((encoded, codec.eos_ids().to_vec()))
    });
    let (encoded, stop_tokens) = match encoded.await {
        Ok(encoded) => encoded.map_err(|err: TextError| err.of_model(&model.id))?,
        // Other people's code over other people's files.
        Err(panic) => {
            let reason = format!("tokenizer.json or the chat template cannot be used: {panic}");
            return Err(ModelError::Incomplete { model: model.id.clone(), reason }.into());
        }
    };
    match encoded {
        // To the model's task no tokens mean "load it and no more".
        Encoded::Whole(tokens) if tokens.is_empty() => {
            Err(EngineError::Prompt { reason: "the prompt is empty".to_owned() })
        }
        Encoded::TooLong { tokens_min } => exceeded(PromptTokens::AtLeast(saturated(tokens_min))),
        Encoded::Whole(tokens) if count(&tokens) > room => {
            exceeded(PromptTokens::Exactly(count(&tokens)))
        }
        Encoded::Whole(tokens) => Ok(Prompt { tokens, stop_tokens }),
    }
}

/// A request that waits for its turn.
struct Waiting {
    replies: mpsc::Receiver<Reply>,
    ticket: Option<Ticket>,
    began: Instant,
}

impl Waiting {
    /// The first reply, when the turn has come.
    async fn turn(&mut self, engine: &Inner, request: &Request) -> Result<Reply, EngineError> {
        let reply = timeout(engine.config().queue_timeout, self.replies.recv()).await;
        self.ticket = None;
        match reply {
            Ok(reply) => reply.ok_or(EngineError::ShuttingDown),
            Err(_) => Err(EngineError::QueueTimeout {
                model: request.model.id.clone(),
                waited_s: self.began.elapsed().as_secs(),
            }),
        }
    }
}

fn admit(engine: &Inner, request: &Request, prompt: Prompt) -> Result<Waiting, EngineError> {
    let model = &request.model;
    let tokens_max = request.tokens_max.or(model.tokens_max);
    let pieces_max = tokens_max.unwrap_or(u32::MAX).min(model.context_tokens_max);
    let capacity = usize::try_from(pieces_max).unwrap_or(usize::MAX) + REPLIES_BESIDE_PIECES;
    let (reply, replies) = mpsc::channel(capacity);
    let job = Job {
        tokens: prompt.tokens,
        stop_tokens: prompt.stop_tokens,
        sampling: request.sampling,
        tokens_max,
        keep_alive: request.keep_alive,
        client: Arc::clone(&request.client),
        reply,
    };
    let ticket = Some(engine.admit(model, job)?);
    Ok(Waiting { replies, ticket, began: Instant::now() })
}

fn count(tokens: &[i32]) -> u32 {
    saturated(tokens.len())
}

fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
