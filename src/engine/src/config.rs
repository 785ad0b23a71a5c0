//! The engine's limits, each with its unit and its reason.

use std::{ffi::OsString, num::NonZeroUsize, path::PathBuf, time::Duration};

/// How to start a worker.
#[derive(Debug, Clone)]
pub struct WorkerCommand {
    /// The executable: the server's own.
    pub program: PathBuf,
    /// Its arguments: `worker`.
    pub args: Vec<OsString>,
}

/// Limits of the engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// How to start a worker.
    pub worker: WorkerCommand,
    /// Requests that may wait for one model. At 10 tokens/s a ninth waiter would wait minutes:
    /// better to say so now.
    pub queue_len_max: NonZeroUsize,
    /// Tokens of the context that a prompt must leave free. The runtime dies of over-long prompts
    /// and our count could differ from its own by a few.
    pub context_margin_tokens: u32,
    /// Time for a new process to say hello. It opens nothing before that.
    pub hello_timeout: Duration,
    /// Time for a model to load. A board reads 0.75 GB/s at best, an SD card 0.02; a load that is
    /// cut short leaves NPU memory in an unknown state.
    pub load_timeout: Duration,
    /// Time a run may go without a token, once the first has come.
    pub stall_timeout: Duration,
    /// What is added to `stall_timeout` for each prompt token while the first token is awaited:
    /// the slowest published prefill is 37 tokens/s.
    pub prefill_timeout_per_token: Duration,
    /// Time a decoding run may take to obey an abort before its worker is killed.
    pub abort_timeout: Duration,
    /// Time a worker has to free the NPU's memory at shutdown before it is killed.
    pub shutdown_timeout: Duration,
}

impl EngineConfig {
    /// The defaults around a way to start workers.
    pub fn new(worker: WorkerCommand) -> Self {
        Self {
            worker,
            queue_len_max: NonZeroUsize::MIN.saturating_add(7),
            context_margin_tokens: 32,
            hello_timeout: Duration::from_secs(10),
            load_timeout: Duration::from_secs(300),
            stall_timeout: Duration::from_secs(60),
            prefill_timeout_per_token: Duration::from_millis(100),
            abort_timeout: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(5),
        }
    }

    /// How long a run over `prompt_tokens` may take to its first token.
    pub(crate) fn first_token_timeout(&self, prompt_tokens: usize) -> Duration {
        let tokens = u32::try_from(prompt_tokens).unwrap_or(u32::MAX);
        self.stall_timeout + self.prefill_timeout_per_token.saturating_mul(tokens)
    }
}
