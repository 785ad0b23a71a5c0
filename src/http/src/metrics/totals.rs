//! llama-server's metrics: over all models together and without labels, as its dashboards expect.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use prometheus_client::{
    collector::Collector,
    encoding::DescriptorEncoder,
    metrics::{counter::Counter, gauge::Gauge},
};
use rkllama_core::{Happened, RunAccount};

use super::table::{self, Row, Shown};

type Seconds = Counter<f64, AtomicU64>;
type Rate = Gauge<f64, AtomicU64>;

/// The metrics with the prefix `llamacpp:`.
#[derive(Debug, Default)]
pub(super) struct Totals {
    prompt_tokens: Counter,
    prompt_tokens_cached: Counter,
    prompt_seconds: Seconds,
    tokens_predicted: Counter,
    tokens_predicted_seconds: Seconds,
    decodes: Counter,
    tokens_max: Gauge,
    requests_processing: Gauge,
    requests_deferred: Gauge,
    prompt_rate: Rate,
    predicted_rate: Rate,
    /// Tokens behind their answer's first one: those that `tokens_predicted_seconds` were spent on.
    timed_tokens: AtomicU64,
}

#[rustfmt::skip]
const ROWS: [Row<Totals>; 11] = [
    Row { name: "llamacpp:prompt_tokens", help: "Prompt tokens processed, without those from the cache", metric: |t| Shown::One(&t.prompt_tokens) },
    Row { name: "llamacpp:prompt_tokens_cached", help: "Prompt tokens served from the cache", metric: |t| Shown::One(&t.prompt_tokens_cached) },
    Row { name: "llamacpp:prompt_seconds", help: "Time in prefill", metric: |t| Shown::One(&t.prompt_seconds) },
    Row { name: "llamacpp:tokens_predicted", help: "Tokens generated", metric: |t| Shown::One(&t.tokens_predicted) },
    Row { name: "llamacpp:tokens_predicted_seconds", help: "Time in decode, from an answer's first token to its last", metric: |t| Shown::One(&t.tokens_predicted_seconds) },
    Row { name: "llamacpp:n_decode", help: "Passes that gave a token: one for each", metric: |t| Shown::One(&t.decodes) },
    Row { name: "llamacpp:n_tokens_max", help: "Most tokens of a prompt with its answer so far", metric: |t| Shown::One(&t.tokens_max) },
    Row { name: "llamacpp:requests_processing", help: "Requests whose run has begun and not ended", metric: |t| Shown::One(&t.requests_processing) },
    Row { name: "llamacpp:requests_deferred", help: "Requests that wait for others or for their model to load", metric: |t| Shown::One(&t.requests_deferred) },
    Row { name: "llamacpp:prompt_tokens_seconds", help: "Prompt tokens a second of prefill, since the start", metric: |t| Shown::One(&t.prompt_rate) },
    Row { name: "llamacpp:predicted_tokens_seconds", help: "Tokens a second of decode, since the start", metric: |t| Shown::One(&t.predicted_rate) },
];

impl Collector for Totals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        table::encode(&mut encoder, &ROWS, &[(Vec::new(), self)])
    }
}

impl Totals {
    pub(super) fn observe(&self, happened: &Happened<'_>) {
        match happened {
            Happened::Queued { .. } => {
                self.requests_deferred.inc();
            }
            Happened::Dequeued { turn_came, .. } => {
                self.requests_deferred.dec();
                self.requests_processing.inc_by(i64::from(*turn_came));
            }
            Happened::Ended(account) => {
                if let Some(run) = &account.run {
                    self.requests_processing.dec();
                    self.ran(run);
                }
            }
            Happened::Loaded { .. } | Happened::LoadFailed | Happened::WorkerLost => {}
        }
    }

    /// A run that broke off in prefill has processed what nobody can tell: it counts for nothing.
    fn ran(&self, run: &RunAccount) {
        if run.first_token.is_none() {
            return;
        }
        let usage = &run.usage;
        let processed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
        let generated = u64::from(usage.completion_tokens);
        self.prompt_tokens.inc_by(u64::from(processed));
        self.prompt_tokens_cached.inc_by(u64::from(usage.cached_tokens));
        self.prompt_seconds.inc_by(run.timings.prefill.as_secs_f64());
        self.tokens_predicted.inc_by(generated);
        self.tokens_predicted_seconds.inc_by(run.timings.decode.as_secs_f64());
        self.decodes.inc_by(generated);
        self.timed_tokens.fetch_add(generated.saturating_sub(1), Ordering::Relaxed);
        let tokens = i64::from(usage.prompt_tokens) + i64::from(usage.completion_tokens);
        self.tokens_max.inner().fetch_max(tokens, Ordering::Relaxed);
        self.prompt_rate.set(rate(self.prompt_tokens.get(), &self.prompt_seconds));
        let timed = self.timed_tokens.load(Ordering::Relaxed);
        self.predicted_rate.set(rate(timed, &self.tokens_predicted_seconds));
    }
}

/// Never NaN: nothing in no time is nothing.
#[allow(clippy::cast_precision_loss, reason = "no server lives to see 2^53 tokens")]
fn rate(count: u64, seconds: &Seconds) -> f64 {
    let seconds = seconds.get();
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}
