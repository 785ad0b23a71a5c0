//! A scripted engine, models, and the app around them.

#![allow(dead_code, reason = "each test file uses its part of this")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

pub(crate) mod store;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use poem::{
    Endpoint, Response,
    http::Method,
    test::{TestClient, TestResponse},
};
use rkllama_compat::{State, operations, shapes};
use rkllama_core::{
    Chat, Cutting, EmbedError, EmbedRequest, Embedding, Embeddings, Engine, EngineError, Event,
    Finish, Finished, Generation, ImageTags, KeepAlive, LoadState, Model, ModelError, ModelState,
    ModelTraits, Models, Pooling, Problem, Prompt, PromptTokens, Request, Resident, Sampling,
    Started, TextFiles, Texts, Timings, ToolCallPiece, Usage, Vision, Working,
};
use rkllama_http::{Browsers, Intake, Keys, Limits, Metrics};
use rkllama_openapi::{KeptResponses, Others, app_with};

/// What the engine does, and what it was asked to do.
pub(crate) struct World {
    pub(crate) script: Vec<Result<Event, EngineError>>,
    pub(crate) embeddings: Result<Vec<Embedding>, EmbedError>,
    pub(crate) residents: Vec<Resident>,
    pub(crate) traits: ModelTraits,
    /// What comes of a load; none comes to an end where there is nothing.
    pub(crate) load: Option<Result<(), EngineError>>,
    pub(crate) asked: Mutex<Vec<Request>>,
    /// `load tiny Forever`, `unload tiny`.
    pub(crate) moved: Mutex<Vec<String>>,
    pub(crate) store: Arc<store::PlayedStore>,
    pub(crate) rerank_error: Option<EngineError>,
    /// Query, documents and instruction, in words.
    pub(crate) reranked: Mutex<Vec<String>>,
    /// Whether `tiny` sees.
    pub(crate) sees: bool,
    /// Why no place is found.
    pub(crate) point_error: Option<EngineError>,
    /// What was looked for, and on which picture.
    pub(crate) pointed: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn playing(script: Vec<Result<Event, EngineError>>) -> Self {
        let vector = Embedding { vector: vec![0.5, -0.5, 0.5, -0.5], tokens: 3 };
        Self {
            script,
            embeddings: Ok(vec![vector]),
            residents: Vec::new(),
            traits: ModelTraits { template: "{{ messages }}".to_owned(), ..ModelTraits::default() },
            load: Some(Ok(())),
            asked: Mutex::default(),
            moved: Mutex::default(),
            store: Arc::default(),
            rerank_error: None,
            reranked: Mutex::default(),
            sees: false,
            point_error: None,
            pointed: Mutex::default(),
        }
    }

    /// One that can do everything.
    pub(crate) fn capable(script: Vec<Result<Event, EngineError>>) -> Self {
        let mut world = Self::playing(script);
        let ModelTraits { tools, thinking, infill, .. } = &mut world.traits;
        (*tools, *thinking, *infill) = (true, true, true);
        world
    }

    pub(crate) fn last(&self) -> Request {
        self.asked.lock().unwrap().last().expect("the engine was asked").clone()
    }
}

pub(crate) fn text(piece: &str) -> Result<Event, EngineError> {
    Ok(Event::Text(piece.to_owned()))
}

pub(crate) fn thought(piece: &str) -> Result<Event, EngineError> {
    Ok(Event::Reasoning(piece.to_owned()))
}

pub(crate) fn started() -> Result<Event, EngineError> {
    Ok(Event::Started(Started { prompt_tokens: 26, ignored: vec!["temperature"] }))
}

/// A call of `get_weather` in pieces.
pub(crate) fn call(index: usize) -> Vec<Result<Event, EngineError>> {
    let name = "get_weather".to_owned();
    let piece =
        |json: &str| Ok(Event::ToolCall(ToolCallPiece::Arguments { index, json: json.to_owned() }));
    let begin = Ok(Event::ToolCall(ToolCallPiece::Begin { index, name }));
    vec![begin, piece("{\"town\":"), piece("\"Ulm\"}")]
}

