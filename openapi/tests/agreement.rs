//! Bytes and schema come from two derives: here they meet, with each other and with OpenAI.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use common::{
    Step, arguments, call, finished, hello, limits,
    schema::{document, faults_by_openai, faults_by_ours},
    started, state, text, thought,
};
use poem::{http::StatusCode, test::TestClient};
use poem_openapi::types::{Example, ToJSON};
use rkllama_core::Finish;
use rkllama_openapi::wire::{
    ChatChunk, ChatCompletion, ChatCompletionRequest, Completion, CompletionChunk,
    CompletionRequest, DeletedResponse, ErrorResponse, Health, InputTokens, ModelList, Response,
    ResponseEvent, ResponseItemList,
};
use serde::Serialize;
use serde_json::{Value, json};

const NONE: [String; 0] = [];

fn assert_derives_agree<T: Example + ToJSON + Serialize>(name: &str) {
    let value = T::example();
    let bytes = serde_json::to_value(&value).unwrap();
    assert_eq!(Some(&bytes), value.to_json().as_ref(), "{name}: the derives differ");
    assert_eq!(faults_by_ours(name, &bytes), NONE, "{name}");
}

#[test]
fn the_derives_of_answers_agree() {
    assert_derives_agree::<ChatCompletion>("ChatCompletion");
    assert_derives_agree::<ChatChunk>("ChatChunk");
    assert_derives_agree::<Completion>("Completion");
    assert_derives_agree::<CompletionChunk>("CompletionChunk");
    assert_derives_agree::<Response>("Response");
    assert_derives_agree::<ResponseEvent>("ResponseEvent");
    assert_derives_agree::<ResponseItemList>("ResponseItemList");
    assert_derives_agree::<DeletedResponse>("DeletedResponse");
    assert_derives_agree::<InputTokens>("InputTokens");
    assert_derives_agree::<ErrorResponse>("ErrorResponse");
    assert_derives_agree::<ModelList>("ModelList");
    assert_derives_agree::<Health>("Health");
}

