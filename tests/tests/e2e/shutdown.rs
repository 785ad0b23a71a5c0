//! The end of the server: nothing hangs, nobody is left behind.

use rkllama_tests::{
    Chat, ModelDir, Server, ServerSetup, Sse, Stream, eventually, process_runs, until,
};
use rustix::{
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

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

async fn ready(server: &Server) -> (reqwest::StatusCode, serde_json::Value) {
    let response = reqwest::get(format!("{}/ready", server.url)).await.unwrap();
    (response.status(), response.json().await.unwrap())
}

/// While an answer is finished, who comes late is told, and so is a load balancer.
#[tokio::test]
async fn a_server_that_is_going_is_not_ready_and_takes_no_more_requests() {
    let mut server =
        ServerSetup::demo().config("[limits]\ndrain_ms = 600000").in_real_time(SLOW).start();
    assert_eq!(ready(&server).await.0, 200);
    let stream = begin(&server, "endless", "on and").await;

    server.signal(Signal::TERM);
    until("the drain has begun", || server.log().contains("stopping").then_some(()));

    let late = Chat::user("short").ask(&server).await;
    assert_eq!(late.status, 503);
    assert_eq!(late.body["error"]["code"], "shutting_down");
    assert!(late.retry_after.is_some());
    let (status, body) = ready(&server).await;
    assert_eq!(status, 503);
    assert_eq!(body["missing"][0]["subject"], "server", "{body}");
    drop(stream);
    // The client's side of the connection is a task of this runtime: no wait that blocks it.
    let stopped = || server.log().contains(" stopped").then_some(());
    eventually("nothing is left to wait for", stopped).await;
    assert!(server.wait().success());
}

#[tokio::test]
async fn a_server_without_a_runtime_or_a_model_is_not_ready_until_it_has_both() {
    let setup = ServerSetup::new().model(&ModelDir::demo("demo"));
    let without = setup.runtime("/nowhere/librkllmrt.so").start();
    let (status, body) = ready(&without).await;
    assert_eq!(status, 503);
    assert_eq!(body["missing"][0]["subject"], "runtime", "{body}");
    assert!(body["missing"][0]["detail"].as_str().unwrap().contains("/nowhere"), "{body}");

    let empty = ServerSetup::new().mock("1.3.0").start();
    let (status, body) = ready(&empty).await;
    assert_eq!(status, 503);
    assert_eq!(body["missing"][0]["subject"], "models", "{body}");
    ModelDir::demo("demo").write(&empty.dir().join("models"));
    empty.signal(Signal::HUP);
    let come = async { while ready(&empty).await.0 != 200 {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), come).await.unwrap();
}

/// Nobody looks on any more: a hang-up that comes with the end of the terminal is not a reload.
#[tokio::test]
async fn a_server_in_a_terminal_ends_with_it() {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let inner = std::fs::File::open(name.to_str().unwrap()).unwrap();
    let mut server = ServerSetup::demo().start_with_input(inner);
    server.signal(Signal::HUP);
    until("it reloads as long as the terminal is there", || {
        server.log().contains(" reloaded").then_some(())
    });
    drop(terminal);
    server.signal(Signal::HUP);
    assert!(server.wait().success());
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

/// A load that is cut off leaves the NPU's memory in an unknown state: it is let come to its end, and
/// the model is freed.
#[tokio::test]
async fn a_model_that_is_being_loaded_is_freed() {
    let script = "[latency]\nload_ms = 1500\n";
    let mut server =
        ServerSetup::demo().config("preload = [\"demo\"]").in_real_time(script).start();
    until("it is being loaded", || (server.trace().calls("rkllm_init") == 1).then_some(()));
    let workers = server.trace().workers();
    assert_eq!(server.trace().returns("rkllm_init"), 0, "it is not yet loaded");

    server.signal(Signal::TERM);

    assert!(server.wait().success());
    assert_eq!(server.trace().returns("rkllm_init"), 1);
    assert_eq!(server.trace().returns("rkllm_destroy"), 1);
    gone(workers[0]);
}

#[tokio::test]
async fn a_load_that_hangs_does_not_hold_up_the_end() {
    let mut server = ServerSetup::demo()
        .config("preload = [\"demo\"]")
        .env("MOCK_NPU_FAULTS", "hang_in_init")
        .start();
    until("it is being loaded", || (server.trace().calls("rkllm_init") == 1).then_some(()));
    let workers = server.trace().workers();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    gone(workers[0]);
}
