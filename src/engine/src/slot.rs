//! The task that owns one model's worker and gives it one job at a time.
//!
//! ```text
//!          job                    Loaded               Generate
//!   empty ─────▶ loading (lock) ─────────▶ ready ──────────────────▶ running
//!     ▲             │ refused, died, slow    ▲                          │
//!     ├─────────────┘                        ├───────── End ────────────┤
//!     └──────────────────── died, hangs, garbage ───────────────────────┘
//! ```
//!
//! A run is over when the worker says `End`, never earlier: a call on a handle whose previous run
//! has not returned gives one request's tokens to another.

use std::{sync::Arc, time::Duration};

use rkllama_core::{EngineError, Model, Sampling};
use rkllama_protocol::{End, FromWorker, Generate, Load, Loaded, RunSampling, ToWorker};
use tokio::{
    sync::{Mutex, mpsc::error::TrySendError},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::EngineConfig,
    process::{LoadFailure, Worker, unexpected},
    queue::{Job, Queue, Reply},
    runtimes::Runtimes,
};

/// Everything a model's task needs from the engine.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) runtimes: Arc<dyn Runtimes>,
    /// Held while a model loads: the vendor's init can block or crash beside another one.
    pub(crate) load_lock: Arc<Mutex<()>>,
    pub(crate) stop: CancellationToken,
}

/// A model in a worker.
struct Resident {
    worker: Worker,
    loaded: Loaded,
    context_tokens_max: u32,
}

/// One model's task.
pub(crate) struct Slot {
    model: Arc<Model>,
    queue: Arc<Queue>,
    shared: Shared,
    resident: Option<Resident>,
    next_run: u64,
}

/// How a job left the worker.
enum After {
    /// Idle, ready for the next.
    Ready,
    /// Dead or not to be trusted.
    Lost,
}

impl Slot {
    pub(crate) fn new(model: Arc<Model>, queue: Arc<Queue>, shared: Shared) -> Self {
        Self { model, queue, shared, resident: None, next_run: 1 }
    }

