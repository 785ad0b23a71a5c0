//! Which vendor library a model gets. The knowledge of versions and their faults is in
//! `rkllama-npu`, which this crate does not see: the binary implements this port over it.

use std::path::PathBuf;

use rkllama_core::{EngineError, Model, Problem};

/// A library and what must be said to it for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeChoice {
    /// The library.
    pub path: PathBuf,
    /// Whether it must not look for the end of sequence itself: it would read wrong ids from this
    /// model, and the host watches instead.
    pub ignore_eos: bool,
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
