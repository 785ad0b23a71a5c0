//! Ollama's API.
//!
//! `body` reads as Ollama's server does and words what it cannot read, `read` makes wire types of
//! bodies, `convert` and `options` make requests of those, `answer` writes lines, `describe` tells of
//! models, `failure` words what goes wrong.

mod answer;
mod body;
mod convert;
mod describe;
mod embed;
mod failure;
mod options;
mod read;
pub mod settings;
mod store;
pub mod store_wire;
mod template;
pub mod wire;

use std::{sync::Arc, time::Instant};

use poem::http::HeaderMap;
use poem_openapi::{ApiResponse, OpenApi, ResponseContent, Tags};
use rkllama_core::{Image, Model};
use rkllama_http::{ApiError, ApiJson, Caller, Failure, JsonObject, Ndjson, OwnJson, Statuses};

use self::{
    answer::{Answered, ChatLines, Envelope, GenerateLines, Lines},
    convert::{Named, Task},
    wire::{
        ChatLine, ChatRequest, Cloud, DoneReason, EmbedAnswer, EmbedRequest, EmbeddingsAnswer,
        EmbeddingsRequest, ErrorBody, GenerateLine, GenerateRequest, Processes, Show, ShowRequest,
        Status, Version,
    },
};
use crate::{State, run::named};

pub(crate) use describe::processes;
pub use failure::OllamaShape;
pub(crate) use failure::{bad, engine, no_route};
pub(crate) use options::{Options, format};
pub use store::OllamaStoreApi;
pub(crate) use store::remove;
pub use template::check_template;

/// The release of Ollama whose API this is. Its clients compare it with what they need.
const OLLAMA_VERSION: &str = "0.33.0";
/// The beginning of the agent of a client that wants to see the name it asked for.
const COPILOT: &str = "GitHubCopilotChat/";

#[derive(Tags)]
enum Tag {
    /// Ollama's API.
    Ollama,
}

/// Ollama's operations.
pub struct OllamaApi {
    state: State,
}

/// The statuses with which an answer fails.
struct AnswerStatuses;

impl Statuses for AnswerStatuses {
    type Body = ErrorBody;
    const STATUSES: &'static [u16] = &[400, 401, 404, 408, 413, 429, 500, 503];
}

/// The statuses with which a list fails.
struct ListStatuses;

impl Statuses for ListStatuses {
    type Body = ErrorBody;
    const STATUSES: &'static [u16] = &[401, 429, 500];
}

/// An answer, whole or in lines.
#[derive(ResponseContent)]
enum ChatContent {
    Whole(ApiJson<Box<ChatLine>>),
    Lines(Ndjson<ChatLine>),
}

/// An answer, whole or in lines.
#[derive(ResponseContent)]
pub(crate) enum GenerateContent {
    Whole(ApiJson<Box<GenerateLine>>),
    Lines(Ndjson<GenerateLine>),
}

