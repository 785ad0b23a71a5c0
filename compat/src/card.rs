//! What is told of a model that its file does not say in so many words.
//!
//! A `.rkllm` file names neither architecture nor size. Both stand in the names that people give
//! such files, and the architecture in `config.json` where it came along. What neither says is left
//! out or called unknown, never made up.

use std::{sync::LazyLock, time::Duration};

use jiff::Timestamp;
use regex::Regex;
use rkllama_core::Model;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Where nobody says it.
const UNKNOWN: &str = "unknown";

/// Families by what the names of their models contain; those that others contain come first.
const FAMILIES: &[(&str, &str)] = &[
    ("deepseek-ocr", "deepseekocr"),
    ("internvl3", "internvl"),
    ("minicpm-v", "minicpmv"),
    ("smolvlm", "smolvlm"),
    ("qwen2.5-vl", "qwen25vl"),
    ("qwen2-vl", "qwen2vl"),
    ("qwen3-vl", "qwen3vl"),
    ("qwen3", "qwen3"),
    ("qwen2", "qwen2"),
    ("qwen", "qwen2"),
    ("tinyllama", "llama"),
    ("llama", "llama"),
    ("gemma-3n", "gemma3n"),
    ("gemma4", "gemma4"),
    ("gemma-4", "gemma4"),
    ("gemma3", "gemma3"),
    ("gemma-3", "gemma3"),
    ("gemma2", "gemma2"),
    ("gemma-2", "gemma2"),
    ("gemma", "gemma"),
    ("chatglm", "chatglm"),
    ("glm", "glm4"),
    ("minicpm", "minicpm"),
    ("internlm2", "internlm2"),
    ("phi", "phi3"),
    ("mistral", "mistral"),
    ("exaone", "exaone"),
    ("bge", "bert"),
    ("bert", "bert"),
];

/// A model's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Card {
    /// The architecture, such as `qwen3`.
    pub(crate) family: String,
    /// Parameters, where the name says how many.
    pub(crate) parameter_count: Option<u64>,
    /// How the weights are stored, such as `W8A8`.
    pub(crate) quantization: String,
}

impl Card {
    /// From the names of the model and its file alone.
    pub(crate) fn of(model: &Model) -> Self {
        let file = model.weights.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let names = format!("{} {file}", model.id).to_lowercase();
        let family = FAMILIES.iter().find(|(mark, _)| names.contains(mark));
        Self {
            family: family.map_or(UNKNOWN, |(_, family)| *family).to_owned(),
            parameter_count: parameter_count(&names),
            quantization: quantization(&names),
        }
    }

    /// The same where the model's own `config.json` knows better.
    pub(crate) fn with_config(model: &Model, config: Option<&Config>) -> Self {
        let mut card = Self::of(model);
        if let Some(architecture) = config.and_then(|config| config.text("model_type")) {
            card.family = architecture;
        }
        card
    }

    /// The number of parameters for people: `1.2B`, `7B`, `270.00M`.
    pub(crate) fn parameter_size(&self) -> String {
        let Some(count) = self.parameter_count else { return UNKNOWN.to_owned() };
        let whole = count as f64;
        match count {
            1_000_000_000.. if count % 1_000_000_000 == 0 => format!("{}B", count / 1_000_000_000),
            1_000_000_000.. => format!("{:.1}B", whole / 1e9),
            1_000_000.. => format!("{:.2}M", whole / 1e6),
            1_000.. => format!("{:.0}K", whole / 1e3),
            _ => count.to_string(),
        }
    }
}

fn parameter_count(names: &str) -> Option<u64> {
    static SIZE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?:^|[^a-z0-9.])(\d{1,4}(?:\.\d{1,3})?)(b|m)(?:[^a-z0-9]|$)").ok()
    });
    let found = SIZE.as_ref()?.captures(names)?;
    let number: f64 = found.get(1)?.as_str().parse().ok()?;
    let unit = if found.get(2)?.as_str() == "b" { 1e9 } else { 1e6 };
    // At most 9999.999 times 1e9: far inside of u64.
    Some((number * unit).round() as u64)
}

fn quantization(names: &str) -> String {
    static FORM: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"w(?:4|8|16)a(?:8|16)(?:_g\d+)?").ok());
    let found = FORM.as_ref().and_then(|form| form.find(names));
    found.map_or_else(|| UNKNOWN.to_owned(), |form| form.as_str().to_uppercase())
}

