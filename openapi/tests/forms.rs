//! The form of an answer, thoughts, and the prompt's end: chat fields that change what is asked of
//! the engine.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::sync::Arc;

use common::{
    ScriptedEngine, Step, chat, error, finished, limits, shown, started, state, text, thought,
};
use poem::test::{TestClient, TestResponse};
use rkllama_core::{EngineError, Finish, Format};
use rkllama_openapi::State;
use serde_json::{Value, json};

async fn post(state: State, request: &Value) -> TestResponse {
    let client = TestClient::new(rkllama_openapi::app(state, limits()));
    client.post("/v1/chat/completions").body_json(request).send().await
}

fn request(more: Value) -> Value {
    let mut request = json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]});
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

async fn asked(more: Value) -> rkllama_core::Request {
    let engine = ScriptedEngine::playing(common::hello());
    let response = post(state(Arc::clone(&engine)), &request(more.clone())).await;
    assert!(response.0.status().is_success(), "{more}: {}", shown(response).await);
    engine.last_request()
}

#[tokio::test]
async fn every_way_to_ask_for_a_form() {
    let schema = json!({"type": "object", "properties": {"z": {}, "a": {}}});
    let by_schema = Some(Format::JsonSchema(schema.to_string()));
    let openai = json!({"type": "json_schema",
        "json_schema": {"name": "n", "description": "d", "strict": true, "schema": schema}});
    for (more, expected) in [
        (json!({}), None),
        (json!({"response_format": null}), None),
        (json!({"response_format": {"type": "text"}}), None),
        (json!({"response_format": {"type": "json_object"}}), Some(Format::JsonObject)),
        (json!({"response_format": openai}), by_schema.clone()),
        (json!({"response_format": {"type": "json_object", "schema": schema}}), by_schema.clone()),
        (json!({"json_schema": schema}), by_schema.clone()),
        (json!({"guided_json": schema}), by_schema.clone()),
        (json!({"guided_json": schema.to_string()}), by_schema.clone()),
        (json!({"structured_outputs": {"json": schema}}), by_schema.clone()),
        (
            json!({"structured_outputs": {"json": schema.to_string(), "json_object": null}}),
            by_schema.clone(),
        ),
        (json!({"structured_outputs": {"json_object": true}}), Some(Format::JsonObject)),
        (json!({"structured_outputs": {"json_object": false}}), None),
        (json!({"response_format": {"type": "text"}, "guided_json": schema}), by_schema.clone()),
    ] {
        assert_eq!(asked(more.clone()).await.format, expected, "{more}");
    }
}

#[tokio::test]
async fn refusals() {
    let form = |format: Value| json!({ "response_format": format });
    let schema = |schema: Value| form(json!({"type": "json_schema", "json_schema": schema}));
    let cases = [
        form(json!("json_object")),
        form(json!({})),
        form(json!({"type": "json_schema"})),
        form(json!({"type": "json_object", "schema": []})),
        schema(json!({"schema": {}})),
        schema(json!({"name": "n"})),
        schema(json!({"name": "a b", "schema": {}})),
        schema(json!({"name": "n".repeat(65), "schema": {}})),
        schema(json!({"name": "n", "schema": true})),
        schema(json!({"name": "n", "schema": {}, "strict": 1})),
        schema(json!({"name": "n", "schema": {"description": "x".repeat(300_000)}})),
        json!({"json_schema": "x"}),
        json!({"guided_json": "x"}),
        json!({"guided_json": 7}),
        json!({"guided_json": "[]"}),
        json!({"structured_outputs": []}),
        json!({"structured_outputs": {"json": 7}}),
        json!({"structured_outputs": {"json": {}, "json_object": true}}),
        json!({"response_format": {"type": "json_object"}, "guided_json": {}}),
        json!({"continue_final_message": true, "add_generation_prompt": true}),
        json!({"continue_final_message": true, "messages": [{"role": "assistant", "content": null,
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]}]}),
        json!({"continue_final_message": true, "tool_choice": "required",
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "messages": [{"role": "assistant", "content": "x"}]}),
    ];
    let mut all = String::new();
    for case in cases {
        let engine = ScriptedEngine::playing(common::hello());
        let response = post(state(Arc::clone(&engine)), &request(case.clone())).await;
        assert!(engine.requests.lock().unwrap().is_empty(), "the engine was asked: {case}");
        let case: String = case.to_string().chars().take(200).collect();
        all += &format!("{case}\n{}\n\n", shown(response).await);
    }
    insta::assert_snapshot!(all);
}

