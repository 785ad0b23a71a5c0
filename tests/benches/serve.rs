//! The figures that the server is held to, measured on the mock runtime: without delays, where what
//! is left is our own cost, and at the pace of a board. One run, one machine: compare ratios and
//! what stands beside each other in one run, not absolute values.
//!
//!     ci/bench
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and a failure in it is a failure"
)]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use rkllama_tests::{
    Chat, ModelDir, Server, ServerSetup, Sse, children, cpu_s, memory_kib, mock_library,
    repository, status_kib,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const STARTS: usize = 20;
const REQUESTS: usize = 300;
/// So many streams of so many tokens: CPU time is counted in steps of 10 ms.
const STREAMS: u32 = 25;
const STREAMED_TOKENS: u32 = 4000;
/// Ten seconds of the 60 tokens/s profile.
const PACED_TOKENS: u32 = 600;
const CONVERSATIONS: usize = 3;
const CONVERSATION_TOKENS: usize = 2000;

/// What the mock takes for a model of 1.7 billion parameters on an RK3588, in ms: to begin a
/// prefill, for each token of it, for each token of the answer. A long context is slower still.
const PREFILL_MS: f64 = 35.0;
const PREFILL_MS_PER_TOKEN: f64 = 1.71 * 1.7;
const DECODE_MS: f64 = 9.2 + 31.5 * 1.7;

fn main() {
    // `cargo test --benches` and `cargo nextest` start benchmarks too: only `cargo bench` measures.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        row("figure", "measured", "goal");
        starts().await;
        first_tokens().await;
        stream().await;
        paced().await;
        second_turns().await;
    });
}

/// No trace: writing it costs more than what is measured.
fn setup() -> ServerSetup {
    ServerSetup::demo().env("MOCK_NPU_TRACE", "").env("RUST_LOG", "info")
}

async fn starts() {
    let mut ready = Vec::new();
    let mut resident = Vec::new();
    for _ in 0..STARTS {
        let setup = setup();
        let began = Instant::now();
        let server = setup.start();
        let health = reqwest::get(format!("{}/health", server.url)).await.unwrap();
        assert_eq!(health.status(), 200);
        ready.push(began.elapsed());
        resident.push(status_kib(server.pid(), "VmRSS"));
    }
    report("exec to first /health", &mut ready);
    resident.sort_unstable();
    row("server idle, resident (median)", &format!("{:.1} MB", median_mb(&resident)), "20 MB");
}

async fn first_tokens() {
    let server = setup().start();
    let chat = Chat::user("What is an NPU?").with("max_tokens", 4);
    chat.ask(&server).await;
    let client = reqwest::Client::new();
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let began = Instant::now();
        let response = client
            .post(format!("{}/v1/chat/completions", server.url))
            .json(&chat.clone().stream().0)
            .send()
            .await
            .unwrap();
        let mut stream = response.bytes_stream();
        let mut text = String::new();
        // The first event only opens the message; the token is in the second.
        while text.matches("\"content\":\"").count() < 2 {
            text.push_str(&String::from_utf8_lossy(&stream.next().await.unwrap().unwrap()));
        }
        times.push(began.elapsed());
        while stream.next().await.is_some() {}
    }
    report("time to first token, model loaded", &mut times);
    row(
        "server after it, with the demo's tokenizer",
        &format!("{:.1} MB", mb(status_kib(server.pid(), "VmRSS"))),
        "20 MB and the tokenizer",
    );
}

async fn stream() {
    let script = "[[rule]]\nsay = \"on and on and \"\nno_eos = true\n";
    let server = setup().env("MOCK_NPU_SCRIPT", script).start();
    let chat = Chat::user("go").with("max_tokens", STREAMED_TOKENS).stream();
    let short = Chat::user("go").with("max_tokens", 1);
    short.ask(&server).await;
    let worker = children(server.pid())[0];
    let (server_before, worker_before) = (cpu_s(server.pid()), cpu_s(worker));
    let began = Instant::now();
    for _ in 0..STREAMS {
        let mut bytes = chat.send(&server).await.bytes_stream();
        while bytes.next().await.is_some() {}
    }
    let took = began.elapsed();
    let tokens = f64::from(STREAMS * STREAMED_TOKENS);
    let per_token = |seconds: f64| seconds * 1e6 / tokens;
    let rate = tokens / took.as_secs_f64();
    row("streamed at zero delay", &format!("{rate:.0} tokens/s"), "");
    let server_us = per_token(cpu_s(server.pid()) - server_before);
    let worker_us = per_token(cpu_s(worker) - worker_before);
    row(
        "CPU per token, server and worker",
        &format!("{server_us:.1} + {worker_us:.1} µs"),
        "20 µs, the mock's own cost aside",
    );
    drop::<Server>(server);
}