/// A model's `config.json`.
#[derive(Debug, Clone)]
pub(crate) struct Config(Map<String, Value>);

impl Config {
    /// Reads it; what is no JSON object says nothing.
    pub(crate) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }

    fn text(&self, key: &str) -> Option<String> {
        self.0.get(key).and_then(Value::as_str).map(str::to_owned)
    }

    /// A size. Models that see have theirs in the part about text.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        let of_text = self.0.get("text_config").and_then(|text| text.get(key));
        self.0.get(key).or(of_text).and_then(Value::as_u64)
    }
}

/// A number of 64 hexadecimal digits for this model as it is: another model has another, and the
/// same model too once its file is another. Not the file's hash, which would take minutes.
pub(crate) fn digest(model: &Model) -> String {
    let mut hash = Sha256::new();
    let file = model.weights.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
    for part in [model.id.as_bytes(), file] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(model.weights_bytes.to_le_bytes());
    hash.update(model.created_s.to_le_bytes());
    if let Some(adapter) = &model.adapter {
        hash.update(adapter.file.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update(adapter.bytes.to_le_bytes());
        hash.update(adapter.created_s.to_le_bytes());
        hash.update(adapter.scale.to_le_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A moment in RFC 3339 with nine digits of a second: some clients take no other form.
pub(crate) fn moment(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// The moment that lies so many seconds behind the beginning of 1970.
pub(crate) fn moment_of_s(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok());
    moment(at.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The moment that lies `behind` now, or the last there is.
pub(crate) fn moment_in(behind: Duration) -> String {
    let at = i64::try_from(behind.as_nanos()).ok().map(jiff::SignedDuration::from_nanos);
    let at = at.and_then(|behind| Timestamp::now().checked_add(behind).ok());
    moment(at.unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rkllama_core::{ModelState, Sampling};

    use super::*;

    fn model(id: &str, file: &str) -> Model {
        Model {
            vision: None,
            adapter: None,
            id: id.to_owned(),
            created_s: 1_795_224_099,
            weights: PathBuf::from("/models").join(id).join(file),
            weights_bytes: 7,
            memory_bytes: None,
            context_tokens_max: 4096,
            sampling: Sampling::default(),
            tokens_max: None,
            runtime: None,
            pooling: None,
            reranks: None,
            query_instruction: None,
            presets: rkllama_core::Presets::default(),
            state: ModelState::Ready,
        }
    }

    #[test]
    fn names_tell_what_they_tell() {
        for (id, file, family, size, quantization) in [
            ("Qwen3-0.6B-rk3588-w8a8", "x.rkllm", "qwen3", "600.00M", "W8A8"),
            ("qwen2.5:3b", "Qwen2.5-3B-Instruct_W4A16_g128.rkllm", "qwen2", "3B", "W4A16_G128"),
            ("gemma-3-270m-it", "m.rkllm", "gemma3", "270.00M", "unknown"),
            ("DeepSeek-R1-Distill-Qwen-1.5B", "m.rkllm", "qwen2", "1.5B", "unknown"),
            ("demo", "model.rkllm", "unknown", "unknown", "unknown"),
            // A number of a release is no size.
            ("qwen2b5", "rk3588b.rkllm", "qwen2", "unknown", "unknown"),
        ] {
            let card = Card::of(&model(id, file));
            assert_eq!(
                (&*card.family, &*card.parameter_size(), &*card.quantization),
                (family, size, quantization),
                "{id}"
            );
        }
    }

    #[test]
    fn digests_are_of_one_model_as_it_is() {
        let one = model("a", "x.rkllm");
        assert_eq!(digest(&one).len(), 64);
        assert_eq!(digest(&one), digest(&one.clone()));
        for other in [
            model("b", "x.rkllm"),
            model("a", "y.rkllm"),
            Model { weights_bytes: 8, ..one.clone() },
            Model { created_s: 1, ..one.clone() },
        ] {
            assert_ne!(digest(&one), digest(&other));
        }
    }

    #[test]
    fn moments_have_nine_digits() {
        assert_eq!(moment_of_s(1_795_224_099), "2026-11-21T01:21:39.000000000Z");
        assert_eq!(moment_in(Duration::MAX).len(), "2026-11-21T01:21:39.000000000Z".len());
    }
}
