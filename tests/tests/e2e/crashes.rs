//! What a client hears when the vendor's runtime dies, and that the next request works.

use rkllama_tests::{Chat, ModelDir, Server, ServerSetup, Sse, eventually};
use rustix::process::{Pid, Signal, kill_process};

const SLOW: &str = "[latency]\nprefill_ms = 0\ndecode_ms_per_token = 50\n\
                    [[rule]]\nuser_contains = \"endless\"\nsay = \"on and on \"\nno_eos = true\n\
                    [[rule]]\nuser_contains = \"crash\"\nsay = \"one two three four\"\n\
                    crash_at_token = 2\n\
                    [[rule]]\nuser_contains = \"error\"\nsay = \"one two three four\"\n\
                    fail_at_token = 2\n";

fn kill_worker(server: &Server) {
    let worker = server.trace().workers().pop().unwrap();
    kill_process(Pid::from_raw(i32::try_from(worker).unwrap()).unwrap(), Signal::KILL).unwrap();
}

async fn works_again(server: &Server) {
    let next = Chat::user("Hello").with("max_tokens", 3).ask(server).await;
    assert_eq!(next.finish(), "length");
}

/// The error event of a stream, which is followed by the end mark and by nothing else.
fn error_at_the_end(events: &[Sse]) -> String {
    let [.., Sse::Data(error), Sse::Done] = events else {
        panic!("no error at the end: {events:?}")
    };
    assert_eq!(error["error"]["type"], "server_error", "{error}");
    error["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_killed_worker_is_an_error_event_and_the_next_request_works() {
    let server = ServerSetup::demo().in_real_time(SLOW).start();
    let mut stream = Chat::user("endless").open(&server).await;
    stream.until("on and").await;

    kill_worker(&server);

    let message = error_at_the_end(&stream.rest().await);
    assert!(message.contains("signal 9 (SIGKILL"), "{message}");
    works_again(&server).await;
    assert_eq!(server.trace().calls("rkllm_init"), 2);
}

#[tokio::test]
async fn a_killed_worker_is_an_error_for_a_whole_answer() {
    let server = ServerSetup::demo().in_real_time(SLOW).start();
    let endless = Chat::user("endless");
    let asked = endless.ask(&server);
    let killed = async {
        eventually("the run is under way", || (server.trace().tokens() >= 2).then_some(())).await;
        kill_worker(&server);
    };
    let (answer, ()) = tokio::join!(asked, killed);
    assert_eq!(answer.status, 500);
    assert!(answer.error().contains("signal 9 (SIGKILL"), "{}", answer.error());
    works_again(&server).await;
}

/// The kernel may take an idle worker when memory runs out: the next client need not know.
#[tokio::test]
async fn a_worker_that_dies_idle_is_nobodys_error() {
    let server = ServerSetup::demo().start();
    works_again(&server).await;
    kill_worker(&server);
    eventually("it is noticed", || server.log().contains("lost a worker").then_some(())).await;
    works_again(&server).await;
    assert_eq!(server.trace().calls("rkllm_init"), 2);
}

#[tokio::test]
async fn a_segfault_names_its_signal() {
    let server = ServerSetup::demo().in_real_time(SLOW).start();
    let message = error_at_the_end(&Chat::user("crash").events(&server).await);
    assert!(message.contains("SIGSEGV"), "{message}");
    works_again(&server).await;
}

#[tokio::test]
async fn an_error_state_keeps_the_worker() {
    let server = ServerSetup::demo().in_real_time(SLOW).start();
    let message = error_at_the_end(&Chat::user("error").events(&server).await);
    assert!(message.contains("the runtime failed while answering"), "{message}");
    works_again(&server).await;
    assert_eq!(server.trace().calls("rkllm_init"), 1);
}

/// The runtime gives its reason on standard output only; the client reads it in the answer.
#[tokio::test]
async fn a_failed_load_says_what_the_runtime_said() {
    let server = ServerSetup::demo().env("MOCK_NPU_FAULTS", "board_platform=RK3576").start();
    let answer = Chat::user("Hello").ask(&server).await;
    assert_eq!(answer.status, 503);
    let reason = "the model's target_platform does not match the real platform";
    assert!(answer.error().contains(reason), "{}", answer.error());
}

#[tokio::test]
async fn no_memory_on_the_npu_is_a_failed_load_although_init_says_success() {
    let server = ServerSetup::demo().env("MOCK_NPU_FAULTS", "init_null_handle").start();
    let answer = Chat::user("Hello").ask(&server).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.error().contains("failed to load"), "{}", answer.error());
}

