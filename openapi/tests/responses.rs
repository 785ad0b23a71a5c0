//! `/v1/responses`, without sockets: what reaches the engine, what comes of it, and what is kept.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::sync::Arc;

use common::{
    ScriptedEngine, Step, arguments, call, chat, conversation, error, finished, hello, limits,
    schema::{faults_by_openai, faults_by_ours},
    shown, started, state, text, thought,
};
use poem::{
    http::StatusCode,
    test::{TestClient, TestResponse},
};
use rkllama_core::{EngineError, Finish, Format, IMAGE_MARK, ImageSource, Role, ToolChoice};
use rkllama_openapi::{KeptLimits, State};
use serde_json::{Value, json};

const NONE: [String; 0] = [];

fn request(more: &Value) -> Value {
    let mut request = json!({"model": "tiny", "input": "hi"});
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

async fn post(state: State, more: &Value) -> TestResponse {
    let client = TestClient::new(rkllama_openapi::app(state, limits()));
    client.post("/v1/responses").body_json(&request(more)).send().await
}

async fn ask(script: Vec<Step>, more: Value) -> TestResponse {
    post(state(ScriptedEngine::playing(script)), &more).await
}

async fn body(response: TestResponse) -> Value {
    response.assert_status_is_ok();
    response.json().await.value().deserialize()
}

async fn get(state: &State, path: &str) -> TestResponse {
    TestClient::new(rkllama_openapi::app(state.clone(), limits())).get(path).send().await
}

fn rich() -> Vec<Step> {
    vec![
        started(vec![]),
        thought("Hm"),
        thought("."),
        text("Let me see. "),
        call(0, "get_weather"),
        arguments(0, "{\"town\":"),
        arguments(0, "\"Ulm\"}"),
        call(1, "stop_all"),
        arguments(1, "{}"),
        finished(Finish::ToolCalls),
    ]
}

fn tools() -> Value {
    json!([
        {"type": "function", "name": "get_weather", "description": "The weather.", "strict": true,
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}}}},
        {"type": "function", "name": "stop_all"},
    ])
}

#[tokio::test]
async fn whole() {
    let plain = shown(ask(hello(), json!({})).await).await;
    let more = json!({"tools": tools(), "instructions": "Be brief.", "metadata": {"a": "b"},
        "reasoning": {"effort": "low", "summary": "auto"}, "max_output_tokens": 16,
        "temperature": 0.5, "text": {"verbosity": "low"}, "user": "u", "seed": 1});
    let rich = shown(ask(rich(), more).await).await;
    let cut = vec![started(vec!["top_k"]), text("It"), finished(Finish::Length)];
    let cut = shown(ask(cut, json!({})).await).await;
    let nothing = vec![started(vec![]), finished(Finish::Stop)];
    let nothing = shown(ask(nothing, json!({})).await).await;
    insta::assert_snapshot!([plain, rich, cut, nothing].join("\n\n"));
}

#[tokio::test]
async fn stream() {
    insta::assert_snapshot!(shown(ask(hello(), json!({"stream": true})).await).await);
}

#[tokio::test]
async fn stream_of_thoughts_and_calls() {
    let more = json!({"stream": true, "tools": tools()});
    let content = shown(ask(rich(), more.clone()).await).await;
    let mut more = more;
    more["reasoning"] = json!({"summary": "auto"});
    let summary = shown(ask(rich(), more).await).await;
    insta::assert_snapshot!(format!("{content}\n\n{summary}"));
}

#[tokio::test]
async fn stream_that_is_cut_or_breaks() {
    let more = json!({"stream": true});
    let cut = vec![started(vec![]), call(0, "f"), arguments(0, "{"), finished(Finish::Length)];
    let cut = shown(ask(cut, more.clone()).await).await;
    let broken = EngineError::Worker { model: "tiny".into(), what: "it died".into() };
    let broken = vec![started(vec![]), text("It"), error(broken)];
    let broken = shown(ask(broken, more).await).await;
    insta::assert_snapshot!(format!("{cut}\n\n{broken}"));
}

