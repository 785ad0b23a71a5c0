//! Which of several releases a model gets, what is learned from loading it, and what is tried next.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rkllama_tests::{Answer, Chat, ModelDir, Server, ServerSetup, eventually, mock_library};
use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

async fn health(server: &Server) -> Value {
    let response = reqwest::get(format!("{}/health", server.url)).await.unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

/// What `/health` says of the runtime of a model.
async fn runtime_of(server: &Server, model: &str) -> Value {
    let health = health(server).await;
    let runtimes = health["runtimes"].as_array().unwrap();
    let found = runtimes.iter().find(|runtime| runtime["model"] == model);
    found.unwrap_or_else(|| panic!("no {model} in {health}")).clone()
}

fn chat(model: &str) -> Chat {
    Chat::user("Hi").with("model", model).with("max_tokens", 2)
}

fn answered(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// The releases that have said their version in the log, in order.
fn releases(server: &Server) -> Vec<String> {
    let log = server.log();
    // Reasons quote such lines, too.
    let lines = log.lines().filter(|line| line.contains("rkllama_engine::worker_log"));
    let said = lines.filter_map(|line| line.split_once("rkllm-runtime version: "));
    said.map(|(_, rest)| rest.split(',').next().unwrap().to_owned()).collect()
}

/// Whether each load was told to ignore the end of sequence.
fn guards(server: &Server) -> Vec<Value> {
    let loads = server.trace().args("rkllm_init");
    loads.iter().map(|args| args["param"]["ignore_eos_token"].clone()).collect()
}

/// Waits until a model that was asked to leave has left.
async fn unloaded(server: &Server, times: usize) {
    let destroyed = || (server.trace().returns("rkllm_destroy") >= times).then_some(());
    eventually("the model is unloaded", destroyed).await;
}

fn folder_of_all_releases() -> PathBuf {
    mock_library("1.3.0").parent().unwrap().parent().unwrap().to_owned()
}

/// The mock of one release that says it is another of the same length: its structures give it away.
fn disguised(folder: &Path, is: &str, says: &str) -> PathBuf {
    let mut bytes = fs::read(mock_library(is)).unwrap();
    let (from, to) = (format!("RKLLM SDK (version: {is}"), format!("RKLLM SDK (version: {says}"));
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    let file = folder.join(format!("librkllmrt-{says}.so"));
    fs::write(&file, bytes).unwrap();
    file
}

/// With all releases in one folder, those that cannot be used included.
#[tokio::test]
async fn each_model_gets_the_release_of_its_toolkit() {
    let toolkits = ["1.2.1", "1.2.2", "1.2.3", "1.3.0", "1.3.1"];
    let setup = ServerSetup::new().runtime(folder_of_all_releases());
    let server = toolkits
        .iter()
        .fold(setup, |setup, toolkit| {
            let model = ModelDir::demo(toolkit).toolkit(toolkit);
            setup.model(&model.weights_name(&format!("demo-v{toolkit}.rkllm")))
        })
        .start();

    for toolkit in toolkits {
        assert_eq!(runtime_of(&server, toolkit).await["version"], toolkit);
        answered(&chat(toolkit).ask(&server).await);
    }

    assert_eq!(releases(&server), toolkits, "each was loaded once, by its own");
    assert_eq!(guards(&server), [false; 5]);
    let health = health(&server).await;
    let details: Vec<_> =
        health["problems"].as_array().unwrap().iter().map(|it| it["detail"].to_string()).collect();
    for (refused, why) in [
        ("1.1.4", "is too old"),
        ("1.2.0", "is not supported yet"),
        ("1.2.1b1", "is not supported yet"),
    ] {
        let words = format!("RKLLM runtime {refused} {why}");
        assert_eq!(details.iter().filter(|it| it.contains(&words)).count(), 1, "{details:?}");
    }
    assert_eq!(details.len(), 3, "{details:?}");
}

/// Only the runtime knows which toolkit made a model. Here it says so when the model is loaded: by a
/// library that would stop at commas and never at the end.
#[rstest]
#[case::nothing_said("demo.rkllm")]
#[case::a_lie("demo-v1.3.0.rkllm")]
#[tokio::test]
async fn a_model_that_needs_the_guard_is_loaded_again_before_it_answers(#[case] weights: &str) {
    let rule = "[[rule]]\nsay = \"done, A& B& really done\"\n";
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("demo").toolkit("1.2.3").weights_name(weights).script(rule))
        .start();

    let answer = Chat::user("Hi").with("keep_alive", 0).ask(&server).await;

    assert_eq!(answer.content(), "done, A& B& really done");
    assert_eq!(answer.finish(), "stop");
    assert_eq!(guards(&server), [false, true]);
    unloaded(&server, 2).await;
    let runtime = runtime_of(&server, "demo").await;
    assert!(runtime["reason"].as_str().unwrap().contains("1.2.3 made the model"), "{runtime}");
    assert!(runtime["warning"].as_str().unwrap().contains("end of sequence"), "{runtime}");
    assert_eq!(health(&server).await["status"], "ok", "its answers are right");

    // It is known now, to the next process too.
    Chat::user("Hi").with("keep_alive", 0).ask(&server).await;
    unloaded(&server, 3).await;
    let server = server.restart();
    let answer = Chat::user("Hi").ask(&server).await;
    assert_eq!(answer.content(), "done, A& B& really done");
    assert_eq!(guards(&server), [false, true, true, true]);
}

#[tokio::test]
async fn a_model_whose_name_says_nothing_ends_at_its_own_release() {
    let server = ServerSetup::new()
        .runtime(folder_of_all_releases())
        .model(&ModelDir::demo("demo").toolkit("1.2.2"))
        .start();
    for _ in 0..2 {
        answered(&chat("demo").ask(&server).await);
    }
    assert_eq!(releases(&server), ["1.3.1", "1.2.2"]);
    let trace = server.trace();
    assert_eq!(trace.calls("rkllm_destroy"), 1, "the first one was freed in order");
    assert_eq!(trace.calls("rkllm_run"), 2, "nothing was answered by it");
}

/// SIGBUS at load was seen on a board: the next library takes over, this time and the next.
#[tokio::test]
async fn a_library_that_dies_of_a_model_is_followed_by_the_next() {
    let server = ServerSetup::new()
        .mock("1.3.0")
        .mock("1.2.3")
        .model(&ModelDir::demo("demo").toolkit("1.2.3").weights_name("demo-v1.2.3.rkllm"))
        .env("MOCK_NPU_FAULTS", "sigbus_in_init_of=1.2.3")
        .start();

    answered(&chat("demo").ask(&server).await);

    assert_eq!(releases(&server), ["1.2.3", "1.3.0"]);
    assert_eq!(guards(&server), [false, true]);
    let runtime = runtime_of(&server, "demo").await;
    assert_eq!(runtime["version"], "1.3.0");
    let warning = runtime["warning"].as_str().unwrap();
    assert!(warning.contains("SIGBUS") && warning.contains("1.2.3"), "{warning}");
    let server = server.restart();
    answered(&chat("demo").ask(&server).await);
    assert_eq!(releases(&server), ["1.3.0"], "1.2.3 was not tried again");
}

#[tokio::test]
async fn a_library_that_refuses_a_model_is_followed_by_the_next() {
    let setup = ServerSetup::new();
    let liar = disguised(&setup.models(), "1.3.0", "1.2.3");
    let server =
        setup.runtime(liar).mock("1.2.2").model(&ModelDir::demo("demo").toolkit("1.2.2")).start();
    answered(&chat("demo").ask(&server).await);
    assert_eq!(releases(&server), ["1.2.2"], "the other one was never initialised");
    assert!(server.log().contains("structures"), "{}", server.log());
}

#[tokio::test]
async fn when_every_library_fails_each_is_named_with_its_reason() {
    let setup = ServerSetup::new();
    let liar = disguised(&setup.models(), "1.3.0", "1.2.3");
    let server = setup
        .runtime(liar)
        .mock("1.3.0")
        .model(&ModelDir::demo("demo"))
        .env("MOCK_NPU_FAULTS", "sigbus_in_init_of=1.3.0")
        .start();
    let answer = chat("demo").ask(&server).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    let error = answer.error();
    for words in ["RKLLM runtime 1.2.3 (", "structures are", "RKLLM runtime 1.3.0 (", "SIGBUS"] {
        assert!(error.contains(words), "{words} in {error}");
    }
    assert_eq!(server.trace().calls("rkllm_init"), 1);
}

/// Another library would not help, and each attempt costs seconds.
#[rstest]
#[case::another_chip("board_platform=RK3576", "target_platform")]
#[case::no_npu_memory("init_null_handle", "out of memory")]
#[tokio::test]
async fn what_is_no_fault_of_the_library_is_not_tried_with_the_next(
    #[case] fault: &str,
    #[case] words: &str,
) {
    let server = ServerSetup::new()
        .mock("1.3.1")
        .mock("1.3.0")
        .model(&ModelDir::demo("demo"))
        .env("MOCK_NPU_FAULTS", fault)
        .start();
    let answer = chat("demo").ask(&server).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.error().contains(words), "{}", answer.error());
    assert_eq!(server.trace().calls("rkllm_init"), 1);
    assert_eq!(runtime_of(&server, "demo").await["warning"], Value::Null);
}

