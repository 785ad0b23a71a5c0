//! Which model a request means.

use std::sync::Arc;

use rkllama_core::{Model, ModelError, ModelState};
use rkllama_http::ApiError;

use crate::{State, failure, refusal::missing};

/// The model and the name under which it answers.
pub(super) fn resolve(
    name: Option<String>,
    state: &State,
) -> Result<(Arc<Model>, String), ApiError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        let model = default_model(state)?;
        let name = model.id.clone();
        return Ok((model, name));
    };
    let model = match (state.models.resolve(&name), &*state.fallback.load()) {
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
fn default_model(state: &State) -> Result<Arc<Model>, ApiError> {
    if let Some(fallback) = &*state.fallback.load() {
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
