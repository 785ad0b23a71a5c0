//! One `rkllm_run`: what is refused, the loop over tokens, the callbacks.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::faults::{self, Faults};
use crate::generation::Generation;
use crate::handle::{Handle, Session};
use crate::input::Input;
use crate::latency::Pace;
use crate::log;
use crate::request::{Mode, Request};
use crate::sink::{Output, Perf, Reply, Sink, State};
use crate::trace;
use crate::version::Version;

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

pub(crate) const OK: i32 = 0;
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
        if log::level() >= 2 {
            log::info("rkllm_run ended");
        }
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
                if log::level() >= 2 {
                    log::info("rkllm_run was aborted");
                }
                self.session.is_aborted = true;
                if generation.faults.abort_spoils_cache {
                    self.session.spoilt = self.session.kv.len();
                }
                if generation.faults.stale_token_after_abort {
                    // Heard between two tokens, the last one is in the cache already.
                    let last = self.session.kv.last().filter(|_| generation.produced > 0);
                    self.session.stale_token = generation.pending.or(last.copied());
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

    pub(crate) fn emit_token(&mut self, generation: &mut Generation, token: u32) -> Reply {
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

    pub(crate) fn emit(&mut self, state: State, output: &Output<'_>) -> Reply {
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

    pub(crate) fn finish(&mut self, faults: &Faults, perf: Perf) {
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

pub(crate) fn ms(duration: Duration) -> f32 {
    (duration.as_secs_f64() * 1e3) as f32
}

/// VmHWM of this process.
fn memory_peak_mb() -> f32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f32>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