/// The kernel takes a worker when memory runs out, whatever its library.
#[tokio::test]
async fn memory_that_runs_out_during_a_load_is_not_held_against_the_library() {
    let server = ServerSetup::new()
        .mock("1.3.1")
        .mock("1.3.0")
        .model(&ModelDir::demo("demo"))
        .in_real_time("[latency]\nload_ms = 600000\n")
        .start();
    let chat = chat("demo");
    let killed = async {
        let init = || server.trace().workers().pop();
        let worker = eventually("it is being loaded", init).await;
        kill_process(Pid::from_raw(i32::try_from(worker).unwrap()).unwrap(), Signal::KILL).unwrap();
    };
    let (answer, ()) = tokio::join!(chat.ask(&server), killed);
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.error().contains("SIGKILL"), "{}", answer.error());
    assert_eq!(server.trace().calls("rkllm_init"), 1);
    assert_eq!(runtime_of(&server, "demo").await["warning"], Value::Null);
}

/// Who has waited for a hanging load does not wait for a second one, and the next one need not.
#[tokio::test]
async fn a_library_that_hangs_comes_last_the_next_time() {
    let server = ServerSetup::new()
        .mock("1.3.0")
        .mock("1.2.3")
        .model(&ModelDir::demo("demo").toolkit("1.2.3").weights_name("demo-v1.2.3.rkllm"))
        .config("[limits]\nload_timeout_ms = 3000")
        .env("MOCK_NPU_FAULTS", "hang_in_init_of=1.2.3")
        .start();
    let answer = chat("demo").ask(&server).await;
    assert_eq!(answer.status, 503);
    assert!(answer.error().contains("took longer than 3s"), "{}", answer.error());
    answered(&chat("demo").ask(&server).await);
    assert_eq!(releases(&server), ["1.2.3", "1.3.0"]);
}

