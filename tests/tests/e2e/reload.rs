//! SIGHUP: everything is read again and nobody notices.

use std::fs;

use rkllama_tests::{Chat, ModelDir, Server, ServerSetup, Sse, eventually, metric, metrics};
use rustix::process::Signal;
use serde_json::{Value, json};

const SLOW: &str = "[latency]\nprefill_ms = 0\ndecode_ms_per_token = 20\n\
                    [[rule]]\nuser_contains = \"endless\"\nsay = \"on and on \"\nno_eos = true\n\
                    [[rule]]\nuser_contains = \"long\"\nsay = \"one two three \"\nrepeat = 30\n";

/// Writes another configuration and has it read.
async fn reload(server: &Server, config: &str) {
    fs::write(server.dir().join("config.toml"), config).unwrap();
    hang_up(server, "reloaded").await;
}

/// Sends the signal and waits until the log has this line once more.
async fn hang_up(server: &Server, line: &str) {
    let count = || server.log().matches(&format!(" {line}")).count();
    let before = count();
    server.signal(Signal::HUP);
    eventually("the signal has been heeded", || (count() > before).then_some(())).await;
}

fn loads(server: &Server) -> usize {
    server.trace().returns("rkllm_init")
}

#[tokio::test]
async fn a_stream_does_not_notice_and_a_new_model_is_there_at_once() {
    let server = ServerSetup::demo().in_real_time(SLOW).start();
    let mut stream = Chat::user("long").open(&server).await;
    stream.until("one two").await;
    ModelDir::demo("newcomer").write(&server.dir().join("models"));

    reload(&server, "[limits]\nqueue_len_max = 3").await;

    let fresh = Chat::user("Hi").with("model", "newcomer").with("max_tokens", 1);
    assert_eq!(fresh.ask(&server).await.finish(), "length");
    let events = stream.rest().await;
    assert_eq!(Sse::content(&events).matches("one two three").count(), 30);
    assert_eq!(events.last(), Some(&Sse::Done));
    assert_eq!(loads(&server), 2, "the first model was not loaded again");
    assert!(server.log().contains("changed=\"limits.queue_len_max\""), "it says what has changed");
}

/// The queue of a model that is at work gets the new bound, in both directions.
#[tokio::test]
async fn new_limits_count_for_who_comes() {
    let server = ServerSetup::demo()
        .config("[limits]\nqueue_len_max = 1\nbody_bytes_max = 100000")
        .in_real_time(SLOW)
        .start();
    let mut running = Chat::user("endless").open(&server).await;
    running.until("on and").await;
    let wait = |server: &Server| {
        let (chat, url) = (Chat::user("endless").stream(), server.url.clone());
        tokio::spawn(async move { chat.send_to(&url).await })
    };
    let waiting = async |server: &Server, count: f64| {
        let series = "vllm:num_requests_waiting{model_name=\"demo\"}";
        while metric(&metrics(server).await, series) != Some(count) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let _first = wait(&server);
    waiting(&server, 1.0).await;
    let refused = Chat::user("Hi").ask(&server).await;
    assert_eq!(refused.body["error"]["code"], "queue_full", "{}", refused.body);
    let large = "x".repeat(60_000);
    assert_ne!(Chat::user(&large).ask(&server).await.status, 413);

    reload(&server, "[limits]\nqueue_len_max = 2\nbody_bytes_max = 50000").await;

    let _second = wait(&server);
    waiting(&server, 2.0).await;
    let refused = Chat::user("Hi").ask(&server).await;
    assert_eq!(refused.body["error"]["code"], "queue_full", "{}", refused.body);
    assert_eq!(Chat::user(&large).ask(&server).await.status, 413);

    reload(&server, "[limits]\nqueue_len_total_max = 2").await;

    let refused = Chat::user("Hi").ask(&server).await;
    assert!(refused.error().contains("this server"), "{}", refused.error());
    assert_eq!(server.trace().calls("rkllm_run"), 1, "who waits keeps its place");
}

#[tokio::test]
async fn a_model_is_preloaded_and_one_that_is_no_longer_pinned_leaves() {
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("old"))
        .model(&ModelDir::demo("new"))
        .config("preload = [\"old\"]\nkeep_alive = \"1ms\"")
        .start();
    eventually("the first one is loaded", || (loads(&server) == 1).then_some(())).await;

    reload(&server, "preload = [\"new\"]\nkeep_alive = \"1ms\"").await;

    eventually("the second one is loaded", || (loads(&server) == 2).then_some(())).await;
    let gone = || server.trace().returns("rkllm_destroy") == 1;
    eventually("the first one is not pinned any more", || gone().then_some(())).await;
    let hello = Chat::user("Hi").with("model", "new").with("max_tokens", 1);
    assert_eq!(hello.ask(&server).await.finish(), "length");
    assert_eq!(loads(&server), 2, "it was there and stays");
}

