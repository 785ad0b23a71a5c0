//! `generation_config.json`: sampling as the model's makers recommend it.

use rkllama_core::Sampling;
use serde_json::{Map, Value};

use crate::settings::Knob;

/// The file's name.
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";

/// Parses the sampling parameters. Recommendations we cannot follow are skipped, each with a
/// warning that names the key: the file was written for other programs and may say what they
/// alone understand (`top_k = -1`).
pub(crate) fn parse(bytes: &[u8]) -> Result<(Sampling, Vec<String>), String> {
    let object: Map<String, Value> = serde_json::from_slice(bytes)
        .map_err(|err| format!("{GENERATION_CONFIG}: not a JSON object: {err}"))?;
    let mut warnings = Vec::new();
    let mut skipped = |key: &str, reason: &str| {
        warnings.push(format!("{GENERATION_CONFIG}: key '{key}' is skipped: {reason}"));
    };
    let mut sampling = Sampling::default();
    for (key, knob) in [
        ("temperature", Knob::Temperature),
        ("top_p", Knob::TopP),
        ("repetition_penalty", Knob::RepeatPenalty),
    ] {
        let Some(value) = object.get(key).filter(|value| !value.is_null()) else { continue };
        let Some(number) = value.as_f64() else {
            skipped(key, "expected a number");
            continue;
        };
        #[expect(clippy::cast_possible_truncation, reason = "a parameter of a few digits")]
        if let Err(reason) = knob.set(&mut sampling, number as f32) {
            skipped(key, &reason);
        }
    }
    match object.get("top_k") {
        // 0 turns the limit off there: nothing to say about it.
        None | Some(Value::Null) => {}
        Some(value) if value.as_i64() == Some(0) => {}
        Some(value) => {
            sampling.top_k = value.as_u64().and_then(|top_k| u32::try_from(top_k).ok());
            if sampling.top_k.is_none() {
                skipped("top_k", "expected a whole number from 0");
            }
        }
    }
    if object.get("do_sample").and_then(Value::as_bool) == Some(false) {
        sampling.temperature = Some(0.0);
    }
    Ok((sampling, warnings))
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
        assert_eq!(parse(text).unwrap(), (expected, Vec::new()));
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
        assert_eq!(parse(text.as_bytes()).unwrap(), (expected, Vec::new()));
    }

    #[rstest]
    #[case::json("json", "{")]
    #[case::list("list", "[]")]
    fn a_file_that_is_no_object_is_refused(#[case] name: &str, #[case] text: &str) {
        insta::assert_snapshot!(
            format!("generation_config_{name}"),
            parse(text.as_bytes()).unwrap_err()
        );
    }

    #[rstest]
    #[case::text("temperature", "{\"temperature\": \"0.6\", \"top_p\": 0.5}")]
    #[case::temperature("temperature", "{\"temperature\": 3, \"top_p\": 0.5}")]
    #[case::range("repetition_penalty", "{\"repetition_penalty\": -1, \"top_p\": 0.5}")]
    #[case::top_k("top_k", "{\"top_k\": -1, \"top_p\": 0.5}")]
    fn what_we_cannot_follow_is_skipped_and_named(#[case] key: &str, #[case] text: &str) {
        let (sampling, warnings) = parse(text.as_bytes()).unwrap();
        assert_eq!(sampling, Sampling { top_p: Some(0.5), ..Sampling::default() });
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(&format!("key '{key}'")), "{warnings:?}");
    }
}
