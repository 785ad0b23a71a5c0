//! The models' tokenizers and templates, parsed once and shared. A tokenizer of 150,000 entries
//! takes about a second of CPU: servers that do this on every request spend more time on it than
//! on prefill.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use rkllama_core::{EngineError, Model, ModelError, ModelState, ModelTraits, Models, Problem};
use rkllama_text::Codec;
use tokio::{sync::OnceCell, task::spawn_blocking};

use crate::kv::Prefixes;

/// A parsed codec, or why there is none: files that cannot be parsed are not parsed again while
/// they stay as they are.
type Parsed = Result<Arc<Codec>, ModelError>;

/// One [`Codec`] per model.
pub(crate) struct Codecs {
    models: Arc<dyn Models>,
    entries: Mutex<HashMap<String, Entry>>,
}

/// The codec of a model's files as they were when this very record of it was made.
struct Entry {
    model: Arc<Model>,
    cell: Arc<OnceCell<Parsed>>,
    /// What is wrong with files that were parsed and forgotten.
    warnings: Vec<String>,
    /// What its conversations have in common.
    prefixes: Arc<Prefixes>,
    /// What the model can do, once somebody has asked. Stays when the codec is forgotten.
    traits: Arc<OnceCell<Arc<ModelTraits>>>,
}

impl Codecs {
    pub(crate) fn new(models: Arc<dyn Models>) -> Self {
        Self { models, entries: Mutex::default() }
    }

    /// The model's codec; everyone who asks during its first parse waits for that one.
    pub(crate) async fn get(&self, model: &Arc<Model>) -> Result<Arc<Codec>, EngineError> {
        let parsed = self.cell(model).get_or_try_init(|| self.parse(model)).await.cloned()?;
        Ok(parsed?)
    }

    /// What the model can do; read from its files once.
    pub(crate) async fn traits(&self, model: &Arc<Model>) -> Result<Arc<ModelTraits>, EngineError> {
        let cell = self.cell(model);
        let known = {
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.get(&model.id).map(|entry| Arc::clone(&entry.traits)).unwrap_or_default()
        };
        let traits = known.get_or_try_init(|| async {
            let codec = cell.get_or_try_init(|| self.parse(model)).await.cloned()??;
            let (models, record) = (Arc::clone(&self.models), Arc::clone(model));
            let config = spawn_blocking(move || models.text_files(&record)).await;
            let config = config.ok().and_then(Result::ok).and_then(|files| files.config);
            Ok::<_, EngineError>(Arc::new(ModelTraits {
                template: codec.template_source().to_owned(),
                tools: codec.capabilities().tools,
                thinking: codec.capabilities().reasoning(),
                tool_format: codec.capabilities().tool_format.to_string(),
                reasoning_format: codec.capabilities().reasoning_format.to_string(),
                vision: model.vision.is_some(),
                pointing: model.vision.as_ref().is_some_and(|it| it.pointer_head.is_some()),
                infill: codec.can_infill(),
                bos_token: codec.named_token("bos_token").map(str::to_owned),
                eos_token: codec.named_token("eos_token").map(str::to_owned),
                config: config.and_then(|bytes| String::from_utf8(bytes).ok()),
            }))
        });
        traits.await.cloned()
    }

