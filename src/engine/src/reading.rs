//! One text that is read and not answered: a job like others, with one reply that counts.

use std::{sync::Arc, time::Instant};

use rkllama_core::{EngineError, Finish, Finished, KeepAlive, Model, Sampling, Timings, Usage};
use rkllama_protocol::Pictured;
use tokio::sync::mpsc;

use crate::{
    engine::Inner,
    generation::Waiting,
    queue::{Job, Reading, Reply},
    report::Report,
};

/// Replies of one run: its turn, what was found, and a failure.
const REPLIES_MAX: usize = 4;

/// What is wanted, of which model, for whom.
pub(crate) struct Asked<'a> {
    pub(crate) model: &'a Arc<Model>,
    pub(crate) reading: Reading,
    /// The text with its image, where it has one; a placeholder stands for it in the tokens.
    pub(crate) pictured: Option<Arc<Pictured>>,
    pub(crate) keep_alive: Option<KeepAlive>,
    pub(crate) client: &'a Arc<str>,
}

/// Has the text read; what was found.
pub(crate) async fn run(
    engine: &Inner,
    asked: Asked<'_>,
    tokens: Vec<i32>,
    report: &mut Report,
) -> Result<Reply, EngineError> {
    let Asked { model, reading, pictured, keep_alive, client } = asked;
    report.prompt_tokens = saturated(tokens.len());
    let (reply, replies) = mpsc::channel(REPLIES_MAX);
    let job = Job {
        tokens,
        pictured,
        shared_prefix: None,
        reading: Some(reading),
        stop_tokens: Vec::new(),
        steering: None,
        sampling: Sampling::default(),
        tokens_max: None,
        keep_alive,
        client: Arc::clone(client),
        reply,
    };
    let admitted_at = Instant::now();
    let mut waiting = Waiting::admit(engine, model, job, replies)?;
    report.queued(waiting.position);
    let mut next = Some(waiting.turn(engine, model).await?);
    let started_at = Instant::now();
    loop {
        let reply = match next.take() {
            Some(first) => first,
            None => waiting.replies.recv().await.ok_or_else(|| engine.gone(model))?,
        };
        report.heard(&reply);
        match reply {
            found @ (Reply::Embedding(_) | Reply::Scores { .. } | Reply::Place { .. }) => {
                let timings = Timings {
                    queued: started_at.saturating_duration_since(admitted_at),
                    prefill: started_at.elapsed(),
                    ..Timings::default()
                };
                let usage = Usage { prompt_tokens: report.prompt_tokens, ..Usage::default() };
                let finish = Finish::Stop;
                report.finish(Finished {
                    finish,
                    stopped_by: None,
                    usage,
                    timings,
                    logprobs: None,
                });
                return Ok(found);
            }
            Reply::Failed(error) => {
                if let EngineError::ContextExceeded { context_tokens_max, .. } = &error {
                    engine.clamped(model, *context_tokens_max);
                }
                return Err(error);
            }
            Reply::Started { .. } | Reply::Piece { .. } | Reply::End { .. } | Reply::Loaded => {}
        }
    }
}

/// A reply to something else than what was asked.
pub(crate) fn unexpected(reply: &Reply) -> EngineError {
    EngineError::Run { reason: format!("the worker found something else: {reply:?}") }
}

pub(crate) fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