/// Requests of every form: what our schema takes, serde takes, and the other way round.
#[test]
fn schema_and_reader_take_and_refuse_the_same_requests() {
    let with = |key: &str, value: Value| {
        let mut request = json!({"messages": [{"role": "user", "content": "hi"}]});
        request[key] = value;
        request
    };
    let message = |message: Value| json!({"messages": [message]});
    let requests = vec![
        ChatCompletionRequest::example().to_json().unwrap(),
        with("model", json!("m")),
        with("model", Value::Null),
        with("model", json!(7)),
        with("stop", json!("a")),
        with("stop", json!(["a", "b"])),
        with("stop", json!(7)),
        with("stop", json!([7])),
        with("stream", json!("yes")),
        with("stream_options", json!({"include_usage": true})),
        with("stream_options", json!([true])),
        with("temperature", json!("hot")),
        with("max_tokens", json!(4.5)),
        with("tools", json!([{"type": "function", "function": {"name": "f", "parameters": {}}}])),
        with("tools", json!([{"type": "function", "function": {}}])),
        with("tools", json!([{"type": "gadget"}])),
        with("tool_choice", json!("auto")),
        with("tool_choice", json!({"type": "function"})),
        with("tool_choice", json!({"type": "function", "function": {"name": "f"}})),
        with("tool_choice", json!({"type": "function", "function": {}})),
        with("tool_choice", json!({"function": {"name": "f"}})),
        with(
            "tool_choice",
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto",
            "tools": [{"type": "function", "function": {"name": "f"}}]}}),
        ),
        with("tool_choice", json!({"type": "allowed_tools", "allowed_tools": {"mode": "none"}})),
        with("tools", json!([{"type": "function", "function": {"name": "f", "parameters": []}}])),
        with("tools", json!([{"type": "custom", "custom": {"name": "f"}}])),
        with("response_format", json!({"type": "json_object", "schema": {"a": [1]}})),
        with("response_format", json!({"type": "json_schema", "json_schema": {"schema": {}}})),
        with(
            "response_format",
            json!({"type": "json_schema", "json_schema": {"name": "n", "schema": 1}}),
        ),
        with("guided_json", json!({"type": "object"})),
        with("guided_json", json!("{}")),
        with("guided_json", json!(7)),
        with("json_schema", json!("{}")),
        with("structured_outputs", json!({"json": "{}", "choice": ["a"], "regex": "x"})),
        with("structured_outputs", json!({"json_object": 1})),
        with("structured_outputs", json!("json")),
        with("reasoning_effort", json!("xhigh")),
        with("reasoning_effort", json!("endless")),
        with("thinking", json!(true)),
        with("thinking", json!({"type": "enabled"})),
        with("thinking", json!({})),
        with("thinking", json!("yes")),
        with("chat_template_kwargs", json!({"enable_thinking": false})),
        with("chat_template_kwargs", json!([])),
        with("stop_token_ids", json!([1])),
        with("stop_token_ids", json!(["a"])),
        with("tool_choice", json!("sometimes")),
        with("tool_choice", json!(1)),
        with("response_format", json!({"type": "json_schema", "json_schema": {"name": "n"}})),
        with("response_format", json!({"type": "xml"})),
        with("modalities", json!(["text", "audio"])),
        with("modalities", json!(["smell"])),
        with("logit_bias", json!({"5": -100})),
        with("logit_bias", json!([5])),
        with("metadata", json!({"a": "b"})),
        with("unheard_of", json!({"a": "b"})),
        message(json!({"role": "user", "content": [{"type": "text", "text": "a"}]})),
        message(json!({"role": "user", "content": [{"type": "text", "text": 5}]})),
        message(json!({"role": "user", "content": [{"type": "video"}]})),
        message(json!({"role": "user", "content": [{"text": "a"}]})),
        message(json!({"role": "user", "content": {"type": "text"}})),
        message(json!({"role": "assistant", "content": null, "tool_calls":
            [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]})),
        message(json!({"role": "assistant", "tool_calls": [{"id": "c", "type": null}]})),
        message(json!({"role": "assistant", "tool_calls": [{"type": "function"}]})),
        message(json!({"role": "assistant", "tool_calls":
            [{"id": "c", "function": {"name": "f", "arguments": {}}}]})),
        message(json!({"role": "tool", "tool_call_id": 7, "content": "x"})),
        message(json!({"role": "king", "content": "x"})),
        message(json!({"content": "x"})),
        message(json!(["user", "x"])),
        json!({}),
        json!({"messages": "hi"}),
        json!({"messages": null}),
    ];
    // `null` is absence, whatever the field.
    let nulls = document()["components"]["schemas"]["ChatCompletionRequest"]["properties"].take();
    let nulls: Vec<_> = nulls.as_object().unwrap().keys().cloned().collect();
    let nulls = nulls.iter().filter(|key| *key != "messages").map(|key| with(key, Value::Null));
    let requests: Vec<_> = requests.into_iter().chain(nulls).collect();
    let mut taken = 0;
    for request in &requests {
        let faults = faults_by_ours("ChatCompletionRequest", request);
        let read = serde_json::from_value::<ChatCompletionRequest>(request.clone());
        assert_eq!(faults.is_empty(), read.is_ok(), "{request}: {faults:?} and {read:?}");
        taken += usize::from(read.is_ok());
    }
    assert_eq!((requests.len() - taken, requests.len()), (41, 138));
}