/// By our document and by OpenAI's; a stream ends in what a whole answer is.
#[tokio::test]
async fn bodies_and_events_are_valid() {
    for script in [hello(), rich(), vec![started(vec![]), finished(Finish::Length)]] {
        for more in [json!({}), json!({"reasoning": {"summary": "auto"}, "tools": tools()})] {
            let whole = body(ask(script.clone(), more.clone()).await).await;
            assert_eq!(faults_by_ours("Response", &whole), NONE);
            assert_eq!(faults_by_openai("Response", &whole), NONE);
            let mut more = more;
            more["stream"] = true.into();
            let stream = ask(script.clone(), more).await.0.into_body().into_string().await.unwrap();
            let events = events(&stream);
            for (place, (name, event)) in events.iter().enumerate() {
                assert_eq!(
                    (&event["type"], &event["sequence_number"]),
                    (&json!(name), &json!(place))
                );
                assert_eq!(faults_by_ours("ResponseEvent", event), NONE);
                assert_eq!(faults_by_openai("ResponseStreamEvent", event), NONE, "{event}");
            }
            let last = &events.last().unwrap().1["response"];
            let kinds = |response: &Value| {
                let items = response["output"].as_array().unwrap().iter();
                items.map(|i| (i["type"].clone(), i["content"].clone())).collect::<Vec<_>>()
            };
            assert_eq!((kinds(last), &last["status"]), (kinds(&whole), &whole["status"]));
        }
    }
}

fn events(stream: &str) -> Vec<(String, Value)> {
    let blocks = stream.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with(':'));
    let events = blocks.map(|block| {
        let (name, data) = block.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        (name.to_owned(), serde_json::from_str(data).unwrap())
    });
    events.collect()
}

#[tokio::test]
async fn the_request_is_translated() {
    let engine = ScriptedEngine::playing(hello());
    let schema = json!({"type": "object", "properties": {}});
    let more = json!({
        "instructions": "Be brief.", "tools": tools(), "parallel_tool_calls": false,
        "tool_choice": {"type": "function", "name": "stop_all"}, "max_output_tokens": 99,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": schema}},
        "reasoning": {"effort": "none"}, "top_k": 3, "stop": ["\n"],
        "input": [
            {"role": "developer", "content": "Politely."},
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
            {"type": "function_call", "call_id": "c1", "name": "stop_all", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "stop_all", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "done"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "too"}]},
        ],
    });
    post(state(Arc::clone(&engine)), &more).await.assert_status_is_ok();
    let asked = engine.last_request();
    let messages = conversation(&asked);
    let roles: Vec<_> =
        messages.iter().map(|m| (m.role, &*m.content, m.tool_calls.len())).collect();
    assert_eq!(
        roles,
        [
            (Role::System, "Be brief.", 0),
            (Role::Developer, "Politely.", 0),
            (Role::User, "a\nb", 0),
            (Role::Assistant, "Let me see.", 2),
            (Role::Tool, "done", 0),
            (Role::Tool, "too", 0),
        ]
    );
    assert_eq!(messages[3].reasoning.as_deref(), Some("Hm."));
    assert_eq!(messages[5].tool_call_id.as_deref(), Some("c2"));
    let chat = chat(&asked);
    assert_eq!(chat.tool_choice, ToolChoice::Named("stop_all".to_owned()));
    assert_eq!((chat.parallel_tool_calls, chat.thinking), (false, Some(false)));
    assert!(chat.tools[0].strict);
    assert_eq!(asked.format, Some(Format::JsonSchema(schema.to_string())));
    assert_eq!((asked.tokens_max, asked.sampling.top_k), (Some(99), Some(3)));
    assert_eq!(asked.stop, ["\n"]);
}

