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

/// What speaks against a choice, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// Something is not as it should be, and answers are right nevertheless.
    Mended(String),
    /// The model will not load, or its answers will be wrong.
    Wrong(String),
}

impl Doubt {
    /// What it is, what is done about it, and what would be better.
    pub const fn words(&self) -> &String {
        let (Self::Mended(words) | Self::Wrong(words)) = self;
        words
    }
}

/// A library and what must be said to it for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeChoice {
    /// The library.
    pub path: PathBuf,
    /// Its release, such as `1.2.3`.
    pub version: String,
    /// Whether it must not look for the end of sequence itself: it would read wrong ids from this
    /// model, and the host watches instead.
    pub ignore_eos: bool,
    /// The model's own limit of the context in tokens, where a runtime has told it before.
    pub context_limit_tokens: Option<u32>,
    /// Tokens of the context that a prompt must leave free; `None` leaves the engine's own number.
    pub context_margin_tokens: Option<u32>,
    /// How much of earlier prompts' computation may serve a new one.
    pub kv_reuse: KvReuse,
    /// Whether its prompt-cache files may be written and read.
    pub saved_prompts: bool,
    /// Whether its KV cache may hold anything after an abort, so that it has to be emptied unless its
    /// size is the expected one.
    pub kv_doubtful_after_abort: bool,
    /// Whether a token of an aborted run comes in the next one, so that a run which nobody hears has
    /// to stand between the two.
    pub stale_token_after_abort: bool,
    /// Whether it may answer about an earlier image, so that the KV cache has to be emptied before a
    /// prompt with another one.
    pub stale_image: bool,
    /// Whether it gives the hidden layer, of which vectors of texts are made.
    pub hidden_layer: bool,
    /// Whether it gives logits, of which probabilities are made.
    pub logits: bool,
    /// Why this one, in words for the operator.
    pub why: String,
    /// What speaks against it.
    pub doubt: Option<Doubt>,
}

impl RuntimeChoice {
    /// A library of which nothing special is known.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            version: String::new(),
            ignore_eos: false,
            context_limit_tokens: None,
            context_margin_tokens: None,
            kv_reuse: KvReuse::default(),
            saved_prompts: true,
            kv_doubtful_after_abort: true,
            stale_token_after_abort: false,
            stale_image: true,
            hidden_layer: true,
            logits: true,
            why: String::new(),
            doubt: None,
        }
    }

    /// Whether a model that was loaded with the other is loaded as this one wants it.
    pub(crate) fn loads_like(&self, other: &Self) -> bool {
        (&self.path, self.ignore_eos) == (&other.path, other.ignore_eos)
    }

    /// For messages.
    pub(crate) fn name(&self) -> String {
        format!("RKLLM runtime {} ({})", self.version, self.path.display())
    }
}

/// What a runtime prints about a model while it loads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelHeader {
    /// The release of the toolkit that converted the model, such as `1.2.3`.
    pub toolkit: String,
    /// The longest context it was converted for, in tokens.
    pub context_limit_tokens: Option<u32>,
    /// NPU cores it was converted for.
    pub npu_cores: Option<u32>,
    /// The chip it was converted for, such as `RK3588`.
    pub platform: Option<String>,
    /// How its weights are quantised, such as `W8A8`; old releases do not say.
    pub dtype: Option<String>,
}

/// What one attempt to load a model has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// What was tried.
    pub choice: RuntimeChoice,
    /// What the runtime said of the model, if it came that far.
    pub header: Option<ModelHeader>,
    /// How it ended.
    pub outcome: LoadOutcome,
}

/// How an attempt to load a model ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadOutcome {
    /// The model was loaded.
    Worked,
    /// The library refused the model or died of it, for this reason; another one may do better.
    Failed(String),
    /// It was not loaded for a reason that is not the library's.
    Inconclusive,
}

/// The vendor libraries at hand.
pub trait Runtimes: Send + Sync + 'static {
    /// The libraries to try for a model, the best first; at least one. Quick: asked for each request.
    ///
    /// # Errors
    /// [`EngineError::Runtime`], naming the files that were looked at and their versions.
    fn choose(&self, model: &Model) -> Result<Vec<RuntimeChoice>, EngineError>;

    /// Takes note of what an attempt to load a model has told; the next [`Runtimes::choose`] knows it.
    /// May block on the disk.
    fn learned(&self, model: &Model, learned: &Learned);

    /// What is wrong with them, for the operator.
    fn problems(&self) -> Vec<Problem>;
}
