//! One run on a loaded model, from `Generate` to `End`.

use rkllama_core::Finish;
use rkllama_protocol::{End, FromWorker, Order, Piece, Scores, Stats, ToWorker, TokenScore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    config::EngineConfig,
    process::{Worker, unexpected},
    queue::Job,
};

/// Who hears the tokens of a run.
pub(crate) trait Listener: Send {
    /// Takes a token; whether the run shall go on.
    fn hear(&mut self, piece: Piece) -> bool;
}

/// Hears nothing: for a run that only prepares the KV cache.
pub(crate) struct Nobody;

impl Listener for Nobody {
    fn hear(&mut self, _: Piece) -> bool {
        true
    }
}

/// A run and what bounds it.
pub(crate) struct Run<'a> {
    pub(crate) order: Order,
    /// Whose leaving ends it.
    pub(crate) job: &'a Job,
    pub(crate) listener: &'a mut dyn Listener,
    pub(crate) model: &'a str,
    pub(crate) config: &'a EngineConfig,
    pub(crate) stop: &'a CancellationToken,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// By itself.
    Ended(Finish),
    /// Its listener wished so.
    Stopped,
    /// Its client has left.
    Left,
    /// The runtime reported an error, in these words.
    Failed(String),
    /// The server is going down; the run was not waited for.
    ShuttingDown,
    /// The worker does not obey and is not to be trusted; the client has left, or has what it wanted.
    Lost,
}

/// What was found out about a text that was read.
#[derive(Debug)]
pub(crate) enum Found {
    /// Its vector.
    Vector(Vec<f32>),
    /// The logarithms of probabilities, of candidates behind it and of its own tokens.
    Scores { candidates: Vec<f32>, tokens: Vec<TokenScore> },
    /// How much each part of its image is meant.
    Place(Vec<f32>),
}

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    /// Ids of all that was generated, negative where the runtime gave none; `None` when the run
    /// failed or was not waited for.
    pub(crate) generated: Option<Vec<i32>>,
    /// What was found out about a text that was read.
    pub(crate) found: Option<Found>,
    /// Counts of the runtime.
    pub(crate) stats: Stats,
}

impl Ran {
    fn unknown(outcome: Outcome) -> Self {
        Self { outcome, generated: None, found: None, stats: Stats::default() }
    }
}

fn images_of(order: &Order) -> u32 {
    let images = match order {
        Order::Generate(generate) => generate.pictured.as_ref().map_or(0, |it| it.images.len()),
        Order::Point(point) => point.pictured.images.len(),
        Order::Embed(_) | Order::Score(_) => 0,
    };
    u32::try_from(images).unwrap_or(u32::MAX)
}

/// A run as it goes.
struct Course {
    generated: Vec<i32>,
    found: Option<Found>,
    deadline: Instant,
    is_aborting: bool,
    is_stopped: bool,
}

impl Run<'_> {
    /// Drives the run to its end. `Err` means that the worker is lost: the text says why if this
    /// side knows, else the exit status will.
    pub(crate) async fn drive(self, worker: &mut Worker) -> Result<Ran, Option<String>> {
        let run = self.order.run();
        let log_mark = worker.log().mark();
        let encoding = self.config.image_timeout.saturating_mul(images_of(&self.order));
        let first_token = self.config.first_token_timeout(self.order.tokens());
        let deadline = Instant::now() + first_token + encoding;
        worker.send(&ToWorker::Run(self.order)).await.map_err(|_| None)?;

        let mut course = Course {
            generated: Vec::new(),
            found: None,
            deadline,
            is_aborting: false,
            is_stopped: false,
        };
        loop {
            tokio::select! {
                biased;
                frame = worker.next() => match frame {
                    Ok(Some(FromWorker::Piece(piece))) if piece.run == run => {
                        course.generated.push(piece.token);
                        if !course.is_aborting {
                            course.deadline = Instant::now() + self.config.stall_timeout;
                            if !self.listener.hear(piece) {
                                course.is_stopped = true;
                                course.abort(run, self.config, worker).await?;
                            }
                        }
                    }
                    Ok(Some(FromWorker::Embedding(embedding))) if embedding.run == run => {
                        course.found = Some(Found::Vector(embedding.vector));
                        course.deadline = Instant::now() + self.config.stall_timeout;
                    }
                    Ok(Some(FromWorker::Scores(scores))) if scores.run == run => {
                        let Scores { candidates, tokens, .. } = scores;
                        course.found = Some(Found::Scores { candidates, tokens });
                        course.deadline = Instant::now() + self.config.stall_timeout;
                    }
                    Ok(Some(FromWorker::Pointed(pointed))) if pointed.run == run => {
                        course.found = Some(Found::Place(pointed.scores));
                        course.deadline = Instant::now() + self.config.stall_timeout;
                    }
                    Ok(Some(FromWorker::End(end))) if end.run() == run => {
                        return Ok(course.finish(end, worker, log_mark).await);
                    }
                    other => return Err(unexpected(&other)),
                },
                () = self.job.reply.closed(), if !course.is_aborting => {
                    course.abort(run, self.config, worker).await?;
                }
                () = self.stop.cancelled() => return Ok(Ran::unknown(Outcome::ShuttingDown)),
                () = sleep_until(course.deadline) => {
                    if course.is_aborting {
                        tracing::warn!(model = self.model, "no answer to an abort");
                        return Ok(Ran::unknown(Outcome::Lost));
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
}

impl Course {
    async fn abort(
        &mut self,
        run: u64,
        config: &EngineConfig,
        worker: &mut Worker,
    ) -> Result<(), Option<String>> {
        self.is_aborting = true;
        // An abort is heeded between two tokens: during prefill, at its end.
        if !self.generated.is_empty() {
            self.deadline = Instant::now() + config.abort_timeout;
        }
        worker.send(&ToWorker::Abort(run)).await.map_err(|_| None)
    }

    /// What became of the run; of a failed one, with the runtime's words about it.
    async fn finish(self, end: End, worker: &Worker, log_mark: u64) -> Ran {
        let (outcome, stats) = match end {
            End::Failed { reason, .. } => {
                let words = worker.log().explanation_since(log_mark).await;
                let reason = words.map_or(reason.clone(), |words| format!("{reason} ({words})"));
                return Ran::unknown(Outcome::Failed(reason));
            }
            End::Stop(stats) => (Outcome::Ended(Finish::Stop), stats),
            End::Length(stats) => (Outcome::Ended(Finish::Length), stats),
            End::Aborted(stats) => (Outcome::Left, stats),
        };
        let outcome = if self.is_stopped { Outcome::Stopped } else { outcome };
        let mut generated = self.generated;
        generated.extend(&stats.unsent);
        Ran { outcome, generated: Some(generated), found: self.found, stats }
    }
}
