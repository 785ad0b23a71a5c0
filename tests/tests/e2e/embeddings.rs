//! `/v1/embeddings` on the real executable: what is near, what breaks, what chats notice of it.

use reqwest::{Client, Response, StatusCode};
use rkllama_tests::{Chat, ModelDir, Server, ServerSetup, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

async fn ask(server: &Server, more: Value) -> Response {
    let mut request = json!({"model": "demo"});
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    let url = format!("{}/v1/embeddings", server.url);
    Client::new().post(url).json(&request).send().await.unwrap()
}

async fn read(server: &Server, more: Value) -> Value {
    let response = ask(server, more).await;
    let status = response.status();
    let body = response.json::<Value>().await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

/// The vectors of these inputs.
async fn vectors(server: &Server, input: Value) -> Vec<Vec<f64>> {
    let body = read(server, json!({"input": input})).await;
    let data = body["data"].as_array().unwrap().iter().enumerate();
    data.map(|(index, item)| {
        assert_eq!(item["index"], index);
        serde_json::from_value(item["embedding"].clone()).unwrap()
    })
    .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

const NEAR: [&str; 2] = ["The cat sat on the mat.", "The cat sat on a mat."];
const FAR: &str = "Neural processing units of Rockchip boards";

/// Every release of the runtime, since they give the hidden layer in different ways.
#[tokio::test]
async fn texts_that_are_alike_are_nearer_than_others() {
    for version in ["1.2.1", "1.2.2", "1.2.3", "1.3.0", "1.3.1"] {
        let server = ServerSetup::new()
            .mock(version)
            .model(&ModelDir::demo("demo").toolkit("1.2.1"))
            .start();
        let found = vectors(&server, json!([NEAR[0], FAR, NEAR[1]])).await;
        let [first, far, second] = &found[..] else { panic!("{version}: {}", found.len()) };
        for vector in &found {
            assert!((dot(vector, vector) - 1.0).abs() < 1e-5, "{version}");
        }
        let (near, far) = (dot(first, second), dot(first, far));
        assert!(near > far + 0.2, "{version}: {near} {far}");
        // Each is what it is alone: nothing of one input is left when the next is read.
        let alone = vectors(&server, json!(NEAR[1])).await;
        assert_eq!(&alone[0], second, "{version}");
    }
}

/// The runtime is given the tokens that are counted, with an empty cache, in the mode that gives
/// the hidden layer.
#[tokio::test]
async fn the_runtime_reads_the_tokens_that_usage_counts() {
    let server = ServerSetup::demo().start();
    let body = read(&server, json!({"input": [[105, 110, 120], [105]]})).await;
    assert_eq!(body["usage"], json!({"prompt_tokens": 4, "total_tokens": 4}));
    let trace = server.trace();
    let runs = trace.args("rkllm_run");
    assert_eq!(runs.len(), 2, "{runs:?}");
    assert!(trace.calls("rkllm_clear_kv_cache") >= 2);
}

#[tokio::test]
async fn how_the_vectors_of_tokens_become_one_is_the_manifests_to_say() {
    let manifest = |pooling: &str| format!("pooling = '{pooling}'");
    let mut found = Vec::new();
    for pooling in ["last", "mean", "cls"] {
        let model = ModelDir::demo("demo").manifest(&manifest(pooling));
        let server = ServerSetup::new().mock("1.3.0").model(&model).start();
        found.push(vectors(&server, json!(NEAR[0])).await.remove(0));
    }
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        assert!(dot(&found[a], &found[b]) < 0.999, "{a} {b}");
    }
}

#[tokio::test]
async fn a_text_that_is_too_long_is_refused_or_cut_and_costs_no_run() {
    let server = ServerSetup::demo().start();
    let long = "x ".repeat(5000);
    let response = ask(&server, json!({"input": ["fine", long]})).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let error = response.json::<Value>().await.unwrap()["error"].clone();
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("context_length_exceeded"), &json!("input[1]"))
    );
    assert_eq!(server.trace().calls("rkllm_run"), 0, "the first was run");
    let cut = read(&server, json!({"input": long, "truncate": true})).await;
    assert_eq!(cut["usage"]["prompt_tokens"], 4096 - 32);
}

/// A query is read with the instruction in front, letter by letter as the model's makers write it.
#[tokio::test]
async fn a_query_is_read_with_its_instruction() {
    let default = "Given a web search query, retrieve relevant passages that answer the query";
    for (manifest, instruction) in
        [("", default), ("query_instruction = 'Find the board'", "Find the board")]
    {
        let model = ModelDir::demo("demo").manifest(manifest);
        let server = ServerSetup::new().mock("1.3.0").model(&model).start();
        let query = read(&server, json!({"input": FAR, "input_type": "query"})).await;
        let written = format!("Instruct: {instruction}\nQuery:{FAR}");
        let same = read(&server, json!({"input": written, "input_type": "document"})).await;
        assert_eq!(query["data"], same["data"], "{instruction}");
        let other = read(&server, json!({"input": FAR})).await;
        assert_ne!(query["data"], other["data"], "{instruction}");
    }
}

