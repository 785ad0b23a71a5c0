//! Making, fetching and removing models: `/api/pull`, `/api/push`, `/api/create`, `/api/copy`,
//! `/api/delete`, `/api/blobs`.

use std::sync::Arc;

use poem::{http::Method, test::TestClient};
use rkllama_core::{Finish, Message, Presets, Prompt, Role};
use serde_json::json;

use crate::common::{
    ScriptedEngine, client_of_store, client_with_model, finished, shown,
    store::{KNOWN, PlayedStore},
};

async fn told<E: poem::Endpoint>(
    client: &TestClient<E>,
    method: Method,
    path: &str,
    body: &str,
) -> String {
    let answer = client.request(method.clone(), path).body(body.to_owned()).send().await;
    format!("{method} {path} {body}\n{}", shown(answer).await)
}

fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

#[tokio::test]
async fn pulling() {
    let store = Arc::new(PlayedStore::default());
    let client = client_of_store(Arc::default(), &store);
    let mut all = Vec::new();
    for body in [
        r#"{"model": "org/repo"}"#,
        r#"{"name": "org/repo", "stream": false, "insecure": true}"#,
        r#"{"model": "org/repo", "as": "mine", "tokenizer": "org/base", "stream": false}"#,
        "{}",
        r#"{"model": " "}"#,
        r#"{"model": "bad name"}"#,
        r#"{"model": 7}"#,
    ] {
        all.push(told(&client, Method::POST, "/api/pull", body).await);
    }
    for name in ["absent", "gated", "hub", "space", "disk", "refused", "choice"] {
        let body = json!({"model": format!("org/{name}")}).to_string();
        all.push(told(&client, Method::POST, "/api/pull", &body).await);
        let body = json!({"model": format!("org/{name}"), "stream": false}).to_string();
        all.push(told(&client, Method::POST, "/api/pull", &body).await);
    }
    all.push(store.told()[..3].join("\n"));
    insta::assert_snapshot!(all.join("\n\n"));
}

#[tokio::test]
async fn pushing_is_refused_in_the_form_it_was_asked_for() {
    let client = client_of_store(Arc::default(), &Arc::default());
    let mut all = Vec::new();
    for body in [
        r#"{"model": "able"}"#,
        r#"{"model": "able", "stream": false}"#,
        r#"{"model": "nope"}"#,
        "{}",
    ] {
        all.push(told(&client, Method::POST, "/api/push", body).await);
    }
    insta::assert_snapshot!(all.join("\n\n"));
}

#[tokio::test]
async fn creating() {
    let store = Arc::new(PlayedStore::default());
    let client = client_of_store(Arc::default(), &store);
    let mut all = Vec::new();
    for body in [
        json!({
            "model": "mario", "from": "able:latest", "system": "You are Mario.",
            "license": ["MIT", ""], "parameters": {"temperature": 0.5, "stop": ["a"], "mirostat": 1},
            "messages": [{"role": "USER", "content": "Hi"}], "template": "{{ .Prompt }}",
        }),
        json!({"name": "user/m:1", "files": {"model.rkllm": digest('1')}, "stream": false}),
        json!({"model": "far", "from": "hf.co/org/repo/model.rkllm", "license": "MIT", "model_type": "embed", "stream": false}),
        json!({"model": "m"}),
        json!({"model": "m", "files": {}}),
        json!({"model": "a b", "from": "able"}),
        json!({"from": "able"}),
        json!({"model": "../m", "from": "able"}),
        json!({"model": "m", "from": "a b"}),
        json!({"model": "m", "from": "twin"}),
        json!({"model": "m", "files": {"model.rkllm": "sha256:12"}}),
        json!({"model": "m", "files": ["model.rkllm"]}),
        json!({"model": "m", "from": "able", "template": "{{ .x"}),
        json!({"model": "m", "from": "able", "template": "{{ printf .Prompt }}"}),
        json!({"model": "m", "from": "able", "template": "{% bad %}"}),
        json!({"model": "m", "from": "able", "parameters": {"temperature": "hot"}}),
        json!({"model": "m", "from": "able", "parameters": [1]}),
        json!({"model": "m", "from": "able", "messages": [{"role": "boss", "content": "x"}]}),
        json!({"model": "m", "from": "able", "license": 7}),
        json!({"model": "m", "from": "able", "adapters": {"lora.rkllm": digest('1')}, "stream": false}),
        json!({"model": "m", "from": "able", "adapters": {"lora.rkllm": "sha256:12"}}),
        json!({"model": "m", "from": "able", "adapters": {"a": digest('1'), "b": digest('2')}}),
        json!({"model": "m", "from": "able", "quantize": "q4_K_M"}),
        json!({"model": "blob", "from": "able"}),
    ] {
        all.push(told(&client, Method::POST, "/api/create", &body.to_string()).await);
    }
    all.extend(store.told());
    insta::assert_snapshot!(all.join("\n\n"));
}

