//! Which vendor library a model gets. The knowledge of versions and their faults is in
//! `rkllama-npu`, which this crate does not see: the binary implements this port over it.

use std::path::PathBuf;

use rkllama_core::{EngineError, Model, Problem};

/// How much of what the runtime has computed for earlier prompts may serve a new one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KvReuse {
    /// Whole prompts are given, and the runtime keeps the longest common beginning by itself.
    #[default]
    Prefix,
    /// Only what is new is given, after what the KV cache is known to hold.
    Append,
    /// Nothing is kept: the KV cache is emptied before each prompt.
    Off,
}

/// A library and what must be said to it for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeChoice {
    /// The library.
    pub path: PathBuf,
    /// Whether it must not look for the end of sequence itself: it would read wrong ids from this
    /// model, and the host watches instead.
    pub ignore_eos: bool,
    /// Tokens of the context that a prompt must leave free; `None` leaves the engine's own number.
    pub context_margin_tokens: Option<u32>,
    /// How much of earlier prompts' computation may serve a new one.
    pub kv_reuse: KvReuse,
    /// Whether its prompt-cache files may be written and read.
    pub saved_prompts: bool,
    /// Whether its KV cache may hold anything after an abort, so that it has to be emptied unless its
    /// size is the expected one.
    pub kv_doubtful_after_abort: bool,
}

impl RuntimeChoice {
    /// A library of which nothing special is known.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            ignore_eos: false,
            context_margin_tokens: None,
            kv_reuse: KvReuse::default(),
            saved_prompts: true,
            kv_doubtful_after_abort: true,
        }
    }
}

/// The vendor libraries at hand.
pub trait Runtimes: Send + Sync + 'static {
    /// The library for a model.
    ///
    /// # Errors
    /// [`EngineError::Runtime`], naming the files that were looked at and their versions.
    fn choose(&self, model: &Model) -> Result<RuntimeChoice, EngineError>;

    /// What is wrong with them, for the operator.
    fn problems(&self) -> Vec<Problem>;
}
