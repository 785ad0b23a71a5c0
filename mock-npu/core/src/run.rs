//! One `rkllm_run`: prompt to tokens, prefill, decode, callbacks.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::abi::layout::Group;
use crate::conversation::Conversation;
use crate::faults::{self, Faults};
use crate::handle::{Circumstances, Handle, Session};
use crate::hidden::HiddenLayer;
use crate::input::{Cells, EMBEDDED, Input, cells_of, embed};
use crate::language_model::Reader;
use crate::latency::{Latency, Pace};
use crate::log;
use crate::lora::Adapter;
use crate::prompt_cache::{self, Contents};
use crate::rng::{self, Stream};
use crate::sampler::{Sampler, Sampling};
use crate::script::Rule;
use crate::sink::{Matrix, Output, Perf, Reply, Sink, State};
use crate::text_pieces::TextPieces;
use crate::trace;
use crate::version::Version;

/// `RKLLMInferMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Generate,
    LastHiddenLayer,
    Logits,
}

/// One run's input and parameters.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) input: Input,
    pub(crate) mode: Mode,
    pub(crate) keep_history: bool,
    /// From 1.3.0; the values of init otherwise.
    pub(crate) sampling: Option<Sampling>,
    pub(crate) max_new_tokens: Option<i32>,
    /// Name of the adapter to use.
    pub(crate) lora: Option<String>,
    /// Save a prompt cache; without a path under the vendor's own name.
    pub(crate) save_cache: Option<Option<PathBuf>>,
}

/// What comes when the planned tokens are out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    End,
    Model,
    /// The planned tokens again, for ever.
    Again,
}

/// An answer in the making; outlives a run when the callback pauses it.
pub(crate) struct Generation {
    reader: Reader,
    sampler: Sampler,
    chance: Stream,
    plan: Vec<u32>,
    planned: VecDeque<u32>,
    then: Then,
    no_eos: bool,
    produced: u32,
    max_new_tokens: Option<u32>,
    pieces: TextPieces,
    /// The last token: sampled, not yet in the cache.
    pending: Option<u32>,
    latency: Latency,
    faults: Faults,
}

/// How decoding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Finished,
    Aborted,
    Paused,
    Failed,
}

/// A run in progress.
pub(crate) struct Run<'a> {
    pub(crate) handle: &'a Handle,
    pub(crate) session: &'a mut Session,
    pub(crate) sink: &'a mut dyn Sink,
}

const OK: i32 = 0;
const FAILED: i32 = -1;

