//! The end of the server: nothing hangs, nobody is left behind.

use rkllama_tests::{Chat, Server, ServerSetup, Sse, Stream, process_runs, until};
use rustix::process::Signal;

const SLOW: &str = "[latency]\nprefill_ms = 0\ndecode_ms_per_token = 50\n\
                    [[rule]]\nuser_contains = \"endless\"\nsay = \"on and on \"\nno_eos = true\n\
                    [[rule]]\nuser_contains = \"short\"\nsay = \"one two three four five\"\n\
                    [[rule]]\nuser_contains = \"hang\"\nsay = \"one two\"\nhang_at_token = 1\n";

/// Streams until the first words have come.
async fn begin(server: &Server, user: &str, word: &str) -> Stream {
    let mut stream = Chat::user(user).open(server).await;
    stream.until(word).await;
    stream
}

fn gone(pid: u32) {
    until("the worker is gone", || (!process_runs(pid)).then_some(()));
}

#[tokio::test]
async fn running_answers_finish_and_the_npu_is_freed() {
    let mut server = ServerSetup::demo().in_real_time(SLOW).start();
    let stream = begin(&server, "short", "one").await;
    let workers = server.trace().workers();

    server.signal(Signal::TERM);

    let events = stream.rest().await;
    assert_eq!(Sse::content(&events), "one two three four five");
    assert_eq!(events.last(), Some(&Sse::Done));
    assert!(server.wait().success());
    assert_eq!(server.trace().calls("rkllm_destroy"), 1);
    gone(workers[0]);
}

#[tokio::test]
async fn what_outlives_the_drain_ends_in_an_error_event() {
    let mut server =
        ServerSetup::demo().config("[limits]\ndrain_ms = 200").in_real_time(SLOW).start();
    let stream = begin(&server, "endless", "on and").await;

    server.signal(Signal::TERM);

    let events = stream.rest().await;
    let [.., Sse::Data(error), Sse::Done] = events.as_slice() else { panic!("{events:?}") };
    assert!(error["error"]["message"].as_str().unwrap().contains("shutting down"), "{error}");
    assert!(server.wait().success());
    assert_eq!(server.trace().calls("rkllm_destroy"), 1);
    gone(server.trace().workers()[0]);
}

#[tokio::test]
async fn a_second_signal_means_now() {
    let mut server =
        ServerSetup::demo().config("[limits]\ndrain_ms = 600000").in_real_time(SLOW).start();
    let _stream = begin(&server, "endless", "on and").await;
    server.signal(Signal::INT);
    until("the drain has begun", || server.log().contains("stopping").then_some(()));
    server.signal(Signal::INT);
    assert!(server.wait().success());
    gone(server.trace().workers()[0]);
}

#[tokio::test]
async fn a_worker_that_hangs_in_the_runtime_does_not_hold_up_the_end() {
    let mut server =
        ServerSetup::demo().config("[limits]\ndrain_ms = 100").in_real_time(SLOW).start();
    let _stream = begin(&server, "hang", "one").await;
    let workers = server.trace().workers();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    gone(workers[0]);
}

/// No handler runs on SIGKILL: the workers see the end of their sockets.
#[tokio::test]
async fn workers_do_not_survive_a_killed_server() {
    let mut server = ServerSetup::demo().in_real_time(SLOW).start();
    let _stream = begin(&server, "endless", "on and").await;
    let workers = server.trace().workers();
    server.signal(Signal::KILL);
    assert!(!server.wait().success());
    gone(workers[0]);
    assert_eq!(server.trace().calls("rkllm_destroy"), 1, "the NPU's memory is given back");
}
