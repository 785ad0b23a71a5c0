//! Thousands of requests to several models, with clients that leave at any moment and a runtime
//! that fails in every way that leaves its text alone.
//!
//! Every request ends in exactly one of three ways: complete, an error, or left by its client. What
//! is complete is what an undisturbed server says; what was cut short is a beginning of it. At the
//! end the server holds as many files, processes, threads and pages as after a warm-up.
//!
//! `CHAOS_SEED` chooses the requests, the clients' moments and the faults; `CHAOS_REQUESTS` and
//! `CHAOS_SECONDS` bound a longer run. Faults that change the text itself (`garbage_text`,
//! `pad_text`, `empty_text`, `eos_unread`, `stale_token_after_abort`) or the count of tokens
//! (`whole_answer_at_once`) are left out: those answers could not be compared. Nor are there hangs
//! before the first token, whose limit is seconds: `faults.rs` has all of these.

use std::{
    collections::{HashMap, hash_map::Entry},
    env,
    fmt::Write,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use rkllama_tests::{
    Chat, Ending, ModelDir, Server, ServerSetup, Sse, children, eventually, open_files,
    process_runs, status_kib, threads,
};
use serde_json::{Value, json};

const MODELS: [&str; 3] = ["red", "green", "blue"];
/// A queue that may be full, and models that have to make room for each other.
const CLIENTS: usize = 12;
const REQUESTS: usize = 3000;
/// After so many the server has everything that it ever keeps.
const WARM_UP: usize = 1200;
/// No new requests after so many seconds, however few there were.
const SECONDS: u64 = 75;
/// Who was refused comes back later, or refusals would be most of what happens.
const PAUSE: Duration = Duration::from_millis(60);
/// Fewer than this would prove little.
const REQUESTS_MIN: usize = 1000;

const LATENCY: &str = "[latency]\nload_ms = 30\nprefill_ms = 4\nprefill_ms_per_token = 0.05\n\
                       decode_ms_per_token = 1.5\n";

/// What the runtime does for a while, to whatever runs and loads begin then.
const WEATHER: [&str; 12] = [
    "finish_missing = true",
    "abort_ignored_ms = 30",
    "abort_ignored = true",
    "abort_without_finish = true",
    "crash_load_cache_after_abort = true",
    "stdout_flood = 5",
    "eos_reaches_callback = true",
    "init_fails = true",
    "init_null_handle = true",
    "sigbus_in_init = true",
    "error_result_null = true\nerror_at_token = 4",
    "ggml_abort_at_token = 20",
];

/// Without calm between them, models are out of order most of the time and nothing else is tested.
const CALM_PERCENT: usize = 70;

/// What some requests bring upon their own run, by a word in them.
const OMENS: [(&str, &str); 8] = [
    ("omen-a", "fail_at_token = 0"),
    ("omen-b", "fail_at_token = 5"),
    ("omen-c", "crash_at_token = 0"),
    ("omen-d", "crash_at_token = 1"),
    ("omen-e", "crash_at_token = 7"),
    ("omen-f", "hang_at_token = 1"),
    ("omen-g", "hang_at_token = 6"),
    ("omen-h", "delay_ms_per_token = 12"),
];

fn script(weather: &str, with_omens: bool) -> String {
    let mut script = format!("{LATENCY}[faults]\n{weather}\n");
    for (word, fault) in OMENS.iter().filter(|_| with_omens) {
        write!(script, "[[rule]]\nuser_contains = \"{word}\"\n{fault}\n").unwrap();
    }
    script
}

/// SplitMix64: the same numbers for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn of(seed: u64, throw: usize) -> Self {
        let mut dice = Self(seed ^ (throw as u64).wrapping_mul(0xd134_2543_de82_ef95));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count as u64).unwrap()
    }

    fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }
}

/// What is asked; two equal ones have the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    model: usize,
    talk: usize,
    omen: Option<usize>,
    tokens_max: u32,
    stop: bool,
}

