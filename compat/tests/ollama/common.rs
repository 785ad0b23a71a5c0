//! A scripted engine, models that can do different things, and the app around them.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use poem::test::{TestClient, TestResponse};
use rkllama_compat::State;
use rkllama_core::{
    Chat, Cutting, EmbedError, EmbedRequest, Embedding, Embeddings, Engine, EngineError, Event,
    Finish, Finished, Generation, KeepAlive, Model, ModelError, ModelState, ModelTraits, Models,
    Pooling, Problem, Prompt, PromptTokens, Request, Resident, Sampling, Started, TextFiles, Texts,
    Timings, ToolCallPiece, Usage, Working,
};
use rkllama_http::{Intake, Keys, Limits, Metrics};
use rkllama_openapi::{KeptResponses, Others};
use serde_json::Value;

#[path = "../common/store.rs"]
pub(crate) mod store;

use self::store::PlayedStore;

/// What a scripted generation does next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Yields this.
    Yield(Result<Event, EngineError>),
    /// Waits.
    Wait(Duration),
}

/// An engine that plays a script and remembers what it was asked.
#[derive(Default)]
pub(crate) struct ScriptedEngine {
    pub(crate) script: Vec<Step>,
    pub(crate) residents: Vec<Resident>,
    /// Bytes of a conversation that are too many, where there is a limit.
    pub(crate) room: Option<usize>,
    pub(crate) requests: Mutex<Vec<Request>>,
    pub(crate) embeddings: Option<Result<Vec<Embedding>, EmbedError>>,
    pub(crate) embed_requests: Mutex<Vec<EmbedRequest>>,
    /// Loads and unloads in words, and what loads come to.
    pub(crate) moves: Mutex<Vec<String>>,
    pub(crate) load_error: Option<EngineError>,
}

impl ScriptedEngine {
    pub(crate) fn playing(script: Vec<Step>) -> Arc<Self> {
        Arc::new(Self { script, ..Self::default() })
    }

    pub(crate) fn last_request(&self) -> Request {
        self.requests.lock().unwrap().last().expect("the engine was asked").clone()
    }

    pub(crate) fn moves(&self) -> Vec<String> {
        self.moves.lock().unwrap().clone()
    }
}

impl Engine for ScriptedEngine {
    fn generate(&self, request: Request) -> Generation {
        let bytes = match &request.prompt {
            Prompt::Chat(chat) => chat.messages.iter().map(|message| message.content.len()).sum(),
            _ => 0,
        };
        self.requests.lock().unwrap().push(request);
        if self.room.is_some_and(|room| bytes > room) {
            return Box::pin(futures_util::stream::iter([Err(too_long())]));
        }
        let script = self.script.clone();
        Box::pin(async_stream::stream! {
            for step in script {
                match step {
                    Step::Yield(event) => yield event,
                    Step::Wait(time) => tokio::time::sleep(time).await,
                }
            }
        })
    }

    fn point(&self, request: rkllama_core::PointRequest) -> rkllama_core::Pointing {
        unreachable!("nothing here looks for places: {request:?}")
    }

    fn rerank(&self, request: rkllama_core::RerankRequest) -> rkllama_core::Relevances {
        unreachable!("nothing here compares texts: {request:?}")
    }

    fn embed(&self, request: EmbedRequest) -> Embeddings {
        self.embed_requests.lock().unwrap().push(request);
        let embeddings = self.embeddings.clone().expect("nothing is said of vectors");
        Box::pin(async move { embeddings })
    }

    fn load(&self, model: Arc<Model>, keep_alive: Option<KeepAlive>, _: Arc<str>) -> Working<()> {
        self.moves.lock().unwrap().push(format!("load {} {keep_alive:?}", model.id));
        let result = self.load_error.clone().map_or(Ok(()), Err);
        Box::pin(async move { result })
    }

    fn unload(&self, model: &Model) {
        self.moves.lock().unwrap().push(format!("unload {}", model.id));
    }

    fn check(&self, _: &Model) -> Result<(), EngineError> {
        Ok(())
    }

    fn residents(&self) -> Vec<Resident> {
        self.residents.clone()
    }

    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}

/// The models can do what their names say: `plain` talks, `able` thinks, calls and fills gaps too.
pub(crate) struct ScriptedTexts;

