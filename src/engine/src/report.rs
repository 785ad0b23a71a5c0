//! One log line for each generation, however it ends, and the same for whoever counts. No text of
//! the conversation is in it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rkllama_core::{
    Account, EngineError, Finished, Happened, Model, Observer, Outcome, RunAccount, Timings, Usage,
};

use crate::queue::Reply;

/// Follows a generation; one that is dropped before its end was cancelled.
pub(crate) struct Report {
    observer: Arc<dyn Observer>,
    model: Arc<Model>,
    pub(crate) prompt_tokens: u32,
    completion_tokens: u32,
    began_at: Instant,
    queue: Queued,
    /// Its run has begun.
    started_at: Option<Instant>,
    first_at: Option<Instant>,
    done: bool,
}

/// How far a request is with waiting.
#[derive(Debug, Clone, Copy)]
enum Queued {
    NotYet,
    Since { at: Instant, position: usize },
    Done { waited: Duration, position: usize },
}

impl Report {
    pub(crate) fn new(observer: Arc<dyn Observer>, model: Arc<Model>) -> Self {
        Self {
            observer,
            model,
            prompt_tokens: 0,
            completion_tokens: 0,
            began_at: Instant::now(),
            queue: Queued::NotYet,
            started_at: None,
            first_at: None,
            done: false,
        }
    }

    /// The request waits, behind so many others.
    pub(crate) fn queued(&mut self, position: usize) {
        self.queue = Queued::Since { at: Instant::now(), position };
        self.tell(&Happened::Queued { position });
    }

    /// Looks at what the model's task says.
    pub(crate) fn heard(&mut self, reply: &Reply) {
        match reply {
            Reply::Started { prompt_tokens, .. } => {
                self.prompt_tokens = prompt_tokens.unwrap_or(self.prompt_tokens);
                self.started_at = Some(Instant::now());
                self.dequeued(true);
            }
            Reply::Piece { tokens, .. } => {
                self.first_at.get_or_insert_with(Instant::now);
                self.completion_tokens = self.completion_tokens.saturating_add(*tokens);
            }
            Reply::Embedding(_) | Reply::Scores { .. } | Reply::Place { .. } => {
                self.first_at.get_or_insert_with(Instant::now);
            }
            Reply::End { .. } | Reply::Loaded | Reply::Failed(_) => {}
        }
    }

    /// Nothing was begun, and there is nothing to tell.
    pub(crate) fn forget(mut self) {
        self.done = true;
    }

    /// Passes a result on; an error is the end.
    pub(crate) fn watch<T>(&mut self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        if let Err(error) = &result {
            self.ended(Outcome::Failed(error), self.run_so_far());
            // Who renders the error logs it, with the request it belongs to.
            tracing::debug!(
                model = self.model.id,
                prompt_tokens = self.prompt_tokens,
                queue_position = self.queue.position(),
                queued_ms = self.queue.waited().as_millis(),
                took_ms = self.began_at.elapsed().as_millis(),
                %error,
                "generation failed"
            );
        }
        result
    }

    /// Passes the end on.
    pub(crate) fn finish(&mut self, finished: Finished) -> Finished {
        let run = self.run_so_far().map(|run| RunAccount {
            usage: finished.usage,
            timings: finished.timings,
            ..run
        });
        self.ended(Outcome::Finished(finished.finish), run);
        tracing::info!(
            model = self.model.id,
            prompt_tokens = finished.usage.prompt_tokens,
            cached_tokens = finished.usage.cached_tokens,
            completion_tokens = finished.usage.completion_tokens,
            finish = ?finished.finish,
            queue_position = self.queue.position(),
            queued_ms = finished.timings.queued.as_millis(),
            prefill_ms = finished.timings.prefill.as_millis(),
            decode_ms = finished.timings.decode.as_millis(),
            "generation finished"
        );
        finished
    }

    /// What is known of the run before its end has been told.
    fn run_so_far(&self) -> Option<RunAccount> {
        let started_at = self.started_at?;
        let since = |at: Instant, from: Instant| at.saturating_duration_since(from);
        Some(RunAccount {
            usage: Usage {
                prompt_tokens: self.prompt_tokens,
                completion_tokens: self.completion_tokens,
                ..Usage::default()
            },
            context_tokens_max: self.model.context_tokens_max,
            timings: Timings {
                queued: self.queue.waited(),
                prefill: self.first_at.map_or(Duration::ZERO, |at| since(at, started_at)),
                decode: self.first_at.map_or(Duration::ZERO, |at| at.elapsed()),
            },
            first_token: self.first_at.map(|at| since(at, self.began_at)),
        })
    }

    fn ended(&mut self, outcome: Outcome<'_>, run: Option<RunAccount>) {
        self.done = true;
        self.dequeued(false);
        self.tell(&Happened::Ended(Account { outcome, run, took: self.began_at.elapsed() }));
    }

    fn dequeued(&mut self, turn_came: bool) {
        if let Queued::Since { at, position } = self.queue {
            let waited = at.elapsed();
            self.queue = Queued::Done { waited, position };
            self.tell(&Happened::Dequeued { waited, turn_came });
        }
    }

