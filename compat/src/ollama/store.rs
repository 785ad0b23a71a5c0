//! Making, fetching and removing models.

use std::{str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use poem::Body;
use poem_openapi::{ApiResponse, OpenApi, ResponseContent, param::Path};
use rkllama_core::{
    Creation, Digest, Message, Model, ModelError, Pull, Role, Step, Steps, StoreError, Upload,
};
use rkllama_http::{
    ApiError, ApiJson, Caller, Failure, FileBody, Ndjson, OwnJson, Statuses, Trouble,
};
use serde_json::{Map, Value};

use super::{
    Tag,
    answer::encode,
    convert::Named,
    failure::{self, bad, not_found},
    options::Options,
    store_wire::{
        CopyRequest, CreateRequest, DeleteRequest, Licenses, PresetMessage, Progress, PullRequest,
        PushRequest,
    },
    template,
    wire::ErrorBody,
};
use crate::{State, checks::echo, names};

/// Longest silence of a client that sends a file.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(60);
/// Most digits of a digest that are shown.
const DIGEST_SHOWN_LEN: usize = 12;

/// Ollama's operations on the store.
pub struct OllamaStoreApi {
    state: State,
}

/// The statuses with which a change of the store fails.
struct StoreStatuses;

impl Statuses for StoreStatuses {
    type Body = ErrorBody;
    const STATUSES: &'static [u16] = &[400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 507];
}

/// The statuses with which a question about a file fails.
struct BlobStatuses;

impl Statuses for BlobStatuses {
    type Body = ErrorBody;
    const STATUSES: &'static [u16] = &[400, 401, 404, 429, 500];
    const NOT_FOUND: &'static str = "The file was not sent.";
}

/// What is being done, whole or in lines.
#[derive(ResponseContent)]
enum ProgressContent {
    Whole(ApiJson<Progress>),
    Lines(Ndjson<Progress>),
}

#[derive(ApiResponse)]
enum ProgressReply {
    /// What is being done, in lines unless `stream` is false; the last one is `success`. An error
    /// after the first line comes as a last line with `error`.
    #[oai(status = 200)]
    Ok(ProgressContent),
}

#[derive(ApiResponse)]
enum EmptyReply {
    /// It is done.
    #[oai(status = 200)]
    Ok,
}

#[derive(ApiResponse)]
enum BlobReply {
    /// The file was here already.
    #[oai(status = 200)]
    Known,
    /// The file is here.
    #[oai(status = 201)]
    New,
}

impl OllamaStoreApi {
    /// The operations at work.
    pub(crate) const fn new(state: State) -> Self {
        Self { state }
    }
}

#[OpenApi(prefix_path = "/api")]
impl OllamaStoreApi {
    /// Fetch a model
    ///
    /// From the Hugging Face hub. A download that breaks off goes on where it was when it is asked
    /// for again; whoever asks for the same model shares it; when nobody waits for it any more it
    /// stops.
    #[oai(path = "/pull", method = "post", operation_id = "ollamaPull", tag = "Tag::Ollama")]
    async fn pull(
        &self,
        _caller: Caller,
        body: OwnJson<PullRequest>,
    ) -> Result<ProgressReply, Failure<StoreStatuses>> {
        let PullRequest { model, name, alias, tokenizer, stream, .. } = body.0;
        let source = either(model, name).ok_or_else(|| bad("invalid model name"))?;
        let pull = Pull { source, name: said(alias), tokenizer: said(tokenizer) };
        Ok(progress(self.state.store.pull(pull), stream).await?)
    }

    /// Send a model elsewhere
    ///
    /// Always refused: there is no registry of models for this runtime.
    #[oai(path = "/push", method = "post", operation_id = "ollamaPush", tag = "Tag::Ollama")]
    async fn push(
        &self,
        _caller: Caller,
        body: OwnJson<PushRequest>,
    ) -> Result<ProgressReply, Failure<StoreStatuses>> {
        let PushRequest { model, name, stream, .. } = body.0;
        let asked = either(model, name).ok_or_else(|| bad("model is required"))?;
        let found = Named::find(&self.state, asked, |name| format!("model '{name}' not found"));
        let refused = match found {
            Ok(_) => {
                "models cannot be pushed: upload the .rkllm file to the Hugging Face hub".to_owned()
            }
            Err(error) => error.message,
        };
        if stream == Some(false) {
            return Err(bad(refused).into());
        }
        let retrieving =
            Progress { status: "retrieving manifest".to_owned(), ..Progress::default() };
        let lines = [encode(&retrieving), encode(&ErrorBody { error: refused })];
        let lines = futures_util::stream::iter(lines).boxed();
        Ok(ProgressReply::Ok(ProgressContent::Lines(Ndjson::new(lines))))
    }

    /// Make a model
    ///
    /// Of another one, or of files that were sent. The weights are shared and use no space again.
    #[oai(path = "/create", method = "post", operation_id = "ollamaCreate", tag = "Tag::Ollama")]
    async fn create(
        &self,
        _caller: Caller,
        body: OwnJson<CreateRequest>,
    ) -> Result<ProgressReply, Failure<StoreStatuses>> {
        let stream = body.0.stream;
        let creation = creation(&self.state, body.0)?;
        Ok(progress(self.state.store.create(creation), stream).await?)
    }

    /// Copy a model
    ///
    /// The weights are shared and use no space again.
    #[oai(path = "/copy", method = "post", operation_id = "ollamaCopy", tag = "Tag::Ollama")]
    async fn copy(
        &self,
        _caller: Caller,
        body: OwnJson<CopyRequest>,
    ) -> Result<EmptyReply, Failure<StoreStatuses>> {
        let source = body.0.source.unwrap_or_default();
        let destination = body.0.destination.unwrap_or_default();
        let invalid = |what: &str, name: &str| bad(format!("{what} {:?} is invalid", echo(name)));
        let found = match names::find(&*self.state.models, &source) {
            Ok(model) => model,
            Err(names::Lookup::Malformed) => return Err(invalid("source", &source).into()),
            Err(lookup) => {
                let absent = |_: &str| format!("model \"{}\" not found", echo(&source));
                return Err(failure::lookup(lookup, absent).into());
            }
        };
        let name = new_name(&destination).ok_or_else(|| invalid("destination", &destination))?;
        self.state.store.copy(found, name).await.map_err(store)?;
        Ok(EmptyReply::Ok)
    }

    /// Remove a model
    ///
    /// One that is loaded is unloaded first.
    #[oai(path = "/delete", method = "delete", operation_id = "ollamaDelete", tag = "Tag::Ollama")]
    async fn delete(
        &self,
        _caller: Caller,
        body: OwnJson<DeleteRequest>,
    ) -> Result<EmptyReply, Failure<StoreStatuses>> {
        let DeleteRequest { model, name } = body.0;
        let asked = either(model, name).ok_or_else(|| bad("model is required"))?;
        let found = match names::find(&*self.state.models, &asked) {
            Ok(model) => model,
            Err(names::Lookup::Malformed) => {
                return Err(bad(format!("name {:?} is invalid", echo(&asked))).into());
            }
            Err(lookup) => {
                let absent = |_: &str| format!("model '{}' not found", echo(&asked));
                return Err(failure::lookup(lookup, absent).into());
            }
        };
        remove(&self.state, found).await.map_err(store)?;
        Ok(EmptyReply::Ok)
    }

    /// Ask whether a file was sent
    #[oai(
        path = "/blobs/:digest",
        method = "head",
        operation_id = "ollamaHasBlob",
        tag = "Tag::Ollama"
    )]
    async fn has_blob(
        &self,
        _caller: Caller,
        /// `sha256:` or `sha256-` and 64 hexadecimal digits.
        digest: Path<String>,
    ) -> Result<EmptyReply, Failure<BlobStatuses>> {
        let digest = digest_of(&digest.0)?;
        match self.state.store.has_blob(digest).await.map_err(store)? {
            true => Ok(EmptyReply::Ok),
            false => Err(not_found(format!("blob {digest} not found")).into()),
        }
    }

    /// Send a file
    ///
    /// To make a model of it. It is compared with its digest. One of which no model is made within a
    /// day is removed.
    #[oai(
        path = "/blobs/:digest",
        method = "post",
        operation_id = "ollamaPutBlob",
        tag = "Tag::Ollama"
    )]
    async fn put_blob(
        &self,
        _caller: Caller,
        /// `sha256:` or `sha256-` and 64 hexadecimal digits.
        digest: Path<String>,
        /// The file.
        body: FileBody,
    ) -> Result<BlobReply, Failure<StoreStatuses>> {
        let digest = digest_of(&digest.0)?;
        match self.state.store.put_blob(digest, upload(body.0)).await.map_err(store)? {
            true => Ok(BlobReply::New),
            false => Ok(BlobReply::Known),
        }
    }
}

