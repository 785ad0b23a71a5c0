//! What a person gets who asks.

use rkllama_tests::{Chat, ModelDir, ServerSetup, Sse, until};
use serde_json::{Value, json};

#[tokio::test]
async fn a_stream_and_a_whole_answer_say_the_same() {
    let server = ServerSetup::demo().start();
    let chat = Chat::user("What is an NPU?");

    let whole = chat.ask(&server).await;
    let events = chat.events(&server).await;

    assert!(whole.content().split_whitespace().count() > 3, "{}", whole.content());
    assert_eq!(whole.finish(), "stop");
    assert_eq!(Sse::content(&events), whole.content());
    assert_eq!(events.last(), Some(&Sse::Done));
    server.stop();
}

/// The ids that the runtime is given are exactly the rendered conversation, counted once.
#[tokio::test]
async fn the_runtime_gets_the_tokens_that_usage_counts() {
    let server = ServerSetup::demo().start();
    let answer = Chat::user("Hello").with("max_tokens", 5).ask(&server).await;

    let runs = server.trace().args("rkllm_run");
    let input = &runs[0]["input"];
    assert_eq!(input["type"], "TOKEN");
    let usage = &answer.body["usage"];
    assert_eq!(usage["prompt_tokens"], input["tokens"].as_array().unwrap().len());
    assert_eq!(usage["completion_tokens"], 5);
    assert_eq!(server.trace().tokens(), 5);
    assert_eq!(runs[0]["keep_history"], false);
}

#[tokio::test]
async fn the_first_request_loads_and_the_second_finds_the_model_loaded() {
    let server = ServerSetup::demo().start();
    let chat = Chat::user("Hello").with("max_tokens", 3);
    assert_eq!(server.trace().calls("rkllm_init"), 0, "nothing is loaded before it is needed");

    let first = chat.ask(&server).await;
    let second = chat.ask(&server).await;

    assert_eq!(first.content(), second.content());
    assert_eq!(server.trace().calls("rkllm_init"), 1);
}

#[tokio::test]
async fn clients_at_once_share_one_load_and_never_each_others_words() {
    let server = ServerSetup::demo()
        .script(
            "[[rule]]\nuser_contains = \"alpha\"\nsay = \"a a a a a a a a\"\n\
             [[rule]]\nuser_contains = \"beta\"\nsay = \"b b b b b b b b\"\n",
        )
        .start();
    let (alpha, beta) = (Chat::user("alpha"), Chat::user("beta"));

    let answers =
        tokio::join!(alpha.ask(&server), beta.ask(&server), alpha.ask(&server), beta.ask(&server),);

    assert_eq!(answers.0.content(), "a a a a a a a a");
    assert_eq!(answers.1.content(), "b b b b b b b b");
    assert_eq!(answers.2.content(), "a a a a a a a a");
    assert_eq!(answers.3.content(), "b b b b b b b b");
    let trace = server.trace();
    assert_eq!(trace.calls("rkllm_init"), 1);
    assert_eq!(trace.call_during_run(), None);
}

#[tokio::test]
async fn models_have_a_worker_each() {
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("one"))
        .model(&ModelDir::demo("two"))
        .start();
    for model in ["one", "two", "one"] {
        Chat::user("Hello").with("model", model).with("max_tokens", 2).ask(&server).await;
    }
    let workers = server.trace().workers();
    assert_eq!(workers.len(), 2);
    assert_ne!(workers[0], workers[1]);
    assert!(!workers.contains(&server.pid()), "never in the server's process");
}

#[tokio::test]
async fn stop_strings_end_the_run_and_leave_no_trace() {
    let server = ServerSetup::demo()
        .in_real_time(
            "[latency]\ndecode_ms_per_token = 20\n\
             [[rule]]\nuser_contains = \"count\"\n\
             say = \"one two three four five six seven eight nine ten\"\nno_eos = true\n",
        )
        .start();
    let chat = Chat::user("count").with("stop", json!(["four", "zzz"]));

    let whole = chat.ask(&server).await;
    let events = chat.events(&server).await;

    assert_eq!(whole.content(), "one two three ");
    assert_eq!(whole.finish(), "stop");
    assert_eq!(Sse::content(&events), "one two three ");
    // An endless run ends only by abort.
    until("both runs are ended", || (server.trace().returns("rkllm_run") == 2).then_some(()));
    assert_eq!(server.trace().calls("rkllm_abort"), 2);
}

#[tokio::test]
async fn zero_tokens_are_an_answer_without_the_npu() {
    let server = ServerSetup::demo().start();
    let answer = Chat::user("Hello").with("max_tokens", 0).ask(&server).await;
    assert_eq!(answer.content(), "");
    assert_eq!(answer.finish(), "length");
    assert_eq!(answer.body["usage"]["completion_tokens"], 0);
    assert_eq!(server.trace().calls("rkllm_run"), 0);
}

#[tokio::test]
async fn the_answer_ends_where_the_context_does() {
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(
            &ModelDir::demo("demo")
                .manifest("context_length = 128")
                .script("[[rule]]\nsay = \"on and \"\nno_eos = true\nrepeat = 2"),
        )
        .start();
    let answer = Chat::user("Hello").ask(&server).await;
    assert_eq!(answer.finish(), "length");
    assert_eq!(answer.body["usage"]["total_tokens"], 128);
}

/// A manifest asks for more than the model file was made for: the model's own limit is taken.
#[tokio::test]
async fn a_context_beyond_the_models_limit_is_clamped() {
    let server = ServerSetup::demo().env("MOCK_NPU_FAULTS", "context_limit=1024").start();
    let answer = Chat::user("Hello").with("max_tokens", 3).ask(&server).await;
    assert_eq!(answer.finish(), "length", "{}", answer.body);
    let asked: Vec<Value> = server
        .trace()
        .args("rkllm_init")
        .iter()
        .map(|args| args["param"]["max_context_len"].clone())
        .collect();
    assert_eq!(asked, [json!(4096), json!(1024)]);
}

#[tokio::test]
async fn a_waiting_stream_gives_signs_of_life() {
    let server = ServerSetup::demo()
        .config("[limits]\nheartbeat_ms = 50")
        .in_real_time("[latency]\nprefill_ms = 500\n[[rule]]\nsay = \"late\"")
        .start();
    let events = Chat::user("Hello").events(&server).await;
    assert_eq!(Sse::content(&events), "late");
    assert!(events.contains(&Sse::Comment), "{events:?}");
}
