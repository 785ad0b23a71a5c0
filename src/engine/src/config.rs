//! The engine's limits, each with its unit and its reason.

use std::{collections::BTreeSet, ffi::OsString, num::NonZeroUsize, path::PathBuf, time::Duration};

use rkllama_core::KeepAlive;

use crate::{kv::SavedPromptsConfig, pictures::Pictures, runtimes::RuntimeChoice};

/// How to start a worker.
#[derive(Debug, Clone)]
pub struct WorkerCommand {
    /// The executable: the server's own.
    pub program: PathBuf,
    /// Its arguments: `worker`.
    pub args: Vec<OsString>,
}

/// What models may take together.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    /// Bytes for all models. The rest of the board's memory is for the system and its page cache.
    pub memory_bytes_max: u64,
    /// Bytes planned into one of the NPU's address domains of 4 GiB. Board reports: at about
    /// 4.16 GiB the driver resets and damages the next domain; 3.0 leaves room for our estimate.
    pub domain_bytes_max: u64,
    /// Models loaded at once. Each is a process; beyond the number of domains nothing is gained.
    pub models_max: NonZeroUsize,
}

impl Default for MemoryBudget {
    fn default() -> Self {
        Self {
            memory_bytes_max: u64::MAX,
            domain_bytes_max: 3 << 30,
            models_max: NonZeroUsize::MIN.saturating_add(15),
        }
    }
}

/// How many crashes in a row are answered by loading at once, and the pauses afterwards.
#[derive(Debug, Clone)]
pub struct CrashBudget {
    /// Crashes in a row before the first pause. Two can be bad luck with memory.
    pub crashes_max: u32,
    /// The first pause; each further crash doubles it.
    pub pause_min: Duration,
    /// The longest pause: a minute later somebody may have mended it.
    pub pause_max: Duration,
}

impl Default for CrashBudget {
    fn default() -> Self {
        Self {
            crashes_max: 3,
            pause_min: Duration::from_secs(1),
            pause_max: Duration::from_secs(60),
        }
    }
}

/// Limits of the engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// How to start a worker.
    pub worker: WorkerCommand,
    /// What models may take together.
    pub memory: MemoryBudget,
    /// How crashes in a row are dealt with.
    pub crashes: CrashBudget,
    /// How long a model stays loaded after its last use, where the request does not say. Five
    /// minutes is what Ollama's clients expect.
    pub keep_alive: KeepAlive,
    /// Ids of models that are loaded at start and stay: neither time nor other models move them.
    pub pinned: BTreeSet<String>,
    /// Requests that may wait for all models together.
    pub queue_len_total_max: NonZeroUsize,
    /// Time a request may wait for its turn, the model's load included. Longer than any load and
    /// than a few long answers of others.
    pub queue_timeout: Duration,
    /// Requests that may wait for one model. At 10 tokens/s a ninth waiter would wait minutes:
    /// better to say so now.
    pub queue_len_max: NonZeroUsize,
    /// Whether a model is loaded again for a request whose sampling differs from what it was loaded
    /// with, on runtimes that fix it there. A load takes seconds: else such a request is answered
    /// with what there is, and told so.
    pub reload_for_sampling: bool,
    /// Tokens of pure repetition after which an answer without a limit of its own is ended; 0 for
    /// never. Small models at temperature 0 fall into loops that they never leave: a thousand tokens
    /// are more than any table repeats, and far from a context.
    pub repetition_tokens_max: u32,
    /// Tokens of prompt and answer together of which probabilities are told. The runtime writes a
    /// number for each token and each entry of the vocabulary: 600 kB a token at 150,000 entries.
    pub logprobs_tokens_max: u32,
    /// What images may be.
    pub pictures: Pictures,
    /// Time the encoder may take for an image: the slowest that is published takes 12 s.
    pub image_timeout: Duration,
    /// Which prompts are kept on disk; `None` for none.
    pub saved_prompts: Option<SavedPromptsConfig>,
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
            memory: MemoryBudget::default(),
            crashes: CrashBudget::default(),
            keep_alive: KeepAlive::For(Duration::from_secs(300)),
            pinned: BTreeSet::new(),
            queue_len_total_max: NonZeroUsize::MIN.saturating_add(63),
            queue_timeout: Duration::from_secs(600),
            queue_len_max: NonZeroUsize::MIN.saturating_add(7),
            reload_for_sampling: false,
            repetition_tokens_max: 1024,
            logprobs_tokens_max: 2048,
            pictures: Pictures::default(),
            image_timeout: Duration::from_secs(60),
            saved_prompts: None,
            context_margin_tokens: 32,
            hello_timeout: Duration::from_secs(10),
            load_timeout: Duration::from_secs(300),
            stall_timeout: Duration::from_secs(60),
            prefill_timeout_per_token: Duration::from_millis(100),
            abort_timeout: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(5),
        }
    }

    /// Tokens of the context that a prompt must leave free on this runtime.
    pub(crate) fn margin_tokens(&self, choice: &RuntimeChoice) -> u32 {
        choice.context_margin_tokens.unwrap_or(self.context_margin_tokens)
    }

    /// How long a run over `prompt_tokens` may take to its first token.
    pub(crate) fn first_token_timeout(&self, prompt_tokens: usize) -> Duration {
        let tokens = u32::try_from(prompt_tokens).unwrap_or(u32::MAX);
        self.stall_timeout + self.prefill_timeout_per_token.saturating_mul(tokens)
    }
}
