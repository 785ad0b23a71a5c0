//! One run's request, decoded from the caller's structs.

use std::path::PathBuf;

use crate::input::Input;
use crate::sampler::Sampling;

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
