//! What cannot be done is refused before the NPU is asked, in OpenAI's words.

use std::io::{Read, Write};

use rkllama_tests::{Chat, ModelDir, Server, ServerSetup, until};
use serde_json::{Value, json};

async fn get(server: &Server, path: &str) -> (u16, Value) {
    let response = reqwest::get(format!("{}{path}", server.url)).await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|err| panic!("{err}: {text}")))
}

/// Status and error object of everything that a client can get wrong.
#[tokio::test]
async fn mistakes_are_answered_in_openais_shape() {
    let server = ServerSetup::demo().start();
    let mut seen = Vec::new();
    let cases = [
        ("unknown model", Chat::user("Hi").with("model", "gpt-4o")),
        ("too long", Chat::user(&"word ".repeat(9000))),
        ("no messages", Chat::user("Hi").with("messages", json!([]))),
        (
            "wrong role",
            Chat::user("Hi").with("messages", json!([{"role": "king", "content": "x"}])),
        ),
        ("missing messages", Chat(json!({"model": "demo"}))),
        ("wrong type", Chat::user("Hi").with("temperature", "warm")),
        ("out of range", Chat::user("Hi").with("top_p", 1.5)),
        ("unsupported", Chat::user("Hi").with("modalities", json!(["audio"]))),
    ];
    for (name, chat) in cases {
        let answer = chat.ask(&server).await;
        seen.push(format!("{name}: {} {:#}", answer.status.as_u16(), answer.body["error"]));
    }
    for (name, path) in [
        ("unknown route", "/v1/nothing"),
        ("wrong method", "/v1/chat/completions"),
        ("unknown model by id", "/v1/models/org/absent"),
    ] {
        let (status, body) = get(&server, path).await;
        seen.push(format!("{name}: {status} {:#}", body["error"]));
    }
    insta::assert_snapshot!(seen.join("\n"));
    assert_eq!(server.trace().0.len(), 0, "the runtime was never opened");
}

#[tokio::test]
async fn an_absent_model_is_the_only_one_there_is() {
    let one = ServerSetup::demo().start();
    let chat = Chat(json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}));
    assert_eq!(chat.ask(&one).await.finish(), "length");

    let two = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("one"))
        .model(&ModelDir::demo("two"))
        .start();
    let refused = chat.ask(&two).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.body["error"]["param"], "model");
}

#[tokio::test]
async fn a_fallback_answers_for_names_that_are_baked_into_clients() {
    let server = ServerSetup::demo().config("[fallback]\nchat = \"demo\"").start();
    let answer = Chat::user("Hi").with("model", "gpt-3.5-turbo").with("max_tokens", 1);
    let answer = answer.ask(&server).await;
    assert_eq!(answer.finish(), "length");
    assert_eq!(answer.body["model"], "gpt-3.5-turbo", "the name that was asked for");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413() {
    let server = ServerSetup::demo().config("[limits]\nbody_bytes_max = 1000").start();
    let answer = Chat::user(&"x".repeat(2000)).ask(&server).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.body["error"]["type"], "invalid_request_error");
}

#[tokio::test]
async fn a_full_queue_is_503_with_a_time_to_come_back() {
    let server = ServerSetup::demo()
        .config("[limits]\nqueue_len_max = 1")
        .in_real_time(
            "[latency]\ndecode_ms_per_token = 50\n\
                                 [[rule]]\nsay = \"on and on \"\nno_eos = true\n",
        )
        .start();
    let body = Chat::user("endless").0.to_string();
    let mut sockets = Vec::new();
    let mut runs_or_waits = |waiting: usize| {
        let mut socket = server.connect();
        write!(
            socket,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        sockets.push(socket);
        until("it has arrived", || {
            (server.log().matches("a request waits for its model").count() >= waiting).then_some(())
        });
    };
    runs_or_waits(1);
    until("the first one runs", || (server.trace().tokens() >= 1).then_some(()));
    runs_or_waits(2);

    let refused = Chat::user("Hi").ask(&server).await;

    assert_eq!(refused.status, 503);
    assert!(refused.retry_after.is_some());
    assert!(refused.error().contains("wait"), "{}", refused.error());
}

#[tokio::test]
async fn a_model_without_a_tokenizer_says_what_it_lacks() {
    let setup = ServerSetup::new().mock("1.3.0").model(&ModelDir::demo("demo"));
    std::fs::remove_file(setup.models().join("demo/tokenizer.json")).unwrap();
    let server = setup.start();
    let answer = Chat::user("Hi").ask(&server).await;
    assert_eq!(answer.status, 503);
    assert!(answer.error().contains("tokenizer.json"), "{}", answer.error());
}

/// The bytes of a request are nobody's business but the client's: half of one must not hang it.
#[tokio::test]
async fn half_a_request_disturbs_nobody() {
    let server = ServerSetup::demo().start();
    let mut half = server.connect();
    half.write_all(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{\"a\"",
    )
    .unwrap();
    let answer = Chat::user("Hi").with("max_tokens", 1).ask(&server).await;
    assert_eq!(answer.finish(), "length");
    half.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = String::new();
    half.read_to_string(&mut rest).unwrap();
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400"), "{rest}");
}
