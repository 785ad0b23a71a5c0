//! The routes of the old RKLLama, and the page at the root.
//!
//! It had one model in memory. Here that is a name which only `/load_model` sets: what is loaded
//! beside it is nobody's business.

mod answer;
mod debug;
mod page;
mod store;
pub mod wire;

use std::sync::{Arc, Mutex, PoisonError};

use poem::{
    error::ResponseError,
    http::{HeaderMap, StatusCode, header},
};
use poem_openapi::{ApiResponse, OpenApi, ResponseContent, Tags, payload::Html};
use rkllama_core::{EngineError, KeepAlive, Model, ModelError, StoreError};
use rkllama_http::{ApiError, ApiJson, Caller, ErrorShape, Failure, Fault, Statuses, Trouble};

use self::wire::{
    CurrentModel, DebugRequest, Debugged, Done, ErrorBody, GenerateRequest, ListObject,
    LoadRequest, ModelData, ModelObject, Models, PullRequest, RemoveRequest, Welcome,
};
use crate::{
    State,
    checks::echo,
    ollama::{self, wire::Processes},
};

/// The beginnings of its paths.
pub(crate) const PATHS: [&str; 9] = [
    "/models",
    "/load_model",
    "/unload_model",
    "/unload_models",
    "/current_model",
    "/current_models",
    "/generate",
    "/pull",
    "/rm",
];
const NOTHING_LOADED: &str = "No model is currently loaded.";

#[derive(Tags)]
enum Tag {
    /// The routes of the old RKLLama.
    #[oai(rename = "RKLLama")]
    Legacy,
}

/// The old RKLLama's operations.
pub struct LegacyApi {
    state: State,
    current: Place,
}

/// Where the current model stands.
type Place = Arc<Mutex<Option<Arc<Current>>>>;

/// A model that is the current one as long as this lives, or for good once it is loaded. Its client may
/// leave in the middle, and others may have been faster.
struct Claim {
    place: Place,
    current: Arc<Current>,
    is_loaded: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ours = place.as_ref().is_some_and(|current| Arc::ptr_eq(current, &self.current));
        if is_ours && !self.is_loaded {
            *place = None;
        }
    }
}

/// The model that `/generate` asks, and what its client called it.
#[derive(Debug)]
struct Current {
    model: Arc<Model>,
    name: String,
}

/// Errors as the old server wrote them.
#[derive(Debug, Clone, Copy, Default)]
pub struct LegacyShape;

