//! API keys: who is let in, who is not, and what the rest of the server learns of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use common::{ScriptedEngine, Step, hello, limits, shown, started, state, text};
use poem::{
    Endpoint, Response,
    http::StatusCode,
    test::{TestClient, TestResponse},
};
use rkllama_http::{ApiKey, KeyLimits, Keys};
use rkllama_openapi::State;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn chat() -> Value {
    json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]})
}

fn key(name: &str, limits: KeyLimits) -> ApiKey {
    ApiKey::new(name, &format!("secret of {name}"), limits)
}

fn keys() -> Keys {
    Keys::new(vec![key("ada", KeyLimits::default()), key("bob", KeyLimits::default())])
}

fn app(engine: Arc<ScriptedEngine>, keys: Keys) -> TestClient<impl Endpoint<Output = Response>> {
    TestClient::new(rkllama_openapi::app(State { keys, ..state(engine) }, limits()))
}

async fn ask<E: Endpoint>(client: &TestClient<E>, key: &str) -> TestResponse {
    client
        .post(CHAT)
        .header("authorization", format!("Bearer {key}"))
        .body_json(&chat())
        .send()
        .await
}

#[tokio::test]
async fn who_is_not_let_in() {
    let engine = ScriptedEngine::playing(hello());
    let client = app(Arc::clone(&engine), keys());
    let mut all = String::new();
    for (name, value) in [
        ("accept", "*/*"),
        ("authorization", "Bearer wrong-and-long-enough"),
        ("authorization", "Basic c2VjcmV0IG9mIGFkYQ=="),
        ("authorization", "Bearer "),
        ("x-api-key", "wrong"),
    ] {
        let response = client.post(CHAT).header(name, value).body_json(&chat()).send().await;
        all += &format!("{name}: {value}\n{}\n\n", shown(response).await);
    }
    assert!(engine.requests.lock().unwrap().is_empty(), "the engine was asked");
    insta::assert_snapshot!(all);
}

/// The key's name is who takes turns.
#[tokio::test]
async fn who_is_let_in() {
    let engine = ScriptedEngine::playing(hello());
    let client = app(Arc::clone(&engine), keys());
    ask(&client, "secret of bob").await.assert_status_is_ok();
    assert_eq!(&*engine.last_request().client, "bob");
    let by_header = client.post(CHAT).header("x-api-key", "secret of ada").body_json(&chat());
    by_header.send().await.assert_status_is_ok();
    assert_eq!(&*engine.last_request().client, "ada");
}

/// Without keys everybody is, whatever they send.
#[tokio::test]
async fn without_keys_any_key_does() {
    let engine = ScriptedEngine::playing(hello());
    let client = app(Arc::clone(&engine), Keys::default());
    ask(&client, "unused").await.assert_status_is_ok();
    client.post(CHAT).body_json(&chat()).send().await.assert_status_is_ok();
    assert!(!engine.last_request().client.is_empty());
}

#[tokio::test]
async fn what_needs_no_key() {
    let client = app(ScriptedEngine::playing(hello()), keys());
    for open in ["/health", "/docs/", "/docs/index.css", "/openapi.json", "/openapi.yaml"] {
        client.get(open).send().await.assert_status_is_ok();
    }
    for closed in ["/v1/models", "/v1/models/tiny", "/v1/models/a/b", "/v1/nothing", "/nothing"] {
        client.get(closed).send().await.assert_status(StatusCode::UNAUTHORIZED);
        let response = client.get(closed).header("x-api-key", "secret of ada").send().await;
        assert_ne!(response.0.status(), StatusCode::UNAUTHORIZED, "{closed}");
    }
}

/// Keys come and go while the server runs.
#[tokio::test]
async fn keys_are_revoked() {
    let keys = keys();
    let client = app(ScriptedEngine::playing(hello()), keys.clone());
    ask(&client, "secret of ada").await.assert_status_is_ok();
    keys.replace(vec![key("bob", KeyLimits::default()), key("eve", KeyLimits::default())]);
    ask(&client, "secret of ada").await.assert_status(StatusCode::UNAUTHORIZED);
    ask(&client, "secret of bob").await.assert_status_is_ok();
    ask(&client, "secret of eve").await.assert_status_is_ok();
}

#[tokio::test(start_paused = true)]
async fn too_many_in_a_minute() {
    let limits = KeyLimits { requests_per_minute: NonZeroU32::new(2), ..KeyLimits::default() };
    let keys = Keys::new(vec![key("ada", limits), key("bob", KeyLimits::default())]);
    let client = app(ScriptedEngine::playing(hello()), keys);
    ask(&client, "secret of ada").await.assert_status_is_ok();
    tokio::time::advance(Duration::from_secs(20)).await;
    ask(&client, "secret of ada").await.assert_status_is_ok();
    insta::assert_snapshot!(shown(ask(&client, "secret of ada").await).await);
    ask(&client, "secret of bob").await.assert_status_is_ok();
    tokio::time::advance(Duration::from_secs(40)).await;
    ask(&client, "secret of ada").await.assert_status_is_ok();
}

/// A streamed answer holds its place until its last byte, or until its client leaves.
#[tokio::test]
async fn too_many_at_once() {
    let limits = KeyLimits { concurrent_max: NonZeroU32::new(1), ..KeyLimits::default() };
    let keys = Keys::new(vec![key("ada", limits), key("bob", KeyLimits::default())]);
    let hanging = ScriptedEngine::playing(vec![started(vec![]), text("x"), Step::Hang]);
    let client = app(Arc::clone(&hanging), keys);
    let stream = |key: &str| {
        let mut request = chat();
        request["stream"] = true.into();
        client.post(CHAT).header("x-api-key", format!("secret of {key}")).body_json(&request)
    };
    let first = stream("ada").send().await;
    first.assert_status_is_ok();
    insta::assert_snapshot!(shown(stream("ada").send().await).await);
    stream("bob").send().await.assert_status_is_ok();
    drop(first);
    stream("ada").send().await.assert_status_is_ok();
}

#[tokio::test]
async fn a_finished_answer_gives_its_place_back_and_keeps_its_length() {
    let limits = KeyLimits { concurrent_max: NonZeroU32::new(1), ..KeyLimits::default() };
    let client = app(ScriptedEngine::playing(hello()), Keys::new(vec![key("ada", limits)]));
    let mut request = chat();
    for stream in [false, true, false] {
        request["stream"] = stream.into();
        let response =
            client.post(CHAT).header("x-api-key", "secret of ada").body_json(&request).send().await;
        response.assert_status_is_ok();
        response.0.into_body().into_bytes().await.unwrap();
    }
}