const TALKS: usize = 9;

impl Question {
    fn thrown(dice: &mut Dice) -> Self {
        let omen = dice.percent(4).then(|| dice.below(OMENS.len()));
        Self {
            model: dice.below(MODELS.len()),
            // Few of those that are rare, or computing what is right would take longest.
            talk: dice.below(if omen.is_some() { 2 } else { TALKS }),
            omen,
            tokens_max: [1, 8, 24][if omen.is_some() { 2 } else { dice.below(3) }],
            stop: omen.is_none() && dice.percent(20),
        }
    }

    /// Conversations of one, two and three turns, several with the same beginning.
    fn messages(&self) -> Value {
        let system = ["You are terse.", "You know boards.", "You are kind."][self.talk % 3];
        let turns = ["What is an NPU?", "And how fast is it?", "Tell me more about memory"];
        let said = ["It computes.", "Fast."];
        let mut messages = vec![json!({"role": "system", "content": system})];
        for turn in 0..=self.talk / 3 {
            messages.push(json!({"role": "user", "content": turns[turn]}));
            if turn < self.talk / 3 {
                messages.push(json!({"role": "assistant", "content": said[turn]}));
            }
        }
        if let Some(omen) = self.omen {
            let last = messages.last_mut().unwrap();
            last["content"] = format!("{} {}", turns[self.talk / 3], OMENS[omen].0).into();
        }
        messages.into()
    }

    fn chat(&self) -> Chat {
        let chat = Chat::user("")
            .with("model", MODELS[self.model])
            .with("messages", self.messages())
            .with("max_tokens", self.tokens_max);
        if self.stop { chat.with("stop", json!([" the", "."])) } else { chat }
    }
}

/// A request and when its client leaves.
struct Request {
    question: Question,
    chat: Chat,
    leaves: Leaves,
}

#[derive(Clone, Copy)]
enum Leaves {
    Never,
    /// Whatever the request is doing then: waiting, loading, in prefill or in decode.
    After(Duration),
    /// So many parts of a stream have come.
    AtPart(usize),
}

impl Request {
    fn thrown(seed: u64, number: usize) -> Self {
        let mut dice = Dice::of(seed, number);
        let question = Question::thrown(&mut dice);
        let mut chat = question.chat();
        if dice.percent(4) {
            chat = chat.with("keep_alive", 0);
        }
        let streamed = dice.percent(60);
        let leaves = match dice.below(10) {
            0..6 => Leaves::Never,
            6..9 => Leaves::After(Duration::from_micros(dice.below(120_000) as u64)),
            _ if streamed => Leaves::AtPart(1 + dice.below(12)),
            _ => Leaves::Never,
        };
        Self { question, chat: chat.with("stream", streamed), leaves }
    }
}

/// The three ways.
#[derive(Debug, PartialEq)]
enum Outcome {
    Complete(String, String),
    Error(String),
    /// With what had come.
    Left(String),
}

/// What all clients share.
struct Run {
    server: Server,
    url: String,
    seed: u64,
    right: HashMap<Question, (String, String)>,
    next: AtomicUsize,
}

