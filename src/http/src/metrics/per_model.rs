//! What is counted for each model: vLLM's metrics, and ours beside them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
};

use prometheus_client::{
    collector::Collector,
    encoding::DescriptorEncoder,
    metrics::{counter::Counter, gauge::Gauge},
};
use rkllama_core::{Account, EngineError, Finish, Happened, Outcome, RunAccount};

use super::table::{self, Labels, Row, Scale, Shown, Spread, Tally};

/// The counters of every model that was ever used and is still installed.
#[derive(Debug, Default)]
pub(super) struct PerModel(Mutex<BTreeMap<String, Arc<Series>>>);

/// The counters of one model.
#[derive(Debug, Default)]
struct Series {
    running: Gauge,
    waiting: Gauge,
    kv_cache_usage: Gauge<f64, AtomicU64>,
    prefix_queries: Counter,
    prefix_hits: Counter,
    prompt_tokens: Counter,
    generation_tokens: Counter,
    finished: Tally,
    failed: Tally,
    first_token: Spread<Seconds>,
    per_token: Spread<SecondsPerToken>,
    whole: Spread<Seconds>,
    queue: Spread<Seconds>,
    prefill: Spread<Seconds>,
    decode: Spread<Seconds>,
    inference: Spread<Seconds>,
    prompt_len: Spread<Tokens>,
    generation_len: Spread<Tokens>,
    queue_position: Spread<Positions>,
    queue_wait: Spread<Seconds>,
    load: Spread<Seconds>,
    load_failures: Counter,
    worker_crashes: Counter,
}

#[derive(Debug)]
struct Seconds;

/// From a short prompt on a small model to the longest wait for a turn.
impl Scale for Seconds {
    const BOUNDS: &'static [f64] = &[
        0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0,
        640.0,
    ];
}

#[derive(Debug)]
struct SecondsPerToken;

/// From the smallest models to the largest that a board holds.
impl Scale for SecondsPerToken {
    const BOUNDS: &'static [f64] =
        &[0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0];
}

#[derive(Debug)]
struct Tokens;

/// To the longest context that a runtime takes.
impl Scale for Tokens {
    const BOUNDS: &'static [f64] =
        &[1.0, 8.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];
}

#[derive(Debug)]
struct Positions;

impl Scale for Positions {
    const BOUNDS: &'static [f64] = &[0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 16.0, 32.0];
}

#[rustfmt::skip]
const ROWS: [Row<Series>; 23] = [
    Row { name: "vllm:num_requests_running", help: "Requests whose run has begun and not ended", metric: |s| Shown::One(&s.running) },
    Row { name: "vllm:num_requests_waiting", help: "Requests that wait for others or for the model to load", metric: |s| Shown::One(&s.waiting) },
    Row { name: "vllm:kv_cache_usage_perc", help: "Share of the context that the conversation answered last takes, 0 to 1", metric: |s| Shown::One(&s.kv_cache_usage) },
    Row { name: "vllm:prefix_cache_queries", help: "Prompt tokens looked for in the cache", metric: |s| Shown::One(&s.prefix_queries) },
    Row { name: "vllm:prefix_cache_hits", help: "Prompt tokens found in the cache", metric: |s| Shown::One(&s.prefix_hits) },
    Row { name: "vllm:prompt_tokens", help: "Prompt tokens of requests whose run gave a token, cached ones too", metric: |s| Shown::One(&s.prompt_tokens) },
    Row { name: "vllm:generation_tokens", help: "Tokens generated", metric: |s| Shown::One(&s.generation_tokens) },
    Row { name: "vllm:request_success", help: "Requests that ended without an error; abort: the client left", metric: |s| s.finished.by("finished_reason") },
    Row { name: "vllm:time_to_first_token_seconds", help: "From a request's arrival to its first token", metric: |s| s.first_token.shown() },
    Row { name: "vllm:request_time_per_output_token_seconds", help: "Mean time between two tokens of an answer", metric: |s| s.per_token.shown() },
    Row { name: "vllm:e2e_request_latency_seconds", help: "From a request's arrival to the end of its answer", metric: |s| s.whole.shown() },
    Row { name: "vllm:request_queue_time_seconds", help: "Time an answered request waited for others and for the model to load", metric: |s| s.queue.shown() },
    Row { name: "vllm:request_prefill_time_seconds", help: "From the start of an answered request's run to its first token", metric: |s| s.prefill.shown() },
    Row { name: "vllm:request_decode_time_seconds", help: "From an answer's first token to its last", metric: |s| s.decode.shown() },
    Row { name: "vllm:request_inference_time_seconds", help: "Prefill and decode of an answered request", metric: |s| s.inference.shown() },
    Row { name: "vllm:request_prompt_tokens", help: "Prompt tokens of an answered request", metric: |s| s.prompt_len.shown() },
    Row { name: "vllm:request_generation_tokens", help: "Tokens of an answer", metric: |s| s.generation_len.shown() },
    Row { name: "rkllama_requests_failed", help: "Requests that ended with an error", metric: |s| s.failed.by("reason") },
    Row { name: "rkllama_queue_position", help: "Requests that waited already when one joined the queue", metric: |s| s.queue_position.shown() },
    Row { name: "rkllama_queue_wait_seconds", help: "Time in the queue, the model's load included, of every request that was in it", metric: |s| s.queue_wait.shown() },
    Row { name: "rkllama_load_seconds", help: "Time to load the model", metric: |s| s.load.shown() },
    Row { name: "rkllama_load_failures", help: "Attempts to load the model that failed", metric: |s| Shown::One(&s.load_failures) },
    Row { name: "rkllama_worker_crashes", help: "Workers that died or had to be killed; the next request starts a new one", metric: |s| Shown::One(&s.worker_crashes) },
];

