//! The thread that owns the model: loads it, answers prompts one after another, frees it.

use std::{
    mem,
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender},
    },
};

use rkllama_npu::{self as npu, GenerateParams, Prompt, RunEnd, RunError};
use rkllama_protocol::{
    Embed, Embedding, Encoder, End, FromWorker, Generate, KvOrders, Load, Loaded, Order, Pictured,
    Point, Pointed, Score, Scores, Stats,
};

use crate::{
    EXIT_ASKED, EXIT_LOAD_FAILED,
    control::Control,
    outlet::{Outlet, ServerGone, say},
    pointer, pooling,
    runtime::{Model, Runtime, sampling},
    scoring,
    tally::{Bounds, Tally, Verdict},
};

/// What the main thread waits for when the worker leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// No call that answers a prompt is under way, and none will be.
    Idle,
    /// The model has been freed.
    Freed,
}

/// What the run thread needs.
pub(crate) struct RunThread<R> {
    pub(crate) runtime: R,
    pub(crate) loads: Receiver<Load>,
    pub(crate) runs: Receiver<Order>,
    pub(crate) control: Arc<Control>,
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) farewell: SyncSender<Farewell>,
    /// Ends the main thread's reading when this thread ends, however it ends.
    pub(crate) wake_main: WakeMain,
}

/// Shuts the reading half of the socket when dropped.
pub(crate) struct WakeMain(pub(crate) UnixStream);

impl Drop for WakeMain {
    fn drop(&mut self) {
        // It may be shut already; then the main thread knows.
        let _ = self.0.shutdown(Shutdown::Read);
    }
}

impl<R: Runtime> RunThread<R> {
    /// Runs until the senders of loads and runs are gone; returns the process's exit code.
    pub(crate) fn run(mut self) -> u8 {
        let Ok(load) = self.loads.recv() else {
            return EXIT_ASKED;
        };
        let model = match self.runtime.load(&load) {
            Ok(model) => model,
            Err(reason) => {
                say(format_args!("cannot load {}: {reason}", load.model.display()));
                // If the server is gone it does not need to know, and we leave anyway.
                let _ = self.outlet.send(&FromWorker::LoadFailed(reason));
                return EXIT_LOAD_FAILED;
            }
        };
        self.control.loaded(model.aborter());
        let mut answering = Answering {
            model,
            context_tokens_max: load.context_tokens_max,
            ignore_eos: load.ignore_eos,
            has_loaded_prompt: false,
            control: &self.control,
            outlet: &self.outlet,
        };
        // Without a server nothing is left to do but to leave.
        if answering.announce().is_ok() {
            while let Ok(order) = self.runs.recv() {
                if answering.obey(&order).is_err() {
                    break;
                }
            }
        }
        // The channel has room for both; without a receiver the main thread has given up waiting
        // and is about to end the process.
        let _ = self.farewell.send(Farewell::Idle);
        drop(answering);
        let _ = self.farewell.send(Farewell::Freed);
        drop(self.wake_main);
        EXIT_ASKED
    }
}

/// A prompt whose images were looked at.
struct Seen<'p> {
    pictured: &'p Pictured,
    vectors: Vec<f32>,
    encoder: Encoder,
}

impl Seen<'_> {
    fn prompt(&self, tokens: usize) -> npu::Pictured<'_> {
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        npu::Pictured {
            text: &self.pictured.text,
            vectors: &self.vectors,
            images: self.pictured.images.len(),
            image_tokens: size(self.encoder.image_tokens),
            width: size(self.encoder.width),
            height: size(self.encoder.height),
            tokens,
        }
    }
}

/// Why images were not looked at.
enum Unseen {
    /// Nobody wants to know any more.
    Stopped,
    /// One of them, or the network, is at fault.
    Failed(String),
}