/// Unloads a model and removes it.
pub(crate) async fn remove(state: &State, model: Arc<Model>) -> Result<(), StoreError> {
    state.engine.unload(&model);
    state.store.delete(model).await
}

/// A text that says something.
fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

/// The newer field, else the older one.
fn either(model: Option<String>, name: Option<String>) -> Option<String> {
    said(model).or_else(|| said(name))
}

fn digest_of(text: &str) -> Result<Digest, ApiError> {
    Digest::from_str(text).map_err(|error| bad(error.to_string()))
}

/// A name for a new model: Ollama's grammar, without what may be left out.
fn new_name(text: &str) -> Option<String> {
    names::Name::parse(text).map(|name| name.short())
}

/// A body as it comes. A client that stops sending is not waited for.
fn upload(body: Body) -> Upload {
    let mut pieces = body.into_bytes_stream().boxed();
    Box::pin(async_stream::stream! {
        loop {
            match tokio::time::timeout(UPLOAD_PATIENCE, pieces.next()).await {
                Ok(Some(piece)) => yield piece.map_err(|error| error.to_string()),
                Ok(None) => return,
                Err(_) => {
                    yield Err(format!("nothing came for {} s", UPLOAD_PATIENCE.as_secs()));
                    return;
                }
            }
        }
    })
}

