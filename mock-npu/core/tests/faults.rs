//! Faults on demand, each seen from a C program that dies, fails or goes on as it would on a board.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use mock_npu_core::generate::NewModel;
use serde_json::Value;

use common::{command, compile, libraries, repository};

const SIGABRT: i32 = 6;
const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;

/// A model on a release, and the program that asks it.
struct Bench {
    folder: tempfile::TempDir,
    program: PathBuf,
    library: PathBuf,
    model: PathBuf,
    settings: Vec<(&'static str, String)>,
}

impl Bench {
    fn on(version: &str) -> Bench {
        Bench::with_toolkit(version, version)
    }

    fn with_toolkit(version: &str, toolkit: &str) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let library = libraries().join(version);
        let header = if version.starts_with("1.3") { "rkllm-f.h" } else { "rkllm-e.h" };
        let program = compile("say.c", Some(header), &library, "-lrkllmrt", folder.path());
        let tokenizer = repository().join("mock-npu/demo/tokenizer.json");
        let new = NewModel { toolkit: toolkit.to_owned(), ..NewModel::around(&tokenizer) };
        let model = folder.path().join("model.rkllm");
        let text = new.text(folder.path()).expect("a model");
        std::fs::write(&model, text).expect("written");
        let settings = vec![("MOCK_NPU_SCALE", "0".to_owned())];
        Bench { folder, program, library, model, settings }
    }

    fn set(mut self, name: &'static str, value: &str) -> Bench {
        self.settings.push((name, value.to_owned()));
        self
    }

    fn faults(self, list: &str) -> Bench {
        self.set("MOCK_NPU_FAULTS", list)
    }

    fn says(self, text: &str) -> Bench {
        self.set("MOCK_NPU_SCRIPT", &format!("[[rule]]\nsay = \"{text}\""))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = command(&self.program, &self.library);
        command.arg(&self.model).args(arguments).envs(self.settings.iter().cloned());
        command.output().expect("the program runs")
    }

    fn trace(&self, arguments: &[&str]) -> Vec<Value> {
        let path = self.folder.path().join("trace.jsonl");
        let mut command = command(&self.program, &self.library);
        command.arg(&self.model).args(arguments).envs(self.settings.iter().cloned());
        command.env("MOCK_NPU_TRACE", &path).output().expect("the program runs");
        let text = std::fs::read_to_string(path).expect("a trace");
        text.lines().map(|line| serde_json::from_str(line).expect("one object per line")).collect()
    }
}

/// What the callbacks printed: state and text.
fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let is_ours = |line: &&str| !line.contains("rkllm:") && !line.is_empty();
    text.lines().filter(is_ours).map(str::to_owned).collect()
}

fn count(output: &Output, state: &str) -> usize {
    lines(output).iter().filter(|line| line.starts_with(state)).count()
}

#[test]
fn a_crash_kills_the_process_at_its_token() {
    let output = Bench::on("1.3.0").says("one two three").faults("crash_at_token=1").run(&["x"]);
    assert_eq!(output.status.signal(), Some(SIGSEGV));
    assert_eq!(count(&output, "NORMAL"), 1);
}

#[test]
fn a_failed_assertion_is_named_on_stderr() {
    let output = Bench::on("1.2.3").faults("ggml_abort_at_token=0").run(&["x"]);
    assert_eq!(output.status.signal(), Some(SIGABRT));
    assert!(String::from_utf8_lossy(&output.stderr).contains("GGML_ASSERT("));
}

#[test]
fn logits_of_tokens_with_history_abort_on_1_2_3_only() {
    let arguments = ["mode=2", "keep_history=1", "tokens=1", "5 6 7"];
    let signal = |version| Bench::on(version).run(&arguments).status.signal();
    assert_eq!(signal("1.2.3"), Some(SIGABRT));
    assert_eq!(signal("1.2.2"), None);
    assert_eq!(signal("1.3.0"), None);
}

#[test]
fn a_null_tag_crashes_init_on_1_2() {
    let output = Bench::on("1.2.2").run(&["null_tags=1", "x"]);
    assert_eq!(output.status.signal(), Some(SIGSEGV));
}

#[test]
fn init_can_lie_fail_and_die() {
    let output = Bench::on("1.2.3").faults("init_null_handle").run(&["x"]);
    assert_eq!(lines(&output), ["init 0 NULL"]);
    let output = Bench::on("1.3.0").faults("init_fails").run(&["x"]);
    assert_eq!(lines(&output), ["init -1 NULL"]);
    for fault in ["sigbus_in_init", "sigbus_in_init_of=1.3.1"] {
        let output = Bench::on("1.3.1").faults(fault).run(&["x"]);
        assert_eq!(output.status.signal(), Some(SIGBUS), "{fault}");
    }
    let output = Bench::on("1.3.0").faults("sigbus_in_init_of=1.3.1").run(&["x"]);
    assert_eq!(lines(&output)[0], "init 0 handle");
}

