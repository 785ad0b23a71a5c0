//! Which models are loaded, for how long, and who makes room for whom.

use std::time::{Duration, Instant};

use rkllama_tests::{Chat, ModelDir, Server, ServerSetup, Trace, eventually, metric, metrics};
use serde_json::{Value, json};

fn models(names: &[&str]) -> ServerSetup {
    names.iter().fold(ServerSetup::new().mock("1.3.0"), |setup, name| {
        setup.model(&ModelDir::demo(name).manifest("memory_mb = 1000"))
    })
}

async fn ask(server: &Server, model: &str) {
    let answer = Chat::user("Hi").with("model", model).with("max_tokens", 2).ask(server).await;
    assert_eq!(answer.finish(), "length", "{}", answer.body);
}

async fn status(server: &Server, model: &str) -> String {
    let url = format!("{}/v1/models/{model}", server.url);
    let model: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    model["status"].as_str().unwrap().to_owned()
}

async fn unloaded(server: &Server, count: usize) -> Trace {
    eventually("models were unloaded", || {
        let trace = server.trace();
        (trace.returns("rkllm_destroy") >= count).then_some(trace)
    })
    .await
}

#[tokio::test]
async fn a_model_leaves_when_nobody_used_it_for_its_time() {
    let server = models(&["one"]).config("keep_alive = \"300ms\"").start();
    assert_eq!(status(&server, "one").await, "unloaded");
    ask(&server, "one").await;
    assert_eq!(status(&server, "one").await, "loaded");
    unloaded(&server, 1).await;
    // The process ends a moment after the runtime has let go.
    let gone = async { while status(&server, "one").await != "unloaded" {} };
    tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
    ask(&server, "one").await;
    assert_eq!(server.trace().calls("rkllm_init"), 2);
}

/// Who looks while a model is loaded sees that it is, and for how long already.
#[tokio::test]
async fn the_progress_of_a_load_is_visible() {
    let server = models(&["one"]).in_real_time("[latency]\nload_ms = 1500\n").start();
    let asked = ask(&server, "one");
    let watched = async {
        let load = || (server.trace().calls("rkllm_init") == 1).then_some(());
        eventually("the load has begun", load).await;
        let mut seen = Vec::new();
        for _ in 0..2 {
            let url = format!("{}/v1/models/one", server.url);
            let model: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
            assert_eq!(model["status"], "loading", "{model}");
            seen.push(model["loading_ms"].as_u64().unwrap());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(seen[0] < seen[1], "{seen:?}");
        let page = metrics(&server).await;
        let series = "rkllama_model_state{model_name=\"one\",state=\"loading\"}";
        assert_eq!(metric(&page, series), Some(1.0));
    };
    tokio::join!(asked, watched);
    assert_eq!(status(&server, "one").await, "loaded");
}

#[tokio::test]
async fn a_request_says_how_long_the_model_stays() {
    let server = models(&["one"]).config("keep_alive = \"1ms\"").start();
    let chat = Chat::user("Hi").with("model", "one").with("max_tokens", 1);
    chat.clone().with("keep_alive", -1).ask(&server).await;
    chat.clone().with("keep_alive", "10m").ask(&server).await;
    assert_eq!(server.trace().calls("rkllm_init"), 1, "it stayed");
    chat.clone().with("keep_alive", 0).ask(&server).await;
    unloaded(&server, 1).await;

    let wrong = chat.with("keep_alive", "a while").ask(&server).await;
    assert_eq!(wrong.status, 400);
    assert_eq!(wrong.body["error"]["param"], "keep_alive");
}

#[tokio::test]
async fn the_least_recently_used_makes_room() {
    let server = models(&["a", "b", "c"]).config("[memory]\nmax_mb = 2000").start();
    for model in ["a", "b", "a", "c"] {
        ask(&server, model).await;
    }
    assert_eq!(status(&server, "a").await, "loaded");
    assert_eq!(status(&server, "b").await, "unloaded");
    assert_eq!(status(&server, "c").await, "loaded");
    // The place is given only when the process that held it is gone.
    let trace = unloaded(&server, 1).await;
    let order: Vec<&str> = trace
        .0
        .iter()
        .filter(|line| line["event"] == "return" || line["event"] == "call")
        .filter_map(|line| line["call"].as_str())
        .filter(|call| matches!(*call, "rkllm_init" | "rkllm_destroy"))
        .collect();
    let destroyed = order.iter().rposition(|call| *call == "rkllm_destroy").unwrap();
    let last_init = order.iter().position(|call| *call == "rkllm_init").unwrap();
    assert!(last_init < destroyed, "{order:?}");
    assert_eq!(order.iter().filter(|call| **call == "rkllm_init").count(), 6, "three loads");
}

/// A busy model is not cut short, and does not keep the others out for ever either.
#[tokio::test]
async fn a_busy_model_makes_room_after_its_answer() {
    let script = "[latency]\ndecode_ms_per_token = 20\n\
                  [[rule]]\nuser_contains = \"long\"\nsay = \"on and on \"\nrepeat = 10\n";
    let server =
        models(&["a", "b"]).config("[memory]\nmodels_max = 1").in_real_time(script).start();
    let mut long = Chat::user("long").with("model", "a").open(&server).await;
    long.until("on").await;
    let other = Chat::user("Hi").with("model", "b").with("max_tokens", 1);
    let (answer, events) = tokio::join!(other.ask(&server), long.rest());
    assert_eq!(answer.finish(), "length");
    let text = rkllama_tests::Sse::content(&events);
    assert_eq!(text.matches("on and on").count(), 10, "the answer was complete");
}

#[tokio::test]
async fn preloaded_models_are_ready_at_start_and_stay() {
    let server = models(&["base", "a", "b"])
        .config("preload = [\"base\"]\nkeep_alive = 0\n[memory]\nmax_mb = 2000")
        .start();
    eventually("it is loaded", || (server.trace().returns("rkllm_init") == 1).then_some(())).await;
    for model in ["base", "a", "b", "base"] {
        ask(&server, model).await;
    }
    assert_eq!(status(&server, "base").await, "loaded");
    assert_eq!(server.trace().calls("rkllm_init"), 3, "base once");
}

#[test]
fn a_name_that_is_no_model_cannot_be_preloaded() {
    let setup = models(&["one"]).config("preload = [\"two\"]");
    let output = setup.command().output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("`preload`") && error.contains("'two'"), "{error}");
}