impl ErrorShape for LegacyShape {
    fn error(&self, fault: Fault) -> ApiError {
        match fault {
            Fault::UnknownRoute { path, .. } => {
                of(StatusCode::NOT_FOUND, format!("Not found: {}", echo(&path)))
            }
            Fault::WrongMethod { allow, .. } => {
                of(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed.").allowing(&allow)
            }
            Fault::Body(error) => {
                let status = ResponseError::status(&error);
                let place = match &error {
                    rkllama_http::BodyError::Data { path: Some(path), .. } => format!("{path}: "),
                    _ => String::new(),
                };
                of(status, format!("Invalid JSON data! {place}{}", echo(&error.to_string())))
            }
            Fault::Auth(refused) => {
                of(ResponseError::status(&refused), refused.to_string()).barred(&refused)
            }
            Fault::Panic { what } => {
                of(StatusCode::INTERNAL_SERVER_ERROR, "The server had an error.")
                    .detail_for_log(format!("a handler panicked: {what}"))
            }
            Fault::Parameter { name } => bad(format!("Invalid {name}.")),
            Fault::Framework { status, reason } => of(status, reason),
        }
    }

    fn body(&self, error: &ApiError) -> Vec<u8> {
        serde_json::to_vec(&ErrorBody { error: error.message.clone() }).unwrap_or_default()
    }
}

fn of(status: StatusCode, words: impl Into<String>) -> ApiError {
    ApiError::new(status, "legacy_error", words)
}

/// The request is at fault.
fn bad(words: impl Into<String>) -> ApiError {
    of(StatusCode::BAD_REQUEST, words)
}

/// The answer to an error of the engine.
fn engine(error: EngineError) -> ApiError {
    let (words, trouble) = (error.to_string(), Trouble::from(&error));
    match error {
        // The path is the operator's business.
        EngineError::Model(ModelError::Unreadable { .. }) => {
            of(trouble.status, "The model's files cannot be read.").detail_for_log(words)
        }
        _ => of(trouble.status, words).until(trouble),
    }
}

/// The answer to an error of the store.
fn of_store(error: StoreError) -> ApiError {
    let (words, trouble) = (error.to_string(), Trouble::from(&error));
    of(trouble.status, words).until(trouble)
}

/// The statuses with which loading and asking fails.
struct AnswerStatuses;

impl Statuses for AnswerStatuses {
    type Body = ErrorBody;
    const STATUSES: &'static [u16] = &[400, 401, 404, 408, 413, 429, 500, 503];
}

/// The statuses with which a look at an answer fails.
struct ApiStatuses;

impl Statuses for ApiStatuses {
    type Body = ollama::wire::ErrorBody;
    const STATUSES: &'static [u16] = &[400, 401, 404, 408, 413, 429, 500];
    const NOT_FOUND: &'static str = "The server was started without `--debug`.";
}

/// The statuses with which a question about the server fails.
struct ListStatuses;

impl Statuses for ListStatuses {
    type Body = ErrorBody;
    const STATUSES: &'static [u16] = &[400, 401, 404, 429, 500];
    const NOT_FOUND: &'static str = "No model is loaded.";
}

/// The statuses with which the root fails.
struct RootStatuses;

impl Statuses for RootStatuses {
    type Body = ErrorBody;
    const STATUSES: &'static [u16] = &[500];
}

/// JSON, or a page.
#[derive(ResponseContent)]
enum RootContent {
    Json(ApiJson<Welcome>),
    Page(Html<String>),
}

#[derive(ApiResponse)]
enum RootReply {
    /// The server is there; for browsers (`Accept: text/html`) a page says so.
    #[oai(status = 200)]
    Ok(
        RootContent,
        /// What the page may do: nothing but be looked at.
        #[oai(header = "content-security-policy")]
        String,
    ),
}

#[derive(ApiResponse)]
enum ModelsReply {
    /// The models.
    #[oai(status = 200)]
    Ok(ApiJson<Models>),
}

#[derive(ApiResponse)]
enum DoneReply {
    /// It is done.
    #[oai(status = 200)]
    Ok(ApiJson<Done>),
}

#[derive(ApiResponse)]
enum CurrentReply {
    /// The model.
    #[oai(status = 200)]
    Ok(ApiJson<CurrentModel>),
}

#[derive(ApiResponse)]
enum CurrentModelsReply {
    /// The models.
    #[oai(status = 200)]
    Ok(ApiJson<Processes>),
}

/// An answer, whole or in pieces.
#[derive(ResponseContent)]
enum GenerateContent {
    Whole(ApiJson<Box<wire::Answer>>),
    Pieces(answer::Pieces),
}

#[derive(ApiResponse)]
enum GenerateReply {
    /// The answer; with `stream` a text of lines of JSON with an empty line behind each.
    #[oai(status = 200)]
    Ok(GenerateContent),
}

#[derive(ApiResponse)]
enum DebugReply {
    /// What is wrong, if anything is.
    #[oai(status = 200)]
    Ok(ApiJson<Debugged>),
}

#[derive(ApiResponse)]
enum PullReply {
    /// What comes, as it comes.
    #[oai(status = 200)]
    Ok(store::ProgressText),
}

fn done(words: impl Into<String>) -> DoneReply {
    DoneReply::Ok(ApiJson(Done { message: words.into() }))
}

impl LegacyApi {
    /// The operations at work.
    pub(crate) fn new(state: State) -> Self {
        Self { state, current: Arc::default() }
    }

    fn current(&self) -> Option<Arc<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leaves no model the current one; the one that was.
    fn release(&self) -> Option<Arc<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Makes a model the current one unless there is one already.
    fn claim(&self, current: Current) -> Result<Claim, ApiError> {
        let mut place = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_some() {
            return Err(bad("A model is already loaded. Please unload it first."));
        }
        let current = Arc::new(current);
        *place = Some(Arc::clone(&current));
        Ok(Claim { place: Arc::clone(&self.current), current, is_loaded: false })
    }