impl Texts for ScriptedTexts {
    fn traits(&self, model: Arc<Model>) -> Working<Arc<ModelTraits>> {
        let is_able = model.id == "able";
        let config = r#"{"model_type": "qwen3", "hidden_size": 1024}"#;
        let traits = ModelTraits {
            tool_format: if is_able { "hermes" } else { "generic" }.to_owned(),
            reasoning_format: if is_able { "think" } else { "none" }.to_owned(),
            vision: false,
            pointing: false,
            template: "{{ messages }}".to_owned(),
            tools: is_able,
            thinking: is_able,
            infill: is_able,
            bos_token: None,
            eos_token: Some("</s>".to_owned()),
            config: is_able.then(|| config.to_owned()),
        };
        Box::pin(async move { Ok(Arc::new(traits)) })
    }

    fn render(&self, _: Arc<Model>, chat: Chat) -> Working<String> {
        let turn =
            |message: &rkllama_core::Message| format!("{:?}: {}\n", message.role, message.content);
        let text = chat.messages.iter().map(turn).collect();
        Box::pin(async move { Ok(text) })
    }

    fn count_tokens(&self, request: Request) -> Working<u32> {
        unreachable!("Ollama's clients cannot ask: {request:?}")
    }

    fn prompt_tokens(&self, _: Arc<Model>, prompt: Prompt) -> Working<Vec<i32>> {
        let mut tokens = match &prompt {
            Prompt::Chat(chat) => chat.preface.clone(),
            _ => Vec::new(),
        };
        tokens.extend([1, 2, 3]);
        Box::pin(async move { Ok(tokens) })
    }

    fn check_template(&self, source: &str) -> Result<(), String> {
        if source.contains("{% bad") { Err("unknown tag `bad`".to_owned()) } else { Ok(()) }
    }

    fn tokenize(&self, _: Arc<Model>, text: String, _: Cutting) -> Working<Vec<i32>> {
        Box::pin(async move { Ok(text.bytes().map(i32::from).collect()) })
    }

    fn detokenize(&self, _: Arc<Model>, tokens: Vec<i32>) -> Working<String> {
        Box::pin(async move { Ok(tokens.iter().map(|token| format!("<{token}>")).collect()) })
    }
}

/// Models by id; `twin` is ambiguous.
struct ListedModels(BTreeMap<String, Arc<Model>>);

impl Models for ListedModels {
    fn list(&self) -> Vec<Arc<Model>> {
        self.0.values().cloned().collect()
    }

    fn resolve(&self, name: &str) -> Result<Arc<Model>, ModelError> {
        if name == "twin" {
            let candidates = vec!["twin-a".to_owned(), "twin-b".to_owned()];
            return Err(ModelError::Ambiguous { name: name.to_owned(), candidates });
        }
        let key = name.to_lowercase();
        let key = key.strip_suffix(":latest").unwrap_or(&key);
        let not_found = || ModelError::NotFound { name: name.to_owned() };
        self.0.get(key).cloned().ok_or_else(not_found)
    }

    fn text_files(&self, _: &Model) -> Result<TextFiles, ModelError> {
        unreachable!("the API never reads a model's files")
    }
}

