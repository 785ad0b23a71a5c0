//! One run on a loaded model, from `Generate` to `End`.

use rkllama_core::{EngineError, Finish};
use rkllama_protocol::{End, FromWorker, Generate, Stats, ToWorker};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    config::EngineConfig,
    process::{Worker, unexpected},
    queue::{Job, Reply},
    repetition::Repetition,
    slot::{fail, send},
};

/// A run and what bounds it.
pub(crate) struct Run<'a> {
    pub(crate) generate: Generate,
    /// Whose leaving ends it.
    pub(crate) job: &'a Job,
    /// Whether the job hears of it: not of a run that only prepares the KV cache.
    pub(crate) is_heard: bool,
    /// Ends an answer that repeats itself without end.
    pub(crate) repetition: Option<Repetition>,
    pub(crate) model: &'a str,
    pub(crate) config: &'a EngineConfig,
    pub(crate) stop: &'a CancellationToken,
}

/// How a run left the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Idle, and the answer was complete.
    Answered,
    /// Idle, or about to be told to go.
    Ready,
    /// Dead or not to be trusted; the client has left already.
    Lost,
}

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) after: After,
    /// Ids of all that was generated, negative where the runtime gave none; `None` when the run
    /// failed or was not waited for.
    pub(crate) generated: Option<Vec<i32>>,
    /// Counts of the runtime.
    pub(crate) stats: Stats,
}

impl Ran {
    fn unknown(after: After) -> Self {
        Self { after, generated: None, stats: Stats::default() }
    }
}

/// A run as it goes.
struct Course {
    generated: Vec<i32>,
    deadline: Instant,
    is_aborting: bool,
    /// The client has its end although the worker has not said so.
    is_answered: bool,
}

impl Run<'_> {
    /// Drives the run to its end. `Err` means that the worker is lost and the job has not been
    /// answered: the text says why if this side knows, else the exit status will.
    pub(crate) async fn drive(mut self, worker: &mut Worker) -> Result<Ran, Option<String>> {
        let run = self.generate.run;
        let log_mark = worker.log().mark();
        let deadline = Instant::now() + self.config.first_token_timeout(self.generate.tokens.len());
        worker.send(&ToWorker::Generate(self.generate.clone())).await.map_err(|_| None)?;

        let mut course =
            Course { generated: Vec::new(), deadline, is_aborting: false, is_answered: false };
        loop {
            tokio::select! {
                biased;
                frame = worker.next() => match frame {
                    Ok(Some(FromWorker::Piece(piece))) if piece.run == run => {
                        course.generated.push(piece.token);
                        if !course.is_aborting && !self.pass(piece, &mut course) {
                            self.abort(worker, &mut course).await?;
                        }
                    }
                    Ok(Some(FromWorker::End(end))) if end.run() == run => {
                        return Ok(self.finish(end, course, worker, log_mark).await);
                    }
                    other => return Err(unexpected(&other)),
                },
                () = self.job.reply.closed(), if !course.is_aborting => {
                    self.abort(worker, &mut course).await?;
                }
                () = self.stop.cancelled() => {
                    if !course.is_answered {
                        fail(self.job, EngineError::ShuttingDown);
                    }
                    return Ok(Ran::unknown(After::Ready));
                }
                () = sleep_until(course.deadline) => {
                    if course.is_aborting {
                        tracing::warn!(model = self.model, "no answer to an abort");
                        return Ok(Ran::unknown(After::Lost));
                    }
                    let after = if course.generated.is_empty() {
                        "in prefill"
                    } else {
                        "in the middle of an answer"
                    };
                    return Err(Some(format!("gave no sign of life for too long {after}")));
                }
            }
        }
    }

    /// Passes a token on; whether the run shall go on.
    fn pass(&mut self, piece: rkllama_protocol::Piece, course: &mut Course) -> bool {
        course.deadline = Instant::now() + self.config.stall_timeout;
        let token = piece.token;
        if self.is_heard {
            send(self.job, Reply::Piece(piece.text));
        }
        let Some(repetition) = &mut self.repetition else { return true };
        if !repetition.goes_round_with(token) {
            return true;
        }
        let tokens = u32::try_from(course.generated.len()).unwrap_or(u32::MAX);
        tracing::warn!(model = self.model, tokens, "an answer that repeats itself was ended");
        send(self.job, Reply::End { finish: Finish::Length, tokens });
        course.is_answered = true;
        false
    }

    async fn abort(&self, worker: &mut Worker, course: &mut Course) -> Result<(), Option<String>> {
        course.is_aborting = true;
        // An abort is heeded between two tokens: during prefill, at its end.
        if !course.generated.is_empty() {
            course.deadline = Instant::now() + self.config.abort_timeout;
        }
        worker.send(&ToWorker::Abort(self.generate.run)).await.map_err(|_| None)
    }

    /// Passes the end of the run on; a failed one with the runtime's words about it.
    async fn finish(&self, end: End, course: Course, worker: &Worker, log_mark: u64) -> Ran {
        let (finish, stats) = match end {
            End::Stop(stats) => (Some(Finish::Stop), stats),
            End::Length(stats) => (Some(Finish::Length), stats),
            End::Aborted(stats) => (None, stats),
            End::Failed { reason, .. } => {
                let words = worker.log().explanation_since(log_mark).await;
                let reason = words.map_or(reason.clone(), |words| format!("{reason} ({words})"));
                if self.is_heard && !course.is_answered {
                    fail(self.job, EngineError::Run { reason });
                } else {
                    tracing::warn!(model = self.model, reason, "a run failed that nobody heard");
                }
                return Ran::unknown(After::Ready);
            }
        };
        let mut generated = course.generated;
        generated.extend(&stats.unsent);
        let after = match finish {
            Some(finish) if !course.is_answered => {
                if self.is_heard {
                    send(self.job, Reply::End { finish, tokens: stats.tokens });
                }
                After::Answered
            }
            Some(_) => After::Answered,
            None if course.is_answered => After::Answered,
            None => After::Ready,
        };
        Ran { after, generated: Some(generated), stats }
    }
}
