//! Ollama's parameters, and what their values may be.

use serde_json::{Number, Value};

use crate::modelfile;

/// Texts that end an answer: the one parameter that may stand several times.
pub(super) const STOP: &str = "stop";

/// What a parameter's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Int,
    Bool,
    Texts,
    /// Known, and without effect.
    Deprecated,
}

const KNOWN: [(&str, Kind); 29] = [
    ("num_keep", Kind::Int),
    ("seed", Kind::Int),
    ("num_predict", Kind::Int),
    ("top_k", Kind::Int),
    ("top_p", Kind::Float),
    ("min_p", Kind::Float),
    ("typical_p", Kind::Float),
    ("repeat_last_n", Kind::Int),
    ("temperature", Kind::Float),
    ("repeat_penalty", Kind::Float),
    ("presence_penalty", Kind::Float),
    ("frequency_penalty", Kind::Float),
    (STOP, Kind::Texts),
    ("num_ctx", Kind::Int),
    ("num_batch", Kind::Int),
    ("num_gpu", Kind::Int),
    ("main_gpu", Kind::Int),
    ("use_mmap", Kind::Bool),
    ("num_thread", Kind::Int),
    ("draft_num_predict", Kind::Int),
    ("penalize_newline", Kind::Deprecated),
    ("low_vram", Kind::Deprecated),
    ("f16_kv", Kind::Deprecated),
    ("logits_all", Kind::Deprecated),
    ("vocab_only", Kind::Deprecated),
    ("use_mlock", Kind::Deprecated),
    ("mirostat", Kind::Deprecated),
    ("mirostat_tau", Kind::Deprecated),
    ("mirostat_eta", Kind::Deprecated),
];

/// The keys of `KEY=VALUE` lines that are parameters, and Ollama's names for them.
pub(super) const KEYS: [(&str, &str); 9] = [
    ("NUM_CTX", "num_ctx"),
    ("MAX_NEW_TOKENS", "num_predict"),
    ("NUM_PREDICT", "num_predict"),
    ("TOP_K", "top_k"),
    ("TEMPERATURE", "temperature"),
    ("TOP_P", "top_p"),
    ("REPEAT_PENALTY", "repeat_penalty"),
    ("FREQUENCY_PENALTY", "frequency_penalty"),
    ("PRESENCE_PENALTY", "presence_penalty"),
];

/// Ollama's name of a key, and what its value is.
pub(super) fn of_key(key: &str) -> Option<(&'static str, Kind)> {
    let (_, name) = KEYS.into_iter().find(|(known, _)| *known == key)?;
    KNOWN.into_iter().find(|(known, _)| *known == name)
}

impl Kind {
    /// The parameter of this name, in Ollama's words where there is none.
    pub(super) fn find(name: &str) -> Result<Self, String> {
        let known = KNOWN.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, option)| option).ok_or_else(|| format!("unknown parameter '{name}'"))
    }

    /// A value of Ollama's dialect, with its words for what is wrong.
    pub(super) fn read(self, text: &str) -> Result<Value, String> {
        let wrong = |kind: &str| format!("invalid {kind} value [{text}]");
        match self {
            Self::Float => float(text).ok_or_else(|| wrong("float")),
            Self::Int => text.parse::<i64>().map(Value::from).map_err(|_| wrong("int")),
            Self::Bool => match text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
                _ => Err(wrong("bool")),
            },
            Self::Texts => Ok(Value::from(vec![text])),
            Self::Deprecated => Ok(Value::Null),
        }
    }

    /// A value of the other dialect, with that one's words.
    pub(super) fn read_plainly(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Float => {
                modelfile::number(text)?;
                float(text).ok_or_else(|| format!("{text:?} is not a number"))
            }
            // Negative is no limit, as there.
            Self::Int if text.starts_with('-') => text
                .parse::<i64>()
                .map(Value::from)
                .map_err(|_| format!("{text:?} is not a number")),
            Self::Int => modelfile::count(text).map(Value::from),
            Self::Bool | Self::Texts | Self::Deprecated => self.read(text),
        }
    }
}

fn float(text: &str) -> Option<Value> {
    Number::from_f64(text.parse().ok()?).map(Value::Number)
}
