//! llama-server's own routes, without sockets.

mod common;

use std::{sync::Arc, time::Duration};

use common::{
    World, app, ask, briefly, errors, finished, hello, post, resident, started, stopped, text,
};
use poem::http::Method;
use rkllama_core::{EmbedError, Finish, LoadState, Prompt};

#[tokio::test]
async fn answers_whole_and_as_events() {
    let mut all = Vec::new();
    for (script, body) in [
        (hello(), r#"{"model": "tiny", "prompt": "Hi", "seed": 1, "n_probs": 5}"#),
        (
            vec![started(), text("a\n"), stopped(Finish::Stop, Some(0))],
            r#"{"model": "tiny", "prompt": [1, 2], "stop": ["x"], "temperature": 9}"#,
        ),
        (
            vec![started(), text("a"), finished(Finish::Length)],
            r#"{"model": "tiny", "prompt": "Hi", "n_predict": 3, "stream": true}"#,
        ),
    ] {
        all.push(post(World::playing(script), "/completion", body).await);
    }
    assert_shown!(all.join("\n\n"));
}

#[tokio::test]
async fn the_model_is_asked_what_the_client_asked() {
    let world = Arc::new(World::capable(hello()));
    let body = r#"{"model": "tiny", "input_prefix": "a", "prompt": "b", "input_suffix": "c",
        "n_predict": -1, "ignore_eos": true, "json_schema": {"type": "object"}, "top_k": 0}"#;
    app(&world).post("/infill").body(body).send().await.assert_status_is_ok();
    let request = world.last();
    let Prompt::Infill(infill) = request.prompt else { panic!() };
    assert_eq!((&*infill.before, &*infill.after), ("ab", "c"));
    assert_eq!((request.tokens_max, request.ignore_eos), (Some(u32::MAX), true));
    assert_eq!(request.sampling.top_k, Some(u32::MAX));
    assert!(request.format.is_some());
}

#[tokio::test]
async fn tokens_templates_and_vectors() {
    let mut all = Vec::new();
    for (path, body) in [
        ("/tokenize", r#"{"model": "tiny", "content": "ab"}"#),
        (
            "/tokenize",
            r#"{"model": "tiny", "content": "ab", "add_special": true, "with_pieces": true}"#,
        ),
        ("/tokenize", r#"{"model": "tiny", "prompt": "ab"}"#),
        ("/tokenize", r#"{"model": "tiny", "messages": [{"role": "user", "content": "a"}]}"#),
        ("/detokenize", r#"{"model": "tiny", "tokens": [97, 98]}"#),
        (
            "/apply-template",
            r#"{"model": "tiny", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}"#,
        ),
        ("/embedding", r#"{"model": "bert", "content": "a"}"#),
    ] {
        all.push(post(World::playing(hello()), path, body).await);
    }
    assert_shown!(all.join("\n\n"));
}

#[tokio::test]
async fn the_state_of_the_server() {
    let loading = LoadState::Loading(Duration::from_secs(1));
    let mut all = Vec::new();
    for (path, residents) in [
        ("/props?model=tiny", vec![]),
        ("/slots", vec![resident("bert", LoadState::Busy), resident("tiny", LoadState::Idle)]),
        ("/slots?fail_on_no_slot=1", vec![resident("tiny", LoadState::Busy)]),
        ("/v1/health", vec![]),
        ("/v1/health", vec![resident("tiny", loading)]),
        ("/v1/health", vec![resident("bert", LoadState::Idle), resident("tiny", loading)]),
    ] {
        let world = World { residents, ..World::capable(Vec::new()) };
        all.push(format!("{path}\n{}", ask(world, Method::GET, path).await));
    }
    assert_shown!(all.join("\n\n"));
}

#[tokio::test]
async fn refusals() {
    let mut all = Vec::new();
    for (path, body) in [
        ("/completion", "x"),
        ("/completion", "[]"),
        ("/completion", r#"{"prompt": "a"}"#),
        ("/completion", r#"{"model": "nope", "prompt": "a"}"#),
        ("/completion", r#"{"model": "twin", "prompt": "a"}"#),
        ("/completion", r#"{"model": "broken", "prompt": "a"}"#),
        ("/completion", r#"{"model": "tiny"}"#),
        ("/completion", r#"{"model": "tiny", "prompt": {}}"#),
        ("/completion", r#"{"model": "tiny", "prompt": [1, -1]}"#),
        ("/completion", r#"{"model": "tiny", "prompt": "a", "grammar": "root ::= a"}"#),
        ("/completion", r#"{"model": "tiny", "prompt": "a", "temperature": "hot"}"#),
        ("/infill", r#"{"model": "tiny", "input_prefix": "a"}"#),
        ("/infill", r#"{"model": "tiny", "input_prefix": "a", "input_suffix": "b"}"#),
        ("/infill", r#"{"model": "tiny", "prompt": [1]}"#),
        ("/tokenize", r#"{"model": "tiny"}"#),
        ("/tokenize", r#"{"model": "tiny", "content": "a", "messages": []}"#),
        ("/tokenize", r#"{"model": "tiny", "messages": []}"#),
        ("/apply-template", r#"{"model": "tiny", "messages": []}"#),
        (
            "/apply-template",
            r#"{"model": "tiny", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#,
        ),
        (
            "/apply-template",
            r#"{"model": "tiny", "messages": [{"role": "user"}], "tools": [{"function": {"name": "a b"}}]}"#,
        ),
        ("/embedding", r#"{"model": "bert", "content": []}"#),
        ("/embedding", r#"{"model": "bert", "content": [-1]}"#),
        ("/embedding", r#"{"model": "bert", "content": {}}"#),
        ("/props", "{}"),
    ] {
        let answer = briefly(World::playing(hello()), path, body).await;
        all.push(format!("{path} {body}\n    {answer}"));
    }
    assert_shown!(all.join("\n"));
}

#[tokio::test]
async fn errors_of_the_engine() {
    let mut all = Vec::new();
    let body = r#"{"model": "tiny", "prompt": "a"}"#;
    for error in errors() {
        all.push(briefly(World::playing(vec![Err(error.clone())]), "/completion", body).await);
        let stream = r#"{"model": "tiny", "prompt": "a", "stream": true}"#;
        let world = World::playing(vec![started(), text("Hel"), Err(error.clone())]);
        let answer = post(world, "/completion", stream).await;
        all.push(format!("    in the middle {}", answer.trim_end().lines().last().unwrap()));
        let embeddings = Err(EmbedError { input: 0, error });
        let world = World { embeddings, ..World::playing(Vec::new()) };
        let answer = briefly(world, "/embedding", r#"{"model": "bert", "content": "a"}"#).await;
        all.push(format!("    for a vector {answer}"));
    }
    assert_shown!(all.join("\n"));
}
