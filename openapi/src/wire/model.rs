//! Models as clients see them.

use poem_openapi::{Enum, Object};
use rkllama_core::{Model, ModelState};
use serde::Serialize;

/// Always `model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ModelObjectName {
    /// The only value.
    Model,
}

/// Always `list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ModelListObject {
    /// The only value.
    List,
}

/// Whether a model can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ModelStatus {
    /// Everything is there.
    Ready,
    /// Something is missing; `problem` says what and what to do.
    Incomplete,
}

/// A model on this server.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct ModelObject {
    /// Its name in requests.
    pub id: String,
    /// Always `model`.
    pub object: ModelObjectName,
    /// When its weights were last written, in seconds since 1970.
    pub created: u64,
    /// Always `rkllama`.
    pub owned_by: String,
    /// Tokens its context holds, prompt and answer together. Known from vLLM.
    pub max_model_len: u32,
    /// Whether it can answer. No part of OpenAI's API.
    pub status: ModelStatus,
    /// What is missing and what to do, where `status` is `incomplete`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl From<&Model> for ModelObject {
    fn from(model: &Model) -> Self {
        let (status, problem) = match &model.state {
            ModelState::Ready => (ModelStatus::Ready, None),
            ModelState::Incomplete(reason) => (ModelStatus::Incomplete, Some(reason.clone())),
        };
        Self {
            id: model.id.clone(),
            object: ModelObjectName::Model,
            created: model.created_s,
            owned_by: "rkllama".to_owned(),
            max_model_len: model.context_tokens_max,
            status,
            problem,
        }
    }
}

/// The models on this server.
#[derive(Debug, Clone, Object, Serialize)]
pub struct ModelList {
    /// Always `list`.
    pub object: ModelListObject,
    /// The models, sorted by id.
    pub data: Vec<ModelObject>,
}
