//! `rkllama probe`: what it decides of runtimes that are sound and of others, and what the server does
//! then.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rkllama_tests::{Chat, ModelDir, ServerSetup, executable, mock_library};
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

/// An answer with what toolkits before 1.3 make 1.3 take for its end.
const COMMAS: &str = "[[rule]]\nsay = \"done, A& B& really done\"\n";
/// An answer that tells images apart.
const IMAGES: &str = "[[rule]]\nsay = \"I see {images}. And a house.\"\n";
/// Another answer where the prompt's beginning is not what it was.
const BEGINNING: &str = "[[rule]]\nprompt_contains = \"lighthouse\"\n\
    say = \"It is Ada who rests on the rail, and she has come to stay for the whole winter there.\"\n\
    [[rule]]\nsay = \"Nobody told me anything about a house or a bird, as far as I can remember.\"\n";

struct Bench {
    dir: TempDir,
    release: &'static str,
    toolkit: &'static str,
    script: &'static str,
    faults: String,
    args: Vec<String>,
}

impl Bench {
    fn new(release: &'static str) -> Self {
        let (dir, toolkit) = (TempDir::new().unwrap(), "1.2.3");
        let toolkit = if release < toolkit { release } else { toolkit };
        Self { dir, release, toolkit, script: "", faults: String::new(), args: Vec::new() }
    }

    fn script(mut self, script: &'static str) -> Self {
        self.script = script;
        self
    }

    fn faults(mut self, faults: &str) -> Self {
        faults.clone_into(&mut self.faults);
        self
    }

    fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|it| (*it).to_owned()));
        self
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("capabilities.toml")
    }

    fn run(&self) -> Output {
        let models = self.dir.path().join("models");
        if !models.exists() {
            fs::create_dir(&models).unwrap();
            ModelDir::demo("demo").toolkit(self.toolkit).write(&models);
        }
        Command::new(executable())
            .arg("probe")
            .arg("--runtime")
            .arg(mock_library(self.release))
            .arg("--model")
            .arg(models.join("demo/demo.rkllm"))
            .arg("--output")
            .arg(self.file())
            .args(&self.args)
            .env("HOME", self.dir.path())
            // Slow enough for an abort to come in the middle.
            .env("MOCK_NPU_SCALE", "0.1")
            .env("MOCK_NPU_SCRIPT", self.script)
            .env("MOCK_NPU_FAULTS", &self.faults)
            .output()
            .unwrap()
    }

    /// Everything that was seen.
    fn report(&self) -> Value {
        let output = self.run();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let report = fs::read_to_string(self.file().with_extension("json")).unwrap();
        serde_json::from_str(&report).unwrap()
    }

    /// What the server reads of the release.
    fn facts(&self) -> Value {
        let table: toml::Table = fs::read_to_string(self.file()).unwrap().parse().unwrap();
        let facts = table.get("runtime_profiles").and_then(|it| it.get(self.release));
        facts.map_or(json!({}), |facts| serde_json::to_value(facts).unwrap())
    }
}

fn finding<'a>(report: &'a Value, experiment: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().find(|it| it["experiment"] == experiment).unwrap()
}

/// Both verdicts of each experiment that decides something.
#[rstest]
#[case::end_read("end-of-sequence", "eos_read", COMMAS, json!({"eos_guard": false}))]
#[case::end_misread("end-of-sequence", "", COMMAS, json!({"eos_guard": true}))]
#[case::context_to_the_end("context-limit", "", "", json!({"context_margin_tokens": 1}))]
#[case::context_not_to_the_end("context-limit", "crash_near_context=5", "",
                               json!({"context_margin_tokens": 8}))]
#[case::prefixes_kept("prefix-reuse", "", "", json!({"kv_reuse": "prefix"}))]
#[case::prefixes_not_matched("prefix-reuse", "kv_not_matched", "", json!({"kv_reuse": "append"}))]
#[case::prefixes_leak("prefix-reuse", "kv_leaks", "", json!({"kv_reuse": "append"}))]
#[case::nothing_right("prefix-reuse", "kv_leaks,history_forgotten", "", json!({"kv_reuse": "off"}))]
#[case::abort_clean("abort", "", BEGINNING,
    json!({"stale_token_after_abort": false, "kv_doubtful_after_abort": false}))]
#[case::abort_stale("abort", "stale_token_after_abort", BEGINNING,
    json!({"stale_token_after_abort": true, "kv_doubtful_after_abort": false}))]
