//! What other servers for these boards got wrong and no other file here holds.

use std::fs;

use rkllama_tests::{Chat, ModelDir, Server, ServerSetup, Sse, eventually};
use rstest::rstest;
use serde_json::{Value, json};

fn two_models() -> ServerSetup {
    ServerSetup::new().mock("1.3.0").model(&ModelDir::demo("a")).model(&ModelDir::demo("b"))
}

fn ask(model: &str) -> Chat {
    Chat::user("Hi").with("model", model).with("max_tokens", 2)
}

/// Times that the threads of a process went to sleep by themselves.
fn sleeps(pid: u32) -> u64 {
    let count = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0)
    };
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| count(task.unwrap())).sum()
}

/// Another server woke up 1,800 times a second to see whether a token had come.
#[tokio::test]
async fn who_waits_sleeps() {
    let script = "[latency]\nprefill_ms = 1000\ndecode_ms_per_token = 50\n\
                  [[rule]]\nsay = \"on and on \"\nno_eos = true\n";
    let server = ServerSetup::demo().in_real_time(script).start();
    let chat = Chat::user("Hi").with("max_tokens", 20);
    chat.events(&server).await;
    let processes = [server.pid(), server.trace().workers()[0]];
    let before = processes.map(sleeps);
    chat.events(&server).await;
    let after = processes.map(sleeps);
    // A second of prefill, 20 tokens: each token wakes a few threads, the silence none.
    for (before, after) in before.into_iter().zip(after) {
        let woken = after - before;
        assert!(woken < 20 * 10, "woken {woken} times for 20 tokens in two seconds");
    }
}

/// One lock for all models once stopped all of them.
#[tokio::test]
async fn models_answer_side_by_side() {
    let script = "[latency]\ndecode_ms_per_token = 20\n\
                  [[rule]]\nuser_contains = \"endless\"\nsay = \"on and on \"\nno_eos = true\n";
    let server = two_models().in_real_time(script).start();
    let mut endless = Chat::user("endless").with("model", "a").open(&server).await;
    endless.until("on").await;
    let answer = ask("b").ask(&server).await;
    assert_eq!(answer.finish(), "length");
    let trace = server.trace();
    assert_eq!((trace.calls("rkllm_run"), trace.returns("rkllm_run")), (2, 1), "one goes on");
    endless.until("on and on on and on").await;
}

/// A load beside another one can block the driver or crash in it.
#[tokio::test]
async fn models_load_one_at_a_time() {
    let server = two_models()
        .model(&ModelDir::demo("c"))
        .in_real_time("[latency]\nload_ms = 200\nprefill_ms = 0\ndecode_ms_per_token = 1")
        .start();
    let (a, b, c) = (ask("a"), ask("b"), ask("c"));
    let answers = tokio::join!(a.ask(&server), b.ask(&server), c.ask(&server));
    for answer in [answers.0, answers.1, answers.2] {
        assert_eq!(answer.finish(), "length");
    }
    let trace = server.trace();
    let inits = trace.0.iter().filter(|line| line["call"] == "rkllm_init");
    let events: Vec<&Value> = inits.map(|line| &line["event"]).collect();
    assert_eq!(events, ["call", "return", "call", "return", "call", "return"]);
}

/// The load that never returns is given up, and the model that waited for its turn loads.
#[tokio::test]
async fn a_load_that_hangs_keeps_other_models_waiting_only_so_long() {
    let server = two_models()
        .config("[limits]\nload_timeout_ms = 2000")
        .live_script("[latency]\nload_ms = 0\n[faults]\nhang_in_init = true")
        .start();
    let (hangs, waits) = (ask("a"), ask("b"));
    let other = async {
        eventually("a load hangs", || (server.trace().notes("hung") == 1).then_some(())).await;
        server.rescript("[latency]\nload_ms = 0");
        waits.ask(&server).await
    };
    let (hung, other) = tokio::join!(hangs.ask(&server), other);
    assert_eq!(hung.status, 503);
    assert_eq!(other.finish(), "length");
}

/// Limits that are meant for runs once killed models while they loaded.
#[tokio::test]
async fn a_long_load_is_no_stall() {
    let server = ServerSetup::demo()
        .config("[limits]\nstall_timeout_ms = 300\nabort_timeout_ms = 300")
        .in_real_time("[latency]\nload_ms = 1500\nprefill_ms = 0\ndecode_ms_per_token = 1")
        .start();
    assert_eq!(ask("demo").ask(&server).await.finish(), "length");
    assert_eq!(server.trace().calls("rkllm_init"), 1);
}

/// An instance for each set of options fills the memory.
#[rstest]
#[tokio::test]
async fn one_instance_whatever_the_sampling(#[values("1.2.3", "1.3.0")] runtime: &str) {
    let server =
        ServerSetup::new().mock(runtime).model(&ModelDir::demo("demo").toolkit(runtime)).start();
    for (field, value) in [
        ("temperature", json!(0.3)),
        ("temperature", json!(1.7)),
        ("top_p", json!(0.2)),
        ("frequency_penalty", json!(1)),
        ("presence_penalty", json!(-1)),
        ("max_tokens", json!(1)),
    ] {
        assert_eq!(ask("demo").with(field, value).ask(&server).await.finish(), "length");
    }
    assert_eq!(server.trace().calls("rkllm_init"), 1);
}

