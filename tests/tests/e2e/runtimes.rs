//! Which vendor library is used, and what is said where there is none.

use std::fs;

use rkllama_tests::{Chat, ModelDir, Server, ServerSetup, mock_library};
use rstest::rstest;
use serde_json::{Value, json};

async fn health(server: &Server) -> Value {
    let response = reqwest::get(format!("{}/health", server.url)).await.unwrap();
    assert_eq!(response.status(), 200, "alive is alive");
    response.json().await.unwrap()
}

#[rstest]
#[case("1.2.1", "1.2.1")]
#[case("1.2.2", "1.2.2")]
#[case("1.2.3", "1.2.3")]
#[case("1.3.0", "1.3.0")]
#[case("1.3.1", "1.3.0")]
#[tokio::test]
async fn every_supported_release_answers(#[case] runtime: &str, #[case] toolkit: &str) {
    let server =
        ServerSetup::new().mock(runtime).model(&ModelDir::demo("demo").toolkit(toolkit)).start();
    let answer = Chat::user("What is an NPU?").with("max_tokens", 12).ask(&server).await;
    assert_eq!(answer.body["usage"]["completion_tokens"], 12, "{}", answer.body);
    assert_eq!(health(&server).await["status"], "ok");
}

/// Before 1.3.0 sampling is fixed at load: a request that wants its own is answered and told.
/// By configuration the model is loaded again, and only where that changes something.
#[tokio::test]
async fn sampling_that_an_old_runtime_fixes_at_load_can_be_had_by_loading_again() {
    let server = ServerSetup::new()
        .mock("1.2.3")
        .model(&ModelDir::demo("demo").toolkit("1.2.3").weights_name("demo-v1.2.3.rkllm"))
        .config("reload_for_sampling = true")
        .start();
    let chat = Chat::user("Hello").with("max_tokens", 2);
    for temperature in [0.5, 0.5, 0.25] {
        let answer = chat.clone().with("temperature", temperature).ask(&server).await;
        assert_eq!(answer.finish(), "length", "{}", answer.body);
        assert_eq!(answer.ignored, None);
    }
    let loaded: Vec<_> = server
        .trace()
        .args("rkllm_init")
        .iter()
        .map(|args| args["param"]["sampling"]["temperature"].as_f64().unwrap())
        .collect();
    assert_eq!(loaded, [0.5, 0.25]);
    server.stop();
}

#[tokio::test]
async fn sampling_that_an_old_runtime_cannot_apply_is_named() {
    let old =
        ServerSetup::new().mock("1.2.3").model(&ModelDir::demo("demo").toolkit("1.2.3")).start();
    let chat = Chat::user("Hi").with("temperature", 0.1).with("max_tokens", 2);
    let answer = chat.ask(&old).await;
    assert_eq!(answer.finish(), "length");
    assert_eq!(answer.ignored.as_deref(), Some("temperature"));

    let new = ServerSetup::demo().start();
    assert_eq!(chat.ask(&new).await.ignored, None);
}

/// Runtime 1.3.0 reads no end-of-sequence ids from older models: it would stop at the first token
/// of id 11 and never at the real end.
#[rstest]
#[case::named_in_the_file("demo-w8a8-v1.2.3.rkllm")]
#[case::named_nowhere("demo.rkllm")]
#[tokio::test]
async fn an_older_model_on_a_new_runtime_ends_where_it_should(#[case] weights: &str) {
    let rule = "[[rule]]\nsay = \"done, A& B& really done\"\n";
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("demo").toolkit("1.2.3").weights_name(weights).script(rule))
        .start();
    let answer = Chat::user("Hi").ask(&server).await;
    assert_eq!(answer.content(), "done, A& B& really done");
    assert_eq!(answer.finish(), "stop");
}

#[tokio::test]
async fn the_manifest_chooses_among_releases() {
    let server = ServerSetup::new()
        .mock("1.3.0")
        .mock("1.2.2")
        .model(&ModelDir::demo("new"))
        .model(&ModelDir::demo("old").toolkit("1.2.2").manifest("runtime = \"1.2.2\""))
        .start();
    for model in ["new", "old"] {
        let chat = Chat::user("Hi").with("model", model).with("max_tokens", 1);
        assert_eq!(chat.ask(&server).await.finish(), "length");
    }
    let log = server.log();
    assert!(log.contains("rkllm-runtime version: 1.3.0"), "{log}");
    assert!(log.contains("rkllm-runtime version: 1.2.2"), "{log}");
}

#[tokio::test]
async fn a_folder_of_runtimes_is_searched() {
    let folder = mock_library("1.3.0").parent().unwrap().parent().unwrap().to_owned();
    let server = ServerSetup::new().runtime(folder).model(&ModelDir::demo("demo")).start();
    let answer = Chat::user("Hi").with("max_tokens", 1).ask(&server).await;
    assert_eq!(answer.finish(), "length", "{}", answer.body);
}

#[tokio::test]
async fn without_a_runtime_the_server_starts_and_says_so() {
    let server =
        ServerSetup::new().runtime("/nowhere/librkllmrt.so").model(&ModelDir::demo("demo")).start();
    let health = health(&server).await;
    assert_eq!(health["status"], "degraded");
    let detail = health["problems"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("/nowhere/librkllmrt.so"), "{detail}");

    let answer = Chat::user("Hi").ask(&server).await;
    assert_eq!(answer.status, 503);
    assert!(answer.error().contains("/nowhere/librkllmrt.so"), "{}", answer.error());
    server.stop();
}

/// Each kind of file that is no usable runtime: the answer names file and version.
#[rstest]
#[case::too_old("1.1.4")]
#[case::ancient("1.0.1")]
#[case::too_new("2.0.0")]
#[tokio::test]
async fn an_unsupported_release_is_refused_by_name(#[case] version: &str) {
    let setup = ServerSetup::new().model(&ModelDir::demo("demo"));
    let library = setup.models().join("librkllmrt.so");
    let bytes = fs::read(mock_library("1.3.0")).unwrap();
    let (from, to) = (b"RKLLM SDK (version: 1.3.0", format!("RKLLM SDK (version: {version}"));
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    let mut patched = bytes;
    patched[at..at + from.len()].copy_from_slice(to.as_bytes());
    fs::write(&library, patched).unwrap();
    let server = setup.runtime(&library).start();

    let answer = Chat::user("Hi").ask(&server).await;

    assert_eq!(answer.status, 503);
    let error = answer.error();
    assert!(error.contains(version) && error.contains("librkllmrt.so"), "{error}");
    assert_eq!(health(&server).await["status"], "degraded");
    assert_eq!(server.trace().0.len(), 0, "it was never opened");
}

#[tokio::test]
async fn a_file_that_is_no_library_is_refused_by_name() {
    let setup = ServerSetup::new().model(&ModelDir::demo("demo"));
    let file = setup.models().join("librkllmrt.so");
    fs::write(&file, "hello").unwrap();
    let server = setup.runtime(&file).start();
    let answer = Chat::user("Hi").ask(&server).await;
    assert_eq!(answer.status, 503);
    assert!(answer.error().contains("librkllmrt.so"), "{}", answer.error());
}

#[tokio::test]
async fn models_are_listed_with_or_without_a_runtime() {
    let server = ServerSetup::new().runtime("/nowhere").model(&ModelDir::demo("demo")).start();
    let list: Value =
        reqwest::get(format!("{}/v1/models", server.url)).await.unwrap().json().await.unwrap();
    assert_eq!(list["object"], "list");
    let ids: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert_eq!(ids, [&json!("demo")]);
}
