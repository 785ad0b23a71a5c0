//! Models as clients see them.

use poem_openapi::{Enum, Object, types::Example};
use rkllama_core::{LoadState, Model, ModelState, Resident};
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

/// How far a model is from answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ModelStatus {
    /// It is loaded by the first request.
    Unloaded,
    /// It is being loaded; `loading_ms` says since when.
    Loading,
    /// It can answer.
    Loaded,
    /// Something is missing; `problem` says what and what to do.
    Incomplete,
}

/// A model on this server.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example, skip_serializing_if_is_none)]
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
    /// How far it is from answering. No part of OpenAI's API.
    pub status: ModelStatus,
    /// Time since the load began, in milliseconds, where `status` is `loading`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loading_ms: Option<u64>,
    /// What is missing and what to do, where `status` is `incomplete`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl ModelObject {
    /// A model, with what is loaded at the moment.
    pub fn new(model: &Model, residents: &[Resident]) -> Self {
        let resident = residents.iter().find(|resident| resident.model == model.id);
        let (status, loading, problem) = match (&model.state, resident.map(|r| r.state)) {
            (ModelState::Incomplete(reason), _) => {
                (ModelStatus::Incomplete, None, Some(reason.clone()))
            }
            (ModelState::Ready, None) => (ModelStatus::Unloaded, None, None),
            (ModelState::Ready, Some(LoadState::Loading(since))) => {
                (ModelStatus::Loading, Some(since), None)
            }
            (ModelState::Ready, Some(LoadState::Idle | LoadState::Busy)) => {
                (ModelStatus::Loaded, None, None)
            }
        };
        Self {
            loading_ms: loading.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
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
#[oai(example)]
pub struct ModelList {
    /// Always `list`.
    pub object: ModelListObject,
    /// The models, sorted by id.
    pub data: Vec<ModelObject>,
}

impl Example for ModelObject {
    fn example() -> Self {
        Self {
            id: "Qwen3-0.6B".to_owned(),
            object: ModelObjectName::Model,
            created: 1_795_225_178,
            owned_by: "rkllama".to_owned(),
            max_model_len: 4096,
            status: ModelStatus::Loaded,
            loading_ms: None,
            problem: None,
        }
    }
}

impl Example for ModelList {
    fn example() -> Self {
        Self { object: ModelListObject::List, data: vec![ModelObject::example()] }
    }
}