/// A context that is all margin holds no text, and none can be cut to it.
#[tokio::test]
async fn a_context_without_room_is_told() {
    let model = ModelDir::demo("demo").manifest("context_length = 32");
    let server = ServerSetup::new().mock("1.3.0").model(&model).start();
    for input in [json!(FAR), json!([1, 2])] {
        let response = ask(&server, json!({"input": input, "truncate": true})).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let error = response.json::<Value>().await.unwrap()["error"].clone();
        assert_eq!(error["code"], "context_length_exceeded", "{error}");
    }
}

/// Where a runtime has been found not to give it, that is said and nothing is run.
#[tokio::test]
async fn a_runtime_without_a_hidden_layer_is_told_apart() {
    let config = "[runtime_profiles.\"1.3\"]\nhidden_layer = false";
    let server = ServerSetup::demo().config(config).start();
    let response = ask(&server, json!({"input": FAR})).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let error = response.json::<Value>().await.unwrap()["error"].clone();
    assert_eq!(error["param"], "model", "{error}");
    assert!(error["message"].as_str().unwrap().contains("does not support embeddings"), "{error}");
    assert_eq!(server.trace().calls("rkllm_run"), 0);
}

#[tokio::test]
async fn a_text_gives_the_same_vector_every_time() {
    for version in ["1.2.3", "1.3.0"] {
        let model = ModelDir::demo("demo").toolkit("1.2.1");
        let server = ServerSetup::new().mock(version).model(&model).start();
        let first = vectors(&server, json!([NEAR[0], FAR, NEAR[0]])).await;
        assert_eq!(first[0], first[2], "{version}");
        assert_ne!(first[0], first[1], "{version}");
        assert_eq!(vectors(&server, json!([NEAR[0]])).await[0], first[0], "{version}");
    }
}

/// Chats around it say what they always say, and go on in their own conversation.
#[tokio::test]
async fn a_chat_before_and_after_is_untouched() {
    let server = ServerSetup::demo().start();
    let chat = Chat::user("What is an NPU?").with("temperature", 0);
    let before = chat.ask(&server).await;
    vectors(&server, json!([NEAR[0], FAR])).await;
    let after = chat.ask(&server).await;
    assert_eq!(before.content(), after.content());
    assert!(!before.content().is_empty());
}

#[tokio::test]
async fn a_worker_that_dies_is_told_and_the_next_text_is_read() {
    let server = ServerSetup::demo().in_real_time("[latency]\nprefill_ms = 1000\n").start();
    let url = format!("{}/v1/embeddings", server.url);
    let body = json!({"model": "demo", "input": [FAR, FAR]});
    let request = tokio::spawn(Client::new().post(url).json(&body).send());
    let is_run = || (server.trace().calls("rkllm_run") > 0).then_some(());
    eventually("the first is read", is_run).await;
    let worker = server.trace().workers()[0];
    let pid = Pid::from_raw(worker.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let response = request.await.unwrap().unwrap();
    let status = response.status();
    let body = response.text().await.unwrap();
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{body}");
    assert!(body.contains("SIGKILL"), "{body}");
    assert_eq!(vectors(&server, json!(NEAR[0])).await.len(), 1);
}

/// A run that hangs is given up, the inputs behind it are not tried, and the next request works.
#[tokio::test]
async fn a_run_that_hangs_is_given_up() {
    let server = ServerSetup::demo()
        .config("[limits]\nstall_timeout_ms = 500\nabort_timeout_ms = 300")
        .live_script("[faults]\nhang_in_run = true\n")
        .start();
    let response = ask(&server, json!({"input": [FAR, FAR]})).await;
    let status = response.status();
    let body = response.text().await.unwrap();
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{body}");
    assert!(body.contains("the worker of model 'demo'"), "{body}");
    assert_eq!(server.trace().calls("rkllm_run"), 1);
    server.rescript("");
    assert_eq!(vectors(&server, json!(NEAR[0])).await.len(), 1);
}

/// A client that leaves ends its run, and the inputs behind it are never begun.
#[tokio::test]
async fn a_client_that_leaves_cancels() {
    let server = ServerSetup::demo().in_real_time("[latency]\nprefill_ms = 2000\n").start();
    let url = format!("{}/v1/embeddings", server.url);
    let body = json!({"model": "demo", "input": vec![FAR; 20]});
    let request = tokio::spawn(Client::new().post(url).json(&body).send());
    let runs = || server.trace().calls("rkllm_run");
    eventually("the first is read", || (runs() > 0).then_some(())).await;
    request.abort();
    let next = Chat::user("What is an NPU?").ask(&server).await;
    assert!(!next.content().is_empty());
    assert!(runs() < 5, "{}", runs());
}
