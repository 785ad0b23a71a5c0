//! `pull`: a model comes from the hub, and whoever waits sees how far it is.

use std::{fs, net::TcpListener};

use rexpect::session::{PtySession, spawn_command};
use rkllama_tests::{Server, ServerSetup, repository, until};
use serde_json::Value;

use crate::cli_support::{Hub, client, complaint, printed, run, text};

const TERMINAL_TIMEOUT_MS: u64 = 60_000;
/// Enough that a half of it does not fit into anybody's buffers.
const PADDING_LEN: usize = 4 << 20;

fn demo(file: &str) -> Vec<u8> {
    fs::read(repository().join("mock-npu/demo").join(file)).unwrap()
}

/// Weights that run, and are large.
fn weights() -> Vec<u8> {
    let mut weights = demo("demo.rkllm");
    weights.extend(b"\n# ");
    weights.resize(weights.len() + PADDING_LEN, b'x');
    weights.push(b'\n');
    weights
}

fn hub() -> Hub {
    let (weights, tokenizer, config) =
        (weights(), demo("tokenizer.json"), demo("tokenizer_config.json"));
    Hub::of(&[
        ("org/repo", "tokenizer.json", &tokenizer),
        ("org/repo", "tokenizer_config.json", &config),
        ("org/repo", "demo-rk3588.rkllm", &weights),
        ("org/bare", "bare-rk3588.rkllm", &weights),
        ("org/base", "tokenizer.json", &tokenizer),
        ("org/base", "tokenizer_config.json", &config),
        ("org/several", "tokenizer.json", &tokenizer),
        ("org/several", "a-rk3588.rkllm", &weights),
        ("org/several", "b-rk3588.rkllm", &weights),
    ])
}

fn server(hub: &Hub) -> Server {
    ServerSetup::new().mock("1.3.0").config(&hub.config()).start()
}

#[test]
fn what_was_pulled_answers_and_a_pipe_gets_plain_lines() {
    let hub = hub();
    let server = server(&hub);
    let output = printed(&run(&server, &["pull", "org/repo"]));
    let lines: Vec<&str> = output.lines().collect();
    for file in ["tokenizer.json", "tokenizer_config.json", "demo-rk3588.rkllm"] {
        let begun: Vec<usize> = positions(&lines, &format!("{file}: "));
        assert_eq!(begun.len(), 2, "{file} in {output}");
        assert_eq!(lines[begun[1]], format!("{file}: complete"));
    }
    assert!(output.contains("demo-rk3588.rkllm: 4.20 MB"), "{output}");
    assert_eq!(lines.last(), Some(&"pulled 'repo'"));
    assert!(!printed(&run(&server, &["run", "org/repo", "Hi"])).trim().is_empty());
    // Again: it is there.
    assert_eq!(printed(&run(&server, &["pull", "org/repo"])), "pulled 'repo'\n");
    assert_eq!(hub.starts(), [0]);
}

fn positions(lines: &[&str], begin: &str) -> Vec<usize> {
    (0..lines.len()).filter(|at| lines[*at].starts_with(begin)).collect()
}

#[test]
fn programs_get_the_lines_of_the_server() {
    let hub = hub();
    let server = server(&hub);
    let lines = printed(&run(&server, &["pull", "org/repo", "--json"]));
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["status"], "pulling manifest");
    assert!(lines.iter().any(|line| line["file"] == "demo-rk3588.rkllm" && line["total"].is_u64()));
    assert_eq!(lines.last().unwrap()["status"], "success");
    // A failure too, besides the line for people.
    let failed = run(&server, &["pull", "org/nothing", "--json"]);
    let last: Value = serde_json::from_str(text(&failed.stdout).lines().last().unwrap()).unwrap();
    let error = last["error"].as_str().unwrap();
    assert_eq!(complaint(&failed), format!("rkllama: {error}\n"));
}

