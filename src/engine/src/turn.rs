//! One job on a loaded model: what of its prompt is computed already, the runs, what they leave.
//!
//! Where conversations take turns, each finds another's tokens in the KV cache. What they have in
//! common, such as a system prompt with its list of tools, is then saved to disk by a short run of its
//! own in front of the job's, and read back from there from then on.

use std::{borrow::Cow, collections::VecDeque, path::Path, sync::Arc};

use rkllama_core::{EngineError, Finish, Model, PromptTokens, Sampling};
use rkllama_protocol::{
    Embed, Encoder, Generate, KvOrders, Order, Pictured, Piece, Point, RunSampling, Score,
};
use rkllama_text::{grammar::GrammarError, without_marks};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::{
    config::EngineConfig,
    kv::{LedgerEntry, ModelKey, Plan, SavedPrompts},
    pictures::{expanded, is_image},
    queue::{Job, Reading, Reply},
    repetition::Repetition,
    run::{Found, Listener, Nobody, Outcome, Ran, Run},
    runtimes::KvReuse,
    slot::{InWorker, fail, send},
    steering::{Released, Steered, Steering, Step, TOKEN_UNKNOWN},
};

/// Beginnings that are remembered as computed once. More applications than that do not share a board.
const COMPUTED_MAX: usize = 64;

/// How a job left its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Idle, and the answer was complete.
    Answered,
    /// Idle, or about to be told to go.
    Ready,
    /// Dead or not to be trusted; nobody waits for an answer any more.
    Lost,
}

/// A worker that was lost.
#[derive(Debug)]
pub(crate) struct Lost {
    /// What happened, if this side knows; else the exit status will say.
    pub(crate) what: Option<String>,
    /// It died over a saved prompt, before the job's own run: the job can be done by another worker.
    pub(crate) over_saved_prompt: bool,
}

/// What is remembered of a model's prompts from worker to worker.
#[derive(Debug, Default)]
pub(crate) struct PromptMemory {
    /// Beginnings that were computed, the latest last.
    computed: VecDeque<Arc<[i32]>>,
    /// Saving or loading has failed: it is left alone until the server restarts.
    is_spoilt: bool,
}

impl PromptMemory {
    /// Takes note of a beginning; whether it had been computed before.
    fn recall(&mut self, prefix: &Arc<[i32]>) -> bool {
        if self.computed.iter().any(|known| known == prefix) {
            return true;
        }
        if self.computed.len() == COMPUTED_MAX {
            self.computed.pop_front();
        }
        self.computed.push_back(Arc::clone(prefix));
        false
    }

    pub(crate) fn spoil(&mut self, model: &str, why: &str) {
        self.is_spoilt = true;
        tracing::warn!(model, why, "prompts of this model are not saved any more");
    }
}

/// A job whose turn it is.
pub(crate) struct Turn<'a> {
    pub(crate) model: &'a Model,
    pub(crate) config: &'a EngineConfig,
    pub(crate) stop: &'a CancellationToken,
    pub(crate) resident: &'a mut InWorker,
    /// Number of the last run.
    pub(crate) runs: &'a mut u64,
    pub(crate) memory: &'a mut PromptMemory,
    pub(crate) saved: Option<&'a Arc<SavedPrompts>>,
    pub(crate) job: &'a Job,
    /// The job's prompt, with the tokens of its images.
    pub(crate) prompt: Cow<'a, [i32]>,
}