#[test]
fn a_second_model_without_memory_is_refused_or_fatal() {
    let second = |version| Bench::on(version).faults("npu_domain_mb=1000").run(&["again=1", "x"]);
    let output = second("1.2.3");
    assert_eq!(lines(&output), ["init 0 handle", "init -1 handle"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("errno: 14, errstr: Bad address"));
    assert_eq!(second("1.3.0").status.signal(), Some(SIGSEGV));
    assert_eq!(lines(&second("1.3.1"))[1], "init -1 handle");
}

#[test]
fn an_older_toolkit_makes_1_3_miss_the_end() {
    let ends = |version, toolkit| {
        let output = Bench::with_toolkit(version, toolkit).says("short").run(&["x"]);
        count(&output, "NORMAL")
    };
    assert!(ends("1.3.0", "1.3.0") < 5);
    assert_eq!(ends("1.3.0", "1.2.3"), 30, "it goes on until max_new_tokens");
    assert!(ends("1.2.3", "1.2.1") < 5);
}

#[test]
fn a_newer_toolkit_is_refused() {
    let output = Bench::with_toolkit("1.2.2", "1.2.3").run(&["x"]);
    assert_eq!(lines(&output), ["init -1 NULL"]);
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(log.contains("Please update rkllm-runtime to 1.2.3 or higher."), "{log}");
}

#[test]
fn errors_come_with_and_without_a_result() {
    let output = Bench::on("1.3.0").faults("error_at_token=0").run(&["x"]);
    assert_eq!(lines(&output)[1..], ["ERROR 0 (null)", "run -1"]);
    let output = Bench::on("1.3.0").faults("error_at_token=0,error_result_null").run(&["x"]);
    assert_eq!(lines(&output)[1..], ["ERROR NULL", "run -1"]);
}

#[test]
fn the_ways_an_answer_can_come_wrong() {
    let run = |faults: &str| Bench::on("1.3.0").says("one two three").faults(faults).run(&["x"]);
    assert_eq!(count(&run("finish_missing"), "FINISH"), 0);
    let output = run("whole_answer_at_once");
    assert_eq!(count(&output, "NORMAL"), 1);
    assert!(lines(&output)[1].ends_with("one two three"));
    let output = run("empty_text");
    assert!(lines(&output)[1..].iter().all(|line| !line.contains("one")));
    assert!(lines(&run("garbage_text")).iter().any(|line| line.ends_with(['&', '!'])));
    let flood = String::from_utf8_lossy(&run("stdout_flood=9").stdout).into_owned();
    assert!(flood.matches("I rkllm: debug line").count() >= 27);
}

#[test]
fn an_abort_can_be_deaf_and_leave_a_stale_token() {
    let script = "[latency]\ndecode_ms_per_token = 10\n[[rule]]\nsay = \"abc\"\nno_eos = true";
    let bench = |faults: &str| {
        let bench = Bench::on("1.3.0").set("MOCK_NPU_SCALE", "1").set("MOCK_NPU_SCRIPT", script);
        bench.faults(faults).run(&["warm", "abort_at=2", "x", "y"])
    };
    let tokens = |output: &Output| {
        let lines = lines(output);
        let runs: Vec<&[String]> = lines.split(|line| line.starts_with("run")).collect();
        runs.iter()
            .map(|run| run.iter().filter(|l| l.starts_with("NORMAL")).count())
            .collect::<Vec<_>>()
    };
    let prompt = tokens(&bench(""));
    let deaf = tokens(&bench("abort_ignored_ms=60"));
    assert_eq!(prompt[1], 3, "{prompt:?}");
    assert!(deaf[1] > 6 && deaf[1] < 20, "{deaf:?}");
    assert_eq!(tokens(&bench("abort_ignored"))[1], 30);
    assert_eq!(tokens(&bench("stale_token_after_abort"))[2], 31);
}

#[test]
fn a_hang_lasts() {
    let bench = Bench::on("1.3.0").faults("hang_in_run");
    let mut command = command(&bench.program, &bench.library);
    command.arg(&bench.model).arg("x").envs(bench.settings.iter().cloned());
    let mut child = command.stdout(std::process::Stdio::null()).spawn().expect("the program runs");
    std::thread::sleep(Duration::from_millis(500));
    let still_there = child.try_wait().expect("its state").is_none();
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert!(still_there);
}

#[test]
fn one_seed_of_chaos_is_one_sequence() {
    let prompts: Vec<String> = (0..12).map(|n| format!("prompt {n}")).collect();
    let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let run =
        |seed: &str| lines(&Bench::on("1.3.0").faults(&format!("chaos={seed}")).run(&prompts));
    assert_eq!(run("3"), run("3"));
    assert_ne!(run("3"), run("4"));
}

#[test]
fn an_unknown_fault_fails_init_and_is_named() {
    let output = Bench::on("1.3.0").faults("no_such_fault").run(&["x"]);
    assert_eq!(lines(&output), ["init -1 NULL"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no_such_fault"));
}

#[test]
fn a_seed_changes_the_answer_and_nothing_else_does() {
    let say = |seed: &str| lines(&Bench::on("1.3.0").set("MOCK_NPU_SEED", seed).run(&["asdf"]));
    assert_eq!(say("1"), say("1"));
    assert_ne!(say("1"), say("2"));
}

#[test]
fn the_trace_has_every_call_and_callback_in_order() {
    let trace = Bench::on("1.3.0").says("one two").trace(&["tokens=1", "5 6 7"]);
    let kinds: Vec<String> = trace
        .iter()
        .map(|line| format!("{} {}", line["event"], line["call"]).replace('"', ""))
        .collect();
    let first = [
        "call rkllm_createDefaultParam",
        "return rkllm_createDefaultParam",
        "call rkllm_init",
        "return rkllm_init",
        "call rkllm_run",
        "callback result_callback",
    ];
    assert_eq!(kinds[..6], first);
    assert_eq!(
        kinds[kinds.len() - 3..],
        ["return rkllm_run", "call rkllm_destroy", "return rkllm_destroy"]
    );
    assert_eq!(trace[4]["args"]["input"]["tokens"], serde_json::json!([5, 6, 7]));
    let (call, returned) = (&trace[4]["id"], &trace[trace.len() - 3]["id"]);
    assert_eq!(call, returned);
    let times: Vec<u64> = trace.iter().filter_map(|line| line["t_us"].as_u64()).collect();
    assert!(times.is_sorted() && times.len() == trace.len());
    let said: String = trace.iter().filter_map(|line| line["text"].as_str()).collect();
    assert_eq!(said, "one two");
}