impl Run<'_> {
    /// Answers a request; the return value is `rkllm_run`'s.
    pub(crate) fn run(&mut self, request: &Request) -> i32 {
        let circumstances = match self.handle.circumstances() {
            Ok(circumstances) => circumstances,
            Err(error) => {
                log::mock(&error);
                return self.fail(&Faults::default());
            }
        };
        if circumstances.faults.hang_in_run {
            faults::hang("rkllm_run");
        }
        if let Err(line) = self.check(request) {
            log::out(&line);
            return self.fail(&circumstances.faults);
        }
        let faults = circumstances.faults.clone();
        let (prefill, paused) = match self.prefill(request, &circumstances) {
            Ok(done) => done,
            Err(line) => {
                log::error(&line);
                return self.fail(&faults);
            }
        };
        let returned = match request.mode {
            Mode::Generate => {
                let generation = match paused {
                    Some(paused) => self.resumed(paused),
                    None => self.generation(request, circumstances),
                };
                self.decode(generation, prefill)
            }
            Mode::LastHiddenLayer | Mode::Logits => self.emit_data(request.mode, prefill, &faults),
        };
        if let Some(path) = &request.save_cache {
            self.save_cache(path.as_deref());
        }
        returned
    }

    /// What the runtime refuses, or dies of, before it looks at the input.
    fn check(&self, request: &Request) -> Result<(), String> {
        let is_known = |name: &String| self.session.adapters.iter().any(|a| a.name == *name);
        if let Some(name) = request.lora.as_ref().filter(|name| !is_known(name)) {
            return Err(format!("Not Found Lora adapter named: {name}"));
        }
        let is_token = matches!(request.input, Input::Tokens(_));
        let is_faulty = self.handle.runtime.version == Version::new(1, 2, 3);
        if is_faulty && is_token && request.keep_history && request.mode == Mode::Logits {
            faults::ggml_abort("GGML_ASSERT(mask->ne[0]==a->ne[0]) failed");
        }
        Ok(())
    }

    /// Everything up to the first token: the input in the cache, and time passed.
    pub(crate) fn prefill(
        &mut self,
        request: &Request,
        circumstances: &Circumstances,
    ) -> Result<(Perf, Option<Generation>), String> {
        let started = Instant::now();
        let paused = self.session.paused.take();
        let fresh = match &paused {
            Some(paused) => self.feed_paused(paused, &request.input)?,
            None => {
                let Cells { cells, system_len } =
                    cells_of(self.handle, self.session, &request.input, request.keep_history)?;
                let begins = self.session.kv.is_empty() || !request.keep_history;
                let cells = self.stale(cells, &circumstances.faults);
                let fresh = self.enter(cells, request.keep_history)?;
                if begins {
                    self.session.system_len = system_len;
                }
                fresh
            }
        };
        self.session.last_keep_history = request.keep_history;
        self.session.is_aborted = false;
        // Nothing interrupts a prefill: an abort during it is heard when it ends.
        std::thread::sleep(circumstances.latency.prefill(fresh, self.session.kv.len() - fresh));
        let perf = Perf {
            prefill_time_ms: ms(started.elapsed()),
            prefill_tokens: fresh as i32,
            ..Perf::default()
        };
        Ok((perf, paused))
    }

    /// With the fault, the image of the last run in the place of this one's.
    fn stale(&self, mut cells: Vec<u32>, faults: &Faults) -> Vec<u32> {
        if faults.stale_image {
            let held = self.session.kv.iter().filter(|cell| **cell & EMBEDDED != 0);
            let new = cells.iter_mut().filter(|cell| **cell & EMBEDDED != 0);
            new.zip(held).for_each(|(new, held)| *new = *held);
        }
        cells
    }

    /// A paused generation goes on with the caller's tokens, or with its own: the text of a prompt
    /// is ignored then.
    fn feed_paused(&mut self, paused: &Generation, input: &Input) -> Result<usize, String> {
        let fed = match input {
            Input::Tokens(_) => cells_of(self.handle, self.session, input, true)?.cells,
            _ => paused.pending.into_iter().collect(),
        };
        self.session.kv.extend(&fed);
        Ok(fed.len())
    }

    fn resumed(&self, mut paused: Generation) -> Generation {
        paused.pending = None;
        paused.reader = self.handle.model.language.read(&self.session.readable());
        paused
    }

    /// The rows of the tokens that were computed, in one callback. Whether FINISH follows depends
    /// on the release.
    fn emit_data(&mut self, mode: Mode, perf: Perf, faults: &Faults) -> i32 {
        let model = &self.handle.model;
        let kv = &self.session.readable().into_owned();
        let from = kv.len() - (perf.prefill_tokens as usize).min(kv.len());
        let mut rows = Vec::new();
        let row_len = if mode == Mode::Logits {
            for end in from + 1..=kv.len() {
                model.language.read(&kv[..end]).logits().write_row(&mut rows);
            }
            model.language.vocab_len()
        } else {
            let width = model.file.embedding_size as usize;
            rows = HiddenLayer::new(&model.vocabulary, width, model.language.seed()).rows(kv, from);
            width
        };
        let matrix = Some(Matrix { values: &rows, row_len });
        let mut output = Output::default();
        match mode {
            Mode::Logits => output.logits = matrix,
            _ => output.hidden = matrix,
        }
        let group = self.handle.runtime.group;
        let state = if group == Group::C { State::LastHiddenLayer } else { State::Normal };
        if matches!(group, Group::D | Group::D1) {
            self.emit(State::Normal, &Output { text: Some(b""), ..Output::default() });
        }
        output.text = Some(b"");
        if self.emit(state, &output) == Reply::Release {
            drop(rows);
        }
        let finishes = group < Group::E && !faults.data_modes_without_finish;
        if finishes || faults.data_modes_with_finish {
            self.finish(faults, perf);
        }
        OK
    }

    fn save_cache(&self, path: Option<&Path>) {
        if !self.handle.model.file.prompt_cache {
            log::warn("The rwkv model does not support saving prompt cache!");
            return;
        }
        let path = path.unwrap_or_else(|| {
            log::info("prompt_cache_save_path is null, save prompt cache to ./prompt_cache.bin");
            Path::new("./prompt_cache.bin")
        });
        let kv = &self.session.readable();
        let mut logits = Vec::new();
        self.handle.model.language.read(kv).logits().write_row(&mut logits);
        let contents = Contents {
            system_len: self.session.system_len as u32,
            tokens: kv,
            logits: &logits,
            kv_bytes_per_token: self.handle.model.file.kv_bytes_per_token,
        };
        match prompt_cache::save(path, &contents) {
            Ok(()) => log::info(&format!("saved prompt cache to {}", path.display())),
            Err(error) => log::mock(&format!("{}: {error}", path.display())),
        }
    }

    /// Puts the prompt into the cache; returns how many tokens had to be computed.
    fn enter(&mut self, ids: Vec<u32>, keep_history: bool) -> Result<usize, String> {
        let max = self.handle.param.max_context_len as usize;
        if ids.len() > max {
            return Err(format!(
                "the length of prompt is greater than max context (prompt: {} tokens, max context: {max})",
                ids.len()
            ));
        }
        if keep_history {
            let fresh = ids.len();
            self.make_room(fresh)?;
            self.session.kv.extend(ids);
            return Ok(fresh);
        }
        let same = self.session.kv.iter().zip(&ids).take_while(|(held, new)| held == new).count();
        // The last token is always computed, or there would be no logits to sample from.
        let same = same.min(ids.len().saturating_sub(1));
        if log::level() >= 2 {
            log::info(&format!("kv cache matches {same} / {} tokens of prompt", ids.len()));
        }
        let fresh = ids.len() - same;
        self.session.kv = ids;
        Ok(fresh)
    }

    /// Drops the oldest part after the first `n_keep` entries when the window is full.
    fn make_room(&mut self, wanted: usize) -> Result<(), String> {
        let max = self.handle.param.max_context_len as usize;
        let held = self.session.kv.len();
        if held + wanted <= max {
            return Ok(());
        }
        let keep = usize::try_from(self.handle.param.n_keep).unwrap_or(0).min(held);
        let discard = (held + wanted - max).max((held - keep) / 2);
        if keep + discard > held {
            return Err(format!(
                "the context is not enough! history_s: {held}, cur_input_s: {wanted}, \
                 discard_s: {discard}, max_context: {max}!"
            ));
        }
        log::info(&format!(
            "context to be full[{held} + {wanted}], delete the kv cache in [{keep}, {}), total: {discard}",
            keep + discard
        ));
        self.session.kv.drain(keep..keep + discard);
        Ok(())
    }

    pub(crate) fn generation(&self, request: &Request, circumstances: Circumstances) -> Generation {
        let Circumstances { mut script, faults, latency } = circumstances;
        let model = &self.handle.model;
        let context = &self.session.readable();
        let sampling = request.sampling.unwrap_or(self.handle.param.sampling);
        let named = |adapter: &&Adapter| Some(&adapter.name) == request.lora.as_ref();
        let adapter = self.session.adapters.iter().find(named);
        if let Some(adapter) = adapter {
            script.rules.splice(0..0, adapter.script.rules.iter().cloned());
        }
        let seed = context
            .iter()
            .map(|token| u64::from(*token))
            .chain(sampling.words())
            .fold(model.language.seed() ^ adapter.map_or(0, |adapter| adapter.seed), rng::mix);
        let wanted = request.max_new_tokens.filter(|n| *n > 0);
        let max_new_tokens = wanted.unwrap_or(self.handle.param.max_new_tokens);
        let mut generation = Generation {
            reader: model.language.read(context),
            sampler: Sampler::new(sampling),
            chance: Stream::new(seed),
            plan: Vec::new(),
            planned: VecDeque::new(),
            then: Then::Model,
            no_eos: false,
            produced: 0,
            max_new_tokens: u32::try_from(max_new_tokens).ok(),
            pieces: TextPieces::default(),
            pending: None,
            latency,
            faults,
        };
        let bytes = model.vocabulary.decode(context);
        let prompt = String::from_utf8_lossy(&bytes);
        let conversation = Conversation::read(&prompt);
        if let Some(rule) = script.rules.iter().find(|rule| rule.fits(&conversation, &prompt)) {
            let begun = prompt.get(conversation.answer_at..).unwrap_or("");
            generation.obey(rule, begun, &model.vocabulary);
        }
        generation
    }

    fn decode(&mut self, mut generation: Generation, mut perf: Perf) -> i32 {
        let started = Instant::now();
        let before = generation.produced;
        let end = if generation.faults.whole_answer_at_once {
            self.decode_at_once(&mut generation)
        } else {
            self.decode_tokens(&mut generation)
        };
        perf.generate_time_ms = ms(started.elapsed());
        perf.generate_tokens = (generation.produced - before) as i32;
        perf.memory_usage_mb = memory_peak_mb();
        match end {
            End::Finished => {
                self.finish(&generation.faults, perf);
                self.print_perf(&perf);
                OK
            }
            End::Aborted => {
                self.session.is_aborted = true;
                if generation.faults.stale_token_after_abort {
                    self.session.stale_token = generation.pending;
                }
                if !generation.faults.abort_without_finish {
                    self.finish(&generation.faults, Perf::default());
                }
                OK
            }
            End::Paused => {
                self.session.paused = Some(generation);
                OK
            }
            End::Failed => self.fail(&generation.faults),
        }
    }

    fn decode_tokens(&mut self, generation: &mut Generation) -> End {
        let mut pace = Pace::new();
        if let Some(stale) = self.session.stale_token.take() {
            self.emit_token(generation, stale);
        }
        loop {
            if self.handle.abort.is_heard(&generation.faults) {
                return End::Aborted;
            }
            let step = Instant::now();
            let first = generation.pending.is_none();
            if let Err(line) = self.feed_pending(generation) {
                log::error(&line);
                return End::Failed;
            }
            let token = self.next_token(generation);
            if !first {
                pace.wait(step, generation.latency.decode(self.session.kv.len()));
            }
            if self.handle.abort.is_heard(&generation.faults) {
                return End::Aborted;
            }
            match self.deliver(generation, token) {
                Some(end) => return end,
                None => generation.reader.push(token),
            }
        }
    }

    /// Hands one token to the caller; the end of the run, if this was its last.
    fn deliver(&mut self, generation: &mut Generation, token: u32) -> Option<End> {
        let faults = &generation.faults;
        let index = generation.produced;
        if faults.error_at_token == Some(index) {
            return Some(End::Failed);
        }
        if faults.crash_at_token == Some(index) {
            faults::segfault("crash_at_token");
        }
        if faults.ggml_abort_at_token == Some(index) {
            faults::ggml_abort("GGML_ASSERT(mask->ne[0]==a->ne[0]) failed");
        }
        if faults.hang_at_token == Some(index) {
            faults::hang("rkllm_run");
        }
        (0..faults.stdout_flood.unwrap_or(0))
            .for_each(|line| log::info(&format!("debug line {line} of token {index}")));
        let ends = self.handle.eos_ids.contains(&token) && !self.handle.param.ignore_eos_token;
        if ends && !faults.eos_reaches_callback {
            return Some(End::Finished);
        }
        generation.pending = Some(token);
        generation.produced += 1;
        let reply = self.emit_token(generation, token);
        if ends {
            return Some(End::Finished);
        }
        if reply == Reply::Pause {
            return Some(End::Paused);
        }
        self.is_full(generation).then_some(End::Finished)
    }

    /// Puts the last token into the cache.
    fn feed_pending(&mut self, generation: &mut Generation) -> Result<(), String> {
        if let Some(token) = generation.pending.take() {
            let cells = embed(self.handle, self.session, vec![token])?;
            self.session.kv.extend(cells);
        }
        Ok(())
    }

    /// Whether an answer may not grow.
    pub(crate) fn is_full(&self, generation: &Generation) -> bool {
        let full = self.session.kv.len() + 1 > self.handle.param.max_context_len as usize;
        full || generation.max_new_tokens.is_some_and(|max| generation.produced >= max)
    }

    /// The next token of a batch's input and its text; `None` at its end.
    pub(crate) fn next_of(
        &mut self,
        generation: &mut Generation,
    ) -> Option<(u32, Option<Vec<u8>>)> {
        self.feed_pending(generation).ok()?;
        let token = self.next_token(generation);
        if self.handle.eos_ids.contains(&token) && !self.handle.param.ignore_eos_token {
            return None;
        }
        let text = self.text_of(generation, token);
        generation.pending = Some(token);
        generation.produced += 1;
        generation.reader.push(token);
        Some((token, text))
    }

    /// The text of a token; `None` inside a character.
    fn text_of(&self, generation: &mut Generation, token: u32) -> Option<Vec<u8>> {
        let vocabulary = &self.handle.model.vocabulary;
        let hidden = self.handle.param.skip_special_token && vocabulary.is_special(token);
        let silent = hidden || self.handle.model.file.external_tokenizer;
        let bytes = if silent { &[] } else { vocabulary.piece(token) };
        let text = generation.pieces.push(bytes);
        if generation.faults.empty_text { text.map(|_| Vec::new()) } else { text }
    }

    fn emit_token(&mut self, generation: &mut Generation, token: u32) -> Reply {
        let text = self.text_of(generation, token);
        let state = if text.is_some() { State::Normal } else { State::Waiting };
        self.emit(
            state,
            &Output { text: text.as_deref(), token_id: token as i32, ..Output::default() },
        )
    }

    /// All tokens in one callback, as some builds do.
    fn decode_at_once(&mut self, generation: &mut Generation) -> End {
        let mut text = Vec::new();
        let max = generation.max_new_tokens.unwrap_or(u32::MAX).min(4096);
        while generation.produced < max {
            let token = self.next_token(generation);
            if self.handle.eos_ids.contains(&token) {
                break;
            }
            text.extend_from_slice(self.handle.model.vocabulary.piece(token));
            generation.produced += 1;
            generation.pending = Some(token);
            self.session.kv.push(token);
            generation.reader.push(token);
        }
        let token_id = generation.pending.map_or(-1, |token| token as i32);
        self.emit(State::Normal, &Output { text: Some(&text), token_id, ..Output::default() });
        End::Finished
    }

    fn next_token(&self, generation: &mut Generation) -> u32 {
        let vocab_len = self.handle.model.language.vocab_len() as u64;
        let chance = generation.chance.next_unit();
        if generation.faults.garbage_text {
            let marks = self.handle.model.vocabulary.encode("&!");
            return marks.get(usize::from(chance > 0.5)).copied().unwrap_or(0);
        }
        if generation.faults.pad_text {
            return (vocab_len - 1 - (chance * 8.0) as u64) as u32;
        }
        if let Some(token) = generation.take_planned() {
            return token;
        }
        if generation.then == Then::End {
            return self.handle.model.file.eos_ids[0];
        }
        let mut logits = generation.reader.logits();
        let banned = self.handle.param.ignore_eos_token && generation.faults.ignore_eos_bans;
        if banned || generation.no_eos {
            logits.ban(&self.handle.model.file.eos_ids);
        }
        generation.sampler.pick(&logits, generation.reader.tokens(), chance)
    }

    fn emit(&mut self, state: State, output: &Output<'_>) -> Reply {
        self.emit_all(state, std::slice::from_ref(output))
    }

    /// One callback for all inputs; the trace shows the first's token and the number of inputs.
    pub(crate) fn emit_all(&mut self, state: State, outputs: &[Output<'_>]) -> Reply {
        trace::callback(state.name(), || {
            let text = |output: &Output<'_>| {
                output.text.map(|text| String::from_utf8_lossy(text).into_owned())
            };
            match outputs {
                [output] => json!({ "token_id": output.token_id, "text": text(output) }),
                outputs => {
                    let ids: Vec<i32> = outputs.iter().map(|output| output.token_id).collect();
                    let texts: Vec<Option<String>> = outputs.iter().map(text).collect();
                    json!({ "token_ids": ids, "texts": texts })
                }
            }
        });
        let reply = self.sink.emit(state, outputs);
        if reply != Reply::Continue {
            trace::note("callback_reply", || json!({ "reply": format!("{reply:?}") }));
        }
        reply
    }

    fn finish(&mut self, faults: &Faults, perf: Perf) {
        if !faults.finish_missing {
            self.emit(State::Finish, &Output { perf: Some(perf), ..Output::default() });
        }
    }

    /// Faults of this moment, for an end before a run has begun.
    pub(crate) fn faults_or_default(&self) -> Faults {
        self.handle.faults_now().unwrap_or_default()
    }

    pub(crate) fn fail(&mut self, faults: &Faults) -> i32 {
        if faults.error_result_null {
            trace::callback(State::Error.name(), || json!({ "result": null }));
            self.sink.emit(State::Error, &[]);
        } else {
            self.emit(State::Error, &Output::default());
        }
        FAILED
    }

    fn print_perf(&self, perf: &Perf) {
        if log::level() >= 1 {
            crate::perf_table::print(self.handle.init_ms, perf);
        }
    }
}