pub(crate) fn finished(finish: Finish) -> Result<Event, EngineError> {
    stopped(finish, None)
}

pub(crate) fn stopped(finish: Finish, stopped_by: Option<usize>) -> Result<Event, EngineError> {
    let usage =
        Usage { prompt_tokens: 26, cached_tokens: 10, completion_tokens: 5, reasoning_tokens: 0 };
    let timings = Timings {
        queued: Duration::from_millis(2),
        prefill: Duration::from_millis(100),
        decode: Duration::from_millis(400),
    };
    Ok(Event::Finished(Finished { finish, stopped_by, usage, timings, logprobs: None }))
}

pub(crate) fn hello() -> Vec<Result<Event, EngineError>> {
    vec![started(), text("Hello"), text(" 🌍"), text("!"), finished(Finish::Stop)]
}

/// Every error that the engine has.
pub(crate) fn errors() -> Vec<EngineError> {
    let model = "tiny".to_owned();
    let reason = "a reason".to_owned();
    vec![
        ModelError::Incomplete { model: model.clone(), reason: reason.clone() }.into(),
        ModelError::Unreadable { path: "/secret".into(), reason: reason.clone() }.into(),
        EngineError::Template { reason: reason.clone() },
        EngineError::Prompt { reason: reason.clone() },
        EngineError::Format { reason: reason.clone() },
        EngineError::Unsupported { model: model.clone(), what: "embeddings on this runtime" },
        EngineError::ContextExceeded {
            prompt_tokens: PromptTokens::AtLeast(5000),
            context_tokens_max: 4096,
            margin_tokens: 32,
        },
        EngineError::QueueFull { what: "model 'tiny'".to_owned(), waiting: 8 },
        EngineError::Runtime { reason: reason.clone() },
        EngineError::Load { model: model.clone(), reason: reason.clone() },
        EngineError::Worker { model: model.clone(), what: "died of SIGSEGV".to_owned() },
        EngineError::Degraded {
            model: model.clone(),
            what: "it died three times".to_owned(),
            retry_after_s: 30,
        },
        EngineError::QueueTimeout { model, waited_s: 600 },
        EngineError::Run { reason },
        EngineError::ShuttingDown,
    ]
}

/// The engine of a world.
struct Playing(Arc<World>);

impl Engine for Playing {
    fn generate(&self, request: Request) -> Generation {
        self.0.asked.lock().unwrap().push(request);
        Box::pin(futures_util::stream::iter(self.0.script.clone()))
    }

    fn point(&self, request: rkllama_core::PointRequest) -> rkllama_core::Pointing {
        let error = self.0.point_error.clone();
        let drawn = request.draws.then(|| b"a picture".to_vec());
        let pointed =
            rkllama_core::Pointed { x: 17, y: 4, width: 1920, height: 1080, drawn, tokens: 1428 };
        self.0.pointed.lock().unwrap().push(format!("{} {:?}", request.task, request.screen));
        Box::pin(async move { error.map_or(Ok(pointed), Err) })
    }

    fn rerank(&self, request: rkllama_core::RerankRequest) -> rkllama_core::Relevances {
        let score = |(at, document): (usize, &String)| rkllama_core::Relevance {
            // As good as it is short.
            score: 1.0 / document.len() as f64,
            tokens: 10 + u32::try_from(at).unwrap(),
        };
        let found = request.documents.iter().enumerate().map(score).collect();
        let error = self.0.rerank_error.clone();
        self.0
            .reranked
            .lock()
            .unwrap()
            .push(format!("{} {:?} {:?}", request.query, request.documents, request.instruction));
        Box::pin(async move { error.map_or(Ok(found), Err) })
    }