#[test]
fn the_same_of_a_text() {
    let with = |key: &str, value: Value| {
        let mut request = json!({"prompt": "a"});
        request[key] = value;
        request
    };
    let requests = [
        CompletionRequest::example().to_json().unwrap(),
        json!({}),
        with("prompt", Value::Null),
        with("prompt", json!(7)),
        with("prompt", json!(["a", "b"])),
        with("prompt", json!([1, 2])),
        with("prompt", json!([[1, 2], [3]])),
        with("prompt", json!(["a", 1])),
        with("prompt", json!([1, "a"])),
        with("prompt", json!([1.5])),
        with("prompt", json!([[1], "a"])),
        with("prompt", json!({"a": 1})),
        with("echo", json!(1)),
        with("logprobs", json!(true)),
        with("suffix", json!("x")),
        with("best_of", json!(1)),
        with("max_tokens", json!("1")),
        with("stream_options", json!({"include_usage": true})),
    ];
    let nulls = document()["components"]["schemas"]["CompletionRequest"]["properties"].take();
    let nulls: Vec<_> = nulls.as_object().unwrap().keys().cloned().collect();
    let nulls = nulls.iter().filter(|key| *key != "prompt").map(|key| with(key, Value::Null));
    let mut taken = Vec::new();
    for request in requests.into_iter().chain(nulls) {
        let faults = faults_by_ours("CompletionRequest", &request);
        let read = serde_json::from_value::<CompletionRequest>(request.clone());
        assert_eq!(faults.is_empty(), read.is_ok(), "{request}: {faults:?} and {read:?}");
        taken.push(read.is_ok());
    }
    assert_eq!((taken.iter().filter(|taken| !**taken).count(), taken.len()), (11, 59));
}

async fn ask(request: Value) -> String {
    ask_for(hello(), request).await
}

async fn ask_for(script: Vec<Step>, request: Value) -> String {
    let app = rkllama_openapi::app(state(common::ScriptedEngine::playing(script)), limits());
    let response =
        TestClient::new(app).post("/v1/chat/completions").body_json(&request).send().await;
    response.0.into_body().into_string().await.unwrap()
}

fn user_says_hi(key: &str, value: Value) -> Value {
    let mut request = json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]});
    request[key] = value;
    request
}

/// Thoughts, text and calls: all that an answer can have.
fn rich() -> Vec<Step> {
    vec![
        started(Vec::new()),
        thought("Hm."),
        text("Hello"),
        call(0, "f"),
        arguments(0, "{}"),
        finished(Finish::ToolCalls),
    ]
}

#[tokio::test]
async fn a_whole_answer_is_valid_by_both_documents() {
    for (script, n) in [(hello(), 1), (rich(), 2)] {
        let answer = ask_for(script, user_says_hi("n", json!(n))).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(faults_by_ours("ChatCompletion", &answer), NONE);
        assert_eq!(faults_by_openai("CreateChatCompletionResponse", &answer), NONE);
    }
}

#[tokio::test]
async fn every_chunk_is_valid_by_both_documents() {
    for (script, chunks) in [(hello(), 7), (rich(), 8)] {
        let mut request = user_says_hi("stream", json!(true));
        request["stream_options"] = json!({"include_usage": true});
        let stream = ask_for(script, request).await;
        let data = common::data_of(&stream);
        assert_eq!(data.len(), chunks, "role, pieces, finish, usage, [DONE]");
        for chunk in data.iter().filter(|data| **data != "[DONE]") {
            let chunk: Value = serde_json::from_str(chunk).unwrap();
            assert_eq!(faults_by_ours("ChatChunk", &chunk), NONE);
            assert_eq!(faults_by_openai("CreateChatCompletionStreamResponse", &chunk), NONE);
        }
    }
}

#[tokio::test]
async fn a_completion_is_valid_by_both_documents() {
    let ask = async |more: Value| {
        let app = rkllama_openapi::app(state(common::ScriptedEngine::playing(hello())), limits());
        let client = TestClient::new(app);
        client.post("/v1/completions").body_json(&more).send().await
    };
    let whole = ask(json!({"model": "tiny", "prompt": ["a", "b"], "n": 2})).await;
    let whole = whole.json().await.value().deserialize::<Value>();
    assert_eq!(faults_by_ours("Completion", &whole), NONE);
    assert_eq!(faults_by_openai("CreateCompletionResponse", &whole), NONE);
    let options = json!({"include_usage": true});
    let stream = json!({"model": "tiny", "prompt": "a", "stream": true, "stream_options": options});
    let stream = ask(stream).await.0.into_body().into_string().await.unwrap();
    let data = common::data_of(&stream);
    assert_eq!(data.len(), 6, "three texts, finish, usage, [DONE]");
    for chunk in data.iter().filter(|data| **data != "[DONE]") {
        let mut chunk: Value = serde_json::from_str(chunk).unwrap();
        assert_eq!(faults_by_ours("CompletionChunk", &chunk), NONE);
        // A known defect of OpenAI's document: before the end the reason is null in truth.
        for choice in chunk["choices"].as_array_mut().unwrap() {
            if choice["finish_reason"].is_null() {
                choice["finish_reason"] = "stop".into();
            }
        }
        let mut faults = faults_by_openai("CreateCompletionResponse", &chunk);
        // And the usage, which is null there as in chats.
        faults.retain(|fault| !fault.ends_with("at /usage"));
        assert_eq!(faults, NONE);
    }
}

