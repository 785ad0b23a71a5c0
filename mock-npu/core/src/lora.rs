//! LoRA adapters: loaded by name, chosen per run.
//!
//! A mock adapter is TOML after the line `RKLLM-MOCK-LORA 1`: rules that speak before those of the
//! model. Any other file is accepted as a real one would be; it only changes the model's choices.

use std::path::Path;

use crate::rng;
use crate::script::Script;

/// First line of a mock adapter.
pub(crate) const HEADER: &str = "RKLLM-MOCK-LORA 1";

/// A loaded adapter.
pub(crate) struct Adapter {
    pub(crate) name: String,
    /// Moves the seed of the answers.
    pub(crate) seed: u64,
    pub(crate) script: Script,
}

impl Adapter {
    /// Reads a file.
    pub(crate) fn load(name: &str, path: &Path, scale: f32) -> Result<Adapter, String> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        let script = match text.split_once('\n') {
            Some((first, rest)) if first.trim_end() == HEADER => Script::parse(rest)?,
            _ => Script::default(),
        };
        let seed = rng::mix(rng::hash_bytes(0, &bytes), u64::from(scale.to_bits()));
        Ok(Adapter { name: name.to_owned(), seed, script })
    }
}
