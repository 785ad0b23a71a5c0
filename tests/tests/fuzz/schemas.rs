//! JSON Schemas of clients.

use proptest::prelude::*;
use rkllama_text::grammar::{Grammar, GrammarLimits};
use serde_json::Value;

use crate::corpus::{cases, files, mutated, spliced, values};

/// A schema is compiled, or refused in words.
fn schema_body(schema: &str) {
    if let Err(error) = Grammar::json_schema(schema, &GrammarLimits::default()) {
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn the_corpus_is_compiled() {
    for schema in values("schemas") {
        let grammar = Grammar::json_schema(&schema.to_string(), &GrammarLimits::default());
        assert!(grammar.is_ok(), "{schema}: {}", grammar.err().unwrap());
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn any_schema_is_compiled_or_refused(schema in mutated(values("schemas"))) {
        schema_body(&Value::to_string(&schema));
    }

    #[test]
    fn any_text_is_compiled_or_refused(text in spliced(files("schemas"))) {
        schema_body(&String::from_utf8_lossy(&text));
    }
}
