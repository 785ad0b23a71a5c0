//! Anthropic's API, without sockets.

mod common;

use std::sync::Arc;

use common::{
    World, app, briefly, call, errors, finished, hello, post, started, stopped, text, thought,
};
use rkllama_core::{Finish, Prompt, Role, ToolChoice};

const PATH: &str = "/v1/messages";

fn request(more: &str) -> String {
    format!(
        r#"{{"model": "tiny", "max_tokens": 64, "messages": [{{"role": "user", "content": "Hi"}}]{more}}}"#
    )
}

#[tokio::test]
async fn answers_whole_and_as_events() {
    let script = || {
        let mut script = vec![started(), thought("Weather."), text("Wait."), text(" So:")];
        script.extend(call(0));
        script.extend(call(1));
        script.push(finished(Finish::ToolCalls));
        script
    };
    let more = r#", "thinking": {"type": "enabled", "budget_tokens": 1024},
        "tools": [{"name": "get_weather", "input_schema": {"type": "object"}}]"#;
    let mut all = Vec::new();
    for stream in ["", r#", "stream": true"#] {
        let body = request(&format!("{more}{stream}"));
        all.push(post(World::capable(script()), PATH, &body).await);
        // One call at most, and no thoughts.
        let more = r#", "tools": [{"name": "get_weather"}],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}"#;
        let body = request(&format!("{more}{stream}"));
        all.push(post(World::capable(script()), PATH, &body).await);
    }
    assert_shown!(all.join("\n\n"));
}

#[tokio::test]
async fn reasons() {
    let mut all = Vec::new();
    for (finish, by) in [
        (Finish::Stop, None),
        (Finish::Stop, Some(1)),
        (Finish::Length, None),
        (Finish::ToolCalls, None),
    ] {
        let world = World::playing(vec![started(), text("a"), stopped(finish, by)]);
        all.push(briefly(world, PATH, &request(r#", "stop_sequences": ["x", "y"]"#)).await);
    }
    assert_shown!(all.join("\n"));
}

#[tokio::test]
async fn the_model_is_asked_what_the_client_asked() {
    let world = Arc::new(World::capable(hello()));
    let body = r#"{"model": "tiny", "max_tokens": 9, "system": [{"type": "text", "text": "A"},
        {"type": "text", "text": "B", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "text", "text": "So."},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"b": 1.0, "a": 2}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "is_error": true,
                 "content": [{"type": "text", "text": "no"}]},
                {"type": "document", "source": {"type": "text", "data": "D"}},
                {"type": "text", "text": "Go on."}]},
            {"role": "assistant", "content": "I"}],
        "tools": [{"name": "f", "strict": true}], "tool_choice": {"type": "tool", "name": "f"},
        "temperature": 0.5, "top_k": 0, "stop_sequences": ["x"], "metadata": {"user_id": "u"},
        "output_config": {"effort": "low"}}"#;
    let answer = app(&world).post(PATH).body(body).send().await;
    answer.assert_status_is_ok();
    answer.assert_header("x-rkllama-ignored", "metadata, temperature");
    let request = world.last();
    assert_eq!((request.tokens_max, request.sampling.top_k), (Some(9), Some(u32::MAX)));
    let Prompt::Chat(chat) = request.prompt else { panic!() };
    let said: Vec<_> = chat.messages.iter().map(|m| (m.role, m.content.as_str())).collect();
    assert_eq!(
        said,
        [
            (Role::System, "A\nB"),
            (Role::User, "Hi"),
            (Role::Assistant, "So."),
            (Role::Tool, "Error: no"),
            (Role::User, "D\nGo on."),
            (Role::Assistant, "I"),
        ]
    );
    assert_eq!(chat.messages[2].reasoning.as_deref(), Some("Hm."));
    assert_eq!(chat.messages[2].tool_calls[0].arguments, r#"{"b": 1.0, "a": 2}"#);
    assert_eq!(chat.messages[3].tool_call_id.as_deref(), Some("t1"));
    assert_eq!(chat.tool_choice, ToolChoice::Named("f".to_owned()));
    assert!(chat.continue_last && chat.tools[0].strict && chat.thinking == Some(false));
    assert_eq!(chat.reasoning_effort.as_deref(), Some("low"));
}

