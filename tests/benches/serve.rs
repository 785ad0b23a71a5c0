//! The figures that the server is held to, measured on the mock runtime without delays: what is left
//! is our own cost. One run, one machine: compare ratios, not absolute values.
//!
//!     ci/bench
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and a failure in it is a failure"
)]

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rkllama_tests::{Chat, Server, ServerSetup, children, cpu_s, status_kib};

const STARTS: usize = 20;
const REQUESTS: usize = 300;
/// So many streams of so many tokens: CPU time is counted in steps of 10 ms.
const STREAMS: u32 = 25;
const STREAMED_TOKENS: u32 = 4000;

fn main() {
    // `cargo test --benches` and `cargo nextest` start benchmarks too: only `cargo bench` measures.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        starts().await;
        first_tokens().await;
        stream().await;
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
    println!("{:<44} {:>9.1} MB", "server idle, resident (median)", median_mb(&resident));
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
    println!(
        "{:<44} {:>9.1} MB",
        "server after it, resident",
        mb(status_kib(server.pid(), "VmRSS"))
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
    println!("{:<44} {:>9.0} tokens/s", "streamed at zero delay", tokens / took.as_secs_f64());
    println!(
        "{:<44} {:>9.1} µs (server), {:.1} µs (worker, the mock's own cost included)",
        "CPU per token",
        per_token(cpu_s(server.pid()) - server_before),
        per_token(cpu_s(worker) - worker_before),
    );
    drop::<Server>(server);
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!("{what:<44} {:>9.2} ms median, {:.2} p90, {:.2} p99", at(50), at(90), at(99));
}

#[allow(clippy::cast_precision_loss, reason = "kibibytes of one process")]
fn mb(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

fn median_mb(sorted_kib: &[u64]) -> f64 {
    mb(sorted_kib[sorted_kib.len() / 2])
}
