//! The wire types about making, fetching and removing models. `///` comments here are published.

use std::collections::BTreeMap;

use poem_openapi::{Object, types::Example};
use rkllama_http::{JsonObject, document_one_of};
use serde::{Deserialize, Serialize};

/// A model to be fetched.
#[derive(Debug, Clone, Default, Object)]
#[oai(rename = "OllamaPullRequest", example, skip_serializing_if_is_none)]
pub struct PullRequest {
    /// A repository of the Hugging Face hub, such as `org/repo`, with the file behind it where it
    /// holds several models for this chip; `hf.co/` or the page's address in front is fine. Or a
    /// short name, such as `qwen3:1.7b`.
    #[oai(nullable)]
    pub model: Option<String>,
    /// The same, as older clients say it.
    #[oai(nullable)]
    pub name: Option<String>,
    /// What the model is called here. Default: the repository's or the file's name. Ollama does not
    /// have this field.
    #[oai(nullable, rename = "as")]
    pub alias: Option<String>,
    /// The repository to take the tokenizer from. Default: the model's own, else the one it was made
    /// from. Ollama does not have this field.
    #[oai(nullable)]
    pub tokenizer: Option<String>,
    /// Whether the answer comes in lines. Default true.
    #[oai(nullable)]
    pub stream: Option<bool>,
    /// Ignored: the hub is asked as `HF_ENDPOINT` says.
    #[oai(nullable)]
    pub insecure: Option<bool>,
}

impl Example for PullRequest {
    fn example() -> Self {
        Self { model: Some("qwen3:1.7b".to_owned()), ..Self::default() }
    }
}

/// A model to be sent elsewhere, which is refused.
#[derive(Debug, Clone, Default, Object)]
#[oai(rename = "OllamaPushRequest", skip_serializing_if_is_none)]
pub struct PushRequest {
    /// The model's name.
    #[oai(nullable)]
    pub model: Option<String>,
    /// The same, as older clients say it.
    #[oai(nullable)]
    pub name: Option<String>,
    /// Whether the answer comes in lines. Default true.
    #[oai(nullable)]
    pub stream: Option<bool>,
    /// Ignored.
    #[oai(nullable)]
    pub insecure: Option<bool>,
}

/// A text or several.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Licenses {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

document_one_of!(Licenses, "A text, or several.", [String, Vec<String>]);

/// A turn that stands before every conversation.
#[derive(Debug, Clone, Default, Object, Serialize)]
#[oai(rename = "OllamaPresetMessage")]
pub struct PresetMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A model to be made.
#[derive(Debug, Clone, Default, Object)]
#[oai(rename = "OllamaCreateRequest", example, skip_serializing_if_is_none)]
pub struct CreateRequest {
    /// What it is called. A model that is called so is replaced.
    #[oai(nullable)]
    pub model: Option<String>,
    /// The same, as older clients say it.
    #[oai(nullable)]
    pub name: Option<String>,
    /// The model it is made from; one that is not here is pulled.
    #[oai(nullable)]
    pub from: Option<String>,
    /// Files that were sent to `/api/blobs` before: their paths in the model and their digests. One
    /// `.rkllm` file, and the tokenizer's.
    #[oai(nullable)]
    pub files: Option<BTreeMap<String, String>>,
    /// A LoRA adapter that was sent to `/api/blobs` before: its path in the model and its digest. One
    /// `.rkllm` file, which RKLLM-Toolkit makes for these weights; more than one is refused with 400.
    #[oai(nullable)]
    pub adapters: Option<BTreeMap<String, String>>,
    /// A Modelfile, as old scripts send it: what it says counts where the other fields say nothing.
    #[oai(nullable)]
    pub modelfile: Option<String>,
    /// The chat template, in Jinja; or in Go's language, which then counts on `/api/generate` and
    /// `/api/chat` alone.
    #[oai(nullable)]
    pub template: Option<String>,
    /// Licences, besides those of `from`.
    #[oai(nullable)]
    pub license: Option<Licenses>,
    /// What the model is told before everything else.
    #[oai(nullable)]
    pub system: Option<String>,
    /// Sampling and limits, as in `options` of `/api/chat`, where a request does not say them.
    /// `num_ctx` is the context to load with. Others are kept and have no effect.
    #[oai(nullable)]
    pub parameters: Option<JsonObject>,
    /// What the model is made for: `language`, `embed` or `reranker`. Default: as `from` says. Ollama
    /// does not have this field.
    #[oai(nullable)]
    pub model_type: Option<String>,
    /// Turns that stand before every conversation.
    #[oai(nullable)]
    pub messages: Option<Vec<PresetMessage>>,
    /// Refused with 400: RKLLM-Toolkit quantizes.
    #[oai(nullable)]
    pub quantize: Option<String>,
    /// Whether the answer comes in lines. Default true.
    #[oai(nullable)]
    pub stream: Option<bool>,
}

impl Example for CreateRequest {
    fn example() -> Self {
        Self {
            model: Some("mario".to_owned()),
            from: Some("demo".to_owned()),
            system: Some("You are Mario from Super Mario Bros.".to_owned()),
            ..Self::default()
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Default, Object, Serialize)]
#[oai(rename = "OllamaProgress", skip_serializing_if_is_none)]
pub struct Progress {
    /// What is being done; the last is `success`.
    pub status: String,
    /// The file's digest, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The file's name, where one is on its way. Ollama does not have this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its size, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Bytes of it that are here; absent while there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<u64>,
}

/// A model to be copied.
#[derive(Debug, Clone, Default, Object)]
#[oai(rename = "OllamaCopyRequest", example, skip_serializing_if_is_none)]
pub struct CopyRequest {
    /// The model.
    #[oai(nullable)]
    pub source: Option<String>,
    /// What the copy is called. A model that is called so is replaced.
    #[oai(nullable)]
    pub destination: Option<String>,
}

impl Example for CopyRequest {
    fn example() -> Self {
        Self { source: Some("demo".to_owned()), destination: Some("demo-copy".to_owned()) }
    }
}

/// A model to be removed.
#[derive(Debug, Clone, Default, Object)]
#[oai(rename = "OllamaDeleteRequest", example, skip_serializing_if_is_none)]
pub struct DeleteRequest {
    /// The model.
    #[oai(nullable)]
    pub model: Option<String>,
    /// The same, as older clients say it.
    #[oai(nullable)]
    pub name: Option<String>,
}

impl Example for DeleteRequest {
    fn example() -> Self {
        Self { model: Some("demo-copy".to_owned()), name: None }
    }
}
