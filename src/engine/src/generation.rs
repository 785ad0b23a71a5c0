//! From a conversation to events: render, tokenise, wait, and turn the runtime's bytes into text.
//!
//! The whole state of a generation lives in its stream. Dropping the stream closes the reply
//! channel, and the model's task aborts the run.

use std::{sync::Arc, time::Instant};

use async_stream::try_stream;
use rkllama_core::{
    EngineError, Event, Finish, Generation, LogprobsWanted, Model, ModelError, ModelState,
    Prompt as Asked, PromptTokens, Request, Started,
};
use rkllama_protocol::Pictured;
use rkllama_text::{AnswerParser, Codec, Encoded};
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};

use crate::{
    answer::Answer,
    encoding::{self, Encoding, SharedPrefixes},
    engine::Inner,
    logprobs::{self, Scored},
    pictures::{self, expanded},
    presets,
    queue::{Job, Reply, Ticket},
    report::Report,
    runtimes::RuntimeChoice,
    steering::Steering,
};

/// Replies of a run beside its tokens: the start, the end, and what a form puts in between.
const REPLIES_BESIDE_PIECES: usize = 2 + 64;

/// Prompts that are rendered and tokenized at once, of all models together. More would not be
/// faster beside the threads that pass tokens on, and each may hold several times its body.
pub(crate) const ENCODINGS_MAX: usize = 2;

/// A rendered and counted prompt.
struct Prompt {
    tokens: Vec<i32>,
    pictured: Option<Arc<Pictured>>,
    shared_prefix: Option<Arc<[i32]>>,
    /// The model's end-of-sequence ids.
    stop_tokens: Vec<i32>,
    codec: Arc<Codec>,
    parser: Option<AnswerParser>,
    steering: Option<Steering>,
    /// Whether the runtime tells how likely tokens are.
    logits: bool,
    /// Most tokens of a prompt.
    room: u32,
}

/// Begins a generation.
pub(crate) fn start(engine: Arc<Inner>, mut request: Request) -> Generation {
    Box::pin(try_stream! {
        let mut report = Report::new(engine.observer(), Arc::clone(&request.model));
        let mut prompt = report.watch(prepare(&engine, &mut request, None).await)?;
        report.prompt_tokens = count(&prompt.tokens);
        let wanted = wanted_logprobs(&engine, &request, &prompt);
        let ignored = ignored(&request, &prompt, wanted);
        // A form ends by itself: a stop text in the middle of it would leave it invalid.
        let stop = match (&prompt.steering, request.stop.is_empty()) {
            (Some(_), _) => Vec::new(),
            (None, false) => request.stop.clone(),
            (None, true) => request.model.presets.stop.clone(),
        };
        let (codec, parser) = (Arc::clone(&prompt.codec), prompt.parser.take());
        let kept_prompt = wanted.map(|_| prompt.tokens.clone()).unwrap_or_default();
        let mut answer =
            Answer::new(Arc::clone(&codec), parser, stop, report.prompt_tokens, ignored);
        if let Some(wanted) = wanted {
            answer = answer.transcribed();
            leave_room(&mut request, &prompt, wanted);
        }
        if request.tokens_max == Some(0) {
            // Legal in OpenAI's API. The NPU has nothing to do.
            yield Event::Started(Started {
                prompt_tokens: report.prompt_tokens,
                ignored: answer.ignored().to_vec(),
            });
            let mut finished = report.finish(answer.finished(Finish::Length, 0));
            if let (Some(wanted), Some(transcript)) = (wanted, answer.into_transcript()) {
                let (codec, prompt) = (&*codec, &*kept_prompt);
                let scored =
                    Scored { request: &request, wanted, codec, prompt, transcript: &transcript };
                // Nothing else was asked for.
                finished.logprobs = logprobs::tell(&engine, scored).await?;
            }
            yield Event::Finished(finished);
            return;
        }
        let mut waiting = report.watch(admit(&engine, &request, prompt))?;
        report.queued(waiting.position);
        let first = report.watch(waiting.turn(&engine, &request.model).await)?;
        let mut replies = waiting.replies;
        let mut next = Some(first);
        let mut finished = 'answer: loop {
            let reply = match next.take() {
                Some(first) => Ok(first),
                None => replies.recv().await.ok_or_else(|| engine.gone(&request.model)),
            };
            let events = reply.and_then(|reply| {
                report.heard(&reply);
                answer.take(reply)
            });
            if let Err(EngineError::ContextExceeded { context_tokens_max, .. }) = &events {
                engine.clamped(&request.model, *context_tokens_max);
            }
            for event in report.watch(events)? {
                if let Event::Finished(finished) = event {
                    break 'answer report.finish(finished);
                }
                yield event;
            }
            if let Some(finished) = answer.ended_early() {
                break report.finish(finished);
            }
        };
        // This ends a run that goes on.
        drop(replies);
        if let (Some(wanted), Some(transcript)) = (wanted, answer.into_transcript()) {
            let (codec, prompt) = (&*codec, &*kept_prompt);
            let scored =
                Scored { request: &request, wanted, codec, prompt, transcript: &transcript };
            // Who asked for them is told why there are none, instead of an answer that hides it.
            finished.logprobs = logprobs::tell(&engine, scored).await?;
        }
        yield Event::Finished(finished);
    })
}

