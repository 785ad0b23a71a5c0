//! A scripted engine and a list of models, and the app around them.

#![allow(dead_code, reason = "each test file uses its part of this")]

pub(crate) mod schema;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use rkllama_core::{
    Chat, Cutting, EmbedError, EmbedRequest, Embedding, Embeddings, Engine, EngineError, Event,
    Finish, Finished, Generation, KeepAlive, Message, Model, ModelError, ModelRuntime, ModelState,
    ModelTraits, Models, PointRequest, Pointed, Pointing, Problem, Prompt, Request, Resident,
    Sampling, Started, TextFiles, Texts, Timings, ToolCallPiece, Usage, Working,
};
use rkllama_http::{Browsers, Keys, Limits, Metrics};
use rkllama_openapi::{KeptResponses, State};

/// What a scripted generation does next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Yields this.
    Yield(Result<Event, EngineError>),
    /// Waits.
    Wait(Duration),
    /// Waits for ever: only a drop ends it.
    Hang,
    /// Panics.
    Panic,
}

/// An engine that plays a script and remembers what it was asked.
#[derive(Default)]
pub(crate) struct ScriptedEngine {
    pub(crate) script: Vec<Step>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) residents: Vec<Resident>,
    pub(crate) runtimes: Vec<ModelRuntime>,
    /// Why no model can be asked for.
    pub(crate) refusal: Option<EngineError>,
    /// Generations that have been begun and not dropped.
    pub(crate) running: Arc<AtomicUsize>,
    pub(crate) requests: Mutex<Vec<Request>>,
    /// The vectors of inputs, one after the other; none is left where they are to hang.
    pub(crate) embeddings: Option<Result<Vec<Embedding>, EmbedError>>,
    pub(crate) embed_requests: Mutex<Vec<EmbedRequest>>,
    /// The place on a picture.
    pub(crate) pointed: Option<Result<Pointed, EngineError>>,
    pub(crate) point_requests: Mutex<Vec<PointRequest>>,
    /// How many tokens a request has; none where they are not to be counted.
    pub(crate) counted: Option<Result<u32, EngineError>>,
}

impl ScriptedEngine {
    pub(crate) fn playing(script: Vec<Step>) -> Arc<Self> {
        Arc::new(Self { script, ..Self::default() })
    }

    pub(crate) fn last_request(&self) -> Request {
        self.requests.lock().unwrap().last().expect("the engine was asked").clone()
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

/// Counts a generation while it lives.
struct Running<S> {
    steps: S,
    count: Arc<AtomicUsize>,
}

impl<S> Drop for Running<S> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<S: Stream + Unpin> Stream for Running<S> {
    type Item = S::Item;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.steps).poll_next(cx)
    }
}

impl Engine for ScriptedEngine {
    fn generate(&self, request: Request) -> Generation {
        self.requests.lock().unwrap().push(request);
        self.running.fetch_add(1, Ordering::SeqCst);
        let script = self.script.clone();
        let steps = Box::pin(async_stream::stream! {
            for step in script {
                match step {
                    Step::Yield(event) => yield event,
                    Step::Wait(time) => tokio::time::sleep(time).await,
                    Step::Hang => std::future::pending().await,
                    Step::Panic => panic!("scripted"),
                }
            }
        });
        Box::pin(Running { steps, count: Arc::clone(&self.running) })
    }

    fn point(&self, request: PointRequest) -> Pointing {
        self.point_requests.lock().unwrap().push(request);
        let pointed = self.pointed.clone().expect("nothing is said of places");
        Box::pin(async move { pointed })
    }

    fn rerank(&self, request: rkllama_core::RerankRequest) -> rkllama_core::Relevances {
        unreachable!("nothing here compares texts: {request:?}")
    }

    fn embed(&self, request: EmbedRequest) -> Embeddings {
        self.embed_requests.lock().unwrap().push(request);
        let embeddings = self.embeddings.clone();
        Box::pin(async move {
            match embeddings {
                Some(embeddings) => embeddings,
                None => std::future::pending().await,
            }
        })
    }

    fn load(&self, _: Arc<Model>, _: Option<KeepAlive>, _: Arc<str>) -> Working<()> {
        unreachable!("no route of these asks for it")
    }

    fn unload(&self, _: &Model) {}

    fn check(&self, model: &Model) -> Result<(), EngineError> {
        match (&self.refusal, &model.state) {
            (Some(error), _) => Err(error.clone()),
            (None, ModelState::Ready) => Ok(()),
            (None, ModelState::Incomplete(reason)) => {
                Err(EngineError::Model(ModelError::Incomplete {
                    model: model.id.clone(),
                    reason: reason.clone(),
                }))
            }
        }
    }

