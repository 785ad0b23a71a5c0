//! `POST /v1/embeddings`, without sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use common::{
    ListedModels, ScriptedEngine, limits, model,
    schema::{faults_by_openai, faults_by_ours},
    shown, state, state_with,
};
use poem::{
    http::StatusCode,
    test::{TestClient, TestResponse},
};
use rkllama_core::{EmbedError, EmbedInput, Embedding, EngineError, KeepAlive, PromptTokens};
use rkllama_openapi::{
    Fallbacks, State,
    wire::{EmbeddingList, EmbeddingRequest},
};
use serde_json::{Value, json};

const NONE: [String; 0] = [];

async fn post(state: State, request: &Value) -> TestResponse {
    let client = TestClient::new(rkllama_openapi::app(state, limits()));
    client.post("/v1/embeddings").body_json(request).send().await
}

fn engine(embeddings: Result<Vec<Embedding>, EmbedError>) -> Arc<ScriptedEngine> {
    Arc::new(ScriptedEngine { embeddings: Some(embeddings), ..ScriptedEngine::default() })
}

/// A vector of length 1 of three numbers, which are exact as f32 but for the last.
fn vector() -> Embedding {
    Embedding { vector: vec![0.5, -0.5, 0.707_106_77], tokens: 3 }
}

fn input(more: Value) -> Value {
    let mut request = json!({"model": "tiny", "input": "An NPU"});
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

async fn ask(more: Value) -> TestResponse {
    post(state(engine(Ok(vec![vector()]))), &input(more)).await
}

#[tokio::test]
async fn one_and_several() {
    let one = shown(ask(json!({})).await).await;
    let both = engine(Ok(vec![vector(), Embedding { vector: vec![1.0, 0.0, 0.0], tokens: 4 }]));
    let more = json!({"input": ["a", "b"], "encoding_format": "float", "user": "ann"});
    let both = shown(post(state(both), &input(more)).await).await;
    insta::assert_snapshot!(format!("{one}\n\n{both}"));
}

/// OpenAI's clients ask for base64 where their caller names no format.
#[tokio::test]
async fn base64_holds_the_numbers_bit_by_bit() {
    let answer = ask(json!({"encoding_format": "base64"})).await;
    let answer = answer.json().await.value().deserialize::<Value>();
    let bytes = BASE64_STANDARD.decode(answer["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let numbers: Vec<_> =
        bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(numbers, vector().vector);
}

#[tokio::test]
async fn fewer_dimensions_are_the_first_ones_at_length_one() {
    let half = 0.5_f64.sqrt();
    for (dimensions, expected) in [(1, vec![1.0]), (2, vec![half, -half])] {
        let answer = ask(json!({"dimensions": dimensions})).await;
        let answer = answer.json().await.value().deserialize::<Value>();
        let numbers: Vec<f64> =
            serde_json::from_value(answer["data"][0]["embedding"].clone()).unwrap();
        assert_eq!(numbers.len(), expected.len());
        let near = numbers.iter().zip(&expected).all(|(is, should)| (is - should).abs() < 1e-6);
        assert!(near, "{numbers:?} {expected:?}");
    }
    let zero = engine(Ok(vec![Embedding { vector: vec![0.0, 1.0], tokens: 1 }]));
    let answer = post(state(zero), &input(json!({"dimensions": 1}))).await;
    let answer = answer.json().await.value().deserialize::<Value>();
    assert_eq!(answer["data"][0]["embedding"], json!([0.0]), "not NaN");
}

#[tokio::test]
async fn what_the_engine_is_asked() {
    let tokens = |ids: &[i32]| EmbedInput::Tokens(ids.to_vec());
    let text = |text: &str| EmbedInput::Text(text.to_owned());
    for (wire, expected) in [
        (json!("a"), vec![text("a")]),
        (json!(["a", "b"]), vec![text("a"), text("b")]),
        (json!([1, 2]), vec![tokens(&[1, 2])]),
        (json!([[1, 2], [3]]), vec![tokens(&[1, 2]), tokens(&[3])]),
    ] {
        let engine = engine(Ok(vec![vector(); expected.len()]));
        let more = json!({"input": wire, "truncate": true, "keep_alive": "10s",
            "input_type": "query"});
        post(state(Arc::clone(&engine)), &input(more)).await.assert_status_is_ok();
        let request = engine.embed_requests.lock().unwrap().pop().unwrap();
        assert_eq!(request.inputs, expected);
        assert_eq!((request.model.id.as_str(), request.truncate), ("tiny", true));
        assert!(request.are_queries);
        assert_eq!(request.keep_alive, Some(KeepAlive::For(Duration::from_secs(10))));
    }
    let engine = engine(Ok(vec![vector()]));
    post(state(Arc::clone(&engine)), &input(json!({}))).await.assert_status_is_ok();
    let request = engine.embed_requests.lock().unwrap().pop().unwrap();
    assert!(!request.truncate && !request.are_queries);
}

#[tokio::test]
async fn refusals() {
    let mut shown_all = Vec::new();
    for more in [
        json!({"input": null}),
        json!({"input": 7}),
        json!({"input": []}),
        json!({"input": [[]]}),
        json!({"input": ["a", 1]}),
        json!({"input": [[1], [-1]]}),
        json!({"input": vec!["a"; 2049]}),
        json!({"encoding_format": "int8"}),
        json!({"input_type": "question"}),
        json!({"dimensions": 0}),
        json!({"dimensions": 4}),
        json!({"keep_alive": "soon"}),
        json!({"model": "nobody"}),
        json!({"model": "broken"}),
    ] {
        let words = more.to_string().chars().take(40).collect::<String>();
        shown_all.push(format!("{words}\n{}", shown(ask(more).await).await));
    }
    shown_all.push(shown(post(state(engine(Ok(vec![vector()]))), &json!({})).await).await);
    let exceeded = EngineError::ContextExceeded {
        prompt_tokens: PromptTokens::Exactly(5000),
        context_tokens_max: 4096,
        margin_tokens: 32,
    };
    let empty = EngineError::Prompt { reason: "the text is empty".to_owned() };
    let broken = EngineError::Run { reason: "the runtime gave no hidden layer".to_owned() };
    for (place, error) in [(1, exceeded.clone()), (0, empty), (1, broken)] {
        let failing = engine(Err(EmbedError { input: place, error }));
        let answer = post(state(failing), &input(json!({"input": ["a", "b"]}))).await;
        shown_all.push(shown(answer).await);
    }
    let alone = engine(Err(EmbedError { input: 0, error: exceeded }));
    shown_all.push(shown(post(state(alone), &input(json!({}))).await).await);
    insta::assert_snapshot!(shown_all.join("\n\n"));
}

/// Clients have the names of OpenAI's models baked in, and those of chats and of embeddings differ.
#[tokio::test]
async fn the_fallback_is_the_one_for_embeddings() {
    let models = || ListedModels::of([model("tiny"), model("other"), model("embedder")]);
    let of = |name: &str| ArcSwapOption::from_pointee(name.to_owned());
    let fallback =
        Arc::new(Fallbacks { chat: of("tiny"), embed: of("embedder"), ..Fallbacks::default() });
    for (asked, used) in [(json!("text-embedding-3-small"), "embedder"), (json!("tiny"), "tiny")] {
        let engine = engine(Ok(vec![vector()]));
        let fallback = Arc::clone(&fallback);
        let state = State { fallback, ..state_with(Arc::clone(&engine), models()) };
        let answer = post(state, &input(json!({"model": asked}))).await;
        let answer = answer.json().await.value().deserialize::<Value>();
        assert_eq!(answer["model"], asked);
        assert_eq!(engine.embed_requests.lock().unwrap().pop().unwrap().model.id, used);
    }
    let engine = engine(Ok(vec![vector()]));
    let chat_only = Arc::new(Fallbacks { chat: of("tiny"), ..Fallbacks::default() });
    let state = State { fallback: chat_only, ..state_with(engine, models()) };
    let answer = post(state, &input(json!({"model": "text-embedding-3-small"}))).await;
    answer.assert_status(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_answer_is_valid_by_both_documents() {
    let answer = ask(json!({})).await.json().await.value().deserialize::<Value>();
    assert_eq!(faults_by_ours("EmbeddingList", &answer), NONE);
    assert_eq!(faults_by_openai("CreateEmbeddingResponse", &answer), NONE);
    let answer = ask(json!({"encoding_format": "base64"})).await;
    let answer = answer.json().await.value().deserialize::<Value>();
    // A known defect of OpenAI's document: it knows no base64 in answers.
    assert_eq!(faults_by_ours("EmbeddingList", &answer), NONE);
}

#[test]
fn schema_and_reader_take_and_refuse_the_same_requests() {
    use poem_openapi::types::{Example, ToJSON};
    let example = EmbeddingRequest::example().to_json().unwrap();
    let written = serde_json::to_value(EmbeddingList::example()).unwrap();
    assert_eq!(EmbeddingList::example().to_json().unwrap(), written);
    let mut refused = 0;
    for request in [
        example,
        json!({}),
        input(json!({"input": null})),
        input(json!({"input": 7})),
        input(json!({"input": {"a": 1}})),
        input(json!({"input": ["a", 1]})),
        input(json!({"input": [1.5]})),
        input(json!({"input": [[1], [2]]})),
        input(json!({"encoding_format": null})),
        input(json!({"encoding_format": "base64"})),
        input(json!({"encoding_format": {"base64": null}})),
        input(json!({"dimensions": "1"})),
        input(json!({"dimensions": null, "keep_alive": null, "truncate": null, "user": null})),
        input(json!({"truncate": 1})),
    ] {
        let faults = faults_by_ours("EmbeddingRequest", &request);
        let read = serde_json::from_value::<EmbeddingRequest>(request.clone());
        assert_eq!(faults.is_empty(), read.is_ok(), "{request}: {faults:?} and {read:?}");
        refused += usize::from(read.is_err());
    }
    assert_eq!(refused, 9);
}
