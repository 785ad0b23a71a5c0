//! Legal requests that could cost a server its memory or its time.

use std::{
    fs,
    time::{Duration, Instant},
};

use rkllama_tests::{Answer, Chat, Server, ServerSetup};
use rstest::rstest;
use serde_json::{Value, json};

/// What the server's process has in memory, its peak if asked for.
fn resident_mb(server: &Server, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn one_long_message(text: &str) -> Value {
    json!([{"role": "user", "content": text.repeat(30_000_000 / text.len())}])
}

fn long_history() -> Value {
    let turn = |_| json!({"role": "assistant", "content": "word ".repeat(5000)});
    let mut messages: Vec<Value> = (0..1000).map(turn).collect();
    messages.push(json!({"role": "user", "content": "Hi"}));
    messages.into()
}

fn many_messages() -> Value {
    vec![json!({"role": "user", "content": ""}); 800_000].into()
}

fn refused(answer: &Answer) {
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(answer.body["error"]["code"], "context_length_exceeded");
    assert!(answer.error().contains("at least"), "{}", answer.error());
}

#[rstest]
#[case::letters(one_long_message("a"))]
#[case::words(one_long_message("word "))]
#[case::blanks(one_long_message(" "))]
#[case::history(long_history())]
#[case::many(many_messages())]
#[tokio::test]
async fn a_body_far_too_long_costs_little(#[case] messages: Value) {
    // glibc keeps freed memory for each thread that ran, up to twice the largest block: on a machine
    // that is busy with other tests those are more threads. Here the server's own share counts.
    let server = ServerSetup::demo().env("MALLOC_ARENA_MAX", "2").start();
    let chat = Chat::user("").with("messages", messages);
    let healthy = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let asked = Instant::now();
            let health = reqwest::get(format!("{}/health", server.url)).await.unwrap();
            assert_eq!(health.status(), 200);
            slowest = slowest.max(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        slowest
    };
    let bodies = async {
        for _ in 0..3 {
            refused(&chat.ask(&server).await);
        }
    };
    let (slowest, ()) = tokio::join!(healthy, bodies);
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    let (after, peak) = (resident_mb(&server, "VmRSS"), resident_mb(&server, "VmHWM"));
    assert!(after < 250, "{after} MB, at most {peak} MB");
    let answer = Chat::user("Hi").with("max_tokens", 1).ask(&server).await;
    assert_eq!(answer.finish(), "length");
}

/// The same of texts that are no conversation: to go on from, and to be read, refused or cut.
#[rstest]
#[case::words("word ")]
#[case::blanks(" ")]
#[tokio::test]
async fn a_text_far_too_long_costs_little(#[case] text: &str) {
    let server = ServerSetup::demo().env("MALLOC_ARENA_MAX", "2").start();
    let text = text.repeat(30_000_000 / text.len());
    for (path, body, status) in [
        ("completions", json!({"model": "demo", "prompt": text}), 400),
        ("embeddings", json!({"model": "demo", "input": text}), 400),
        ("embeddings", json!({"model": "demo", "input": text, "truncate": true}), 200),
    ] {
        let url = format!("{}/v1/{path}", server.url);
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let answer = answer.json::<Value>().await.unwrap();
        assert!(status == 200 || answer["error"]["code"] == "context_length_exceeded", "{answer}");
    }
    let (after, peak) = (resident_mb(&server, "VmRSS"), resident_mb(&server, "VmHWM"));
    assert!(peak < 500, "{after} MB, at most {peak} MB");
}

/// Conversations that lose their oldest messages lose them in one go, and results find their calls among
/// few: work that grows with the square of a body would take hours.
#[tokio::test]
async fn very_many_messages_cost_little() {
    let server = ServerSetup::demo().env("MALLOC_ARENA_MAX", "2").start();
    let said = json!({"role": "user", "content": "a"});
    let call = |id: usize| json!({"id": id.to_string(), "function": {"name": "f"}});
    let calls: Vec<Value> = (0..50_000).map(call).collect();
    let mut tools = vec![json!({"role": "assistant", "tool_calls": calls})];
    let result = json!({"role": "tool", "content": "x", "tool_call_id": "none of them"});
    tools.extend(vec![result; 50_000]);
    tools.push(said.clone());
    for messages in [vec![said; 300_000], tools] {
        let options = json!({"num_predict": 1});
        let body = json!({
            "model": "demo", "messages": messages, "stream": false, "options": options,
        });
        let url = format!("{}/api/chat", server.url);
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }
    let (after, peak) = (resident_mb(&server, "VmRSS"), resident_mb(&server, "VmHWM"));
    assert!(peak < 500, "{after} MB, at most {peak} MB");
}

/// What the runtime gave is known after the first load: a prompt that is too long for it need not
/// wait for its turn again.
#[tokio::test]
async fn a_clamped_context_is_the_one_that_is_told_and_kept_to() {
    let server = ServerSetup::demo().env("MOCK_NPU_FAULTS", "context_limit=1024").start();
    let long = Chat::user(&"word ".repeat(2000));
    for _ in 0..3 {
        let answer = long.ask(&server).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert_eq!(answer.body["error"]["n_ctx"], 1024);
        assert!(answer.error().contains("32 are kept for the answer"), "{}", answer.error());
    }
    assert_eq!(server.log().matches("a request waits for its model").count(), 1);
}