#[case::abort_spoils("abort", "abort_spoils_cache", BEGINNING,
    json!({"stale_token_after_abort": false, "kv_doubtful_after_abort": true}))]
#[case::saved("saved-prompts", "", "", json!({"saved_prompts": true}))]
#[case::not_saved("saved-prompts", "save_cache_fails", "", json!({"saved_prompts": false}))]
#[case::not_loaded("saved-prompts", "load_cache_fails", "", json!({"saved_prompts": false}))]
#[case::dies_of_a_file("saved-prompts", "crash_in_load_cache", "", json!({"saved_prompts": false}))]
#[case::hidden_layer("hidden-layer", "", "", json!({"hidden_layer": true}))]
#[case::no_hidden_layer("hidden-layer", "no_hidden_layer", "", json!({"hidden_layer": false}))]
#[case::logits("logits", "", "", json!({"logits": true}))]
#[case::no_logits("logits", "no_logits", "", json!({"logits": false}))]
#[case::images_apart("stale-image", "", IMAGES, json!({"stale_image": false}))]
#[case::image_stale("stale-image", "stale_image", IMAGES, json!({"stale_image": true}))]
#[case::images_alike("stale-image", "", COMMAS, json!({}))]
fn what_is_seen_decides(
    #[case] experiment: &str,
    #[case] faults: &str,
    #[case] script: &'static str,
    #[case] facts: Value,
) {
    let bench = Bench::new("1.3.0").script(script).faults(faults).args(&["--only", experiment]);
    let report = bench.report();
    assert_eq!(bench.facts(), facts, "{:#}", finding(&report, experiment));
}

#[rstest]
#[case::without_facts("1.2.1")]
#[case::with_facts("1.3.1")]
fn a_whole_probe_comes_to_its_end_on_every_layout(#[case] release: &'static str) {
    let bench = Bench::new(release);
    let report = bench.report();
    let undecided: Vec<&Value> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["kind"] == "undecided")
        .map(|it| &it["experiment"])
        .collect();
    // The demo model answers alike whatever it is shown.
    assert_eq!(undecided, ["stale-image"], "{report:#}");
    let names: Vec<&Value> =
        report["findings"].as_array().unwrap().iter().map(|it| &it["experiment"]).collect();
    assert!(!names.contains(&&json!("memory-limit")), "it is dangerous: {names:?}");
    let eos = finding(&report, "end-of-sequence");
    assert_eq!(eos["kind"] == "skipped", release == "1.2.1", "{eos:#}");
    assert!(report["of"]["library_sha256"].as_str().unwrap().len() == 64);
    assert_eq!(report["of"]["toolkits"]["demo.rkllm"], bench.toolkit);
}

/// One that crashes, one that hangs: the others are made, and nothing is said of what was not seen.
#[rstest]
#[case::crash("crash_at_token=0", "SIGSEGV")]
#[case::hang("hang_at_token=0", "no return within its time")]
fn a_step_that_does_not_come_back_is_what_was_found(#[case] faults: &str, #[case] how: &str) {
    let bench = Bench::new("1.3.0").faults(faults).args(&[
        "--only",
        "layout,prefix-reuse,abort",
        "--step-seconds",
        "2",
    ]);
    let report = bench.report();
    for experiment in ["prefix-reuse", "abort"] {
        let finding = finding(&report, experiment);
        assert_eq!(finding["kind"], "undecided", "{finding:#}");
        assert!(finding["words"].as_str().unwrap().contains(how), "{finding:#}");
        assert!(finding["steps"][0]["log"].as_array().unwrap().len() > 3, "{finding:#}");
    }
    assert_eq!(finding(&report, "layout")["kind"], "observed");
    assert_eq!(bench.facts(), json!({}));
}

#[test]
fn a_model_that_cannot_be_loaded_is_a_finding_and_skips_the_others() {
    let bench = Bench::new("1.3.1").faults("sigbus_in_init").args(&["--only", "logits,abort"]);
    let report = bench.report();
    assert!(finding(&report, "load")["words"].as_str().unwrap().contains("SIGBUS"));
    for experiment in ["logits", "abort"] {
        assert_eq!(finding(&report, experiment)["kind"], "skipped");
    }
}

#[test]
fn a_damaged_file_is_named_before_anything_is_tried() {
    let bench = Bench::new("1.3.0");
    fs::write(bench.file(), "[runtime_prof").unwrap();
    let output = bench.run();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("capabilities.toml is damaged"));
    assert_eq!(fs::read_to_string(bench.file()).unwrap(), "[runtime_prof");
}

