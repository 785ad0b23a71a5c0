//! The operations of `/v1`: verify, convert, send.

mod counts;
mod embeddings;
mod gui_actor;
mod responses;

use std::sync::Arc;

use poem_openapi::{ApiResponse, OpenApi, ResponseContent, Tags, param::Path};
use rkllama_http::{ApiJson, Caller, Exposition, Intake, Sse};

use crate::{
    State,
    answer::{self, ChatWriter, CompletionWriter, Echoes},
    convert,
    failure::{self, Failure, Statuses},
    wire::{
        ChatChunk, ChatCompletion, ChatCompletionRequest, Completion, CompletionChunk,
        CompletionRequest, Health, ModelList, ModelListObject, ModelObject, Readiness, ReadyStatus,
    },
};

#[derive(Tags)]
enum Tag {
    /// Answers to conversations.
    Chat,
    /// Continuations of texts.
    Completions,
    /// Answers that the server keeps.
    Responses,
    /// Texts as vectors.
    Embeddings,
    /// Places on pictures of screens.
    GuiActor,
    /// The models on this server.
    Models,
    /// The server itself.
    Server,
}

pub(crate) use counts::CountsApi;
pub(crate) use embeddings::EmbeddingsApi;
pub(crate) use gui_actor::GuiActorApi;
pub(crate) use responses::ResponsesApi;

/// The operations about conversations.
pub(crate) struct ChatApi {
    pub(crate) state: State,
    pub(crate) intake: Intake,
}

/// The statuses with which an answer fails.
pub(crate) struct ChatStatuses;

impl Statuses for ChatStatuses {
    type Body = crate::wire::ErrorResponse;
    const STATUSES: &'static [u16] = &[400, 401, 404, 408, 413, 429, 500, 503];
}

/// Both forms of one answer.
#[derive(ResponseContent)]
pub(crate) enum ChatContent {
    Whole(ApiJson<ChatCompletion>),
    Chunks(Sse<ChatChunk>),
}

#[derive(ApiResponse)]
pub(crate) enum ChatReply {
    /// The answer; with `stream` as server-sent events, one chunk in each, and `data: [DONE]` at
    /// the end. An error after the first chunk comes as an event with `error`.
    #[oai(status = 200)]
    Ok(
        ChatContent,
        /// Fields of the request that had no effect, separated by commas. For a streamed answer:
        /// as far as they are known when it begins.
        #[oai(header = "x-rkllama-ignored")]
        Option<String>,
    ),
}

#[OpenApi(prefix_path = "/v1")]
impl ChatApi {
    /// Create a chat completion
    ///
    /// Answers a conversation. A closed connection cancels the answer.
    #[oai(
        path = "/chat/completions",
        method = "post",
        operation_id = "createChatCompletion",
        tag = "Tag::Chat"
    )]
    async fn create_chat_completion(
        &self,
        caller: Caller,
        body: ApiJson<ChatCompletionRequest>,
    ) -> Result<ChatReply, Failure<ChatStatuses>> {
        let mut checked = convert::chat(body.0, caller, &self.state)?;
        let mut ignored = std::mem::take(&mut checked.ignored);
        let envelope = self.state.envelope("chatcmpl-", &checked);
        let is_streamed = checked.stream;
        let steps = answer::in_turn(Arc::clone(&self.state.engine), checked);
        let content = if is_streamed {
            let heartbeat = self.intake.limits().heartbeat;
            let opened = answer::open(steps, heartbeat).await?;
            ignored.extend(&opened.ignored);
            let chunks = answer::chunks(opened, ChatWriter(envelope));
            ChatContent::Chunks(Sse::new(chunks, heartbeat))
        } else {
            let whole = answer::whole(steps).await?;
            ignored.extend(&whole.ignored);
            ChatContent::Whole(ApiJson(answer::whole_chat(whole, envelope)))
        };
        Ok(ChatReply::Ok(content, named(&ignored)))
    }
}

/// The value of the header that names what was ignored.
fn named(ignored: &[&str]) -> Option<String> {
    (!ignored.is_empty()).then(|| ignored.join(", "))
}

/// The operations about texts.
pub(crate) struct CompletionsApi {
    pub(crate) state: State,
    pub(crate) intake: Intake,
}

/// Both forms of one answer.
#[derive(ResponseContent)]
pub(crate) enum CompletionContent {
    Whole(ApiJson<Completion>),
    Chunks(Sse<CompletionChunk>),
}

#[derive(ApiResponse)]
pub(crate) enum CompletionReply {
    /// The answer; with `stream` as server-sent events, one chunk in each, and `data: [DONE]` at
    /// the end. An error after the first chunk comes as an event with `error`.
    #[oai(status = 200)]
    Ok(
        CompletionContent,
        /// Fields of the request that had no effect, separated by commas. For a streamed answer:
        /// as far as they are known when it begins.
        #[oai(header = "x-rkllama-ignored")]
        Option<String>,
    ),
}

#[OpenApi(prefix_path = "/v1")]
impl CompletionsApi {
    /// Create a text completion
    ///
    /// Continues a text as it is. A closed connection cancels the answer.
    #[oai(
        path = "/completions",
        method = "post",
        operation_id = "createCompletion",
        tag = "Tag::Completions"
    )]
    async fn create_completion(
        &self,
        caller: Caller,
        body: ApiJson<CompletionRequest>,
    ) -> Result<CompletionReply, Failure<ChatStatuses>> {
        let mut checked = convert::completion(body.0, caller, &self.state)?;
        let mut ignored = std::mem::take(&mut checked.ignored);
        let echoes = Echoes { texts: std::mem::take(&mut checked.echoes), n: checked.n };
        let envelope = self.state.envelope("cmpl-", &checked);
        let is_streamed = checked.stream;
        let steps = answer::in_turn(Arc::clone(&self.state.engine), checked);
        let content = if is_streamed {
            let heartbeat = self.intake.limits().heartbeat;
            let opened = answer::open(steps, heartbeat).await?;
            ignored.extend(&opened.ignored);
            let chunks = answer::chunks(opened, CompletionWriter { envelope, echoes });
            CompletionContent::Chunks(Sse::new(chunks, heartbeat))
        } else {
            let whole = answer::whole(steps).await?;
            ignored.extend(&whole.ignored);
            CompletionContent::Whole(ApiJson(answer::whole_completion(whole, envelope, &echoes)))
        };
        Ok(CompletionReply::Ok(content, named(&ignored)))
    }
}

