//! The models' tokenizers and templates, parsed once and shared. A tokenizer of 150,000 entries
//! takes about a second of CPU: servers that do this on every request spend more time on it than
//! on prefill.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use rkllama_core::{EngineError, Model, ModelError, Models};
use rkllama_text::Codec;
use tokio::{sync::OnceCell, task::spawn_blocking};

type Cell = Arc<OnceCell<Arc<Codec>>>;

/// One [`Codec`] per model.
pub(crate) struct Codecs {
    models: Arc<dyn Models>,
    cells: Mutex<HashMap<String, Cell>>,
}

impl Codecs {
    pub(crate) fn new(models: Arc<dyn Models>) -> Self {
        Self { models, cells: Mutex::default() }
    }

    /// The model's codec; everyone who asks during its first parse waits for that one.
    pub(crate) async fn get(&self, model: &Arc<Model>) -> Result<Arc<Codec>, EngineError> {
        let cell = {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(model.id.clone()).or_default())
        };
        cell.get_or_try_init(|| self.parse(model)).await.cloned()
    }

    async fn parse(&self, model: &Arc<Model>) -> Result<Arc<Codec>, EngineError> {
        let models = Arc::clone(&self.models);
        let id = model.id.clone();
        let model = Arc::clone(model);
        let parsed = spawn_blocking(move || {
            let files = models.text_files(&model)?;
            Codec::new(&files).map_err(|err| ModelError::Incomplete {
                model: model.id.clone(),
                reason: err.to_string(),
            })
        });
        // The parser is other people's code over other people's files: a panic in it is this
        // model's fault alone.
        let codec = parsed.await.map_err(|panic| ModelError::Incomplete {
            model: id,
            reason: format!("tokenizer.json cannot be parsed: {panic}"),
        })??;
        Ok(Arc::new(codec))
    }
}