#[tokio::test]
async fn a_release_that_is_not_there_is_an_error_that_names_what_is() {
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("demo").manifest("runtime = \"1.2.1\""))
        .start();
    let answer = chat("demo").ask(&server).await;
    assert_eq!(answer.status, 503);
    let error = answer.error();
    assert!(error.contains("1.2.1") && error.contains("1.3.0 ("), "{error}");
    let health = health(&server).await;
    assert_eq!(health["problems"][0]["subject"], "demo");
    assert_eq!(health["runtimes"], json!([]));
}

/// A pair that is known to print garbage is used where there is no other, and said to be one.
#[tokio::test]
async fn a_pair_that_is_known_to_be_bad_is_a_problem() {
    let server =
        ServerSetup::new().mock("1.2.3").model(&ModelDir::demo("demo").toolkit("1.2.0")).start();
    assert_eq!(health(&server).await["status"], "ok", "nobody knows it yet");
    answered(&chat("demo").ask(&server).await);
    let health = health(&server).await;
    assert_eq!(health["status"], "degraded");
    let detail = health["problems"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("toolkit 1.2.0") && detail.contains("garbage"), "{detail}");
    assert_eq!(server.trace().calls("rkllm_init"), 1);
}

/// The model's own limit is learned once: later loads ask for no more.
#[tokio::test]
async fn a_context_that_was_too_large_once_is_right_the_next_time() {
    let server = ServerSetup::demo().env("MOCK_NPU_FAULTS", "context_limit=1024").start();
    answered(&chat("demo").with("keep_alive", 0).ask(&server).await);
    assert_eq!(server.trace().calls("rkllm_init"), 2);
    unloaded(&server, 1).await;
    answered(&chat("demo").ask(&server).await);
    let loads = server.trace().args("rkllm_init");
    let contexts: Vec<_> = loads.iter().map(|args| &args["param"]["max_context_len"]).collect();
    assert_eq!(contexts, [4096, 1024, 1024]);
}

