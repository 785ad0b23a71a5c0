//! The commands that talk to a running server, as a person or a script uses them.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use rexpect::session::{PtySession, spawn_command};
use rkllama_tests::{ModelDir, Server, ServerSetup, executable};
use serde_json::Value;

const TERMINAL_TIMEOUT_MS: u64 = 60_000;

const RULES: &str = "[[rule]]\nuser_contains = \"weather\"\nthink = \"Let me think.\"\nsay = \"It is sunny.\"\n\
                     [[rule]]\nuser_contains = \"first\\n\\nsecond\"\nsay = \"Both came.\"\n\
                     [[rule]]\nsystem_contains = \"pirate\"\nsay = \"Arr.\"\n\
                     [[rule]]\nuser_contains = \"two lines\\nof text\"\nsay = \"Two lines.\"\n\
                     [[rule]]\nuser_contains = \"on and on\"\nsay = \"again and \"\nno_eos = true\n\
                     delay_ms_per_token = 20\n";

fn server() -> Server {
    ServerSetup::new().mock("1.3.0").model(&ModelDir::demo("demo").script(RULES)).start()
}

fn client(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(executable());
    command.args(args).env("RKLLAMA_HOST", &server.url).env_remove("OLLAMA_HOST");
    command
}

/// With this on standard input.
fn run(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn a_prompt_is_answered_and_thoughts_are_not_for_pipes() {
    let server = server();
    let answer = run(client(&server, &["run", "demo", "How is the", "weather?"]), "");
    assert_eq!(printed(&answer), "It is sunny.\n");
    assert!(answer.stderr.is_empty(), "{answer:?}");
}

#[test]
fn what_a_pipe_brings_stands_in_front_of_the_prompt() {
    let server = server();
    assert_eq!(
        printed(&run(client(&server, &["run", "demo", "second"]), "first\n")),
        "Both came.\n"
    );
    let alone = run(client(&server, &["run", "demo"]), "What is the weather?");
    assert_eq!(printed(&alone), "It is sunny.\n");
    let nothing = complaint(&run(client(&server, &["run", "demo"]), " \n"));
    assert!(nothing.contains("nothing to ask"), "{nothing}");
}

#[test]
fn flags_reach_the_model() {
    let server = server();
    let args =
        ["run", "demo", "Hi", "--system", "You are a pirate.", "--verbose", "--keep-alive", "0"];
    let answer = run(client(&server, &args), "");
    assert_eq!(printed(&answer), "Arr.\n");
    let figures = String::from_utf8(answer.stderr).unwrap();
    for word in ["prompt ", "answer ", "prefill ", "decode ", "tokens/s", "ended by         stop"] {
        assert!(figures.contains(word), "{word} in {figures}");
    }
    let json = printed(&run(client(&server, &["run", "demo", "Hi", "--format", "json"]), ""));
    assert!(serde_json::from_str::<Value>(&json).unwrap().is_object(), "{json}");
    let schema = server.dir().join("schema.json");
    std::fs::write(
        &schema,
        r#"{"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 2}"#,
    )
    .unwrap();
    let schema = schema.to_str().unwrap();
    let json = printed(&run(client(&server, &["run", "demo", "Hi", "--format", schema]), ""));
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), serde_json::json!([1, 1]));
}

#[test]
fn models_are_listed_for_people_and_for_programs() {
    let server = server();
    let table = printed(&run(client(&server, &["list"]), ""));
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "CONTEXT", "STATUS", "CHANGED"]);
    assert_eq!(rows[1][..3], ["demo", "4096", "unloaded"]);
    assert_eq!(printed(&run(client(&server, &["ps", "--json"]), "")), "[]\n");
    printed(&run(client(&server, &["run", "demo", "How is the weather?"]), ""));
    let loaded = printed(&run(client(&server, &["ps", "--json"]), ""));
    let loaded: Value = serde_json::from_str(&loaded).unwrap();
    assert_eq!((&loaded[0]["id"], &loaded[0]["status"]), (&"demo".into(), &"loaded".into()));
    assert!(printed(&run(client(&server, &["ls"]), "")).contains("loaded"));
}

#[test]
fn failures_are_one_line_that_says_what_to_do() {
    let server = server();
    let unknown = complaint(&run(client(&server, &["run", "nobody", "Hi"]), ""));
    assert!(unknown.contains("nobody"), "{unknown}");
    let args = ["run", "demo", "Hi", "--format", "nowhere.json"];
    let no_file = complaint(&run(client(&server, &args), ""));
    assert!(no_file.contains("nowhere.json"), "{no_file}");
    let args = ["list", "--host", "https://127.0.0.1"];
    let scheme = complaint(&run(client(&server, &args), ""));
    assert!(scheme.contains("https"), "{scheme}");
    // A port where nobody listens: it was bound and is free again.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let absent = complaint(&run(client(&server, &["list", "--host", &free.to_string()]), ""));
    assert!(absent.contains("rkllama serve") && absent.contains(&free.to_string()), "{absent}");
}

