//! Texts compared with texts, without sockets.

mod common;

use std::sync::Arc;

use common::{World, app, errors, hello, shown};
use poem::{Endpoint, Response, test::TestClient};

async fn told<E: Endpoint<Output = Response>>(
    client: &TestClient<E>,
    path: &str,
    body: &str,
) -> String {
    let answer = client.post(path).body(body.to_owned()).send().await;
    let text = format!("POST {path} {body}\n{}", shown(answer).await);
    let id = regex::Regex::new("(rerank|score)-[0-9a-f]{32}").expect("an expression");
    let created = regex::Regex::new("\"created\":[0-9]+").expect("an expression");
    created.replace_all(&id.replace_all(&text, "$1-ID"), "\"created\":NOW").into_owned()
}

#[tokio::test]
async fn rankings_in_every_shape() {
    let world = Arc::new(World::playing(hello()));
    let client = app(&world);
    let mut all = Vec::new();
    let documents = r#""documents": ["ccc", {"text": "a"}, "bb"]"#;
    for (path, body) in [
        ("/v1/rerank", format!(r#"{{"query": "q", {documents}}}"#)),
        (
            "/rerank",
            format!(
                r#"{{"model": "ranker", "query": "q", {documents}, "top_n": 2, "return_documents": true, "instruction": "I"}}"#
            ),
        ),
        (
            "/v2/rerank",
            format!(
                r#"{{"model": "ranker", "query": "q", {documents}, "top_n": 0, "max_tokens_per_doc": 4096}}"#
            ),
        ),
        ("/rerank", r#"{"query": "q", "texts": ["bb", "a"], "return_text": true}"#.to_owned()),
        (
            "/api/rerank",
            format!(r#"{{"model": "ranker", "prompt": "q", {documents}, "instruction": ""}}"#),
        ),
        (
            "/api/rerank",
            format!(
                r#"{{"model": "ranker", "query": "q", {documents}, "top_n": 1, "options": {{"task_instruction": "T"}}}}"#
            ),
        ),
        ("/api/rerank", r#"{"model": "ranker", "prompt": "q", "documents": []}"#.to_owned()),
        ("/v1/score", r#"{"model": "ranker", "text_1": "q", "text_2": ["bb", "a"]}"#.to_owned()),
        (
            "/v1/score",
            r#"{"model": "ranker", "text_1": ["q", "r"], "text_2": ["bb", "a"]}"#.to_owned(),
        ),
    ] {
        all.push(told(&client, path, &body).await);
    }
    all.push(world.reranked.lock().unwrap().join("\n"));
    insta::assert_snapshot!(all.join("\n\n"));
}

#[tokio::test]
async fn what_cannot_be_compared_is_refused() {
    let client = app(&Arc::new(World::playing(hello())));
    let mut all = Vec::new();
    for (path, body) in [
        ("/v1/rerank", r#"{"documents": ["a"]}"#),
        ("/v1/rerank", r#"{"query": "q"}"#),
        ("/v1/rerank", r#"{"query": "q", "documents": []}"#),
        ("/v1/rerank", r#"{"query": "q", "documents": "a"}"#),
        ("/v1/rerank", r#"{"query": "q", "documents": [7]}"#),
        ("/v1/rerank", r#"{"query": "q", "documents": ["a"], "texts": ["a"]}"#),
        ("/v1/rerank", r#"{"query": "q", "documents": ["a"], "top_n": -1}"#),
        ("/v1/rerank", r#"{"model": "tiny", "query": "q", "documents": ["a"]}"#),
        ("/v1/rerank", r#"{"model": "nope", "query": "q", "documents": ["a"]}"#),
        ("/v1/rerank", r#"{"model": "broken", "query": "q", "documents": ["a"]}"#),
        ("/api/rerank", r#"{"model": "tiny", "prompt": "q", "documents": ["a"]}"#),
        ("/api/rerank", r#"{"model": "nope", "prompt": "q", "documents": ["a"]}"#),
        ("/api/rerank", r#"{"prompt": "q", "documents": ["a"]}"#),
        ("/api/rerank", r#"{"model": "ranker", "documents": ["a"]}"#),
        ("/v1/score", r#"{"model": "ranker", "text_2": "a"}"#),
        ("/v1/score", r#"{"model": "ranker", "text_1": ["a", "b", "c"], "text_2": ["a", "b"]}"#),
        ("/v1/score", r#"{"model": "ranker", "text_1": "a", "text_2": []}"#),
        ("/v1/score", r#"{"model": "tiny", "text_1": "a", "text_2": "b"}"#),
    ] {
        all.push(told(&client, path, body).await);
    }
    let many = serde_json::json!({"query": "q", "documents": vec!["a"; 2049]}).to_string();
    let answer = client.post("/v1/rerank").body(many).send().await;
    all.push(shown(answer).await);
    insta::assert_snapshot!(all.join("\n\n"));
}

#[tokio::test]
async fn errors_of_the_engine() {
    let mut all = Vec::new();
    for error in errors() {
        let world = Arc::new(World { rerank_error: Some(error), ..World::playing(hello()) });
        let client = app(&world);
        for (path, query) in [("/v1/rerank", "query"), ("/api/rerank", "prompt")] {
            let body = format!(r#"{{"model": "ranker", "{query}": "q", "documents": ["a"]}}"#);
            all.push(told(&client, path, &body).await);
        }
    }
    insta::assert_snapshot!(all.join("\n\n"));
}
