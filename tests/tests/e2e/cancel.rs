//! A client that leaves stops its run, however it leaves and whatever it waited for.
//!
//! Proven on the mock's trace: at 50 ms a token, `rkllm_abort` is called before two more tokens.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::fd::AsFd,
    time::Duration,
};

use rkllama_tests::{Chat, Server, ServerSetup, until};
use rstest::rstest;
use rustix::net::sockopt::set_socket_linger;

const SLOW: &str = "[latency]\nprefill_ms = 0\ndecode_ms_per_token = 50\n\
                    [[rule]]\nuser_contains = \"endless\"\nsay = \"on and on \"\nno_eos = true\n";

fn post(server: &Server, chat: &Chat) -> TcpStream {
    let body = chat.0.to_string();
    let mut socket = server.connect();
    write!(
        socket,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    socket
}

/// Closes a connection with FIN, or with RST.
fn close(socket: TcpStream, reset: bool) {
    if reset {
        set_socket_linger(socket.as_fd(), Some(Duration::ZERO)).unwrap();
    }
    drop(socket);
}

#[rstest]
#[tokio::test]
async fn closing_aborts_within_a_token(
    #[values(false, true)] stream: bool,
    #[values(false, true)] reset: bool,
) {
    let server = ServerSetup::demo().in_real_time(SLOW).start();
    let mut chat = Chat::user("endless");
    if stream {
        chat = chat.stream();
    }
    let mut socket = post(&server, &chat);
    until("the run is under way", || (server.trace().tokens() >= 3).then_some(()));
    if stream {
        assert!(socket.read(&mut [0; 64]).unwrap() > 0);
    }

    let tokens_at_close = server.trace().tokens();
    close(socket, reset);

    let aborted =
        |line: &serde_json::Value| line["event"] == "call" && line["call"] == "rkllm_abort";
    until("the runtime is told to abort", || server.trace().0.iter().any(aborted).then_some(()));
    until("the run has returned", || (server.trace().returns("rkllm_run") == 1).then_some(()));
    let trace = server.trace();
    let before = trace.tokens() - trace.tokens_after(aborted).unwrap();
    assert!(before <= tokens_at_close + 2, "{before} tokens, {tokens_at_close} at the close");
    assert_eq!(trace.calls("rkllm_abort"), 1);

    // The model is loaded still and the next answer has nothing of the last one.
    let next = Chat::user("What is an NPU?").with("max_tokens", 8).ask(&server).await;
    let alone = ServerSetup::demo().start();
    let expected = Chat::user("What is an NPU?").with("max_tokens", 8).ask(&alone).await;
    assert_eq!(next.content(), expected.content());
    assert_eq!(server.trace().calls("rkllm_init"), 1);
    assert_eq!(server.trace().call_during_run(), None);
}

/// Prefill cannot be interrupted. Who leaves then holds up nobody but the NPU itself.
#[tokio::test]
async fn leaving_during_prefill_frees_the_model_when_prefill_ends() {
    let server = ServerSetup::demo()
        .in_real_time("[latency]\nprefill_ms = 700\n[[rule]]\nsay = \"x\"")
        .start();
    let socket = post(&server, &Chat::user("Hello"));
    until("prefill is under way", || (server.trace().calls("rkllm_run") == 1).then_some(()));
    close(socket, false);

    let next = Chat::user("Hello").ask(&server).await;

    assert_eq!(next.content(), "x");
    let trace = server.trace();
    assert_eq!(trace.calls("rkllm_abort"), 1);
    assert_eq!(trace.calls("rkllm_init"), 1);
    assert_eq!(trace.call_during_run(), None);
}

#[tokio::test]
async fn who_leaves_the_queue_is_never_run() {
    let server = ServerSetup::demo().in_real_time(SLOW).start();
    let running = post(&server, &Chat::user("endless"));
    until("the run is under way", || (server.trace().tokens() >= 1).then_some(()));
    let waiting = post(&server, &Chat::user("endless too"));
    until("the second one waits", || {
        (server.log().matches("a request waits for its model").count() >= 2).then_some(())
    });
    close(waiting, false);
    until("it has left", || server.log().contains("generation cancelled").then_some(()));
    close(running, false);

    assert_eq!(Chat::user("Hello").with("max_tokens", 1).ask(&server).await.finish(), "length");
    assert_eq!(server.trace().calls("rkllm_run"), 2, "the endless one and the last one");
}