#[tokio::test]
async fn copying_and_removing() {
    let store = Arc::new(PlayedStore::default());
    let engine = Arc::new(ScriptedEngine::default());
    let client = client_of_store(Arc::clone(&engine), &store);
    let mut all = Vec::new();
    for body in [
        r#"{"source": "ABLE", "destination": "user/copy:latest"}"#,
        r#"{"source": "nope", "destination": "x"}"#,
        r#"{"source": "a b", "destination": "x"}"#,
        r#"{"source": "able", "destination": "a/b/c/d"}"#,
        "{}",
        r#"{"source": "able"}"#,
        r#"{"source": "able", "destination": "mismatch"}"#,
    ] {
        all.push(told(&client, Method::POST, "/api/copy", body).await);
    }
    for body in [
        r#"{"model": "plain:latest"}"#,
        r#"{"name": "able"}"#,
        r#"{"model": "nope"}"#,
        r#"{"model": "a b"}"#,
        r#"{"model": "../able"}"#,
        "{}",
        "",
    ] {
        all.push(told(&client, Method::DELETE, "/api/delete", body).await);
    }
    all.push(store.told().join("\n"));
    all.push(engine.moves().join("\n"));
    insta::assert_snapshot!(all.join("\n\n"));
}

#[tokio::test]
async fn files() {
    let client = client_of_store(Arc::default(), &Arc::default());
    let known = KNOWN.to_string();
    let mut all = Vec::new();
    for (method, digest, body) in [
        (Method::HEAD, known.clone(), ""),
        (Method::HEAD, known.replace(':', "-"), ""),
        (Method::HEAD, digest('0'), ""),
        (Method::HEAD, "sha256:12".to_owned(), ""),
        (Method::HEAD, "..%2f..%2fetc".to_owned(), ""),
        (Method::POST, digest('0'), "weights"),
        (Method::POST, known, "weights"),
        (Method::POST, digest('0'), ""),
        (Method::POST, "md5:12".to_owned(), "weights"),
        (Method::GET, digest('0'), ""),
    ] {
        all.push(told(&client, method, &format!("/api/blobs/{digest}"), body).await);
    }
    insta::assert_snapshot!(all.join("\n\n"));
}

fn made(presets: &mut Presets) {
    *presets = Presets {
        system: Some("You are Mario.".to_owned()),
        messages: vec![Message::new(Role::User, "Hi"), Message::new(Role::Assistant, "It's-a me!")],
        stop: vec!["<|im_end|>".to_owned(), "\"x\"".to_owned()],
        licenses: vec!["MIT".to_owned(), "And\nmore".to_owned()],
        parent: Some("plain".to_owned()),
        parameters: vec![("mirostat".to_owned(), "1".to_owned())],
        ..Presets::default()
    };
}

#[tokio::test]
async fn a_made_model_is_shown_with_all_that_was_said_of_it() {
    let client = client_with_model(Arc::default(), |model| made(&mut model.presets));
    let shown = client.post("/api/show").body(r#"{"model": "made"}"#).send().await;
    insta::assert_snapshot!(crate::common::shown(shown).await);
}

/// A template in Go's language writes the prompt, with the model's own instructions and turns in it.
#[tokio::test]
async fn a_template_in_gos_language_writes_the_prompt() {
    let by_turn = "{{ if .System }}[{{ .System }}]{{ end }}<{{ .Prompt }}>{{ .Response }};";
    let asked = |path: &'static str, body: serde_json::Value, presets: fn(&mut Presets)| async move {
        let engine = ScriptedEngine::playing(vec![finished(Finish::Stop)]);
        let client = client_with_model(Arc::clone(&engine), |model| {
            model.presets.go_template = Some(by_turn.to_owned());
            presets(&mut model.presets);
        });
        let answer = client.post(path).body(body.to_string()).send().await;
        answer.assert_status_is_ok();
        match engine.last_request().prompt {
            Prompt::Text(text) => text,
            other => format!("{other:?}"),
        }
    };
    let question = json!({"model": "made", "stream": false, "think": false,
        "messages": [{"role": "user", "content": "Q"}]});
    let with_system = json!({"model": "made", "stream": false, "think": false,
        "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]});
    let prompt = json!({"model": "made", "stream": false, "think": false, "prompt": "Q"});
    let bare = |_: &mut Presets| {};
    let mut all = vec![
        asked("/api/chat", question.clone(), bare).await,
        asked("/api/chat", question, |presets| {
            let go_template = presets.go_template.take();
            made(presets);
            presets.go_template = go_template;
        })
        .await,
        asked("/api/chat", with_system, bare).await,
        asked("/api/generate", prompt.clone(), bare).await,
    ];
    all.push(
        asked("/api/generate", prompt, |presets| presets.system = Some("Own".to_owned())).await,
    );
    assert_eq!(all, ["<Q>", "[You are Mario.]<Hi>It's-a me!;<Q>", "[S]<Q>", "<Q>", "[Own]<Q>"]);
}
