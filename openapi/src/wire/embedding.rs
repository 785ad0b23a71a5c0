//! The request for embeddings, and its answer.

use poem_openapi::{Enum, Object, registry::MetaSchema, types::Example};
use rkllama_http::{document_one_of, read_from_object, read_from_string};
use serde::{Deserialize, Serialize};

use super::{CompletionPrompt, KeepAlive, Nullable};

/// Inputs of one request: OpenAI's own number.
pub const EMBEDDING_INPUTS_MAX: usize = 2048;

/// Texts to be read into vectors that are near where the texts mean something alike.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(example, skip_serializing_if_is_none)]
pub struct EmbeddingRequest {
    /// The model, by its id in `GET /v1/models`. Where absent: the server's fallback, else the
    /// only model there is. A model that is made for embeddings has `pooling` in its manifest.
    #[oai(nullable)]
    pub model: Option<String>,
    /// What to read.
    pub input: EmbeddingInput,
    /// How vectors are written. Default `float`.
    pub encoding_format: Option<Nullable<EncodingFormat>>,
    /// How many numbers of each vector are wanted: the first ones, brought to length 1 again. Of a
    /// model that is not trained for it they say less. More than the model has are refused with
    /// 400. Default: all.
    #[oai(nullable, validator(minimum(value = "1")))]
    pub dimensions: Option<i64>,
    /// What the inputs are: models that tell queries from documents read a query with an instruction
    /// in front, which their manifest may say (`query_instruction`). Token ids stay as they are.
    /// Default: documents. Known from Cohere, Voyage and NVIDIA.
    pub input_type: Option<Nullable<InputType>>,
    /// Whether an input that is longer than the context loses its end instead of being refused
    /// with 400. Default false. Known from Ollama.
    #[oai(nullable)]
    pub truncate: Option<bool>,
    /// How long the model stays loaded afterwards: seconds, or a text such as `"5m"`; 0 unloads it
    /// at once, a negative number keeps it. Known from Ollama.
    pub keep_alive: Option<Nullable<KeepAlive>>,
    /// Ignored and named: an id of the person who asks.
    #[oai(nullable)]
    pub user: Option<String>,
}

impl Example for EmbeddingRequest {
    fn example() -> Self {
        let text = "An NPU is a processor made for neural networks.".to_owned();
        Self {
            model: Some("Qwen3-Embedding-0.6B".to_owned()),
            input: EmbeddingInput(CompletionPrompt::Text(text)),
            ..Self::default()
        }
    }
}

/// What to read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EmbeddingInput(pub CompletionPrompt);

/// At least one input, and not too many.
fn input_bounds() -> MetaSchema {
    MetaSchema { min_items: Some(1), max_items: Some(EMBEDDING_INPUTS_MAX), ..MetaSchema::ANY }
}

/// At least one token.
fn token_bounds() -> MetaSchema {
    MetaSchema { min_items: Some(1), ..MetaSchema::ANY }
}

/// At least one character.
fn text_bounds() -> MetaSchema {
    MetaSchema { min_length: Some(1), ..MetaSchema::ANY }
}

document_one_of!(
    EmbeddingInput,
    "A text, an array of at most 2048 texts, an array of token ids, or an array of at most 2048 \
     such arrays. None may be empty. Names of control tokens in a text are text.",
    [
        String: text_bounds(),
        Vec<String>: input_bounds(),
        Vec<i32>: token_bounds(),
        Vec<Vec<i32>>: input_bounds()
    ]
);

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase", remote = "Self")]
pub enum EncodingFormat {
    /// As JSON numbers.
    Float,
    /// As the base64 of the numbers as f32, little-endian.
    Base64,
}

/// What inputs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum InputType {
    /// Questions to be answered by documents.
    Query,
    /// As `query`.
    SearchQuery,
    /// Texts to be found.
    Document,
    /// As `document`.
    SearchDocument,
    /// As `document`.
    Passage,
}

impl InputType {
    pub(crate) const fn is_query(self) -> bool {
        matches!(self, Self::Query | Self::SearchQuery)
    }
}

/// Always `list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum EmbeddingListObject {
    /// The only value.
    List,
}

/// Always `embedding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum EmbeddingObjectName {
    /// The only value.
    Embedding,
}

/// Vectors.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example)]
pub struct EmbeddingList {
    /// Always `list`.
    pub object: EmbeddingListObject,
    /// One for each input, in their order.
    pub data: Vec<EmbeddingObject>,
    /// The model's name as the request gave it.
    pub model: String,
    /// Token counts of all inputs together.
    pub usage: EmbeddingUsage,
}

/// The vector of an input.
#[derive(Debug, Clone, Object, Serialize)]
pub struct EmbeddingObject {
    /// Always `embedding`.
    pub object: EmbeddingObjectName,
    /// The input's place.
    pub index: u32,
    /// The vector, of length 1.
    pub embedding: EmbeddingVector,
}

/// A vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EmbeddingVector {
    /// Its numbers.
    Numbers(Vec<f32>),
    /// The base64 of them.
    Base64(String),
}

document_one_of!(
    EmbeddingVector,
    "The numbers; with `encoding_format: base64` the base64 of them as f32, little-endian.",
    [Vec<f32>, String]
);

/// Token counts.
#[derive(Debug, Clone, Copy, Object, Serialize)]
pub struct EmbeddingUsage {
    /// Tokens that were read, those that the tokenizer adds included.
    pub prompt_tokens: u32,
    /// The same: nothing is generated.
    pub total_tokens: u32,
}

impl Example for EmbeddingList {
    fn example() -> Self {
        Self {
            object: EmbeddingListObject::List,
            data: vec![EmbeddingObject {
                object: EmbeddingObjectName::Embedding,
                index: 0,
                embedding: EmbeddingVector::Numbers(vec![0.6, -0.8]),
            }],
            model: "Qwen3-Embedding-0.6B".to_owned(),
            usage: EmbeddingUsage { prompt_tokens: 12, total_tokens: 12 },
        }
    }
}

read_from_object!(EmbeddingRequest);
read_from_string!(EncodingFormat, InputType);