struct Answering<'a, M> {
    model: M,
    context_tokens_max: u32,
    ignore_eos: bool,
    /// A saved prompt was loaded and the cache not emptied since. It is let go only then: that may
    /// empty the cache too.
    has_loaded_prompt: bool,
    control: &'a Control,
    outlet: &'a Outlet,
}

impl<M: Model> Answering<'_, M> {
    fn announce(&mut self) -> Result<(), ServerGone> {
        let (encoder, encoder_notes) =
            self.model.sight().map(|sight| (sight.encoder(), sight.notes())).unzip();
        self.outlet.send(&FromWorker::Loaded(Loaded {
            runtime_version: self.model.version().to_owned(),
            sampling_per_run: self.model.profile().sampling_per_run,
            load_ms: self.model.load_ms(),
            encoder,
            encoder_notes,
        }))
    }

    /// Does one run and says how it ended, when the runtime is idle again.
    fn obey(&mut self, order: &Order) -> Result<(), ServerGone> {
        let end = match order {
            Order::Generate(generate) => self.run(generate),
            Order::Embed(embed) => self.embed(embed)?,
            Order::Score(score) => self.score(score)?,
            Order::Point(point) => self.point(point)?,
        };
        self.control.run_over();
        self.outlet.send(&FromWorker::End(end))
    }

    fn run(&mut self, generate: &Generate) -> End {
        let run = generate.run;
        let prompt_tokens = u32::try_from(generate.tokens.len()).unwrap_or(u32::MAX);
        let prompt_tokens = prompt_tokens.saturating_add(generate.kv.held_tokens);
        let room = self.context_tokens_max.saturating_sub(prompt_tokens);
        let profile = self.model.profile();
        let bounds = Bounds {
            run,
            tokens_max: generate.tokens_max.min(room).max(1),
            stop_tokens: &generate.stop_tokens,
            runtime_counts: profile.tokens_max_per_run,
            runtime_stops: !self.ignore_eos,
        };
        let seen = match &generate.pictured {
            None => None,
            Some(pictured) => match self.look(pictured) {
                Ok(seen) => Some(seen),
                Err(Unseen::Stopped) => {
                    return End::Aborted(Stats { run, ..Stats::default() });
                }
                Err(Unseen::Failed(reason)) => return End::Failed { run, reason },
            },
        };
        let prompt = match &seen {
            None => Prompt::Tokens(&generate.tokens),
            Some(seen) => Prompt::Pictured(seen.prompt(generate.tokens.len())),
        };
        let params = GenerateParams {
            prompt,
            append: generate.kv.append,
            save: generate.kv.save.as_deref(),
            sampling: sampling(&generate.sampling),
            tokens_max: bounds.tokens_max,
        };
        let mut tally = Tally::new(bounds, self.control, self.outlet);
        if self.control.is_stopping() {
            // Asked for before the runtime was: it need not be.
            return End::Aborted(Stats { run, ..Stats::default() });
        }
        if let Err(reason) = self.prepare_kv_cache(&generate.kv) {
            return End::Failed { run, reason };
        }
        if generate.tokens.is_empty() {
            let kv_tokens = self.model.kv_cache_tokens();
            return End::Stop(Stats { run, kv_tokens, ..Stats::default() });
        }
        self.control.enter(run);
        if self.control.is_stopping() {
            self.control.left();
            let kv_tokens = self.model.kv_cache_tokens();
            return End::Aborted(Stats { run, kv_tokens, ..Stats::default() });
        }
        let result = self.model.generate(&params, &mut |piece| tally.take(piece));
        let aborted = self.control.left();
        let Tally { tokens, unsent, verdict, .. } = tally;
        let perf = result.as_ref().ok().and_then(|end| end.perf);
        let stats = Stats {
            run,
            tokens,
            unsent,
            aborted,
            kv_tokens: self.model.kv_cache_tokens(),
            computed_tokens: perf.map(|perf| perf.prefill_tokens),
        };
        let own_end = || {
            if self.control.is_stopping() {
                Verdict::Aborted
            } else if prompt_tokens.saturating_add(tokens) >= self.context_tokens_max {
                Verdict::Length
            } else {
                Verdict::Stop
            }
        };
        match result {
            Ok(_) => end(verdict.unwrap_or_else(own_end), stats),
            // What a runtime says about a run that it was told to break off is not news.
            Err(RunError::Reported | RunError::Refused) if aborted => {
                end(verdict.unwrap_or(Verdict::Aborted), stats)
            }
            Err(err) => End::Failed { run, reason: err.to_string() },
        }
    }

    /// Has the images of a prompt looked at. Between two of them an order to stop is heeded.
    fn look<'p>(&mut self, pictured: &'p Pictured) -> Result<Seen<'p>, Unseen> {
        let blind = || Unseen::Failed("the model was not loaded to be shown images".to_owned());
        let sight = self.model.sight().ok_or_else(blind)?;
        let encoder = sight.encoder();
        let mut vectors = Vec::new();
        for image in &pictured.images {
            if self.control.is_stopping() {
                return Err(Unseen::Stopped);
            }
            vectors.extend_from_slice(&sight.vectors(image).map_err(Unseen::Failed)?);
        }
        Ok(Seen { pictured, vectors, encoder })
    }

    /// Reads a text and says which vector stands for it.
    fn embed(&mut self, embed: &Embed) -> Result<End, ServerGone> {
        let run = embed.run;
        let read = |model: &mut M| {
            // The last rows that come: some releases say first that there are none.
            let mut vector = None;
            let result = model.read(Prompt::Tokens(&embed.tokens), &mut |hidden| {
                vector = Some(pooling::pool(hidden, embed.tokens.len(), embed.pooling));
            });
            let vector =
                vector.flatten().ok_or_else(|| "the runtime gave no hidden layer".to_owned());
            (result, vector)
        };
        self.read(run, read, |_, vector| Ok(FromWorker::Embedding(Embedding { run, vector })))
    }

    /// Reads a text and says how likely its tokens are, and what comes behind it.
    fn score(&mut self, score: &Score) -> Result<End, ServerGone> {
        let run = score.run;
        let read = |model: &mut M| {
            let mut scores = Err("the runtime gave no logits".to_owned());
            let result = model.weigh(&score.tokens, &mut |logits| {
                scores = scoring::scores(logits, score);
            });
            (result, scores)
        };
        self.read(run, read, |_, (candidates, tokens)| {
            Ok(FromWorker::Scores(Scores { run, candidates, tokens }))
        })
    }

    /// Reads a text with an image and says how much each part of the image is meant.
    fn point(&mut self, point: &Point) -> Result<End, ServerGone> {
        let run = point.run;
        let seen = match self.look(&point.pictured) {
            Ok(seen) => seen,
            Err(Unseen::Stopped) => return Ok(End::Aborted(Stats { run, ..Stats::default() })),
            Err(Unseen::Failed(reason)) => return Ok(End::Failed { run, reason }),
        };
        let read = |model: &mut M| {
            let mut row = None;
            let tokens = usize::try_from(point.tokens).unwrap_or(usize::MAX);
            let result = model.read(Prompt::Pictured(seen.prompt(tokens)), &mut |hidden| {
                row = pointer::row(hidden, point.behind);
            });
            (result, row.ok_or_else(|| "the runtime gave no hidden layer".to_owned()))
        };
        self.read(run, read, |model, row| {
            let sight = model.sight().ok_or("the model was not loaded to be shown images")?;
            let scores = sight.point(&seen.vectors, &row)?;
            Ok(FromWorker::Pointed(Pointed { run, scores }))
        })
    }

    /// A run that reads and writes nothing: `read` makes it and says what came of it, `tell` makes what is
    /// sent of that, unless it was broken off.
    fn read<T>(
        &mut self,
        run: u64,
        read: impl FnOnce(&mut M) -> (Result<RunEnd, RunError>, Result<T, String>),
        tell: impl FnOnce(&mut M, T) -> Result<FromWorker, String>,
    ) -> Result<End, ServerGone> {
        let aborted = |aborted| End::Aborted(Stats { run, aborted, ..Stats::default() });
        if self.control.is_stopping() {
            return Ok(aborted(false));
        }
        // What an earlier run left would be read with it, or what is matched with it has no rows.
        if let Err(reason) = self.empty_kv_cache() {
            return Ok(End::Failed { run, reason });
        }
        self.control.enter(run);
        if self.control.is_stopping() {
            self.control.left();
            return Ok(aborted(false));
        }
        let (result, found) = read(&mut self.model);
        let is_aborted = self.control.left() || self.control.is_stopping();
        if is_aborted {
            return Ok(aborted(true));
        }
        let end = match result {
            Ok(end) => end,
            Err(err) => return Ok(End::Failed { run, reason: err.to_string() }),
        };
        Ok(match found.and_then(|found| tell(&mut self.model, found)) {
            Err(reason) => End::Failed { run, reason },
            Ok(told) => {
                self.outlet.send(&told)?;
                let computed_tokens = end.perf.map(|perf| perf.prefill_tokens);
                End::Stop(Stats { run, computed_tokens, ..Stats::default() })
            }
        })
    }

    /// Follows the orders that come before the run.
    fn prepare_kv_cache(&mut self, kv: &KvOrders) -> Result<(), String> {
        if kv.clear
            && let Err(words) = self.empty_kv_cache()
        {
            if kv.append || kv.load.is_some() {
                return Err(words);
            }
            // It still matches every prompt with what it holds, so the answers stay right as far
            // as its own matching is.
            say(format_args!("{words}"));
        }
        let Some(file) = &kv.load else { return Ok(()) };
        if !self.model.load_prompt_cache(file) {
            return Err(format!("the runtime could not load the saved prompt {}", file.display()));
        }
        self.has_loaded_prompt = true;
        Ok(())
    }

    fn empty_kv_cache(&mut self) -> Result<(), String> {
        if mem::take(&mut self.has_loaded_prompt) && !self.model.release_prompt_cache() {
            say(format_args!("the runtime could not let go of a saved prompt"));
        }
        if self.model.clear_kv_cache() {
            return Ok(());
        }
        Err("the runtime could not clear its KV cache".to_owned())
    }
}