#[test]
fn experiments_are_listed_and_others_refused() {
    let probe =
        |args: &[&str]| Command::new(executable()).arg("probe").args(args).output().unwrap();
    let list = probe(&["--list"]);
    assert!(list.status.success());
    assert!(String::from_utf8_lossy(&list.stdout).contains("prefix-reuse"));
    let library = mock_library("1.3.0");
    let unknown = probe(&["--runtime", library.to_str().unwrap(), "--only", "prefix-reus"]);
    assert!(
        String::from_utf8_lossy(&unknown.stderr).contains("no experiment is called prefix-reus")
    );
    let by_hand = Command::new(executable()).arg("probe-step").output().unwrap();
    assert!(String::from_utf8_lossy(&by_hand.stderr).contains("not by hand"));
}

/// Puts what a probe found out where a server reads it.
fn told(setup: ServerSetup, file: &Path) -> ServerSetup {
    fs::create_dir_all(setup.state()).unwrap();
    fs::copy(file, setup.state().join("capabilities.toml")).unwrap();
    setup
}

/// The model is of an old toolkit, as its name says. A runtime that reads its end is let look for it; one
/// that does not is told not to.
#[rstest]
#[case::reads_it("eos_read", false)]
#[case::does_not("", true)]
#[tokio::test]
async fn a_server_guards_the_end_as_the_probe_has_found(
    #[case] faults: &str,
    #[case] guards: bool,
) {
    let bench =
        Bench::new("1.3.0").script(COMMAS).faults(faults).args(&["--only", "end-of-sequence"]);
    bench.report();
    let model = ModelDir::demo("demo").toolkit("1.2.3").weights_name("demo-v1.2.3.rkllm");
    let setup = ServerSetup::new().mock("1.3.0").model(&model).script(COMMAS);
    let server = told(setup.env("MOCK_NPU_FAULTS", faults), &bench.file()).start();
    let answer = Chat::user("Hi").ask(&server).await;
    assert_eq!(answer.content(), "done, A& B& really done");
    assert_eq!(answer.finish(), "stop");
    let loads = server.trace().args("rkllm_init");
    let guarded: Vec<&Value> =
        loads.iter().map(|args| &args["param"]["ignore_eos_token"]).collect();
    assert_eq!(guarded, [guards]);
}

#[test]
fn the_doctor_tells_what_a_probe_has_found() {
    let bench = Bench::new("1.3.0").faults("no_logits").args(&["--only", "logits"]);
    bench.report();
    let state = bench.dir.path().join(".local/state/rkllama");
    fs::create_dir_all(&state).unwrap();
    fs::copy(bench.file(), state.join("capabilities.toml")).unwrap();
    let mut doctor = Command::new(executable());
    doctor.env("HOME", bench.dir.path()).args(["doctor", "--json", "--runtime"]);
    let said = doctor.arg(mock_library("1.3.0")).output().unwrap().stdout;
    let said: Value = serde_json::from_slice(&said).unwrap();
    let checks = said["checks"].as_array().unwrap();
    let check = checks.iter().find(|it| it["check"] == "capabilities").unwrap();
    assert_eq!((&check["subject"], &check["found"]), (&json!("1.3.0"), &json!("logits = false")));
}

/// What resets the driver of a board is done where it is asked for by name.
#[test]
fn what_is_dangerous_is_made_by_name_only() {
    let bench =
        Bench::new("1.3.0").faults("second_init_no_memory").args(&["--only", "memory-limit"]);
    let report = bench.report();
    let words = finding(&report, "memory-limit")["words"].as_str().unwrap();
    assert!(words.contains("it loads 1 times") && words.contains("SIGSEGV"), "{words}");
}

/// Where earlier prompts would show in answers, the cache is emptied between two.
#[rstest]
#[case::sound("", 0)]
#[case::leaks("kv_leaks,history_forgotten", 1)]
#[tokio::test]
async fn a_server_reuses_a_cache_as_the_probe_has_found(
    #[case] faults: &str,
    #[case] cleared: usize,
) {
    let bench = Bench::new("1.3.0").faults(faults).args(&["--only", "prefix-reuse"]);
    bench.report();
    let setup = ServerSetup::demo().script("[[rule]]\nsay = \"Yes.\"\n");
    let server = told(setup.env("MOCK_NPU_FAULTS", faults), &bench.file()).start();
    for question in ["Is it late?", "Is it far?"] {
        assert_eq!(Chat::user(question).ask(&server).await.content(), "Yes.");
    }
    assert_eq!(server.trace().calls("rkllm_clear_kv_cache"), cleared);
}
