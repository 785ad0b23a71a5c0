//! Options: sampling and limits by Ollama's names, each checked for its type; unknown ones are
//! nobody's business.

use rkllama_core::{Format, KeepAlive, Sampling};
use rkllama_http::{ApiError, JsonObject, JsonValue};
use serde_json::{Map, Value};

use super::{failure::bad, wire};
use crate::checks::{Knobs, tokens_max};

/// What options say about an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) sampling: Sampling,
    pub(crate) tokens_max: Option<u32>,
    pub(crate) stop: Vec<String>,
}

const INTEGERS: [&str; 11] = [
    "num_keep",
    "seed",
    "num_predict",
    "top_k",
    "repeat_last_n",
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "draft_num_predict",
];
const DECIMALS: [&str; 7] = [
    "top_p",
    "min_p",
    "typical_p",
    "temperature",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
];
const SWITCHES: [&str; 1] = ["use_mmap"];

impl Options {
    /// Checks them all, and takes what there is a knob for. Values out of a knob's range are as near
    /// to it as they can be: no client expects a refusal.
    pub(crate) fn of(options: Option<&JsonObject>) -> Result<Self, ApiError> {
        let Some(options) = options else { return Ok(Self::default()) };
        let values: Map<String, Value> =
            serde_json::from_str(options.text()).map_err(|err| bad(err.to_string()))?;
        check_types(&values)?;
        let number = |name: &str| values.get(name).and_then(Value::as_f64);
        // A decimal loses what is behind its point.
        let integer = |name: &str| number(name).map(|value| value as i64);
        let knobs = Knobs {
            temperature: number("temperature"),
            top_p: number("top_p"),
            top_k: integer("top_k"),
            repeat_penalty: number("repeat_penalty"),
            frequency_penalty: number("frequency_penalty"),
            presence_penalty: number("presence_penalty"),
        };
        let tokens_max = integer("num_predict").map(tokens_max);
        let stop = values.get("stop").and_then(Value::as_array).into_iter().flatten();
        let stop = stop.filter_map(Value::as_str).filter(|text| !text.is_empty());
        Ok(Self { sampling: knobs.sampling(), tokens_max, stop: stop.map(str::to_owned).collect() })
    }
}

fn check_types(values: &Map<String, Value>) -> Result<(), ApiError> {
    for (name, value) in values.iter().filter(|(_, value)| !value.is_null()) {
        let name = name.as_str();
        let expected = match name {
            _ if INTEGERS.contains(&name) && !value.is_number() => "integer",
            _ if DECIMALS.contains(&name) && !value.is_number() => "float32",
            _ if SWITCHES.contains(&name) && !value.is_boolean() => "boolean",
            "stop" if !value.is_array() => "array",
            "stop" if value.as_array().is_some_and(|all| !all.iter().all(Value::is_string)) => {
                return Err(bad("option \"stop\" must be of an array of strings"));
            }
            _ => continue,
        };
        return Err(bad(format!("option \"{name}\" must be of type {expected}")));
    }
    Ok(())
}

/// The form that the answer is to have.
pub(crate) fn format(format: Option<&JsonValue>) -> Result<Option<Format>, ApiError> {
    let Some(text) = format.map(JsonValue::text) else { return Ok(None) };
    match text {
        "\"\"" | "null" => Ok(None),
        "\"json\"" => Ok(Some(Format::JsonObject)),
        schema if schema.starts_with('{') => Ok(Some(Format::JsonSchema(schema.to_owned()))),
        other => Err(bad(format!(
            "invalid format: {other:?}; expected \"json\" or a valid JSON Schema object"
        ))),
    }
}

/// How long the model stays, in Go's words where a text is no length of time.
pub(super) fn keep_alive(
    wire: Option<&wire::OllamaKeepAlive>,
) -> Result<Option<KeepAlive>, ApiError> {
    let read = match wire {
        None => return Ok(None),
        Some(wire::OllamaKeepAlive::Seconds(seconds)) => KeepAlive::from_seconds(*seconds),
        Some(wire::OllamaKeepAlive::Text(text)) => text.parse(),
    };
    read.map(Some).map_err(|error| match wire {
        Some(wire::OllamaKeepAlive::Text(text)) => bad(duration_error(text)),
        _ => bad(error.to_string()),
    })
}

/// What Go's library says about a text that is no length of time: numbers with a unit behind each.
fn duration_error(text: &str) -> String {
    const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    while rest.starts_with(is_number) {
        rest = rest.trim_start_matches(is_number);
        let unit = &rest[..rest.find(is_number).unwrap_or(rest.len())];
        if unit.is_empty() {
            return format!("time: missing unit in duration {text:?}");
        }
        if !UNITS.contains(&unit) {
            return format!("time: unknown unit {unit:?} in duration {text:?}");
        }
        rest = &rest[unit.len()..];
    }
    format!("time: invalid duration {text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: &str) -> Result<Options, String> {
        let object = serde_json::from_str::<JsonObject>(json).unwrap();
        Options::of(Some(&object)).map_err(|error| error.message)
    }

    #[test]
    fn what_has_a_knob_is_taken_and_the_rest_let_be() {
        let all = options(
            r#"{"temperature": 0.5, "top_k": 1.7, "top_p": 2, "num_predict": 8.0, "num_ctx": 8192.0,
                "stop": ["a", ""], "mirostat": "x", "foo": [1], "seed": null, "low_vram": true}"#,
        );
        let all = all.unwrap();
        assert_eq!(all.sampling.temperature, Some(0.5));
        assert_eq!(all.sampling.top_k, Some(1));
        assert_eq!(all.sampling.top_p, Some(1.0));
        assert_eq!((all.tokens_max, all.stop), (Some(8), vec!["a".to_owned()]));
        let off = options(r#"{"top_k": -1, "num_predict": -1, "temperature": 1e308}"#).unwrap();
        assert_eq!((off.sampling.top_k, off.tokens_max), (Some(u32::MAX), Some(u32::MAX)));
        assert_eq!(off.sampling.temperature, Some(2.0));
    }

    #[test]
    fn wrong_types_are_named() {
        for (json, words) in [
            (r#"{"temperature": "hot"}"#, r#"option "temperature" must be of type float32"#),
            (r#"{"num_ctx": "4096"}"#, r#"option "num_ctx" must be of type integer"#),
            (r#"{"use_mmap": 1}"#, r#"option "use_mmap" must be of type boolean"#),
            (r#"{"stop": "a"}"#, r#"option "stop" must be of type array"#),
            (r#"{"stop": ["a", 1]}"#, r#"option "stop" must be of an array of strings"#),
        ] {
            assert_eq!(options(json).unwrap_err(), words);
        }
    }

    #[test]
    fn lengths_of_time_are_refused_in_gos_words() {
        let of = |text: &str| {
            let wire = wire::OllamaKeepAlive::Text(text.to_owned());
            keep_alive(Some(&wire)).map_err(|error| error.message)
        };
        assert_eq!(of("-1").unwrap(), Some(KeepAlive::Forever));
        for (text, words) in [
            ("", "time: invalid duration \"\""),
            ("abc", "time: invalid duration \"abc\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("1h2d", "time: unknown unit \"d\" in duration \"1h2d\""),
            ("1h30", "time: missing unit in duration \"1h30\""),
            ("5m ", "time: unknown unit \"m \" in duration \"5m \""),
            ("--5m", "time: invalid duration \"--5m\""),
        ] {
            assert_eq!(of(text).unwrap_err(), words);
        }
    }
}
