//! The executable as a person meets it.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use rkllama_tests::{ModelDir, ServerSetup, executable, mock_library, repository};

fn run(command: &mut Command) -> (bool, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let (success, printed, _) = run(Command::new(executable()).arg("openapi"));
    assert!(success);
    let committed = fs::read_to_string(repository().join("openapi/openapi.json")).unwrap();
    assert_eq!(
        printed.trim_end(),
        committed.trim_end(),
        "run `cargo run -- openapi > openapi/openapi.json`"
    );
}

#[tokio::test]
async fn the_document_and_the_pages_are_served() {
    let server = ServerSetup::new().start();
    let document = reqwest::get(format!("{}/openapi.json", server.url)).await.unwrap();
    assert_eq!(document.headers()["content-type"], "application/json");
    let document: serde_json::Value = document.json().await.unwrap();
    assert!(document["paths"]["/v1/chat/completions"]["post"].is_object());
    let page = reqwest::get(format!("{}/docs", server.url)).await.unwrap();
    assert!(page.url().path().ends_with("/docs/"));
    assert!(page.text().await.unwrap().contains("swagger-ui"));
}

#[test]
fn help_and_version_need_nothing() {
    let (success, help, _) = run(Command::new(executable()).arg("serve").arg("--help"));
    assert!(success);
    for flag in ["--listen", "--models", "--runtime", "--config", "--debug"] {
        assert!(help.contains(flag), "{help}");
    }
    let (_, version, _) = run(Command::new(executable()).arg("--version"));
    assert_eq!(version.trim(), format!("rkllama {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_setting_is_one_line_that_names_it() {
    let setup = ServerSetup::new().config("lisen = \"127.0.0.1:1\"");
    let (success, _, error) = run(&mut setup.command());
    assert!(!success);
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("`lisen`") && error.contains("config.toml"), "{error}");
}

#[test]
fn a_taken_address_is_named() {
    let server = ServerSetup::new().start();
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let second = ServerSetup::new().arg("--listen").arg(&address);
    let (success, _, error) = run(&mut second.command());
    assert!(!success);
    assert!(error.contains(&address), "{error}");
}

#[test]
fn a_worker_is_not_started_by_hand() {
    let (success, _, error) =
        run(Command::new(executable()).arg("worker").stdin(std::process::Stdio::null()));
    assert!(!success);
    assert!(error.contains("started by the server"), "{error}");
}

/// The lines of the README, as they stand there.
#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_curl_line_streams_an_answer() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let at = readme.find("    curl -N ").unwrap();
    let line = readme[at..].split("\n\n").next().unwrap();
    let setup = ServerSetup::new().mock("1.3.0").model(&ModelDir::demo("demo"));
    let server = setup.start();
    let line = line.replace("http://127.0.0.1:8080", &server.url);
    let (success, streamed, error) = run(Command::new("sh").arg("-c").arg(format!("{line} -sS")));
    assert!(success, "{error}");
    assert!(streamed.starts_with("data: {"), "{streamed}");
    assert!(streamed.trim_end().ends_with("data: [DONE]"), "{streamed}");
    assert!(mock_library("1.3.0").is_file());
}

/// A log collector may die; the server must not die with it.
#[tokio::test]
async fn a_lost_standard_error_costs_only_the_log() {
    let setup = ServerSetup::new().mock("1.3.0").model(&ModelDir::demo("demo"));
    let mut child = setup.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().split_once("listening on ").unwrap().1.to_owned();
    drop(child.stderr.take());
    for _ in 0..3 {
        let body = r#"{"model":"demo","max_tokens":1,"messages":[{"role":"user","content":"Hi"}]}"#;
        let request = reqwest::Client::new().post(format!("{url}/v1/chat/completions"));
        assert_eq!(request.body(body).send().await.unwrap().status(), 200);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