/// A model that kills its worker each time is not loaded at the pace of its clients' retries, and
/// the others do not notice.
#[tokio::test]
async fn crashes_in_a_row_put_a_model_out_of_order_for_a_while() {
    let rule = "[[rule]]\nuser_contains = \"crash\"\nsay = \"one two\"\ncrash_at_token = 1\n";
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("bad").script(rule))
        .model(&ModelDir::demo("good"))
        .start();
    let crash = Chat::user("crash").with("model", "bad");
    for _ in 0..3 {
        assert_eq!(crash.ask(&server).await.status, 500);
    }

    let refused = crash.ask(&server).await;

    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(refused.body["error"]["code"], "model_degraded");
    assert!(refused.error().contains("died 3 times in a row"), "{}", refused.error());
    let seconds: u64 = refused.retry_after.unwrap().parse().unwrap();
    assert!((1..=2).contains(&seconds), "{seconds}");
    assert_eq!(server.trace().calls("rkllm_init"), 3);
    let health = reqwest::get(format!("{}/health", server.url)).await.unwrap();
    let health: serde_json::Value = health.json().await.unwrap();
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["problems"][0]["subject"], "bad");
    let good = Chat::user("Hi").with("model", "good").with("max_tokens", 1).ask(&server).await;
    assert_eq!(good.finish(), "length");

    // After the pause one attempt is due, and a good answer wipes the slate clean.
    let fine = Chat::user("Hi").with("model", "bad").with("max_tokens", 1);
    loop {
        let answer = fine.ask(&server).await;
        if answer.status == 200 {
            break;
        }
        assert_eq!(answer.body["error"]["code"], "model_degraded");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let health = reqwest::get(format!("{}/health", server.url)).await.unwrap();
    assert_eq!(health.json::<serde_json::Value>().await.unwrap()["status"], "ok");
}

#[tokio::test]
async fn a_load_that_hangs_is_given_up() {
    let server = ServerSetup::demo()
        .config("[limits]\nload_timeout_ms = 500")
        .env("MOCK_NPU_FAULTS", "hang_in_init")
        .start();
    let answer = Chat::user("Hi").ask(&server).await;
    assert_eq!(answer.status, 503);
    assert!(answer.error().contains("took longer than 500ms"), "{}", answer.error());
}

#[tokio::test]
async fn a_run_that_hangs_is_given_up_and_the_next_request_works() {
    let rule = "[[rule]]\nuser_contains = \"hang\"\nsay = \"one two three\"\nhang_at_token = 2\n";
    let server =
        ServerSetup::demo().config("[limits]\nstall_timeout_ms = 500").script(rule).start();
    let message = error_at_the_end(&Chat::user("hang").events(&server).await);
    assert!(message.contains("no sign of life"), "{message}");
    works_again(&server).await;
}

/// The runtime ignores an abort: its worker is killed, the one who left hears nothing of it.
#[tokio::test]
async fn an_abort_that_is_not_heeded_costs_the_worker() {
    let server = ServerSetup::demo()
        .config("[limits]\nabort_timeout_ms = 300")
        .in_real_time(SLOW)
        .env("MOCK_NPU_FAULTS", "abort_ignored")
        .start();
    let mut stream = Chat::user("endless").open(&server).await;
    stream.until("on").await;
    drop(stream);
    works_again(&server).await;
    assert_eq!(server.trace().calls("rkllm_init"), 2);
}
