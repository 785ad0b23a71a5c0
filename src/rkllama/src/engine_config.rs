//! What the configuration means for the engine and for the HTTP side.

use std::{env, fs, sync::Arc, time::Duration};

use anyhow::Context;
use rkllama_core::{ImageFetch, Model};
use rkllama_engine::{EngineConfig, MemoryBudget, Pictures, SavedPromptsConfig, WorkerCommand};
use rkllama_http::Limits;
use rkllama_openapi::KeptLimits;

use crate::{
    board::Cpus,
    config::{Config, Images},
    image_fetch::ImageFetcher,
    worker,
};

/// How workers are started: this executable, on these CPUs. To be asked once: the answer is another
/// one when the file has been replaced.
pub(crate) fn worker_command(cpus: Option<&Cpus>) -> anyhow::Result<WorkerCommand> {
    let program = env::current_exe().context("cannot find this executable")?;
    let mut args = vec![worker::ROLE.into()];
    args.extend(cpus.map(|cpus| cpus.to_string().into()));
    Ok(WorkerCommand { program, args })
}

/// What the HTTP side is held to.
pub(crate) fn http_limits(config: &Config) -> Limits {
    Limits {
        body_bytes_max: config.limits.body_bytes_max,
        heartbeat: config.limits.heartbeat(),
        ..Limits::default()
    }
}

/// What responses may be kept.
pub(crate) fn kept_limits(config: &Config) -> KeptLimits {
    let wanted = &config.kept_responses;
    let bytes_max = usize::try_from(megabytes(wanted.max_mb)).unwrap_or(usize::MAX);
    KeptLimits { count_max: wanted.count_max, bytes_max }
}

/// The engine's limits.
pub(crate) fn engine_config(
    config: &Config,
    pinned: &[Arc<Model>],
    worker: WorkerCommand,
) -> EngineConfig {
    let limits = &config.limits;
    EngineConfig {
        memory: MemoryBudget {
            memory_bytes_max: config.memory.max_mb.map_or_else(memory_share, megabytes),
            domain_bytes_max: megabytes(config.memory.domain_max_mb),
            models_max: config.memory.models_max,
        },
        keep_alive: config.keep_alive,
        pinned: pinned.iter().map(|model| model.id.clone()).collect(),
        queue_len_max: limits.queue_len_max,
        queue_len_total_max: limits.queue_len_total_max,
        queue_timeout: Duration::from_millis(limits.queue_timeout_ms),
        load_timeout: Duration::from_millis(limits.load_timeout_ms),
        stall_timeout: Duration::from_millis(limits.stall_timeout_ms),
        abort_timeout: Duration::from_millis(limits.abort_timeout_ms),
        reload_for_sampling: config.reload_for_sampling,
        repetition_tokens_max: limits.repetition_tokens_max,
        logprobs_tokens_max: limits.logprobs_tokens_max,
        pictures: pictures(&config.images),
        image_timeout: Duration::from_secs(config.images.encode_timeout_s),
        saved_prompts: saved_prompts(config),
        ..EngineConfig::new(worker)
    }
}

/// What images may be. Without TLS none is fetched, and all else goes on.
fn pictures(images: &Images) -> Pictures {
    let fetcher = ImageFetcher::new(images.clone())
        .inspect_err(|error| tracing::warn!(%error, "images cannot be fetched by their addresses"));
    Pictures {
        bytes_max: images.bytes_max,
        pixels_max: images.pixels_max,
        fetch: fetcher.ok().map(|fetcher| Arc::new(fetcher) as Arc<dyn ImageFetch>),
    }
}

fn saved_prompts(config: &Config) -> Option<SavedPromptsConfig> {
    let wanted = &config.saved_prompts;
    (wanted.max_mb > 0).then(|| SavedPromptsConfig {
        dir: config.state.join("prompts"),
        bytes_max: megabytes(wanted.max_mb),
        tokens_min: wanted.tokens_min.get(),
        age_max: Duration::from_secs(u64::from(wanted.days_max) * 86_400),
    })
}

const fn megabytes(count: u64) -> u64 {
    count.saturating_mul(1_000_000)
}

/// Four fifths of this machine's memory: the NPU shares it with the system. Where it cannot be
/// read, no bound: the runtime's own refusal remains.
fn memory_share() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    total_kib.map_or(u64::MAX, |kib| kib.saturating_mul(1024) / 5 * 4)
}