#[tokio::test]
async fn an_error_is_valid_by_both_documents() {
    let error: Value = serde_json::from_str(&ask(json!({})).await).unwrap();
    assert_eq!(faults_by_ours("ErrorResponse", &error), NONE);
    assert_eq!(faults_by_openai("ErrorResponse", &error), NONE);
}

#[tokio::test]
async fn models_and_health_are_valid() {
    let app = rkllama_openapi::app(state(common::ScriptedEngine::playing(Vec::new())), limits());
    let client = TestClient::new(app);
    for (path, ours, openai) in [
        ("/v1/models", "ModelList", Some("ListModelsResponse")),
        ("/v1/models/tiny", "ModelObject", Some("Model")),
        ("/v1/models/broken", "ModelObject", Some("Model")),
        ("/health", "Health", None),
    ] {
        let response = client.get(path).send().await;
        response.assert_status(StatusCode::OK);
        let value = response.json().await.value().deserialize::<Value>();
        assert_eq!(faults_by_ours(ours, &value), NONE, "{path}");
        if let Some(openai) = openai {
            assert_eq!(faults_by_openai(openai, &value), NONE, "{path}");
        }
    }
}

/// Whatever bound the document states, the server keeps.
#[tokio::test]
async fn a_number_beyond_a_documented_bound_is_refused() {
    let chat = async |field: &str, value: Value| ask(user_says_hi(field, value)).await;
    let bounds = bounds_kept("ChatCompletionRequest", chat).await;
    assert_eq!(bounds, 16, "a new bound: is it here for a reason?");
    let text = async |field: &str, value: Value| {
        let app = rkllama_openapi::app(state(common::ScriptedEngine::playing(hello())), limits());
        let request = json!({"model": "tiny", "prompt": "a", field: value});
        let response =
            TestClient::new(app).post("/v1/completions").body_json(&request).send().await;
        response.0.into_body().into_string().await.unwrap()
    };
    assert_eq!(bounds_kept("CompletionRequest", text).await, 18, "a new bound");
}

async fn bounds_kept(name: &str, ask: impl AsyncFn(&str, Value) -> String) -> usize {
    let schema = document()["components"]["schemas"][name].clone();
    let mut bounds = 0;
    for (field, property) in schema["properties"].as_object().unwrap() {
        let is_integer = property["type"] == "integer";
        let step = if is_integer { 1.0 } else { 0.5 };
        let is_exclusive = property["exclusiveMinimum"] == json!(true);
        let below =
            property["minimum"].as_f64().map(|min| if is_exclusive { min } else { min - step });
        let above = property["maximum"].as_f64().map(|max| max + step);
        for beyond in [below, above].into_iter().flatten() {
            #[expect(clippy::cast_possible_truncation, reason = "a small whole number")]
            let beyond = if is_integer { json!(beyond as i64) } else { json!(beyond) };
            let answer: Value = serde_json::from_str(&ask(field, beyond.clone()).await).unwrap();
            assert_eq!(answer["error"]["param"], json!(field), "{field}: {beyond}: {answer}");
            let code = answer["error"]["code"].as_str().unwrap();
            assert!(code.ends_with("_min_value") || code.ends_with("_max_value"), "{code}");
            bounds += 1;
        }
    }
    bounds
}
