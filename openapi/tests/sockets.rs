//! What only a real socket shows: clients that leave, and silence.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use common::{ScriptedEngine, Step, finished, hello, limits, started, state, text};
use rkllama_core::Finish;
use rkllama_http::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A test that takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start(script: Vec<Step>) -> (SocketAddr, Arc<ScriptedEngine>) {
    start_with(script, limits()).await
}

async fn start_with(script: Vec<Step>, limits: Limits) -> (SocketAddr, Arc<ScriptedEngine>) {
    let engine = ScriptedEngine::playing(script);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = rkllama_openapi::app(state(Arc::clone(&engine)), limits.clone());
    tokio::spawn(async move {
        rkllama_http::serve(vec![listener], app, &limits, std::future::pending()).await
    });
    (address, engine)
}

async fn ask(address: SocketAddr, stream: bool) -> TcpStream {
    ask_and_more(address, stream, "").await
}

/// Asks, and sends `extra` behind the request.
async fn ask_and_more(address: SocketAddr, stream: bool, extra: &str) -> TcpStream {
    let body = format!(
        r#"{{"model":"tiny","stream":{stream},"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    let mut socket = TcpStream::connect(address).await.unwrap();
    let len = body.len();
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len}\r\n\r\n");
    socket.write_all((head + &body + extra).as_bytes()).await.unwrap();
    socket
}

/// Reads until `is_enough`.
async fn read(socket: &mut TcpStream, is_enough: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !is_enough(&text) {
        let read = tokio::time::timeout(PATIENCE, socket.read(&mut buffer)).await;
        let len = read.unwrap_or_else(|_| panic!("nothing follows {text:?}")).unwrap();
        assert_ne!(len, 0, "closed after {text:?}");
        text += std::str::from_utf8(&buffer[..len]).unwrap();
    }
    text
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

/// However a client leaves, whatever it waits for and whatever it sent behind its request, its
/// generation is dropped.
#[tokio::test]
async fn a_client_that_leaves_cancels_its_answer() {
    let pipelined = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    let many = pipelined.repeat(1000);
    for (what, extra) in
        [("nothing", ""), ("a line", "\r\n"), ("a request", pipelined), ("many", &many)]
    {
        for is_stream in [false, true] {
            for is_reset in [false, true] {
                // After the first text nothing more comes: no write can notice the close.
                let (address, engine) = start(vec![started(vec![]), text("x"), Step::Hang]).await;
                let mut socket = ask_and_more(address, is_stream, extra).await;
                if is_stream {
                    read(&mut socket, |text| text.contains("\"content\":\"x\"")).await;
                }
                until("it runs", || engine.running() == 1).await;
                if is_reset {
                    socket.set_zero_linger().unwrap();
                }
                drop(socket);
                let case = format!("{what} behind it, stream {is_stream}, reset {is_reset}");
                until(&case, || engine.running() == 0).await;
            }
        }
    }
}

/// A client that has said all it wants to say gets what can be answered at once.
#[tokio::test]
async fn requests_before_a_half_close_are_answered_when_the_answer_is_there() {
    let (address, _) = start(hello()).await;
    for count in [1, 2] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let requests = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n".repeat(count);
        socket.write_all(requests.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answers = String::new();
        tokio::time::timeout(PATIENCE, socket.read_to_string(&mut answers)).await.unwrap().unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), count, "{answers}");
    }
}

/// A client that leaves while the head is still held back.
#[tokio::test]
async fn a_client_that_leaves_before_the_head_cancels_its_answer() {
    let limits = Limits { heartbeat: Duration::from_secs(3600), ..limits() };
    let (address, engine) = start_with(vec![Step::Hang], limits).await;
    let socket = ask(address, true).await;
    until("it runs", || engine.running() == 1).await;
    drop(socket);
    until("it is dropped", || engine.running() == 0).await;
}

#[tokio::test]
async fn silence_is_filled_with_comments_until_text_comes() {
    let (address, engine) = start(vec![Step::Hang]).await;
    let mut socket = ask(address, true).await;
    let text = read(&mut socket, |text| text.matches(":\n\n").count() >= 3).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    for header in ["text/event-stream", "cache-control: no-cache", "x-accel-buffering: no"] {
        assert!(text.contains(header), "{header} is not in {text}");
    }
    assert!(!text.contains("data:"), "{text}");
    drop(socket);
    until("it is dropped", || engine.running() == 0).await;
}

#[tokio::test]
async fn text_follows_comments() {
    let pause = Step::Wait(Duration::from_millis(500));
    let script =
        vec![pause.clone(), started(vec![]), text("a"), pause, text("b"), finished(Finish::Stop)];
    let (address, engine) = start(script).await;
    let mut socket = ask(address, true).await;
    let text = read(&mut socket, |text| text.contains("[DONE]")).await;
    let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part} in {text}"));
    let [first, second] = ["\"content\":\"a\"", "\"content\":\"b\""].map(place);
    assert!(place(":\n\n") < first, "{text}");
    assert!(text[first..second].contains(":\n\n"), "{text}");
    assert_eq!(engine.running(), 0);
}

/// A connection is used again after whole answers, streams and refusals alike.
#[tokio::test]
async fn a_connection_outlives_its_answers() {
    let (address, _) = start(hello()).await;
    let mut socket = ask(address, true).await;
    read(&mut socket, |text| text.ends_with("0\r\n\r\n")).await;
    for (request, end) in [
        ("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", "}}"),
        ("GET /v1/models/tiny HTTP/1.1\r\nhost: x\r\n\r\n", "}"),
        ("GET /health HTTP/1.1\r\nhost: x\r\n\r\n", "}"),
    ] {
        socket.write_all(request.as_bytes()).await.unwrap();
        let answer = read(&mut socket, |text| text.ends_with(end)).await;
        assert!(!answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn the_pages_without_a_slash_lead_to_the_pages_with_one() {
    let (address, _) = start(hello()).await;
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /docs HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = read(&mut socket, |text| text.ends_with("\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(answer.contains("location: /docs/\r\n"), "{answer}");
}