/// An idle model's time is the one that is configured now.
#[tokio::test]
async fn a_shorter_keep_alive_counts_for_models_that_are_loaded() {
    let server = ServerSetup::demo().config("keep_alive = -1").start();
    Chat::user("Hi").with("max_tokens", 1).ask(&server).await;
    reload(&server, "keep_alive = \"1ms\"").await;
    let gone = || server.trace().returns("rkllm_destroy") == 1;
    eventually("it leaves", || gone().then_some(())).await;
}

#[tokio::test]
async fn a_smaller_budget_makes_room_and_a_fallback_answers() {
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("a").manifest("memory_mb = 1000"))
        .model(&ModelDir::demo("b").manifest("memory_mb = 1000"))
        .start();
    let gpt = Chat::user("Hi").with("model", "gpt-5").with("max_tokens", 1);
    for model in ["a", "b"] {
        gpt.clone().with("model", model).ask(&server).await;
    }
    assert_eq!(gpt.ask(&server).await.status, 404);

    reload(&server, "[memory]\nmax_mb = 1500\n[fallback]\nchat = \"b\"").await;

    let gone = || server.trace().returns("rkllm_destroy") == 1;
    eventually("one leaves", || gone().then_some(())).await;
    assert_eq!(gpt.ask(&server).await.finish(), "length");
    assert_eq!(loads(&server), 2, "the one that was used last has stayed");
}