/// A callback that returns 1 pauses: the next run would go on with the answer of the one before.
#[rstest]
#[tokio::test]
async fn no_run_is_ever_paused(#[values("1.2.3", "1.3.0")] runtime: &str) {
    let rule = "[[rule]]\nuser_contains = \"endless\"\nsay = \"one two three \"\nno_eos = true\n";
    let server = ServerSetup::new()
        .mock(runtime)
        .model(&ModelDir::demo("demo").toolkit(runtime))
        .in_real_time(&format!("[latency]\nload_ms = 0\ndecode_ms_per_token = 5\n{rule}"))
        .start();
    let endless = Chat::user("endless");
    endless.clone().with("max_tokens", 3).ask(&server).await;
    endless.clone().with("stop", "three").ask(&server).await;
    let mut left = endless.open(&server).await;
    left.until("one two").await;
    drop(left);
    assert_eq!(ask("demo").ask(&server).await.finish(), "length");
    let trace = server.trace();
    assert_eq!(trace.calls("rkllm_run"), 4);
    assert!(trace.calls("rkllm_abort") >= 2, "the stop string's and the client's");
    assert_eq!(trace.notes("callback_reply"), 0, "callbacks only ever say: go on");
}

/// Proxies that buffer hold signs of life back and give up on a cold load.
#[tokio::test]
async fn a_stream_tells_proxies_not_to_hold_it_back() {
    let server = ServerSetup::demo()
        .config("[limits]\nheartbeat_ms = 50")
        .in_real_time("[latency]\nload_ms = 600\n[[rule]]\nsay = \"late\"")
        .start();
    let response = Chat::user("Hi").stream().send(&server).await;
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    assert_eq!(server.trace().returns("rkllm_init"), 0, "before the model was loaded");
    let events = Sse::parse(&response.text().await.unwrap());
    assert_eq!(events.first(), Some(&Sse::Comment));
    assert_eq!(Sse::content(&events), "late");
}

/// When the head of a stream is out already, a failed load is an event in it.
#[tokio::test]
async fn a_load_that_fails_behind_the_head_of_a_stream_ends_it_in_order() {
    let server = ServerSetup::demo()
        .config("[limits]\nheartbeat_ms = 50\nload_timeout_ms = 1000")
        .env("MOCK_NPU_FAULTS", "hang_in_init")
        .start();
    let ending = Chat::user("Hi").stream().ending(&server).await;
    let error = ending.end.unwrap_err();
    assert!(error.contains("took longer than 1s"), "{error}");
    assert_eq!(ending.code.as_deref(), Some("model_load_failed"));
    assert_eq!(ending.status, 200, "it was too late for another");
}

/// The death of a loading worker while its client waits behind heartbeats.
#[tokio::test]
async fn a_worker_that_is_killed_while_it_loads_is_an_error_of_that_load() {
    let server = ServerSetup::demo().in_real_time("[latency]\nload_ms = 600000").start();
    let chat = Chat::user("Hi");
    let killed = async {
        eventually("it loads", || (server.trace().calls("rkllm_init") == 1).then_some(())).await;
        kill(&server);
    };
    let (answer, ()) = tokio::join!(chat.ask(&server), killed);
    assert_eq!(answer.status, 503);
    assert!(answer.error().contains("SIGKILL"), "{}", answer.error());
    assert!(answer.error().contains("loading rkllm model"), "{}", answer.error());
}

fn kill(server: &Server) {
    use rustix::process::{Pid, Signal, kill_process};
    let worker = i32::try_from(server.trace().workers()[0]).unwrap();
    kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL).unwrap();
}

/// The vendor does not mark all of its reasons as errors, and where there is no line so marked the
/// last lines of the run are all there is.
#[tokio::test]
async fn a_failed_run_without_an_error_line_quotes_the_last_lines_of_the_run() {
    let server = ServerSetup::demo()
        .script("[[rule]]\nsay = \"one two three\"\n")
        .env("MOCK_NPU_FAULTS", "stdout_flood=2,error_at_token=1")
        .start();
    let answer = Chat::user("count").ask(&server).await;
    assert_eq!(answer.status, 500);
    assert!(answer.error().contains("debug line 1 of token 0"), "{}", answer.error());
}

const STALE: &str = "[[rule]]\nuser_contains = \"endless\"\nsay = \"on and on \"\nno_eos = true\n\
                     [[rule]]\nuser_contains = \"count\"\nsay = \"one two three\"\n";

/// Seen on a board by a server that did not wait for the run's return; the mock does it to those
/// who wait, too. Where a runtime does, its profile says so.
#[tokio::test]
async fn a_token_kept_from_an_aborted_run_is_in_no_answer() {
    let server = ServerSetup::demo()
        .in_real_time(&format!("[latency]\nload_ms = 0\ndecode_ms_per_token = 20\n{STALE}"))
        .env("MOCK_NPU_FAULTS", "stale_token_after_abort")
        .config("[runtime_profiles.\"1.3\"]\nstale_token_after_abort = true")
        .start();
    let mut left = Chat::user("endless").open(&server).await;
    left.until("on and").await;
    drop(left);
    let returned = || (server.trace().returns("rkllm_run") == 1).then_some(());
    eventually("it is aborted", returned).await;
    assert_eq!(Chat::user("count").ask(&server).await.content(), "one two three");
}
