//! Whatever a model says, what ends by itself is valid.

use proptest::prelude::*;
use rkllama_text::grammar::{Grammar, GrammarLimits, RunLimits};
use rstest::rstest;
use serde_json::Value;

use super::{
    driver::{Model, Said, Vocabulary, drive, drive_with},
    models::{Blind, Rng, Writer},
    schemas,
};

const PROSE: &str = "Sure! Here is the JSON you asked for:\n\n```json\n{\"name\": \"Bob\", \"age\": \
                     \"forty\",}\n```\n\nLet me know if you need \"anything\" else. ";

/// Models with nothing good in mind.
fn model<'a>(kind: usize, vocabulary: &'a Vocabulary, seed: u64) -> Box<dyn Model + 'a> {
    let mut rng = Rng(seed);
    let endless = |text: &str| {
        let mut ids = vocabulary.ids(text).into_iter().cycle();
        Box::new(Blind(move || Said::Token(ids.next().unwrap())))
    };
    match kind {
        0 => Box::new(Blind(move || Said::Token(*rng.pick(&vocabulary.ordinary)))),
        1 => endless(PROSE),
        2 => Box::new(Blind(|| Said::Eos)),
        3 => endless("\n"),
        4 => endless("    \t"),
        5 => endless("\"aaaa"),
        6 => endless("1"),
        7 => endless("[{\"a\":"),
        8 => endless("{\"na\": [null, 1.5], \"tag\": \"a\\u00e9\", "),
        9 => Box::new(Writer::new(vocabulary, &schemas::random(seed ^ 1).1.to_string())),
        // Mostly structure, some text, some ends, control tokens: the most likely to get far.
        _ => {
            let bits = ["{", "}", "[", "]", ",", ":", "\"", "\\", "0", "-", ".", "e", "true", " "];
            let mut ids: Vec<i32> = bits.iter().flat_map(|bit| vocabulary.ids(bit)).collect();
            ids.extend(&vocabulary.special);
            Box::new(Blind(move || match rng.below(12) {
                0 => Said::Eos,
                1 => Said::Token(*rng.pick(&vocabulary.ordinary)),
                _ => Said::Token(*rng.pick(&ids)),
            }))
        }
    }
}
const KINDS: usize = 11;

fn check(vocabulary: &Vocabulary, cases: u32) {
    let config = ProptestConfig::with_cases(cases);
    proptest!(config, |(seed in any::<u64>(), kind in 0..KINDS, opening in any::<bool>())| {
        let (schema, _) = schemas::random(seed);
        let grammar = Grammar::json_schema(&schema.to_string(), &GrammarLimits::default());
        let grammar = grammar.map_err(|err| TestCaseError::fail(format!("{err}: {schema}")))?;
        let mut model = model(kind, vocabulary, seed);
        let outcome = drive_with(&grammar, vocabulary, &mut *model, 300, opening);
        prop_assert!(outcome.restarts <= RunLimits::default().restarts_max);
        let value: Value = serde_json::from_str(&outcome.completed)
            .map_err(|err| TestCaseError::fail(format!("{err}: {outcome:?}\n{schema}")))?;
        prop_assert!(schemas::is_valid(&schema, &value), "{:?}\n{}", outcome, schema);
    });
}

#[test]
fn what_ends_is_valid() {
    check(&Vocabulary::demo(), 2000);
}

#[rstest]
#[case("qwen3")]
#[case("llama3_1")]
#[case("gemma3")]
fn what_ends_is_valid_in_real_tokens(#[case] name: &'static str) {
    if let Some(vocabulary) = Vocabulary::named(name) {
        check(&vocabulary, 150);
    }
}

#[test]
fn a_model_that_says_nothing_still_answers() {
    let vocabulary = Vocabulary::demo();
    let schema = schemas::person();
    let grammar = Grammar::json_schema(&schema.to_string(), &GrammarLimits::default()).unwrap();
    let outcome = drive(&grammar, &vocabulary, &mut Blind(|| Said::Eos), 10);
    assert!(outcome.ended);
    assert!(schemas::is_valid(&schema, &serde_json::from_str(&outcome.text).unwrap()));
}
