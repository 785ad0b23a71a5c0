//! `POST /v1/chat/completions` with tools: what reaches the engine, and what its calls become.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::sync::Arc;

use common::{
    ScriptedEngine, Step, arguments, call, chat, conversation, data_of, finished, limits, shown,
    started, state, text, thought,
};
use poem::test::{TestClient, TestResponse};
use rkllama_core::{Finish, Tool, ToolCall, ToolChoice};
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

fn tools() -> Value {
    json!([
        {"type": "function", "function": {
            "name": "get_weather", "description": "The weather.", "strict": true,
            // Keys that no sorted map would leave in place.
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}, "day": {"type": "string"}},
                "required": ["town"], "additionalProperties": false}}},
        {"type": "function", "function": {"name": "stop_all"}},
        {"type": "function", "function": {"name": "odd", "parameters": {"foo": "bar"}, "strict": null}},
    ])
}

/// "It is" and two calls.
fn calling() -> Vec<Step> {
    vec![
        started(vec![]),
        text("Let me see. "),
        call(0, "get_weather"),
        arguments(0, "{\"town\": \"L'Aqui"),
        arguments(0, "la\"}"),
        call(1, "stop_all"),
        arguments(1, "{}"),
        finished(Finish::ToolCalls),
    ]
}

async fn asked(more: Value) -> rkllama_core::Request {
    let engine = ScriptedEngine::playing(calling());
    post(state(Arc::clone(&engine)), &request(more)).await.assert_status_is_ok();
    engine.last_request()
}

#[tokio::test]
async fn tools_reach_the_engine_as_they_were_written() {
    let asked = asked(json!({"tools": tools(), "parallel_tool_calls": false})).await;
    let chat = chat(&asked);
    let tool = |name: &str| Tool {
        name: name.to_owned(),
        description: None,
        parameters: None,
        strict: false,
    };
    let parameters = tools()[0]["function"]["parameters"].to_string();
    assert_eq!(
        chat.tools,
        [
            Tool {
                description: Some("The weather.".to_owned()),
                parameters: Some(parameters),
                strict: true,
                ..tool("get_weather")
            },
            tool("stop_all"),
            Tool { parameters: Some("{\"foo\":\"bar\"}".to_owned()), ..tool("odd") },
        ]
    );
    assert_eq!((&chat.tool_choice, chat.parallel_tool_calls), (&ToolChoice::Auto, false));
}

#[tokio::test]
async fn the_choice_among_tools() {
    let named = |name: &str| ToolChoice::Named(name.to_owned());
    let function = |name: &str| json!({"type": "function", "function": {"name": name}});
    let allowed = |mode: &str| {
        json!({"type": "allowed_tools",
            "allowed_tools": {"mode": mode, "tools": [function("odd"), function("stop_all")]}})
    };
    let all = ["get_weather", "stop_all", "odd"].as_slice();
    let two = ["stop_all", "odd"].as_slice();
    for (choice, expected, names) in [
        (Value::Null, ToolChoice::Auto, all),
        (json!("auto"), ToolChoice::Auto, all),
        (json!("none"), ToolChoice::None, all),
        (json!("required"), ToolChoice::Required, all),
        (function("odd"), named("odd"), all),
        (allowed("auto"), ToolChoice::Auto, two),
        (allowed("required"), ToolChoice::Required, two),
    ] {
        let asked = asked(json!({"tools": tools(), "tool_choice": choice})).await;
        let chat = chat(&asked);
        assert_eq!(chat.tool_choice, expected, "{choice}");
        let offered: Vec<_> = chat.tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(offered, names, "{choice}");
        assert!(chat.parallel_tool_calls);
    }
    // Clients send these without tools.
    for choice in ["none", "auto"] {
        assert!(chat(&asked(json!({"tools": [], "tool_choice": choice})).await).tools.is_empty());
    }
}