    fn residents(&self) -> Vec<Resident> {
        self.residents.clone()
    }

    fn runtimes(&self) -> Vec<ModelRuntime> {
        self.runtimes.clone()
    }

    fn problems(&self) -> Vec<Problem> {
        self.problems.clone()
    }
}

impl Texts for ScriptedEngine {
    fn traits(&self, model: Arc<Model>) -> Working<Arc<ModelTraits>> {
        unreachable!("no route of these asks for it: {model:?}")
    }

    fn render(&self, model: Arc<Model>, _: Chat) -> Working<String> {
        unreachable!("no route of these asks for it: {model:?}")
    }

    fn prompt_tokens(&self, model: Arc<Model>, _: Prompt) -> Working<Vec<i32>> {
        unreachable!("no route of these asks for it: {model:?}")
    }

    fn count_tokens(&self, request: Request) -> Working<u32> {
        self.requests.lock().unwrap().push(request);
        let counted = self.counted.clone().expect("nothing is to be counted");
        Box::pin(async move { counted })
    }

    fn check_template(&self, source: &str) -> Result<(), String> {
        unreachable!("no route of these asks for it: {source}")
    }

    fn tokenize(&self, model: Arc<Model>, _: String, _: Cutting) -> Working<Vec<i32>> {
        unreachable!("no route of these asks for it: {model:?}")
    }

    fn detokenize(&self, model: Arc<Model>, _: Vec<i32>) -> Working<String> {
        unreachable!("no route of these asks for it: {model:?}")
    }
}

/// The conversation of a request.
pub(crate) fn chat(request: &Request) -> &Chat {
    match &request.prompt {
        Prompt::Chat(chat) => chat,
        Prompt::Text(_) | Prompt::Tokens(_) | Prompt::Infill(_) => panic!("no conversation"),
    }
}

/// Its messages.
pub(crate) fn conversation(request: &Request) -> &[Message] {
    &chat(request).messages
}

pub(crate) fn started(ignored: Vec<&'static str>) -> Step {
    Step::Yield(Ok(Event::Started(Started { prompt_tokens: 26, ignored })))
}

pub(crate) fn text(text: &str) -> Step {
    Step::Yield(Ok(Event::Text(text.to_owned())))
}

pub(crate) fn thought(text: &str) -> Step {
    Step::Yield(Ok(Event::Reasoning(text.to_owned())))
}

/// A call of a tool begins.
pub(crate) fn call(index: usize, name: &str) -> Step {
    Step::Yield(Ok(Event::ToolCall(ToolCallPiece::Begin { index, name: name.to_owned() })))
}

/// More of its arguments.
pub(crate) fn arguments(index: usize, json: &str) -> Step {
    Step::Yield(Ok(Event::ToolCall(ToolCallPiece::Arguments { index, json: json.to_owned() })))
}

pub(crate) fn finished(finish: Finish) -> Step {
    Step::Yield(Ok(Event::Finished(Finished {
        stopped_by: None,
        finish,
        usage: Usage {
            prompt_tokens: 26,
            cached_tokens: 10,
            completion_tokens: 5,
            reasoning_tokens: 0,
        },
        timings: Timings {
            queued: Duration::from_millis(2),
            prefill: Duration::from_millis(100),
            decode: Duration::from_millis(400),
        },
        logprobs: None,
    })))
}

pub(crate) fn error(error: EngineError) -> Step {
    Step::Yield(Err(error))
}

/// "Hello 🌍!" in three pieces.
pub(crate) fn hello() -> Vec<Step> {
    vec![started(Vec::new()), text("Hello"), text(" 🌍"), text("!"), finished(Finish::Stop)]
}

/// Models by id; `twin` is ambiguous.
pub(crate) struct ListedModels(BTreeMap<String, Arc<Model>>);

impl ListedModels {
    pub(crate) fn of(models: impl IntoIterator<Item = Model>) -> Arc<Self> {
        let models = models.into_iter().map(|model| (model.id.clone(), Arc::new(model)));
        Arc::new(Self(models.collect()))
    }
}

impl Models for ListedModels {
    fn list(&self) -> Vec<Arc<Model>> {
        self.0.values().cloned().collect()
    }

    fn resolve(&self, name: &str) -> Result<Arc<Model>, ModelError> {
        if name == "twin" {
            let candidates = vec!["twin-a".to_owned(), "twin-b".to_owned()];
            return Err(ModelError::Ambiguous { name: name.to_owned(), candidates });
        }
        let not_found = || ModelError::NotFound { name: name.to_owned() };
        self.0.get(name).cloned().ok_or_else(not_found)
    }