    /// Runs until the engine stops; frees the NPU then.
    pub(crate) async fn work(mut self) {
        let stop = self.shared.stop.clone();
        loop {
            let job = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                job = self.queue.next() => job,
            };
            self.serve(job).await;
        }
        for job in self.queue.close() {
            fail(&job, EngineError::ShuttingDown);
        }
        if let Some(resident) = self.resident.take() {
            resident.worker.shut_down(self.shared.config.shutdown_timeout).await;
        }
    }

    async fn serve(&mut self, job: Job) {
        let mut resident = match self.resident.take() {
            Some(resident) => resident,
            None => match self.load().await {
                Ok(resident) => resident,
                Err(err) => return fail(&job, err),
            },
        };
        let run = self.next_run;
        self.next_run += 1;
        let context_tokens_max = resident.context_tokens_max;
        let room = free_tokens(context_tokens_max, job.tokens.len());
        if room < self.shared.config.context_margin_tokens {
            fail(&job, self.context_exceeded(&job, context_tokens_max));
            self.resident = Some(resident);
            return;
        }
        let tokens_max = job.tokens_max.unwrap_or(room).min(room);
        match self.run(&mut resident, run, tokens_max, &job).await {
            Ok(After::Ready) => self.resident = Some(resident),
            Ok(After::Lost) => drop(resident.worker.post_mortem(None).await),
            Err(what) => {
                let what = resident.worker.post_mortem(what).await;
                tracing::error!(model = self.model.id, what, "lost a worker");
                fail(&job, EngineError::Worker { model: self.model.id.clone(), what });
            }
        }
    }

    fn context_exceeded(&self, job: &Job, context_tokens_max: u32) -> EngineError {
        EngineError::ContextExceeded {
            prompt_tokens: u32::try_from(job.tokens.len()).unwrap_or(u32::MAX),
            context_tokens_max: context_tokens_max
                .saturating_sub(self.shared.config.context_margin_tokens),
        }
    }

    /// Loads the model, once more with the model's own context limit if ours was too large.
    async fn load(&self) -> Result<Resident, EngineError> {
        let choice = self.shared.runtimes.choose(&self.model)?;
        let _alone = self.shared.load_lock.lock().await;
        let mut context_tokens_max = self.model.context_tokens_max;
        loop {
            let load = Load {
                runtime: choice.path.clone(),
                model: self.model.weights.clone(),
                context_tokens_max,
                sampling: settled(self.model.sampling),
                ignore_eos: choice.ignore_eos,
            };
            let started = Instant::now();
            let start = Worker::start(&self.shared.config, &self.model.id, load);
            let failure = tokio::select! {
                () = self.shared.stop.cancelled() => return Err(EngineError::ShuttingDown),
                outcome = start => match outcome {
                    Ok((worker, loaded)) => {
                        self.report_load(&loaded, context_tokens_max, started.elapsed());
                        return Ok(Resident { worker, loaded, context_tokens_max });
                    }
                    Err(failure) => failure,
                },
            };
            context_tokens_max = self.smaller_context(failure, context_tokens_max)?;
        }
    }

    /// The context to try again with, or the failure as an error.
    fn smaller_context(&self, failure: LoadFailure, asked: u32) -> Result<u32, EngineError> {
        match failure.context_limit_tokens {
            Some(limit) if 0 < limit && limit < asked => {
                tracing::warn!(model = self.model.id, asked, limit, "context clamped to the model");
                Ok(limit)
            }
            _ => {
                let reason = failure.reason;
                tracing::error!(model = self.model.id, reason, "load failed");
                Err(EngineError::Load { model: self.model.id.clone(), reason })
            }
        }
    }

    fn report_load(&self, loaded: &Loaded, context_tokens_max: u32, took: Duration) {
        tracing::info!(
            model = self.model.id,
            runtime = loaded.runtime_version,
            context_tokens_max,
            init_ms = loaded.load_ms,
            took_ms = took.as_millis(),
            "model loaded"
        );
    }

    /// Runs one job. `Err` means that the worker is lost and the job has not been answered: the
    /// text says why if this side knows, else the exit status will.
    async fn run(
        &self,
        resident: &mut Resident,
        run: u64,
        tokens_max: u32,
        job: &Job,
    ) -> Result<After, Option<String>> {
        let config = &self.shared.config;
        let frame = ToWorker::Generate(Generate {
            run,
            tokens: job.tokens.clone(),
            sampling: settled(job.sampling.or(self.model.sampling)),
            tokens_max,
            stop_tokens: job.stop_tokens.clone(),
        });
        let log_mark = resident.worker.log().mark();
        resident.worker.send(&frame).await.map_err(|_| None)?;
        let ignored = if resident.loaded.sampling_per_run {
            Vec::new()
        } else {
            job.sampling.differing(&self.model.sampling.or(Sampling::FALLBACK))
        };
        send(job, Reply::Started(ignored));

        let prefill = config.first_token_timeout(job.tokens.len());
        let mut deadline = Instant::now() + prefill;
        let mut first_seen = false;
        let mut aborting = false;
        loop {
            let stopping = self.shared.stop.cancelled();
            tokio::select! {
                biased;
                frame = resident.worker.next() => match frame {
                    Ok(Some(FromWorker::Piece(piece))) if piece.run == run => {
                        first_seen = true;
                        if !aborting {
                            deadline = Instant::now() + config.stall_timeout;
                            send(job, Reply::Piece(piece.text));
                        }
                    }
                    Ok(Some(FromWorker::End(end))) if end.run() == run => {
                        finish(job, end, &resident.worker, log_mark).await;
                        return Ok(After::Ready);
                    }
                    other => return Err(unexpected(&other)),
                },
                () = job.reply.closed(), if !aborting => {
                    aborting = true;
                    // An abort is heeded between two tokens: during prefill, at its end.
                    if first_seen {
                        deadline = Instant::now() + config.abort_timeout;
                    }
                    resident.worker.send(&ToWorker::Abort(run)).await.map_err(|_| None)?;
                }
                () = stopping => {
                    fail(job, EngineError::ShuttingDown);
                    return Ok(After::Ready);
                }
                () = sleep_until(deadline) => {
                    if aborting {
                        tracing::warn!(model = self.model.id, "no answer to an abort");
                        return Ok(After::Lost);
                    }
                    return Err(Some(format!("gave no sign of life for too long (run {run})")));
                }
            }
        }
    }
}

/// The parameters with every gap filled.
fn settled(sampling: Sampling) -> RunSampling {
    let all = sampling.or(Sampling::FALLBACK);
    RunSampling {
        temperature: all.temperature.unwrap_or(1.0),
        top_p: all.top_p.unwrap_or(1.0),
        top_k: all.top_k,
        repeat_penalty: all.repeat_penalty.unwrap_or(1.0),
        frequency_penalty: all.frequency_penalty.unwrap_or(0.0),
        presence_penalty: all.presence_penalty.unwrap_or(0.0),
    }
}

/// Tokens that fit after the prompt.
fn free_tokens(context_tokens_max: u32, prompt_len: usize) -> u32 {
    u32::try_from(prompt_len).map_or(0, |prompt| context_tokens_max.saturating_sub(prompt))
}

/// Hands a reply over. The channel holds a whole answer, so it is never full; a receiver that has
/// gone is noticed by `closed`.
fn send(job: &Job, reply: Reply) {
    match job.reply.try_send(reply) {
        Ok(()) | Err(TrySendError::Closed(_)) => {}
        Err(TrySendError::Full(_)) => tracing::error!("a reply channel was sized too small"),
    }
}

fn fail(job: &Job, error: EngineError) {
    send(job, Reply::Failed(error));
}

/// Passes the end of a run on; a failed one with the runtime's words about it.
async fn finish(job: &Job, end: End, worker: &Worker, log_mark: u64) {
    match end {
        End::Failed { reason, .. } => {
            let words = worker.log().explanation_since(log_mark).await;
            let reason = words.map_or(reason.clone(), |words| format!("{reason} ({words})"));
            fail(job, EngineError::Run { reason });
        }
        end => send(job, Reply::End(end)),
    }
}