/// The second round of a conversation with tools.
#[tokio::test]
async fn calls_and_results_reach_the_engine() {
    let call = |id: &str, arguments: &str| {
        json!({"id": id, "type": "function",
            "function": {"name": "get_weather", "arguments": arguments}})
    };
    let asked = asked(json!({"tools": tools(), "messages": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": null, "reasoning_content": "Two towns.", "reasoning": "-",
            "tool_calls": [call("call_a", "{\"town\":\"L'Aquila\"}"), call("call_b", "")]},
        {"role": "tool", "tool_call_id": "call_b", "content": [{"type": "text", "text": "wet"}]},
        {"role": "tool", "tool_call_id": "call_a", "name": "get_weather", "content": "dry"},
        // Calls without a result, and again with the same id.
        {"role": "assistant", "content": "Once more.", "tool_calls": [call("call_a", "{}"), call("c", "{}")]},
        {"role": "tool", "tool_call_id": "call_a", "content": ""},
    ]}))
    .await;
    let messages = conversation(&asked);
    let call = |id: &str, arguments: &str| ToolCall {
        id: id.to_owned(),
        name: "get_weather".to_owned(),
        arguments: arguments.to_owned(),
    };
    assert_eq!(
        messages[1].tool_calls,
        [call("call_a", "{\"town\":\"L'Aquila\"}"), call("call_b", "")]
    );
    assert_eq!(messages[1].reasoning.as_deref(), Some("Two towns."));
    assert_eq!(messages[1].content, "");
    let results: Vec<_> =
        messages.iter().map(|m| (m.tool_call_id.as_deref(), &*m.content)).collect();
    assert_eq!(results[2], (Some("call_b"), "wet"));
    assert_eq!(results[3], (Some("call_a"), "dry"));
    assert_eq!(results[4], (None, "Once more."));
    assert_eq!(results[5], (Some("call_a"), ""));
}

/// Everything that can be wrong about tools.
#[tokio::test]
async fn refusals() {
    let function = |function: Value| json!({"tools": [{"type": "function", "function": function}]});
    let choice = |choice: Value| json!({"tools": tools(), "tool_choice": choice});
    let allowed = |tools: Value| {
        choice(json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": tools}}))
    };
    let many: Vec<_> = (0..129)
        .map(|n| json!({"type": "function", "function": {"name": format!("f{n}")}}))
        .collect();
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let deep: Box<serde_json::value::RawValue> =
        serde_json::value::RawValue::from_string(deep).unwrap();
    let deep = serde_json::to_string(&deep).unwrap();
    let after_a_call = |message: Value| {
        let call = json!({"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        json!({"messages": [{"role": "assistant", "tool_calls": [call]}, message]})
    };
    let cases = [
        json!({"tools": {}}),
        json!({"tools": [{"type": "function"}]}),
        json!({"tools": [{"type": "custom", "custom": {"name": "c"}}]}),
        json!({ "tools": many }),
        function(json!({})),
        function(json!({"name": ""})),
        function(json!({"name": "get weather"})),
        function(json!({"name": "n".repeat(65)})),
        function(json!({"name": "f", "parameters": "{}"})),
        function(json!({"name": "f", "parameters": {"type": "string"}})),
        function(json!({"name": "f", "parameters": {"type": ["object", "null"]}})),
        function(json!({"name": "f", "strict": "yes"})),
        json!({"tools": [tools()[1], tools()[0], tools()[1]]}),
        json!({"tool_choice": "required"}),
        json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        choice(json!({"type": "function"})),
        choice(json!({"type": "function", "function": {}})),
        choice(json!({"type": "function", "function": {"name": "nobody"}})),
        choice(json!({"type": "custom", "custom": {"name": "c"}})),
        choice(json!({"type": "gadget"})),
        choice(json!({"type": "allowed_tools"})),
        choice(json!({"type": "allowed_tools", "allowed_tools": {"mode": "none", "tools": []}})),
        allowed(json!([])),
        allowed(json!([{"type": "function", "function": {"name": "nobody"}}])),
        json!({"messages": [{"role": "tool", "tool_call_id": "call_a", "content": "x"}]}),
        after_a_call(json!({"role": "tool", "content": "x"})),
        after_a_call(json!({"role": "tool", "tool_call_id": "call_b", "content": "x"})),
        json!({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": ""}}]}]}),
        json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]}),
        json!({"messages": [{"role": "assistant", "tool_calls":
            [{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}]}]}),
        json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]}]}),
    ];
    let mut all = String::new();
    for case in cases {
        let engine = ScriptedEngine::playing(calling());
        let response = post(state(Arc::clone(&engine)), &request(case.clone())).await;
        assert!(engine.requests.lock().unwrap().is_empty(), "the engine was asked: {case}");
        let case: String = case.to_string().chars().take(200).collect();
        all += &format!("{case}\n{}\n\n", shown(response).await);
    }
    let schema = format!("{{\"x\":{deep}}}");
    let body = format!(
        r#"{{"model":"tiny","messages":[{{"role":"user","content":"hi"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]}}"#
    );
    let client =
        TestClient::new(rkllama_openapi::app(state(ScriptedEngine::playing(vec![])), limits()));
    let response = client.post("/v1/chat/completions").body(body).send().await;
    all += &format!("200 levels\n{}\n\n", shown(response).await);
    insta::assert_snapshot!(all);
}