    fn embed(&self, _: EmbedRequest) -> Embeddings {
        let embeddings = self.0.embeddings.clone();
        Box::pin(async move { embeddings })
    }

    fn load(&self, model: Arc<Model>, keep_alive: Option<KeepAlive>, _: Arc<str>) -> Working<()> {
        self.0.moved.lock().unwrap().push(format!("load {} {keep_alive:?}", model.id));
        let load = self.0.load.clone();
        Box::pin(async move {
            match load {
                Some(load) => load,
                None => std::future::pending().await,
            }
        })
    }

    fn unload(&self, model: &Model) {
        self.0.moved.lock().unwrap().push(format!("unload {}", model.id));
    }

    fn check(&self, _: &Model) -> Result<(), EngineError> {
        Ok(())
    }

    fn residents(&self) -> Vec<Resident> {
        self.0.residents.clone()
    }

    fn problems(&self) -> Vec<Problem> {
        let detail = "is <not> there".to_owned();
        vec![Problem { subject: "broken".to_owned(), detail }]
    }
}

impl Texts for Playing {
    fn traits(&self, _: Arc<Model>) -> Working<Arc<ModelTraits>> {
        let traits = Arc::new(self.0.traits.clone());
        Box::pin(async move { Ok(traits) })
    }

    fn render(&self, _: Arc<Model>, chat: Chat) -> Working<String> {
        let said = chat.messages.iter().map(|it| format!("{}: {}", it.role.as_str(), it.content));
        let said = said.collect::<Vec<_>>().join("\n");
        Box::pin(async move { Ok(said) })
    }

    fn prompt_tokens(&self, _: Arc<Model>, _: Prompt) -> Working<Vec<i32>> {
        Box::pin(async { Ok(vec![7, 8]) })
    }

    fn count_tokens(&self, _: Request) -> Working<u32> {
        Box::pin(async { Ok(2) })
    }

    fn check_template(&self, source: &str) -> Result<(), String> {
        if source.contains("{% bad") { Err("unknown tag `bad`".to_owned()) } else { Ok(()) }
    }

    fn tokenize(&self, _: Arc<Model>, text: String, cutting: Cutting) -> Working<Vec<i32>> {
        let first = cutting.add_special.then_some(1);
        let tokens = first.into_iter().chain(text.chars().map(|c| c as i32)).collect();
        Box::pin(async move { Ok(tokens) })
    }

    fn detokenize(&self, _: Arc<Model>, tokens: Vec<i32>) -> Working<String> {
        let text = tokens.iter().filter_map(|id| char::from_u32(id.cast_unsigned())).collect();
        Box::pin(async move { Ok(text) })
    }
}

/// `tiny`, `bert` for vectors and `broken`; `twin` is ambiguous.
struct Listed(Vec<Arc<Model>>);

impl Models for Listed {
    fn list(&self) -> Vec<Arc<Model>> {
        self.0.clone()
    }

    fn resolve(&self, name: &str) -> Result<Arc<Model>, ModelError> {
        let name = name.strip_suffix(":latest").unwrap_or(name);
        if name == "twin" {
            let candidates = vec!["twin-a".to_owned(), "twin-b".to_owned()];
            return Err(ModelError::Ambiguous { name: name.to_owned(), candidates });
        }
        let found = self.0.iter().find(|model| model.id == name).cloned();
        found.ok_or_else(|| ModelError::NotFound { name: name.to_owned() })
    }

    fn text_files(&self, _: &Model) -> Result<TextFiles, ModelError> {
        unreachable!("the APIs never read a model's files")
    }
}

