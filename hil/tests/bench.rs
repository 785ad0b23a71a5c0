//! `bench` on the mock: its figures are whole and sane, the bare loop says what the server says, and
//! what cannot be measured is said. How fast anything is, is no test's affair.
#![allow(clippy::unwrap_used, reason = "a failure is a failure")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rkllama_hil::bench::{Bench, Kind, Side};
use tempfile::TempDir;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn bench(args: &[&str]) -> Output {
    let runner = PathBuf::from(env!("CARGO_BIN_EXE_rkllama-hil"));
    Command::new(&runner)
        .current_dir(root())
        .env_remove("RUST_BACKTRACE")
        .env("RKLLAMA_BIN", runner.with_file_name("rkllama"))
        .env("MOCK_NPU_LIBS", runner.parent().unwrap().with_file_name("mock"))
        .args(["bench", "--short", "--runs", "1"])
        .args(args)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn whole(side: &Side, kinds: &[Kind]) {
    let measured: Vec<Kind> = side.figures.keys().copied().collect();
    assert_eq!(measured, kinds, "{}", side.name);
    for (kind, it) in &side.figures {
        let sane = 0.0 < it.min && it.min <= it.median && it.median <= it.max && it.max < 1e9;
        // A short run can take no tick of the kernel's clock.
        assert!(sane || *kind == Kind::CpuUsPerToken, "{}: {kind:?} {it:?}", side.name);
    }
}

const BARE: [Kind; 8] = [
    Kind::TokensPerS,
    Kind::CpuUsPerToken,
    Kind::FirstTokenMs,
    Kind::LongFirstTokenMs,
    Kind::SecondTurnMs,
    Kind::OneClientPerS,
    Kind::LoadMs,
    Kind::WorkerRssMb,
];
const PEER: [Kind; 7] = [
    Kind::TokensPerS,
    Kind::FirstTokenMs,
    Kind::LongFirstTokenMs,
    Kind::SecondTurnMs,
    Kind::OneClientPerS,
    Kind::FourClientsPerS,
    Kind::RoundTripMs,
];
const OURS: [Kind; 14] = [
    Kind::TokensPerS,
    Kind::CpuUsPerToken,
    Kind::FirstTokenMs,
    Kind::LongFirstTokenMs,
    Kind::SecondTurnMs,
    Kind::OneClientPerS,
    Kind::FourClientsPerS,
    Kind::LoadMs,
    Kind::StartMs,
    Kind::IdleRssMb,
    Kind::ServerRssMb,
    Kind::WorkerRssMb,
    Kind::WorkerPssMb,
    Kind::RoundTripMs,
];

/// On both layouts of the vendor's structs; the command itself compares every answer on the mock.
#[test]
fn loop_and_server_say_the_same_and_every_figure_is_there() {
    for release in ["1.3.0", "1.2.3"] {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("figures.json");
        let output =
            bench(&["--target", "mock", "--release", release, "--json", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", said(&output));
        let figures: Bench = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!((figures.target, figures.runs), (format!("the mock of {release}"), 1));
        assert!(figures.machine.iter().any(|it| it.starts_with("cores: ")));
        assert_eq!(figures.parts.len(), 2);
        for part in &figures.parts {
            let [bare, ours] = part.sides.as_slice() else { panic!("{part:?}") };
            whole(bare, &[BARE.as_slice(), &[Kind::WorkerPssMb]].concat());
            whole(ours, &OURS);
            assert_eq!(part.notes[1], "5 of 5 answers are the same, token for token.");
        }
        let table = String::from_utf8(output.stdout).unwrap();
        for kind in OURS {
            assert_eq!(table.matches(&format!("| {} |", kind.caption())).count(), 2, "{table}");
        }
    }
}

#[test]
fn a_loop_that_says_something_else_is_found() {
    let dir = TempDir::new().unwrap();
    let source = fs::read_to_string(root().join("hil/bench/loop.c")).unwrap();
    let other = source.replace("= result->token_id;", "= result->token_id + 1;");
    assert_ne!(other, source);
    let file = dir.path().join("other.c");
    fs::write(&file, other).unwrap();
    let args = ["--target", "mock", "--pace", "none", "--loop-source", file.to_str().unwrap()];
    let output = bench(&args);
    assert!(!output.status.success());
    assert!(said(&output).contains("not the same: "), "{}", said(&output));
}

/// A server that knows nothing but chat, and counts no tokens.
async fn stranger() -> MockServer {
    let server = MockServer::start().await;
    let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"one \"}}]}\n\n\
                  data: {\"choices\":[{\"delta\":{\"content\":\"two\"},\"finish_reason\":\"stop\"}]}\n\n\
                  data: [DONE]\n\n";
    let whole = r#"{"choices":[{"message":{"content":"one two"},"finish_reason":"stop"}]}"#;
    Mock::given(path("/v1/chat/completions"))
        .and(wiremock::matchers::body_string_contains("\"stream\":true"))
        .respond_with(ResponseTemplate::new(200).set_body_raw(stream, "text/event-stream"))
        .mount(&server)
        .await;
    Mock::given(path("/v1/chat/completions"))
        .respond_with(ResponseTemplate::new(200).set_body_raw(whole, "application/json"))
        .mount(&server)
        .await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn other_servers_are_asked_the_same_and_need_chat_alone() {
    let stranger = stranger().await;
    let dir = TempDir::new().unwrap();
    let (json, page) = (dir.path().join("figures.json"), dir.path().join("PAGE.md"));
    fs::write(&page, "Before.\n<!-- figures -->\nold\n<!-- end of figures -->\nAfter.\n").unwrap();
    let output = bench(&[
        "--target",
        "mock",
        "--pace",
        "board",
        "--peer",
        &stranger.uri(),
        "--peer-model",
        "theirs",
        "--json",
        json.to_str().unwrap(),
        "--output",
        page.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", said(&output));
    let figures: Bench = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let [part] = figures.parts.as_slice() else { panic!("{figures:?}") };
    let peer = &part.sides[2];
    assert_eq!(peer.name, format!("theirs at {}", stranger.uri()));
    // Two pieces can come in one, and then have no pace.
    let told: Vec<Kind> = peer.figures.keys().copied().collect();
    assert!(told == PEER || told == PEER[1..], "{told:?}");
    let page = fs::read_to_string(&page).unwrap();
    assert!(page.starts_with("Before.\n<!-- figures -->\n\nrkllama "), "{page}");
    assert!(
        page.ends_with("\n<!-- end of figures -->\nAfter.\n") && !page.contains("old"),
        "{page}"
    );
    // What it is asked is what ours is asked, word for word, with its own model's name.
    let asked = stranger.received_requests().await.unwrap();
    let bodies: Vec<String> =
        asked.iter().map(|it| String::from_utf8_lossy(&it.body).into_owned()).collect();
    for words in ["Story 1.0: Go on and on.", "Question 1.1: What is an NPU?"] {
        assert!(bodies.iter().any(|it| it.contains(words) && it.contains("theirs")), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_measured_is_said() {
    let fails = |args: &[&str], why: &[&str]| {
        let output = bench(args);
        assert!(!output.status.success(), "{args:?}");
        for why in why {
            assert!(said(&output).contains(why), "{args:?}: {}", said(&output));
        }
    };
    let nobody = "http://127.0.0.1:9";
    fails(&["--target", "mock", "--peer", nobody], &["the peer", nobody, "refused"]);
    fails(&["--target", nobody], &[nobody, "refused"]);
    fails(&["--target", "mock", "--model", "absent"], &["no model absent, only: demo"]);
    fails(&["--target", "mock", "--release", "1.2.0"], &["1.2.0 is not supported"]);
    fails(&["--target", "mock", "--loop-source", "no.c"], &["no.c is not there"]);
    let stranger = stranger().await;
    fails(&["--target", "mock", "--peer", &stranger.uri()], &[&stranger.uri(), "404"]);
}

#[test]
fn a_page_without_marks_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let page = dir.path().join("PAGE.md");
    fs::write(&page, "Nothing to fill.\n").unwrap();
    let bench = Bench {
        target: "t".to_owned(),
        version: "v".to_owned(),
        machine: Vec::new(),
        runs: 1,
        parts: Vec::new(),
    };
    let why = rkllama_hil::bench::put_into(Path::new(&page), &bench).unwrap_err();
    assert!(why.to_string().contains("<!-- figures -->"), "{why}");
    assert_eq!(fs::read_to_string(&page).unwrap(), "Nothing to fill.\n");
}
