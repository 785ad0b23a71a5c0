//! llama-server's own routes, and vLLM's for tokens.

mod completion;
mod failure;
pub mod wire;

use std::sync::Arc;

use poem_openapi::{ApiResponse, OpenApi, ResponseContent, Tags, param::Query};
use rkllama_core::{Chat, Cutting, EmbedInput, EmbedRequest, LoadState, Model, Prompt};
use rkllama_http::{ApiError, ApiJson, Caller, Failure, Sse, Statuses};

use self::{
    completion::Task,
    wire::{
        AppliedTemplate, ApplyTemplateRequest, Completion, CompletionRequest, DefaultSettings,
        DetokenizeRequest, Detokenized, Embedding, EmbeddingContent, EmbeddingRequest, ErrorBody,
        Health, Modalities, Piece, Props, ServerVersion, Slot, TemplateCaps, Token,
        TokenizeRequest, Tokens,
    },
};
use crate::{
    State,
    card::Card,
    messages::{conversation, tools},
    run::named,
};

pub use failure::LlamaServerShape;
pub(crate) use failure::{bad, engine, not_supported, unresolved};

/// The beginnings of its paths.
pub(crate) const PATHS: [&str; 10] = [
    "/completion",
    "/infill",
    "/embedding",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/props",
    "/slots",
    "/v1/health",
    "/version",
];
/// Most tokens that are told with their texts: each is looked up by itself.
const PIECES_MAX: usize = 4096;
/// Most texts of one request for vectors; each is a run of its own.
const TEXTS_MAX: usize = 2048;

#[derive(Tags)]
enum Tag {
    /// llama-server's own routes, and vLLM's for tokens.
    #[oai(rename = "llama-server")]
    LlamaServer,
}

/// llama-server's operations.
pub struct LlamaServerApi {
    state: State,
}

/// The statuses with which an answer fails.
struct AnswerStatuses;

impl Statuses for AnswerStatuses {
    type Body = ErrorBody;
    const STATUSES: &'static [u16] = &[400, 401, 404, 408, 413, 429, 500, 501, 503];
}

/// The statuses with which a question about a model fails.
struct ModelStatuses;

impl Statuses for ModelStatuses {
    type Body = ErrorBody;
    const STATUSES: &'static [u16] = &[400, 401, 404, 429, 500, 503];
}

/// The statuses with which a question about the server fails.
struct ServerStatuses;

impl Statuses for ServerStatuses {
    type Body = ErrorBody;
    const STATUSES: &'static [u16] = &[500, 503];
}

/// The statuses with which a question about nothing fails.
struct KeyedStatuses;

impl Statuses for KeyedStatuses {
    type Body = ErrorBody;
    const STATUSES: &'static [u16] = &[401, 429, 500];
}

/// An answer, whole or as events.
#[derive(ResponseContent)]
enum CompletionContent {
    Whole(ApiJson<Box<Completion>>),
    Events(Sse<Completion>),
}

