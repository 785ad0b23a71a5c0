//! The engine: a slot per model, and the way in.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use rkllama_core::{
    Engine, EngineError, Generation, KeepAlive, Model, Models, Problem, Request, Resident, Sampling,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    codecs::Codecs,
    config::EngineConfig,
    generation,
    queue::{Job, Queue, Refusal, Reply, Ticket, TotalWaiting},
    residency::Residency,
    runtimes::Runtimes,
    slot::{Door, Shared, Slot},
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
    pub(crate) codecs: Codecs,
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
struct Opened {
    model: Arc<Model>,
    door: Arc<Door>,
}

impl NpuEngine {
    /// An engine over these models and these runtimes. Starts nothing yet.
    pub fn new(config: EngineConfig, models: Arc<dyn Models>, runtimes: Arc<dyn Runtimes>) -> Self {
        let waiting = Arc::new(TotalWaiting::new(config.queue_len_total_max));
        let shared = Shared {
            residency: Arc::new(Residency::new(config.memory.clone())),
            config: Arc::new(config),
            runtimes,
            load_lock: Arc::default(),
            stop: CancellationToken::new(),
        };
        let inner = Inner {
            codecs: Codecs::new(models),
            shared,
            doors: Mutex::default(),
            waiting,
            encodings: Arc::new(Semaphore::new(generation::ENCODINGS_MAX)),
            contexts: Mutex::default(),
            tasks: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Loads a model and keeps it for as long as `keep_alive` says.
    ///
    /// # Errors
    /// What a request for this model would get.
    pub async fn load(
        &self,
        model: &Arc<Model>,
        keep_alive: Option<KeepAlive>,
    ) -> Result<(), EngineError> {
        generation::check(&self.inner, model)?;
        let (reply, mut replies) = mpsc::channel(1);
        let job = Job {
            tokens: Vec::new(),
            sampling: Sampling::default(),
            tokens_max: None,
            stop_tokens: Vec::new(),
            keep_alive,
            client: OPERATOR.into(),
            reply,
        };
        let _ticket = self.inner.admit(model, job)?;
        match replies.recv().await {
            Some(Reply::Failed(error)) => Err(error),
            Some(_) => Ok(()),
            None => Err(EngineError::ShuttingDown),
        }
    }

    /// Has a model unloaded after its current answer; nothing happens if it is not loaded.
    pub fn unload(&self, model: &Model) {
        let doors = self.inner.doors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = doors.get(&model.id) {
            opened.door.unload();
        }
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

    fn residents(&self) -> Vec<Resident> {
        let doors = self.inner.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.values().filter_map(|opened| opened.door.resident(&opened.model)).collect()
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.inner.shared.runtimes.problems();
        problems.extend(self.inner.codecs.problems());
        let doors = self.inner.doors.lock().unwrap_or_else(PoisonError::into_inner);
        problems.extend(doors.values().filter_map(|opened| {
            let detail = opened.door.problem()?;
            Some(Problem { subject: opened.model.id.clone(), detail })
        }));
        problems
    }
}

impl Inner {
    pub(crate) fn config(&self) -> &EngineConfig {
        &self.shared.config
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    pub(crate) fn runtimes(&self) -> &dyn Runtimes {
        &*self.shared.runtimes
    }

    /// The model's context in tokens, as far as it is known.
    pub(crate) fn context_tokens_max(&self, model: &Model) -> u32 {
        let contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        match contexts.get(&model.id) {
            Some((of, clamped)) if **of == *model => model.context_tokens_max.min(*clamped),
            _ => model.context_tokens_max,
        }
    }

    /// Remembers that the runtime gave this model a smaller context, so that the next prompt that
    /// does not fit is refused before it waits for its turn.
    pub(crate) fn clamped(&self, model: &Arc<Model>, context_tokens_max: u32) {
        if context_tokens_max < model.context_tokens_max {
            let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
            contexts.insert(model.id.clone(), (Arc::clone(model), context_tokens_max));
        }
    }

    /// Puts a job into the model's queue; the first one starts the model's task.
    pub(crate) fn admit(&self, model: &Arc<Model>, job: Job) -> Result<Ticket, EngineError> {
        let ticket = self.waiting.enter().map_err(|waiting| EngineError::QueueFull {
            what: "this server".to_owned(),
            waiting,
        })?;
        let door = {
            let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
            match doors.get(&model.id) {
                Some(opened) if *opened.model == **model => Arc::clone(&opened.door),
                outdated => {
                    // Its files or settings are others now. Who waits there still gets an answer.
                    if let Some(outdated) = outdated {
                        tracing::info!(model = model.id, "the model has changed");
                        outdated.door.unload();
                    }
                    let opened = self.open(model);
                    let door = Arc::clone(&opened.door);
                    doors.insert(model.id.clone(), opened);
                    door
                }
            }
        };
        match door.queue.admit(job) {
            Ok(before) => {
                tracing::debug!(model = model.id, before, "a request waits for its model");
                Ok(ticket)
            }
            Err(Refusal::Full(waiting)) => {
                Err(EngineError::QueueFull { what: format!("model '{}'", model.id), waiting })
            }
            Err(Refusal::Closed) => Err(EngineError::ShuttingDown),
        }
    }

    fn open(&self, model: &Arc<Model>) -> Opened {
        let door = Arc::new(Door::new(Queue::new(self.shared.config.queue_len_max)));
        let slot = Slot::new(Arc::clone(model), Arc::clone(&door), self.shared.clone());
        self.tasks.spawn(slot.work());
        Opened { model: Arc::clone(model), door }
    }
}