fn model(id: &str, created_s: u64) -> Model {
    Model {
        id: id.to_owned(),
        created_s,
        weights: PathBuf::from(format!("/models/{id}/{id}-0.6B_w8a8.rkllm")),
        weights_bytes: 700,
        memory_bytes: None,
        context_tokens_max: 4096,
        sampling: Sampling { temperature: Some(0.6), ..Sampling::default() },
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

/// A client of a server with the models `able`, `bert` and `plain`.
pub(crate) fn client(engine: Arc<ScriptedEngine>) -> TestClient<impl poem::Endpoint> {
    client_with(engine, usual_models())
}

/// A client of the same server, whose store the test looks into afterwards.
pub(crate) fn client_of_store(
    engine: Arc<ScriptedEngine>,
    store: &Arc<PlayedStore>,
) -> TestClient<impl poem::Endpoint + use<>> {
    client_over(engine, usual_models(), Arc::clone(store))
}

/// A client of a server with this model besides.
pub(crate) fn client_with_model(
    engine: Arc<ScriptedEngine>,
    change: impl FnOnce(&mut Model),
) -> TestClient<impl poem::Endpoint> {
    let mut made = model("made", 1_700_000_004);
    change(&mut made);
    let mut models = usual_models();
    models.insert(made.id.clone(), Arc::new(made));
    client_with(engine, models)
}

fn usual_models() -> BTreeMap<String, Arc<Model>> {
    let bert = Model { pooling: Some(Pooling::Mean), ..model("bert", 1_700_000_002) };
    let models = [model("able", 1_700_000_003), bert, model("plain", 1_700_000_001)];
    BTreeMap::from(models.map(|model| (model.id.clone(), Arc::new(model))))
}

/// A client of a server without models.
pub(crate) fn client_of_nothing() -> TestClient<impl poem::Endpoint> {
    client_with(ScriptedEngine::playing(Vec::new()), BTreeMap::new())
}

fn client_with(
    engine: Arc<ScriptedEngine>,
    models: BTreeMap<String, Arc<Model>>,
) -> TestClient<impl poem::Endpoint> {
    client_over(engine, models, Arc::default())
}

fn client_over(
    engine: Arc<ScriptedEngine>,
    models: BTreeMap<String, Arc<Model>>,
    store: Arc<PlayedStore>,
) -> TestClient<impl poem::Endpoint> {
    let models = Arc::new(ListedModels(models));
    let limits = Limits { heartbeat: Duration::from_millis(50), ..Limits::default() };
    let intake = Intake::new(limits);
    let state = State {
        engine: engine.clone(),
        texts: Arc::new(ScriptedTexts),
        models: models.clone(),
        store,
        fallback: Arc::default(),
        intake: intake.clone(),
        version: "1.2.3".to_owned(),
        debug: true,
    };
    let openai = rkllama_openapi::State {
        texts: Arc::new(ScriptedTexts),
        engine,
        models,
        metrics: Arc::new(Metrics::new("1.2.3")),
        fallback: Arc::default(),
        version: "1.2.3".to_owned(),
        keys: Keys::default(),
        browsers: rkllama_http::Browsers::default(),
        responses: KeptResponses::default(),
        strict_parameters: false,
        empty_store_hint: None,
    };
    let others =
        Others { operations: rkllama_compat::operations(state), shapes: rkllama_compat::shapes() };
    TestClient::new(rkllama_openapi::app_with(openai, intake, others))
}

/// Sends a body to a path.
pub(crate) async fn post(engine: &Arc<ScriptedEngine>, path: &str, body: &Value) -> TestResponse {
    client(Arc::clone(engine)).post(path).body_json(body).send().await
}

/// Sends a body to a path and shows what comes.
pub(crate) async fn ask(engine: &Arc<ScriptedEngine>, path: &str, body: &Value) -> String {
    shown(post(engine, path, body).await).await
}

/// The same object with more in it.
pub(crate) fn with(mut object: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

pub(crate) fn text(text: &str) -> Step {
    Step::Yield(Ok(Event::Text(text.to_owned())))
}

pub(crate) fn thought(text: &str) -> Step {
    Step::Yield(Ok(Event::Reasoning(text.to_owned())))
}

pub(crate) fn call(index: usize, name: &str) -> Step {
    Step::Yield(Ok(Event::ToolCall(ToolCallPiece::Begin { index, name: name.to_owned() })))
}

pub(crate) fn arguments(index: usize, json: &str) -> Step {
    Step::Yield(Ok(Event::ToolCall(ToolCallPiece::Arguments { index, json: json.to_owned() })))
}

pub(crate) fn started(ignored: Vec<&'static str>) -> Step {
    Step::Yield(Ok(Event::Started(Started { prompt_tokens: 26, ignored })))
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

/// A prompt that is ten times too long.
pub(crate) fn too_long() -> EngineError {
    EngineError::ContextExceeded {
        prompt_tokens: PromptTokens::Exactly(9000),
        context_tokens_max: 4096,
        margin_tokens: 32,
    }
}

/// "Hello 🌍!" in three pieces.
pub(crate) fn hello() -> Vec<Step> {
    vec![started(Vec::new()), text("Hello"), text(" 🌍"), text("!"), finished(Finish::Stop)]
}

/// An answer as text for a snapshot: status, the headers that mean something, the body. What is
/// random or depends on the clock is masked.
pub(crate) async fn shown(response: TestResponse) -> String {
    let mut text = format!("{}\n", response.0.status());
    for name in ["content-type", "x-rkllama-ignored", "retry-after", "allow"] {
        if let Some(value) = response.0.headers().get(name) {
            text += &format!("{name}: {}\n", value.to_str().unwrap());
        }
    }
    let body = response.0.into_body().into_string().await.unwrap();
    text + "\n" + &masked(&body)
}

fn masked(text: &str) -> String {
    let text = mask(text, "\"created_at\":\"", |c| c != '"');
    let text = mask(&text, "\"total_duration\":", |c| c.is_ascii_digit());
    mask(&text, "\"id\":\"call_", |c| c.is_ascii_alphanumeric())
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