#[tokio::test]
async fn whole() {
    let engine = ScriptedEngine::playing(calling());
    let answer = post(state(engine), &request(json!({"tools": tools()}))).await;
    insta::assert_snapshot!(shown(answer).await);
}

#[tokio::test]
async fn stream() {
    let engine = ScriptedEngine::playing(calling());
    let more = json!({"tools": tools(), "stream": true, "stream_options": {"include_usage": true}});
    insta::assert_snapshot!(shown(post(state(engine), &request(more)).await).await);
}

/// The content is null where there are calls and nothing else.
#[tokio::test]
async fn calls_alone() {
    let script = vec![
        started(vec![]),
        thought("They want weather."),
        call(0, "get_weather"),
        arguments(0, "{}"),
        finished(Finish::ToolCalls),
    ];
    let whole =
        post(state(ScriptedEngine::playing(script.clone())), &request(json!({"tools": tools()})))
            .await;
    let more = json!({"tools": tools(), "stream": true});
    let stream = post(state(ScriptedEngine::playing(script)), &request(more)).await;
    insta::assert_snapshot!(format!("{}\n\n{}", shown(whole).await, shown(stream).await));
}

/// Two answers to the same prompt never share a call's id.
#[tokio::test]
async fn each_call_has_an_id_of_its_own() {
    let more = json!({"tools": tools(), "n": 2});
    let answer = post(state(ScriptedEngine::playing(calling())), &request(more)).await;
    let answer = answer.json().await.value().deserialize::<Value>();
    let mut ids: Vec<_> = answer["choices"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|choice| choice["message"]["tool_calls"].as_array().unwrap())
        .map(|call| call["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(ids.iter().all(|id| id.starts_with("call_") && id.len() == 37), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

/// The first call stays, also where the answer broke off in the second.
#[tokio::test]
async fn one_call_where_only_one_is_wanted() {
    let mut script = calling();
    *script.last_mut().unwrap() = finished(Finish::Length);
    for stream in [false, true] {
        let more = json!({"tools": tools(), "parallel_tool_calls": false, "stream": stream});
        let answer = post(state(ScriptedEngine::playing(script.clone())), &request(more)).await;
        let body = answer.0.into_body().into_string().await.unwrap();
        assert!(body.contains("get_weather") && !body.contains("stop_all"), "{body}");
        assert!(body.contains("\"finish_reason\":\"tool_calls\""), "{body}");
    }
}

#[tokio::test]
async fn a_call_that_is_cut_by_the_limit_says_so() {
    let script =
        vec![started(vec![]), call(0, "f"), arguments(0, "{\"a\": "), finished(Finish::Length)];
    let answer =
        post(state(ScriptedEngine::playing(script)), &request(json!({"tools": tools()}))).await;
    let answer = answer.json().await.value().deserialize::<Value>();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(
        answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"],
        "{\"a\": "
    );
}

/// Joined, the pieces of a stream are what a whole answer says.
#[tokio::test]
async fn the_pieces_join_to_the_whole() {
    let more = json!({"tools": tools(), "stream": true});
    let response = post(state(ScriptedEngine::playing(calling())), &request(more)).await;
    let body = response.0.into_body().into_string().await.unwrap();
    let mut joined = [String::new(), String::new()];
    for data in data_of(&body) {
        let Ok(chunk) = serde_json::from_str::<Value>(data) else { continue };
        for call in chunk["choices"][0]["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            joined[index] += call["function"]["arguments"].as_str().unwrap();
        }
    }
    assert_eq!(joined, ["{\"town\": \"L'Aquila\"}", "{}"]);
}