/// Kept responses that are beyond new limits go, and the fallback for embeddings answers at once.
#[tokio::test]
async fn kept_responses_make_room_and_embeddings_get_a_fallback() {
    let server = ServerSetup::demo().start();
    let ask = async |path: &str, body: Option<Value>| {
        let url = format!("{}/v1/{path}", server.url);
        let request = match &body {
            Some(body) => reqwest::Client::new().post(url).json(body),
            None => reqwest::Client::new().get(url),
        };
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let body = Some(json!({"model": "demo", "input": "Hi", "max_output_tokens": 16}));
    let mut paths = Vec::new();
    for _ in 0..2 {
        let (_, response) = ask("responses", body.clone()).await;
        paths.push(format!("responses/{}", response["id"].as_str().unwrap()));
    }
    let text = Some(json!({"model": "text-embedding-3-small", "input": "Hi"}));
    assert_eq!(ask("embeddings", text.clone()).await.0, 404);

    reload(&server, "[kept_responses]\ncount_max = 1\n[fallback]\nembed = \"demo\"").await;

    assert_eq!(ask(&paths[0], None).await.0, 404, "the older one made room");
    assert_eq!(ask(&paths[1], None).await.0, 200);
    assert_eq!(ask("embeddings", text).await.0, 200);
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_named() {
    let server = ServerSetup::demo().config("[fallback]\nchat = \"demo\"").start();
    let gpt = Chat::user("Hi").with("model", "gpt-5").with("max_tokens", 1);
    for (broken, named) in [
        ("[limits]\nqueue_len = 3", "limits.queue_len"),
        ("[limits]\nqueue_len_max = \"many\"", "limits.queue_len_max"),
        ("[fallback", "config.toml"),
        ("preload = [\"absent\"]", "'absent'"),
    ] {
        fs::write(server.dir().join("config.toml"), broken).unwrap();
        hang_up(&server, "not reloaded").await;
        let log = server.log();
        let line = log.lines().rfind(|line| line.contains("not reloaded")).unwrap();
        assert!(line.contains("ERROR") && line.contains(named), "{named}: {line}");
        assert_eq!(gpt.ask(&server).await.finish(), "length", "the old one is in force");
    }
    fs::remove_file(server.dir().join("config.toml")).unwrap();
    hang_up(&server, "not reloaded").await;
    assert_eq!(gpt.ask(&server).await.finish(), "length");
    reload(&server, "").await;
    assert_eq!(gpt.ask(&server).await.status, 404, "a good one counts again");
}

#[tokio::test]
async fn what_needs_a_restart_is_named() {
    let server = ServerSetup::demo().start();
    reload(&server, "keep_alive = 1\nstate = \"/elsewhere\"\n[saved_prompts]\nmax_mb = 1\n[board]\naffinity = false").await;
    let log = server.log();
    let line = log.lines().find(|line| line.contains("after a restart only")).unwrap();
    assert!(line.contains("board.affinity, saved_prompts.max_mb, state"), "{line}");
    assert!(!line.contains("keep_alive"), "{line}");
}

/// Keys change while a client whose key is withdrawn hears its answer to the end; and no reload opens
/// a server to the network by taking them all away.
#[tokio::test]
async fn keys_change_and_are_never_lost_on_a_server_that_the_network_reaches() {
    let secrets = ["a".repeat(40), "b".repeat(40)];
    let keys = |names: &str, at: usize| format!("[auth]\nkeys = [\"{names}:{}\"]", secrets[at]);
    let server = ServerSetup::demo()
        .config(&keys("ada", 0))
        .arg("--listen")
        .arg("0.0.0.0:0")
        .in_real_time(SLOW)
        .start();
    let ask = |at: usize, text: &'static str| {
        let request = reqwest::Client::new().post(format!("{}/v1/chat/completions", server.url));
        request.bearer_auth(&secrets[at]).json(&Chat::user(text).stream().0).send()
    };
    let long = ask(0, "long").await.unwrap();
    assert_eq!(long.status(), 200);

    reload(&server, &keys("bob", 1)).await;

    assert_eq!(ask(0, "Hi").await.unwrap().status(), 401);
    assert_eq!(ask(1, "Hi").await.unwrap().status(), 200);
    let heard = Sse::parse(&long.text().await.unwrap());
    assert_eq!(Sse::content(&heard).matches("one two three").count(), 30);

    fs::write(server.dir().join("config.toml"), "").unwrap();
    hang_up(&server, "not reloaded").await;
    assert!(server.log().contains("refusing to listen on 0.0.0.0"), "it says why");
    assert_eq!(ask(0, "Hi").await.unwrap().status(), 401, "the keys are in force");
    assert_eq!(ask(1, "Hi").await.unwrap().status(), 200);
}

/// The first request for a model, and its load, go on.
#[tokio::test]
async fn a_reload_during_a_load_disturbs_neither() {
    let server = ServerSetup::demo().in_real_time("[latency]\nload_ms = 3000").start();
    let chat = Chat::user("Hi").with("max_tokens", 2);
    let asked = chat.ask(&server);
    let reloads = async {
        let loading = || server.trace().calls("rkllm_init") == 1;
        eventually("the load has begun", || loading().then_some(())).await;
        reload(&server, "keep_alive = 100").await;
        assert_eq!(loads(&server), 0, "it still loads");
    };
    let (answer, ()) = tokio::join!(asked, reloads);
    assert_eq!(answer.finish(), "length");
    assert_eq!(server.trace().calls("rkllm_init"), 1);
}

/// A library that was installed meanwhile is found.
#[tokio::test]
async fn runtimes_are_looked_for_again() {
    let setup = ServerSetup::new().model(&ModelDir::demo("demo"));
    let folder = setup.models().parent().unwrap().join("runtimes");
    fs::create_dir(&folder).unwrap();
    let server = setup.runtime(&folder).start();
    let chat = Chat::user("Hi").with("max_tokens", 1);
    assert_eq!(chat.ask(&server).await.body["error"]["code"], "runtime_unavailable");
    fs::copy(rkllama_tests::mock_library("1.3.0"), folder.join("librkllmrt.so")).unwrap();
    hang_up(&server, "reloaded").await;
    assert_eq!(chat.ask(&server).await.finish(), "length");
}
