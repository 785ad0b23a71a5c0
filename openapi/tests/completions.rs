//! `POST /v1/completions`, without sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::sync::Arc;

use common::{ScriptedEngine, Step, error, finished, hello, limits, shown, started, state, text};
use poem::{
    http::StatusCode,
    test::{TestClient, TestResponse},
};
use rkllama_core::{EngineError, Finish, Format, Infill, Prompt, PromptTokens};
use rkllama_openapi::State;
use serde_json::{Value, json};

async fn post(state: State, request: &Value) -> TestResponse {
    let client = TestClient::new(rkllama_openapi::app(state, limits()));
    client.post("/v1/completions").body_json(request).send().await
}

fn once(more: Value) -> Value {
    let mut request = json!({"model": "tiny", "prompt": "Once"});
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

async fn ask(script: Vec<Step>, more: Value) -> TestResponse {
    post(state(ScriptedEngine::playing(script)), &once(more)).await
}

#[tokio::test]
async fn whole() {
    insta::assert_snapshot!(shown(ask(hello(), json!({})).await).await);
}

#[tokio::test]
async fn stream() {
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    insta::assert_snapshot!(shown(ask(hello(), more).await).await);
}

/// Two prompts, two answers to each, each answer with its prompt before it.
#[tokio::test]
async fn several_prompts() {
    let script = || vec![started(vec![]), text(" upon"), finished(Finish::Length)];
    let more = json!({"prompt": ["Once", "Twice"], "n": 2, "best_of": 2, "echo": true});
    let whole = shown(ask(script(), more.clone()).await).await;
    let mut more = more;
    more["stream"] = true.into();
    let stream = shown(ask(script(), more).await).await;
    insta::assert_snapshot!(format!("{whole}\n\n{stream}"));
}

#[tokio::test]
async fn an_answer_of_nothing() {
    let script = || vec![started(vec![]), finished(Finish::Length)];
    let whole = shown(ask(script(), json!({"max_tokens": 0, "echo": true})).await).await;
    let stream = shown(ask(script(), json!({"max_tokens": 0, "stream": true})).await).await;
    insta::assert_snapshot!(format!("{whole}\n\n{stream}"));
}

/// Every form of a prompt reaches the engine as it is.
#[tokio::test]
async fn prompts() {
    for (prompt, expected) in [
        (json!("a"), vec!["Text(\"a\")"]),
        (json!(""), vec!["Text(\"\")"]),
        (json!(["a"]), vec!["Text(\"a\")"]),
        (json!(["a", "", "b"]), vec!["Text(\"a\")", "Text(\"\")", "Text(\"b\")"]),
        (json!([7]), vec!["Tokens([7])"]),
        (json!([0, 2_147_483_647]), vec!["Tokens([0, 2147483647])"]),
        (json!([[1, 2], [3]]), vec!["Tokens([1, 2])", "Tokens([3])"]),
    ] {
        let engine = ScriptedEngine::playing(hello());
        let response = post(state(Arc::clone(&engine)), &once(json!({"prompt": prompt}))).await;
        response.assert_status_is_ok();
        let requests = engine.requests.lock().unwrap();
        let prompts: Vec<_> = requests.iter().map(|r| format!("{:?}", r.prompt)).collect();
        assert_eq!(prompts, expected, "{prompt}");
    }
}

#[tokio::test]
async fn the_request_is_translated() {
    let engine = ScriptedEngine::playing(hello());
    let more = json!({
        "temperature": 0.5, "top_p": 0.25, "top_k": 3, "presence_penalty": 1,
        "frequency_penalty": -1, "repeat_penalty": 1.5, "stop": ["\n", ""], "ignore_eos": true,
        "response_format": {"type": "json_object"},
    });
    post(state(Arc::clone(&engine)), &once(more)).await.assert_status_is_ok();
    let request = engine.last_request();
    assert!(matches!(&request.prompt, Prompt::Text(text) if text == "Once"));
    assert_eq!(request.stop, ["\n"]);
    assert_eq!(request.format, Some(Format::JsonObject));
    assert!(request.ignore_eos);
    let sampling = request.sampling;
    assert_eq!((sampling.temperature, sampling.top_p), (Some(0.5), Some(0.25)));
    assert_eq!((sampling.top_k, sampling.repeat_penalty), (Some(3), Some(1.5)));
    assert_eq!((sampling.presence_penalty, sampling.frequency_penalty), (Some(1.0), Some(-1.0)));
}

/// 16 where nothing is said, whatever the model's own limit is.
#[tokio::test]
async fn the_limit_of_tokens() {
    for (more, expected) in [
        (json!({}), 16),
        (json!({"max_tokens": null}), 16),
        (json!({"max_tokens": 0}), 0),
        (json!({"max_tokens": 99}), 99),
        (json!({"max_tokens": -1}), u32::MAX),
    ] {
        let engine = ScriptedEngine::playing(hello());
        post(state(Arc::clone(&engine)), &once(more.clone())).await.assert_status_is_ok();
        assert_eq!(engine.last_request().tokens_max, Some(expected), "{more}");
    }
}

#[tokio::test]
async fn refusals() {
    let cases = [
        json!({"prompt": null}),
        json!({"prompt": 7}),
        json!({"prompt": {}}),
        json!({"prompt": []}),
        json!({"prompt": [[]]}),
        json!({"prompt": [[1], []]}),
        json!({"prompt": ["a", 1]}),
        json!({"prompt": [1, "a"]}),
        json!({"prompt": [1, -2]}),
        json!({"prompt": [[1], [2, -3]]}),
        json!({"prompt": [1, 3_000_000_000_u64]}),
        json!({"prompt": [3_000_000_000_u64]}),
        json!({"prompt": [1.5]}),
        json!({"prompt": [true]}),
        json!({"prompt": vec!["a"; 129]}),
        json!({"max_tokens": "16"}),
        json!({"n": 9}),
        json!({"best_of": 2, "stream": true}),
        json!({"best_of": 21}),
        json!({"logprobs": 6}),
        json!({"logprobs": true}),
        json!({"echo": "yes"}),
        json!({"echo": true, "prompt": [1, 2]}),
        json!({"suffix": "the end", "prompt": [1, 2]}),
        json!({"model": "nobody"}),
        json!({"guided_json": 7}),
    ];
    let mut all = String::new();
    for case in cases {
        let engine = ScriptedEngine::playing(hello());
        let response = post(state(Arc::clone(&engine)), &once(case.clone())).await;
        assert!(engine.requests.lock().unwrap().is_empty(), "the engine was asked: {case}");
        let case: String = case.to_string().chars().take(100).collect();
        all += &format!("{case}\n{}\n\n", shown(response).await);
    }
    let missing = post(state(ScriptedEngine::playing(hello())), &json!({"model": "tiny"})).await;
    insta::assert_snapshot!(all + &shown(missing).await);
}

#[tokio::test]
async fn a_suffix_makes_each_prompt_a_place_to_fill_in() {
    let engine = ScriptedEngine::playing(hello());
    let body = once(json!({"prompt": ["Once", "Twice"], "suffix": " the end", "echo": true}));
    let response = post(state(Arc::clone(&engine)), &body).await;
    response.assert_status_is_ok();
    let answer = shown(response).await;
    let prompts: Vec<_> =
        engine.requests.lock().unwrap().iter().map(|request| request.prompt.clone()).collect();
    let after = || " the end".to_owned();
    let [Prompt::Infill(first), Prompt::Infill(second)] = prompts.as_slice() else {
        panic!("{prompts:?}")
    };
    assert_eq!(*first, Infill { before: "Once".to_owned(), after: after() });
    assert_eq!(*second, Infill { before: "Twice".to_owned(), after: after() });
    insta::assert_snapshot!(answer);
}

/// What OpenAI's own tests send with every field at once.
#[tokio::test]
async fn fields_without_effect() {
    let more = json!({
        "best_of": 0, "logprobs": 0, "logit_bias": {"foo": 0}, "suffix": "",
        "seed": -9_007_199_254_740_991_i64, "user": "user-1234", "n": 1, "max_tokens": 16,
        "stream_options": {"include_obfuscation": true, "include_usage": true},
    });
    let response = ask(hello(), more).await;
    response.assert_status_is_ok();
    response.assert_header("x-rkllama-ignored", "seed, logit_bias, user");
}

/// An error in a later answer breaks off the stream, and the whole answer.
#[tokio::test]
async fn errors_of_the_engine_are_about_the_prompt() {
    let errors = [
        EngineError::Prompt { reason: "there is no token 999999".into() },
        EngineError::ContextExceeded {
            prompt_tokens: PromptTokens::Exactly(8227),
            context_tokens_max: 8192,
            margin_tokens: 32,
        },
    ];
    let mut all = String::new();
    for engine_error in errors {
        let response = ask(vec![error(engine_error)], json!({})).await;
        response.assert_status(StatusCode::BAD_REQUEST);
        all += &format!("{}\n\n", shown(response).await);
    }
    insta::assert_snapshot!(all);
}
