//! `/v1/responses` on the real executable: what goes on, what is cancelled, who sees what.

use reqwest::{Client, Method, Response, StatusCode};
use rkllama_tests::{Server, ServerSetup, eventually};
use serde_json::{Value, json};

const SLOW: &str = "[latency]\nprefill_ms = 0\ndecode_ms_per_token = 50\n\
                    [[rule]]\nsay = \"again and again \"\nrepeat = 200\nno_eos = true\n";

async fn ask(server: &Server, method: Method, path: &str, key: &str, body: Value) -> Response {
    let request = Client::new().request(method, format!("{}/v1/responses{path}", server.url));
    request.bearer_auth(key).json(&body).send().await.unwrap()
}

async fn create(server: &Server, key: &str, body: Value) -> Value {
    let response = ask(server, Method::POST, "", key, body).await;
    let status = response.status();
    let body = response.json::<Value>().await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

/// The second turn finds the first in the runtime's cache: items become the same prompt again.
#[tokio::test]
async fn the_next_turn_reuses_what_is_computed() {
    let server = ServerSetup::demo().start();
    let request = json!({"model": "demo", "input": "What is an NPU?", "temperature": 0});
    let first = create(&server, "", request).await;
    let said = first["usage"]["total_tokens"].as_u64().unwrap();
    let request = json!({"model": "demo", "input": "And a board?", "temperature": 0,
        "previous_response_id": first["id"]});
    let second = create(&server, "", request).await;
    let cached = second["usage"]["input_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached + 4 >= said, "{cached} of {said}");
}

/// Nobody sees the responses of another key, and nobody goes on from them.
#[tokio::test]
async fn keys_are_apart() {
    let setup = ServerSetup::demo();
    let server =
        setup.config("[auth]\nkeys = [\"ann:secret-of-ann\", \"bob:secret-of-bob\"]").start();
    let request = json!({"model": "demo", "input": "What is an NPU?"});
    let response = create(&server, "secret-of-ann", request).await;
    let path = format!("/{}", response["id"].as_str().unwrap());
    for (key, status) in
        [("secret-of-bob", StatusCode::NOT_FOUND), ("secret-of-ann", StatusCode::OK)]
    {
        for path in [path.clone(), format!("{path}/input_items")] {
            let found = ask(&server, Method::GET, &path, key, Value::Null).await;
            assert_eq!(found.status(), status, "{key} {path}");
        }
        let more = json!({"model": "demo", "input": "x", "previous_response_id": response["id"]});
        let goes_on = ask(&server, Method::POST, "", key, more).await.status();
        assert_eq!(goes_on == StatusCode::OK, status == StatusCode::OK, "{key}");
        let deleted = ask(&server, Method::DELETE, &path, key, Value::Null).await;
        assert_eq!(deleted.status(), status, "{key}");
    }
}

/// The limits of the configuration hold: with none kept there is nothing to go on from.
#[tokio::test]
async fn nothing_is_kept_where_nothing_may_be() {
    let server = ServerSetup::demo().config("[kept_responses]\nmax_mb = 0").start();
    let response = create(&server, "", json!({"model": "demo", "input": "What is an NPU?"})).await;
    let path = format!("/{}", response["id"].as_str().unwrap());
    let found = ask(&server, Method::GET, &path, "", Value::Null).await;
    assert_eq!(found.status(), StatusCode::NOT_FOUND);
}

/// A client that leaves ends its run, and the model answers the next.
#[tokio::test]
async fn a_client_that_leaves_cancels() {
    let server = ServerSetup::demo().in_real_time(SLOW).start();
    let request = json!({"model": "demo", "input": "Count.", "stream": true});
    let mut response = ask(&server, Method::POST, "", "", request).await;
    let mut text = String::new();
    while !text.contains("response.output_text.delta") {
        let bytes = response.chunk().await.unwrap().expect("the stream goes on");
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    drop(response);
    let aborted = |line: &Value| line["event"] == "call" && line["call"] == "rkllm_abort";
    let what = "the runtime is told to abort";
    eventually(what, || server.trace().0.iter().any(aborted).then_some(())).await;
}
