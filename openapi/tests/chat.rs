//! `POST /v1/chat/completions`, without sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use common::{
    ListedModels, ScriptedEngine, Step, conversation, coverage_of, data_of, error, finished, hello,
    incomplete, limits, model, shown, started, state, state_with, text,
};
use poem::{
    http::StatusCode,
    test::{TestClient, TestResponse},
};
use rkllama_core::{EngineError, Finish, ModelError, Role, Sampling};
use rkllama_openapi::{Fallbacks, State};
use serde_json::{Value, json};

async fn post(state: State, request: &Value) -> TestResponse {
    let client = TestClient::new(rkllama_openapi::app(state, limits()));
    client.post("/v1/chat/completions").body_json(request).send().await
}

/// Asks a server that plays `script`, with the keys of `more` besides a short conversation.
async fn ask(script: Vec<Step>, more: Value) -> TestResponse {
    post(state(ScriptedEngine::playing(script)), &hi(more)).await
}

fn hi(more: Value) -> Value {
    let mut request = json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]});
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

#[tokio::test]
async fn whole() {
    insta::assert_snapshot!(shown(ask(hello(), json!({})).await).await);
}

#[tokio::test]
async fn whole_cut_by_its_limit() {
    let script = vec![started(vec![]), text("Hel"), finished(Finish::Length)];
    insta::assert_snapshot!(shown(ask(script, json!({"max_tokens": 5})).await).await);
}

#[tokio::test]
async fn whole_without_any_text() {
    let script = vec![started(vec![]), finished(Finish::Length)];
    insta::assert_snapshot!(shown(ask(script, json!({"max_tokens": 0})).await).await);
}

#[tokio::test]
async fn stream() {
    insta::assert_snapshot!(shown(ask(hello(), json!({"stream": true})).await).await);
}

#[tokio::test]
async fn stream_with_usage() {
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    insta::assert_snapshot!(shown(ask(hello(), more).await).await);
}

#[tokio::test]
async fn stream_without_any_text() {
    let script = vec![started(vec![]), finished(Finish::Length)];
    insta::assert_snapshot!(shown(ask(script, json!({"stream": true})).await).await);
}

#[tokio::test]
async fn stream_that_breaks_in_the_middle() {
    let what = "died: SIGSEGV".to_owned();
    let broken = error(EngineError::Worker { model: "tiny".into(), what });
    let script = vec![started(vec![]), text("Hel"), broken];
    insta::assert_snapshot!(shown(ask(script, json!({"stream": true})).await).await);
}

#[tokio::test]
async fn stream_that_ends_in_the_middle_without_a_word() {
    let script = vec![started(vec![]), text("Hel")];
    insta::assert_snapshot!(shown(ask(script, json!({"stream": true})).await).await);
}

#[tokio::test]
async fn stream_options_without_stream_are_ignored() {
    let response = ask(hello(), json!({"stream_options": {"include_usage": true}})).await;
    response.assert_content_type("application/json");
}

/// All chunks of a stream carry the same id and time.
#[tokio::test]
async fn a_stream_has_one_id() {
    let response = ask(hello(), json!({"stream": true})).await;
    let body = response.0.into_body().into_string().await.unwrap();
    let mut heads: Vec<_> = data_of(&body)
        .iter()
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .map(|chunk| (chunk["id"].to_string(), chunk["created"].to_string()))
        .collect();
    assert_eq!(heads.len(), 5);
    heads.dedup();
    assert_eq!(heads.len(), 1);
}

