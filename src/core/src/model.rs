//! Models as the server knows them, and the port through which it asks for them.

use std::{path::PathBuf, sync::Arc};

use crate::{ImageTags, ModelError, Pooling, Presets, RerankFrame, Sampling, Vision};

/// A model on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The name under which it is listed: its directory's name.
    pub id: String,
    /// When the weights were last written, in seconds since 1970.
    pub created_s: u64,
    /// The `.rkllm` file.
    pub weights: PathBuf,
    /// Its size, in bytes.
    pub weights_bytes: u64,
    /// Memory to plan with, in bytes, where the manifest says it better than our estimate.
    pub memory_bytes: Option<u64>,
    /// The context to ask the runtime for, in tokens.
    pub context_tokens_max: u32,
    /// Sampling as the manifest and the model's own files state it.
    pub sampling: Sampling,
    /// Most tokens of an answer where the request does not say; `None` means the context's end.
    pub tokens_max: Option<u32>,
    /// The runtime release the manifest asks for, such as `1.2.3`.
    pub runtime: Option<String>,
    /// How it makes a vector of a text, where its manifest says that it is made for that.
    pub pooling: Option<Pooling>,
    /// What it is given to read, if it is made to compare documents with queries.
    pub reranks: Option<RerankFrame>,
    /// What stands in front of a text that is to be read as a query, where its manifest says it.
    pub query_instruction: Option<String>,
    /// How it sees, if it does.
    pub vision: Option<Vision>,
    /// What changes its weights, if something does.
    pub adapter: Option<Adapter>,
    /// What it brings into every conversation.
    pub presets: Presets,
    /// Whether it can be run.
    pub state: ModelState,
}

/// A LoRA adapter: small weights in a file of their own that change a model's.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Its file.
    pub file: PathBuf,
    /// The file's size, in bytes.
    pub bytes: u64,
    /// When it was last written, in seconds since 1970.
    pub created_s: u64,
    /// What its weights are multiplied with; 1 leaves them as they are.
    pub scale: f32,
}

/// Whether a model can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelState {
    /// Everything is there.
    Ready,
    /// Something is missing or wrong; the text names the file and says what to do.
    Incomplete(String),
}

/// The files about text that came with a model, unparsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextFiles {
    /// `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`: special tokens and, usually, the chat template.
    pub tokenizer_config: Option<Vec<u8>>,
    /// `generation_config.json`: end-of-sequence ids and sampling.
    pub generation_config: Option<Vec<u8>>,
    /// `config.json`: the architecture and its sizes.
    pub config: Option<Vec<u8>>,
    /// `chat_template.jinja`; wins over the template inside `tokenizer_config`.
    pub chat_template: Option<String>,
    /// The template of the model's family, which counts where neither of them has one.
    pub family_template: Option<&'static str>,
    /// How the model writes calls of tools, where its manifest says it: a format's name.
    pub tool_format: Option<String>,
    /// How it marks its thoughts, where its manifest says it: a format's name.
    pub reasoning_format: Option<String>,
    /// The tokens around images, of a model that sees.
    pub image_tags: Option<ImageTags>,
}

/// The models that exist. Implemented over the disk by `rkllama-models`.
pub trait Models: Send + Sync + 'static {
    /// All models, sorted by id; incomplete ones too.
    fn list(&self) -> Vec<Arc<Model>>;

    /// Finds a model by the name a client used. Reads nothing from disk.
    ///
    /// # Errors
    /// [`ModelError::NotFound`] or [`ModelError::Ambiguous`].
    fn resolve(&self, name: &str) -> Result<Arc<Model>, ModelError>;

    /// Reads a model's text files. Blocks on the disk: call it off the async threads.
    ///
    /// # Errors
    /// [`ModelError::Incomplete`] where one is missing, [`ModelError::Unreadable`] where the disk
    /// refuses.
    fn text_files(&self, model: &Model) -> Result<TextFiles, ModelError>;
}