/// What is to be told of probabilities, where it can be told.
fn wanted_logprobs(engine: &Inner, request: &Request, prompt: &Prompt) -> Option<LogprobsWanted> {
    // A prompt with images is no row of tokens that could be read again.
    let can_be_told = prompt.logits
        && prompt.pictured.is_none()
        && count(&prompt.tokens) <= engine.config().logprobs_tokens_max;
    request.logprobs.filter(|_| can_be_told)
}

/// An answer of which probabilities are told has to fit into a prompt.
fn leave_room(request: &mut Request, prompt: &Prompt, wanted: LogprobsWanted) {
    let room = prompt.room.saturating_sub(count(&prompt.tokens));
    let asked = request.tokens_max.or(request.model.tokens_max).unwrap_or(u32::MAX);
    // Where only the prompt is told of, it is read and nothing else.
    let least = u32::from(!(wanted.of_prompt && request.tokens_max == Some(0)));
    request.tokens_max = Some(asked.min(room.max(least)));
}

/// What of a request has no effect, as far as this side knows.
fn ignored(
    request: &Request,
    prompt: &Prompt,
    logprobs: Option<LogprobsWanted>,
) -> Vec<&'static str> {
    let mut names = Vec::new();
    if request.logprobs.is_some() && logprobs.is_none() {
        names.push("logprobs");
    }
    if prompt.steering.is_some() && !request.stop.is_empty() {
        names.push("stop");
    }
    names
}

/// Refuses what cannot succeed before any work is put into it; what the model would be run with.
pub(crate) fn check(engine: &Inner, model: &Model) -> Result<RuntimeChoice, EngineError> {
    if engine.is_stopping() {
        return Err(EngineError::ShuttingDown);
    }
    if let ModelState::Incomplete(reason) = &model.state {
        let reason = reason.clone();
        return Err(ModelError::Incomplete { model: model.id.clone(), reason }.into());
    }
    let choices = engine.runtimes().choose(model)?;
    // An empty list is a fault of the port, which the load will name.
    Ok(choices.into_iter().next().unwrap_or_else(|| RuntimeChoice::new("")))
}

/// Everything that can be refused without the NPU. Takes the prompt out of the request, of which
/// nothing else has any need: it can be most of a body. Where it is only counted, it may have as many tokens
/// as `counted_max`, whatever fits.
async fn prepare(
    engine: &Inner,
    request: &mut Request,
    counted_max: Option<u32>,
) -> Result<Prompt, EngineError> {
    let model = &request.model;
    let choice = check(engine, model)?;
    let codec = engine.codecs.get(model).await?;
    let context_tokens_max =
        engine.context_tokens_max(model).min(choice.context_limit_tokens.unwrap_or(u32::MAX));
    let margin_tokens = engine.config().margin_tokens(&choice);
    let room = counted_max.unwrap_or(context_tokens_max.saturating_sub(margin_tokens));
    let exceeded = |prompt_tokens| {
        Err(EngineError::ContextExceeded { prompt_tokens, context_tokens_max, margin_tokens })
    };

    let mut asked = std::mem::replace(&mut request.prompt, Asked::Tokens(Vec::new()));
    let mut images = Vec::new();
    if let Asked::Chat(chat) = &mut asked {
        presets::put_into(chat, &model.presets);
        if chat.messages.iter().any(|message| !message.images.is_empty()) {
            if model.vision.is_none() {
                let (model, what) = (model.id.clone(), "images");
                return Err(EngineError::Unsupported { model, what });
            }
            images = pictures::take(chat, &engine.config().pictures, &engine.encodings).await?;
        }
    }
    // Waiting here costs nothing, and a client that leaves is waited for no more.
    let Ok(permit) = Arc::clone(&engine.encodings).acquire_owned().await else {
        return Err(EngineError::ShuttingDown);
    };
    let prefixes = SharedPrefixes {
        known: engine.codecs.prefixes(model),
        tokens_min: engine.prefix_tokens_min(),
    };
    let (format, id) = (request.format.take(), model.id.clone());
    let encoder = Arc::clone(&codec);
    // A long prompt takes tens of milliseconds: not on a thread that others' tokens go through.
    let encoding = spawn_blocking(move || {
        // Given back when the work is over, not when its client has gone.
        let _permit = permit;
        let tokens_max = usize::try_from(room).unwrap_or(usize::MAX);
        encoding::encode(&encoder, asked, format.as_ref(), tokens_max, &prefixes, &id)
    });
    let encoding = match encoding.await {
        Ok(encoding) => encoding?,
        // Other people's code over other people's files.
        Err(panic) => {
            let reason = format!("tokenizer.json or the chat template cannot be used: {panic}");
            return Err(ModelError::Incomplete { model: model.id.clone(), reason }.into());
        }
    };
    let Encoding { encoded, pictured, shared_prefix, parser, steering, stop_tokens } = encoding;
    let pictured = pictured.map(|text| Arc::new(Pictured { text, images }));
    match encoded {
        // To the model's task no tokens mean "load it and no more".
        Encoded::Whole(tokens) if tokens.is_empty() => {
            Err(EngineError::Prompt { reason: "the prompt is empty".to_owned() })
        }
        Encoded::TooLong { tokens_min } => exceeded(PromptTokens::AtLeast(saturated(tokens_min))),
        Encoded::Whole(tokens) if count(&tokens) > room => {
            let tokens = count(&tokens);
            // What an image takes besides its place is known when the encoder is.
            exceeded(match pictured {
                Some(_) => PromptTokens::AtLeast(tokens),
                None => PromptTokens::Exactly(tokens),
            })
        }
        Encoded::Whole(tokens) => {
            let logits = choice.logits;
            Ok(Prompt {
                tokens,
                pictured,
                shared_prefix,
                stop_tokens,
                codec,
                parser,
                steering,
                logits,
                room,
            })
        }
    }
}

