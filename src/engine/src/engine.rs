//! The engine: a slot per model, and the way in.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rkllama_core::{
    EmbedRequest, Embeddings, Engine, EngineError, Generation, KeepAlive, Model, ModelRuntime,
    Models, Observer, PointRequest, Pointing, Problem, Relevances, Request, RerankRequest,
    Resident, Sampling, Working,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    codecs::Codecs,
    config::EngineConfig,
    embedding, generation,
    kv::{SavedPrompts, SavedPromptsConfig},
    pointing,
    queue::{Job, Queue, Refusal, Reply, Ticket, TotalWaiting},
    rerank,
    residency::Residency,
    runtimes::{Doubt, Runtimes},
    slot::{Door, Shared, Slot, abandoned},
};

/// Who preloads models, among those who take turns.
const OPERATOR: &str = "operator";

/// Answers conversations with the vendor's runtime, in worker processes.
///
/// Must be used inside a tokio runtime. Clones share everything.
#[derive(Clone)]
pub struct NpuEngine {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) codecs: Arc<Codecs>,
    config: watch::Sender<Arc<EngineConfig>>,
    is_draining: AtomicBool,
    shared: Shared,
    doors: Mutex<BTreeMap<String, Opened>>,
    waiting: Arc<TotalWaiting>,
    /// A permit for each prompt that is rendered and tokenized.
    pub(crate) encodings: Arc<Semaphore>,
    /// Contexts that turned out smaller than the models' records say, when they were loaded.
    contexts: Mutex<BTreeMap<String, (Arc<Model>, u32)>>,
    tasks: TaskTracker,
}

/// A model whose task runs.
pub(crate) struct Opened {
    model: Arc<Model>,
    door: Arc<Door>,
}

impl Opened {
    /// Whether the model is in a worker, or on its way there.
    pub(crate) fn is_resident(&self) -> bool {
        self.door.resident(&self.model).is_some()
    }
}