/// What a model is to be.
fn creation(state: &State, wire: CreateRequest) -> Result<Creation, ApiError> {
    let name = either(wire.model, wire.name).unwrap_or_default();
    let name = new_name(&name).ok_or_else(|| bad("invalid model name"))?;
    let mut adapters = wire.adapters.unwrap_or_default().into_iter();
    let adapter = adapters.next().map(|(path, digest)| Ok((path, digest_of(&digest)?)));
    let adapter = adapter.transpose()?;
    if adapters.next().is_some() {
        return Err(bad("only one adapter is currently supported"));
    }
    if let Some(quantize) = said(wire.quantize) {
        return Err(bad(format!(
            "quantize: {:?} is refused: RKLLM-Toolkit quantizes when it makes the .rkllm file",
            echo(&quantize)
        )));
    }
    let from = match said(wire.from) {
        None => None,
        Some(from) => Some(known_base(state, from)?),
    };
    let has_files = wire.files.is_some();
    let files = wire.files.unwrap_or_default();
    let files = files.into_iter().map(|(path, digest)| Ok((path, digest_of(&digest)?)));
    let files: Vec<(String, Digest)> = files.collect::<Result<_, ApiError>>()?;
    let modelfile = said(wire.modelfile);
    if from.is_none() && files.is_empty() && modelfile.is_none() {
        let words = "neither 'from' or 'files' was specified";
        return Err(bad(if has_files { "unknown type" } else { words }));
    }
    let template = said(wire.template);
    if let Some(template) = &template {
        template::check_template(|jinja| state.texts.check_template(jinja), template)
            .map_err(|error| bad(format!("template error: {error}")))?;
    }
    let licenses = match wire.license {
        None => Vec::new(),
        Some(Licenses::One(license)) => vec![license],
        Some(Licenses::Several(licenses)) => licenses,
    };
    let messages = wire.messages.map(|messages| messages.into_iter().map(message).collect());
    Ok(Creation {
        name,
        from,
        files,
        adapter,
        modelfile,
        system: wire.system,
        template,
        licenses: licenses.into_iter().filter(|license| !license.is_empty()).collect(),
        messages: messages.transpose()?,
        model_type: said(wire.model_type),
        parameters: parameters(wire.parameters.as_ref())?,
    })
}

/// The base by its id, where it is here; else its name, to be pulled.
fn known_base(state: &State, from: String) -> Result<String, ApiError> {
    match names::find(&*state.models, &from) {
        Ok(model) => Ok(model.id.clone()),
        Err(names::Lookup::NotFound(_)) => Ok(from),
        // More parts than a name has are a file of a repository.
        Err(names::Lookup::Malformed) if from.contains('/') => Ok(from),
        Err(lookup) => Err(failure::lookup(lookup, |name| format!("model '{name}' not found"))),
    }
}

