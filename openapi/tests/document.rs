//! The published document: that it is committed, complete and in step with the code.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::collections::BTreeSet;

use common::schema::{document, openai};
use serde_json::Value;

#[test]
fn the_committed_document_is_the_one_the_code_makes() {
    let made = rkllama_openapi::document() + "\n";
    assert_committed("openapi.json", include_str!("../openapi.json"), &made);
}

#[test]
fn the_committed_coverage_is_the_one_the_code_makes() {
    let made = rkllama_openapi::coverage();
    assert_committed("coverage.md", include_str!("../coverage.md"), &made);
}

/// Leaves what should be committed beside the temporary files and says so.
fn assert_committed(name: &str, committed: &str, made: &str) {
    if committed == made {
        return;
    }
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, made).unwrap();
    panic!("openapi/{name} is out of date: cp {} openapi/{name}", path.display());
}

#[test]
fn the_yaml_says_the_same() {
    let yaml = rkllama_openapi::document_yaml();
    // YAML's reader is no dependency of ours; operation ids are enough to see that it is whole.
    for id in ["createChatCompletion", "listModels", "retrieveModel", "getHealth"] {
        assert!(yaml.contains(&format!("operationId: {id}")), "{id}");
    }
}

/// Every field of the published schema has a row in the table, and every row a field.
#[test]
fn every_field_of_the_schema_has_a_class() {
    let document = document();
    let mut published = BTreeSet::new();
    let mut publish = |prefix: &str, schema: &str| {
        let properties = &document["components"]["schemas"][schema]["properties"];
        published.extend(keys(properties).map(|name| format!("{prefix}{name}")));
    };
    publish("", "ChatCompletionRequest");
    publish("stream_options.", "StreamOptions");
    publish("structured_outputs.", "StructuredOutputs");
    publish("messages[].", "ChatMessage");
    publish("messages[].content[].", "ContentPart");
    let listed: BTreeSet<_> = rows().into_iter().map(|(field, _)| field).collect();
    assert_eq!(listed, published);
}

/// OpenAI may not know a field that we do not.
#[test]
fn every_field_of_openai_is_in_our_schema() {
    let openai = openai();
    let ours: BTreeSet<_> =
        keys(&document()["components"]["schemas"]["ChatCompletionRequest"]["properties"]).collect();
    let mut theirs = BTreeSet::new();
    for part in
        ["ModelResponseProperties", "CreateModelResponseProperties", "CreateChatCompletionRequest"]
    {
        let part = &openai["$defs"][part];
        theirs.extend(keys(&part["properties"]));
        for branch in part["allOf"].as_array().into_iter().flatten() {
            theirs.extend(keys(&branch["properties"]));
        }
    }
    assert!(theirs.len() > 30, "the schema was not understood: {theirs:?}");
    assert_eq!(theirs.difference(&ours).collect::<Vec<_>>(), [""; 0].iter().collect::<Vec<_>>());
}

#[test]
fn a_chat_completion_documents_both_forms_and_every_failure() {
    let document = document();
    let operation = &document["paths"]["/v1/chat/completions"]["post"];
    let responses = &operation["responses"];
    assert_eq!(
        keys(responses).collect::<Vec<_>>(),
        ["200", "400", "404", "408", "413", "500", "503"]
    );
    assert_eq!(
        keys(&responses["200"]["content"]).collect::<Vec<_>>(),
        ["application/json", "text/event-stream"]
    );
    // No generator knows a schema for events; the chunk's must be there all the same.
    let stream = &responses["200"]["content"]["text/event-stream"]["schema"];
    assert_eq!(stream["type"], "string");
    assert!(stream["description"].as_str().unwrap().contains("`ChatChunk`"));
    assert!(document["components"]["schemas"]["ChatChunk"].is_object());
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_operation_has_an_id_a_tag_and_a_summary_and_every_field_a_description() {
    let document = document();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for key in ["operationId", "tags", "summary"] {
                assert!(!operation[key].is_null(), "{method} {path} has no {key}");
            }
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema["description"].is_string(), "{name} has no description");
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            let described = property["description"].is_string()
                || property["allOf"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|part| part["description"].is_string()));
            assert!(described, "{name}.{field} has no description");
            // OpenAPI 3.0: anywhere else it says nothing.
            let is_in_vain = property["nullable"] == true && !property["type"].is_string();
            assert!(!is_in_vain, "{name}.{field} is nullable without a type");
        }
    }
}

fn keys(object: &Value) -> impl Iterator<Item = String> + use<> {
    let keys: Vec<_> = object.as_object().into_iter().flat_map(|o| o.keys().cloned()).collect();
    keys.into_iter()
}

/// Fields and classes from the printed table.
fn rows() -> Vec<(String, String)> {
    rkllama_openapi::coverage()
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let field = cells.next()?.trim_end_matches('`').to_owned();
            Some((field, cells.next()?.to_owned()))
        })
        .collect()
}