/// The operations about models.
pub(crate) struct ModelsApi {
    pub(crate) state: State,
}

/// The statuses with which a question about a model fails.
pub(crate) struct ModelStatuses;

impl Statuses for ModelStatuses {
    type Body = crate::wire::ErrorResponse;
    const STATUSES: &'static [u16] = &[400, 401, 404, 429, 500];
}

/// The statuses with which the list of models fails.
pub(crate) struct ListStatuses;

impl Statuses for ListStatuses {
    type Body = crate::wire::ErrorResponse;
    const STATUSES: &'static [u16] = &[401, 429, 500];
}

/// The statuses with which an operation that is open to all and has no input fails.
pub(crate) struct ServerStatuses;

impl Statuses for ServerStatuses {
    type Body = crate::wire::ErrorResponse;
    const STATUSES: &'static [u16] = &[500];
}

#[derive(ApiResponse)]
pub(crate) enum ModelListReply {
    /// The models, sorted by id; incomplete ones too.
    #[oai(status = 200)]
    Ok(ApiJson<ModelList>),
}

#[derive(ApiResponse)]
pub(crate) enum ModelReply {
    /// The model.
    #[oai(status = 200)]
    Ok(ApiJson<ModelObject>),
}

#[OpenApi(prefix_path = "/v1")]
impl ModelsApi {
    /// List models
    #[oai(path = "/models", method = "get", operation_id = "listModels", tag = "Tag::Models")]
    async fn list_models(&self, _caller: Caller) -> Result<ModelListReply, Failure<ListStatuses>> {
        let residents = self.state.engine.residents();
        let models = self.state.models.list();
        let data = models.iter().map(|model| ModelObject::new(model, &residents)).collect();
        Ok(ModelListReply::Ok(ApiJson(ModelList { object: ModelListObject::List, data })))
    }

    /// Retrieve a model
    ///
    /// An id with slashes may be written as it is or with `%2F`.
    #[oai(
        path = "/models/:id",
        method = "get",
        operation_id = "retrieveModel",
        tag = "Tag::Models"
    )]
    async fn retrieve_model(
        &self,
        _caller: Caller,
        /// The model's id.
        id: Path<String>,
    ) -> Result<ModelReply, Failure<ModelStatuses>> {
        let model = self.state.models.resolve(&id.0);
        let model = model.map_err(|error| self.state.explain(failure::model(error)))?;
        Ok(ModelReply::Ok(ApiJson(ModelObject::new(&model, &self.state.engine.residents()))))
    }
}

/// The operations about the server itself.
pub(crate) struct ServerApi {
    pub(crate) state: State,
}

#[derive(ApiResponse)]
pub(crate) enum HealthReply {
    /// The server runs; `status` says how well.
    #[oai(status = 200)]
    Ok(ApiJson<Health>),
}

#[derive(ApiResponse)]
pub(crate) enum ReadinessReply {
    /// At least one model can be asked for.
    #[oai(status = 200)]
    Ready(ApiJson<Readiness>),
    /// No model can be asked for; `missing` says why.
    #[oai(status = 503)]
    NotReady(ApiJson<Readiness>),
}

#[derive(ApiResponse)]
pub(crate) enum MetricsReply {
    /// Everything that is counted.
    #[oai(status = 200)]
    Ok(Exposition),
}

#[OpenApi]
impl ServerApi {
    /// Ask how the server is
    #[oai(path = "/health", method = "get", operation_id = "getHealth", tag = "Tag::Server")]
    async fn get_health(&self) -> Result<HealthReply, Failure<ServerStatuses>> {
        let (problems, runtimes) = (self.state.engine.problems(), self.state.engine.runtimes());
        Ok(HealthReply::Ok(ApiJson(Health::new(&self.state.version, problems, runtimes))))
    }

    /// Ask whether the server can answer
    ///
    /// For load balancers: 200 as long as at least one model can be asked for, loaded or not; 503
    /// while none can, and while the server shuts down.
    #[oai(path = "/ready", method = "get", operation_id = "getReadiness", tag = "Tag::Server")]
    async fn get_readiness(&self) -> Result<ReadinessReply, Failure<ServerStatuses>> {
        let readiness = ApiJson(Readiness::new(self.state.missing()));
        Ok(match readiness.0.status {
            ReadyStatus::Ready => ReadinessReply::Ready(readiness),
            ReadyStatus::NotReady => ReadinessReply::NotReady(readiness),
        })
    }

    /// Read the metrics
    ///
    /// For Prometheus. `llamacpp:` are llama-server's names, over all models; `vllm:` are vLLM's,
    /// by `model_name`; `rkllama_` are this server's own, `process_` those of its process.
    #[oai(path = "/metrics", method = "get", operation_id = "getMetrics", tag = "Tag::Server")]
    async fn get_metrics(&self, _caller: Caller) -> Result<MetricsReply, Failure<ListStatuses>> {
        let State { metrics, engine, models, .. } = &self.state;
        Ok(MetricsReply::Ok(metrics.exposition(&**engine, &**models)))
    }
}
