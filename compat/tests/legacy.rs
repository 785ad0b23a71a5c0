//! The old RKLLama's routes, without sockets.

mod common;

use std::{sync::Arc, time::Duration};

use common::{World, app, ask, errors, finished, hello, resident, shown, started, text};
use poem::{Endpoint, Response, http::Method, test::TestClient};
use rkllama_core::{EngineError, Finish, LoadState};

async fn told<E: Endpoint<Output = Response>>(
    client: &TestClient<E>,
    method: Method,
    path: &str,
    body: &str,
) -> String {
    let answer = client.request(method.clone(), path).body(body.to_owned()).send().await;
    format!("{method} {path} {body}\n{}", shown(answer).await)
}

#[tokio::test]
async fn the_way_of_a_model() {
    let world = Arc::new(World::playing(hello()));
    let client = app(&world);
    let mut all = Vec::new();
    for (method, path, body) in [
        (Method::GET, "/models", ""),
        (Method::GET, "/current_model", ""),
        (Method::POST, "/generate", r#"{"messages": "Hi"}"#),
        (Method::POST, "/unload_model", ""),
        (Method::POST, "/load_model", "{}"),
        (Method::POST, "/load_model", r#"{"model_name": "nope"}"#),
        (Method::POST, "/load_model", r#"{"model_name": "twin"}"#),
        (Method::POST, "/load_model", r#"{"model_name": 7}"#),
        (Method::POST, "/load_model", r#"{"model_name": "tiny"}"#),
        (Method::POST, "/load_model", r#"{"model_name": "bert"}"#),
        (Method::GET, "/current_model", ""),
        (Method::POST, "/generate", r#"{"messages": "Hi"}"#),
        (
            Method::POST,
            "/generate",
            r#"{"messages": [{"role": "user", "content": "Hi"}], "stream": true}"#,
        ),
        (Method::POST, "/generate", "{}"),
        (Method::POST, "/generate", r#"{"messages": [{"role": "king"}]}"#),
        (Method::POST, "/generate", r#"{"messages": "a", "options": {"top_k": "x"}}"#),
        (Method::POST, "/unload_model", ""),
        (Method::POST, "/unload_models", ""),
        (Method::GET, "/load_model", ""),
    ] {
        all.push(told(&client, method, path, body).await);
    }
    all.push(format!("{:#?}", world.moved.lock().unwrap()));
    assert_shown!(all.join("\n\n"));
}

#[tokio::test]
async fn a_form_is_parsed() {
    let script = vec![started(), text("{\"a\":"), text("1}"), finished(Finish::Stop)];
    let client = app(&Arc::new(World::playing(script)));
    told(&client, Method::POST, "/load_model", r#"{"model_name": "tiny"}"#).await;
    let body = r#"{"messages": "Hi", "format": "json"}"#;
    assert_shown!(told(&client, Method::POST, "/generate", body).await);
}

/// A load that failed leaves no current model behind.
#[tokio::test]
async fn a_model_that_cannot_be_loaded() {
    let load = Some(Err(EngineError::Load { model: "tiny".into(), reason: "a reason".into() }));
    let client = app(&Arc::new(World { load, ..World::playing(Vec::new()) }));
    let mut all = Vec::new();
    for (method, path, body) in [
        (Method::POST, "/load_model", r#"{"model_name": "tiny"}"#),
        (Method::GET, "/current_model", ""),
    ] {
        all.push(told(&client, method, path, body).await);
    }
    assert_shown!(all.join("\n\n"));
}

/// Nor does a client that leaves while its model loads, and it takes nothing from others.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_its_model_loads() {
    let client = app(&Arc::new(World { load: None, ..World::playing(Vec::new()) }));
    let load =
        async || told(&client, Method::POST, "/load_model", r#"{"model_name": "tiny"}"#).await;
    let patience = Duration::from_secs(1);
    tokio::time::timeout(patience, load()).await.unwrap_err();
    assert!(told(&client, Method::GET, "/current_model", "").await.contains("404"));
    // The first unloads what it has not waited for, the second loads; then the first leaves.
    let mut first = Box::pin(load());
    tokio::time::timeout(patience, &mut first).await.unwrap_err();
    told(&client, Method::POST, "/unload_model", "").await;
    let mut second = Box::pin(load());
    tokio::time::timeout(patience, &mut second).await.unwrap_err();
    drop(first);
    assert!(told(&client, Method::GET, "/current_model", "").await.contains("200"));
}

#[tokio::test]
async fn errors_of_the_engine() {
    let mut all = Vec::new();
    for error in errors() {
        for script in [vec![Err(error.clone())], vec![started(), text("Hel"), Err(error.clone())]] {
            let client = app(&Arc::new(World::playing(script)));
            told(&client, Method::POST, "/load_model", r#"{"model_name": "tiny"}"#).await;
            let body = r#"{"messages": "Hi", "stream": true}"#;
            let answer = told(&client, Method::POST, "/generate", body).await;
            let status = answer.lines().nth(1).unwrap();
            all.push(format!("{status} {}", answer.trim_end().lines().last().unwrap()));
        }
    }
    assert_shown!(all.join("\n"));
}

#[tokio::test]
async fn the_root() {
    let world = || World {
        residents: vec![resident("tiny", LoadState::Busy)],
        ..World::playing(Vec::new())
    };
    let json = ask(world(), Method::GET, "/").await;
    let page = app(&Arc::new(world())).get("/").header("accept", "text/html").send().await;
    let page = shown(page).await;
    assert!(page.contains("is &lt;not&gt; there"), "{page}");
    let head = ask(world(), Method::HEAD, "/").await;
    assert_shown!([json, page, head].join("\n\n"));
}

#[tokio::test]
async fn fetching_and_removing() {
    let world = Arc::new(World::playing(hello()));
    let client = app(&world);
    let mut all = Vec::new();
    for (method, path, body) in [
        (Method::POST, "/pull", r#"{"model": "hf/org/repo/model.rkllm", "model_name": "mine"}"#),
        (Method::POST, "/pull", "{}"),
        (Method::POST, "/pull", r#"{"model": "bad name"}"#),
        (Method::POST, "/pull", r#"{"model": "org/absent"}"#),
        (Method::POST, "/pull", "[]"),
        (Method::DELETE, "/rm", "{}"),
        (Method::DELETE, "/rm", r#"{"model": "../tiny"}"#),
        (Method::DELETE, "/rm", r#"{"model": "twin"}"#),
        (Method::POST, "/load_model", r#"{"model_name": "tiny"}"#),
        (Method::DELETE, "/rm", r#"{"model": "tiny"}"#),
        (Method::GET, "/current_model", ""),
        (Method::POST, "/rm", r#"{"model": "bert"}"#),
        (Method::POST, "/api/debug", r#"{"stream_data": "{\"response\": \"\", \"done\": true}"}"#),
        (Method::POST, "/api/debug", r#"{"stream_data": "x"}"#),
        (Method::POST, "/api/debug", "{}"),
    ] {
        all.push(told(&client, method, path, body).await);
    }
    all.push(world.store.told().join("\n"));
    all.push(world.moved.lock().unwrap().join("\n"));
    insta::assert_snapshot!(all.join("\n\n"));
}
