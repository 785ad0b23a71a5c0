//! The port through which the APIs ask for answers.

use std::{
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_core::Stream;

use crate::{
    EmbedError, EmbedRequest, Embedding, EngineError, Event, KeepAlive, Model, PointRequest,
    Pointed, Relevance, Request, RerankRequest, Working,
};

/// A running or waiting generation. Dropping it cancels: it leaves the queue, or aborts the run.
pub type Generation = Pin<Box<dyn Stream<Item = Result<Event, EngineError>> + Send>>;

/// Vectors in the making, in the order of the inputs. Dropping it cancels.
pub type Embeddings = Pin<Box<dyn Future<Output = Result<Vec<Embedding>, EmbedError>> + Send>>;

/// Relevances in the making, in the order of the documents. Dropping it cancels.
pub type Relevances = Working<Vec<Relevance>>;

/// A place that is being looked for. Dropping it cancels.
pub type Pointing = Working<Pointed>;

/// Something that keeps the server from doing its work well, in words for its operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is about: `runtime`, or a model's id.
    pub subject: String,
    /// What is wrong, naming the file and the version, and what to do.
    pub detail: String,
}

/// The vendor's runtime with which a model is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRuntime {
    /// The model's id.
    pub model: String,
    /// The runtime's release, such as `1.2.3`.
    pub version: String,
    /// The library.
    pub path: PathBuf,
    /// Why this one.
    pub reason: String,
    /// What speaks against it, and what to do.
    pub warning: Option<String>,
}

/// How far a model is from answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadState {
    /// Being loaded, since so long.
    Loading(Duration),
    /// Loaded and idle.
    Idle,
    /// Answering.
    Busy,
}

/// A model that is in a worker, or on its way there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// The model's id.
    pub model: String,
    /// How far it is.
    pub state: LoadState,
    /// The memory it is planned with, in bytes.
    pub memory_bytes: u64,
    /// When it is unloaded if nobody uses it; `None` means never, or not known while it is busy.
    pub expires: Option<SystemTime>,
}

/// Answers conversations. Implemented by `rkllama-engine`.
pub trait Engine: Send + Sync + 'static {
    /// Begins to answer. Returns at once; errors are the stream's first item.
    fn generate(&self, request: Request) -> Generation;

    /// Begins to read texts into vectors. Returns at once.
    fn embed(&self, request: EmbedRequest) -> Embeddings;

    /// Begins to compare documents with a query. Returns at once.
    fn rerank(&self, request: RerankRequest) -> Relevances;

    /// Begins to look for a place on a picture. Returns at once.
    fn point(&self, request: PointRequest) -> Pointing;

    /// Loads a model for `client` and keeps it for as long as `keep_alive` says.
    ///
    /// Fails as a request for this model would.
    fn load(
        &self,
        model: Arc<Model>,
        keep_alive: Option<KeepAlive>,
        client: Arc<str>,
    ) -> Working<()>;

    /// Has a model unloaded after its current answer; nothing happens if it is not loaded.
    fn unload(&self, model: &Model);

    /// Whether a request for this model can be taken, as far as can be told without trying.
    ///
    /// # Errors
    /// What a request would get at once.
    fn check(&self, model: &Model) -> Result<(), EngineError>;

    /// The models in workers, sorted by id.
    fn residents(&self) -> Vec<Resident>;

    /// Which runtime each model gets, sorted by the models' ids; none for models that get none.
    fn runtimes(&self) -> Vec<ModelRuntime> {
        Vec::new()
    }

    /// What is wrong at the moment; empty when all is well.
    fn problems(&self) -> Vec<Problem>;
}