/// What the engine can say, the same whole and streamed as long as no text has come.
#[tokio::test]
async fn errors_of_the_engine() {
    let model = "tiny".to_owned();
    let reason = "librkllmrt.so 1.1.4 is too old".to_owned();
    let errors = [
        EngineError::Model(ModelError::NotFound { name: "tiny".into() }),
        EngineError::Model(ModelError::Ambiguous {
            name: "tiny".into(),
            candidates: vec!["a".into(), "b".into()],
        }),
        EngineError::Model(ModelError::Incomplete {
            model: model.clone(),
            reason: "no template".into(),
        }),
        EngineError::Model(ModelError::Unreadable {
            path: "/secret/path".into(),
            reason: "Permission denied".into(),
        }),
        EngineError::Template { reason: "Conversation roles must alternate".into() },
        EngineError::ContextExceeded {
            prompt_tokens: rkllama_core::PromptTokens::Exactly(8227),
            context_tokens_max: 8192,
            margin_tokens: 32,
        },
        EngineError::QueueFull { what: format!("model '{model}'"), waiting: 8 },
        EngineError::QueueTimeout { model: model.clone(), waited_s: 600 },
        EngineError::Degraded {
            model: model.clone(),
            what: "its worker died 3 times in a row".into(),
            retry_after_s: 4,
        },
        EngineError::Runtime { reason: reason.clone() },
        EngineError::Load { model: model.clone(), reason },
        EngineError::Worker { model, what: "stopped answering".into() },
        EngineError::Run { reason: "rkllm_run returned -1".into() },
        EngineError::ShuttingDown,
    ];
    let mut all = String::new();
    for engine_error in errors {
        let script = || vec![started(vec![]), error(engine_error.clone())];
        let whole = shown(ask(script(), json!({})).await).await;
        let streamed = shown(ask(script(), json!({"stream": true})).await).await;
        assert_eq!(whole, streamed, "{engine_error:?}");
        assert!(!whole.contains("/secret"), "{whole}");
        all += &format!("{engine_error:?}\n{whole}\n\n");
    }
    insta::assert_snapshot!(all);
}

/// Everything that is wrong with a request by itself.
#[tokio::test]
async fn refusals() {
    let said = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let part = |part: Value| said(json!([{"type": "text", "text": "a"}, part]));
    let message = |message: Value| json!({"messages": [{"role": "user", "content": "a"}, message]});
    let cases = [
        json!({"messages": []}),
        json!({"messages": null}),
        json!({"messages": "hi"}),
        json!({"messages": [["user", "hi"]]}),
        json!({"model": 3}),
        json!({"model": "nobody"}),
        json!({"model": "twin"}),
        json!({"model": "broken"}),
        message(json!({"content": "x"})),
        message(json!({"role": "king", "content": "x"})),
        message(json!({"role": "user"})),
        message(json!({"role": "tool", "content": null})),
        message(json!({"role": "user", "content": "x", "tool_calls":
            [{"id": "c", "function": {"name": "f", "arguments": ""}}]})),
        message(json!({"role": "assistant", "function_call": {"name": "f", "arguments": ""}})),
        message(json!({"role": "assistant", "audio": {"id": "a"}})),
        said(json!(7)),
        said(json!([])),
        part(json!({"text": "no type"})),
        part(json!({"type": "text"})),
        part(json!({"type": "text", "text": 5})),
        part(json!({"type": "video"})),
        part(json!({"type": "image_url", "image_url": {"url": "data:,"}})),
        part(json!({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}})),
        part(json!({"type": "file", "file": {"file_id": "f"}})),
        json!({"temperature": "hot"}),
        json!({"temperature": 200}),
        json!({"temperature": -0.1}),
        json!({"top_p": 1.01}),
        json!({"presence_penalty": 2.5}),
        json!({"frequency_penalty": -2.5}),
        json!({"repeat_penalty": 0}),
        json!({"repetition_penalty": 1e300}),
        json!({"repeat_penalty": 1e-300}),
        json!({"max_tokens": "4"}),
        json!({"max_tokens": 4.5}),
        json!({"n": 0}),
        json!({"n": 9}),
        json!({"logprobs": true, "top_logprobs": 21}),
        json!({"top_logprobs": 1}),
        json!({"stop": 5}),
        json!({"stop": ["a", 5]}),
        json!({"stream": "yes"}),
        json!({"stream_options": true}),
        json!({"tools": [{"function": {"name": "f"}}]}),
        json!({"tool_choice": "sometimes"}),
        json!({"response_format": {"type": "xml"}}),
        json!({"reasoning_effort": "endless"}),
        json!({"reasoning_format": "deepseek-legacy"}),
        json!({"thinking": {"type": "perhaps"}}),
        json!({"thinking": "yes"}),
        json!({"chat_template_kwargs": [1]}),
        json!({"chat_template_kwargs": {"enable_thinking": "yes"}}),
        json!({"continue_final_message": true}),
        json!({"modalities": ["text", "audio"]}),
        json!({"seed": "x"}),
    ];
    let mut all = String::new();
    for case in cases {
        let engine = ScriptedEngine::playing(hello());
        let response = post(state(Arc::clone(&engine)), &hi(case.clone())).await;
        assert!(engine.requests.lock().unwrap().is_empty(), "the engine was asked: {case}");
        all += &format!("{case}\n{}\n\n", shown(response).await);
    }
    insta::assert_snapshot!(all);
}

