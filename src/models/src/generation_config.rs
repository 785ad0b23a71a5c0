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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn recommendations_are_read_and_the_rest_is_not() {
        let text = br#"{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.05,
            "do_sample": true, "eos_token_id": [1, 2], "transformers_version": "4.51.0"}"#;
        let expected = Sampling {
            temperature: Some(0.6),
            top_p: Some(0.95),
            top_k: Some(20),
            repeat_penalty: Some(1.05),
            ..Sampling::default()
        };
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[rstest]
    #[case::greedy("{\"do_sample\": false, \"temperature\": 0.6}", Some(0.0), None)]
    #[case::unsaid("{}", None, None)]
    #[case::null("{\"temperature\": null, \"top_k\": null}", None, None)]
    #[case::top_k_off("{\"top_k\": 0}", None, None)]
    fn special_values(
        #[case] text: &str,
        #[case] temperature: Option<f32>,
        #[case] top_k: Option<u32>,
    ) {
        let expected = Sampling { temperature, top_k, ..Sampling::default() };
        assert_eq!(parse(text.as_bytes()).unwrap(), expected);
    }

    #[rstest]
    #[case::json("json", "{")]
    #[case::list("list", "[]")]
    #[case::text("text", "{\"temperature\": \"0.6\"}")]
    #[case::range("range", "{\"top_p\": 2}")]
    #[case::top_k("top_k", "{\"top_k\": -1}")]
    fn a_bad_value_is_named_with_its_key(#[case] name: &str, #[case] text: &str) {
        insta::assert_snapshot!(
            format!("generation_config_{name}"),
            parse(text.as_bytes()).unwrap_err()
        );
    }
}
