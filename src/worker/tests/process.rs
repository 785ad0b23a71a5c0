//! A whole worker process against a shared library that exports what the vendor's exports.
//!
//! The process is this test program itself, started with one end of a socket pair as its standard
//! input, as the server starts a worker. The libraries are built by `ci/mock` and looked for in
//! `<target>/mock`, or in the folder that `MOCK_NPU_LIBS` names. Without them the tests say so and
//! pass, but fail with `CI=true`.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test, also outside of its functions"
)]

use std::{
    env, fs,
    io::{self, Write, stdin},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rkllama_protocol::{
    End, FromWorker, Generate, KvOrders, Load, Order, RunSampling, Stats, ToWorker, VERSION,
    read_frame, write_frame,
};
use rkllama_worker::EXIT_HUNG;
use serde_json::Value;

const RELEASES: [&str; 2] = ["1.2.3", "1.3.0"];
const PATIENCE: Duration = Duration::from_secs(30);

/// The worker's process. Not a test of its own: `Worker::start` runs it.
#[test]
#[ignore = "it is the process that the other tests start"]
fn the_worker() {
    let socket = UnixStream::from(stdin().as_fd().try_clone_to_owned().unwrap());
    assert_eq!(rkllama_worker::run(socket), ExitCode::SUCCESS);
}

/// The folder with the libraries, or none after saying so.
fn libraries() -> Option<PathBuf> {
    let folder = env::var_os("MOCK_NPU_LIBS").map_or_else(
        || {
            let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
                || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
                PathBuf::from,
            );
            target.join("mock")
        },
        PathBuf::from,
    );
    let complete =
        RELEASES.iter().all(|release| folder.join(release).join("librkllmrt.so").is_file());
    if complete {
        return Some(folder);
    }
    let hint = format!("no libraries in {}: run ci/mock", folder.display());
    assert!(env::var("CI").as_deref() != Ok("true"), "{hint}");
    // Not a print macro: the test harness would keep it to itself.
    io::stderr().write_all(format!("SKIPPED: {hint}\n").as_bytes()).unwrap();
    None
}

/// A worker process with a model that behaves as its file says.
struct Worker {
    socket: UnixStream,
    child: Child,
    folder: tempfile::TempDir,
}

