//! What is counted before is what a run counts.

use reqwest::{Client, StatusCode};
use rkllama_tests::{ModelDir, Server, ServerSetup};
use serde_json::{Value, json};

use crate::vision::{data_url, picture, seeing};

async fn post(server: &Server, path: &str, body: &Value) -> (StatusCode, Value) {
    let response =
        Client::new().post(format!("{}{path}", server.url)).json(body).send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

async fn count(server: &Server, path: &str, body: &Value) -> u64 {
    let (status, counted) = post(server, path, body).await;
    assert_eq!(status, StatusCode::OK, "{counted}");
    counted["input_tokens"].as_u64().unwrap()
}

fn with(body: &Value, more: Value) -> Value {
    let mut body = body.clone();
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A request as each of the APIs has it, where it is counted, and what the answer says of it.
fn asked(
    model: &str,
    tools: bool,
    image: Option<&str>,
) -> [(&'static str, &'static str, Value); 3] {
    let parameters = json!({"type": "object", "properties": {"town": {"type": "string"}}});
    let text = "What is the weather?";
    let mut chat = json!({"model": model, "max_tokens": 16});
    let (mut response, mut message) =
        (json!({"model": model, "max_output_tokens": 16}), chat.clone());
    let mut parts =
        [json!([{"type": "text", "text": text}]), json!([{"type": "input_text", "text": text}])];
    let mut blocks = parts[0].clone();
    if let Some(url) = image {
        let [of_chat, of_response] = &mut parts;
        let add = |parts: &mut Value, part: Value| parts.as_array_mut().unwrap().push(part);
        add(of_chat, json!({"type": "image_url", "image_url": {"url": url}}));
        add(of_response, json!({"type": "input_image", "image_url": url}));
        let data = url.split_once(',').unwrap().1;
        let source = json!({"type": "base64", "media_type": "image/png", "data": data});
        add(&mut blocks, json!({"type": "image", "source": source}));
    }
    let [of_chat, of_response] = parts;
    chat["messages"] = json!([{"role": "user", "content": of_chat}]);
    response["input"] = json!([{"role": "user", "content": of_response}]);
    message["messages"] = json!([{"role": "user", "content": blocks}]);
    if tools {
        let function = json!({"name": "get_weather", "parameters": parameters});
        chat["tools"] = json!([{"type": "function", "function": function}]);
        response["tools"] = json!([with(&function, json!({"type": "function"}))]);
        message["tools"] = json!([{"name": "get_weather", "input_schema": parameters}]);
    }
    [
        ("/v1/chat/completions", "/v1/chat/completions/input_tokens", chat),
        ("/v1/responses", "/v1/responses/input_tokens", response),
        ("/v1/messages", "/v1/messages/count_tokens", message),
    ]
}

fn counted_by_the_run(answer: &Value) -> u64 {
    let number = |field: &str| answer["usage"][field].as_u64();
    // Anthropic's leaves out what was in the cache.
    let cached = number("cache_read_input_tokens").unwrap_or(0);
    cached + number("prompt_tokens").or(number("input_tokens")).unwrap()
}

#[tokio::test]
async fn a_count_is_what_a_run_says() {
    let server = ServerSetup::demo().start();
    for tools in [false, true] {
        for (path, counts, body) in asked("demo", tools, None) {
            let counted = count(&server, counts, &body).await;
            let (status, answer) = post(&server, path, &body).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            assert_eq!(counted, counted_by_the_run(&answer), "{path}");
        }
    }
}

#[tokio::test]
async fn counting_runs_nothing_and_minds_no_limit_of_the_context() {
    let server = ServerSetup::demo().start();
    let long = json!([{"role": "user", "content": "word ".repeat(9000)}]);
    let body = json!({"model": "demo", "messages": long});
    let counted = count(&server, "/v1/chat/completions/input_tokens", &body).await;
    assert!(counted >= 9000, "{counted}");
    let twice = json!([{"role": "user", "content": "word ".repeat(18_000)}]);
    let body = json!({"model": "demo", "messages": twice, "max_tokens": 1});
    let double = count(&server, "/v1/messages/count_tokens", &body).await;
    let words = (double - counted).abs_diff(counted);
    assert!(words < 100, "{counted} and {double}");
    assert_eq!(server.trace().calls("rkllm_init"), 0);
}

/// Only its encoder knows; once it has been loaded it need not be again.
#[tokio::test]
async fn images_are_counted_as_the_encoder_makes_them() {
    let server = ServerSetup::new().mock("1.3.0").model(&seeing()).start();
    let url = data_url(&picture(9, 99, 199));
    let mut loads = None;
    for (path, counts, body) in asked("qwen2-vl", false, Some(&url)) {
        let counted = count(&server, counts, &body).await;
        let calls = server.trace().calls("rkllm_init");
        assert!(calls > 0 && calls == *loads.get_or_insert(calls), "{path}: {calls}");
        let (status, answer) = post(&server, path, &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(counted, counted_by_the_run(&answer), "{path}");
    }
    let (status, refused) = post(
        &server,
        "/v1/responses/input_tokens",
        &json!({"input": [{"role": "user", "content": [
            {"type": "input_image", "image_url": "data:image/png;base64,aGVsbG8="},
        ]}]}),
    )
    .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(refused["error"]["param"], "input[0].content[0].image_url");
}

#[tokio::test]
async fn a_model_that_says_so_itself_is_not_loaded_to_count() {
    let model: ModelDir = seeing().manifest("[vision]\nimage_tokens = 4\n");
    let server = ServerSetup::new().mock("1.3.0").model(&model).start();
    let url = data_url(&picture(9, 99, 199));
    let [(path, counts, body), ..] = asked("qwen2-vl", false, Some(&url));
    let counted = count(&server, counts, &body).await;
    assert_eq!(server.trace().calls("rkllm_init"), 0);
    let (_, answer) = post(&server, path, &body).await;
    assert_eq!(counted, counted_by_the_run(&answer));
}
