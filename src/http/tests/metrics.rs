//! What is counted, as a scraper reads it.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use rkllama_core::{
    Account, EmbedRequest, Embeddings, Engine, EngineError, Finish, Generation, Happened,
    KeepAlive, LoadState, Model, ModelError, ModelState, Models, Observer, Outcome, Problem,
    Request, Resident, RunAccount, Sampling, TextFiles, Timings, Usage, Working,
};
use rkllama_http::Metrics;

/// Some models, of which some are loaded.
#[derive(Default)]
struct World {
    models: Mutex<Vec<Arc<Model>>>,
    residents: Mutex<Vec<Resident>>,
}

impl Engine for World {
    fn point(&self, request: rkllama_core::PointRequest) -> rkllama_core::Pointing {
        unreachable!("nothing here looks for places: {request:?}")
    }

    fn rerank(&self, request: rkllama_core::RerankRequest) -> rkllama_core::Relevances {
        unreachable!("nothing here compares texts: {request:?}")
    }

    fn generate(&self, _: Request) -> Generation {
        unreachable!("metrics ask for nothing")
    }

    fn embed(&self, _: EmbedRequest) -> Embeddings {
        unreachable!("metrics ask for nothing")
    }

    fn load(&self, _: Arc<Model>, _: Option<KeepAlive>, _: Arc<str>) -> Working<()> {
        unreachable!("no route of these asks for it")
    }

    fn unload(&self, _: &Model) {}

    fn check(&self, _: &Model) -> Result<(), EngineError> {
        Ok(())
    }

    fn residents(&self) -> Vec<Resident> {
        self.residents.lock().unwrap().clone()
    }

    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}

impl Models for World {
    fn list(&self) -> Vec<Arc<Model>> {
        self.models.lock().unwrap().clone()
    }

    fn resolve(&self, name: &str) -> Result<Arc<Model>, ModelError> {
        Err(ModelError::NotFound { name: name.to_owned() })
    }

    fn text_files(&self, _: &Model) -> Result<TextFiles, ModelError> {
        unreachable!("metrics read no files")
    }
}

impl World {
    fn with(models: &[&str]) -> Self {
        let world = Self::default();
        *world.models.lock().unwrap() = models.iter().map(|id| Arc::new(model(id))).collect();
        world
    }

    /// The lines that do not depend on this process.
    fn lines(&self, metrics: &Metrics) -> Vec<String> {
        let exposition = metrics.exposition(self, self);
        let lines = exposition.text().lines().filter(|line| !line.contains("process_"));
        lines.map(str::to_owned).collect()
    }

    /// The value of a series, by its name with labels.
    fn value(&self, metrics: &Metrics, series: &str) -> Option<f64> {
        let values: Vec<f64> = self
            .lines(metrics)
            .iter()
            .filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
            .map(|value| value.parse().unwrap())
            .collect();
        assert!(values.len() < 2, "{series} is there {} times", values.len());
        values.first().copied()
    }
}

fn model(id: &str) -> Model {
    Model {
        id: id.to_owned(),
        created_s: 0,
        weights: PathBuf::new(),
        weights_bytes: 0,
        memory_bytes: None,
        context_tokens_max: 100,
        sampling: Sampling::default(),
        tokens_max: None,
        runtime: None,
        pooling: None,
        reranks: None,
        query_instruction: None,
        vision: None,
        adapter: None,
        presets: rkllama_core::Presets::default(),
        state: ModelState::Ready,
    }
}

fn run(cached_tokens: u32, completion_tokens: u32) -> RunAccount {
    RunAccount {
        usage: Usage { prompt_tokens: 30, cached_tokens, completion_tokens, reasoning_tokens: 0 },
        context_tokens_max: 100,
        timings: Timings {
            queued: Duration::from_millis(1500),
            prefill: Duration::from_secs(2),
            decode: Duration::from_secs(4),
        },
        first_token: Some(Duration::from_millis(3600)),
    }
}

