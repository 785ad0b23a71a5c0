//! Every fault that the mock can act out, at every moment of a request's life.
//!
//! Whatever the vendor's runtime does, the request ends in one way that its client can read, the
//! next request works, a model beside it goes on streaming, and no process is left behind. A fault
//! that is new to the mock fails here until it has a row.

use std::{
    collections::BTreeSet,
    fmt::Write,
    sync::{Arc, Mutex},
};

use futures_util::StreamExt;
use mock_npu_core::FAULTS;
use rkllama_tests::{
    Chat, Ending, ModelDir, Server, ServerSetup, children, eventually, is_zombie, process_runs,
};
use serde_json::Value;
use tokio::task::JoinHandle;

/// When a fault strikes, or when its client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Loading,
    Prefill,
    FirstToken,
    MidStream,
    AfterAbort,
}

/// Whether a worker survives a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worker {
    Kept,
    Lost,
}

use Worker::{Kept, Lost};

/// How a fault ends. The first text is the fault as a script has it.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "why a fault does not strike is for the reader of the table")]
enum Cell {
    /// Nobody notices: the answer is whole and as it always is.
    Unnoticed(&'static str),
    /// The runtime says something else; the answer ends in order, with this text in it.
    Says(&'static str, &'static str),
    /// The client gets an error with all of these in its message.
    Fails(&'static str, Worker, &'static [&'static str]),
    /// The client leaves at this moment and the runtime does not take it well.
    Left(&'static str, Worker),
    /// It does not strike at this moment, because.
    Not(&'static str),
}

use Cell::{Fails, Left, Not, Says, Unnoticed};

/// A fault, and its ends: while loading, in prefill, at the first token, in mid-stream, after an
/// abort. A fault has several rows where it strikes in several ways.
type Row = (&'static str, [Cell; 5]);

const IN_LOADS: Cell = Not("strikes while a model loads");
const IN_RUNS: Cell = Not("strikes in runs");
const AT_TOKENS: Cell = Not("strikes at a token");
const FROM_THE_START: Cell = Not("holds for a whole run: the column of prefill says how it ends");
const LEAVING: Cell = Not("strikes when a client leaves: the other rows of this fault say how");
const NO_ENCODER: Cell = Not("the server opens no librknnrt.so: it has no encoders yet");
const NO_IMAGES: Cell = Not("the server takes no images yet");
const NO_DATA_MODES: Cell = Not("the server asks for no hidden layer and no logits yet");
const OF_SAVED_PROMPTS: Cell = Not("no prompt is saved in this table: kv.rs has these");
const OF_ONE_RELEASE: Cell =
    Not("tells one of several releases from the others: runtime_choice.rs has these");
const OF_PROBES: Cell =
    Not("is a fact of a release that a probe has to find out: probe.rs has these");
const A_DRAW: Cell = Not("draws from faults that have rows of their own");

/// A fault of loads.
const fn load(end: Cell) -> [Cell; 5] {
    [end, IN_LOADS, IN_LOADS, IN_LOADS, IN_LOADS]
}

/// A fault of whole runs that ends alike whatever was before.
const fn run(end: Cell) -> [Cell; 5] {
    [IN_RUNS, end, FROM_THE_START, FROM_THE_START, end]
}

/// A fault of a token.
const fn token(first: Cell, middle: Cell) -> [Cell; 5] {
    [IN_RUNS, AT_TOKENS, first, middle, first]
}

/// A fault that only a client who leaves can notice.
const fn leaving(prefill: Cell, decode: Cell) -> [Cell; 5] {
    [IN_RUNS, prefill, decode, decode, LEAVING]
}

const fn never(why: Cell) -> [Cell; 5] {
    [why; 5]
}

const SILENCE: &[&str] = &["gave no sign of life for too long", "its last lines: "];

/// Every fault. Loads and runs have 3 seconds here.
const TABLE: &[Row] = &[
    (
        "board_platform",
        load(Fails(
            "board_platform = \"RK3576\"",
            Lost,
            &["failed to load", "target_platform does not match the real platform"],
        )),
    ),
    ("driver_version", load(Unnoticed("driver_version = \"0.8.2\""))),
    (
        "init_fails",
        load(Fails("init_fails = true", Lost, &["failed to load", "rkllm_init failed"])),
    ),
    (
        "init_null_handle",
        load(Fails("init_null_handle = true", Lost, &["failed to load", "loading rkllm model"])),
    ),
    (
        "hang_in_init",
        load(Fails("hang_in_init = true", Lost, &["took longer than 3s", "loading rkllm model"])),
    ),
    ("hang_in_init", load(Left("hang_in_init = true", Lost))),
    ("hang_in_init_of", never(OF_ONE_RELEASE)),
    ("sigbus_in_init_of", never(OF_ONE_RELEASE)),
    (
        "sigbus_in_init",
        load(Fails("sigbus_in_init = true", Lost, &["signal 7 (SIGBUS)", "loading rkllm model"])),
    ),
    // The second load of the same model is one of another process.
    (
        "second_init_no_memory",
        load(Unnoticed("second_init_no_memory = true\ncontext_limit = 1024")),
    ),
    ("hang_in_run", run(Fails("hang_in_run = true", Lost, SILENCE))),
    ("hang_in_run", [IN_RUNS, Left("hang_in_run = true", Lost), LEAVING, LEAVING, LEAVING]),
    (
        "hang_at_token",
        token(Fails("hang_at_token = 0", Lost, SILENCE), Fails("hang_at_token = 3", Lost, SILENCE)),
    ),
    (
        "hang_at_token",
        [
            IN_RUNS,
            AT_TOKENS,
            Left("hang_at_token = 1", Lost),
            Left("hang_at_token = 4", Lost),
            LEAVING,
        ],
    ),
    (
        "error_at_token",
        token(
            Fails("error_at_token = 0", Kept, &["the runtime failed while answering"]),
            Fails("error_at_token = 3", Kept, &["the runtime failed while answering"]),
        ),
    ),
    (
        "error_result_null",
        token(
            Fails(
                "error_result_null = true\nerror_at_token = 0",
                Kept,
                &["the runtime failed while answering"],
            ),
            Fails(
                "error_result_null = true\nerror_at_token = 3",
                Kept,
                &["the runtime failed while answering"],
            ),
        ),
    ),
    (
        "crash_at_token",
        token(
            Fails("crash_at_token = 0", Lost, &["signal 11 (SIGSEGV)", "its last lines: "]),
            Fails("crash_at_token = 3", Lost, &["signal 11 (SIGSEGV)", "its last lines: "]),
        ),
    ),
    (
        "ggml_abort_at_token",
        token(
            Fails("ggml_abort_at_token = 0", Lost, &["signal 6 (SIGABRT)", "GGML_ASSERT("]),
            Fails("ggml_abort_at_token = 3", Lost, &["signal 6 (SIGABRT)", "GGML_ASSERT("]),
        ),
    ),
    ("finish_missing", run(Unnoticed("finish_missing = true"))),
    (
        "finish_missing",
        leaving(Left("finish_missing = true", Kept), Left("finish_missing = true", Kept)),
    ),
    (
        "abort_ignored_ms",
        leaving(Left("abort_ignored_ms = 300", Kept), Left("abort_ignored_ms = 300", Kept)),
    ),
    (
        "abort_ignored",
        leaving(Left("abort_ignored = true", Lost), Left("abort_ignored = true", Lost)),
    ),
    (
        "abort_without_finish",
        leaving(
            Left("abort_without_finish = true", Kept),
            Left("abort_without_finish = true", Kept),
        ),
    ),
    (
        "stale_token_after_abort",
        never(Not(
            "seen by callers who did not wait for the run's return, which the trace of every \
             row here excludes; a runtime that goes further needs a profile: regressions.rs",
        )),
    ),
    (
        "abort_spoils_cache",
        never(Not(
            "no size shows it, and a cache that has its size is believed after an abort: probe.rs \
             finds such a runtime out",
        )),
    ),
    ("kv_not_matched", run(Unnoticed("kv_not_matched = true"))),
    // Prompts leave more free.
    ("crash_near_context", run(Unnoticed("crash_near_context = 5"))),
    ("kv_leaks", never(OF_PROBES)),
    ("history_forgotten", never(OF_PROBES)),
    ("no_hidden_layer", never(OF_PROBES)),
    ("no_logits", never(OF_PROBES)),
    (
        "crash_load_cache_after_abort",
        leaving(
            Left("crash_load_cache_after_abort = true", Kept),
            Left("crash_load_cache_after_abort = true", Kept),
        ),
    ),
    (
        "crash_load_cache_after_abort",
        [IN_RUNS, IN_RUNS, IN_RUNS, IN_RUNS, Unnoticed("crash_load_cache_after_abort = true")],
    ),
    ("crash_in_load_cache", never(OF_SAVED_PROMPTS)),
    ("load_cache_fails", never(OF_SAVED_PROMPTS)),
    ("save_cache_fails", never(OF_SAVED_PROMPTS)),
    ("stale_image", never(NO_IMAGES)),
    ("data_modes_without_finish", never(NO_DATA_MODES)),
    ("data_modes_with_finish", never(NO_DATA_MODES)),
    ("utf8_split", run(Unnoticed("utf8_split = 1"))),
    ("empty_text", run(Says("empty_text = true", ""))),
    ("whole_answer_at_once", run(Unnoticed("whole_answer_at_once = true"))),
    ("garbage_text", run(Says("garbage_text = true", "&"))),
    ("pad_text", run(Says("pad_text = true", ""))),
    (
        "eos_unread",
        [
            Unnoticed("eos_unread = true"),
            IN_LOADS,
            IN_LOADS,
            IN_LOADS,
            Not("strikes while a model loads, and an abort does not load"),
        ],
    ),
    ("eos_read", never(OF_PROBES)),
    ("eos_reaches_callback", run(Unnoticed("eos_reaches_callback = true"))),
    ("ignore_eos_bans", run(Unnoticed("ignore_eos_bans = true"))),
    ("stdout_flood", run(Unnoticed("stdout_flood = 200"))),
    (
        "stdout_flood",
        token(
            Fails(
                "stdout_flood = 200\ncrash_at_token = 0",
                Lost,
                &["SIGSEGV", "its last lines: ", "crash_at_token"],
            ),
            Fails(
                "stdout_flood = 200\ncrash_at_token = 3",
                Lost,
                &["SIGSEGV", "its last lines: ", "debug line 199 of token 2"],
            ),
        ),
    ),
    ("npu_domain_mb", load(Fails("npu_domain_mb = 10", Lost, &["failed to load", "errno: 14"]))),
    // Two of these models do not fit: what the last worker held must be free again.
    ("npu_board", load(Unnoticed("npu_board = \"{dir}/board\"\nnpu_domain_mb = 1000"))),
    ("chaos", never(A_DRAW)),
    ("init_waits_for_runs", load(Unnoticed("init_waits_for_runs = true"))),
    ("rknn_no_device", never(NO_ENCODER)),
    ("rknn_run_fails", never(NO_ENCODER)),
    ("rknn_hangs", never(NO_ENCODER)),
    ("context_limit", load(Unnoticed("context_limit = 1024"))),
];

#[test]
fn every_fault_of_the_mock_has_a_row() {
    let rows: BTreeSet<&str> = TABLE.iter().map(|(fault, _)| *fault).collect();
    let faults: BTreeSet<&str> = FAULTS.iter().map(|(fault, _)| *fault).collect();
    assert_eq!(rows, faults);
    for (fault, cells) in TABLE {
        for cell in cells {
            let (Unnoticed(script) | Says(script, _) | Fails(script, ..) | Left(script, _)) = cell
            else {
                continue;
            };
            assert!(script.contains(fault), "the row of {fault} does not set it: {script}");
        }
    }
}

#[tokio::test]
async fn faults_while_loading_end_well() {
    every_row(Moment::Loading).await;
}

#[tokio::test]
async fn faults_in_prefill_end_well() {
    every_row(Moment::Prefill).await;
}

#[tokio::test]
async fn faults_at_the_first_token_end_well() {
    every_row(Moment::FirstToken).await;
}

#[tokio::test]
async fn faults_in_mid_stream_end_well() {
    every_row(Moment::MidStream).await;
}

#[tokio::test]
async fn faults_after_an_abort_end_well() {
    every_row(Moment::AfterAbort).await;
}

/// Each row on a server of its own; all that fail are named.
async fn every_row(moment: Moment) {
    let mut failed = Vec::new();
    for (fault, cells) in TABLE {
        let cell = cells[moment as usize];
        if !matches!(cell, Not(_)) && tokio::spawn(one_row(moment, cell)).await.is_err() {
            failed.push(format!("{fault}: {cell:?}"));
        }
    }
    assert!(failed.is_empty(), "{moment:?}:\n{}", failed.join("\n"));
}

/// What the model says to whom. Characters beyond ASCII have to survive their cutting.
const COUNT: &str = "one two three für fünf sechs 😀 eight nine, ten";
const RULES: &str = "[[rule]]\nuser_contains = \"count\"\nsay = \"one two three für fünf sechs 😀 \
                     eight nine, ten\"\n\
                     [[rule]]\nuser_contains = \"endless\"\nsay = \"on and on \"\nno_eos = true\n\
                     [[rule]]\nuser_contains = \"stand by\"\nsay = \"on and on \"\nno_eos = true\n\
                     delay_ms_per_token = 50\n";
/// More than any answer here needs, so that a runtime that does not end is ended.
const TOKENS_MAX: u32 = 64;

fn script(latency: &str, faults: &str) -> String {
    let mut script = String::from(
        "[latency]\nload_ms = 0\nprefill_ms_per_token = 0\ndecode_ms_per_token = 10\n",
    );
    write!(script, "{latency}\n[faults]\n{faults}\n{RULES}").unwrap();
    script
}

const AT_ONCE: &str = "prefill_ms = 0";
/// Long enough to leave in the middle of it.
const LONG_PREFILL: &str = "prefill_ms = 400";

fn count(model: &str) -> Chat {
    Chat::user("count").with("model", model).with("max_tokens", TOKENS_MAX)
}

/// A fault, the requests it strikes, and what is left of the server afterwards.
async fn one_row(moment: Moment, cell: Cell) {
    let scene = Scene::new().await;
    match cell {
        Not(_) => {}
        Left(fault, worker) => scene.client_leaves(moment, fault, worker).await,
        Unnoticed(fault) => {
            for streamed in [false, true] {
                let heard = scene.strike(moment, fault, streamed).await;
                assert_eq!(heard.end, Ok("stop".to_owned()), "{heard:?}");
                assert_eq!(heard.text, COUNT);
                scene.next_works().await;
            }
        }
        Says(fault, text) => {
            for streamed in [false, true] {
                let heard = scene.strike(moment, fault, streamed).await;
                assert!(heard.end.is_ok(), "{heard:?}");
                assert!(heard.text.contains(text) && heard.text != COUNT, "{heard:?}");
                scene.next_works().await;
            }
        }
        Fails(fault, worker, words) => {
            for streamed in [false, true] {
                scene.request_fails(moment, fault, worker, words, streamed).await;
            }
        }
    }
    scene.nothing_is_left().await;
}

/// A server with a model that the fault strikes, and one that answers all the time.
struct Scene {
    server: Server,
    bystander: Bystander,
}

impl Scene {
    async fn new() -> Self {
        let server = ServerSetup::new()
            .mock("1.3.0")
            .model(&ModelDir::demo("victim"))
            .model(&ModelDir::demo("bystander"))
            .live_script(&script(AT_ONCE, ""))
            // No sign of life, so that an error before the first token always is a status.
            .config(
                "[limits]\nload_timeout_ms = 3000\nstall_timeout_ms = 3000\n\
                 abort_timeout_ms = 1000\nheartbeat_ms = 60000",
            )
            .start();
        let bystander = Bystander::listens_to(&server).await;
        Self { server, bystander }
    }

    fn set(&self, latency: &str, fault: &str) {
        let fault = fault.replace("{dir}", self.server.dir().to_str().unwrap());
        self.server.rescript(&script(latency, &fault));
    }

    /// Brings the victim to the moment: not loaded, loaded, or just aborted.
    async fn prepare(&self, moment: Moment) {
        let workers = children(self.server.pid()).len();
        if moment == Moment::Loading {
            if workers > 1 {
                let answer = count("victim").with("keep_alive", 0).ask(&self.server).await;
                assert_eq!(answer.finish(), "stop");
            }
            let alone = || (children(self.server.pid()).len() == 1).then_some(());
            return eventually("the victim is unloaded", alone).await;
        }
        self.next_works().await;
        if moment == Moment::AfterAbort {
            self.leave_at_token(2, "").await;
            let returned = || (!self.victim_runs()).then_some(());
            eventually("the aborted run has returned", returned).await;
        }
    }

    /// Whether a run of the victim's present worker has begun and not returned.
    fn victim_runs(&self) -> bool {
        let trace = self.server.trace();
        let worker = trace.workers().pop().unwrap();
        let runs = |event: &str| {
            let is = |line: &&Value| {
                line["pid"] == worker && line["event"] == event && line["call"] == "rkllm_run"
            };
            trace.0.iter().filter(is).count()
        };
        runs("call") > runs("return")
    }

    /// Asks under the fault.
    async fn strike(&self, moment: Moment, fault: &str, streamed: bool) -> Ending {
        self.prepare(moment).await;
        self.set(AT_ONCE, fault);
        let heard = count("victim").with("stream", streamed).ending(&self.server).await;
        self.set(AT_ONCE, "");
        heard
    }

    async fn request_fails(
        &self,
        moment: Moment,
        fault: &str,
        worker: Worker,
        words: &[&str],
        streamed: bool,
    ) {
        let heard = self.strike(moment, fault, streamed).await;
        let error = heard.end.clone().expect_err(&heard.text);
        for words in words {
            assert!(error.contains(words), "no {words:?} in: {error}");
        }
        if streamed && moment == Moment::MidStream {
            assert_eq!(heard.status, 200, "text had come before");
            assert!(!heard.text.is_empty() && COUNT.starts_with(&heard.text), "{heard:?}");
        } else {
            let status = if moment == Moment::Loading { 503 } else { 500 };
            assert_eq!((heard.status.as_u16(), heard.text.as_str()), (status, ""), "{error}");
        }
        let loads = self.server.trace().calls("rkllm_init");
        self.next_works().await;
        let loads = self.server.trace().calls("rkllm_init") - loads;
        assert_eq!(loads, usize::from(worker == Lost), "loads for the next request");
    }

    /// A client comes, and leaves at the moment.
    async fn client_leaves(&self, moment: Moment, fault: &str, worker: Worker) {
        self.prepare(moment).await;
        let trace = self.server.trace();
        let (loads, runs) = (trace.calls("rkllm_init"), trace.calls("rkllm_run"));
        let latency = if moment == Moment::Prefill { LONG_PREFILL } else { AT_ONCE };
        self.set(latency, fault);
        match moment {
            Moment::Loading => self.leave_when("rkllm_init", loads, fault).await,
            Moment::Prefill => self.leave_when("rkllm_run", runs, fault).await,
            Moment::FirstToken | Moment::AfterAbort => self.leave_at_token(1, fault).await,
            Moment::MidStream => self.leave_at_token(3, fault).await,
        }
        // The next one comes at once; the fault holds for the run that was left only.
        let loads = self.server.trace().calls("rkllm_init");
        self.set(AT_ONCE, "");
        self.next_works().await;
        let loads = self.server.trace().calls("rkllm_init") - loads;
        assert_eq!(loads, usize::from(worker == Lost), "loads for the next request");
    }

    /// A request whose client leaves as soon as the runtime is in this call once more, and hangs there
    /// if it is to: it reads what it is to do only after it has recorded the call.
    async fn leave_when(&self, call: &str, calls: usize, fault: &str) {
        let chat = Chat::user("endless").with("model", "victim");
        let called = async {
            let more = || (self.server.trace().calls(call) > calls).then_some(());
            eventually("the runtime is called", more).await;
            if fault.starts_with("hang") {
                let hangs = || (self.server.trace().notes("hung") == 1).then_some(());
                eventually("the call hangs", hangs).await;
            }
        };
        tokio::select! {
            answer = chat.ask(&self.server) => panic!("nobody waited for {answer:?}"),
            () = called => {}
        }
    }

    /// A stream whose client leaves when so many tokens have come, and the run hangs if it is to.
    async fn leave_at_token(&self, count: usize, fault: &str) {
        let mut stream = Chat::user("endless").with("model", "victim").open(&self.server).await;
        stream.until(["on", "on and", "on and on"][count - 1]).await;
        if fault.starts_with("hang") {
            let hangs = || (self.server.trace().notes("hung") == 1).then_some(());
            eventually("the run hangs", hangs).await;
        }
    }

    async fn next_works(&self) {
        let next = count("victim").ending(&self.server).await;
        assert_eq!(next.end, Ok("stop".to_owned()), "the next request: {next:?}");
        assert_eq!(next.text, COUNT, "the next request");
    }

    /// The bystander noticed nothing, and no process outlives its use.
    async fn nothing_is_left(self) {
        self.bystander.goes_on().await;
        let trace = self.server.trace();
        assert_eq!(trace.call_during_run(), None, "a call during a run");
        let current = || {
            let children = children(self.server.pid());
            (!children.iter().any(|pid| is_zombie(*pid))).then_some(children)
        };
        let current = eventually("no zombie is left", current).await;
        assert_eq!(current.len(), 2, "the workers of two models");
        let workers = trace.workers();
        let gone = |pid: &&u32| !current.contains(*pid) && process_runs(**pid);
        assert_eq!(workers.iter().find(gone), None, "a worker without a server");
        self.bystander.leaves().await;
        self.server.stop();
        assert!(!workers.into_iter().any(process_runs), "a worker outlives its server");
    }
}

/// A stream of another model that is listened to all the time.
struct Bystander {
    heard: Arc<Mutex<String>>,
    ear: JoinHandle<()>,
}

impl Bystander {
    async fn listens_to(server: &Server) -> Self {
        let chat = Chat::user("stand by").with("model", "bystander").stream();
        let mut bytes = chat.send(server).await.bytes_stream();
        let heard: Arc<Mutex<String>> = Arc::default();
        let into = Arc::clone(&heard);
        let ear = tokio::spawn(async move {
            while let Some(bytes) = bytes.next().await {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes.unwrap()));
            }
        });
        let bystander = Self { heard, ear };
        bystander.goes_on().await;
        bystander
    }

    /// More comes, and nothing but text ever came.
    async fn goes_on(&self) {
        let before = self.heard.lock().unwrap().len();
        let more = || (self.heard.lock().unwrap().len() > before).then_some(());
        eventually("the bystander hears more", more).await;
        let heard = self.heard.lock().unwrap();
        assert!(!heard.contains("error") && !heard.contains("[DONE]"), "{heard}");
    }

    async fn leaves(self) {
        self.ear.abort();
        assert!(self.ear.await.unwrap_err().is_cancelled(), "its stream goes on");
    }
}
