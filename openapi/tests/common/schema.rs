//! JSON Schema validators: for our own document and for OpenAI's.

#![allow(dead_code, reason = "each test file uses its part of this")]

use serde_json::{Value, json};

/// The published document.
pub(crate) fn document() -> Value {
    serde_json::from_str(&rkllama_openapi::document::<()>()).unwrap()
}

/// What is wrong with `value` as `name` of our document; empty when nothing.
pub(crate) fn faults_by_ours(name: &str, value: &Value) -> Vec<String> {
    let mut schemas = document()["components"]["schemas"].take();
    as_json_schema(&mut schemas);
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": format!("#/components/schemas/{name}"),
        "components": {"schemas": schemas},
    });
    faults(&schema, value)
}

/// What is wrong with `value` as `name` of OpenAI's schemas; empty when nothing.
pub(crate) fn faults_by_openai(name: &str, value: &Value) -> Vec<String> {
    let mut schema = openai();
    schema["$ref"] = format!("#/$defs/{name}").into();
    faults(&schema, value)
}

/// OpenAI's published schemas.
pub(crate) fn openai() -> Value {
    let text = include_str!("../../../tests/data/openai-schemas.json");
    let mut schemas: Value = serde_json::from_str(text).unwrap();
    // A keyword of an older draft, on a schema of file search; no validator of today's takes it.
    schemas["$defs"]["CompoundFilter"].as_object_mut().unwrap().remove("$recursiveAnchor");
    schemas
}

fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let validator = jsonschema::draft202012::new(schema).expect("a valid schema");
    validator
        .iter_errors(value)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect()
}

/// OpenAPI 3.0 says `nullable` and a boolean `exclusiveMinimum` where JSON Schema says otherwise.
fn as_json_schema(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(as_json_schema);
            if object.get("exclusiveMinimum") == Some(&Value::Bool(true)) {
                let minimum = object.remove("minimum").unwrap();
                object.insert("exclusiveMinimum".to_owned(), minimum);
            }
            // Strictly: without a `type` beside it, `nullable` says nothing.
            if object.remove("nullable") == Some(Value::Bool(true))
                && let Some(kind) = object.get_mut("type").filter(|kind| kind.is_string())
            {
                *kind = json!([kind, "null"]);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(as_json_schema),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