impl Turn<'_> {
    /// Runs a job that fits; says so to the client of one that does not.
    pub(crate) async fn take(mut self) -> Result<After, Lost> {
        if let Some(pictured) = &self.job.pictured {
            let Some(encoder) = self.resident.loaded.encoder else {
                let (model, what) = (self.model.id.clone(), "images");
                fail(self.job, EngineError::Unsupported { model, what });
                return Ok(After::Ready);
            };
            let prompt = expanded(&self.job.tokens, &pictured.images, encoder.image_tokens);
            self.prompt = Cow::Owned(prompt);
        }
        let room = free_tokens(self.resident.context_tokens_max, self.prompt.len());
        if room < self.config.margin_tokens(&self.resident.choice) {
            fail(self.job, self.context_exceeded());
            return Ok(After::Ready);
        }
        if let Some(reading) = &self.job.reading {
            return self.read(reading).await;
        }
        if let Some(after) = self.flush_stale_token().await? {
            return Ok(after);
        }
        if let Some(after) = self.prepare_shared_prefix().await? {
            return Ok(after);
        }
        let plan = self.plan(&self.prompt);
        let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
        let cached_tokens = count(plan.cached);
        let prompt_tokens = self.job.pictured.is_some().then(|| count(self.prompt.len()));
        let ignored = self.ignored();
        send(self.job, Reply::Started { ignored, cached_tokens, prompt_tokens });
        let tokens_max = self.job.tokens_max.unwrap_or(room).min(room);
        let job = self.job;
        let answered = match &job.steering {
            None => self.answer(plan, tokens_max).await,
            Some(steering) => self.steer(steering, tokens_max).await,
        };
        answered.map_err(|what| Lost { what, over_saved_prompt: false })
    }

    /// What is wanted of a text.
    async fn read(&mut self, reading: &Reading) -> Result<After, Lost> {
        let job = self.job;
        let count = u32::try_from(self.prompt.len()).unwrap_or(u32::MAX);
        let prompt_tokens = job.pictured.is_some().then_some(count);
        send(job, Reply::Started { ignored: Vec::new(), cached_tokens: 0, prompt_tokens });
        *self.runs += 1;
        let (run, tokens) = (*self.runs, job.tokens.clone());
        let order = match reading {
            Reading::Place { behind } => {
                let Some(pictured) = job.pictured.as_deref().cloned() else {
                    let reason = "a place is looked for without an image".to_owned();
                    return Ok(self.broken_off(Outcome::Failed(reason)));
                };
                Order::Point(Point { run, pictured, tokens: count, behind: *behind })
            }
            Reading::Vector(pooling) => Order::Embed(Embed { run, tokens, pooling: *pooling }),
            Reading::Scores(candidates) => Order::Score(Score {
                run,
                tokens,
                candidates: candidates.to_vec(),
                last: 0,
                top: 0,
            }),
            Reading::Logprobs { last, top, .. } => {
                Order::Score(Score { run, tokens, candidates: Vec::new(), last: *last, top: *top })
            }
        };
        let ran = self.drive(order, &mut Nobody).await;
        let ran = ran.map_err(|what| Lost { what, over_saved_prompt: false })?;
        match (ran.outcome, ran.found) {
            (Outcome::Ended(_) | Outcome::Stopped, Some(found)) => {
                send(job, told(found, self.resident.loaded.encoder));
                Ok(After::Answered)
            }
            (Outcome::Ended(_) | Outcome::Stopped, None) => {
                let reason = "the worker sent nothing of what it read".to_owned();
                Ok(self.broken_off(Outcome::Failed(reason)))
            }
            (outcome, _) => Ok(self.broken_off(outcome)),
        }
    }

    /// An answer as the model gives it.
    async fn answer(&mut self, plan: Plan, tokens_max: u32) -> Result<After, Option<String>> {
        let job = self.job;
        let prompt = self.prompt.to_vec();
        let generate = self.generate(plan, &prompt, tokens_max, None);
        // Who says how many tokens there shall be gets them.
        let guard = job.tokens_max.is_none().then_some(self.config.repetition_tokens_max);
        let mut passes = Passes { job, tokens: 0, repetition: guard.and_then(Repetition::after) };
        let ran = self.run(generate, &prompt, &mut passes).await?;
        match ran.outcome {
            Outcome::Ended(finish) => Ok(self.end(finish, ran.stats.tokens)),
            Outcome::Stopped => {
                let tokens = passes.tokens;
                tracing::warn!(
                    model = self.model.id,
                    tokens,
                    "an answer that repeats itself was ended"
                );
                Ok(self.end(Finish::Length, tokens))
            }
            outcome => Ok(self.broken_off(outcome)),
        }
    }

    /// An answer that is held to a form: run after run, each on what is there already.
    async fn steer(
        &mut self,
        steering: &Steering,
        tokens_max: u32,
    ) -> Result<After, Option<String>> {
        let job = self.job;
        let mut steered = match steering.begin() {
            Ok(steered) => steered,
            Err(error) => return Ok(self.unsteerable(&error)),
        };
        let mut step = steered.opening();
        loop {
            let (text, is_over) = match step {
                Ok(Step::Finish(text)) => (text, true),
                Ok(Step::GoOn(text) | Step::Restart(text)) => (text, false),
                Ok(Step::Pass) => (String::new(), false),
                Err(error) => return Ok(self.unsteerable(&error)),
            };
            let answer = steered.tokens();
            let tokens = u32::try_from(answer.len()).unwrap_or(u32::MAX);
            if let Some(over @ 1..) = tokens.checked_sub(tokens_max) {
                say(job, steered.without_last(&text, over), 0);
                return Ok(self.end(Finish::Length, tokens_max));
            }
            say(job, text, 0);
            if is_over || tokens >= tokens_max {
                return Ok(self.end(if is_over { Finish::Stop } else { Finish::Length }, tokens));
            }
            let prompt = [&*self.prompt, &answer].concat();
            let generate = self.generate(self.plan(&prompt), &prompt, tokens_max - tokens, None);
            let mut steers = Steers { job, steered: &mut steered, step: None };
            let ran = self.run(generate, &prompt, &mut steers).await?;
            let decided = steers.step.take();
            let ended = match ran.outcome {
                Outcome::Ended(Finish::Stop | Finish::ToolCalls) => Some(steered.ended()),
                Outcome::Ended(Finish::Length) => {
                    steered.release_all();
                    None
                }
                _ => None,
            };
            release(job, &mut steered);
            step = match (ran.outcome, ended, decided) {
                (Outcome::Stopped, _, Some(decided)) => decided,
                (_, Some(Ok(Some(step))), _) => Ok(step),
                (_, Some(Ok(None)), _) => {
                    return Ok(self.end(Finish::Stop, tokens + ran.stats.tokens));
                }
                (_, Some(Err(error)), _) => Err(error),
                (Outcome::Ended(finish), None, _) => {
                    return Ok(self.end(finish, tokens + ran.stats.tokens));
                }
                (outcome, _, _) => return Ok(self.broken_off(outcome)),
            };
        }
    }

    fn end(&self, finish: Finish, tokens: u32) -> After {
        send(self.job, Reply::End { finish, tokens });
        After::Answered
    }

    /// What is left to say about a run that did not come to its end.
    fn broken_off(&self, outcome: Outcome) -> After {
        match outcome {
            Outcome::Failed(reason) => fail(self.job, EngineError::Run { reason }),
            Outcome::ShuttingDown => fail(self.job, EngineError::ShuttingDown),
            Outcome::Lost => return After::Lost,
            Outcome::Ended(_) | Outcome::Stopped | Outcome::Left => {}
        }
        After::Ready
    }

    fn unsteerable(&self, error: &GrammarError) -> After {
        fail(self.job, EngineError::Run { reason: error.to_string() });
        After::Ready
    }

    fn plan(&self, prompt: &[i32]) -> Plan {
        let choice = &self.resident.choice;
        let plan = self.resident.ledger.plan(prompt, choice.kv_reuse);
        let is_new = |tokens: &[i32]| tokens.iter().any(|token| is_image(*token));
        if !is_new(prompt) {
            return plan;
        }
        // Images come with a whole prompt, which is never mixed with appended ones. And a runtime that
        // may take an image for the one before it must have forgotten that.
        let appends = choice.kv_reuse == KvReuse::Append;
        let is_doubtful = choice.stale_image && is_new(&prompt[plan.cached..]);
        match appends || is_doubtful {
            true => Plan { clear: true, append: false, cached: 0 },
            false => plan,
        }
    }

    /// The prompt as a text with images, and what was answered of it before.
    fn pictured(&self, prompt: &[i32]) -> Option<Pictured> {
        let pictured = self.job.pictured.as_ref()?;
        let mut pictured = Pictured::clone(pictured);
        let answered = prompt.get(self.prompt.len()..).unwrap_or_default();
        if let (Some(steering), [_, ..]) = (&self.job.steering, answered) {
            // Its tokens are those of a vocabulary that has them all.
            let text = steering.codec.text_of(answered).unwrap_or_default();
            pictured.text.push_str(&without_marks(&text));
        }
        Some(pictured)
    }

    fn generate(
        &mut self,
        plan: Plan,
        prompt: &[i32],
        tokens_max: u32,
        save: Option<&Path>,
    ) -> Generate {
        *self.runs += 1;
        let held = if plan.append { plan.cached } else { 0 };
        Generate {
            run: *self.runs,
            tokens: plan.tokens(prompt).to_vec(),
            pictured: self.pictured(prompt),
            kv: KvOrders {
                clear: plan.clear,
                load: None,
                append: plan.append,
                held_tokens: u32::try_from(held).unwrap_or(u32::MAX),
                save: save.map(Path::to_owned),
            },
            sampling: settled(self.job.sampling.or(self.model.sampling)),
            tokens_max,
            stop_tokens: self.job.stop_tokens.clone(),
        }
    }

    /// Drives a run and enters into the ledger what it leaves of `prompt`.
    async fn run(
        &mut self,
        generate: Generate,
        prompt: &[i32],
        listener: &mut dyn Listener,
    ) -> Result<Ran, Option<String>> {
        let ran = self.drive(Order::Generate(generate), listener).await?;
        if let Some(generated) = &ran.generated {
            self.resident.ledger.settle(LedgerEntry {
                prompt,
                generated,
                kv_tokens: ran.stats.kv_tokens,
                doubtful: ran.stats.aborted && self.resident.choice.kv_doubtful_after_abort,
            });
            let appends = self.resident.choice.kv_reuse == KvReuse::Append;
            if appends && self.job.pictured.is_some() {
                // What follows must not be appended to a prompt that was not.
                self.resident.ledger.doubt();
            }
        }
        if let Some(computed) = ran.stats.computed_tokens {
            tracing::debug!(model = self.model.id, prompt = prompt.len(), computed, "prefill");
        }
        Ok(ran)
    }

    /// Drives a run, of which nobody knows what it leaves in the KV cache.
    async fn drive(
        &mut self,
        order: Order,
        listener: &mut dyn Listener,
    ) -> Result<Ran, Option<String>> {
        let run = Run {
            order,
            job: self.job,
            listener,
            model: &self.model.id,
            config: self.config,
            stop: self.stop,
        };
        self.resident.ledger.doubt();
        let ran = run.drive(&mut self.resident.worker).await?;
        self.resident.is_aborted = ran.stats.aborted;
        Ok(ran)
    }

    /// Has a token that the runtime may have kept of an aborted run come where nobody hears it, on
    /// the prompt itself, so that what is computed for it is of use. `Some` when the job has ended on
    /// the way.
    async fn flush_stale_token(&mut self) -> Result<Option<After>, Lost> {
        if !self.resident.is_aborted || !self.resident.choice.stale_token_after_abort {
            return Ok(None);
        }
        let prompt = self.prompt.to_vec();
        let generate = self.generate(self.plan(&prompt), &prompt, 1, None);
        let ran = self.run(generate, &prompt, &mut Nobody).await;
        let ran = ran.map_err(|what| Lost { what, over_saved_prompt: false })?;
        self.resident.is_aborted = false;
        Ok(match ran.outcome {
            Outcome::Ended(_) | Outcome::Stopped => None,
            outcome => Some(self.broken_off(outcome)),
        })
    }

    /// Has the beginning that this prompt shares with others in the KV cache without computing it
    /// again, if that is worth it. `Some` when the job has ended on the way.
    async fn prepare_shared_prefix(&mut self) -> Result<Option<After>, Lost> {
        let (Some(saved), Some(prefix)) = (self.saved, &self.job.shared_prefix) else {
            return Ok(None);
        };
        if self.memory.is_spoilt || !self.resident.choice.saved_prompts {
            return Ok(None);
        }
        let was_computed = self.memory.recall(prefix);
        let missing = prefix.len().saturating_sub(self.plan(prefix).cached + 1);
        if missing < saved.tokens_min() {
            return Ok(None);
        }
        let (saved, prefix, key) = (Arc::clone(saved), Arc::clone(prefix), self.key());
        let found = {
            let (saved, prefix, key) = (Arc::clone(&saved), Arc::clone(&prefix), key.clone());
            spawn_blocking(move || saved.find(&key, &prefix)).await.ok().flatten()
        };
        let after = match found {
            Some(file) => self.load_prefix(&prefix, &file, &saved, &key).await,
            None if was_computed => self.save_prefix(&prefix, &saved, &key).await,
            None => Ok(After::Answered),
        };
        let after = after.inspect_err(|_| saved.discard(&key, &prefix));
        let after = after.map_err(|what| Lost { what, over_saved_prompt: true })?;
        Ok((after != After::Answered).then_some(after))
    }

    /// Everything that the content of a saved prompt depends on besides its tokens.
    fn key(&self) -> ModelKey {
        let Model { weights, weights_bytes, created_s, adapter, .. } = self.model;
        let adapter = adapter.as_ref();
        ModelKey::new(&(
            weights,
            weights_bytes,
            created_s,
            adapter.map(|it| (&it.file, it.bytes, it.created_s, it.scale.to_bits())),
            &self.resident.loaded.runtime_version,
            self.resident.context_tokens_max,
        ))
    }

    async fn load_prefix(
        &mut self,
        prefix: &[i32],
        file: &Path,
        saved: &SavedPrompts,
        key: &ModelKey,
    ) -> Result<After, Option<String>> {
        *self.runs += 1;
        let generate = Generate {
            run: *self.runs,
            tokens: Vec::new(),
            pictured: None,
            kv: KvOrders { clear: true, load: Some(file.to_owned()), ..KvOrders::default() },
            sampling: settled(Sampling::default()),
            tokens_max: 1,
            stop_tokens: Vec::new(),
        };
        let ran = self.run(generate, prefix, &mut Nobody).await?;
        if matches!(ran.outcome, Outcome::Ended(_)) && !self.resident.ledger.holds(prefix) {
            saved.discard(key, prefix);
            self.memory.spoil(&self.model.id, "the KV cache is not what was saved");
        }
        Ok(self.unless_gone(ran.outcome))
    }

    async fn save_prefix(
        &mut self,
        prefix: &[i32],
        saved: &Arc<SavedPrompts>,
        key: &ModelKey,
    ) -> Result<After, Option<String>> {
        let place = saved.place(key, prefix);
        let plan = self.plan(prefix);
        let generate = self.generate(plan, prefix, 1, Some(&place));
        let ran = self.run(generate, prefix, &mut Nobody).await?;
        if matches!(ran.outcome, Outcome::Ended(_)) {
            let kept = {
                let (saved, prefix, key) = (Arc::clone(saved), prefix.to_vec(), key.clone());
                spawn_blocking(move || saved.keep(&key, &prefix)).await
            };
            let failure = match kept {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(panic) => Some(panic.to_string()),
            };
            if let Some(why) = failure {
                self.memory.spoil(&self.model.id, &why);
            }
        } else {
            saved.discard(key, prefix);
        }
        Ok(self.unless_gone(ran.outcome))
    }

    /// A preparation that failed is done without; only when nobody waits any more is it the end.
    fn unless_gone(&mut self, outcome: Outcome) -> After {
        match outcome {
            Outcome::Ended(_) | Outcome::Stopped => After::Answered,
            Outcome::Failed(reason) => {
                self.memory.spoil(&self.model.id, &reason);
                After::Answered
            }
            Outcome::Left | Outcome::ShuttingDown | Outcome::Lost => self.broken_off(outcome),
        }
    }

    /// Parameters of the request that this runtime cannot apply.
    fn ignored(&self) -> Vec<&'static str> {
        if self.resident.loaded.sampling_per_run {
            return Vec::new();
        }
        self.job.sampling.differing(&self.resident.sampling.or(Sampling::FALLBACK))
    }

    fn context_exceeded(&self) -> EngineError {
        EngineError::ContextExceeded {
            prompt_tokens: PromptTokens::Exactly(
                u32::try_from(self.prompt.len()).unwrap_or(u32::MAX),
            ),
            context_tokens_max: self.resident.context_tokens_max,
            margin_tokens: self.config.margin_tokens(&self.resident.choice),
        }
    }
}

