//! Which model a request means.

use std::sync::Arc;

use rkllama_core::Model;
use rkllama_http::{ApiError, Unresolved};

use crate::{State, failure, refusal::missing};

/// The model that is to answer, and the name under which it does.
pub(super) fn resolve(
    name: Option<String>,
    state: &State,
) -> Result<(Arc<Model>, String), ApiError> {
    let model = state.fallback.for_answers(name.as_deref(), &*state.models);
    named(model, name, state)
}

/// The model that is to read a text into a vector, and the name under which it does.
pub(super) fn resolve_for_embedding(
    name: Option<String>,
    state: &State,
) -> Result<(Arc<Model>, String), ApiError> {
    let model = state.fallback.for_embeddings(name.as_deref(), &*state.models);
    named(model, name, state)
}

/// The model that is to find a place on a picture, and the name under which it does.
pub(super) fn resolve_for_pointing(
    name: Option<String>,
    state: &State,
) -> Result<(Arc<Model>, String), ApiError> {
    let model = state.fallback.for_pointing(name.as_deref(), &*state.models);
    named(model, name, state)
}

fn named(
    model: Result<Arc<Model>, Unresolved>,
    name: Option<String>,
    state: &State,
) -> Result<(Arc<Model>, String), ApiError> {
    let model = model.map_err(|unresolved| match unresolved {
        Unresolved::Unnamed => missing("model"),
        Unresolved::Model(error) => state.explain(failure::model(error)),
    })?;
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| model.id.clone());
    Ok((model, name))
}