#[tokio::test]
async fn a_damaged_memory_costs_a_load_and_no_more() {
    let setup = ServerSetup::new().mock("1.3.0").model(&ModelDir::demo("demo").toolkit("1.2.3"));
    let file = setup.state().join("models.json");
    let server = setup.start();
    answered(&chat("demo").ask(&server).await);
    assert_eq!(guards(&server), [false, true]);
    let whole = fs::read_to_string(&file).unwrap();
    assert!(serde_json::from_str::<Value>(&whole).is_ok(), "{whole}");

    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let server = server.restart();
    assert!(server.log().contains("what was learned of models is lost"), "{}", server.log());
    assert_eq!(health(&server).await["status"], "ok");
    answered(&chat("demo").ask(&server).await);
    assert_eq!(guards(&server), [false, true, false, true]);
    assert_eq!(
        serde_json::from_str::<Value>(&fs::read_to_string(&file).unwrap()).unwrap()["format"],
        1
    );
}

/// What a probe of the hardware found counts, and what the operator says counts more.
#[tokio::test]
async fn facts_about_a_release_come_from_the_probe_and_from_the_configuration() {
    let model = ModelDir::demo("demo").toolkit("1.2.3").weights_name("demo-v1.2.3.rkllm");
    let probed = || {
        let setup = ServerSetup::new().mock("1.3.1").model(&model);
        fs::create_dir_all(setup.state()).unwrap();
        let facts = "[runtime_profiles.\"1.3.1\"]\neos_guard = false\n";
        fs::write(setup.state().join("capabilities.toml"), facts).unwrap();
        setup
    };
    let server = probed().start();
    answered(&chat("demo").ask(&server).await);
    assert_eq!(guards(&server), [false]);

    let facts = "[runtime_profiles.\"1.3\"]\neos_guard = true\ncontext_margin_tokens = 500\n";
    let server = probed().config(facts).start();
    answered(&chat("demo").ask(&server).await);
    assert_eq!(guards(&server), [true]);
    let long = Chat::user(&"word ".repeat(4000)).ask(&server).await;
    assert_eq!(long.status, 400, "{}", long.body);
    assert!(long.error().contains("500 are kept"), "{}", long.error());
}

#[tokio::test]
async fn a_damaged_capability_file_is_a_problem_and_no_more() {
    let setup = ServerSetup::demo();
    fs::create_dir_all(setup.state()).unwrap();
    fs::write(setup.state().join("capabilities.toml"), "[runtime_profiles.\"1.1\"]").unwrap();
    let server = setup.start();
    answered(&chat("demo").ask(&server).await);
    let health = health(&server).await;
    let detail = health["problems"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("capabilities.toml is ignored"), "{detail}");
}