impl Worker {
    /// Starts one for `release`, with `more` in its model file, and has it load the model.
    fn start(release: &str, more: &str) -> Option<(Self, FromWorker)> {
        let library = libraries()?.join(release).join("librkllmrt.so");
        let folder = tempfile::tempdir().unwrap();
        let model = write_model(folder.path(), release, more);
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "the_worker", "--nocapture"])
            .env("MOCK_NPU_TRACE", folder.path().join("trace.jsonl"))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut worker = Self { socket: ours, child, folder };
        worker.say(&ToWorker::Hello(VERSION));
        assert_eq!(worker.hear(), FromWorker::Hello(VERSION));
        worker.say(&ToWorker::Load(Load {
            base_domain: 0,
            vision: None,
            adapter: None,
            runtime: library,
            model,
            context_tokens_max: 512,
            sampling: SAMPLING,
            ignore_eos: false,
        }));
        let loaded = worker.hear();
        Some((worker, loaded))
    }

    fn loaded(release: &str, more: &str) -> Option<Self> {
        let (worker, loaded) = Self::start(release, more)?;
        assert!(matches!(loaded, FromWorker::Loaded(_)), "{loaded:?}");
        Some(worker)
    }

    fn say(&mut self, frame: &ToWorker) {
        write_frame(&mut self.socket, frame).unwrap();
    }

    fn hear(&mut self) -> FromWorker {
        read_frame(&mut self.socket).unwrap().expect("the worker has closed the socket")
    }

    fn generate(&mut self, run: u64, tokens_max: u32) {
        self.say(&ToWorker::Run(Order::Generate(Generate {
            run,
            tokens: vec![1, 105, 110, 120, 2],
            pictured: None,
            kv: KvOrders::default(),
            sampling: SAMPLING,
            tokens_max,
            stop_tokens: vec![0, 2],
        })));
    }

    fn hear_run(&mut self, run: u64) -> (u32, End) {
        let mut pieces = 0;
        loop {
            match self.hear() {
                FromWorker::Piece(piece) => {
                    assert_eq!(piece.run, run, "a token of another run");
                    pieces += 1;
                }
                FromWorker::End(end) => return (pieces, end),
                other => panic!("{other:?} during a run"),
            }
        }
    }

    fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the worker did not leave");
    }

    /// The library's calls and callbacks, as far as it lived to write them: kind and name or state.
    fn trace(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.folder.path().join("trace.jsonl")).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .map(|line| {
                let what = if line["event"] == "callback" { &line["state"] } else { &line["call"] };
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                (text(&line["event"]), text(what))
            })
            .collect()
    }

    fn count(&self, event: &str, what: &str) -> usize {
        self.trace().iter().filter(|(kind, name)| kind == event && name == what).count()
    }

    fn shut_down(mut self) {
        self.say(&ToWorker::Shutdown);
        assert!(read_frame::<FromWorker>(&mut self.socket).unwrap().is_none());
        assert!(self.wait().success());
        assert_eq!(self.count("call", "rkllm_destroy"), 1);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has ended, but for a test that failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SAMPLING: RunSampling = RunSampling {
    temperature: 0.0,
    top_p: 1.0,
    top_k: None,
    repeat_penalty: 1.0,
    frequency_penalty: 0.0,
    presence_penalty: 0.0,
};

fn write_model(folder: &Path, toolkit: &str, more: &str) -> PathBuf {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mock-npu/demo");
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        fs::copy(demo.join(name), folder.join(name)).unwrap();
    }
    let text = fs::read_to_string(demo.join("demo.rkllm")).unwrap();
    // Its own delays stand last; the tests give theirs.
    let text = text.split("[latency]").next().unwrap();
    let text =
        text.replace("toolkit_version = \"1.3.0\"", &format!("toolkit_version = {toolkit:?}"));
    let path = folder.join("model.rkllm");
    fs::write(&path, format!("{text}\n{more}")).unwrap();
    path
}

const ENDLESS: &str = "[[rule]]\nsay = \"on and on and \"\nno_eos = true\nrepeat = 100000\n";

fn latency(decode_ms: u32) -> String {
    format!(
        "[latency]\nload_ms = 0\nprefill_ms = 0\nprefill_ms_per_token = 0\ndecode_ms_per_token = {decode_ms}\n"
    )
}

