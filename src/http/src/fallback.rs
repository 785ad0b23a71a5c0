//! Which model a request means: the one it names, else one that answers for it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rkllama_core::{Model, ModelError, ModelState, Models};

/// Models by what is asked of them, each for names nobody knows and for requests without one. May
/// change while the server runs.
#[derive(Debug, Default)]
pub struct Fallbacks {
    /// For answers.
    pub chat: ArcSwapOption<String>,
    /// For embeddings.
    pub embed: ArcSwapOption<String>,
    /// For comparing documents with queries.
    pub rerank: ArcSwapOption<String>,
}

/// No model answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unresolved {
    /// It names none, and which would answer is not clear.
    Unnamed,
    /// The one that is meant cannot be had.
    Model(ModelError),
}

impl Fallbacks {
    /// The model that is to answer; it is ready.
    ///
    /// # Errors
    /// [`Unresolved`], for a model that is incomplete too.
    pub fn for_answers(
        &self,
        name: Option<&str>,
        models: &dyn Models,
    ) -> Result<Arc<Model>, Unresolved> {
        resolve(name, &self.chat, models)
    }

    /// The model that is to read texts into vectors; it is ready.
    ///
    /// # Errors
    /// [`Unresolved`], for a model that is incomplete too.
    pub fn for_embeddings(
        &self,
        name: Option<&str>,
        models: &dyn Models,
    ) -> Result<Arc<Model>, Unresolved> {
        resolve(name, &self.embed, models)
    }

    /// The model that is to compare documents with queries; it is ready. A request that names none means
    /// the only one that is made for it.
    ///
    /// # Errors
    /// [`Unresolved`], for a model that is incomplete too.
    pub fn for_reranking(
        &self,
        name: Option<&str>,
        models: &dyn Models,
    ) -> Result<Arc<Model>, Unresolved> {
        let is_unnamed = name.is_none_or(str::is_empty);
        if is_unnamed && self.rerank.load().is_none() {
            let all = models.list();
            if let Some(only) = only(all.iter().filter(|model| model.reranks.is_some())) {
                return usable(Ok(Arc::clone(only)));
            }
        }
        resolve(name, &self.rerank, models)
    }

    /// The model that is to find places on pictures; it is ready. A request that names none means the only
    /// one that is made for it; none answers for names nobody knows, since no client has one baked in.
    ///
    /// # Errors
    /// [`Unresolved`], for a model that is incomplete too.
    pub fn for_pointing(
        &self,
        name: Option<&str>,
        models: &dyn Models,
    ) -> Result<Arc<Model>, Unresolved> {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            return usable(models.resolve(name));
        }
        let points = |model: &&Arc<Model>| {
            model.vision.as_ref().is_some_and(|vision| vision.pointer_head.is_some())
        };
        let all = models.list();
        let only = only(all.iter().filter(points)).cloned().ok_or(Unresolved::Unnamed)?;
        usable(Ok(only))
    }
}

fn resolve(
    name: Option<&str>,
    fallback: &ArcSwapOption<String>,
    models: &dyn Models,
) -> Result<Arc<Model>, Unresolved> {
    let fallback = fallback.load();
    let fallback = fallback.as_ref().map(|name| name.as_str());
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return default_model(fallback, models);
    };
    usable(match (models.resolve(name), fallback) {
        (Err(asked @ ModelError::NotFound { .. }), Some(fallback)) => {
            match models.resolve(fallback) {
                // The client knows its own name and not the fallback's.
                Err(ModelError::NotFound { .. }) => Err(asked),
                result => result,
            }
        }
        (result, _) => result,
    })
}

/// The model of a request that names none.
fn default_model(fallback: Option<&str>, models: &dyn Models) -> Result<Arc<Model>, Unresolved> {
    if let Some(fallback) = fallback {
        return usable(models.resolve(fallback));
    }
    let all = models.list();
    let ready = only(all.iter().filter(|model| model.state == ModelState::Ready));
    let model = ready.or_else(|| only(all.iter()));
    usable(Ok(Arc::clone(model.ok_or(Unresolved::Unnamed)?)))
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    items.next().filter(|_| items.next().is_none())
}

/// Says early what the engine would say after a place in the queue.
fn usable(model: Result<Arc<Model>, ModelError>) -> Result<Arc<Model>, Unresolved> {
    let model = model.map_err(Unresolved::Model)?;
    match &model.state {
        ModelState::Ready => Ok(model),
        ModelState::Incomplete(reason) => Err(Unresolved::Model(ModelError::Incomplete {
            model: model.id.clone(),
            reason: reason.clone(),
        })),
    }
}