    async fn remove_model(&self, wire: RemoveRequest) -> Result<DoneReply, ApiError> {
        let name = wire.model.filter(|name| !name.trim().is_empty());
        let name = name.ok_or_else(|| bad("Please specify a model."))?;
        let model = self.state.models.resolve(&name).map_err(|error| match error {
            ModelError::NotFound { .. } => {
                let words = format!("The model: {} cannot be found.", echo(&name));
                of(StatusCode::NOT_FOUND, words)
            }
            other => engine(other.into()),
        })?;
        if self.current().is_some_and(|current| current.model.id == model.id) {
            self.release();
        }
        ollama::remove(&self.state, model).await.map_err(of_store)?;
        Ok(done("The model has been successfully deleted."))
    }
}

#[OpenApi]
impl LegacyApi {
    /// Knock
    ///
    /// A page for browsers, JSON for everybody else.
    #[oai(path = "/", method = "get", operation_id = "getRoot", tag = "Tag::Legacy")]
    async fn root(&self, headers: &HeaderMap) -> Result<RootReply, Failure<RootStatuses>> {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        if accept.is_some_and(|accept| accept.contains("text/html")) {
            let page = RootContent::Page(Html(page::status(&self.state)));
            return Ok(RootReply::Ok(page, page::POLICY.to_owned()));
        }
        let welcome = RootContent::Json(ApiJson(Welcome {
            message: "Welcome to RK-LLama!".to_owned(),
            github: "https://github.com/notpunhnox/rkllama".to_owned(),
            status: "Ollama is running".to_owned(),
            version: self.state.version.clone(),
        }));
        Ok(RootReply::Ok(welcome, page::POLICY.to_owned()))
    }

    /// List the models
    ///
    /// For old scripts and for llama-server's clients at once; `/v1/models` is OpenAI's.
    #[oai(path = "/models", method = "get", operation_id = "legacyModels", tag = "Tag::Legacy")]
    async fn models(&self, _caller: Caller) -> Result<ModelsReply, Failure<ListStatuses>> {
        let models = self.state.models.list();
        let data = models.iter().map(|model| ModelData {
            id: model.id.clone(),
            object: ModelObject::Model,
            created: model.created_s,
            owned_by: "rkllama".to_owned(),
        });
        Ok(ModelsReply::Ok(ApiJson(Models {
            models: models.iter().map(|model| model.id.clone()).collect(),
            object: ListObject::List,
            data: data.collect(),
        })))
    }

    /// Load a model and make it the current one
    ///
    /// It stays until `/unload_model`, beside whatever else is loaded.
    #[oai(path = "/load_model", method = "post", operation_id = "legacyLoad", tag = "Tag::Legacy")]
    async fn load_model(
        &self,
        caller: Caller,
        body: ApiJson<LoadRequest>,
    ) -> Result<DoneReply, Failure<AnswerStatuses>> {
        let name = body.0.model_name.filter(|name| !name.is_empty());
        let missing = || bad("Please enter the name of the model to be loaded.");
        let name = name.ok_or_else(missing)?;
        let model = self.state.models.resolve(&name).map_err(|error| match error {
            ModelError::NotFound { .. } => {
                bad(format!("Model {} not found in the /models directory.", echo(&name)))
            }
            other => engine(other.into()),
        })?;
        let mut claim = self.claim(Current { model: Arc::clone(&model), name: name.clone() })?;
        let loading = self.state.engine.load(model, Some(KeepAlive::Forever), caller.0);
        loading.await.map_err(engine)?;
        claim.is_loaded = true;
        Ok(done(format!("Model {name} loaded successfully.")))
    }