fn ended(outcome: Outcome<'_>, run: Option<RunAccount>) -> Happened<'_> {
    Happened::Ended(Account { outcome, run, took: Duration::from_secs(8) })
}

/// Tells the story of a request up to the start of its run.
fn start(metrics: &Metrics, model: &str, position: usize) {
    metrics.observe(model, &Happened::Queued { position });
    let waited = Duration::from_millis(1500);
    metrics.observe(model, &Happened::Dequeued { waited, turn_came: true });
}

#[test]
fn everything_that_happened_is_shown_under_the_names_of_the_field() {
    let world = World::with(&["tiny", "we\"ird\\name"]);
    world.residents.lock().unwrap().push(Resident {
        model: "tiny".to_owned(),
        state: LoadState::Busy,
        memory_bytes: 1_000_000,
        expires: None,
    });
    let metrics = Metrics::new("1.2.3");
    metrics.observe("tiny", &Happened::Loaded { took: Duration::from_secs(3) });
    metrics.observe("tiny", &Happened::LoadFailed);
    metrics.observe("tiny", &Happened::WorkerLost);
    start(&metrics, "tiny", 0);
    metrics.observe("tiny", &ended(Outcome::Finished(Finish::Stop), Some(run(10, 5))));
    start(&metrics, "tiny", 2);
    metrics.observe("tiny", &ended(Outcome::Cancelled, Some(run(0, 1))));
    start(&metrics, "tiny", 0);
    metrics.observe("tiny", &Happened::Queued { position: 1 });
    let full = EngineError::QueueFull { what: "model 'tiny'".to_owned(), waiting: 8 };
    metrics.observe("tiny", &ended(Outcome::Failed(&full), None));
    insta::assert_snapshot!(world.lines(&metrics).join("\n"));
}

/// What a client sends is nowhere, and models that are gone do not stay for ever.
#[test]
fn a_model_that_was_removed_is_forgotten_once_its_requests_are_over() {
    let world = World::with(&["tiny"]);
    let metrics = Metrics::new("1.2.3");
    start(&metrics, "tiny", 0);
    world.models.lock().unwrap().clear();
    let running = "vllm:num_requests_running{model_name=\"tiny\"}";
    assert_eq!(world.value(&metrics, running), Some(1.0));
    metrics.observe("tiny", &ended(Outcome::Finished(Finish::Length), Some(run(0, 2))));
    assert_eq!(world.value(&metrics, running), None);
    assert!(!world.lines(&metrics).iter().any(|line| line.contains("tiny")));
    assert_eq!(world.value(&metrics, "llamacpp:tokens_predicted_total"), Some(2.0));
}

#[test]
fn gauges_come_back_to_zero_however_requests_end() {
    let world = World::with(&["tiny"]);
    let metrics = Metrics::new("1.2.3");
    let error = EngineError::Run { reason: "rkllm_run returned -1".to_owned() };
    for outcome in [Outcome::Finished(Finish::Stop), Outcome::Cancelled, Outcome::Failed(&error)] {
        start(&metrics, "tiny", 0);
        metrics.observe("tiny", &ended(outcome, Some(run(0, 2))));
        metrics.observe("tiny", &Happened::Queued { position: 0 });
        let waited = Duration::ZERO;
        metrics.observe("tiny", &Happened::Dequeued { waited, turn_came: false });
        metrics.observe("tiny", &ended(outcome, None));
    }
    for gauge in [
        "vllm:num_requests_running{model_name=\"tiny\"}",
        "vllm:num_requests_waiting{model_name=\"tiny\"}",
        "llamacpp:requests_processing",
        "llamacpp:requests_deferred",
    ] {
        assert_eq!(world.value(&metrics, gauge), Some(0.0), "{gauge}");
    }
}

#[test]
fn the_process_is_described() {
    let world = World::default();
    let metrics = Metrics::new("1.2.3");
    let exposition = metrics.exposition(&world, &world);
    let value = |name: &str| -> f64 {
        let line = exposition.text().lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}")).trim().parse().unwrap()
    };
    assert!(value("process_resident_memory_bytes ") > 1e6);
    assert!(value("process_open_fds ") >= 3.0);
    assert!(value("process_start_time_seconds ") > 1.6e9);
    assert!(value("process_cpu_seconds_total ") >= 0.0);
}
