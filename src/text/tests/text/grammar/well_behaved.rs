//! A model that writes valid JSON is left alone.

use proptest::prelude::*;
use rkllama_text::grammar::{Grammar, GrammarLimits};
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    driver::{Vocabulary, drive, drive_with},
    models::Writer,
    schemas,
};

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

#[rstest]
#[case("demo")]
#[case("qwen3")]
#[case("llama3_1")]
#[case("gemma3")]
fn valid_json_is_never_interrupted(#[case] name: &'static str) {
    let Some(vocabulary) = Vocabulary::named(name) else { return };
    let schema = schemas::person().to_string();
    let grammar = Grammar::json_schema(&schema, &GrammarLimits::default()).unwrap();
    let value = json!({
        "name": "Zoë \"Z\" O'Neill\n2", "age": 41, "tags": ["a", "b c", "漢字 🎉"], "email": null,
    });
    for text in [value.to_string(), pretty(&value)] {
        let mut model = Writer::new(&vocabulary, &text);
        let outcome = drive_with(&grammar, &vocabulary, &mut model, 200, false);
        assert_eq!((outcome.ended, outcome.restarts), (true, 0), "{outcome:?}");
        assert_eq!(outcome.text, text);
        assert_eq!(outcome.answer, vocabulary.ids(&text), "what it said is not said differently");

        let outcome = drive(&grammar, &vocabulary, &mut Writer::new(&vocabulary, &text), 200);
        assert_eq!((outcome.ended, outcome.restarts), (true, 0), "{outcome:?}");
        assert_eq!(serde_json::from_str::<Value>(&outcome.text).unwrap(), value);
    }
}

#[test]
fn values_of_random_schemas_are_never_interrupted() {
    let vocabulary = Vocabulary::demo();
    proptest!(ProptestConfig::with_cases(400), |(seed in any::<u64>(), odd in any::<bool>())| {
        let (schema, value) = schemas::random(seed);
        prop_assert!(schemas::is_valid(&schema, &value), "the generator is wrong: {}", schema);
        let grammar = Grammar::json_schema(&schema.to_string(), &GrammarLimits::default());
        let grammar = grammar.map_err(|err| TestCaseError::fail(format!("{err}: {schema}")))?;
        for text in [value.to_string(), pretty(&value)] {
            let mut model = match odd {
                true => Writer::odd(&vocabulary, &text, seed),
                false => Writer::new(&vocabulary, &text),
            };
            for with_opening in [true, false] {
                let outcome = drive_with(&grammar, &vocabulary, &mut model, 20_000, with_opening);
                prop_assert!(outcome.ended && outcome.restarts == 0, "{:?}: {}", outcome, schema);
                let same = serde_json::from_str::<Value>(&outcome.text).unwrap();
                prop_assert_eq!(same, value.clone());
            }
        }
    });
}