/// What was found, for the job's client.
fn told(found: Found, encoder: Option<Encoder>) -> Reply {
    match (found, encoder) {
        (Found::Vector(vector), _) => Reply::Embedding(vector),
        (Found::Scores { candidates, tokens }, _) => Reply::Scores { candidates, tokens },
        (Found::Place(scores), Some(encoder)) => Reply::Place { scores, encoder },
        (Found::Place(_), None) => {
            let reason = "a place on an image that nobody has seen".to_owned();
            Reply::Failed(EngineError::Run { reason })
        }
    }
}

/// Text for the job's client.
fn say(job: &Job, text: String, tokens: u32) {
    if !text.is_empty() || tokens > 0 {
        send(job, Reply::Piece { token: TOKEN_UNKNOWN, text: text.into_bytes(), tokens });
    }
}

/// What is certain of a watched answer, for the job's client.
fn release(job: &Job, steered: &mut Steered<'_>) {
    for Released { token, text, tokens } in steered.released() {
        send(job, Reply::Piece { token, text: text.into_bytes(), tokens });
    }
}

/// Passes all tokens on to the job.
struct Passes<'a> {
    job: &'a Job,
    tokens: u32,
    /// Ends an answer that repeats itself without end.
    repetition: Option<Repetition>,
}

impl Listener for Passes<'_> {
    fn hear(&mut self, piece: Piece) -> bool {
        self.tokens += 1;
        let goes_round = self.repetition.as_mut().is_some_and(|it| it.goes_round_with(piece.token));
        send(self.job, Reply::Piece { token: piece.token, text: piece.text, tokens: 1 });
        !goes_round
    }
}

/// Shows all tokens to the form before the job has them.
struct Steers<'a, 's> {
    job: &'a Job,
    steered: &'a mut Steered<'s>,
    /// Why the run was stopped.
    step: Option<Result<Step, GrammarError>>,
}

impl Listener for Steers<'_, '_> {
    fn hear(&mut self, piece: Piece) -> bool {
        let step = self.steered.token(piece);
        release(self.job, self.steered);
        match step {
            Ok(Step::Pass) => true,
            Ok(Step::GoOn(text)) => {
                say(self.job, text, 1);
                true
            }
            step @ (Ok(Step::Restart(_) | Step::Finish(_)) | Err(_)) => {
                self.step = Some(step);
                false
            }
        }
    }
}

/// The parameters with every gap filled.
pub(crate) fn settled(sampling: Sampling) -> RunSampling {
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
