//! Requests of clients, through the whole API: nothing panics, nothing is the server's fault, and
//! every refusal has the shape that clients read.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use poem::{
    Endpoint, EndpointExt, Request as HttpRequest, Response, endpoint::BoxEndpoint, http::Method,
};
use proptest::prelude::*;
use rkllama_core::{
    Chat, Cutting, EmbedRequest, Embedding, Embeddings, Engine, EngineError, Event, Finish,
    Finished, Generation, KeepAlive, Model, ModelError, ModelState, ModelTraits, Models, Problem,
    Prompt, Request, Resident, Sampling, Started, TextFiles, Texts, Timings, Usage, Working,
};
use rkllama_http::{Browsers, Intake, Keys, Limits, Metrics};
use rkllama_models::{Catalog, Defaults, HubConfig, Library, Sources, Store};
use rkllama_openapi::{KeptResponses, Others, State};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::corpus::{cases, files, mutated, spliced, values};

const PATHS: [&str; 5] =
    ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/gui_actor"];
/// Of other APIs.
const OTHER_PATHS: [&str; 25] = [
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
    "/api/show",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/responses/input_tokens",
    "/v1/chat/completions/input_tokens",
    "/completion",
    "/infill",
    "/embedding",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/generate",
    "/api/create",
    "/api/copy",
    "/api/pull",
    "/api/push",
    "/api/rerank",
    "/v1/rerank",
    "/v1/score",
    "/api/gui_actor",
    "/api/ocr",
];

fn paths() -> impl Iterator<Item = &'static str> {
    PATHS.into_iter().chain(OTHER_PATHS)
}

/// An engine that says one word, and one model that every name means.
struct Willing;

impl Engine for Willing {
    fn generate(&self, _: Request) -> Generation {
        let finished = Finished {
            stopped_by: None,
            finish: Finish::Stop,
            usage: Usage { prompt_tokens: 1, completion_tokens: 1, ..Usage::default() },
            timings: Timings::default(),
            logprobs: None,
        };
        Box::pin(futures_util::stream::iter([
            Ok(Event::Started(Started { prompt_tokens: 1, ignored: Vec::new() })),
            Ok(Event::Text("word".to_owned())),
            Ok(Event::Finished(finished)),
        ]))
    }

    fn point(&self, request: rkllama_core::PointRequest) -> rkllama_core::Pointing {
        let drawn = request.draws.then(|| vec![1, 2, 3]);
        let pointed = rkllama_core::Pointed { x: 1, y: 2, width: 3, height: 4, drawn, tokens: 5 };
        Box::pin(async move { Ok(pointed) })
    }

    fn rerank(&self, request: rkllama_core::RerankRequest) -> rkllama_core::Relevances {
        let found = rkllama_core::Relevance { score: 0.5, tokens: 1 };
        let found = vec![found; request.documents.len()];
        Box::pin(async move { Ok(found) })
    }

    fn embed(&self, request: EmbedRequest) -> Embeddings {
        let embedding = Embedding { vector: vec![0.6, -0.8], tokens: 1 };
        let embeddings = vec![embedding; request.inputs.len()];
        Box::pin(async move { Ok(embeddings) })
    }

    fn load(&self, _: Arc<Model>, _: Option<KeepAlive>, _: Arc<str>) -> Working<()> {
        Box::pin(async { Ok(()) })
    }

    fn unload(&self, _: &Model) {}

    fn check(&self, _: &Model) -> Result<(), EngineError> {
        Ok(())
    }

    fn residents(&self) -> Vec<Resident> {
        Vec::new()
    }

    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}

impl Texts for Willing {
    fn traits(&self, _: Arc<Model>) -> Working<Arc<ModelTraits>> {
        let traits =
            ModelTraits { tools: true, thinking: true, infill: true, ..ModelTraits::default() };
        Box::pin(async { Ok(Arc::new(traits)) })
    }

    fn render(&self, _: Arc<Model>, _: Chat) -> Working<String> {
        Box::pin(async { Ok("a prompt".to_owned()) })
    }

    fn prompt_tokens(&self, _: Arc<Model>, _: Prompt) -> Working<Vec<i32>> {
        Box::pin(async { Ok(vec![1, 2]) })
    }

    fn count_tokens(&self, _: Request) -> Working<u32> {
        Box::pin(async { Ok(2) })
    }

    fn check_template(&self, source: &str) -> Result<(), String> {
        if source.contains("{% bad") { Err("unknown tag `bad`".to_owned()) } else { Ok(()) }
    }

    fn tokenize(&self, _: Arc<Model>, text: String, _: Cutting) -> Working<Vec<i32>> {
        Box::pin(async move { Ok(text.bytes().map(i32::from).collect()) })
    }

    fn detokenize(&self, _: Arc<Model>, tokens: Vec<i32>) -> Working<String> {
        Box::pin(async move { Ok(format!("{} tokens", tokens.len())) })
    }
}

impl Models for Willing {
    fn list(&self) -> Vec<Arc<Model>> {
        vec![Arc::new(Model {
            vision: None,
            adapter: None,
            id: "tiny".to_owned(),
            created_s: 0,
            weights_bytes: 0,
            memory_bytes: None,
            weights: PathBuf::from("/nowhere/model.rkllm"),
            context_tokens_max: 4096,
            sampling: Sampling::default(),
            tokens_max: None,
            runtime: None,
            pooling: None,
            reranks: Some(rkllama_core::RerankFrame::Qwen3),
            query_instruction: None,
            presets: rkllama_core::Presets::default(),
            state: ModelState::Ready,
        })]
    }