/// Each stands where it was put, and its field is named as it is now.
#[tokio::test]
async fn images_come_in_messages_and_results() {
    const URL: &str = "data:image/png;base64,YWJjZA==";
    let engine = ScriptedEngine::playing(hello());
    let state = state(Arc::clone(&engine));
    let image = |url: &str| json!({"type": "input_image", "image_url": url, "file_id": null});
    let input = json!([
        {"role": "user", "content": [
            {"type": "input_text", "text": "a"}, image(URL), {"type": "input_text", "text": "b"},
            {"type": "input_text", "text": "c"},
        ]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [image("https://a.example/x.png")]},
    ]);
    let first = body(post(state.clone(), &json!({"input": input})).await).await;
    let asked = engine.last_request();
    let said = |place: usize| {
        let message = &conversation(&asked)[place];
        let images = message.images.iter().map(|it| (&*it.field, it.source.clone()));
        (&*message.content, images.collect::<Vec<_>>())
    };
    let here = ImageSource::Bytes("abcd".into());
    let there = ImageSource::Url("https://a.example/x.png".to_owned());
    let mark = IMAGE_MARK.to_string();
    assert_eq!(said(0), (&*format!("a{mark}b\nc"), vec![("input[0].content[1].image_url", here)]));
    assert_eq!(said(2), (&*mark, vec![("input[2].output[0].image_url", there)]));

    let path = format!("/v1/responses/{}/input_items?order=asc", first["id"].as_str().unwrap());
    let items = body(get(&state, &path).await).await;
    let shown = json!({"type": "input_image", "image_url": URL, "detail": "auto"});
    assert_eq!(items["data"][0]["content"][1], shown);
    assert_eq!(items["data"][2]["output"][0]["image_url"], "https://a.example/x.png");
    assert_eq!(faults_by_ours("ResponseItemList", &items), NONE);
    assert_eq!(faults_by_openai("InputImageContent", &shown), NONE);
    assert_eq!(faults_by_openai("FunctionToolCallOutputResource", &items["data"][2]), NONE);

    let more = json!({"previous_response_id": first["id"], "input": [{"role": "user", "content": [
        {"type": "input_image", "image_url": URL, "detail": "high"},
    ]}]});
    let response = post(state.clone(), &more).await;
    response.assert_header("x-rkllama-ignored", "input[].content[].detail");
    let asked = engine.last_request();
    let images = conversation(&asked).iter().flat_map(|message| &message.images);
    let fields: Vec<_> = images.map(|image| &*image.field).collect();
    let earlier = "previous_response_id";
    assert_eq!(fields, [earlier, earlier, "input[0].content[0].image_url"]);
    let more = json!({"include": ["message.input_image.image_url"]});
    let response = post(state, &more).await;
    assert!(response.0.headers().get("x-rkllama-ignored").is_none());
}

/// The engine's word on an image comes with the field, as in chat completions.
#[tokio::test]
async fn an_image_that_cannot_be_used_is_named() {
    let field = "input[0].content[0].image_url".to_owned();
    let failed = EngineError::Image { field, reason: "is no image that can be read".to_owned() };
    let unsupported = EngineError::Unsupported { model: "tiny".to_owned(), what: "images" };
    let mut all = String::new();
    for failure in [failed, unsupported] {
        let content = json!([{"type": "input_image", "image_url": "data:;base64,YWJj"}]);
        let more = json!({"input": [{"role": "user", "content": content}]});
        all += &shown(ask(vec![error(failure)], more).await).await;
        all += "\n\n";
    }
    insta::assert_snapshot!(all);
}

