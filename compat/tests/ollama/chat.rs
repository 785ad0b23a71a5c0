//! `POST /api/chat`.

use std::{sync::Arc, time::Duration};

use rkllama_core::{
    EngineError, Finish, Format, KeepAlive, Prompt, Request, Role, Sampling, ToolChoice,
};
use serde_json::{Value, json};

use crate::common::{
    ScriptedEngine, Step, arguments, ask, call, error, finished, hello, post, shown, started, text,
    thought, with,
};

fn body(more: Value) -> Value {
    with(json!({"model": "able", "messages": [{"role": "user", "content": "Hi"}]}), more)
}

async fn said(script: Vec<Step>, more: Value) -> String {
    ask(&ScriptedEngine::playing(script), "/api/chat", &body(more)).await
}

/// What the engine is asked.
async fn request(more: Value) -> Request {
    let engine = ScriptedEngine::playing(hello());
    let response = post(&engine, "/api/chat", &body(more)).await;
    assert_eq!(response.0.status(), 200, "{}", shown(response).await);
    engine.last_request()
}

fn chat(request: &Request) -> &rkllama_core::Chat {
    let Prompt::Chat(chat) = &request.prompt else { panic!("no conversation") };
    chat
}

fn calling() -> Vec<Step> {
    vec![
        started(Vec::new()),
        thought("Which town?"),
        text("Let me see."),
        call(0, "get_weather"),
        arguments(0, "{\"town\": "),
        arguments(0, "\"L'Aquila\", \"metric\":\n true}"),
        call(1, "now"),
        finished(Finish::ToolCalls),
    ]
}

#[tokio::test]
async fn whole() {
    let plain = said(hello(), json!({"stream": false})).await;
    let cut = vec![started(Vec::new()), text("Hel"), finished(Finish::Length)];
    let cut = said(cut, json!({"stream": false, "model": " Able "})).await;
    let calls = said(calling(), json!({"stream": false})).await;
    insta::assert_snapshot!([plain, cut, calls].join("\n\n"));
}

#[tokio::test]
async fn stream() {
    insta::assert_snapshot!(said(hello(), json!({})).await);
}

/// Each call is complete and has a line of its own; what it says besides comes in its place.
#[tokio::test]
async fn stream_of_thoughts_and_calls() {
    insta::assert_snapshot!(said(calling(), json!({"stream": true})).await);
}

#[tokio::test]
async fn no_thoughts_are_told_where_none_are_wanted() {
    for stream in [true, false] {
        let answer = said(calling(), json!({"stream": stream, "think": false})).await;
        assert!(!answer.contains("Which town?") && answer.contains("Let me see."), "{answer}");
    }
}

/// Arguments that are no object are put into one; those that broke off are no call.
#[tokio::test]
async fn arguments_are_always_an_object() {
    let script = vec![
        started(Vec::new()),
        call(0, "list"),
        arguments(0, "[1, 2]"),
        call(1, "broken"),
        arguments(1, "{\"a\": "),
        call(2, "none"),
        finished(Finish::Length),
    ];
    insta::assert_snapshot!(said(script, json!({"stream": false})).await);
}

#[tokio::test]
async fn loads_and_unloads_without_messages() {
    let engine = ScriptedEngine::playing(Vec::new());
    let mut answers = Vec::new();
    for more in [
        json!({}),
        json!({"messages": [], "keep_alive": "10m", "stream": true}),
        json!({"messages": null, "keep_alive": -1}),
        json!({"keep_alive": 0}),
        json!({"keep_alive": "0s", "stream": true}),
    ] {
        let body = with(json!({"model": "plain"}), more);
        answers.push(ask(&engine, "/api/chat", &body).await);
    }
    answers.push(engine.moves().join("\n"));
    insta::assert_snapshot!(answers.join("\n\n"));
    assert!(engine.requests.lock().unwrap().is_empty(), "nothing was asked");
}

