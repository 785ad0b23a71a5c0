//! The engine: a slot per model, and the way in.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use rkllama_core::{Engine, EngineError, Generation, Model, Models, Problem, Request};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    codecs::Codecs,
    config::EngineConfig,
    generation,
    queue::{Job, Queue, Refusal},
    runtimes::Runtimes,
    slot::{Shared, Slot},
};

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
    slots: Mutex<HashMap<String, Arc<Queue>>>,
    tasks: TaskTracker,
}

impl NpuEngine {
    /// An engine over these models and these runtimes. Starts nothing yet.
    pub fn new(config: EngineConfig, models: Arc<dyn Models>, runtimes: Arc<dyn Runtimes>) -> Self {
        let shared = Shared {
            config: Arc::new(config),
            runtimes,
            load_lock: Arc::default(),
            stop: CancellationToken::new(),
        };
        let inner = Inner {
            codecs: Codecs::new(models),
            shared,
            slots: Mutex::default(),
            tasks: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
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

    fn problems(&self) -> Vec<Problem> {
        self.inner.shared.runtimes.problems()
    }
}

impl Inner {
    pub(crate) fn config(&self) -> &EngineConfig {
        &self.shared.config
    }

    /// Refuses what cannot succeed before any work is put into it.
    pub(crate) fn check(&self, model: &Model) -> Result<(), EngineError> {
        if self.shared.stop.is_cancelled() {
            return Err(EngineError::ShuttingDown);
        }
        self.shared.runtimes.choose(model).map(drop)
    }

    /// Puts a job into the model's queue; the first one starts the model's task.
    pub(crate) fn admit(&self, model: &Arc<Model>, job: Job) -> Result<(), EngineError> {
        let queue = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(model.id.clone()).or_insert_with(|| self.open(model)))
        };
        tracing::debug!(model = model.id, "a request waits for its model");
        queue.admit(job).map_err(|refusal| match refusal {
            Refusal::Full(waiting) => EngineError::QueueFull { model: model.id.clone(), waiting },
            Refusal::Closed => EngineError::ShuttingDown,
        })
    }

    fn open(&self, model: &Arc<Model>) -> Arc<Queue> {
        let queue = Arc::new(Queue::new(self.shared.config.queue_len_max));
        let slot = Slot::new(Arc::clone(model), Arc::clone(&queue), self.shared.clone());
        self.tasks.spawn(slot.work());
        queue
    }
}