fn model(id: &str, created_s: u64) -> Model {
    Model {
        id: id.to_owned(),
        created_s,
        weights_bytes: 1024,
        memory_bytes: None,
        weights: PathBuf::from(format!("/nowhere/{id}_w8a8.rkllm")),
        context_tokens_max: 4096,
        sampling: Sampling { temperature: Some(0.7), ..Sampling::default() },
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

pub(crate) fn resident(id: &str, state: LoadState) -> Resident {
    Resident { model: id.to_owned(), state, memory_bytes: 2048, expires: None }
}

/// The app, for a world that the test looks into afterwards.
pub(crate) fn app(world: &Arc<World>) -> TestClient<impl Endpoint<Output = Response> + 'static> {
    let engine = Arc::new(Playing(Arc::clone(world)));
    let bert = Model { pooling: Some(Pooling::Last), ..model("bert", 1_700_000_000) };
    let reason = "tokenizer.json is missing".to_owned();
    let broken = Model { state: ModelState::Incomplete(reason), ..model("broken", 1_600_000_000) };
    let ranker =
        Model { reranks: Some(rkllama_core::RerankFrame::Qwen3), ..model("ranker", 1_500_000_000) };
    let vision = world.sees.then(|| Vision {
        encoder: "/nowhere/tiny.rknn".into(),
        encoder_bytes: 1,
        tags: ImageTags::default(),
        fill: 128,
        normalise: None,
        image_tokens: None,
        sizes: (None, None),
        pointer_head: None,
    });
    let tiny = Model { vision, ..model("tiny", 1_800_000_000) };
    let models = [bert, broken, ranker, tiny];
    let models = Arc::new(Listed(models.into_iter().map(Arc::new).collect()));
    let limits = Limits { heartbeat: Duration::from_millis(50), ..Limits::default() };
    let intake = Intake::new(limits);
    let compat = State {
        engine: engine.clone(),
        texts: engine.clone(),
        models: models.clone(),
        store: world.store.clone(),
        fallback: Arc::default(),
        intake: intake.clone(),
        version: "1.2.3".to_owned(),
        debug: true,
    };
    let state = rkllama_openapi::State {
        texts: engine.clone(),
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
    };
    TestClient::new(app_with(
        state,
        intake,
        Others { operations: operations(compat), shapes: shapes() },
    ))
}

/// An answer as text: status, the headers that mean something, the body.
pub(crate) async fn shown(response: TestResponse) -> String {
    const HEADERS: [&str; 5] =
        ["content-type", "x-rkllama-ignored", "retry-after", "x-should-retry", "allow"];
    let mut text = format!("{}\n", response.0.status().as_u16());
    for name in HEADERS {
        if let Some(value) = response.0.headers().get(name) {
            text += &format!("{name}: {}\n", value.to_str().unwrap());
        }
    }
    text + "\n" + &response.0.into_body().into_string().await.unwrap()
}

/// The answer to a body.
pub(crate) async fn post(world: World, path: &str, body: &str) -> String {
    shown(app(&Arc::new(world)).post(path).body(body.to_owned()).send().await).await
}

pub(crate) async fn ask(world: World, method: Method, path: &str) -> String {
    shown(app(&Arc::new(world)).request(method, path).send().await).await
}

/// The first line of the answer and its body, on one line.
pub(crate) async fn briefly(world: World, path: &str, body: &str) -> String {
    let answer = post(world, path, body).await;
    let (head, body) = answer.split_once("\n\n").unwrap();
    let retry = head.lines().find_map(|line| line.strip_prefix("retry-after: "));
    let retry = retry.map(|seconds| format!(" (again in {seconds} s)")).unwrap_or_default();
    format!("{}{retry} {body}", head.lines().next().unwrap())
}

/// Snapshots without what is random or depends on the clock.
#[macro_export]
macro_rules! assert_shown {
    ($value:expr) => {
        let value = $value;
        insta::with_settings!({filters => vec![
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", "[moment]"),
            (r#""total_duration":\d+"#, r#""total_duration":[ns]"#),
            (r#""created":\d+"#, r#""created":[s]"#),
            (r"(call_|msg_|toolu_)[0-9a-f]+", "${1}[id]"),
        ]}, { insta::assert_snapshot!(value) })
    };
}