#[tokio::test]
async fn a_model_beyond_the_budget_is_refused_with_the_figures() {
    let server = models(&["one"]).config("[memory]\nmax_mb = 500").start();
    let answer = Chat::user("Hi").with("model", "one").ask(&server).await;
    assert_eq!(answer.status, 503);
    assert!(answer.error().contains("1000 MB"), "{}", answer.error());
    assert!(answer.error().contains("500 MB"), "{}", answer.error());
    assert_eq!(server.trace().calls("rkllm_init"), 0);
}

#[tokio::test]
async fn models_are_put_into_address_domains_by_plan() {
    let server = models(&["a", "b", "c"]).config("[memory]\ndomain_max_mb = 2000").start();
    for model in ["a", "b", "c"] {
        ask(&server, model).await;
    }
    let domains: Vec<Value> = server
        .trace()
        .args("rkllm_init")
        .iter()
        .map(|args| args["param"]["base_domain_id"].clone())
        .collect();
    assert_eq!(domains, [json!(0), json!(0), json!(1)]);
}

#[tokio::test]
async fn who_waits_too_long_is_told_and_nobody_else_notices() {
    let script = "[latency]\ndecode_ms_per_token = 30\n\
                  [[rule]]\nuser_contains = \"long\"\nsay = \"on and on \"\nrepeat = 20\n";
    let server =
        models(&["a"]).config("[limits]\nqueue_timeout_ms = 1000").in_real_time(script).start();
    let mut long = Chat::user("long").with("model", "a").open(&server).await;
    long.until("on").await;
    let began = Instant::now();
    let waits = Chat::user("Hi").with("model", "a");
    let (refused, events) = tokio::join!(waits.ask(&server), long.rest());
    assert_eq!(refused.status, 503);
    assert_eq!(refused.body["error"]["code"], "queue_timeout");
    assert!(refused.retry_after.is_some());
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert!(rkllama_tests::Sse::content(&events).ends_with("on and on "));
    assert_eq!(server.trace().calls("rkllm_run"), 1);
}

#[tokio::test]
async fn all_queues_together_have_a_bound() {
    let script = "[latency]\ndecode_ms_per_token = 30\n\
                  [[rule]]\nuser_contains = \"long\"\nsay = \"on and on \"\nno_eos = true\n";
    let server = models(&["a", "b"])
        .config("[limits]\nqueue_len_total_max = 1")
        .in_real_time(script)
        .start();
    let mut long = Chat::user("long").with("model", "a").open(&server).await;
    long.until("on").await;
    let waits = Chat::user("long").with("model", "a").stream();
    let waiting = waits.send(&server);
    let refused = async {
        eventually("the second one waits", || {
            (server.log().matches("a request waits for its model").count() >= 2).then_some(())
        })
        .await;
        Chat::user("Hi").with("model", "b").ask(&server).await
    };
    tokio::select! {
        _ = waiting => panic!("the second one must wait"),
        refused = refused => {
            assert_eq!(refused.status, 503);
            assert!(refused.error().contains("this server"), "{}", refused.error());
        }
    }
}