#[tokio::test]
async fn refusals() {
    let mut all = Vec::new();
    let bodies = [
        "x".to_owned(),
        "{}".to_owned(),
        r#"{"messages": [], "max_tokens": 1, "model": "tiny"}"#.to_owned(),
        r#"{"messages": [{"role": "user", "content": "x"}], "model": "tiny"}"#.to_owned(),
        r#"{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}"#.to_owned(),
        r#"{"messages": ["x"], "max_tokens": 1, "model": "tiny"}"#.to_owned(),
        r#"{"messages": [{"role": "king", "content": "x"}]}"#.to_owned(),
        r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}"#.to_owned(),
        request(r#", "max_tokens": 0"#),
        request(r#", "temperature": 1.5"#),
        request(r#", "top_p": -1"#),
        request(r#", "top_k": -1"#),
        request(r#", "mcp_servers": [{}]"#),
        request(r#", "tools": [{"name": "a b"}]"#),
        request(r#", "tools": [{"name": "w", "type": "web_search_20250305"}]"#),
        request(r#", "tool_choice": {"type": "any"}"#),
        request(r#", "tool_choice": {"type": "tool"}"#),
        request(r#", "tools": [{"name": "f"}], "tool_choice": {"type": "tool", "name": "g"}"#),
        r#"{"model": "nope", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}"#
            .to_owned(),
        r#"{"model": "twin", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}"#
            .to_owned(),
        r#"{"model": "broken", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}"#
            .to_owned(),
    ];
    let blocks = [
        r#"{"type": "image", "source": {"type": "base64", "data": "AA*A"}}"#,
        r#"{"type": "image", "source": {"type": "file"}}"#,
        r#"{"type": "document", "source": {"type": "url"}}"#,
        r#"{"type": "tool_result"}"#,
        r#"{"type": "tool_use", "id": "x", "name": "f"}"#,
        r#"{"type": "text"}"#,
    ];
    let blocks = blocks.map(|block| {
        format!(
            r#"{{"model": "tiny", "max_tokens": 1, "messages": [{{"role": "user", "content": [{block}]}}]}}"#
        )
    });
    for body in bodies.iter().chain(&blocks) {
        let answer = briefly(World::playing(hello()), PATH, body).await;
        all.push(format!("{body}\n    {answer}"));
    }
    all.push(briefly(World::playing(hello()), "/v1/messages/nope", "{}").await);
    assert_shown!(all.join("\n"));
}

#[tokio::test]
async fn errors_of_the_engine() {
    let mut all = Vec::new();
    for error in errors() {
        let world = World::playing(vec![Err(error.clone())]);
        all.push(briefly(world, PATH, &request("")).await);
        let world = World::playing(vec![started(), text("Hel"), Err(error)]);
        let answer = post(world, PATH, &request(r#", "stream": true"#)).await;
        let last: Vec<_> = answer.trim_end().lines().rev().take(2).collect();
        all.push(format!("    in the middle {} {}", last[1], last[0]));
    }
    assert_shown!(all.join("\n"));
}

/// It is another one in each conversation.
#[tokio::test]
async fn whom_to_charge_is_no_instruction() {
    let world = Arc::new(World::playing(hello()));
    let system = r#""system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli;"},
        {"type": "text", "text": "You help.", "cache_control": {"type": "ephemeral"}}]"#;
    let body = request(&format!(", {system}"));
    app(&world).post(PATH).body(body).send().await.assert_status_is_ok();
    let asked = world.last();
    let Prompt::Chat(chat) = &asked.prompt else { panic!("no conversation") };
    assert_eq!((chat.messages[0].role, &*chat.messages[0].content), (Role::System, "You help."));
}

#[tokio::test]
async fn counting() {
    let body = r#"{"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}"#;
    assert_shown!(post(World::playing(Vec::new()), "/v1/messages/count_tokens", body).await);
}