    /// Unload the current model
    #[oai(
        path = "/unload_model",
        method = "post",
        operation_id = "legacyUnload",
        tag = "Tag::Legacy"
    )]
    async fn unload_model(&self, _caller: Caller) -> Result<DoneReply, Failure<ListStatuses>> {
        let current = self.release().ok_or_else(|| bad(NOTHING_LOADED))?;
        self.state.engine.unload(&current.model);
        Ok(done("Model unloaded successfully."))
    }

    /// Unload all models
    #[oai(
        path = "/unload_models",
        method = "post",
        operation_id = "legacyUnloadAll",
        tag = "Tag::Legacy"
    )]
    async fn unload_models(&self, _caller: Caller) -> Result<DoneReply, Failure<ListStatuses>> {
        self.release();
        let residents = self.state.engine.residents();
        for model in self.state.models.list() {
            if residents.iter().any(|resident| resident.model == model.id) {
                self.state.engine.unload(&model);
            }
        }
        Ok(done("Models successfully unloaded!"))
    }

    /// Ask for the current model
    #[oai(
        path = "/current_model",
        method = "get",
        operation_id = "legacyCurrent",
        tag = "Tag::Legacy"
    )]
    async fn current_model(&self, _caller: Caller) -> Result<CurrentReply, Failure<ListStatuses>> {
        let current = self.current().ok_or_else(|| of(StatusCode::NOT_FOUND, NOTHING_LOADED))?;
        Ok(CurrentReply::Ok(ApiJson(CurrentModel { model_name: current.name.clone() })))
    }

    /// List the models that are loaded
    ///
    /// As `/api/ps`.
    #[oai(
        path = "/current_models",
        method = "get",
        operation_id = "legacyCurrentModels",
        tag = "Tag::Legacy"
    )]
    async fn current_models(
        &self,
        _caller: Caller,
    ) -> Result<CurrentModelsReply, Failure<ListStatuses>> {
        Ok(CurrentModelsReply::Ok(ApiJson(ollama::processes(&self.state))))
    }

    /// Look at an answer that a client has received
    ///
    /// Only where the server was started with `--debug`; elsewhere there is no such route.
    #[oai(path = "/api/debug", method = "post", operation_id = "legacyDebug", tag = "Tag::Legacy")]
    async fn debug(
        &self,
        _caller: Caller,
        body: ApiJson<DebugRequest>,
    ) -> Result<DebugReply, Failure<ApiStatuses>> {
        if !self.state.debug {
            return Err(ollama::no_route().into());
        }
        let lines = body.0.stream_data.ok_or_else(|| ollama::bad("stream_data is required"))?;
        Ok(DebugReply::Ok(ApiJson(debug::examine(&lines))))
    }

    /// Fetch a model
    ///
    /// As `/api/pull`; what happens is told as a text, errors too.
    #[oai(path = "/pull", method = "post", operation_id = "legacyPull", tag = "Tag::Legacy")]
    async fn pull(
        &self,
        _caller: Caller,
        body: ApiJson<PullRequest>,
    ) -> Result<PullReply, Failure<AnswerStatuses>> {
        Ok(PullReply::Ok(store::pull(&self.state, body.0)))
    }

    /// Remove a model
    #[oai(path = "/rm", method = "delete", operation_id = "legacyRemove", tag = "Tag::Legacy")]
    async fn remove(
        &self,
        _caller: Caller,
        body: ApiJson<RemoveRequest>,
    ) -> Result<DoneReply, Failure<AnswerStatuses>> {
        Ok(self.remove_model(body.0).await?)
    }

    /// Remove a model
    ///
    /// The same, as some scripts ask for it.
    #[oai(path = "/rm", method = "post", operation_id = "legacyRemovePost", tag = "Tag::Legacy")]
    async fn remove_post(
        &self,
        _caller: Caller,
        body: ApiJson<RemoveRequest>,
    ) -> Result<DoneReply, Failure<AnswerStatuses>> {
        Ok(self.remove_model(body.0).await?)
    }

    /// Ask the current model
    ///
    /// A closed connection cancels the answer.
    #[oai(
        path = "/generate",
        method = "post",
        operation_id = "legacyGenerate",
        tag = "Tag::Legacy"
    )]
    async fn generate(
        &self,
        caller: Caller,
        body: ApiJson<GenerateRequest>,
    ) -> Result<GenerateReply, Failure<AnswerStatuses>> {
        let current = self.current().ok_or_else(|| bad(NOTHING_LOADED))?;
        // Its files may be others than when it was loaded.
        let model = self.state.models.resolve(&current.model.id);
        let model = model.unwrap_or_else(|_| Arc::clone(&current.model));
        let checked = answer::check(body.0, model, caller.0)?;
        if checked.stream {
            let pieces = answer::pieces(&self.state, checked).await?;
            return Ok(GenerateReply::Ok(GenerateContent::Pieces(pieces)));
        }
        let whole = answer::whole(&self.state, checked).await?;
        Ok(GenerateReply::Ok(GenerateContent::Whole(ApiJson(Box::new(whole)))))
    }
}