#[tokio::test]
async fn shows_the_prompt_and_asks_nobody() {
    let engine = ScriptedEngine::playing(hello());
    let answer = ask(&engine, "/api/chat", &body(json!({"_debug_render_only": true}))).await;
    insta::assert_snapshot!(answer);
    assert!(engine.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn stream_that_breaks_in_the_middle() {
    let run = || error(EngineError::Run { reason: "reason".to_owned() });
    let broken = said(vec![started(Vec::new()), text("Hel"), run()], json!({})).await;
    // The engine ends without a word.
    let ended = said(vec![started(Vec::new()), text("Hel")], json!({})).await;
    let at_once = said(vec![run()], json!({})).await;
    insta::assert_snapshot!([broken, ended, at_once].join("\n\n"));
}

/// A client waits for its head no longer than for a heartbeat; what goes wrong then is a line.
#[tokio::test(start_paused = true)]
async fn an_error_after_a_long_wait_is_the_only_line() {
    let script = vec![
        Step::Wait(Duration::from_secs(60)),
        error(EngineError::QueueTimeout { model: "able".to_owned(), waited_s: 60 }),
    ];
    let stream = said(script.clone(), json!({})).await;
    let whole = said(script, json!({"stream": false})).await;
    insta::assert_snapshot!([stream, whole].join("\n\n"));
}

#[tokio::test]
async fn what_has_no_effect_is_named() {
    let script = || vec![started(vec!["min_p"]), text("Hi"), finished(Finish::Stop)];
    for stream in [true, false] {
        let more = json!({"stream": stream, "logprobs": true, "top_logprobs": 3});
        let answer = said(script(), more).await;
        assert!(answer.contains("x-rkllama-ignored: min_p\n"), "{answer}");
    }
}

#[tokio::test]
async fn options_are_the_engines() {
    let options = json!({
        "temperature": 0.5, "top_p": 0.5, "top_k": 7.9, "repeat_penalty": 1.5,
        "presence_penalty": 0.25, "frequency_penalty": -0.5, "num_predict": 9.0,
        "stop": ["a", "b"], "num_ctx": 64, "mirostat": 2, "seed": null, "unheard": {},
    });
    let asked = request(json!({"options": options, "keep_alive": "90s", "format": "json"})).await;
    let expected = Sampling {
        temperature: Some(0.5),
        top_p: Some(0.5),
        top_k: Some(7),
        repeat_penalty: Some(1.5),
        presence_penalty: Some(0.25),
        frequency_penalty: Some(-0.5),
    };
    assert_eq!(asked.sampling, expected);
    assert_eq!((asked.tokens_max, asked.stop), (Some(9), vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(asked.keep_alive, Some(KeepAlive::For(Duration::from_secs(90))));
    assert_eq!(asked.format, Some(Format::JsonObject));
    // What nobody says is left to the model.
    let asked = request(json!({"options": null, "format": "", "keep_alive": null})).await;
    assert_eq!(asked.sampling, Sampling::default());
    assert_eq!((asked.tokens_max, asked.format, asked.keep_alive), (None, None, None));
}

#[tokio::test]
async fn a_schema_is_the_engines_letter_by_letter() {
    let schema = json!({"type": "object", "properties": {"b": {}, "a": {"const": "it's"}}});
    let asked = request(json!({"format": schema})).await;
    assert_eq!(asked.format, Some(Format::JsonSchema(schema.to_string())));
}

#[tokio::test]
async fn thinking_is_the_models_to_begin_with() {
    for (more, thinking, effort) in [
        (json!({}), Some(true), None),
        (json!({"think": null}), Some(true), None),
        (json!({"think": false}), Some(false), None),
        (json!({"think": true}), Some(true), None),
        (json!({"think": "low"}), Some(true), Some("low")),
        (json!({"think": "max"}), Some(true), Some("high")),
        (json!({"model": "plain"}), None, None),
        (json!({"model": "plain", "think": false}), Some(false), None),
    ] {
        let asked = request(more.clone()).await;
        let chat = chat(&asked);
        assert_eq!((chat.thinking, chat.reasoning_effort.as_deref()), (thinking, effort), "{more}");
    }
}

#[tokio::test]
async fn messages_and_tools_are_the_engines() {
    let more = json!({
        "tools": [
            {"type": "function", "function": {"name": "get_weather", "description": "It's so.",
                "parameters": {"type": "object", "properties": {"town": {"type": "string"}}}}},
            {"function": {"name": "now"}},
        ],
        "messages": [
            {"role": "System", "content": "Be brief."},
            {"content": "no role"},
            {"role": "assistant", "content": null, "thinking": "hm",
                "tool_calls": [{"function": {"name": "now", "arguments": {}}}]},
            {"role": "tool", "content": "noon"},
        ],
    });
    let asked = request(more).await;
    let chat = chat(&asked);
    let roles: Vec<Role> = chat.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool]);
    assert_eq!(chat.messages[2].reasoning.as_deref(), Some("hm"));
    let call = &chat.messages[2].tool_calls[0];
    assert_eq!(chat.messages[3].tool_call_id.as_deref(), Some(&*call.id));
    assert_eq!(chat.messages[3].name.as_deref(), Some("now"));
    assert_eq!(chat.tool_choice, ToolChoice::Auto);
    assert_eq!(chat.tools.len(), 2);
    assert_eq!(chat.tools[0].description.as_deref(), Some("It's so."));
    assert_eq!(
        chat.tools[0].parameters.as_deref(),
        Some(r#"{"type":"object","properties":{"town":{"type":"string"}}}"#)
    );
    assert_eq!((chat.tools[1].name.as_str(), &chat.tools[1].parameters), ("now", &None));
}

#[tokio::test]
async fn the_oldest_messages_go_where_there_are_too_many() {
    let messages: Vec<Value> = std::iter::once(json!({"role": "system", "content": "rule"}))
        .chain((0..9).map(|n| json!({"role": "user", "content": format!("{n}{}", "x".repeat(99))})))
        .collect();
    let engine =
        Arc::new(ScriptedEngine { script: hello(), room: Some(400), ..ScriptedEngine::default() });
    let asked = body(json!({"messages": messages, "stream": false}));
    assert_eq!(post(&engine, "/api/chat", &asked).await.0.status(), 200);
    let last = engine.last_request();
    let kept = &chat(&last).messages;
    assert_eq!(kept[0].content, "rule");
    assert!(kept.len() > 1 && kept.len() < 10 && kept.last().unwrap().content.starts_with('8'));
    let asked = with(asked, json!({"truncate": false}));
    insta::assert_snapshot!(ask(&engine, "/api/chat", &asked).await);
}
