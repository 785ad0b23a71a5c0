//! `generation_config.json`: sampling as the model's makers recommend it.

use rkllama_core::Sampling;
use serde_json::{Map, Value};

use crate::settings::Knob;

/// The file's name.
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";

/// Parses the sampling parameters; the error names the key.
pub(crate) fn parse(bytes: &[u8]) -> Result<Sampling, String> {
    let object: Map<String, Value> = serde_json::from_slice(bytes)
        .map_err(|err| format!("{GENERATION_CONFIG}: not a JSON object: {err}"))?;
    let error = |key: &str, reason: &str| format!("{GENERATION_CONFIG}: key '{key}': {reason}");
    let mut sampling = Sampling::default();
    for (key, knob) in [
        ("temperature", Knob::Temperature),
        ("top_p", Knob::TopP),
        ("repetition_penalty", Knob::RepeatPenalty),
    ] {
        match object.get(key) {
            None | Some(Value::Null) => {}
            Some(value) => {
                let number = value.as_f64().ok_or_else(|| error(key, "expected a number"))?;
                #[expect(clippy::cast_possible_truncation, reason = "a parameter of a few digits")]
                knob.set(&mut sampling, number as f32).map_err(|reason| error(key, &reason))?;
            }
        }
    }
    match object.get("top_k") {
        // 0 turns the limit off there: nothing to say about it.
        None | Some(Value::Null) => {}
        Some(value) if value.as_i64() == Some(0) => {}
        Some(value) => {
            let top_k = value.as_u64().and_then(|top_k| u32::try_from(top_k).ok());
            sampling.top_k =
                Some(top_k.ok_or_else(|| error("top_k", "expected a whole number from 0"))?);
        }
    }
    if object.get("do_sample").and_then(Value::as_bool) == Some(false) {
        sampling.temperature = Some(0.0);
    }
    Ok(sampling)
}