#[derive(ApiResponse)]
enum ChatReply {
    /// The answer, in lines unless `stream` is false; the last one has `done`. An error after the first
    /// line comes as a last line with `error`.
    #[oai(status = 200)]
    Ok(
        ChatContent,
        /// Fields of the request that had no effect, separated by commas.
        #[oai(header = "x-rkllama-ignored")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
pub(crate) enum GenerateReply {
    /// The answer, in lines unless `stream` is false; the last one has `done`. An error after the first
    /// line comes as a last line with `error`.
    #[oai(status = 200)]
    Ok(
        GenerateContent,
        /// Fields of the request that had no effect, separated by commas.
        #[oai(header = "x-rkllama-ignored")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
enum EmbedReply {
    /// The vectors.
    #[oai(status = 200)]
    Ok(ApiJson<EmbedAnswer>),
}

#[derive(ApiResponse)]
enum EmbeddingsReply {
    /// The vector.
    #[oai(status = 200)]
    Ok(ApiJson<EmbeddingsAnswer>),
}

#[derive(ApiResponse)]
enum TagsReply {
    /// The models; incomplete ones too.
    #[oai(status = 200)]
    Ok(ApiJson<wire::Tags>),
}

#[derive(ApiResponse)]
enum ProcessesReply {
    /// The models that are loaded.
    #[oai(status = 200)]
    Ok(ApiJson<Processes>),
}

#[derive(ApiResponse)]
enum ShowReply {
    /// All about the model.
    #[oai(status = 200)]
    Ok(ApiJson<Show>),
}

#[derive(ApiResponse)]
enum VersionReply {
    /// The version.
    #[oai(status = 200)]
    Ok(ApiJson<Version>),
}

#[derive(ApiResponse)]
enum StatusReply {
    /// The status.
    #[oai(status = 200)]
    Ok(ApiJson<Status>),
}

/// A question about one picture.
pub(crate) struct AboutPicture {
    /// The model's name.
    pub(crate) model: String,
    pub(crate) prompt: String,
    pub(crate) image: Image,
    pub(crate) stream: bool,
    pub(crate) options: Option<JsonObject>,
    pub(crate) keep_alive: Option<wire::OllamaKeepAlive>,
}

/// The model of this name.
pub(crate) fn model_of(state: &State, name: Option<String>) -> Result<Arc<Model>, ApiError> {
    model_called(state, name, |name| format!("model '{name}' not found"))
}

/// The model of this name; `absent` words it for a name that nobody has.
pub(crate) fn model_called(
    state: &State,
    name: Option<String>,
    absent: impl FnOnce(&str) -> String,
) -> Result<Arc<Model>, ApiError> {
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| bad("model is required"))?;
    Named::find(state, name, absent).map(|found| found.model)
}

impl OllamaApi {
    /// The operations at work.
    pub(crate) const fn new(state: State) -> Self {
        Self { state }
    }

    /// Answers a question about a picture as `/api/generate` does; `absent` words it for a model that
    /// nobody has.
    pub(crate) async fn about(
        &self,
        asked: AboutPicture,
        client: Arc<str>,
        absent: impl FnOnce(&str) -> String,
    ) -> Result<GenerateReply, ApiError> {
        let received = Instant::now();
        let (named, task) = convert::about(asked, Arc::clone(&client), &self.state, absent)?;
        self.generated(named, task, received, client).await
    }

    async fn generated(
        &self,
        named: Named,
        task: Task,
        received: Instant,
        client: Arc<str>,
    ) -> Result<GenerateReply, ApiError> {
        let (answer, ignored) = self.fulfil(named, task, received, client, GenerateLines).await?;
        let content = match answer {
            Answered::Whole(whole) => GenerateContent::Whole(ApiJson(Box::new(whole))),
            Answered::Lines(lines) => GenerateContent::Lines(Ndjson::new(lines)),
        };
        Ok(GenerateReply::Ok(content, crate::run::named(&ignored)))
    }

    /// Does what was asked for; the answer and what had no effect.
    async fn fulfil<L: Lines>(
        &self,
        named: Named,
        task: Task,
        received: Instant,
        client: Arc<str>,
        lines: L,
    ) -> Result<(Answered<L::Line>, Vec<&'static str>), ApiError> {
        let shows_thoughts = !matches!(&task, Task::Answer(answer) if !answer.shows_thoughts);
        let envelope = Envelope { model: named.asked, received, shows_thoughts };
        let whole = match task {
            Task::Answer(asked) => {
                return answer::answer(&self.state, *asked, envelope, lines).await;
            }
            Task::Load(keep_alive) => {
                let loading = self.state.engine.load(named.model, keep_alive, client);
                loading.await.map_err(failure::engine)?;
                answer::moved(&envelope, lines, DoneReason::Load)
            }
            Task::Unload => {
                self.state.engine.unload(&named.model);
                answer::moved(&envelope, lines, DoneReason::Unload)
            }
            Task::Show(prompt) => {
                answer::shown(&self.state, named.model, *prompt, &envelope, lines).await?
            }
        };
        Ok((Answered::Whole(whole), Vec::new()))
    }
}

#[OpenApi(prefix_path = "/api")]
impl OllamaApi {
    /// Answer a conversation
    ///
    /// A closed connection cancels the answer.
    #[oai(path = "/chat", method = "post", operation_id = "ollamaChat", tag = "Tag::Ollama")]
    async fn chat(
        &self,
        caller: Caller,
        body: OwnJson<ChatRequest>,
    ) -> Result<ChatReply, Failure<AnswerStatuses>> {
        let received = Instant::now();
        let client = caller.0;
        let (model, task) = convert::chat(body.0, Arc::clone(&client), &self.state).await?;
        let (answer, ignored) = self.fulfil(model, task, received, client, ChatLines).await?;
        let content = match answer {
            Answered::Whole(whole) => ChatContent::Whole(ApiJson(Box::new(whole))),
            Answered::Lines(lines) => ChatContent::Lines(Ndjson::new(lines)),
        };
        Ok(ChatReply::Ok(content, named(&ignored)))
    }

    /// Go on from a prompt
    ///
    /// A closed connection cancels the answer.
    #[oai(
        path = "/generate",
        method = "post",
        operation_id = "ollamaGenerate",
        tag = "Tag::Ollama"
    )]
    async fn generate(
        &self,
        caller: Caller,
        body: OwnJson<GenerateRequest>,
    ) -> Result<GenerateReply, Failure<AnswerStatuses>> {
        let received = Instant::now();
        let client = caller.0;
        let (model, task) = convert::generate(body.0, Arc::clone(&client), &self.state).await?;
        Ok(self.generated(model, task, received, client).await?)
    }

    /// Read texts into vectors
    #[oai(path = "/embed", method = "post", operation_id = "ollamaEmbed", tag = "Tag::Ollama")]
    async fn embed(
        &self,
        caller: Caller,
        body: OwnJson<EmbedRequest>,
    ) -> Result<EmbedReply, Failure<AnswerStatuses>> {
        let answer = embed::embed(body.0, caller.0, &self.state, Instant::now()).await?;
        Ok(EmbedReply::Ok(ApiJson(answer)))
    }

    /// Read a text into a vector
    ///
    /// The older route for one text.
    #[oai(
        path = "/embeddings",
        method = "post",
        operation_id = "ollamaEmbeddings",
        tag = "Tag::Ollama"
    )]
    async fn embeddings(
        &self,
        caller: Caller,
        body: OwnJson<EmbeddingsRequest>,
    ) -> Result<EmbeddingsReply, Failure<AnswerStatuses>> {
        let answer = embed::embeddings(body.0, caller.0, &self.state).await?;
        Ok(EmbeddingsReply::Ok(ApiJson(answer)))
    }

    /// List the models
    #[oai(path = "/tags", method = "get", operation_id = "ollamaTags", tag = "Tag::Ollama")]
    async fn tags(&self, _caller: Caller) -> Result<TagsReply, Failure<ListStatuses>> {
        Ok(TagsReply::Ok(ApiJson(describe::tags(&self.state))))
    }

    /// List the models that are loaded
    #[oai(path = "/ps", method = "get", operation_id = "ollamaPs", tag = "Tag::Ollama")]
    async fn ps(&self, _caller: Caller) -> Result<ProcessesReply, Failure<ListStatuses>> {
        Ok(ProcessesReply::Ok(ApiJson(describe::processes(&self.state))))
    }

    /// Show a model
    #[oai(path = "/show", method = "post", operation_id = "ollamaShow", tag = "Tag::Ollama")]
    async fn show(
        &self,
        _caller: Caller,
        headers: &HeaderMap,
        body: OwnJson<ShowRequest>,
    ) -> Result<ShowReply, Failure<AnswerStatuses>> {
        let ShowRequest { model, name, .. } = body.0;
        let asked = model.filter(|model| !model.is_empty()).or(name).unwrap_or_default();
        if asked.is_empty() {
            return Err(bad("model is required").into());
        }
        let named = Named::find(&self.state, asked, |name| format!("model '{name}' not found"))?;
        let traits = self.state.texts.traits(Arc::clone(&named.model)).await;
        let traits = traits.map_err(failure::engine)?;
        let agent = headers.get(poem::http::header::USER_AGENT).and_then(|it| it.to_str().ok());
        let wants_name = agent.is_some_and(|agent| agent.starts_with(COPILOT));
        let basename = wants_name.then_some(named.asked.as_str());
        Ok(ShowReply::Ok(ApiJson(describe::show(&named.model, &traits, basename)?)))
    }

    /// Ask for the version
    ///
    /// Of the Ollama whose API this is; `/health` has the server's own.
    #[oai(path = "/version", method = "get", operation_id = "ollamaVersion", tag = "Tag::Ollama")]
    async fn version(&self, _caller: Caller) -> Result<VersionReply, Failure<ListStatuses>> {
        Ok(VersionReply::Ok(ApiJson(Version { version: OLLAMA_VERSION.to_owned() })))
    }

    /// Ask whether the server asks others
    ///
    /// It does not.
    #[oai(path = "/status", method = "get", operation_id = "ollamaStatus", tag = "Tag::Ollama")]
    async fn status(&self, _caller: Caller) -> Result<StatusReply, Failure<ListStatuses>> {
        let cloud = Cloud { disabled: true, source: "none".to_owned() };
        Ok(StatusReply::Ok(ApiJson(Status { cloud })))
    }
}
