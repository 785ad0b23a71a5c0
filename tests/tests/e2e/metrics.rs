//! What `/metrics` and the log say of what was asked. That a scraper can read it is proven with
//! Prometheus' own parser in `tests/sdk`.

use std::time::Duration;

use rkllama_tests::{Chat, ModelDir, Server, ServerSetup, eventually, metric, metrics};

const SLOW: &str = "[latency]\nprefill_ms = 0\ndecode_ms_per_token = 20\n\
                    [[rule]]\nuser_contains = \"endless\"\nsay = \"on and on \"\nno_eos = true\n\
                    [[rule]]\nuser_contains = \"crash\"\nsay = \"one two three four\"\n\
                    crash_at_token = 2\n";

/// Waits until a series has a value.
async fn reaches(server: &Server, series: &str, value: f64) {
    let reached = async {
        while metric(&metrics(server).await, series) != Some(value) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), reached).await;
    assert!(waited.is_ok(), "{series} is {:?}", metric(&metrics(server).await, series));
}

#[tokio::test]
async fn who_runs_and_who_waits_is_seen_while_it_lasts() {
    let server = ServerSetup::demo().in_real_time(SLOW).start();
    let mut running = Chat::user("endless").open(&server).await;
    running.until("on and").await;
    let waiting = [(); 2].map(|()| {
        let (chat, url) = (Chat::user("endless").stream(), server.url.clone());
        tokio::spawn(async move { chat.send_to(&url).await })
    });
    reaches(&server, "vllm:num_requests_waiting{model_name=\"demo\"}", 2.0).await;
    reaches(&server, "llamacpp:requests_deferred", 2.0).await;
    reaches(&server, "vllm:num_requests_running{model_name=\"demo\"}", 1.0).await;
    reaches(&server, "rkllama_model_state{model_name=\"demo\",state=\"busy\"}", 1.0).await;

    for client in waiting {
        client.abort();
    }
    drop(running);
    reaches(&server, "vllm:num_requests_waiting{model_name=\"demo\"}", 0.0).await;
    reaches(&server, "vllm:num_requests_running{model_name=\"demo\"}", 0.0).await;
    let text = metrics(&server).await;
    let left = "vllm:request_success_total{model_name=\"demo\",finished_reason=\"abort\"}";
    assert_eq!(metric(&text, left), Some(3.0));
    // The first came into an empty queue and ran, the second too and waited, the third behind it.
    let position = |le: &str| {
        let series = format!("rkllama_queue_position_bucket{{model_name=\"demo\",le=\"{le}\"}}");
        metric(&text, &series)
    };
    assert_eq!((position("0"), position("1")), (Some(2.0), Some(3.0)));
    assert_eq!(metric(&text, "rkllama_queue_wait_seconds_count{model_name=\"demo\"}"), Some(3.0));
}

#[tokio::test]
async fn a_crash_a_load_and_a_failure_are_counted_for_their_model() {
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("bad"))
        .model(&ModelDir::demo("good"))
        .script(SLOW)
        .start();
    Chat::user("crash").with("model", "bad").events(&server).await;
    let fine = Chat::user("Hi").with("max_tokens", 2);
    assert_eq!(fine.clone().with("model", "bad").ask(&server).await.finish(), "length");
    assert_eq!(fine.with("model", "good").ask(&server).await.finish(), "length");

    let text = metrics(&server).await;
    let value = |name: &str, rest: &str| metric(&text, &format!("{name}{{model_name={rest}}}"));
    assert_eq!(value("rkllama_worker_crashes_total", "\"bad\""), Some(1.0));
    assert_eq!(value("rkllama_worker_crashes_total", "\"good\""), Some(0.0));
    assert_eq!(value("rkllama_load_seconds_count", "\"bad\""), Some(2.0));
    assert_eq!(value("rkllama_load_seconds_count", "\"good\""), Some(1.0));
    assert_eq!(value("rkllama_requests_failed_total", "\"bad\",reason=\"worker\""), Some(1.0));
    assert!(value("rkllama_model_memory_bytes", "\"good\"").unwrap() > 0.0);
}

/// One line a request, with its place in the queue and its wait.
#[tokio::test]
async fn the_log_says_how_long_a_request_waited_and_where() {
    let script = "[latency]\ndecode_ms_per_token = 20\n\
                  [[rule]]\nuser_contains = \"long\"\nsay = \"on and on \"\nrepeat = 10\n";
    let server = ServerSetup::demo().in_real_time(script).start();
    let mut long = Chat::user("long").open(&server).await;
    long.until("on").await;
    let second = Chat::user("Hi").with("max_tokens", 1);
    let (answer, _) = tokio::join!(second.ask(&server), long.rest());
    assert_eq!(answer.finish(), "length");
    let lines = eventually("both are logged", || {
        let log = server.log();
        let lines: Vec<String> =
            log.lines().filter(|line| line.contains("generation finished")).map(field).collect();
        (lines.len() == 2).then_some(lines)
    })
    .await;
    assert!(lines.iter().all(|line| line.starts_with("queue_position=0 queued_ms=")), "{lines:?}");
    let waited: u64 = lines[1].rsplit('=').next().unwrap().parse().unwrap();
    assert!(waited >= 20, "{lines:?}");
}

/// The fields of interest of a log line.
fn field(line: &str) -> String {
    let at = line.find("queue_position=").unwrap_or_else(|| panic!("{line}"));
    line[at..].split(' ').take(2).collect::<Vec<_>>().join(" ")
}