    fn resolve(&self, _: &str) -> Result<Arc<Model>, ModelError> {
        Ok(self.list().remove(0))
    }

    fn text_files(&self, _: &Model) -> Result<TextFiles, ModelError> {
        unreachable!("the API never reads a model's files")
    }
}

fn state() -> State {
    State {
        engine: Arc::new(Willing),
        texts: Arc::new(Willing),
        models: Arc::new(Willing),
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

/// A store over a folder `models` that has one model, in a folder that has nothing else.
fn store(around: &Path) -> Library {
    let model = around.join("models/tiny");
    fs::create_dir_all(&model).unwrap();
    fs::write(model.join("tiny.rkllm"), "weights").unwrap();
    fs::write(model.join("tokenizer.json"), "{}").unwrap();
    let store = Store::open(around.join("models"), Defaults::default());
    let hub = HubConfig { is_offline: true, ..HubConfig::default() };
    let sources = Sources { chip: None, hub, catalog: Catalog::default() };
    Library::new(Arc::new(store), sources, Box::new(|_| Ok(())))
}

/// Nothing came to be but in the models' folder, and no model's name is hidden.
fn assert_tidy(around: &Path) {
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names(around), ["models"]);
    for name in names(&around.join("models")) {
        assert!(!name.starts_with('.') || name == ".pulls" || name == ".blobs", "{name}");
    }
}

/// All APIs.
fn app(around: &Path) -> impl Endpoint<Output = Response> + 'static {
    let intake = Intake::new(Limits::default());
    let others = rkllama_compat::State {
        engine: Arc::new(Willing),
        texts: Arc::new(Willing),
        models: Arc::new(Willing),
        store: Arc::new(store(around)),
        fallback: Arc::default(),
        intake: intake.clone(),
        version: "1.2.3".to_owned(),
        debug: true,
    };
    let operations = rkllama_compat::operations(others);
    let others = Others { operations, shapes: rkllama_compat::shapes() };
    rkllama_openapi::app_with(state(), intake, others)
}

/// Asks with a body, and gives the status and the answer.
async fn ask(app: &BoxEndpoint<'static, Response>, path: &str, body: Vec<u8>) -> (u16, String) {
    let uri = path.parse().unwrap();
    let request = HttpRequest::builder().method(Method::POST).uri(uri);
    let request = request.content_type("application/json").body(body);
    let answer = app.call(request).await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.into_body().into_string().await.unwrap())
}

/// A body is answered, or refused with all that clients read in a refusal.
fn request_body(path: &str, body: &[u8]) -> u16 {
    thread_local! {
        static RUNTIME: Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        static AROUND: TempDir = tempfile::tempdir().unwrap();
        static APP: BoxEndpoint<'static, Response> =
            AROUND.with(|around| app(around.path()).boxed());
    }
    let asked =
        RUNTIME.with(|runtime| APP.with(|app| runtime.block_on(ask(app, path, body.to_vec()))));
    let (status, answer) = asked;
    AROUND.with(|around| assert_tidy(around.path()));
    match status {
        200 if answer.is_empty() => assert_eq!(path, "/api/copy"),
        // One object, or one in each line.
        200 if answer.starts_with('{') => {
            let values = serde_json::Deserializer::from_str(&answer).into_iter::<Value>();
            values.for_each(|value| drop(value.unwrap()));
        }
        200 if answer.starts_with('[') => drop(serde_json::from_str::<Value>(&answer).unwrap()),
        200 => assert!(answer.starts_with("data: ") || answer.starts_with("event: "), "{answer}"),
        400 | 404 | 501 | 502 if OTHER_PATHS.contains(&path) => {
            let error = serde_json::from_str::<Value>(&answer).unwrap()["error"].take();
            let words = error["message"].as_str().or(error.as_str());
            assert!(words.is_some_and(|words| !words.is_empty()), "{answer}");
        }
        // An unknown response or item is 404.
        400 | 404 => {
            let error = serde_json::from_str::<Value>(&answer).unwrap()["error"].take();
            let keys = error.as_object().unwrap().keys().map(String::as_str);
            let missing: Vec<_> = ["message", "type", "param", "code"]
                .into_iter()
                .filter(|key| !keys.clone().any(|is| is == *key))
                .collect();
            assert!(missing.is_empty(), "{missing:?} {answer}");
            assert!(!error["message"].as_str().unwrap().is_empty());
        }
        other => panic!("{other} {answer}"),
    }
    status
}

/// Each request of the corpus is answered where it belongs: else the mutants would all be refused.
#[test]
fn the_corpus_is_answered() {
    for request in values("requests") {
        let body = request.to_string().into_bytes();
        let answered = paths().filter(|path| request_body(path, &body) == 200).count();
        assert!(answered > 0, "{request}");
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn any_request_is_answered_or_refused(request in mutated(values("requests"))) {
        let body = request.to_string().into_bytes();
        for path in paths() {
            request_body(path, &body);
        }
    }

    #[test]
    fn any_bytes_are_answered_or_refused(bytes in spliced(files("requests"))) {
        for path in paths() {
            request_body(path, &bytes);
        }
    }
}