impl Run {
    /// Requests until this many, or until it is time; returns how they ended.
    async fn requests(self: &Arc<Self>, until: usize, deadline: Instant) -> Tally {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(120)).build().unwrap();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| tokio::spawn(Arc::clone(self).client(client.clone(), until, deadline)))
            .collect();
        let weather = tokio::spawn(Arc::clone(self).weather());
        let mut all = Tally::default();
        for client in clients {
            let tally = client.await.unwrap_or_else(|err| panic!("seed {}: {err}", self.seed));
            all.complete += tally.complete;
            all.errors += tally.errors;
            all.left += tally.left;
        }
        weather.abort();
        all
    }

    async fn client(
        self: Arc<Self>,
        client: reqwest::Client,
        until: usize,
        deadline: Instant,
    ) -> Tally {
        let mut tally = Tally::default();
        while Instant::now() < deadline {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= until {
                // Given back: it has not been asked.
                self.next.fetch_sub(1, Ordering::Relaxed);
                break;
            }
            let request = Request::thrown(self.seed, number);
            let (text, finish) = &self.right[&request.question];
            let outcome = self.ask(&client, &request).await;
            match &outcome {
                Outcome::Complete(said, why) => {
                    tally.complete += 1;
                    let chat = &request.chat.0;
                    assert_eq!((said, why), (text, finish), "request {number}: {chat}");
                }
                Outcome::Error(said) => {
                    tally.errors += 1;
                    assert!(text.starts_with(said), "request {number}: {said:?} of {text:?}");
                    tokio::time::sleep(PAUSE).await;
                }
                Outcome::Left(said) => {
                    tally.left += 1;
                    assert!(text.starts_with(said), "request {number}: {said:?} of {text:?}");
                }
            }
        }
        tally
    }

    async fn ask(&self, client: &reqwest::Client, request: &Request) -> Outcome {
        let sent = client.post(&self.url).json(&request.chat.0).send();
        let ending = async { Ending::read(sent.await.unwrap()).await };
        match request.leaves {
            Leaves::Never => Outcome::of(ending.await),
            Leaves::After(delay) => tokio::select! {
                ending = ending => Outcome::of(ending),
                () = tokio::time::sleep(delay) => Outcome::Left(String::new()),
            },
            Leaves::AtPart(count) => {
                drop(ending);
                let response = client.post(&self.url).json(&request.chat.0).send().await.unwrap();
                leave_at_part(response, count).await
            }
        }
    }

    /// The faults of the environment, one after another.
    async fn weather(self: Arc<Self>) {
        let mut dice = Dice::of(self.seed, usize::MAX);
        loop {
            let calm = dice.percent(CALM_PERCENT);
            let weather = if calm { "" } else { WEATHER[dice.below(WEATHER.len())] };
            self.server.rescript(&script(weather, true));
            tokio::time::sleep(Duration::from_millis(50 + dice.below(200) as u64)).await;
        }
    }

    /// Fair weather, every model answering, and then none loaded.
    async fn settle(&self) -> Level {
        self.server.rescript(&script("", false));
        for model in 0..MODELS.len() {
            let question = Question { model, talk: 0, omen: None, tokens_max: 8, stop: false };
            let chat = question.chat().with("keep_alive", 0);
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let heard = chat.ending(&self.server).await;
                if let Ok(finish) = heard.end {
                    assert_eq!((heard.text, finish), self.right[&question]);
                    break;
                }
                // Too many crashes in a row: out of order for some seconds.
                assert_eq!(heard.code.as_deref(), Some("model_degraded"), "{:?}", heard.end);
                assert!(Instant::now() < deadline, "{:?}", heard.end);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let pid = self.server.pid();
        eventually("no worker is left", || children(pid).is_empty().then_some(())).await;
        let workers = self.server.trace().workers();
        assert!(!workers.into_iter().any(process_runs), "a worker has lost its server");
        Level { files: open_files(pid), threads: threads(pid), kib: status_kib(pid, "VmRSS") }
    }
}

/// A stream whose client leaves when so many parts have come; it may have ended before.
async fn leave_at_part(response: reqwest::Response, count: usize) -> Outcome {
    if response.status() != 200 {
        return Outcome::of(Ending::read(response).await);
    }
    let mut parts = response.bytes_stream();
    let mut text = String::new();
    for _ in 0..count {
        match parts.next().await {
            Some(part) => text.push_str(std::str::from_utf8(&part.unwrap()).unwrap()),
            None => return Outcome::of(Ending::of_stream(&text)),
        }
    }
    if text.ends_with("data: [DONE]\n\n") {
        return Outcome::of(Ending::of_stream(&text));
    }
    let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
    Outcome::Left(Sse::content(&Sse::parse(whole)))
}

