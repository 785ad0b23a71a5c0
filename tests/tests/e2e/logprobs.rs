//! Probabilities of tokens on the real executable: on every API, of answers and of prompts.

use reqwest::{Client, Response, StatusCode};
use rkllama_tests::{ModelDir, Server, ServerSetup, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

fn demo(version: &str) -> ServerSetup {
    let model = ModelDir::demo("demo").toolkit("1.2.1");
    ServerSetup::new().mock(version).model(&model)
}

async fn ask(server: &Server, path: &str, body: &Value) -> Response {
    Client::new().post(format!("{}{path}", server.url)).json(body).send().await.unwrap()
}

async fn asked(server: &Server, path: &str, body: Value) -> Value {
    let response = ask(server, path, &body).await;
    let status = response.status();
    let body = response.json::<Value>().await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

fn chat(more: Value) -> Value {
    let mut body = json!({
        "model": "demo", "messages": [{"role": "user", "content": "What is an NPU?"}],
        "temperature": 0, "repeat_penalty": 1, "max_tokens": 12,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The texts, joined by their bytes.
fn joined(tokens: &[Value]) -> String {
    let bytes = |token: &Value| token["bytes"].as_array().unwrap().clone();
    let bytes: Vec<u8> =
        tokens.iter().flat_map(bytes).map(|byte| byte.as_u64().unwrap() as u8).collect();
    String::from_utf8(bytes).unwrap()
}

/// On every release that gives logits. Of a greedy answer each token is the likeliest in its place.
#[tokio::test]
async fn each_token_of_an_answer_is_told() {
    for version in ["1.2.1", "1.2.3", "1.3.0", "1.3.1"] {
        let server = demo(version).start();
        let answer = asked(
            &server,
            "/v1/chat/completions",
            chat(json!({"logprobs": true, "top_logprobs": 3})),
        )
        .await;
        let choice = &answer["choices"][0];
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        assert_eq!(joined(tokens), choice["message"]["content"].as_str().unwrap(), "{version}");
        assert!(tokens.len() > 3, "{answer}");
        for token in tokens {
            let top = token["top_logprobs"].as_array().unwrap();
            assert_eq!(top.len(), 3, "{token}");
            let is_likeliest = top[0]["bytes"] == token["bytes"];
            // Older ones choose as they were loaded to.
            assert!(is_likeliest || version < "1.3", "{version}: {token}");
            let best = top[0]["logprob"].as_f64().unwrap();
            assert!(best >= token["logprob"].as_f64().unwrap(), "{version}: {token}");
            for other in top.iter().filter(|other| other["bytes"] == token["bytes"]) {
                assert_eq!(other["logprob"], token["logprob"]);
            }
            let sum: f64 = top.iter().map(|it| it["logprob"].as_f64().unwrap().exp()).sum();
            assert!(sum > 0.0 && sum <= 1.0001, "{token}");
        }
        // Read once more in the mode for it, behind the run that made the answer.
        let modes: Vec<_> =
            server.trace().args("rkllm_run").iter().map(|run| run["mode"].clone()).collect();
        assert_eq!(modes.iter().filter(|mode| **mode == "Logits").count(), 1, "{modes:?}");
        assert_eq!(modes.last().unwrap(), "Logits");
        // What others compute after it is not disturbed.
        let plain = asked(&server, "/v1/chat/completions", chat(json!({}))).await;
        assert_eq!(plain["choices"][0]["message"], choice["message"], "{version}");
        assert_eq!(plain["choices"][0]["logprobs"], Value::Null);
    }
}

#[tokio::test]
async fn every_api_tells_the_same() {
    let server = demo("1.3.0").start();
    let whole = chat(json!({"logprobs": true, "top_logprobs": 2}));
    let whole = asked(&server, "/v1/chat/completions", whole).await;
    let expected = whole["choices"][0]["logprobs"]["content"].clone();

    let stream = chat(json!({"logprobs": true, "top_logprobs": 2, "stream": true}));
    let stream = ask(&server, "/v1/chat/completions", &stream).await.text().await.unwrap();
    let told: Vec<Value> = stream
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(Value::from(told), expected);

    let body = json!({
        "model": "demo", "input": "What is an NPU?", "temperature": 0, "repeat_penalty": 1, "max_output_tokens": 16,
        "include": ["message.output_text.logprobs"], "top_logprobs": 2,
    });
    let response = asked(&server, "/v1/responses", body).await;
    let told = &response["output"][0]["content"][0]["logprobs"];
    assert_eq!(told.as_array().unwrap()[..12], expected.as_array().unwrap()[..], "{response}");

    let body = json!({
        "model": "demo", "messages": [{"role": "user", "content": "What is an NPU?"}],
        "options": {"temperature": 0, "repeat_penalty": 1, "num_predict": 12}, "think": false,
        "logprobs": true, "top_logprobs": 2,
    });
    let lines = ask(&server, "/api/chat", &body).await.text().await.unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["logprobs"], expected, "{lines}");

    let template = json!({"messages": [{"role": "user", "content": "What is an NPU?"}]});
    let prompt = asked(&server, "/apply-template", template).await["prompt"].clone();
    let body = json!({"prompt": prompt, "n_predict": 12, "temperature": 0, "repeat_penalty": 1, "n_probs": 2});
    let answer = asked(&server, "/completion", body).await;
    let told = answer["completion_probabilities"].as_array().unwrap();
    let pairs = |tokens: &[Value]| -> Vec<(Value, Value)> {
        tokens.iter().map(|it| (it["bytes"].clone(), it["logprob"].clone())).collect()
    };
    assert_eq!(pairs(told), pairs(expected.as_array().unwrap()));
}

/// As evaluation programs ask: the prompt's own tokens, and nothing is generated.
#[tokio::test]
async fn a_prompts_own_tokens_are_told() {
    let server = demo("1.2.3").start();
    let prompt = "Grüße from an NPU: €5.";
    let body =
        json!({"model": "demo", "prompt": prompt, "max_tokens": 0, "echo": true, "logprobs": 1});
    let answer = asked(&server, "/v1/completions", body).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], prompt);
    let told = &choice["logprobs"];
    let (tokens, logprobs) = (&told["tokens"], told["token_logprobs"].as_array().unwrap());
    assert_eq!((&logprobs[0], &told["top_logprobs"][0]), (&Value::Null, &Value::Null));
    assert!(logprobs[1..].iter().all(|it| it.as_f64().unwrap() <= 0.0), "{told}");
    assert_eq!(logprobs.len(), answer["usage"]["prompt_tokens"].as_u64().unwrap() as usize);
    for (at, offset) in told["text_offset"].as_array().unwrap().iter().enumerate() {
        let token = tokens[at].as_str().unwrap();
        let rest: String = prompt.chars().skip(offset.as_u64().unwrap() as usize).collect();
        assert!(rest.starts_with(token) || token.starts_with("bytes:"), "{token:?} at {offset}");
    }
    let runs = server.trace().args("rkllm_run");
    assert!(runs.iter().all(|run| run["mode"] == "Logits"), "{runs:?}");

    // The prompt and what follows it, as if all of it were a prompt.
    let body = json!({
        "model": "demo", "prompt": "Once upon a", "max_tokens": 5, "echo": true, "logprobs": 0,
        "temperature": 0,
    });
    let answer = asked(&server, "/v1/completions", body).await;
    let choice = &answer["choices"][0];
    let again = json!({
        "model": "demo", "prompt": choice["text"], "max_tokens": 0, "echo": true, "logprobs": 0,
    });
    let again = asked(&server, "/v1/completions", again).await;
    assert_eq!(again["choices"][0]["logprobs"], choice["logprobs"], "{answer}");
}

#[tokio::test]
async fn the_best_of_several_is_given_and_all_are_counted() {
    let server = demo("1.3.0").start();
    let body = json!({
        "model": "demo", "prompt": "An NPU", "n": 2, "best_of": 5, "max_tokens": 6,
        "temperature": 1.5, "logprobs": 0, "ignore_eos": true,
    });
    let answer = asked(&server, "/v1/completions", body).await;
    let choices = answer["choices"].as_array().unwrap();
    let mean = |choice: &Value| {
        let all = choice["logprobs"]["token_logprobs"].as_array().unwrap().clone();
        all.iter().map(|it| it.as_f64().unwrap()).sum::<f64>() / all.len() as f64
    };
    assert_eq!(choices.len(), 2);
    assert!(mean(&choices[0]) >= mean(&choices[1]), "{answer}");
    let modes = server.trace().args("rkllm_run");
    assert_eq!(modes.iter().filter(|run| run["mode"] == "Logits").count(), 5);
    let counted = answer["usage"]["completion_tokens"].as_u64().unwrap();
    let shown: usize =
        choices.iter().map(|it| it["logprobs"]["tokens"].as_array().unwrap().len()).sum();
    assert!(counted as usize > shown, "{answer}");
    // Without being asked for they are not shown.
    let body = json!({"model": "demo", "prompt": "An NPU", "best_of": 2, "max_tokens": 2});
    let answer = asked(&server, "/v1/completions", body).await;
    assert_eq!(answer["choices"][0]["logprobs"], Value::Null);
}

#[tokio::test]
async fn a_stop_text_and_a_form_are_told_as_they_are_shown() {
    let server = demo("1.3.0").start();
    let full = asked(&server, "/v1/chat/completions", chat(json!({"logprobs": true}))).await;
    let content = full["choices"][0]["message"]["content"].as_str().unwrap();
    let stop = content.split(' ').nth(3).unwrap();
    let cut = asked(&server, "/v1/chat/completions", chat(json!({"logprobs": true, "stop": stop})));
    let cut = cut.await;
    let said = cut["choices"][0]["message"]["content"].as_str().unwrap();
    let tokens = cut["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert!(joined(&tokens).starts_with(said) && !said.is_empty(), "{cut}");

    let form =
        json!({"logprobs": true, "response_format": {"type": "json_object"}, "max_tokens": 60});
    let form = asked(&server, "/v1/chat/completions", chat(form)).await;
    let tokens = form["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(joined(&tokens), form["choices"][0]["message"]["content"].as_str().unwrap());
}

#[tokio::test]
async fn what_cannot_be_told_is_null_and_named() {
    let off = "[runtime_profiles.\"1.3\"]\nlogits = false";
    let server = demo("1.3.0").config(off).start();
    let body = chat(json!({"logprobs": true}));
    let answer = ask(&server, "/v1/chat/completions", &body).await;
    assert_eq!(answer.headers()["x-rkllama-ignored"], "logprobs");
    let answer = answer.json::<Value>().await.unwrap();
    assert_eq!(answer["choices"][0]["logprobs"], Value::Null);
    let body = json!({"model": "demo", "prompt": "An NPU", "best_of": 2});
    let refused = ask(&server, "/v1/completions", &body).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let refused = refused.json::<Value>().await.unwrap();
    assert_eq!(refused["error"]["param"], "best_of", "{refused}");
    drop(server);

    let strict = demo("1.3.0").config(&format!("strict_parameters = true\n{off}")).start();
    let refused = ask(&strict, "/v1/chat/completions", &chat(json!({"logprobs": true}))).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);

    let short = demo("1.3.0").config("[limits]\nlogprobs_tokens_max = 8").start();
    let answer = ask(&short, "/v1/chat/completions", &chat(json!({"logprobs": true}))).await;
    assert_eq!(answer.headers()["x-rkllama-ignored"], "logprobs");
    let runs = short.trace().args("rkllm_run");
    assert!(runs.iter().all(|run| run["mode"] != "Logits"), "{runs:?}");
}

/// A request of which the answer is complete and is being read once more.
async fn being_scored(server: &Server, path: &str, body: Value) -> JoinHandle<Response> {
    let request = Client::new().post(format!("{}{path}", server.url)).json(&body);
    let request = tokio::spawn(async { request.send().await.unwrap() });
    let is_scored = || {
        let runs = server.trace().args("rkllm_run");
        (runs.last()?["mode"] == "Logits").then_some(())
    };
    eventually("the answer is read once more", is_scored).await;
    request
}

/// Probabilities that were lost are an error of the server: not null without a word, and not the
/// client's fault.
#[tokio::test]
async fn a_worker_that_dies_over_them_is_told() {
    let bodies = [
        ("/v1/chat/completions", chat(json!({"logprobs": true, "max_tokens": 3}))),
        (
            "/v1/completions",
            json!({"model": "demo", "prompt": "Hi", "max_tokens": 3, "best_of": 2}),
        ),
    ];
    for (path, body) in bodies {
        let server = demo("1.3.0").in_real_time("[latency]\nprefill_ms = 1000\n").start();
        let request = being_scored(&server, path, body).await;
        let pid =
            Pid::from_raw((*server.trace().workers().last().unwrap()).try_into().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let response = request.await.unwrap();
        let status = response.status();
        let body = response.text().await.unwrap();
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{body}");
        assert!(body.contains("SIGKILL"), "{body}");
        let again = chat(json!({"logprobs": true, "max_tokens": 3}));
        let again = asked(&server, "/v1/chat/completions", again).await;
        assert_ne!(again["choices"][0]["logprobs"], Value::Null, "{again}");
    }
}

/// A client that leaves while its answer is read once more: no further answer is made for it.
#[tokio::test]
async fn a_client_that_leaves_ends_its_scoring() {
    let server = demo("1.3.0").in_real_time("[latency]\nprefill_ms = 1500\n").start();
    let body = json!({"model": "demo", "prompt": "Hi", "max_tokens": 3, "best_of": 5});
    being_scored(&server, "/v1/completions", body).await.abort();
    let answer = asked(&server, "/v1/chat/completions", chat(json!({"max_tokens": 1}))).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let runs = server.trace().calls("rkllm_run");
    assert_eq!(runs, 3, "the answer, its scoring and the next client's");
}