/// Every field whose schema is a list of words: whatever is no string is named with its place,
/// also an object that has one of the words as its key.
#[tokio::test]
async fn a_word_is_a_string_and_nothing_else() {
    let messages = |message: Value| json!({ "messages": [message] });
    let a_part = |kind: Value| messages(json!({"role": "user", "content": [{ "type": kind }]}));
    type Request<'a> = &'a dyn Fn(Value) -> Value;
    let fields: [(&str, &str, Request<'_>); 7] = [
        ("messages[0].role", "user", &|v| messages(json!({"role": v, "content": "x"}))),
        ("messages[0].content[0].type", "text", &a_part),
        ("tools[0].type", "function", &|v| json!({"tools": [{ "type": v }]})),
        ("tool_choice", "none", &|v| json!({ "tool_choice": v })),
        ("response_format.type", "text", &|v| json!({"response_format": { "type": v }})),
        ("modalities[0]", "text", &|v| json!({ "modalities": [v] })),
        ("reasoning_effort", "none", &|v| json!({ "reasoning_effort": v })),
    ];
    for (param, word, request) in fields {
        for wrong in [Value::Null, json!(1), json!([word]), json!({ word: null })] {
            // Null is absence there, and an object names a tool.
            let may_be_null = ["tool_choice", "reasoning_effort"].contains(&param);
            if may_be_null && wrong.is_null() || param == "tool_choice" && wrong.is_object() {
                continue;
            }
            let response = ask(hello(), request(wrong.clone())).await;
            let status = response.0.status();
            let answer = response.json().await.value().deserialize::<Value>();
            let error = &answer["error"];
            assert_eq!(status, StatusCode::BAD_REQUEST, "{param}: {wrong}");
            assert_eq!(error["code"], "invalid_type", "{param}: {wrong}: {answer}");
            assert_eq!(error["param"], param, "{wrong}: {answer}");
        }
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_object() {
    let client =
        TestClient::new(rkllama_openapi::app(state(ScriptedEngine::playing(hello())), limits()));
    let mut all = String::new();
    for body in
        ["", "{", "[]", "7", "null", "{} x", "{\"messages\": [}", "\u{0}", r#"{"n":1,"n":1}"#]
    {
        // Without a content type too: people use `curl -d`.
        let response = client.post("/v1/chat/completions").body(body).send().await;
        all += &format!("{body:?}\n{}\n\n", shown(response).await);
    }
    insta::assert_snapshot!(all);
}

/// An answer to a huge value is small.
#[tokio::test]
async fn little_of_a_value_is_repeated() {
    for huge in [json!({"model": "é".repeat(100_000)}), json!({"tool_choice": "é".repeat(100_000)})]
    {
        let answer = shown(ask(hello(), huge).await).await;
        assert!(answer.len() < 1000, "{} bytes", answer.len());
    }
}

#[tokio::test]
async fn a_panic_is_a_server_error_in_the_apis_shape() {
    let response = ask(vec![Step::Panic], json!({})).await;
    insta::assert_snapshot!(shown(response).await);
}

/// One sample of use for each ignored field, one of misuse for each refused one. The table of
/// fields says which must be here.
#[tokio::test]
async fn every_ignored_field_is_named_and_every_refused_one_refused() {
    let mut samples = json!({
        "seed": 7, "ignore_eos": true, "logit_bias": {"5": -100}, "min_p": 0.05,
        "verbosity": "low", "cache_prompt": false, "num_ctx": 8192.0, "min_tokens": 5,
        "typical_p": 0.5, "repeat_last_n": 64, "mirostat": 2, "id_slot": 0,
        "prediction": {"type": "content", "content": "x"}, "service_tier": "flex", "store": true,
        "metadata": {"a": "b"}, "user": "u", "safety_identifier": "u", "prompt_cache_key": "k",
        "prompt_cache_options": {"mode": "x"}, "prompt_cache_retention": "24h",
        "web_search_options": {}, "moderation": {}, "audio": {"voice": "alloy", "format": "wav"},
        "functions": [{"name": "f"}], "function_call": "auto",
        "messages[].content[].image_url.detail": {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:;base64,AAAA", "detail": "high"}},
        ]}]},
        "stream_options.include_obfuscation": {"stream": true, "stream_options": {"include_obfuscation": true}},
    });
    let refused = json!({
        "modalities": ["audio"], "add_generation_prompt": false, "chat_template": "{{ x }}",
        "grammar": "root ::= [ab]", "guided_grammar": "x", "guided_regex": "a|b",
        "guided_choice": ["a", "b"], "stop_token_ids": [7], "include_stop_str_in_output": true,
        "structured_outputs.regex": {"structured_outputs": {"regex": "a|b"}},
        "structured_outputs.choice": {"structured_outputs": {"choice": ["a", "b"]}},
        "structured_outputs.grammar": {"structured_outputs": {"grammar": "x"}},
        "structured_outputs.structural_tag": {"structured_outputs": {"structural_tag": {}}},
        "messages[].function_call":
            {"messages": [{"role": "assistant", "function_call": {"name": "f"}}]},
        "messages[].audio": {"messages": [{"role": "assistant", "audio": {"id": "a"}}]},
        "messages[].content[].input_audio":
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        "messages[].content[].file":
            {"messages": [{"role": "user", "content": [{"type": "file"}]}]},
    });
    samples.as_object_mut().unwrap().extend(refused.as_object().unwrap().clone());
    let mut seen = 0;
    for (field, class) in coverage_of("POST /v1/chat/completions") {
        if class == "honoured" {
            continue;
        }
        let sample = &samples[&field];
        assert!(!sample.is_null(), "no sample for {field}");
        let is_nested = field.contains('.');
        let more = if is_nested { sample.clone() } else { json!({&field: sample}) };
        let response = ask(hello(), more).await;
        if class == "ignored" {
            response.assert_status_is_ok();
            response.assert_header("x-rkllama-ignored", field);
        } else {
            response.assert_status(StatusCode::BAD_REQUEST);
            let answer = response.json().await.value().deserialize::<Value>();
            assert_eq!(answer["error"]["code"], "unsupported_parameter");
            let param = answer["error"]["param"].as_str().unwrap();
            assert_eq!(param.replace("[0]", "[]"), field);
        }
        seen += 1;
    }
    assert_eq!(seen, samples.as_object().unwrap().len());
}

#[tokio::test]
async fn tokens_are_counted() {
    for (counted, status) in [
        (Ok(37), StatusCode::OK),
        (Err(EngineError::ShuttingDown), StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let engine =
            Arc::new(ScriptedEngine { counted: Some(counted), ..ScriptedEngine::default() });
        let client = TestClient::new(rkllama_openapi::app(state(Arc::clone(&engine)), limits()));
        for path in ["/v1/chat/completions/input_tokens", "/chat/completions/input_tokens"] {
            let body = json!({"model": "tiny", "stream": true, "max_tokens": 4,
                "messages": [{"role": "user", "content": "hi"}]});
            let response = client.post(path).body_json(&body).send().await;
            response.assert_status(status);
            assert_eq!(conversation(&engine.last_request())[0].content, "hi");
            let answer = response.json().await.value().deserialize::<Value>();
            if status == StatusCode::OK {
                let expected = json!({"object": "response.input_tokens", "input_tokens": 37});
                assert_eq!(answer, expected);
            } else {
                assert_eq!(answer["error"]["code"], "shutting_down");
            }
        }
    }
}

#[tokio::test]
async fn neutral_values_of_ignored_fields_are_not_named() {
    let response = ask(
        hello(),
        json!({
            "seed": null, "logit_bias": {}, "logprobs": false, "min_p": 0, "store": false,
            "metadata": {}, "service_tier": "auto", "functions": [],
            "tools": [], "tool_choice": "auto", "n": 1, "response_format": {"type": "text"},
            "modalities": ["text"], "unheard_of": {"x": 1}, "cache_prompt": true, "mirostat": 0,
            "stop_token_ids": [], "include_stop_str_in_output": false, "id_slot": -1,
            "add_generation_prompt": true, "structured_outputs": {}, "typical_p": 1, "min_tokens": 0,
            "stream_options": {"include_obfuscation": true},
        }),
    )
    .await;
    response.assert_status_is_ok();
    response.assert_header_is_not_exist("x-rkllama-ignored");
}

#[tokio::test]
async fn what_the_runtime_ignores_is_named_too() {
    let script = || vec![started(vec!["temperature", "top_p"]), text("x"), finished(Finish::Stop)];
    for stream in [false, true] {
        let response = ask(script(), json!({"stream": stream, "seed": 1})).await;
        response.assert_header("x-rkllama-ignored", "seed, temperature, top_p");
    }
}

/// What reaches the engine.
#[tokio::test]
async fn the_request_is_translated() {
    let engine = ScriptedEngine::playing(hello());
    let request = json!({
        "model": "Qwen/Qwen3-0.6B",
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "system", "content": "be kind"},
            {"role": "user", "name": "Ada", "content": [
                {"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
            {"role": "assistant", "content": null},
            {"role": "assistant", "content": null, "refusal": "no"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "never"}]},
            {"role": "assistant", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "42"},
            {"role": "user", "content": ""},
        ],
        "temperature": 0, "top_p": 0.5, "top_k": 20, "presence_penalty": -2,
        "frequency_penalty": 2, "repetition_penalty": 1.5, "repeat_penalty": 1.25,
        "max_tokens": 7, "max_completion_tokens": 9, "stop": ["", "END", "\n"],
    });
    post(state(Arc::clone(&engine)), &request).await.assert_status_is_ok();
    let request = engine.last_request();
    let messages: Vec<_> =
        conversation(&request).iter().map(|m| (m.role, &*m.content, m.name.as_deref())).collect();
    assert_eq!(
        messages,
        [
            (Role::Developer, "be brief", None),
            (Role::System, "be kind", None),
            (Role::User, "one\ntwo", Some("Ada")),
            (Role::Assistant, "", None),
            (Role::Assistant, "no", None),
            (Role::Assistant, "never", None),
            (Role::Assistant, "", None),
            (Role::Tool, "42", None),
            (Role::User, "", None),
        ]
    );
    assert_eq!(request.model.id, "Qwen/Qwen3-0.6B");
    assert_eq!(request.stop, ["END", "\n"]);
    assert_eq!(request.tokens_max, Some(9));
    let sampling = request.sampling;
    assert_eq!(sampling.temperature, Some(0.0));
    assert_eq!(sampling.top_p, Some(0.5));
    assert_eq!(sampling.top_k, Some(20));
    assert_eq!(sampling.repeat_penalty, Some(1.25));
    assert_eq!(sampling.presence_penalty, Some(-2.0));
    assert_eq!(sampling.frequency_penalty, Some(2.0));
}

#[tokio::test]
async fn the_limit_of_tokens() {
    for (more, expected) in [
        (json!({}), Some(512)),
        (json!({"max_tokens": null}), Some(512)),
        (json!({"max_tokens": 0}), Some(0)),
        (json!({"max_tokens": -1}), Some(u32::MAX)),
        (json!({"max_completion_tokens": 3, "max_tokens": -1}), Some(3)),
        (json!({"max_tokens": 1_000_000_000_000_u64}), Some(u32::MAX)),
    ] {
        let engine = ScriptedEngine::playing(hello());
        post(state(Arc::clone(&engine)), &hi(more.clone())).await.assert_status_is_ok();
        assert_eq!(engine.last_request().tokens_max, expected, "{more}");
    }
}

#[tokio::test]
async fn a_single_stop_text_and_switched_off_sampling() {
    for off in [-1, 0] {
        let engine = ScriptedEngine::playing(hello());
        let more = json!({"stop": "END", "top_k": off});
        post(state(Arc::clone(&engine)), &hi(more)).await.assert_status_is_ok();
        assert_eq!(engine.last_request().stop, ["END"]);
        // The whole vocabulary: absent, it would be the model's own number.
        let all = Sampling { top_k: Some(u32::MAX), ..Sampling::default() };
        assert_eq!(engine.last_request().sampling, all);
    }
}

#[tokio::test]
async fn an_unknown_fallback_is_not_named_to_whom_asked_for_another() {
    let models = ListedModels::of([model("tiny"), model("other")]);
    let chat = ArcSwapOption::from_pointee("gone".to_owned());
    let fallback = Arc::new(Fallbacks { chat, ..Fallbacks::default() });
    let state = State { fallback, ..state_with(ScriptedEngine::playing(hello()), models) };
    let answer = shown(post(state, &hi(json!({"model": "gpt-4"}))).await).await;
    assert!(answer.starts_with("404") && answer.contains("`gpt-4`"), "{answer}");
    assert!(!answer.contains("gone"), "{answer}");
}

/// The search for stop texts costs time with each token and holds text back.
#[tokio::test]
async fn stop_texts_have_a_limit() {
    let array = "Invalid 'stop': array too long. Expected an array with maximum length 64, but got \
                 an array with length 65 instead.";
    let string = "Invalid 'stop': string too long. Expected a string with maximum length 4096, but \
                  got a string with length 4097 instead.";
    for (stop, expected) in [
        (json!(vec!["a".repeat(4096); 64]), None),
        (json!(vec!["a"; 65]), Some(("array_above_max_length", array))),
        (json!("a".repeat(4097)), Some(("string_above_max_length", string))),
        (json!(["a", "a".repeat(4097)]), Some(("string_above_max_length", string))),
        // Bytes, not characters.
        (
            json!("é".repeat(2049)),
            Some(("string_above_max_length", &*string.replace("4097", "4098"))),
        ),
    ] {
        let response = ask(hello(), json!({ "stop": stop })).await;
        let Some((code, message)) = expected else {
            response.assert_status_is_ok();
            continue;
        };
        response.assert_status(StatusCode::BAD_REQUEST);
        let answer = response.json().await.value().deserialize::<Value>();
        let error = &answer["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!("stop")));
        assert_eq!(error["message"], message);
    }
}

/// Which model answers, and under which name: by request, fallback and the models there are.
#[tokio::test]
async fn the_model_is_found() {
    let tiny = || ListedModels::of([model("tiny")]);
    let two = || ListedModels::of([model("tiny"), model("other")]);
    let one_ready = || ListedModels::of([model("tiny"), incomplete("broken")]);
    let cases = [
        // models, fallback, asked, answer's model or error's code
        (tiny(), None, json!("tiny"), Ok(("tiny", "tiny"))),
        (tiny(), None, Value::Null, Ok(("tiny", "tiny"))),
        (tiny(), None, json!(""), Ok(("tiny", "tiny"))),
        (one_ready(), None, Value::Null, Ok(("tiny", "tiny"))),
        (two(), None, Value::Null, Err("missing_required_parameter")),
        (two(), Some("other"), Value::Null, Ok(("other", "other"))),
        (two(), Some("other"), json!("gpt-3.5-turbo"), Ok(("other", "gpt-3.5-turbo"))),
        (two(), Some("other"), json!("tiny"), Ok(("tiny", "tiny"))),
        (two(), Some("other"), json!("twin"), Err("model_ambiguous")),
        (two(), None, json!("gpt-3.5-turbo"), Err("model_not_found")),
        (two(), Some("gone"), json!("gpt-3.5-turbo"), Err("model_not_found")),
        (ListedModels::of([incomplete("broken")]), None, Value::Null, Err("model_incomplete")),
        (ListedModels::of([]), None, Value::Null, Err("missing_required_parameter")),
    ];
    for (models, fallback, asked, expected) in cases {
        let engine = ScriptedEngine::playing(hello());
        let chat = ArcSwapOption::from_pointee(fallback.map(str::to_owned));
        let fallback = Arc::new(Fallbacks { chat, ..Fallbacks::default() });
        let state = State { fallback, ..state_with(Arc::clone(&engine), models) };
        let response = post(state, &hi(json!({"model": asked}))).await;
        let answer = response.json().await.value().deserialize::<Value>();
        match expected {
            Ok((used, named)) => {
                assert_eq!(answer["model"], named, "{asked}");
                assert_eq!(engine.last_request().model.id, used, "{asked}");
            }
            Err(code) => assert_eq!(answer["error"]["code"], code, "{asked}: {answer}"),
        }
    }
}

#[tokio::test]
async fn an_empty_store_says_what_to_do() {
    let engine = ScriptedEngine::playing(hello());
    let empty_store_hint = Some("rkllama pull some/model".to_owned());
    let state = State { empty_store_hint, ..state_with(engine, ListedModels::of([])) };
    insta::assert_snapshot!(shown(post(state, &hi(json!({}))).await).await);
}

/// An error within the first heartbeat has its real status; after it, the stream has begun.
#[tokio::test(start_paused = true)]
async fn the_head_waits_one_heartbeat_for_the_first_text() {
    let full = || error(EngineError::QueueFull { what: "model 'tiny'".into(), waiting: 8 });
    let ask = async |wait_ms| {
        let script = vec![Step::Wait(Duration::from_millis(wait_ms)), full()];
        ask(script, json!({"stream": true})).await
    };
    ask(49).await.assert_status(StatusCode::SERVICE_UNAVAILABLE);
    let late = ask(171).await;
    late.assert_status_is_ok();
    let body = late.0.into_body().into_string().await.unwrap();
    let error = r#"data: {"error":{"message":"8 requests already wait for model 'tiny'","type":"server_error","param":null,"code":"queue_full"}}"#;
    assert_eq!(body, format!(":\n\n:\n\n{error}\n\ndata: [DONE]\n\n"));
}

/// Dropping is cancelling: no task keeps a generation alive.
#[tokio::test]
async fn a_dropped_answer_drops_its_generation() {
    let engine = ScriptedEngine::playing(vec![started(vec![]), text("x"), Step::Hang]);
    let response = post(state(Arc::clone(&engine)), &hi(json!({"stream": true}))).await;
    assert_eq!(engine.running(), 1);
    drop(response);
    assert_eq!(engine.running(), 0);

    let engine = ScriptedEngine::playing(vec![Step::Hang]);
    let state = state(Arc::clone(&engine));
    let request = hi(json!({}));
    let whole = post(state, &request);
    tokio::select! {
        biased;
        _ = whole => unreachable!("the engine hangs"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(engine.requests.lock().unwrap().len(), 1);
    assert_eq!(engine.running(), 0);
}

#[tokio::test]
async fn a_finished_answer_drops_its_generation() {
    let engine = ScriptedEngine::playing(hello());
    post(state(Arc::clone(&engine)), &hi(json!({}))).await.assert_status_is_ok();
    assert_eq!(engine.running(), 0);
}

/// Several answers to one prompt, one after the other; the prompt counts once.
#[tokio::test]
async fn several_answers() {
    let engine = ScriptedEngine::playing(hello());
    let response = post(state(Arc::clone(&engine)), &hi(json!({"n": 3}))).await;
    assert_eq!(engine.requests.lock().unwrap().len(), 3);
    let answer = response.json().await.value().deserialize::<Value>();
    let choices = answer["choices"].as_array().unwrap();
    let indices: Vec<_> = choices.iter().map(|choice| choice["index"].clone()).collect();
    assert_eq!(indices, [0, 1, 2]);
    assert!(choices.iter().all(|choice| choice["message"]["content"] == "Hello 🌍!"));
    let usage = &answer["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(26), &json!(15)));
    assert_eq!(usage["total_tokens"], 41);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 10);
    // What the NPU did, it did three times.
    let timings = &answer["timings"];
    assert_eq!((&timings["prompt_n"], &timings["predicted_n"]), (&json!(48), &json!(15)));
    assert_eq!(timings["predicted_per_second"], 10.0);
}

#[tokio::test]
async fn several_answers_in_a_stream() {
    let script = vec![started(vec![]), text("Hi"), finished(Finish::Stop)];
    let more = json!({"n": 2, "stream": true, "stream_options": {"include_usage": true}});
    insta::assert_snapshot!(shown(ask(script, more).await).await);
}

/// Whoever leaves in the middle of the second answer never starts the third.
#[tokio::test]
async fn answers_are_made_in_turn() {
    let engine = ScriptedEngine::playing(vec![started(vec![]), text("x"), Step::Hang]);
    let response = post(state(Arc::clone(&engine)), &hi(json!({"n": 3, "stream": true}))).await;
    assert_eq!((engine.running(), engine.requests.lock().unwrap().len()), (1, 1));
    drop(response);
    assert_eq!((engine.running(), engine.requests.lock().unwrap().len()), (0, 1));
}

/// With `strict_parameters` what would be ignored is refused, by whomever.
#[tokio::test]
async fn a_strict_server_ignores_nothing() {
    let strict =
        |script| State { strict_parameters: true, ..state(ScriptedEngine::playing(script)) };
    let refused = async |response: TestResponse, field: &str| {
        response.assert_status(StatusCode::BAD_REQUEST);
        let answer = response.json().await.value().deserialize::<Value>();
        assert_eq!(answer["error"]["code"], "unsupported_parameter");
        assert_eq!(answer["error"]["param"], field);
    };
    refused(post(strict(hello()), &hi(json!({"seed": 1}))).await, "seed").await;
    // That it cannot tell probabilities, a runtime says when it is asked.
    let script = vec![started(vec!["logprobs"]), text("x"), finished(Finish::Stop)];
    refused(post(strict(script), &hi(json!({"logprobs": true}))).await, "logprobs").await;
    for stream in [false, true] {
        let script = vec![started(vec!["top_p"]), text("x"), finished(Finish::Stop)];
        let request = hi(json!({"top_p": 0.5, "stream": stream}));
        refused(post(strict(script), &request).await, "top_p").await;
    }
    post(strict(hello()), &hi(json!({"top_p": 0.5}))).await.assert_status_is_ok();
}

/// Every chunk of a stream says where the time went so far, the last one exactly.
#[tokio::test]
async fn the_time_of_each_token() {
    let response = ask(hello(), json!({"stream": true, "timings_per_token": true})).await;
    let body = response.0.into_body().into_string().await.unwrap();
    let chunks: Vec<Value> =
        data_of(&body).iter().filter_map(|data| serde_json::from_str(data).ok()).collect();
    let timings: Vec<_> = chunks.iter().filter_map(|chunk| chunk.get("timings")).collect();
    let counts: Vec<_> = timings.iter().map(|timings| timings["predicted_n"].clone()).collect();
    assert_eq!(counts, [1, 2, 3, 5], "{body}");
    assert_eq!(timings[0]["prompt_n"], 26);
    assert_eq!(timings[3]["prompt_n"], 16);
}
