//! The log for programs: a line is an object.

use rkllama_tests::{Chat, ServerSetup, until};
use serde_json::Value;

/// From the first line of the start to the last of the end, the runtime's own words among them.
#[tokio::test]
async fn every_line_for_programs_is_an_object_with_time_level_and_message() {
    let mut server = ServerSetup::demo().config("[log]\nformat = \"json\"").start();
    assert_eq!(Chat::user("Hello").ask(&server).await.status, 200);
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success());
    let log = until("the last line is written", || {
        Some(server.log()).filter(|log| log.contains("\"stopped\"") && log.ends_with('\n'))
    });

    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        for key in ["timestamp", "level", "target", "message"] {
            assert!(line[key].is_string(), "no {key} in {line}");
        }
    }
    let answered = lines
        .iter()
        .find(|line| line["message"] == "answered" && line["route"] == "/v1/chat/completions")
        .unwrap();
    assert_eq!((&answered["status"], &answered["method"]), (&200.into(), &"POST".into()));
    let is_from_runtime = |line: &&Value| line.to_string().contains("rkllm");
    assert!(lines.iter().any(|line| is_from_runtime(&line)), "{log}");
}

#[test]
fn a_form_of_the_log_that_is_none_is_refused_by_its_key() {
    let output = ServerSetup::new().config("[log]\nformat = \"xml\"").command().output().unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("`log.format`") && words.contains("xml"), "{words}");
}
