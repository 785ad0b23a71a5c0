//! One run on a loaded model, from `Generate` to `End`.

use rkllama_core::EngineError;
use rkllama_protocol::{End, FromWorker, Generate, RunSampling, ToWorker};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    config::EngineConfig,
    process::{Worker, unexpected},
    queue::{Job, Reply},
    slot::{fail, send},
};

/// A run and what bounds it.
pub(crate) struct Run<'a> {
    pub(crate) number: u64,
    pub(crate) job: &'a Job,
    pub(crate) sampling: RunSampling,
    /// Parameters of the request that the runtime cannot apply.
    pub(crate) ignored: Vec<&'static str>,
    pub(crate) tokens_max: u32,
    pub(crate) model: &'a str,
    pub(crate) config: &'a EngineConfig,
    pub(crate) stop: &'a CancellationToken,
}

/// How a run left the worker.
pub(crate) enum After {
    /// Idle, and the answer was complete.
    Answered,
    /// Idle, or about to be told to go.
    Ready,
    /// Dead or not to be trusted; the client has left already.
    Lost,
}

impl Run<'_> {
    /// Drives the run to its end. `Err` means that the worker is lost and the job has not been
    /// answered: the text says why if this side knows, else the exit status will.
    pub(crate) async fn drive(self, worker: &mut Worker) -> Result<After, Option<String>> {
        let run = self.number;
        let log_mark = worker.log().mark();
        worker.send(&self.frame()).await.map_err(|_| None)?;
        send(self.job, Reply::Started(self.ignored.clone()));

        let mut deadline = Instant::now() + self.config.first_token_timeout(self.job.tokens.len());
        let mut first_seen = false;
        let mut aborting = false;
        loop {
            tokio::select! {
                biased;
                frame = worker.next() => match frame {
                    Ok(Some(FromWorker::Piece(piece))) if piece.run == run => {
                        first_seen = true;
                        if !aborting {
                            deadline = Instant::now() + self.config.stall_timeout;
                            send(self.job, Reply::Piece(piece.text));
                        }
                    }
                    Ok(Some(FromWorker::End(end))) if end.run() == run => {
                        return Ok(self.finish(end, worker, log_mark).await);
                    }
                    other => return Err(unexpected(&other)),
                },
                () = self.job.reply.closed(), if !aborting => {
                    aborting = true;
                    // An abort is heeded between two tokens: during prefill, at its end.
                    if first_seen {
                        deadline = Instant::now() + self.config.abort_timeout;
                    }
                    worker.send(&ToWorker::Abort(run)).await.map_err(|_| None)?;
                }
                () = self.stop.cancelled() => {
                    fail(self.job, EngineError::ShuttingDown);
                    return Ok(After::Ready);
                }
                () = sleep_until(deadline) => {
                    if aborting {
                        tracing::warn!(model = self.model, "no answer to an abort");
                        return Ok(After::Lost);
                    }
                    let after = if first_seen { "in the middle of an answer" } else { "in prefill" };
                    return Err(Some(format!("gave no sign of life for too long {after}")));
                }
            }
        }
    }

    fn frame(&self) -> ToWorker {
        ToWorker::Generate(Generate {
            run: self.number,
            tokens: self.job.tokens.clone(),
            sampling: self.sampling,
            tokens_max: self.tokens_max,
            stop_tokens: self.job.stop_tokens.clone(),
        })
    }

    /// Passes the end of the run on; a failed one with the runtime's words about it.
    async fn finish(&self, end: End, worker: &Worker, log_mark: u64) -> After {
        match end {
            End::Failed { reason, .. } => {
                let words = worker.log().explanation_since(log_mark).await;
                let reason = words.map_or(reason.clone(), |words| format!("{reason} ({words})"));
                fail(self.job, EngineError::Run { reason });
                After::Ready
            }
            end => {
                send(self.job, Reply::End(end));
                After::Answered
            }
        }
    }
}
