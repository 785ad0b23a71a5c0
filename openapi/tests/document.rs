//! The published document: that it is committed, complete and in step with the code.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::collections::BTreeSet;

use common::{
    coverage_of,
    schema::{document, faults_by_ours, openai},
};
use serde_json::{Value, json};

#[test]
fn the_committed_document_is_the_one_the_code_makes() {
    let made = rkllama_openapi::document::<rkllama_compat::Operations>() + "\n";
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
    let yaml = rkllama_openapi::document_yaml::<()>();
    // YAML's reader is no dependency of ours; operation ids are enough to see that it is whole.
    for id in [
        "createChatCompletion",
        "createCompletion",
        "createResponse",
        "getResponse",
        "countResponseInputTokens",
        "countChatInputTokens",
        "deleteResponse",
        "cancelResponse",
        "listInputItems",
        "createEmbedding",
        "createGuiActorPoint",
        "listModels",
        "retrieveModel",
        "getHealth",
        "getReadiness",
        "getMetrics",
    ] {
        assert!(yaml.contains(&format!("operationId: {id}")), "{id}");
    }
}

/// Every field of the published schema has a row in the table, and every row a field.
#[test]
fn every_field_of_the_schema_has_a_class() {
    let document = document();
    let common =
        [("stream_options.", "StreamOptions"), ("structured_outputs.", "StructuredOutputs")];
    let chat = [
        ("", "ChatCompletionRequest"),
        ("messages[].", "ChatMessage"),
        ("messages[].content[].", "ContentPart"),
        ("messages[].content[].image_url.", "ImageUrl"),
    ];
    let completion = [("", "CompletionRequest")];
    let response = [
        ("", "CreateResponse"),
        ("stream_options.", "ResponseStreamOptions"),
        ("text.", "ResponseText"),
        ("reasoning.", "ResponseReasoning"),
        ("input[].content[].", "ResponseInputPart"),
    ];
    let embedding = [("", "EmbeddingRequest")];
    let gui_actor = [("", "GuiActorRequest")];
    for (operation, own) in [
        ("POST /v1/chat/completions", chat.as_slice()),
        ("POST /v1/completions", completion.as_slice()),
        ("POST /v1/responses", response.as_slice()),
        ("POST /v1/embeddings", embedding.as_slice()),
        ("POST /v1/gui_actor", gui_actor.as_slice()),
    ] {
        let mut published = BTreeSet::new();
        let answers = operation.ends_with("completions");
        let common = if answers { common.as_slice() } else { &[] };
        for (prefix, schema) in own.iter().chain(common) {
            let properties = &document["components"]["schemas"][schema]["properties"];
            published.extend(keys(properties).map(|name| format!("{prefix}{name}")));
        }
        let rows = coverage_of(operation);
        let listed: BTreeSet<_> = rows.iter().map(|(field, _)| field.clone()).collect();
        assert_eq!(listed, published);
        assert_eq!(listed.len(), rows.len(), "a field is listed twice");
    }
}

/// OpenAI may not know a field that we do not.
#[test]
fn every_field_of_openai_is_in_our_schema() {
    let chat =
        ["ModelResponseProperties", "CreateModelResponseProperties", "CreateChatCompletionRequest"];
    let response = [
        "ModelResponseProperties",
        "CreateModelResponseProperties",
        "ResponseProperties",
        "CreateResponse",
    ];
    for (ours, theirs, least) in [
        ("ChatCompletionRequest", chat.as_slice(), 30),
        ("CompletionRequest", ["CreateCompletionRequest"].as_slice(), 17),
        ("CreateResponse", response.as_slice(), 28),
        ("EmbeddingRequest", ["CreateEmbeddingRequest"].as_slice(), 4),
    ] {
        let openai = openai();
        let ours: BTreeSet<_> =
            keys(&document()["components"]["schemas"][ours]["properties"]).collect();
        let mut fields = BTreeSet::new();
        for part in theirs {
            let part = &openai["$defs"][part];
            fields.extend(keys(&part["properties"]));
            for branch in part["allOf"].as_array().into_iter().flatten() {
                fields.extend(keys(&branch["properties"]));
            }
        }
        assert!(fields.len() > least, "the schema was not understood: {fields:?}");
        assert_eq!(fields.difference(&ours).collect::<Vec<_>>(), Vec::<&String>::new());
    }
}

#[test]
fn answers_document_both_forms_and_every_failure() {
    let document = document();
    for (path, chunk) in [
        ("/v1/chat/completions", "ChatChunk"),
        ("/v1/completions", "CompletionChunk"),
        ("/v1/responses", "ResponseEvent"),
    ] {
        let responses = &document["paths"][path]["post"]["responses"];
        assert_eq!(
            keys(responses).collect::<Vec<_>>(),
            ["200", "400", "401", "404", "408", "413", "429", "500", "503"]
        );
        assert_eq!(
            keys(&responses["200"]["content"]).collect::<Vec<_>>(),
            ["application/json", "text/event-stream"]
        );
        // No generator knows a schema for events; the chunk's must be there all the same.
        let stream = &responses["200"]["content"]["text/event-stream"]["schema"];
        assert_eq!(stream["type"], "string");
        assert!(stream["description"].as_str().unwrap().contains(&format!("`{chunk}`")));
        assert!(document["components"]["schemas"][chunk].is_object());
    }
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}

/// What the guard lets through without a key needs none by the document, and the other way round.
#[test]
fn keys_are_documented() {
    let document = document();
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    for (path, operations) in document["paths"].as_object().unwrap() {
        for operation in operations.as_object().unwrap().values() {
            let needs_key = operation["security"] == json!([{"bearer": []}, {}]);
            let is_open = ["/health", "/ready"].contains(&path.as_str());
            assert_eq!(needs_key, !is_open, "{path}");
            assert_eq!(operation["responses"]["401"].is_object(), needs_key, "{path}");
            assert_eq!(operation["responses"]["429"].is_object(), needs_key, "{path}");
        }
    }
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

/// What Swagger UI fills its forms with, and shows of each answer.
#[test]
fn every_body_has_an_example() {
    let document = document();
    let mut bodies = 0;
    let mut check = |place: &str, media: &Value| {
        let name = media["schema"]["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        let example = &document["components"]["schemas"][name]["example"];
        assert!(example.is_object(), "{place}: {name} has no example");
        assert_eq!(faults_by_ours(name, example), [""; 0], "{name}");
        bodies += 1;
    };
    for (path, operations) in document["paths"].as_object().unwrap() {
        for operation in operations.as_object().unwrap().values() {
            if operation["requestBody"].is_object() {
                check(path, &operation["requestBody"]["content"]["application/json"]);
            }
            for response in operation["responses"].as_object().unwrap().values() {
                // The metrics are text.
                if path != "/metrics" || response["content"]["application/json"].is_object() {
                    check(path, &response["content"]["application/json"]);
                }
            }
        }
    }
    assert!(bodies > 20, "{bodies}");
}

fn keys(object: &Value) -> impl Iterator<Item = String> + use<> {
    let keys: Vec<_> = object.as_object().into_iter().flat_map(|o| o.keys().cloned()).collect();
    keys.into_iter()
}