#[test]
fn name_and_tokenizer_are_as_asked_for() {
    let hub = hub();
    let server = server(&hub);
    let without = complaint(&run(&server, &["pull", "org/bare"]));
    assert!(without.contains("tokenizer"), "{without}");
    let args = ["pull", "org/bare", "--as", "mine:1", "--tokenizer", "org/base"];
    assert!(printed(&run(&server, &args)).ends_with("pulled 'mine:1'\n"));
    assert!(!printed(&run(&server, &["run", "mine:1", "Hi"])).trim().is_empty());
}

#[test]
fn of_several_files_each_comes_with_its_command() {
    let hub = hub();
    let server = server(&hub);
    let output = run(&server, &["pull", "org/several", "--as", "it"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let words = text(&output.stderr);
    let lines: Vec<&str> = words.lines().collect();
    assert!(lines[0].starts_with("rkllama: org/several holds several models"), "{words}");
    assert_eq!(
        lines[1..],
        [
            "  rkllama pull org/several/a-rk3588.rkllm --as it",
            "  rkllama pull org/several/b-rk3588.rkllm --as it",
        ]
    );
    let command: Vec<&str> = lines[2].split_whitespace().skip(1).collect();
    assert!(printed(&run(&server, &command)).ends_with("pulled 'it'\n"));
}

#[test]
fn failures_are_one_line() {
    let hub = hub();
    let server = server(&hub);
    for (name, words) in [
        ("org/nothing", "org/nothing"),
        ("nothing", "'nothing' is no short name"),
        ("../etc", "name"),
        ("org/base", "org/base has no .rkllm file"),
    ] {
        let output = run(&server, &["pull", name]);
        assert!(complaint(&output).contains(words), "{output:?}");
    }
    // A port where nobody listens: it was bound and is free again.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let absent = complaint(&run(&server, &["pull", "org/repo", "--host", &free]));
    assert!(absent.contains("rkllama serve") && absent.contains(&free), "{absent}");
}

#[test]
fn run_names_the_command_that_fetches_an_unknown_model() {
    let server = ServerSetup::demo().start();
    let unknown = complaint(&run(&server, &["run", "qwen3:1.7b", "Hi"]));
    assert!(unknown.contains("`rkllama pull qwen3:1.7b`"), "{unknown}");
}

fn terminal(server: &Server, args: &[&str]) -> PtySession {
    let mut command = client(server, args);
    command.env("TERM", "xterm");
    spawn_command(command, Some(TERMINAL_TIMEOUT_MS)).unwrap()
}

/// A file's line, of which at least a block is full.
fn bar(file: &str, percent: &str) -> String {
    // What reads the terminal takes each byte for a character.
    let block: String = "█".bytes().map(char::from).collect();
    format!("{file} +{percent}% [^ ]+{block}[^M]+ [0-9.]+ .B")
}

#[test]
fn a_terminal_shows_a_bar_and_ctrl_c_stops_what_goes_on_later() {
    let hub = hub();
    let server = server(&hub);
    hub.hold();
    let mut session = terminal(&server, &["pull", "org/repo"]);
    session.exp_regex(&bar("tokenizer.json", "100")).unwrap();
    // While it stands still too: how fast it is, and the time that is left.
    session.exp_regex(&format!("{} [0-9.]+ .?B/s [0-9]+", bar("demo-rk3588.rkllm", "50"))).unwrap();
    session.send_control('c').unwrap();
    session.exp_regex("\nrkllama: stopped; [^\n]+\n").unwrap();
    session.exp_eof().unwrap();
    // Nobody waits for it any more.
    until("the server lets go of the hub", || (hub.left() == 1).then_some(()));
    hub.let_go_on();
    let mut session = terminal(&server, &["pull", "org/repo"]);
    session.exp_regex(&bar("demo-rk3588.rkllm", "100")).unwrap();
    session.exp_string("\npulled 'repo'").unwrap();
    session.exp_eof().unwrap();
    let starts = hub.starts();
    assert!(starts.len() == 2 && starts[0] == 0 && starts[1] > 0, "{starts:?}");
}
