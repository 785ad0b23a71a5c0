//! The port through which the APIs ask what a model makes of a text, without asking it for an
//! answer.

use std::{pin::Pin, sync::Arc};

use crate::{Chat, EngineError, Model, Prompt, Request};

/// What is worked out off the async threads.
pub type Working<T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send>>;

/// What a model can do besides talking, as its own files tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelTraits {
    /// The chat template's source.
    pub template: String,
    /// Whether the template knows tools.
    pub tools: bool,
    /// Whether the model thinks before it answers.
    pub thinking: bool,
    /// The name of the form in which it calls tools.
    pub tool_format: String,
    /// The name of the form in which it marks its thoughts.
    pub reasoning_format: String,
    /// Whether it can be shown images.
    pub vision: bool,
    /// Whether it finds places on pictures of screens.
    pub pointing: bool,
    /// Whether it can be asked for what stands between two texts.
    pub infill: bool,
    /// The name of the token that begins a text, where the tokenizer has one.
    pub bos_token: Option<String>,
    /// The name of the token that ends one, where the tokenizer has one.
    pub eos_token: Option<String>,
    /// `config.json`, where it came with the model.
    pub config: Option<String>,
}

/// How a text is cut into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutting {
    /// Whether what the tokenizer's makers put around a text, such as a beginning of sequence, is
    /// put there.
    pub add_special: bool,
    /// Whether names of control tokens are control tokens instead of text.
    pub parse_special: bool,
}

/// Text as the models see it. Implemented by `rkllama-engine`.
pub trait Texts: Send + Sync + 'static {
    /// What a model can do. Known at once after the first time, as long as its files stay.
    fn traits(&self, model: Arc<Model>) -> Working<Arc<ModelTraits>>;

    /// A conversation as the model's template writes it.
    fn render(&self, model: Arc<Model>, chat: Chat) -> Working<String>;

    /// The token ids that the model would be given. Fails as a generation would, with
    /// [`EngineError::ContextExceeded`] where they are too many.
    fn prompt_tokens(&self, model: Arc<Model>, prompt: Prompt) -> Working<Vec<i32>>;

    /// How many tokens the model would be given for a request, images and tools among them, whether
    /// or not they fit. Loads a model that is shown images where only its encoder can tell how many tokens
    /// each has.
    fn count_tokens(&self, request: Request) -> Working<u32>;

    /// Whether a chat template, in Jinja, can be used.
    ///
    /// # Errors
    /// In words, with the place of the fault.
    fn check_template(&self, source: &str) -> Result<(), String>;

    /// The token ids of a text.
    fn tokenize(&self, model: Arc<Model>, text: String, cutting: Cutting) -> Working<Vec<i32>>;

    /// The text of token ids, with the names of control tokens in it.
    fn detokenize(&self, model: Arc<Model>, tokens: Vec<i32>) -> Working<String>;
}