#[derive(ApiResponse)]
enum CompletionReply {
    /// The answer; with `stream` as server-sent events, of which the last one has `stop`.
    #[oai(status = 200)]
    Ok(
        CompletionContent,
        /// Fields of the request that had no effect, separated by commas.
        #[oai(header = "x-rkllama-ignored")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
enum HealthReply {
    /// The server can answer.
    #[oai(status = 200)]
    Ok(ApiJson<Health>),
}

#[derive(ApiResponse)]
enum VersionReply {
    /// The version.
    #[oai(status = 200)]
    Ok(ApiJson<ServerVersion>),
}

#[derive(ApiResponse)]
enum PropsReply {
    /// What the server would answer with.
    #[oai(status = 200)]
    Ok(ApiJson<Box<Props>>),
}

#[derive(ApiResponse)]
enum SlotsReply {
    /// The models that are loaded.
    #[oai(status = 200)]
    Ok(ApiJson<Vec<Slot>>),
}

#[derive(ApiResponse)]
enum TokensReply {
    /// The tokens.
    #[oai(status = 200)]
    Ok(ApiJson<Tokens>),
}

#[derive(ApiResponse)]
enum DetokenizedReply {
    /// The text.
    #[oai(status = 200)]
    Ok(ApiJson<Detokenized>),
}

#[derive(ApiResponse)]
enum TemplateReply {
    /// The prompt.
    #[oai(status = 200)]
    Ok(ApiJson<AppliedTemplate>),
}

#[derive(ApiResponse)]
enum EmbeddingReply {
    /// The vectors.
    #[oai(status = 200)]
    Ok(ApiJson<Vec<Embedding>>),
}

impl LlamaServerApi {
    /// The operations at work.
    pub(crate) const fn new(state: State) -> Self {
        Self { state }
    }

    fn model(&self, name: Option<&str>) -> Result<Arc<Model>, ApiError> {
        let model = self.state.fallback.for_answers(name, &*self.state.models);
        model.map_err(failure::unresolved)
    }

    async fn complete(
        &self,
        wire: CompletionRequest,
        task: Task,
        caller: Caller,
    ) -> Result<CompletionReply, ApiError> {
        let checked = completion::check(wire, task, caller.0, &self.state).await?;
        let (content, ignored) = if checked.stream {
            let (events, ignored) = completion::events(&self.state, checked).await?;
            let heartbeat = self.state.intake.limits().heartbeat;
            (CompletionContent::Events(Sse::new(events, heartbeat)), ignored)
        } else {
            let (whole, ignored) = completion::whole(&self.state, checked).await?;
            (CompletionContent::Whole(ApiJson(Box::new(whole))), ignored)
        };
        Ok(CompletionReply::Ok(content, named(&ignored)))
    }

    /// The token ids of what is asked about.
    async fn tokens(
        &self,
        wire: TokenizeRequest,
        model: &Arc<Model>,
    ) -> Result<Vec<i32>, ApiError> {
        let is_vllm = wire.prompt.is_some();
        let add_special = wire.add_special.or(wire.add_special_tokens).unwrap_or(is_vllm);
        let cutting = Cutting { add_special, parse_special: wire.parse_special.unwrap_or(true) };
        let texts = &self.state.texts;
        let tokens = match (wire.content.or(wire.prompt), wire.messages) {
            (Some(text), None) => texts.tokenize(Arc::clone(model), text, cutting).await,
            (None, Some(messages)) => {
                let messages =
                    conversation(messages).map_err(|(field, words)| bad(&field, words))?;
                if messages.is_empty() {
                    return Err(bad("messages", "there are none"));
                }
                let prompt = Prompt::Chat(Chat::new(messages));
                texts.prompt_tokens(Arc::clone(model), prompt).await
            }
            (None, None) => return Err(bad("content", "\"content\" must be provided")),
            (Some(_), Some(_)) => {
                return Err(bad("messages", "a text is there too: one of them is wanted"));
            }
        };
        tokens.map_err(failure::engine)
    }

    /// Tokens with their texts.
    async fn pieces(&self, ids: Vec<i32>, model: &Arc<Model>) -> Result<Vec<Token>, ApiError> {
        if ids.len() > PIECES_MAX {
            let words = format!("{} tokens are more than {PIECES_MAX}", ids.len());
            return Err(bad("with_pieces", words));
        }
        let mut tokens = Vec::with_capacity(ids.len());
        for id in ids {
            let piece = self.state.texts.detokenize(Arc::clone(model), vec![id]).await;
            tokens.push(Token::Piece(Piece { id, piece: piece.map_err(failure::engine)? }));
        }
        Ok(tokens)
    }
}

#[OpenApi]
impl LlamaServerApi {
    /// Go on from a text, in llama-server's way
    ///
    /// `/v1/completions` is OpenAI's. A closed connection cancels the answer.
    #[oai(
        path = "/completion",
        method = "post",
        operation_id = "llamaCompletion",
        tag = "Tag::LlamaServer"
    )]
    async fn completion(
        &self,
        caller: Caller,
        body: ApiJson<CompletionRequest>,
    ) -> Result<CompletionReply, Failure<AnswerStatuses>> {
        Ok(self.complete(body.0, Task::Complete, caller).await?)
    }