impl Generation {
    pub(crate) fn latency(&self) -> Latency {
        self.latency
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Plans what a rule says.
    fn obey(&mut self, rule: &Rule, begun: &str, vocabulary: &crate::vocabulary::Vocabulary) {
        let text = rule.text(begun);
        let split = rule.split_utf8 || self.faults.utf8_split.is_some();
        let mut plan =
            if split { vocabulary.encode_split(&text) } else { vocabulary.encode(&text) };
        plan.extend(&rule.tokens);
        self.planned = plan.iter().copied().collect();
        self.plan = plan;
        self.then = match (rule.speaks(), rule.then_model, rule.no_eos) {
            (false, _, _) | (_, true, _) => Then::Model,
            (true, false, true) => Then::Again,
            (true, false, false) => Then::End,
        };
        self.no_eos = rule.no_eos;
        self.latency.decode_ms_per_token =
            rule.delay_ms_per_token.or(self.latency.decode_ms_per_token);
        self.faults.error_at_token = rule.fail_at_token.or(self.faults.error_at_token);
        self.faults.crash_at_token = rule.crash_at_token.or(self.faults.crash_at_token);
        self.faults.hang_at_token = rule.hang_at_token.or(self.faults.hang_at_token);
    }

    fn take_planned(&mut self) -> Option<u32> {
        if self.planned.is_empty() && self.then == Then::Again {
            self.planned = self.plan.iter().copied().collect();
        }
        self.planned.pop_front()
    }
}

fn ms(duration: Duration) -> f32 {
    (duration.as_secs_f64() * 1e3) as f32
}

/// VmHWM of this process.
fn memory_peak_mb() -> f32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f32>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