#[test]
fn a_key_is_taken_from_the_environment() {
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("demo"))
        .config("[auth]\nkeys = [\"ada:secret-of-ada-0123456789\"]")
        .start();
    let refused = complaint(&run(client(&server, &["list"]), ""));
    assert!(refused.to_lowercase().contains("key"), "{refused}");
    let mut command = client(&server, &["list"]);
    command.env("RKLLAMA_API_KEY", "secret-of-ada-0123456789");
    assert!(printed(&run(command, "")).contains("demo"));
}

fn terminal(server: &Server) -> PtySession {
    let mut command = client(server, &["run", "demo"]);
    command.env("XDG_STATE_HOME", server.dir()).env("TERM", "xterm");
    let mut session = spawn_command(command, Some(TERMINAL_TIMEOUT_MS)).unwrap();
    ready(&mut session);
    session
}

/// Waits until it reads from the terminal again, as it says once in front of each prompt. What is
/// typed before may be lost.
fn ready(session: &mut PtySession) {
    const BRACKETED_PASTE: &str = "\u{1b}[?2004h";
    session.exp_string(BRACKETED_PASTE).unwrap();
}

#[test]
fn a_conversation_at_a_terminal() {
    let server = server();
    let mut session = terminal(&server);
    session.send_line("How is the weather?").unwrap();
    session.exp_string("Thinking").unwrap();
    session.exp_string("Let me think.").unwrap();
    session.exp_string("It is sunny.").unwrap();
    ready(&mut session);
    session.send_line("\"\"\"two lines").unwrap();
    ready(&mut session);
    session.send_line("of text\"\"\"").unwrap();
    session.exp_string("Two lines.").unwrap();
    ready(&mut session);
    session.send_line("/set system You are a pirate.").unwrap();
    ready(&mut session);
    session.send_line("/set parameter temperature hot").unwrap();
    session.exp_string("no number").unwrap();
    ready(&mut session);
    session.send_line("/clear").unwrap();
    ready(&mut session);
    session.send_line("Hello").unwrap();
    session.exp_string("Arr.").unwrap();
    ready(&mut session);
    // A model that begins with all this.
    session.send_line("/set parameter max_tokens 40").unwrap();
    ready(&mut session);
    session.send_line("/save pirate").unwrap();
    session.exp_string("There is a model pirate now.").unwrap();
    ready(&mut session);
    session.send_line("/save ../pirate").unwrap();
    session.exp_string("invalid model name").unwrap();
    ready(&mut session);
    session.send_line("/load nobody").unwrap();
    ready(&mut session);
    // A question that fails ends nothing.
    session.send_line("Hello?").unwrap();
    session.exp_string("nobody").unwrap();
    ready(&mut session);
    session.send_line("/bye").unwrap();
    session.exp_eof().unwrap();
    let history = std::fs::read_to_string(server.dir().join("rkllama/history")).unwrap();
    assert!(history.contains("How is the weather?"), "{history}");
    let saved = server.dir().join("models/pirate/rkllama.toml");
    let saved = std::fs::read_to_string(saved).unwrap();
    for words in ["max_tokens = 40", "You are a pirate.", "Hello", "Arr."] {
        assert!(saved.contains(words), "{words} in {saved}");
    }
}

/// A picture is sent, and the model says itself that it cannot see.
#[test]
fn a_picture_in_a_question_is_sent() {
    let server = server();
    let picture = server.dir().join("cat.png");
    std::fs::write(&picture, "a cat").unwrap();
    let question = format!("What is on {}?", picture.display());
    let asked = run(client(&server, &["run", "demo", &question]), "");
    let words = String::from_utf8(asked.stderr).unwrap();
    assert!(!asked.status.success() && words.contains("image"), "{words}");
}

#[test]
fn ctrl_c_stops_the_answer_and_not_the_program() {
    let model = ModelDir::demo("demo").script(RULES);
    let server = ServerSetup::new().mock("1.3.0").model(&model).in_real_time("").start();
    let mut session = terminal(&server);
    session.send_line("Talk on and on").unwrap();
    session.exp_string("again and again").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("(stopped)").unwrap();
    ready(&mut session);
    rkllama_tests::until("the runtime is told", || {
        (server.trace().calls("rkllm_abort") > 0).then_some(())
    });
    assert!(!server.log().contains("repeats itself"), "the answer came to its own end");
    session.send_line("How is the weather?").unwrap();
    session.exp_string("It is sunny.").unwrap();
    ready(&mut session);
    session.send_control('d').unwrap();
    session.exp_eof().unwrap();
}