impl NpuEngine {
    /// An engine over these models and these runtimes, which tells `observer` what it does. Starts
    /// nothing yet.
    pub fn new(
        config: EngineConfig,
        models: Arc<dyn Models>,
        runtimes: Arc<dyn Runtimes>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let waiting = Arc::new(TotalWaiting::new(config.queue_len_total_max));
        let saved =
            config.saved_prompts.clone().and_then(|of| open_saved_prompts(of).map(Arc::new));
        let residency = Residency::new(config.memory.clone(), config.pinned.clone());
        let (config, seen) = watch::channel(Arc::new(config));
        let codecs = Arc::new(Codecs::new(models));
        let shared = Shared {
            codecs: Arc::clone(&codecs),
            residency: Arc::new(residency),
            config: seen,
            runtimes,
            observer,
            load_lock: Arc::default(),
            saved,
            stop: CancellationToken::new(),
        };
        let inner = Inner {
            codecs,
            config,
            is_draining: AtomicBool::new(false),
            shared,
            doors: Mutex::default(),
            waiting,
            encodings: Arc::new(Semaphore::new(generation::ENCODINGS_MAX)),
            contexts: Mutex::default(),
            tasks: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Goes on under another configuration, of which all but the way to start workers counts.
    ///
    /// What runs goes on under the limits with which it began, what waits stays in its place. Models
    /// for which there is no room any more leave after their answer; models that are pinned now
    /// are not loaded by this.
    pub fn reconfigure(&self, config: EngineConfig) {
        let inner = &self.inner;
        inner.waiting.set_len_max(config.queue_len_total_max);
        inner.shared.residency.reconfigure(config.memory.clone(), config.pinned.clone());
        let queue_len_max = config.queue_len_max;
        inner.config.send_replace(Arc::new(config));
        let doors = inner.doors();
        for opened in doors.values() {
            opened.door.queue.set_len_max(queue_len_max);
        }
    }

    /// Loads a model before anybody asks for it. How long it stays is the configuration's to say.
    ///
    /// # Errors
    /// What a request for this model would get.
    pub async fn preload(&self, model: &Arc<Model>) -> Result<(), EngineError> {
        self.load_for(model, None, OPERATOR.into()).await
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) async fn load_for(
        &self,
        model: &Arc<Model>,
        keep_alive: Option<KeepAlive>,
        client: Arc<str>,
    ) -> Result<(), EngineError> {
        generation::check(&self.inner, model)?;
        let (reply, mut replies) = mpsc::channel(1);
        let job = Job {
            tokens: Vec::new(),
            pictured: None,
            shared_prefix: None,
            sampling: Sampling::default(),
            tokens_max: None,
            stop_tokens: Vec::new(),
            reading: None,
            steering: None,
            keep_alive,
            client,
            reply,
        };
        let _waiting = self.inner.admit(model, job)?;
        match replies.recv().await {
            Some(Reply::Failed(error)) => Err(error),
            Some(_) => Ok(()),
            None => Err(self.inner.gone(model)),
        }
    }

    /// Takes no more requests. Those that wait or run go on.
    pub fn drain(&self) {
        self.inner.is_draining.store(true, Ordering::Relaxed);
    }

    /// Ends all generations with an error, frees the NPU and ends the workers. Returns when the
    /// last one is gone; the engine refuses everything afterwards.
    pub async fn shut_down(&self) {
        self.inner.shared.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Engine for NpuEngine {
    fn generate(&self, request: Request) -> Generation {
        generation::start(Arc::clone(&self.inner), request)
    }

    fn embed(&self, request: EmbedRequest) -> Embeddings {
        embedding::start(Arc::clone(&self.inner), request)
    }

    fn rerank(&self, request: RerankRequest) -> Relevances {
        rerank::start(Arc::clone(&self.inner), request)
    }

    fn point(&self, request: PointRequest) -> Pointing {
        pointing::start(Arc::clone(&self.inner), request)
    }

    fn load(
        &self,
        model: Arc<Model>,
        keep_alive: Option<KeepAlive>,
        client: Arc<str>,
    ) -> Working<()> {
        let engine = self.clone();
        Box::pin(async move { engine.load_for(&model, keep_alive, client).await })
    }

    fn unload(&self, model: &Model) {
        if let Some(opened) = self.inner.doors().get(&model.id) {
            opened.door.unload();
        }
    }

    fn check(&self, model: &Model) -> Result<(), EngineError> {
        generation::check(&self.inner, model).map(drop)
    }

    fn residents(&self) -> Vec<Resident> {
        let doors = self.inner.doors();
        doors.values().filter_map(|opened| opened.door.resident(&opened.model)).collect()
    }

    fn runtimes(&self) -> Vec<ModelRuntime> {
        let runtime = |model: Arc<Model>| {
            let choice = self.inner.runtimes().choose(&model).ok()?.into_iter().next()?;
            Some(ModelRuntime {
                model: model.id.clone(),
                warning: choice.doubt.as_ref().map(|doubt| doubt.words().clone()),
                version: choice.version,
                path: choice.path,
                reason: choice.why,
            })
        };
        self.inner.codecs.ready().filter_map(runtime).collect()
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.inner.shared.runtimes.problems();
        problems.extend(self.inner.codecs.problems());
        self.inner.add_unfit(&mut problems);
        let doors = self.inner.doors();
        problems.extend(doors.values().filter_map(|opened| {
            let detail = opened.door.problem()?;
            Some(Problem { subject: opened.model.id.clone(), detail })
        }));
        problems
    }
}

impl Inner {
    pub(crate) fn config(&self) -> Arc<EngineConfig> {
        self.shared.config()
    }

    pub(crate) fn doors(&self) -> MutexGuard<'_, BTreeMap<String, Opened>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.shared.observer)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed) || self.shared.stop.is_cancelled()
    }

    pub(crate) fn runtimes(&self) -> &dyn Runtimes {
        &*self.shared.runtimes
    }

    /// Adds the models for which there is no runtime, or none that goes with them.
    fn add_unfit(&self, problems: &mut Vec<Problem>) {
        for model in self.codecs.ready() {
            let detail = match self.runtimes().choose(&model) {
                Ok(choices) => match choices.into_iter().next().and_then(|choice| choice.doubt) {
                    Some(Doubt::Wrong(words)) => words,
                    Some(Doubt::Mended(_)) | None => continue,
                },
                // That there is none at all has been said once.
                Err(error) if problems.iter().any(|it| it.detail == error.to_string()) => continue,
                Err(error) => error.to_string(),
            };
            problems.push(Problem { subject: model.id.clone(), detail });
        }
    }

    /// The model's context in tokens, as far as it is known.
    pub(crate) fn context_tokens_max(&self, model: &Model) -> u32 {
        let contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        match contexts.get(&model.id) {
            Some((of, clamped)) if **of == *model => model.context_tokens_max.min(*clamped),
            _ => model.context_tokens_max,
        }
    }

    /// Tokens of an image: as the model's encoder makes them, else as its record says.
    pub(crate) fn image_tokens(&self, model: &Model) -> Option<u32> {
        let doors = self.doors();
        let opened = doors.get(&model.id).filter(|opened| *opened.model == *model);
        let made = opened.and_then(|opened| opened.door.image_tokens());
        made.or(model.vision.as_ref()?.image_tokens)
    }

    /// Tokens from which a beginning of a prompt may be kept on disk.
    pub(crate) fn prefix_tokens_min(&self) -> Option<usize> {
        self.shared.saved.as_ref().map(|saved| saved.tokens_min())
    }

    /// Remembers that the runtime gave this model a smaller context, so that the next prompt that
    /// does not fit is refused before it waits for its turn.
    pub(crate) fn clamped(&self, model: &Arc<Model>, context_tokens_max: u32) {
        if context_tokens_max < model.context_tokens_max {
            let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
            contexts.insert(model.id.clone(), (Arc::clone(model), context_tokens_max));
        }
    }

    /// Puts a job into the model's queue; the first one starts the model's task. Returns how many
    /// stand before it, if nobody overtakes.
    pub(crate) fn admit(
        &self,
        model: &Arc<Model>,
        job: Job,
    ) -> Result<(Ticket, usize), EngineError> {
        let ticket = self.waiting.enter(job.goes_on()).map_err(|waiting| {
            EngineError::QueueFull { what: "this server".to_owned(), waiting }
        })?;
        if self.is_stopping() {
            return Err(EngineError::ShuttingDown);
        }
        // Held until the job is in: a door that is retired meanwhile would end before it.
        let mut doors = self.doors();
        match self.door(&mut doors, model).queue.admit(job) {
            Ok(before) => {
                tracing::debug!(model = model.id, before, "a request waits for its model");
                Ok((ticket, before))
            }
            Err(Refusal::Full(waiting)) => {
                Err(EngineError::QueueFull { what: format!("model '{}'", model.id), waiting })
            }
            Err(Refusal::Closed) => Err(self.gone(model)),
        }
    }

    /// The door of the task that serves this very record of the model, which is started if there is
    /// none.
    fn door(&self, doors: &mut BTreeMap<String, Opened>, model: &Arc<Model>) -> Arc<Door> {
        if let Some(opened) = doors.get(&model.id) {
            if opened.door.queue.is_closed() {
                tracing::info!(model = model.id, "the model's task has ended; starting another");
            } else if *opened.model == **model {
                return Arc::clone(&opened.door);
            } else {
                // Its files or settings are others now. Who waits there still gets an answer.
                tracing::info!(model = model.id, "the model has changed");
                opened.door.retire();
            }
        }
        let opened = self.open(model);
        let door = Arc::clone(&opened.door);
        doors.insert(model.id.clone(), opened);
        door
    }

    /// Why a job's reply never came.
    pub(crate) fn gone(&self, model: &Model) -> EngineError {
        if self.is_stopping() { EngineError::ShuttingDown } else { abandoned(model) }
    }

    fn open(&self, model: &Arc<Model>) -> Opened {
        let door = Arc::new(Door::new(Queue::new(self.config().queue_len_max)));
        let slot = Slot::new(Arc::clone(model), Arc::clone(&door), self.shared.clone());
        self.tasks.spawn(slot.work_or_be_mourned());
        Opened { model: Arc::clone(model), door }
    }
}

fn open_saved_prompts(config: SavedPromptsConfig) -> Option<SavedPrompts> {
    let dir = config.dir.clone();
    SavedPrompts::open(config)
        .inspect_err(|error| {
            tracing::warn!(dir = %dir.display(), %error, "prompts cannot be saved there");
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use std::{
        path::{Path, PathBuf},
        sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use futures_util::StreamExt;
    use rkllama_core::{Chat, Message, ModelError, ModelState, Prompt, Role, TextFiles};

    use rkllama_protocol::{FromWorker, Loaded, VERSION};

    use super::*;
    use crate::{
        config::WorkerCommand,
        runtimes::{Learned, LoadOutcome, RuntimeChoice},
    };

    /// Two bytes of vocabulary and ChatML's tokens.
    const TOKENIZER: &str = r#"{"version": "1.0", "added_tokens": [
        {"id": 0, "content": "<|im_start|>", "special": true, "normalized": false,
         "single_word": false, "lstrip": false, "rstrip": false},
        {"id": 1, "content": "<|im_end|>", "special": true, "normalized": false,
         "single_word": false, "lstrip": false, "rstrip": false}],
        "model": {"type": "BPE", "vocab": {"a": 2}, "merges": []}}"#;

    struct Nothing;

    impl Models for Nothing {
        fn list(&self) -> Vec<Arc<Model>> {
            Vec::new()
        }

        fn resolve(&self, name: &str) -> Result<Arc<Model>, ModelError> {
            Err(ModelError::NotFound { name: name.to_owned() })
        }

        fn text_files(&self, _: &Model) -> Result<TextFiles, ModelError> {
            Ok(TextFiles { tokenizer: TOKENIZER.into(), ..TextFiles::default() })
        }
    }

    impl Runtimes for Nothing {
        fn choose(&self, _: &Model) -> Result<Vec<RuntimeChoice>, EngineError> {
            Ok(vec![RuntimeChoice::new(PathBuf::new())])
        }

        fn learned(&self, _: &Model, _: &Learned) {}

        fn problems(&self) -> Vec<Problem> {
            Vec::new()
        }
    }

    fn engine() -> NpuEngine {
        let worker = WorkerCommand { program: "/nonexistent".into(), args: Vec::new() };
        let (models, runtimes) = (Arc::new(Nothing), Arc::new(Nothing));
        NpuEngine::new(EngineConfig::new(worker), models, runtimes, Arc::new(()))
    }

    fn model(created_s: u64) -> Arc<Model> {
        Arc::new(Model {
            id: "m".to_owned(),
            created_s,
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
            state: ModelState::Ready,
        })
    }

    fn job() -> (Job, mpsc::Receiver<Reply>) {
        let (reply, replies) = mpsc::channel(1);
        let job = Job {
            tokens: vec![1],
            pictured: None,
            shared_prefix: None,
            sampling: Sampling::default(),
            tokens_max: None,
            stop_tokens: Vec::new(),
            reading: None,
            steering: None,
            keep_alive: None,
            client: "somebody".into(),
            reply,
        };
        (job, replies)
    }

    #[tokio::test]
    async fn a_changed_record_gets_a_task_of_its_own() {
        let engine = engine();
        let door = |model: Arc<Model>| {
            let (job, _replies) = job();
            let _waiting = engine.inner.admit(&model, job).unwrap();
            Arc::clone(&engine.inner.doors.lock().unwrap()["m"].door)
        };
        let first = door(model(1));
        assert!(Arc::ptr_eq(&first, &door(model(1))), "an equal record is the same model");
        let second = door(model(2));
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &door(model(2))));
        // The first one's task has nobody left to serve.
        soon("one task is left", || engine.inner.tasks.len() == 1).await;
        assert!(first.queue.is_closed() && !second.queue.is_closed());
    }

    /// Whoever waits for a model that has changed is served by the old task before it ends.
    #[tokio::test]
    async fn who_waits_for_the_old_record_is_still_answered() {
        let engine = engine();
        let (waits, mut replies) = job();
        let _ticket = engine.inner.admit(&model(1), waits).unwrap();
        let (other, _replies) = job();
        let _other = engine.inner.admit(&model(2), other).unwrap();
        let reply = replies.recv().await;
        assert!(matches!(reply, Some(Reply::Failed(EngineError::Load { .. }))), "{reply:?}");
    }

    /// Choices that panic when they are asked for after a load.
    struct Panics {
        loads: AtomicUsize,
        armed: AtomicBool,
    }

    impl Runtimes for Panics {
        fn choose(&self, _: &Model) -> Result<Vec<RuntimeChoice>, EngineError> {
            let loaded = self.loads.load(Ordering::SeqCst) > 0;
            assert!(!(loaded && self.armed.load(Ordering::SeqCst)), "as the test wants it");
            Ok(vec![RuntimeChoice::new(PathBuf::new())])
        }

        fn learned(&self, _: &Model, learned: &Learned) {
            assert_eq!(learned.outcome, LoadOutcome::Worked);
            assert_eq!(learned.header.as_ref().unwrap().toolkit, "1.2.3");
            self.loads.fetch_add(1, Ordering::SeqCst);
        }

        fn problems(&self) -> Vec<Problem> {
            Vec::new()
        }
    }

    /// A worker that says that it has loaded the model and then nothing, and leaves its number.
    fn mute_worker(folder: &Path) -> WorkerCommand {
        let loaded = Loaded {
            runtime_version: "1.3.0".into(),
            sampling_per_run: true,
            load_ms: 1,
            encoder: None,
            encoder_notes: None,
        };
        let mut said = rkllama_protocol::encode(&FromWorker::Hello(VERSION)).unwrap();
        said.extend(rkllama_protocol::encode(&FromWorker::Loaded(loaded)).unwrap());
        std::fs::write(folder.join("frames"), said).unwrap();
        let script = "echo 'I rkllm: rkllm-toolkit version: 1.2.3'; \
                      echo $$ >> pids; cat frames >&0; exec sleep 600";
        let script = format!("cd '{}'; {script}", folder.display());
        WorkerCommand { program: "sh".into(), args: vec!["-c".into(), script.into()] }
    }

    #[tokio::test]
    async fn a_panic_in_a_models_task_costs_its_requests_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let runtimes =
            Arc::new(Panics { loads: AtomicUsize::new(0), armed: AtomicBool::new(true) });
        let config = EngineConfig::new(mute_worker(folder.path()));
        let engine = NpuEngine::new(
            config,
            Arc::new(Nothing),
            Arc::<Panics>::clone(&runtimes),
            Arc::new(()),
        );
        let (served, mut of_served) = job();
        let (waits, mut of_waits) = job();
        let _tickets = [served, waits].map(|job| engine.inner.admit(&model(1), job).unwrap());

        assert!(of_served.recv().await.is_none(), "its task is gone");
        let reply = of_waits.recv().await;
        let Some(Reply::Failed(error @ EngineError::Worker { .. })) = reply else {
            panic!("{reply:?}")
        };
        assert_eq!(engine.inner.gone(&model(1)), error, "both hear the same");
        assert_eq!(engine.residents(), []);
        let pids = std::fs::read_to_string(folder.path().join("pids")).unwrap();
        let stat = format!("/proc/{}/stat", pids.trim());
        let ended = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
        soon("its worker has ended", || !Path::new(&stat).exists() || ended()).await;

        runtimes.armed.store(false, Ordering::SeqCst);
        engine.preload(&model(1)).await.unwrap();
        assert_eq!(engine.residents().len(), 1, "the model works again");
        assert_eq!(runtimes.loads.load(Ordering::SeqCst), 2);
    }

    /// Waits for a state that other tasks and processes bring about.
    async fn soon(what: &str, condition: impl Fn() -> bool) {
        let reached = async {
            while !condition() {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        let limit = std::time::Duration::from_secs(60);
        assert!(tokio::time::timeout(limit, reached).await.is_ok(), "waited in vain until {what}");
    }

    #[tokio::test]
    async fn a_clamped_context_is_remembered_for_this_record() {
        let inner = engine().inner;
        assert_eq!(inner.context_tokens_max(&model(1)), 4096);
        inner.clamped(&model(1), 4096);
        assert_eq!(inner.context_tokens_max(&model(1)), 4096);
        inner.clamped(&model(1), 1024);
        assert_eq!(inner.context_tokens_max(&model(1)), 1024);
        assert_eq!(inner.context_tokens_max(&model(2)), 4096, "these are other weights");
    }

    /// It waits in its stream: when that is dropped, nothing of it is left to do.
    #[tokio::test(start_paused = true)]
    async fn a_prompt_waits_until_others_are_tokenized() {
        let engine = engine();
        let busy = u32::try_from(generation::ENCODINGS_MAX).unwrap();
        let permits = engine.inner.encodings.acquire_many(busy).await.unwrap();
        let request = || Request {
            model: model(1),
            prompt: Prompt::Chat(Chat::new(vec![Message::new(Role::User, "a")])),
            sampling: Sampling::default(),
            tokens_max: Some(0),
            stop: Vec::new(),
            format: None,
            ignore_eos: false,
            logprobs: None,
            keep_alive: None,
            client: "somebody".into(),
        };
        // Parses the model's files, which may be done meanwhile.
        engine.inner.codecs.get(&model(1)).await.unwrap();
        let mut leaves = engine.generate(request());
        let mut stays = engine.generate(request());
        for waits in [&mut leaves, &mut stays] {
            let soon = std::time::Duration::from_millis(100);
            assert!(tokio::time::timeout(soon, waits.next()).await.is_err());
        }
        drop(leaves);
        drop(permits);
        assert!(stays.next().await.unwrap().is_ok());
        assert_eq!(engine.inner.encodings.available_permits(), generation::ENCODINGS_MAX);
    }
}