    fn text_files(&self, _: &Model) -> Result<TextFiles, ModelError> {
        unreachable!("the API never reads a model's files")
    }
}

pub(crate) fn model(id: &str) -> Model {
    Model {
        id: id.to_owned(),
        created_s: 1_700_000_000,
        weights_bytes: 0,
        memory_bytes: None,
        weights: PathBuf::from("/nowhere/model.rkllm"),
        context_tokens_max: 4096,
        sampling: Sampling::default(),
        tokens_max: Some(512),
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

pub(crate) fn incomplete(id: &str) -> Model {
    let reason = "tokenizer.json is missing: copy it from the original model".to_owned();
    Model { state: ModelState::Incomplete(reason), ..model(id) }
}

/// A server with the model `tiny` and two more.
pub(crate) fn state(engine: Arc<ScriptedEngine>) -> State {
    let models = ListedModels::of([model("tiny"), model("Qwen/Qwen3-0.6B"), incomplete("broken")]);
    state_with(engine, models)
}

pub(crate) fn state_with(engine: Arc<ScriptedEngine>, models: Arc<ListedModels>) -> State {
    State {
        texts: Arc::clone(&engine) as Arc<dyn Texts>,
        engine,
        models,
        metrics: Arc::new(Metrics::new("1.2.3")),
        fallback: Arc::default(),
        version: "1.2.3".to_owned(),
        keys: Keys::default(),
        browsers: Browsers::default(),
        responses: KeptResponses::default(),
        strict_parameters: false,
        empty_store_hint: None,
    }
}

/// Limits with a heartbeat that a test can wait for.
pub(crate) fn limits() -> Limits {
    Limits { heartbeat: Duration::from_millis(50), ..Limits::default() }
}

/// An answer as text for a snapshot: status, the headers that mean something, the body. What is
/// random or depends on the clock is masked.
pub(crate) async fn shown(response: poem::test::TestResponse) -> String {
    const HEADERS: [&str; 7] = [
        "content-type",
        "x-rkllama-ignored",
        "retry-after",
        "x-should-retry",
        "www-authenticate",
        "allow",
        "location",
    ];
    let mut text = format!("{}\n", response.0.status());
    for name in HEADERS {
        if let Some(value) = response.0.headers().get(name) {
            text += &format!("{name}: {}\n", value.to_str().unwrap());
        }
    }
    let body = response.0.into_body().into_string().await.unwrap();
    text + "\n" + &masked(&body)
}

/// `text` without the ids and times of answers.
pub(crate) fn masked(text: &str) -> String {
    let text = mask(text, "\"id\":\"chatcmpl-", |c| c.is_ascii_hexdigit());
    let text = mask(&text, "\"id\":\"cmpl-", |c| c.is_ascii_hexdigit());
    let text = ["resp_", "msg_", "rs_", "fc_"]
        .iter()
        .fold(text, |text, prefix| mask(&text, prefix, |c| c.is_ascii_hexdigit()));
    let text = ["created_at", "completed_at"]
        .iter()
        .fold(text, |text, field| mask(&text, &format!("\"{field}\":"), |c| c.is_ascii_digit()));
    let text = mask(&text, "\"call_id\":\"call_", |c| c.is_ascii_hexdigit());
    let text = mask(&text, "\"id\":\"call_", |c| c.is_ascii_hexdigit());
    if text.contains("cmpl-") { mask(&text, "\"created\":", |c| c.is_ascii_digit()) } else { text }
}

fn mask(text: &str, start: &str, is_masked: fn(char) -> bool) -> String {
    let mut parts = text.split(start);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked += start;
        masked += "[]";
        masked += part.trim_start_matches(is_masked);
    }
    masked
}

/// The data of each event of a stream, `[DONE]` included.
pub(crate) fn data_of(stream: &str) -> Vec<&str> {
    stream.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect()
}

/// Fields and classes of an operation, from the printed table.
pub(crate) fn coverage_of(operation: &str) -> Vec<(String, String)> {
    let coverage = rkllama_openapi::coverage();
    let section = coverage.split("\n## ").find(|section| section.starts_with(operation));
    section
        .unwrap_or_else(|| panic!("nothing about {operation}"))
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let field = cells.next()?.trim_end_matches('`').to_owned();
            Some((field, cells.next()?.to_owned()))
        })
        .collect()
}