    fn tell(&self, happened: &Happened<'_>) {
        self.observer.observe(&self.model.id, happened);
    }
}

impl Queued {
    /// `None` for a request that never waited.
    const fn position(&self) -> Option<usize> {
        match self {
            Self::NotYet => None,
            Self::Since { position, .. } | Self::Done { position, .. } => Some(*position),
        }
    }

    fn waited(&self) -> Duration {
        match self {
            Self::NotYet => Duration::ZERO,
            Self::Since { at, .. } => at.elapsed(),
            Self::Done { waited, .. } => *waited,
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.done {
            self.ended(Outcome::Cancelled, self.run_so_far());
            tracing::info!(
                model = self.model.id,
                prompt_tokens = self.prompt_tokens,
                completion_tokens = self.completion_tokens,
                queue_position = self.queue.position(),
                queued_ms = self.queue.waited().as_millis(),
                took_ms = self.began_at.elapsed().as_millis(),
                "generation cancelled"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, sync::Mutex};

    use rkllama_core::{Finish, ModelState, Sampling};

    use super::*;

    /// Writes down what it hears, without the times.
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Observer for Heard {
        fn observe(&self, model: &str, happened: &Happened<'_>) {
            let line = match happened {
                Happened::Queued { position } => format!("queued at {position}"),
                Happened::Dequeued { turn_came, .. } => format!("dequeued, turn {turn_came}"),
                Happened::Ended(account) => format!(
                    "{:?} after {:?} tokens, first {}",
                    account.outcome,
                    account.run.map(|run| (run.usage.prompt_tokens, run.usage.completion_tokens)),
                    account.run.is_some_and(|run| run.first_token.is_some()),
                ),
                other => format!("{other:?}"),
            };
            self.0.lock().unwrap().push(format!("{model}: {line}"));
        }
    }

    fn report(heard: &Arc<Heard>) -> Report {
        let model = Model {
            id: "m".to_owned(),
            created_s: 0,
            weights: PathBuf::new(),
            weights_bytes: 0,
            memory_bytes: None,
            context_tokens_max: 4096,
            sampling: Sampling::default(),
            tokens_max: None,
            runtime: None,
            pooling: None,
            reranks: None,
            query_instruction: None,
            vision: None,
            adapter: None,
            presets: rkllama_core::Presets::default(),
            state: ModelState::Ready,
        };
        let mut report = Report::new(Arc::clone(heard) as Arc<dyn Observer>, Arc::new(model));
        report.prompt_tokens = 7;
        report
    }

    /// What is heard of a generation that goes this way and is dropped then.
    fn story(way: impl FnOnce(&mut Report)) -> String {
        let heard = Arc::<Heard>::default();
        let mut report = report(&heard);
        way(&mut report);
        drop(report);
        heard.0.lock().unwrap().join("\n")
    }

    #[test]
    fn an_answer_is_told_from_its_place_in_the_queue_to_its_end() {
        let story = story(|report| {
            report.queued(3);
            report.heard(&Reply::Started {
                ignored: Vec::new(),
                cached_tokens: 0,
                prompt_tokens: None,
            });
            report.heard(&Reply::Piece { token: 1, text: b"a".to_vec(), tokens: 1 });
            report.finish(Finished {
                stopped_by: None,
                finish: Finish::Length,
                usage: Usage { prompt_tokens: 7, completion_tokens: 1, ..Usage::default() },
                timings: Timings::default(),
                logprobs: None,
            });
        });
        assert_eq!(
            story,
            "m: queued at 3\n\
             m: dequeued, turn true\n\
             m: Finished(Length) after Some((7, 1)) tokens, first true"
        );
    }

    /// The NPU did that work, and the queue must not seem to hold it for ever.
    #[test]
    fn who_leaves_is_told_with_what_was_done_for_it() {
        let midway = story(|report| {
            report.queued(0);
            report.heard(&Reply::Started {
                ignored: Vec::new(),
                cached_tokens: 0,
                prompt_tokens: None,
            });
            report.heard(&Reply::Piece { token: 1, text: b"a".to_vec(), tokens: 1 });
            report.heard(&Reply::Piece { token: 1, text: b"b".to_vec(), tokens: 1 });
        });
        assert!(midway.ends_with("m: Cancelled after Some((7, 2)) tokens, first true"), "{midway}");
        let waiting = story(|report| report.queued(1));
        assert_eq!(
            waiting,
            "m: queued at 1\n\
             m: dequeued, turn false\n\
             m: Cancelled after None tokens, first false"
        );
        assert_eq!(story(|_| ()), "m: Cancelled after None tokens, first false");
    }

    #[test]
    fn a_failure_is_told_once() {
        let story = story(|report| {
            report.queued(0);
            let error = EngineError::QueueTimeout { model: "m".to_owned(), waited_s: 1 };
            report.watch::<()>(Err(error)).unwrap_err();
        });
        assert_eq!(
            story,
            "m: queued at 0\n\
             m: dequeued, turn false\n\
             m: Failed(QueueTimeout { model: \"m\", waited_s: 1 }) after None tokens, first false"
        );
    }
}