const fn end(verdict: Verdict, stats: Stats) -> End {
    match verdict {
        Verdict::Stop => End::Stop(stats),
        Verdict::Length => End::Length(stats),
        Verdict::Aborted => End::Aborted(stats),
    }
}

#[cfg(test)]
mod tests {
    use rkllama_protocol::read_frame;

    use super::*;
    use crate::tests::fake::{Fake, generate, load, stats};

    #[test]
    fn a_run_that_was_aborted_before_it_began_never_begins() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (control, outlet) = (Control::new(), Outlet::new(theirs));
        let mut fake = Fake::of("1.2.3").says(&[5]);
        let model = Runtime::load(&mut fake, &load()).unwrap();
        control.load_asked().unwrap();
        control.loaded(model.aborter());
        let mut answering = Answering {
            model,
            context_tokens_max: 64,
            ignore_eos: false,
            has_loaded_prompt: false,
            control: &control,
            outlet: &outlet,
        };
        control.run_asked(1).unwrap();
        control.abort_asked(1);
        answering.obey(&Order::Generate(generate(1))).unwrap();
        control.run_asked(2).unwrap();
        answering.obey(&Order::Generate(generate(2))).unwrap();

        let heard = || read_frame::<FromWorker>(&mut &ours).unwrap().unwrap();
        assert_eq!(heard(), FromWorker::End(End::Aborted(stats(1, 0))));
        assert!(matches!(heard(), FromWorker::Piece(_)));
        assert_eq!(heard(), FromWorker::End(End::Stop(stats(2, 1))));
        assert_eq!(fake.world().noted("run"), 1);
    }
}