/// What the engine cannot hold is blamed on the field that asked for it.
#[tokio::test]
async fn the_engines_refusals_name_the_field() {
    let reason = "the keyword `unevaluatedItems` is not supported".to_owned();
    let script = vec![error(EngineError::Format { reason })];
    for (more, param) in [
        (json!({"response_format": {"type": "json_object"}}), "response_format"),
        (json!({"guided_json": {}}), "guided_json"),
        (json!({"structured_outputs": {"json": {}}}), "structured_outputs.json"),
        (json!({"tools": [{"type": "function", "function": {"name": "f"}}]}), "tools"),
    ] {
        let response = post(state(ScriptedEngine::playing(script.clone())), &request(more)).await;
        response.assert_status(poem::http::StatusCode::BAD_REQUEST);
        let answer = response.json().await.value().deserialize::<Value>();
        assert_eq!(answer["error"]["param"], param);
        assert_eq!(answer["error"]["code"], "invalid_value");
    }
}

#[tokio::test]
async fn whether_and_how_much_the_model_thinks() {
    let kwargs = |kwargs: Value| json!({ "chat_template_kwargs": kwargs });
    for (more, thinking, effort) in [
        (json!({}), None, None),
        (json!({"reasoning_effort": null}), None, None),
        (json!({"reasoning_effort": "none"}), Some(false), None),
        (json!({"reasoning_effort": "minimal"}), None, Some("minimal")),
        (json!({"reasoning_effort": "high"}), None, Some("high")),
        (json!({"reasoning_effort": "xhigh"}), None, Some("xhigh")),
        (json!({"enable_thinking": false}), Some(false), None),
        (json!({"enable_thinking": true, "reasoning_effort": "none"}), Some(true), None),
        (json!({"thinking": {"type": "disabled"}}), Some(false), None),
        (json!({"thinking": {"type": "enabled"}}), Some(true), None),
        (json!({"thinking": {"type": "auto"}}), None, None),
        (json!({"thinking": false}), Some(false), None),
        (json!({"thinking": true, "enable_thinking": false}), Some(false), None),
        (kwargs(json!({"enable_thinking": false})), Some(false), None),
        (kwargs(json!({"thinking": true})), Some(true), None),
        (kwargs(json!({"enable_thinking": null, "x": 1})), None, None),
    ] {
        let asked = asked(more.clone()).await;
        let chat = chat(&asked);
        assert_eq!((chat.thinking, chat.reasoning_effort.as_deref()), (thinking, effort), "{more}");
        assert!(chat.split_reasoning);
    }
    let variables = json!({"enable_thinking": false, "z": [1], "a": null});
    let request = asked(kwargs(variables.clone())).await;
    assert_eq!(chat(&request).template_variables, Some(variables.to_string()));
    let request = asked(json!({"reasoning_format": "none"})).await;
    assert!(!chat(&request).split_reasoning);
}

#[tokio::test]
async fn the_end_of_the_prompt_and_of_the_answer() {
    let begun = json!({"messages": [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well, "}]});
    assert!(!chat(&asked(begun.clone()).await).continue_last);
    for prompted in [Value::Null, json!(false)] {
        let mut more = begun.clone();
        more["continue_final_message"] = true.into();
        more["add_generation_prompt"] = prompted;
        assert!(chat(&asked(more).await).continue_last);
    }
    assert!(!asked(json!({"add_generation_prompt": true})).await.ignore_eos);
    assert!(asked(json!({"ignore_eos": true})).await.ignore_eos);
}

fn thinking() -> Vec<Step> {
    vec![started(vec![]), thought("Say "), thought("hello."), text("Hello"), finished(Finish::Stop)]
}

#[tokio::test]
async fn thoughts_are_told_apart() {
    let whole = post(state(ScriptedEngine::playing(thinking())), &request(json!({}))).await;
    let more = json!({"stream": true});
    let stream = post(state(ScriptedEngine::playing(thinking())), &request(more)).await;
    insta::assert_snapshot!(format!("{}\n\n{}", shown(whole).await, shown(stream).await));
}

#[tokio::test]
async fn thoughts_can_be_left_out() {
    for stream in [false, true] {
        let more = json!({"include_reasoning": false, "stream": stream});
        let answer = post(state(ScriptedEngine::playing(thinking())), &request(more)).await;
        let body = answer.0.into_body().into_string().await.unwrap();
        assert!(body.contains("Hello") && !body.contains("reasoning_content"), "{body}");
        assert!(!body.contains("Say"), "{body}");
    }
}