/// Tokens of an image where nobody says how many they are: those of most models' encoders.
const IMAGE_TOKENS: u32 = 196;

/// The tokens that the model would be given. In the place of images there are as many as its encoder makes,
/// or, before that is loaded, as the manifest says; none of them of the vocabulary.
pub(crate) async fn tokens(engine: &Inner, request: &mut Request) -> Result<Vec<i32>, EngineError> {
    let Prompt { tokens, pictured, .. } = prepare(engine, request, None).await?;
    let Some(pictured) = pictured else { return Ok(tokens) };
    let image_tokens = engine.image_tokens(&request.model).unwrap_or(IMAGE_TOKENS);
    Ok(expanded(&tokens, &pictured.images, image_tokens))
}

/// A prompt's tokens, of which there are less than `counted_max`, and its images, each of which has one of
/// them.
pub(crate) async fn counted(
    engine: &Inner,
    request: &mut Request,
    counted_max: u32,
) -> Result<(u32, u32), EngineError> {
    let Prompt { tokens, pictured, .. } = prepare(engine, request, Some(counted_max)).await?;
    Ok((count(&tokens), saturated(pictured.map_or(0, |pictured| pictured.images.len()))))
}

/// A request that waits for its turn.
pub(crate) struct Waiting {
    pub(crate) replies: mpsc::Receiver<Reply>,
    ticket: Option<Ticket>,
    /// Requests that stood before it when it came.
    pub(crate) position: usize,
    began: Instant,
}

impl Waiting {
    /// Stands in the queue of its model, if there is room.
    pub(crate) fn admit(
        engine: &Inner,
        model: &Arc<Model>,
        job: Job,
        replies: mpsc::Receiver<Reply>,
    ) -> Result<Self, EngineError> {
        let (ticket, position) = engine.admit(model, job)?;
        Ok(Self { replies, ticket: Some(ticket), position, began: Instant::now() })
    }

    /// The first reply, when the turn has come.
    pub(crate) async fn turn(
        &mut self,
        engine: &Inner,
        model: &Arc<Model>,
    ) -> Result<Reply, EngineError> {
        let reply = timeout(engine.config().queue_timeout, self.replies.recv()).await;
        self.ticket = None;
        match reply {
            Ok(reply) => reply.ok_or_else(|| engine.gone(model)),
            Err(_) => Err(EngineError::QueueTimeout {
                model: model.id.clone(),
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
        pictured: prompt.pictured,
        shared_prefix: prompt.shared_prefix,
        stop_tokens: prompt.stop_tokens,
        steering: prompt.steering,
        reading: None,
        sampling: request.sampling,
        tokens_max,
        keep_alive: request.keep_alive,
        client: Arc::clone(&request.client),
        reply,
    };
    Waiting::admit(engine, model, job, replies)
}

fn count(tokens: &[i32]) -> u32 {
    saturated(tokens.len())
}

fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