/// The conversation goes on with all that was said, without the instructions of before.
#[tokio::test]
async fn a_response_goes_on_from_another() {
    let engine = ScriptedEngine::playing(rich());
    let state = state(Arc::clone(&engine));
    let first =
        body(post(state.clone(), &json!({"instructions": "x", "tools": tools()})).await).await;
    let call_id = &first["output"][2]["call_id"];
    let result = json!([{"type": "function_call_output", "call_id": call_id, "output": "sunny"}]);
    let more = json!({"previous_response_id": first["id"], "input": result});
    let second = body(post(state.clone(), &more).await).await;
    assert_eq!(second["previous_response_id"], first["id"]);
    let asked = engine.last_request();
    let said: Vec<_> = conversation(&asked).iter().map(|m| (m.role, &*m.content)).collect();
    let turn = (Role::Assistant, "Let me see. ");
    assert_eq!(said, [(Role::User, "hi"), turn, (Role::Tool, "sunny")]);
    assert_eq!(conversation(&asked)[1].tool_calls.len(), 2);

    let path = format!("/v1/responses/{}", second["id"].as_str().unwrap());
    assert_eq!(body(get(&state, &path).await).await, second);
    let items = body(get(&state, &format!("{path}/input_items?order=asc&limit=3")).await).await;
    let kinds: Vec<_> = items["data"].as_array().unwrap().iter().map(|i| &i["type"]).collect();
    assert_eq!(kinds, ["message", "reasoning", "message"]);
    assert_eq!(items["has_more"], true);
    assert_eq!(faults_by_ours("ResponseItemList", &items), NONE);
    let after = items["last_id"].as_str().unwrap();
    let rest =
        body(get(&state, &format!("{path}/input_items?order=asc&after={after}")).await).await;
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["has_more"]), (3, &json!(false)));
    let newest = body(get(&state, &format!("{path}/input_items?limit=1")).await).await;
    assert_eq!(newest["data"][0]["output"], "sunny");

    let reference = json!({"input": [{"type": "item_reference", "id": first["output"][1]["id"]}]});
    post(state.clone(), &reference).await.assert_status_is_ok();
    assert_eq!(conversation(&engine.last_request())[0].content, "Let me see. ");

    let client = TestClient::new(rkllama_openapi::app(state.clone(), limits()));
    let deleted = client.delete(&path).send().await;
    assert_eq!(
        body(deleted).await,
        json!({"id": second["id"], "object": "response", "deleted": true})
    );
    client.delete(&path).send().await.assert_status(StatusCode::NOT_FOUND);
    get(&state, &path).await.assert_status(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_not_to_be_kept_is_not() {
    let state = state(ScriptedEngine::playing(hello()));
    let response = body(post(state.clone(), &json!({"store": false})).await).await;
    let path = format!("/v1/responses/{}", response["id"].as_str().unwrap());
    get(&state, &path).await.assert_status(StatusCode::NOT_FOUND);
}

/// An image can be larger than all that may be kept: the answer says that nothing goes on from it.
#[tokio::test]
async fn what_is_too_large_to_be_kept_is_said_not_to_be() {
    let state = state(ScriptedEngine::playing(hello()));
    state.responses.limit(KeptLimits { bytes_max: 50_000, ..KeptLimits::default() });
    for (len, is_kept) in [(30_000, true), (60_000, false)] {
        let url = format!("data:;base64,{}", "A".repeat(len));
        let content = json!([{"type": "input_image", "image_url": url}]);
        for stream in [false, true] {
            let more = json!({"input": [{"role": "user", "content": content}], "stream": stream});
            let answer = post(state.clone(), &more).await;
            let response = if stream {
                let text = answer.0.into_body().into_string().await.unwrap();
                events(&text).pop().unwrap().1["response"].take()
            } else {
                body(answer).await
            };
            assert_eq!(response["store"], is_kept, "{len} {stream}");
            let path = format!("/v1/responses/{}", response["id"].as_str().unwrap());
            assert_eq!(get(&state, &path).await.0.status().is_success(), is_kept);
        }
    }
}

#[tokio::test]
async fn errors_about_kept_responses() {
    let state = state(ScriptedEngine::playing(hello()));
    let client = TestClient::new(rkllama_openapi::app(state.clone(), limits()));
    let mut all = String::new();
    for path in ["/v1/responses/resp_x", "/v1/responses/resp_x/input_items"] {
        all += &format!("GET {path}\n{}\n\n", shown(client.get(path).send().await).await);
    }
    all += &shown(client.delete("/v1/responses/resp_x").send().await).await;
    all += &shown(client.post("/v1/responses/resp_x/cancel").send().await).await;
    let response = body(post(state.clone(), &json!({})).await).await;
    let path = format!("/v1/responses/{}", response["id"].as_str().unwrap());
    all += &shown(client.post(format!("{path}/cancel")).send().await).await;
    for query in [
        "?stream=true",
        "/input_items?limit=0",
        "/input_items?limit=x",
        "/input_items?order=up",
        "/input_items?after=msg_x",
    ] {
        all += &format!(
            "\n\n{query}\n{}",
            shown(client.get(format!("{path}{query}")).send().await).await
        );
    }
    insta::assert_snapshot!(all);
}

#[tokio::test]
async fn refusals() {
    let cases = [
        json!({"input": null}),
        json!({"input": []}),
        json!({"input": 7}),
        json!({"input": [{"content": "x"}]}),
        json!({"input": [{"role": "wizard", "content": "x"}]}),
        json!({"input": [{"role": "user"}]}),
        json!({"input": [{"role": "user", "content": []}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file_x"}]}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": {"url": "x"}}]}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:;base64,=YWJj"}]}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "x"}]}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}),
        json!({"input": [{"role": "assistant", "content": [{"type": "input_image", "image_url": "data:;base64,YWJj"}]}]}),
        json!({"input": [{"type": "reasoning", "summary": [{"type": "input_image", "image_url": "data:;base64,YWJj"}]}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}),
        json!({"input": [{"type": "web_search_call", "id": "ws"}]}),
        json!({"input": [{"type": "nonsense"}]}),
        json!({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}),
        json!({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}),
        json!({"input": [{"type": "item_reference", "id": "msg_x"}]}),
        json!({"previous_response_id": "resp_x"}),
        json!({"tools": [{"type": "web_search"}]}),
        json!({"tools": [{"type": "file_search"}]}),
        json!({"tools": [{"type": "mcp", "server_label": "x"}]}),
        json!({"tools": [{"type": "code_interpreter"}]}),
        json!({"tools": [{"type": "image_generation"}]}),
        json!({"tools": [{"type": "computer_use_preview"}]}),
        json!({"tools": [{"type": "custom", "name": "x"}]}),
        json!({"tools": [{"type": "function"}]}),
        json!({"tools": [{"type": "function", "name": "a b"}]}),
        json!({"tools": [{"type": "function", "name": "a"}, {"type": "function", "name": "a"}]}),
        json!({"tool_choice": "required"}),
        json!({"tools": tools(), "tool_choice": {"type": "function", "name": "x"}}),
        json!({"tools": tools(), "tool_choice": {"type": "function"}}),
        json!({"tools": tools(), "tool_choice": {"type": "web_search_preview"}}),
        json!({"tools": tools(), "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}),
        json!({"text": {"format": {"type": "json_schema", "schema": {}}}}),
        json!({"text": {"format": {"type": "json_schema", "name": "n"}}}),
        json!({"text": {"format": {"type": "xml"}}}),
        json!({"reasoning": {"effort": "huge"}}),
        json!({"max_output_tokens": 15}),
        json!({"temperature": 3}),
        json!({"top_logprobs": 21}),
        json!({"metadata": {"a": 1}}),
        json!({"metadata": {"a".repeat(65): "x"}}),
        json!({"include": ["nonsense"]}),
        json!({"truncation": "maybe"}),
        json!({"background": true}),
        json!({"conversation": "conv_x"}),
        json!({"prompt": {"id": "pmpt_x"}}),
        json!({"stream": "yes"}),
        json!({"model": "nobody"}),
    ];
    let mut all = String::new();
    for case in cases {
        let engine = ScriptedEngine::playing(hello());
        let response = post(state(Arc::clone(&engine)), &case).await;
        assert!(engine.requests.lock().unwrap().is_empty(), "the engine was asked: {case}");
        let case: String = case.to_string().chars().take(120).collect();
        all += &format!("{case}\n{}\n\n", shown(response).await);
    }
    insta::assert_snapshot!(all);
}

/// With all that it goes on from; nothing is answered and nothing kept.
#[tokio::test]
async fn tokens_are_counted() {
    let engine = Arc::new(ScriptedEngine {
        script: hello(),
        counted: Some(Ok(26)),
        ..ScriptedEngine::default()
    });
    let state = state(Arc::clone(&engine));
    let first = body(post(state.clone(), &json!({})).await).await;
    let asked = json!({"model": "tiny", "previous_response_id": first["id"], "input": "and?",
        "instructions": "Be brief.", "tools": tools()});
    let client = TestClient::new(rkllama_openapi::app(state, limits()));
    for path in ["/v1/responses/input_tokens", "/responses/input_tokens"] {
        let counted = body(client.post(path).body_json(&asked).send().await).await;
        assert_eq!(counted, json!({"object": "response.input_tokens", "input_tokens": 26}));
        assert_eq!(faults_by_ours("InputTokens", &counted), NONE);
        let request = engine.last_request();
        let said: Vec<_> = conversation(&request).iter().map(|m| &*m.content).collect();
        assert_eq!(said, ["Be brief.", "hi", "Hello 🌍!", "and?"]);
        assert_eq!(chat(&request).tools.len(), 2);
    }
    let kept = client.get(format!("/v1/responses/{}", first["id"].as_str().unwrap())).send().await;
    assert_eq!(body(kept).await, first);
    let wrong = client.post("/v1/responses/input_tokens").body_json(&json!({"input": 7}));
    let wrong = shown(wrong.send().await).await;
    assert!(wrong.contains("\"param\":\"input\""), "{wrong}");
}

/// Schemas that were written on several lines must not end an event in its middle.
#[tokio::test]
async fn a_schema_on_several_lines_stays_in_its_event() {
    let client =
        TestClient::new(rkllama_openapi::app(state(ScriptedEngine::playing(hello())), limits()));
    let request = "{\"model\": \"tiny\", \"input\": \"hi\", \"stream\": true, \"tools\": [{\"type\": \
                   \"function\", \"name\": \"f\", \"parameters\": {\n\"type\":\r\n\"object\"\n}}]}";
    let response = client.post("/v1/responses").body(request).send().await;
    let stream = response.0.into_body().into_string().await.unwrap();
    assert_eq!(
        events(&stream)[0].1["response"]["tools"][0]["parameters"],
        json!({"type": "object"})
    );
}
