//! Which model a request means.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rkllama_core::{Model, ModelError, ModelState};
use rkllama_http::ApiError;

use crate::{State, failure, refusal::missing};

/// The model that is to answer, and the name under which it does.
pub(super) fn resolve(
    name: Option<String>,
    state: &State,
) -> Result<(Arc<Model>, String), ApiError> {
    resolve_or(name, &state.fallback.chat, state)
}

/// The model that is to read a text into a vector, and the name under which it does.
pub(super) fn resolve_for_embedding(
    name: Option<String>,
    state: &State,
) -> Result<(Arc<Model>, String), ApiError> {
    resolve_or(name, &state.fallback.embed, state)
}

fn resolve_or(
    name: Option<String>,
    fallback: &ArcSwapOption<String>,
    state: &State,
) -> Result<(Arc<Model>, String), ApiError> {
    let fallback = fallback.load();
    let fallback = fallback.as_ref().map(|name| name.as_str());
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        let model = default_model(fallback, state)?;
        let name = model.id.clone();
        return Ok((model, name));
    };
    let model = match (state.models.resolve(&name), fallback) {
        (Err(asked @ ModelError::NotFound { .. }), Some(fallback)) => {
            match state.models.resolve(fallback) {
                // The client knows its own name and not the fallback's.
                Err(ModelError::NotFound { .. }) => Err(asked),
                result => result,
            }
        }
        (result, _) => result,
    };
    Ok((usable(model, state)?, name))
}

/// The model of a request that names none.
fn default_model(fallback: Option<&str>, state: &State) -> Result<Arc<Model>, ApiError> {
    if let Some(fallback) = fallback {
        return usable(state.models.resolve(fallback), state);
    }
    let all = state.models.list();
    let ready = only(all.iter().filter(|model| model.state == ModelState::Ready));
    let model = ready.or_else(|| only(all.iter()));
    usable(Ok(Arc::clone(model.ok_or_else(|| missing("model"))?)), state)
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    items.next().filter(|_| items.next().is_none())
}

/// Says early what the engine would say after a place in the queue.
fn usable(model: Result<Arc<Model>, ModelError>, state: &State) -> Result<Arc<Model>, ApiError> {
    let model = model.map_err(|error| state.explain(failure::model(error)))?;
    match &model.state {
        ModelState::Ready => Ok(model),
        ModelState::Incomplete(reason) => Err(failure::model(ModelError::Incomplete {
            model: model.id.clone(),
            reason: reason.clone(),
        })),
    }
}