impl PerModel {
    pub(super) fn observe(&self, model: &str, happened: &Happened<'_>) {
        let series = Arc::clone(self.lock().entry(model.to_owned()).or_default());
        series.observe(happened);
    }

    /// Shows every installed model and forgets those that are not, once nobody waits for them. What
    /// is not loaded has nothing in its cache.
    pub(super) fn settle(&self, installed: &BTreeSet<&str>, loaded: &BTreeSet<&str>) {
        let mut all = self.lock();
        all.retain(|model, series| installed.contains(&**model) || series.is_in_use());
        for model in installed {
            let series = all.entry((*model).to_owned()).or_default();
            if !loaded.contains(model) {
                series.kv_cache_usage.set(0.0);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Series>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for PerModel {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.lock();
        let labelled: Vec<(Labels<'_>, &Series)> =
            all.iter().map(|(model, one)| (vec![("model_name", &**model)], &**one)).collect();
        table::encode(&mut encoder, &ROWS, &labelled)
    }
}

impl Series {
    fn is_in_use(&self) -> bool {
        self.running.get() != 0 || self.waiting.get() != 0
    }

    fn observe(&self, happened: &Happened<'_>) {
        match happened {
            Happened::Queued { position } => {
                self.waiting.inc();
                self.queue_position.observe(float(*position));
            }
            Happened::Dequeued { waited, turn_came } => {
                self.waiting.dec();
                self.running.inc_by(i64::from(*turn_came));
                self.queue_wait.observe(waited.as_secs_f64());
            }
            Happened::Ended(account) => self.ended(account),
            Happened::Loaded { took } => self.load.observe(took.as_secs_f64()),
            Happened::LoadFailed => {
                self.load_failures.inc();
            }
            Happened::WorkerLost => {
                self.worker_crashes.inc();
            }
        }
    }

    fn ended(&self, account: &Account<'_>) {
        if let Some(run) = &account.run {
            self.running.dec();
            self.ran(run);
        }
        match account.outcome {
            Outcome::Finished(finish) => {
                self.finished.inc(finished_reason(finish));
                self.whole.observe(account.took.as_secs_f64());
                account.run.iter().for_each(|run| self.answered(run));
            }
            Outcome::Cancelled => self.finished.inc("abort"),
            Outcome::Failed(error) => self.failed.inc(failure_reason(error)),
        }
    }

    /// What the runtime did, however the request ended.
    fn ran(&self, run: &RunAccount) {
        let Some(first_token) = run.first_token else { return };
        let usage = &run.usage;
        self.first_token.observe(first_token.as_secs_f64());
        self.prompt_tokens.inc_by(u64::from(usage.prompt_tokens));
        self.prefix_queries.inc_by(u64::from(usage.prompt_tokens));
        self.prefix_hits.inc_by(u64::from(usage.cached_tokens));
        self.generation_tokens.inc_by(u64::from(usage.completion_tokens));
        let held = f64::from(usage.prompt_tokens) + f64::from(usage.completion_tokens);
        self.kv_cache_usage.set((held / f64::from(run.context_tokens_max.max(1))).min(1.0));
    }

    fn answered(&self, run: &RunAccount) {
        let (usage, timings) = (&run.usage, &run.timings);
        self.queue.observe(timings.queued.as_secs_f64());
        self.prefill.observe(timings.prefill.as_secs_f64());
        self.decode.observe(timings.decode.as_secs_f64());
        self.inference.observe((timings.prefill + timings.decode).as_secs_f64());
        self.prompt_len.observe(f64::from(usage.prompt_tokens));
        self.generation_len.observe(f64::from(usage.completion_tokens));
        if let Some(steps) = usage.completion_tokens.checked_sub(1).filter(|steps| *steps > 0) {
            self.per_token.observe(timings.decode.as_secs_f64() / f64::from(steps));
        }
    }
}

const fn finished_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
    }
}

const fn failure_reason(error: &EngineError) -> &'static str {
    match error {
        EngineError::Model(_) => "model",
        EngineError::Template { .. } => "template",
        EngineError::Prompt { .. } => "prompt",
        EngineError::Format { .. } => "format",
        EngineError::Image { .. } => "image",
        EngineError::Unsupported { .. } => "unsupported",
        EngineError::ContextExceeded { .. } => "context_exceeded",
        EngineError::QueueFull { .. } => "queue_full",
        EngineError::QueueTimeout { .. } => "queue_timeout",
        EngineError::Runtime { .. } => "runtime",
        EngineError::Load { .. } => "load",
        EngineError::Worker { .. } => "worker",
        EngineError::Degraded { .. } => "degraded",
        EngineError::Run { .. } => "run",
        EngineError::ShuttingDown => "shutting_down",
    }
}

fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