impl Outcome {
    fn of(ending: Ending) -> Self {
        match ending.end {
            Ok(finish) => Self::Complete(ending.text, finish),
            Err(_) => Self::Error(ending.text),
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    complete: usize,
    errors: usize,
    left: usize,
}

impl Tally {
    const fn all(&self) -> usize {
        self.complete + self.errors + self.left
    }
}

/// What a server holds.
#[derive(Debug)]
struct Level {
    files: usize,
    threads: usize,
    kib: u64,
}

fn models() -> ServerSetup {
    (0_u32..).zip(MODELS).fold(ServerSetup::new().mock("1.3.0"), |setup, (seed, name)| {
        // One weight, three minds: an answer of the wrong model shows.
        setup.model(&ModelDir::demo(name).script(&format!("seed = {seed}")))
    })
}

/// What an undisturbed server says to each question that these requests will ask.
async fn right_answers(seed: u64, requests: usize) -> HashMap<Question, (String, String)> {
    let server = models().env("MOCK_NPU_TRACE", "").env("RUST_LOG", "warn").start();
    let mut right = HashMap::new();
    let settling = (0..MODELS.len()).map(|model| Question {
        model,
        talk: 0,
        omen: None,
        tokens_max: 8,
        stop: false,
    });
    for question in (0..requests).map(|n| Request::thrown(seed, n).question).chain(settling) {
        if let Entry::Vacant(unasked) = right.entry(question) {
            let heard = unasked.key().chat().ending(&server).await;
            unasked.insert((heard.text, heard.end.unwrap()));
        }
    }
    server.stop();
    right
}

fn from_env<T: FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test]
async fn every_request_ends_in_one_way_and_the_server_stays_level() {
    let seed = from_env("CHAOS_SEED", 4);
    let requests = from_env("CHAOS_REQUESTS", REQUESTS);
    let time = Duration::from_secs(from_env("CHAOS_SECONDS", SECONDS));
    println!("CHAOS_SEED={seed}");
    let right = right_answers(seed, requests).await;
    let server = models()
        .live_script(&script("", true))
        .env("RUST_LOG", "warn")
        .config(
            "[limits]\nstall_timeout_ms = 1500\nabort_timeout_ms = 300\nqueue_len_max = 6\n\
             [memory]\nmodels_max = 2",
        )
        .start();
    let url = format!("{}/v1/chat/completions", server.url);
    let run = Arc::new(Run { server, url, seed, right, next: AtomicUsize::new(0) });

    let deadline = Instant::now() + time;
    let warm_up = run.requests(WARM_UP, deadline).await;
    let before = run.settle().await;
    let tally = run.requests(requests, deadline).await;
    let after = run.settle().await;

    let trace = run.server.trace();
    println!(
        "{warm_up:?}, then {tally:?}; {} loads, {} runs, {} aborts; {before:?}, then {after:?}",
        trace.calls("rkllm_init"),
        trace.calls("rkllm_run"),
        trace.calls("rkllm_abort"),
    );
    let asked = warm_up.all() + tally.all();
    assert!(asked >= REQUESTS_MIN.min(requests), "only {asked} in {time:?}");
    assert!(tally.complete > tally.all() / 3 && tally.errors > 0 && tally.left > 0, "{tally:?}");
    assert_eq!(trace.call_during_run(), None, "a call during a run");
    let pid = run.server.pid();
    eventually("as many files are open as before", || {
        (open_files(pid) <= before.files).then_some(())
    })
    .await;
    // Those that wait for work that blocks leave when they had none for a while.
    eventually("as many threads run as before", || {
        (threads(pid) <= before.threads + 2).then_some(())
    })
    .await;
    assert!(after.kib <= before.kib + before.kib / 5 + 4096, "{before:?} {after:?}");
    let Ok(run) = Arc::try_unwrap(run) else { panic!("a client is left") };
    run.server.stop();
}