    /// Lets go of a codec that nobody needs while its model is not loaded: it is parsed again in less
    /// time than the model takes to load. Requests that still use it keep it for themselves.
    pub(crate) fn forget(&self, model: &Model) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get_mut(&model.id).filter(|entry| *entry.model == *model);
        if let Some(entry) = entry
            && let Some(Ok(codec)) = entry.cell.get()
        {
            entry.warnings = codec.warnings().to_vec();
            entry.cell = Arc::default();
        }
    }

    /// What is known of the beginnings of this model's prompts.
    pub(crate) fn prefixes(&self, model: &Model) -> Arc<Prefixes> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(&model.id).map_or_else(Arc::default, |entry| Arc::clone(&entry.prefixes))
    }

    /// The models that can be run, sorted by id.
    pub(crate) fn ready(&self) -> impl Iterator<Item = Arc<Model>> {
        self.models.list().into_iter().filter(|model| model.state == ModelState::Ready)
    }

    /// What is wrong with models: those that are incomplete, and those whose files about text
    /// turned out to be.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut problems = Vec::new();
        for model in self.models.list() {
            let mut problem =
                |detail: String| problems.push(Problem { subject: model.id.clone(), detail });
            if let ModelState::Incomplete(reason) = &model.state {
                problem(reason.clone());
                continue;
            }
            let entry = entries.get(&model.id).filter(|entry| Arc::ptr_eq(&entry.model, &model));
            match entry.and_then(|entry| entry.cell.get()) {
                Some(Ok(codec)) => codec.warnings().iter().cloned().for_each(problem),
                Some(Err(ModelError::Incomplete { reason, .. })) => problem(reason.clone()),
                Some(Err(err)) => problem(err.to_string()),
                None => {
                    let warnings = entry.map(|entry| entry.warnings.as_slice());
                    warnings.unwrap_or_default().iter().cloned().for_each(problem);
                }
            }
        }
        problems
    }

    /// The place of this record's codec, in place of an older record's.
    fn cell(&self, model: &Arc<Model>) -> Arc<OnceCell<Parsed>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(&model.id)
            && Arc::ptr_eq(&entry.model, model)
        {
            return Arc::clone(&entry.cell);
        }
        // A codec is up to 250 MB: none stays behind its model.
        let listed = self.models.list();
        entries.retain(|id, _| listed.iter().any(|model| model.id == *id));
        let cell = Arc::default();
        let prefixes = Arc::default();
        let (model_of, warnings) = (Arc::clone(model), Vec::new());
        let traits = Arc::default();
        let entry = Entry { model: model_of, cell: Arc::clone(&cell), warnings, prefixes, traits };
        entries.insert(model.id.clone(), entry);
        cell
    }

    /// `Err` for what may be otherwise in a moment and is not remembered.
    async fn parse(&self, model: &Arc<Model>) -> Result<Parsed, EngineError> {
        let models = Arc::clone(&self.models);
        let record = Arc::clone(model);
        let incomplete =
            |reason: String| ModelError::Incomplete { model: model.id.clone(), reason };
        let parsed = spawn_blocking(move || {
            let files = models.text_files(&record)?;
            Ok::<_, ModelError>(Codec::new(&files))
        });
        // The parser is other people's code over other people's files: a panic in it is this
        // model's fault alone.
        let parsed = match parsed.await {
            Ok(parsed) => parsed?.map_err(|err| incomplete(err.to_string())),
            Err(panic) => Err(incomplete(format!("tokenizer.json cannot be parsed: {panic}"))),
        };
        match &parsed {
            Ok(codec) => {
                for warning in codec.warnings() {
                    tracing::warn!(model = model.id, "{warning}");
                }
            }
            Err(err) => tracing::warn!(model = model.id, %err, "a model's files cannot be used"),
        }
        Ok(parsed.map(Arc::new))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use rkllama_core::{Sampling, TextFiles};

    use super::*;

    /// One model, whose files are counted when they are read.
    struct OneModel {
        model: Mutex<Arc<Model>>,
        tokenizer: Mutex<String>,
        reads: AtomicUsize,
    }

    impl OneModel {
        fn new(state: ModelState, tokenizer: &str) -> Arc<Self> {
            Arc::new(Self {
                model: Mutex::new(Arc::new(record(state))),
                tokenizer: Mutex::new(tokenizer.to_owned()),
                reads: AtomicUsize::new(0),
            })
        }

        /// As after a rescan that found other files.
        fn repair(&self) -> Arc<Model> {
            *self.tokenizer.lock().unwrap() = DEMO_TOKENIZER.to_owned();
            *self.model.lock().unwrap() = Arc::new(record(ModelState::Ready));
            self.model()
        }

        fn model(&self) -> Arc<Model> {
            Arc::clone(&self.model.lock().unwrap())
        }

        fn reads(&self) -> usize {
            self.reads.load(Ordering::Relaxed)
        }
    }

    const DEMO_TOKENIZER: &str = r#"{"version": "1.0", "added_tokens": [
        {"id": 0, "content": "<|im_start|>", "special": true, "normalized": false,
         "single_word": false, "lstrip": false, "rstrip": false},
        {"id": 1, "content": "<|im_end|>", "special": true, "normalized": false,
         "single_word": false, "lstrip": false, "rstrip": false}],
        "model": {"type": "BPE", "vocab": {}, "merges": []}}"#;

    fn record(state: ModelState) -> Model {
        Model {
            id: "m".to_owned(),
            created_s: 0,
            weights: PathBuf::new(),
            weights_bytes: 0,
            memory_bytes: None,
            context_tokens_max: 4096,
            sampling: Sampling::default(),
            tokens_max: None,
            runtime: None,
            pooling: None,
            reranks: None,
            query_instruction: None,
            vision: None,
            adapter: None,
            presets: rkllama_core::Presets::default(),
            state,
        }
    }

    impl Models for OneModel {
        fn list(&self) -> Vec<Arc<Model>> {
            vec![self.model()]
        }

        fn resolve(&self, _: &str) -> Result<Arc<Model>, ModelError> {
            Ok(self.model())
        }

        fn text_files(&self, _: &Model) -> Result<TextFiles, ModelError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let tokenizer = self.tokenizer.lock().unwrap().clone().into_bytes();
            Ok(TextFiles { tokenizer, ..TextFiles::default() })
        }
    }

    #[tokio::test]
    async fn broken_files_are_read_once_and_again_when_they_are_others() {
        let one = OneModel::new(ModelState::Ready, "{");
        let codecs = Codecs::new(Arc::clone(&one) as Arc<dyn Models>);
        assert_eq!(codecs.problems(), []);
        for _ in 0..2 {
            let err = codecs.get(&one.model()).await.unwrap_err();
            assert!(err.to_string().contains("tokenizer.json"), "{err}");
        }
        assert_eq!(one.reads(), 1);
        assert_eq!(codecs.problems().len(), 1);
        assert_eq!(codecs.problems()[0].subject, "m");

        let repaired = one.repair();
        assert_eq!(codecs.problems(), [], "what was wrong with the old files");
        codecs.get(&repaired).await.unwrap();
        codecs.get(&repaired).await.unwrap();
        assert_eq!(one.reads(), 2);
        assert_eq!(codecs.problems(), []);
    }

    #[tokio::test]
    async fn what_is_forgotten_is_freed_and_parsed_again_when_it_is_needed() {
        let one = OneModel::new(ModelState::Ready, DEMO_TOKENIZER);
        let codecs = Codecs::new(Arc::clone(&one) as Arc<dyn Models>);
        let (model, first) = (one.model(), codecs.get(&one.model()).await.unwrap());
        let warnings = codecs.problems();
        codecs.forget(&model);
        assert_eq!(Arc::strong_count(&first), 1, "whoever uses it has it alone");
        assert_eq!(codecs.problems(), warnings, "what was wrong is wrong still");
        codecs.get(&model).await.unwrap();
        assert_eq!(one.reads(), 2);
    }

    #[test]
    fn an_incomplete_model_is_a_problem() {
        let one = OneModel::new(ModelState::Incomplete("no tokenizer".to_owned()), "");
        let codecs = Codecs::new(one as Arc<dyn Models>);
        let expected = Problem { subject: "m".to_owned(), detail: "no tokenizer".to_owned() };
        assert_eq!(codecs.problems(), [expected]);
    }
}