#[test]
fn a_model_is_loaded_answers_and_is_freed() {
    for release in RELEASES {
        let more = format!("{}[[rule]]\nsay = \"Grüße aus Ulm\"\nsplit_utf8 = true\n", latency(0));
        let Some((mut worker, loaded)) = Worker::start(release, &more) else { return };
        let FromWorker::Loaded(loaded) = loaded else { panic!("{loaded:?}") };
        assert_eq!(loaded.runtime_version, release);
        assert_eq!(loaded.sampling_per_run, release == "1.3.0");
        for run in 1..=2 {
            worker.generate(run, 100);
            let mut text = Vec::new();
            let end = loop {
                match worker.hear() {
                    FromWorker::Piece(piece) => text.extend(piece.text),
                    FromWorker::End(end) => break end,
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(String::from_utf8(text).unwrap().trim(), "Grüße aus Ulm");
            assert!(matches!(end, End::Stop(_)), "{end:?}");
        }
        worker.shut_down();
    }
}

#[test]
fn a_limit_stops_the_runtime_within_a_token() {
    for release in RELEASES {
        let Some(mut worker) = Worker::loaded(release, &format!("{}{ENDLESS}", latency(30))) else {
            return;
        };
        worker.generate(1, 5);
        let (pieces, end) = worker.hear_run(1);
        assert_eq!(pieces, 5);
        assert!(matches!(end, End::Length(Stats { run: 1, tokens: 5, .. })), "{end:?}");
        let spoken = worker.count("callback", "NORMAL") + worker.count("callback", "WAITING");
        assert!((5..=6).contains(&spoken), "{release}: {spoken} tokens were generated");
        // Since 1.3 the runtime counts by itself.
        let aborts = worker.count("call", "rkllm_abort");
        assert_eq!(aborts > 0, release == "1.2.3", "{release}: {aborts} aborts");
        worker.shut_down();
    }
}

#[test]
fn an_abort_stops_the_runtime_before_two_more_tokens() {
    for release in RELEASES {
        let Some(mut worker) = Worker::loaded(release, &format!("{}{ENDLESS}", latency(50))) else {
            return;
        };
        worker.generate(1, 400);
        assert!(matches!(worker.hear(), FromWorker::Piece(_)));
        worker.say(&ToWorker::Abort(1));
        let (_, end) = worker.hear_run(1);
        assert!(matches!(end, End::Aborted(_)), "{end:?}");
        let spoken = worker.count("callback", "NORMAL") + worker.count("callback", "WAITING");
        assert!(spoken <= 3, "{release}: {spoken} tokens");
        worker.generate(2, 3);
        let (pieces, end) = worker.hear_run(2);
        assert_eq!(pieces, 3, "{end:?}");
        worker.shut_down();
    }
}

#[test]
fn the_death_of_the_server_frees_the_model() {
    for release in RELEASES {
        let Some(mut worker) = Worker::loaded(release, &format!("{}{ENDLESS}", latency(5))) else {
            return;
        };
        worker.generate(1, 400);
        assert!(matches!(worker.hear(), FromWorker::Piece(_)));
        worker.socket = UnixStream::pair().unwrap().0;
        assert!(worker.wait().success());
        assert_eq!(worker.count("call", "rkllm_destroy"), 1, "{release}");
    }
}

#[test]
fn a_runtime_that_hangs_does_not_hold_the_process() {
    for release in RELEASES {
        let more = format!("{}{ENDLESS}[faults]\nhang_in_run = true\n", latency(0));
        let Some(mut worker) = Worker::loaded(release, &more) else { return };
        worker.generate(1, 400);
        let begun = Instant::now();
        while worker.count("note", "hung") == 0 {
            assert!(begun.elapsed() < PATIENCE, "the run did not begin");
            thread::sleep(Duration::from_millis(5));
        }
        let asked = Instant::now();
        worker.say(&ToWorker::Shutdown);
        let status = worker.wait();
        assert_eq!(status.code(), Some(EXIT_HUNG.into()), "{release}: {status}");
        assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    }
}

#[test]
fn a_model_that_cannot_be_loaded_ends_the_process() {
    for release in RELEASES {
        let more = format!("{}[faults]\ninit_null_handle = true\n", latency(0));
        let Some((mut worker, answer)) = Worker::start(release, &more) else { return };
        let FromWorker::LoadFailed(reason) = answer else { panic!("{answer:?}") };
        assert!(reason.contains("out of memory"), "{reason}");
        // The test around the worker turns every code but success into its own.
        assert!(!worker.wait().success());
    }
}

#[test]
fn a_crash_of_the_runtime_is_the_end_of_the_socket() {
    for release in RELEASES {
        let more = format!("{}{ENDLESS}[faults]\ncrash_at_token = 3\n", latency(0));
        let Some(mut worker) = Worker::loaded(release, &more) else { return };
        worker.generate(1, 400);
        let mut pieces = 0;
        while let Ok(Some(frame)) = read_frame::<FromWorker>(&mut worker.socket) {
            assert!(matches!(frame, FromWorker::Piece(_)), "{frame:?}");
            pieces += 1;
        }
        assert!(pieces <= 3, "{pieces} tokens of a runtime that crashed at the third");
        assert_eq!(worker.wait().code(), None, "it was no signal that ended it");
    }
}
