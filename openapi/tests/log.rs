//! What a request leaves in the log: one line, and nothing that was said.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::{
    io,
    sync::{Arc, Mutex},
};

use common::{ScriptedEngine, error, hello, limits, state, text};
use poem::test::TestClient;
use rkllama_core::EngineError;
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

const CHAT: &str = "/v1/chat/completions";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap();
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The log of one request to a server that plays `script`.
async fn log_of(script: Vec<common::Step>, path: &str, is_stream: bool) -> Vec<String> {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_ansi(false)
        .without_time()
        .with_max_level(tracing::Level::INFO)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let app = rkllama_openapi::app(state(ScriptedEngine::playing(script)), limits());
    let messages = json!([{"role": "user", "content": "SECRET"}]);
    let request = json!({"model": "tiny", "stream": is_stream, "messages": messages});
    let response = TestClient::new(app).post(path).body_json(&request).send().await;
    response.0.into_body().into_bytes().await.unwrap();
    log.lines()
}

#[tokio::test]
async fn a_request_is_one_line_with_its_route_and_without_its_text() {
    let lines = log_of(hello(), CHAT, false).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in
        ["request{id=req_", "method=POST", "route=\"/v1/chat/completions\"", "status=200", "ms="]
    {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }
    assert!(!lines[0].contains("SECRET"));
}

/// Paths hold names, and whatever a scanner likes to put there.
#[tokio::test]
async fn the_path_of_an_unknown_route_is_not_logged() {
    let lines = log_of(hello(), "/v1/SECRET", false).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("route=\"-\" status=404"), "{}", lines[0]);
    assert!(!lines[0].contains("SECRET"));
}

#[tokio::test]
async fn the_route_is_written_as_in_the_document() {
    let lines = log_of(hello(), "/v1/models/SECRET", false).await;
    assert!(lines[0].contains("route=\"/v1/models/{id}\""), "{}", lines[0]);
    assert!(!lines[0].contains("SECRET"));
}

/// When the head of a stream goes, nobody knows how long the answer will take.
#[tokio::test]
async fn the_time_of_a_streams_head_is_not_said_to_be_the_whole() {
    let lines = log_of(hello(), CHAT, true).await;
    assert!(lines[0].contains(" head_ms=") && !lines[0].contains(" ms="), "{}", lines[0]);
}

/// The client is told; the operator has nothing to do.
#[tokio::test]
async fn a_mistake_of_a_client_is_no_warning() {
    let full = EngineError::Template { reason: "Conversation roles must alternate".into() };
    for is_stream in [false, true] {
        let lines = log_of(vec![error(full.clone())], CHAT, is_stream).await;
        assert!(lines[0].contains("status=400"), "{lines:?}");
        assert!(lines.iter().all(|line| line.trim_start().starts_with("INFO")), "{lines:?}");
        let late = vec![text("Hel"), error(full.clone())];
        let lines = log_of(late, CHAT, true).await;
        assert!(lines.iter().all(|line| line.trim_start().starts_with("INFO")), "{lines:?}");
    }
}

#[tokio::test]
async fn a_failure_of_ours_is_logged_once_with_its_reason() {
    let script = vec![error(EngineError::Run { reason: "rkllm_run returned -1".into() })];
    let lines = log_of(script, CHAT, false).await;
    let errors: Vec<_> = lines.iter().filter(|line| line.contains("ERROR")).collect();
    assert_eq!((errors.len(), lines.len()), (1, 2), "{lines:?}");
    assert!(errors[0].contains("rkllm_run returned -1"));
}

/// The body is sent long after the handler has returned; its errors belong to the request still.
#[tokio::test]
async fn a_failure_in_the_middle_of_a_stream_is_logged_once_with_the_requests_id() {
    let broken = error(EngineError::Run { reason: "rkllm_run returned -1".into() });
    let lines = log_of(vec![text("Hel"), broken], CHAT, true).await;
    assert_eq!(lines.len(), 2, "{lines:?}");
    let id = |line: &str| line.split("id=req_").nth(1).map(|rest| rest[..32].to_owned());
    assert!(lines[1].contains("ERROR") && lines[1].contains("rkllm_run returned -1"), "{lines:?}");
    assert_eq!(id(&lines[0]).expect("an id"), id(&lines[1]).expect("an id"));
}