/// The bare C loop on the same library, with a model of its own, beside nothing else.
struct BareLoop {
    child: Child,
    tokens_per_s: f64,
    _dir: TempDir,
}

impl BareLoop {
    /// Compiles it, lets it speak once, and keeps its model loaded.
    fn run(script: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let program = dir.path().join("bench");
        let library = mock_library("1.3.0").parent().unwrap().to_owned();
        let mock = repository().join("mock-npu");
        let compiled = Command::new("cc")
            .args(["-std=c11", "-D_GNU_SOURCE", "-O2", "-include"])
            .arg(mock.join("include/rkllm-f.h"))
            .arg(mock.join("conformance/bench.c"))
            .arg("-L")
            .arg(&library)
            .args(["-lrkllmrt", "-o"])
            .arg(&program)
            .status()
            .unwrap();
        assert!(compiled.success());
        let mut child = Command::new(program)
            .arg(mock.join("demo/demo.rkllm"))
            .args([&PACED_TOKENS.to_string(), "pace"])
            .env("LD_LIBRARY_PATH", library)
            .env("MOCK_NPU_SCRIPT", script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let pace =
            lines.map(Result::unwrap).find_map(|line| Some(line.strip_prefix("pace ")?.parse()));
        Self { child, tokens_per_s: pace.unwrap().unwrap(), _dir: dir }
    }
}

impl Drop for BareLoop {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// Tokens per second at the demo's pace of 60, and what a worker takes beside the same library in
/// a program of C that does the same.
async fn paced() {
    let script = "[[rule]]\nsay = \"on and on and \"\nno_eos = true\n";
    let bare = BareLoop::run(script);
    let server = setup().in_real_time(script).start();
    let chat = Chat::user("Tell me about the board").with("max_tokens", PACED_TOKENS).stream();
    let (first, last, _) = listen(&server, &chat).await;
    let rate = f64::from(PACED_TOKENS - 1) / (last - first).as_secs_f64();
    let share = rate / bare.tokens_per_s * 100.0;
    row(
        "streamed at the pace of 60 tokens/s",
        &format!("{rate:.2} of {:.2} tokens/s, {share:.2} %", bare.tokens_per_s),
        "99 % of the bare C loop",
    );
    let worker = children(server.pid())[0];
    // By shares: the pages of the executable and of the C library are the server's too, and `Rss` counts
    // them for every process once more.
    for (key, goal) in [("Pss", "5 MB"), ("Private_Dirty", ""), ("Rss", "")] {
        let (ours, theirs) = (memory_kib(worker, key), memory_kib(bare.child.id(), key));
        row(
            &format!("worker beside the bare C loop, {key}"),
            &format!("{:.1} - {:.1} = {:.1} MB", mb(ours), mb(theirs), mb(ours) - mb(theirs)),
            goal,
        );
    }
}

/// The time to the first text of the second turn of a long conversation, on a model of 1.7 billion
/// parameters on an RK3588, whose times are the published ones.
async fn second_turns() {
    let model = ModelDir::demo("demo").script("parameters_b = 1.7\n[latency]\n");
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(&model)
        .in_real_time("")
        .env("MOCK_NPU_TRACE", "")
        .env("RUST_LOG", "info")
        .start();
    let mut turns = Vec::new();
    for conversation in 0..CONVERSATIONS {
        turns.push(second_turn(&server, conversation).await);
    }
    turns.sort_by(|a, b| a.second_ms.total_cmp(&b.second_ms));
    let Turns { prompt_tokens, new_tokens, cached_tokens, first_ms, second_ms } =
        turns[turns.len() / 2];
    let least = PREFILL_MS + PREFILL_MS_PER_TOKEN * f64::from(new_tokens) + DECODE_MS;
    row(
        &format!("first text of turn 1, {prompt_tokens} tokens, 1.7B"),
        &format!("{first_ms:.0} ms"),
        "",
    );
    row(
        &format!("first text of turn 2, {new_tokens} new tokens"),
        &format!("{second_ms:.1} ms, {:.2} x {least:.0} ms", second_ms / least),
        "1.3 x prefill of the new and one decode",
    );
    row("tokens of turn 2 said to be cached", &cached_tokens.to_string(), "all but the new");
}

/// One conversation of two turns.
#[derive(Clone, Copy)]
struct Turns {
    prompt_tokens: u32,
    /// Tokens of the second prompt that the first turn did not leave in the KV cache.
    new_tokens: u32,
    cached_tokens: u32,
    first_ms: f64,
    second_ms: f64,
}

async fn second_turn(server: &Server, number: usize) -> Turns {
    // Other words from the beginning on: no conversation helps the next.
    let text =
        format!("{number}: {}", "words of memory and board. ".repeat(CONVERSATION_TOKENS / 6));
    let mut messages = vec![json!({"role": "user", "content": text})];
    let chat = |messages: &[Value]| {
        Chat::user("")
            .with("messages", messages)
            .with("max_tokens", 16)
            .with("stream_options", json!({"include_usage": true}))
            .stream()
    };
    // Loads the model, and leaves nothing of this conversation behind.
    Chat::user("Hi").with("max_tokens", 1).ask(server).await;
    let asked = Instant::now();
    let (first, _, events) = listen(server, &chat(&messages)).await;
    let first_ms = (first - asked).as_secs_f64() * 1e3;
    let before = usage(&events);

    messages.push(json!({"role": "assistant", "content": Sse::content(&events)}));
    messages.push(json!({"role": "user", "content": "And what does that mean for the memory?"}));
    let asked = Instant::now();
    let (second, _, events) = listen(server, &chat(&messages)).await;
    let after = usage(&events);
    let count = |usage: &Value, key: &str| u32::try_from(usage[key].as_u64().unwrap()).unwrap();
    let prompt_tokens = count(&before, "prompt_tokens");
    // The last token of an answer is given out and not yet in the cache.
    let held = prompt_tokens + count(&before, "completion_tokens") - 1;
    Turns {
        prompt_tokens,
        new_tokens: count(&after, "prompt_tokens") - held,
        cached_tokens: count(&after["prompt_tokens_details"], "cached_tokens"),
        first_ms,
        second_ms: (second - asked).as_secs_f64() * 1e3,
    }
}

fn usage(events: &[Sse]) -> Value {
    let usage = |event: &Sse| match event {
        Sse::Data(chunk) if chunk["usage"].is_object() => Some(chunk["usage"].clone()),
        Sse::Data(_) | Sse::Done | Sse::Comment => None,
    };
    events.iter().find_map(usage).unwrap()
}

/// Reads a stream: when its first and its last text came, and everything.
async fn listen(server: &Server, chat: &Chat) -> (Instant, Instant, Vec<Sse>) {
    let mut stream = chat.send(server).await.bytes_stream();
    let (mut first, mut last) = (None, Instant::now());
    let mut text = String::new();
    while let Some(bytes) = stream.next().await {
        let before = text.len();
        text.push_str(&String::from_utf8_lossy(&bytes.unwrap()));
        // The event that opens the message has no text.
        let new = text[before..].replace("\"content\":\"\"", "");
        if new.contains("\"content\":\"") {
            last = Instant::now();
            first.get_or_insert(last);
        }
    }
    (first.unwrap(), last, Sse::parse(&text))
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    row(what, &format!("{:.2} ms median, {:.2} p90, {:.2} p99", at(50), at(90), at(99)), "");
}

/// A line of the table; the goal is what the figure is to stay below, a percentage above.
fn row(what: &str, measured: &str, goal: &str) {
    println!("{what:<44} {measured:<42} {goal}");
}

#[allow(clippy::cast_precision_loss, reason = "kibibytes of one process")]
fn mb(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

fn median_mb(sorted_kib: &[u64]) -> f64 {
    mb(sorted_kib[sorted_kib.len() / 2])
}
