//! The LoRA adapter of a model: a second `.rkllm` file in its folder, which RKLLM-Toolkit makes beside
//! the weights.
//!
//! The runtime runs a model with one adapter at a time, so a model has one or none: with another one it is
//! another model, whose weights use no space again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rkllama_core::Adapter;

use crate::{folder::modified_s, manifest::MANIFEST, modelfile::MODELFILE};

/// Ollama's words.
pub(crate) const ONE_ONLY: &str = "only one adapter is currently supported";
/// The adapter as it is.
pub(crate) const SCALE_DEFAULT: f32 = 1.0;
/// Beyond this nothing sensible is left of a model.
const SCALE_MAX: f32 = 16.0;

/// What manifest or Modelfile say of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AdapterSettings {
    /// Its file, relative to the model's folder.
    pub(crate) file: PathBuf,
    /// What its weights are multiplied with.
    pub(crate) scale: f32,
}

/// A scale that a model can be run with; 0 would be a model without the adapter.
pub(crate) fn check_scale(scale: f32) -> Result<f32, String> {
    if scale.abs() <= SCALE_MAX && scale != 0.0 {
        return Ok(scale);
    }
    Err(format!("`scale` must be from -{SCALE_MAX} to {SCALE_MAX} and not 0"))
}

/// The adapter in this folder; the error says what is wrong with it.
pub(crate) fn adapter(
    folder: &Path,
    stated: Option<&AdapterSettings>,
    weights: Option<&Path>,
) -> Result<Option<Adapter>, String> {
    let Some(AdapterSettings { file: named, scale }) = stated else { return Ok(None) };
    let file = folder.join(named);
    let wrong = |what: &str| {
        format!(
            "{what} {} in {}: correct `file` under [adapter] in {MANIFEST} or ADAPTER in {MODELFILE}",
            named.display(),
            folder.display()
        )
    };
    if weights == Some(&*file) {
        return Err(wrong("the adapter is the model itself:"));
    }
    match fs::metadata(&file) {
        Ok(found) if found.is_file() => Ok(Some(Adapter {
            bytes: found.len(),
            created_s: modified_s(&file),
            scale: *scale,
            file,
        })),
        _ => Err(wrong("no adapter")),
    }
}