    /// Fill a gap
    ///
    /// 501 for models that cannot. A closed connection cancels the answer.
    #[oai(
        path = "/infill",
        method = "post",
        operation_id = "llamaInfill",
        tag = "Tag::LlamaServer"
    )]
    async fn infill(
        &self,
        caller: Caller,
        body: ApiJson<CompletionRequest>,
    ) -> Result<CompletionReply, Failure<AnswerStatuses>> {
        Ok(self.complete(body.0, Task::Infill, caller).await?)
    }

    /// Read texts into vectors, in llama-server's way
    ///
    /// `/v1/embeddings` is OpenAI's.
    #[oai(
        path = "/embedding",
        method = "post",
        operation_id = "llamaEmbedding",
        tag = "Tag::LlamaServer"
    )]
    async fn embedding(
        &self,
        caller: Caller,
        body: ApiJson<EmbeddingRequest>,
    ) -> Result<EmbeddingReply, Failure<AnswerStatuses>> {
        let EmbeddingRequest { model, content } = body.0;
        let model = self.state.fallback.for_embeddings(model.as_deref(), &*self.state.models);
        let model = model.map_err(failure::unresolved)?;
        let inputs = match content {
            EmbeddingContent::Text(text) => vec![EmbedInput::Text(text)],
            EmbeddingContent::Texts(texts) if texts.is_empty() || texts.len() > TEXTS_MAX => {
                return Err(bad("content", format!("1 to {TEXTS_MAX} texts are wanted")).into());
            }
            EmbeddingContent::Texts(texts) => texts.into_iter().map(EmbedInput::Text).collect(),
            EmbeddingContent::Tokens(tokens) if tokens.iter().any(|id| *id < 0) => {
                return Err(bad("content", "a token's id is not negative").into());
            }
            EmbeddingContent::Tokens(tokens) => vec![EmbedInput::Tokens(tokens)],
        };
        let request = EmbedRequest {
            model,
            inputs,
            are_queries: false,
            truncate: false,
            keep_alive: None,
            client: caller.0,
        };
        let vectors = self.state.engine.embed(request).await;
        let vectors = vectors.map_err(|failed| failure::engine(failed.error))?;
        let vectors = vectors.into_iter().zip(0..);
        let vectors =
            vectors.map(|(it, index)| Embedding { index, embedding: vec![it.vector] }).collect();
        Ok(EmbeddingReply::Ok(ApiJson(vectors)))
    }

    /// Cut a text into tokens
    #[oai(path = "/tokenize", method = "post", operation_id = "tokenize", tag = "Tag::LlamaServer")]
    async fn tokenize(
        &self,
        _caller: Caller,
        body: ApiJson<TokenizeRequest>,
    ) -> Result<TokensReply, Failure<AnswerStatuses>> {
        let model = self.model(body.0.model.as_deref())?;
        let with_pieces = body.0.with_pieces.unwrap_or(false);
        let ids = self.tokens(body.0, &model).await?;
        let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let tokens = match with_pieces {
            true => self.pieces(ids, &model).await?,
            false => ids.into_iter().map(Token::Id).collect(),
        };
        let max_model_len = model.context_tokens_max;
        Ok(TokensReply::Ok(ApiJson(Tokens { tokens, count, max_model_len })))
    }

    /// Make a text of tokens
    #[oai(
        path = "/detokenize",
        method = "post",
        operation_id = "detokenize",
        tag = "Tag::LlamaServer"
    )]
    async fn detokenize(
        &self,
        _caller: Caller,
        body: ApiJson<DetokenizeRequest>,
    ) -> Result<DetokenizedReply, Failure<AnswerStatuses>> {
        let model = self.model(body.0.model.as_deref())?;
        let text = self.state.texts.detokenize(model, body.0.tokens).await;
        let content = text.map_err(failure::engine)?;
        let prompt = content.clone();
        Ok(DetokenizedReply::Ok(ApiJson(Detokenized { content, prompt })))
    }

    /// Write a conversation as the model's template does
    #[oai(
        path = "/apply-template",
        method = "post",
        operation_id = "applyTemplate",
        tag = "Tag::LlamaServer"
    )]
    async fn apply_template(
        &self,
        _caller: Caller,
        body: ApiJson<ApplyTemplateRequest>,
    ) -> Result<TemplateReply, Failure<AnswerStatuses>> {
        let ApplyTemplateRequest { model, messages, tools: defined } = body.0;
        let model = self.model(model.as_deref())?;
        let wrong = |(field, words): (String, String)| bad(&field, words);
        let messages = conversation(messages).map_err(wrong)?;
        if messages.is_empty() {
            return Err(bad("messages", "there are none").into());
        }
        let tools = tools(defined.unwrap_or_default()).map_err(wrong)?;
        let chat = Chat { tools, ..Chat::new(messages) };
        let prompt = self.state.texts.render(model, chat).await.map_err(failure::engine)?;
        Ok(TemplateReply::Ok(ApiJson(AppliedTemplate { prompt })))
    }

    /// Ask how the model would answer
    #[oai(path = "/props", method = "get", operation_id = "getProps", tag = "Tag::LlamaServer")]
    async fn props(
        &self,
        _caller: Caller,
        /// The model. Where absent: the server's fallback, else the only model there is.
        model: Query<Option<String>>,
    ) -> Result<PropsReply, Failure<ModelStatuses>> {
        let model = self.model(model.0.as_deref())?;
        let traits = self.state.texts.traits(Arc::clone(&model)).await;
        let traits = traits.map_err(failure::engine)?;
        let residents = self.state.engine.residents();
        let file = model.weights.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let props = Props {
            default_generation_settings: DefaultSettings {
                params: completion::settings(&model.sampling),
                n_ctx: model.context_tokens_max,
            },
            total_slots: 1,
            model_alias: model.id.clone(),
            model_ftype: Card::of(&model).quantization,
            model_path: file.to_owned(),
            modalities: Modalities { vision: traits.vision, ..Modalities::default() },
            endpoint_slots: true,
            endpoint_props: false,
            endpoint_metrics: true,
            webui: false,
            chat_template: traits.template.clone(),
            chat_template_caps: TemplateCaps {
                supports_tools: traits.tools,
                supports_tool_calls: traits.tools,
                supports_system_role: true,
            },
            bos_token: traits.bos_token.clone().unwrap_or_default(),
            eos_token: traits.eos_token.clone().unwrap_or_default(),
            build_info: format!("rkllama {}", self.state.version),
            is_sleeping: !residents.iter().any(|resident| resident.model == model.id),
        };
        Ok(PropsReply::Ok(ApiJson(Box::new(props))))
    }

    /// Ask for the version
    ///
    /// As vLLM's clients do.
    #[oai(path = "/version", method = "get", operation_id = "getVersion", tag = "Tag::LlamaServer")]
    async fn version(&self, _caller: Caller) -> Result<VersionReply, Failure<KeyedStatuses>> {
        let version = self.state.version.clone();
        Ok(VersionReply::Ok(ApiJson(ServerVersion { version })))
    }

    /// List the models that are loaded, as slots
    #[oai(path = "/slots", method = "get", operation_id = "getSlots", tag = "Tag::LlamaServer")]
    async fn slots(
        &self,
        _caller: Caller,
        /// With any value: 503 where all that are loaded are busy.
        fail_on_no_slot: Query<Option<String>>,
    ) -> Result<SlotsReply, Failure<ModelStatuses>> {
        let models = self.state.models.list();
        let slot = |(resident, id): (rkllama_core::Resident, u32)| {
            let model = models.iter().find(|model| model.id == resident.model)?;
            Some(Slot {
                id,
                n_ctx: model.context_tokens_max,
                speculative: false,
                is_processing: resident.state != LoadState::Idle,
                model: resident.model,
            })
        };
        let residents = self.state.engine.residents().into_iter().zip(0..);
        let slots: Vec<Slot> = residents.filter_map(slot).collect();
        let is_full = !slots.is_empty() && slots.iter().all(|slot| slot.is_processing);
        if fail_on_no_slot.0.is_some() && is_full {
            return Err(failure::no_slot().into());
        }
        Ok(SlotsReply::Ok(ApiJson(slots)))
    }

    /// Ask whether a model is on its way
    ///
    /// 503 while the only models in memory are those that are being loaded. `/health` says more.
    #[oai(
        path = "/v1/health",
        method = "get",
        operation_id = "getV1Health",
        tag = "Tag::LlamaServer"
    )]
    async fn health(&self) -> Result<HealthReply, Failure<ServerStatuses>> {
        let residents = self.state.engine.residents();
        let is_loading = |state: LoadState| matches!(state, LoadState::Loading(_));
        if !residents.is_empty() && residents.iter().all(|resident| is_loading(resident.state)) {
            return Err(failure::loading().into());
        }
        Ok(HealthReply::Ok(ApiJson(Health { status: "ok".to_owned() })))
    }
}