fn message(wire: PresetMessage) -> Result<Message, ApiError> {
    let role = match &*wire.role.to_lowercase() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => {
            let role = echo(&wire.role);
            return Err(bad(format!(
                "messages: role {role:?} is none of \"system\", \"user\", or \"assistant\""
            )));
        }
    };
    Ok(Message::new(role, wire.content))
}

/// Parameters, checked as the options of a request are.
fn parameters(wire: Option<&rkllama_http::JsonObject>) -> Result<Vec<(String, String)>, ApiError> {
    let Some(wire) = wire else { return Ok(Vec::new()) };
    Options::of(Some(wire))?;
    let values: Map<String, Value> =
        serde_json::from_str(wire.text()).map_err(|error| bad(error.to_string()))?;
    Ok(values.into_iter().map(|(name, value)| (name, value.to_string())).collect())
}

/// Tells of what is being done. An error that comes first is the answer's status.
async fn progress(mut steps: Steps, stream: Option<bool>) -> Result<ProgressReply, ApiError> {
    let first = steps.next().await.unwrap_or_else(|| Err(broken_off())).map_err(store)?;
    if stream == Some(false) {
        while let Some(step) = steps.next().await {
            step.map_err(store)?;
        }
        let done = Progress { status: "success".to_owned(), ..Progress::default() };
        return Ok(ProgressReply::Ok(ProgressContent::Whole(ApiJson(done))));
    }
    let lines = in_lines(first, steps);
    Ok(ProgressReply::Ok(ProgressContent::Lines(Ndjson::new(lines))))
}

fn in_lines(first: Step, mut steps: Steps) -> BoxStream<'static, Bytes> {
    let span = tracing::Span::current();
    let stream = async_stream::stream! {
        yield encode(&line(first));
        while let Some(step) = steps.next().await {
            match step {
                Ok(step) => yield encode(&line(step)),
                Err(error) => {
                    let error = store(error);
                    span.in_scope(|| error.log());
                    yield encode(&ErrorBody { error: error.message });
                    return;
                }
            }
        }
    };
    stream.boxed()
}

/// A change that ended without a word.
fn broken_off() -> StoreError {
    StoreError::Disk { reason: "it was given up".to_owned() }
}

/// A step in Ollama's words.
fn line(step: Step) -> Progress {
    let status = |status: String| Progress { status, ..Progress::default() };
    let digest = |sha256: &str| format!("sha256:{sha256}");
    match step {
        Step::Resolving => status("pulling manifest".to_owned()),
        Step::Fetching { file, sha256, total, completed } => {
            let shown = sha256.as_deref().and_then(|sha256| sha256.get(..DIGEST_SHOWN_LEN));
            Progress {
                status: format!("pulling {}", shown.unwrap_or(&file)),
                digest: sha256.as_deref().map(digest),
                file: Some(file),
                total: Some(total),
                completed: (completed > 0).then_some(completed),
            }
        }
        Step::Verifying => status("verifying sha256 digest".to_owned()),
        Step::Using { file, sha256 } => {
            let layer = sha256.as_deref().map_or(file, digest);
            status(format!("using existing layer {layer}"))
        }
        Step::Writing => status("writing manifest".to_owned()),
        Step::Done { .. } => status("success".to_owned()),
    }
}

/// The answer to an error of the store.
pub(super) fn store(failed: StoreError) -> ApiError {
    let (words, trouble) = (failed.to_string(), Trouble::from(&failed));
    match failed {
        StoreError::Model(ModelError::NotFound { name }) => {
            not_found(format!("model '{name}' not found"))
        }
        StoreError::Model(error) => failure::model(error),
        StoreError::Name { name, .. } if !name.contains('/') => bad("invalid model name"),
        StoreError::Name { .. } => bad(format!("invalid model name: {words}")),
        StoreError::Absent { reason } => failure::error(
            trouble.status,
            format!("pull model manifest: file does not exist ({reason})"),
        ),
        StoreError::Forbidden { .. } | StoreError::Hub { .. } => {
            failure::error(trouble.status, format!("pull model manifest: {words}")).until(trouble)
        }
        _ => failure::error(trouble.status, words).until(trouble),
    }
}
