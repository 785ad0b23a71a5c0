//! The task that owns one model's worker and gives it one job at a time.
//!
//! ```text
//!          job         place, lock          Loaded             Generate
//!   empty ─────▶ waiting ────────▶ loading ─────────▶ idle ──────────────▶ running
//!     ▲             │ too large      │ refused          ▲  ▲                  │
//!     ├─────────────┘                │ died, slow       │  └────── End ───────┤
//!     ├──────────────────────────────┘                  │                     │
//!     ├── keep-alive over, wanted by others, asked for ─┘                     │
//!     └───────────────────────── died, hangs, garbage ────────────────────────┘
//! ```
//!
//! A run is over when the worker says `End`, never earlier: a call on a handle whose previous run
//! has not returned gives one request's tokens to another.

use std::{
    borrow::Cow,
    panic::AssertUnwindSafe,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use futures_util::FutureExt;
use rkllama_core::{
    EngineError, Happened, KeepAlive, LoadState, Model, Observer, Resident, Sampling,
};
use rkllama_protocol::Loaded;
use tokio::{
    sync::{Mutex, Notify, mpsc::error::TrySendError, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    codecs::Codecs,
    config::EngineConfig,
    crash_record::CrashRecord,
    kv::{Ledger, SavedPrompts},
    load::{LoadedModel, Loading, NotLoaded},
    process::{Worker, unexpected},
    queue::{Job, Queue, Reply},
    residency::{Place, Residency, memory_bytes},
    runtimes::{RuntimeChoice, Runtimes},
    turn::{After, PromptMemory, Turn, settled},
};

/// Everything a model's task needs from the engine.
#[derive(Clone)]
pub(crate) struct Shared {
    /// The tokenizers, which are of no use without a loaded model.
    pub(crate) codecs: Arc<Codecs>,
    pub(crate) config: watch::Receiver<Arc<EngineConfig>>,
    pub(crate) runtimes: Arc<dyn Runtimes>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) residency: Arc<Residency>,
    /// Held while a model loads: the vendor's init can block or crash beside another one.
    pub(crate) load_lock: Arc<Mutex<()>>,
    /// Prompts on disk; none where they are not wanted or their folder cannot be used.
    pub(crate) saved: Option<Arc<SavedPrompts>>,
    pub(crate) stop: CancellationToken,
}

impl Shared {
    /// The configuration as it is now.
    pub(crate) fn config(&self) -> Arc<EngineConfig> {
        Arc::clone(&self.config.borrow())
    }
}

/// What the rest of the server sees of a model's task, and how it is asked to unload.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) queue: Queue,
    unload: Notify,
    /// Whether the task shall end when nobody waits any more.
    retired: AtomicBool,
    view: std::sync::Mutex<View>,
}

#[derive(Debug, Default)]
struct View {
    stage: Option<Stage>,
    expires: Option<SystemTime>,
    problem: Option<String>,
    /// Tokens of an image, since the encoder was loaded for the first time.
    image_tokens: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Loading(Instant),
    Idle,
    Busy,
}

impl Door {
    pub(crate) fn new(queue: Queue) -> Self {
        let retired = AtomicBool::new(false);
        Self { queue, unload: Notify::new(), retired, view: std::sync::Mutex::default() }
    }

    /// Has the model unloaded after its current answer.
    pub(crate) fn unload(&self) {
        self.unload.notify_one();
    }

    /// Has the model unloaded and its task end, after those who wait already.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.unload();
    }

    /// The model as a resident, if it is one.
    pub(crate) fn resident(&self, model: &Model) -> Option<Resident> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match view.stage? {
            Stage::Loading(since) => LoadState::Loading(since.elapsed()),
            Stage::Idle => LoadState::Idle,
            Stage::Busy => LoadState::Busy,
        };
        let memory_bytes = memory_bytes(model);
        Some(Resident { model: model.id.clone(), state, memory_bytes, expires: view.expires })
    }

    /// Tokens that the model's encoder makes of an image, if it has ever been loaded.
    pub(crate) fn image_tokens(&self) -> Option<u32> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).image_tokens
    }

    fn show_image_tokens(&self, tokens: u32) {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).image_tokens = Some(tokens);
    }

    /// What is wrong with the model.
    pub(crate) fn problem(&self) -> Option<String> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }

    fn show(&self, stage: Option<Stage>, expires: Option<Instant>) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.stage = stage;
        view.expires = expires.map(|at| SystemTime::now() + (at - Instant::now()));
    }

    fn show_problem(&self, problem: Option<String>) {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).problem = problem;
    }
}

/// A model in a worker, in its place.
pub(crate) struct InWorker {
    pub(crate) worker: Worker,
    pub(crate) loaded: Loaded,
    /// The library it was loaded by, and what holds for it.
    pub(crate) choice: RuntimeChoice,
    pub(crate) context_tokens_max: u32,
    /// What it was loaded with.
    pub(crate) sampling: Sampling,
    /// What its KV cache holds.
    pub(crate) ledger: Ledger,
    /// Its last run was aborted.
    pub(crate) is_aborted: bool,
    place: Place,
    /// How long the last request wants it to stay; `None` leaves it to the configuration.
    keep_alive: Option<KeepAlive>,
    idle_since: Instant,
    /// When it goes if nobody comes; `None` for never.
    expires: Option<Instant>,
}

impl InWorker {
    /// Waits for the end of idleness that comes from the model itself.
    async fn idle(&mut self) -> Next {
        let expiry = async {
            match self.expires {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            frame = self.worker.next() => Next::Bury(unexpected(&frame)),
            () = self.place.wanted() => Next::Unload("another model needs its place"),
            () = expiry => Next::Expire,
        }
    }
}

/// One model's task.
pub(crate) struct Slot {
    model: Arc<Model>,
    door: Arc<Door>,
    shared: Shared,
    resident: Option<InWorker>,
    crashes: CrashRecord,
    memory: PromptMemory,
    /// Number of the last run.
    runs: u64,
}

/// What became of an attempt at a job.
#[derive(PartialEq, Eq)]
enum Attempt {
    /// The job has its answer, or its client has left.
    Over,
    /// Another worker can do it.
    Again,
}

/// What an idle task has to do next.
enum Next {
    Serve(Box<Job>),
    Unload(&'static str),
    /// Nobody has used the model for its time.
    Expire,
    /// The worker died with nothing to do, or said something unasked.
    Bury(Option<String>),
    /// The configuration is another one now.
    Reconsider,
    Stop,
}

impl Slot {
    pub(crate) fn new(model: Arc<Model>, door: Arc<Door>, shared: Shared) -> Self {
        let crashes = CrashRecord::new(shared.config().crashes.clone());
        let memory = PromptMemory::default();
        Self { model, door, shared, resident: None, crashes, memory, runs: 0 }
    }

    /// Runs until the engine stops or the model is retired; frees the NPU then.
    pub(crate) async fn work(mut self) {
        let why = loop {
            if self.door.retired.load(Ordering::Relaxed) && self.door.queue.close_if_empty() {
                break "the model has changed";
            }
            match self.next().await {
                Next::Serve(job) => self.serve(&job).await,
                Next::Unload(why) => self.unload(why).await,
                Next::Expire => {
                    self.unload("nobody used it").await;
                    // Models that take each other's place come back soon and keep theirs.
                    self.shared.codecs.forget(&self.model);
                }
                Next::Bury(what) => self.bury(what).await,
                Next::Reconsider => self.set_expiry(),
                Next::Stop => break "the server stops",
            }
        };
        for job in self.door.queue.close() {
            fail(&job, EngineError::ShuttingDown);
        }
        self.unload(why).await;
    }

    /// The same, surviving a panic in it: whoever waits is told, and the worker dies with what the
    /// panic unwinds.
    pub(crate) async fn work_or_be_mourned(self) {
        let (model, door) = (Arc::clone(&self.model), Arc::clone(&self.door));
        if AssertUnwindSafe(self.work()).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(
            model = model.id,
            "the model's task panicked; the next request starts another"
        );
        for job in door.queue.close() {
            fail(&job, abandoned(&model));
        }
        door.show(None, None);
    }

    async fn next(&mut self) -> Next {
        let idle = async {
            match &mut self.resident {
                Some(resident) => resident.idle().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => Next::Stop,
            next = idle => next,
            Ok(()) = self.shared.config.changed() => Next::Reconsider,
            () = self.door.unload.notified() => Next::Unload("it was asked for"),
            job = self.door.queue.next() => Next::Serve(Box::new(job)),
        }
    }

    /// Takes leave of a worker that nobody was waiting for: the next request loads the model again
    /// and hears nothing of it.
    async fn bury(&mut self, what: Option<String>) {
        if let Some(resident) = self.resident.take() {
            let what = resident.worker.post_mortem(what).await;
            self.lost(&what);
        }
    }

    async fn unload(&mut self, why: &str) {
        if let Some(resident) = self.resident.take() {
            tracing::info!(model = self.model.id, why, "model unloaded");
            resident.worker.shut_down(self.shared.config().shutdown_timeout).await;
            // The place is free only now that the process is gone.
            drop(resident.place);
        }
        self.door.show(None, None);
    }

    /// Does a job; once more where the worker died before the job's own run, over something that is
    /// then left alone.
    async fn serve(&mut self, job: &Job) {
        while self.attempt(job).await == Attempt::Again {}
    }

    async fn attempt(&mut self, job: &Job) -> Attempt {
        if self.resident.as_ref().is_some_and(|resident| self.samples_otherwise(resident, job)) {
            self.unload("a request asks for other sampling").await;
        }
        let mut resident = match self.resident.take() {
            Some(resident) => resident,
            None => match self.load(job).await {
                Ok(resident) => resident,
                Err(err) => {
                    self.door.show(None, None);
                    fail(job, err);
                    return Attempt::Over;
                }
            },
        };
        resident.place.busy();
        self.door.show(Some(Stage::Busy), None);
        let keep_alive = job.keep_alive;
        if job.tokens.is_empty() {
            send(job, Reply::Loaded);
            self.rest(resident, keep_alive);
            return Attempt::Over;
        }
        if job.reply.is_closed() {
            // Who left during the load need not be prefilled: prefill cannot be aborted.
            self.rest(resident, keep_alive);
            return Attempt::Over;
        }
        let config = self.shared.config();
        let turn = Turn {
            model: &self.model,
            config: &config,
            stop: &self.shared.stop,
            resident: &mut resident,
            runs: &mut self.runs,
            memory: &mut self.memory,
            saved: self.shared.saved.as_ref(),
            job,
            prompt: Cow::Borrowed(&job.tokens),
        };
        match turn.take().await {
            Ok(After::Answered) => {
                self.crashes.recovered();
                self.door.show_problem(None);
                self.rest(resident, keep_alive);
            }
            Ok(After::Ready) => self.rest(resident, keep_alive),
            Ok(After::Lost) => {
                let what = resident.worker.post_mortem(None).await;
                self.lost(&what);
            }
            Err(lost) => {
                let what = resident.worker.post_mortem(lost.what).await;
                // The memory is free only now that the process is gone.
                drop(resident.place);
                self.lost(&what);
                if lost.over_saved_prompt {
                    self.memory.spoil(&self.model.id, "the runtime died over a saved prompt");
                    return Attempt::Again;
                }
                fail(job, EngineError::Worker { model: self.model.id.clone(), what });
            }
        }
        Attempt::Over
    }

    /// Keeps the model for as long as it was asked for.
    fn rest(&mut self, mut resident: InWorker, keep_alive: Option<KeepAlive>) {
        // Who says nothing leaves it at what was said last.
        resident.keep_alive = keep_alive.or(resident.keep_alive);
        resident.idle_since = Instant::now();
        resident.place.idle();
        self.resident = Some(resident);
        self.set_expiry();
    }

    /// Says when an idle model goes.
    fn set_expiry(&mut self) {
        let (config, pinned) = (self.shared.config(), self.pinned());
        let Some(resident) = &mut self.resident else { return };
        let said = resident.keep_alive.or(self.model.presets.keep_alive);
        resident.expires = match said.unwrap_or(config.keep_alive) {
            KeepAlive::For(time) if !pinned => resident.idle_since.checked_add(time),
            KeepAlive::For(_) | KeepAlive::Forever => None,
        };
        self.door.show(Some(Stage::Idle), resident.expires);
    }

    /// Takes note of a dead worker, for the next attempt and for the operator.
    fn lost(&mut self, what: &str) {
        tracing::error!(model = self.model.id, what, "lost a worker");
        self.tell(&Happened::WorkerLost);
        self.crashes.crashed(what);
        self.door.show_problem(self.crashes.problem());
        self.door.show(None, None);
    }

    fn tell(&self, happened: &Happened<'_>) {
        self.shared.observer.observe(&self.model.id, happened);
    }

    /// What a model is loaded with for this job.
    fn sampling_of(&self, job: &Job) -> Sampling {
        let own = self.model.sampling;
        if self.shared.config().reload_for_sampling { job.sampling.or(own) } else { own }
    }

    /// Whether a job's sampling can be had by loading the model again only, and that is wanted.
    fn samples_otherwise(&self, resident: &InWorker, job: &Job) -> bool {
        self.shared.config().reload_for_sampling
            && !resident.loaded.sampling_per_run
            && !job.tokens.is_empty()
            && settled(self.sampling_of(job)) != settled(resident.sampling)
    }

    fn pinned(&self) -> bool {
        self.shared.config().pinned.contains(&self.model.id)
    }

    /// Loads the model into a place that the memory plan has for it.
    async fn load(&mut self, job: &Job) -> Result<InWorker, EngineError> {
        if let Some(pause) = self.crashes.pause() {
            return Err(EngineError::Degraded {
                model: self.model.id.clone(),
                what: self.crashes.problem().unwrap_or_default(),
                retry_after_s: u32::try_from(pause.as_secs()).unwrap_or(u32::MAX).saturating_add(1),
            });
        }
        let stop = self.shared.stop.clone();
        self.door.show(Some(Stage::Loading(Instant::now())), None);
        let alone = Arc::clone(&self.shared.load_lock);
        let (_alone, place) = tokio::select! {
            () = stop.cancelled() => return Err(EngineError::ShuttingDown),
            // Nobody wants the model any more. Once it loads, it loads to the end.
            () = job.reply.closed() => return Err(EngineError::ShuttingDown),
            place = async {
                let alone = alone.lock_owned().await;
                let place = self.shared.residency.admit(&self.model).await?;
                Ok::<_, EngineError>((alone, place))
            } => place?,
        };
        let began = Instant::now();
        let sampling = self.sampling_of(job);
        let loading = Loading::new(&self.model, &self.shared, place.base_domain, sampling);
        // Boxed: it would make every model's task larger by what it needs for a few seconds.
        match Box::pin(loading.load()).await {
            Ok(LoadedModel { worker, loaded, choice, context_tokens_max }) => {
                self.tell(&Happened::Loaded { took: began.elapsed() });
                if let Some(encoder) = loaded.encoder {
                    self.door.show_image_tokens(encoder.image_tokens);
                }
                Ok(InWorker {
                    worker,
                    loaded,
                    choice,
                    context_tokens_max,
                    sampling,
                    ledger: Ledger::default(),
                    is_aborted: false,
                    place,
                    keep_alive: None,
                    idle_since: Instant::now(),
                    expires: None,
                })
            }
            Err(NotLoaded::Stopped) => Err(EngineError::ShuttingDown),
            Err(NotLoaded::NoRuntime(error)) => Err(error),
            Err(NotLoaded::Failed { reason, crashed }) => {
                self.tell(&Happened::LoadFailed);
                if crashed {
                    self.lost(&reason);
                } else {
                    tracing::error!(model = self.model.id, reason, "load failed");
                }
                Err(EngineError::Load { model: self.model.id.clone(), reason })
            }
        }
    }
}

/// What a client hears whose model's task has panicked.
pub(crate) fn abandoned(model: &Model) -> EngineError {
    let what = "was given up for a fault of this server, which its log describes".to_owned();
    EngineError::Worker { model: model.id.clone(), what }
}

/// Hands a reply over. The channel holds a whole answer, so it is never full; a receiver that has
/// gone is noticed by `closed`.
pub(crate) fn send(job: &Job, reply: Reply) {
    match job.reply.try_send(reply) {
        Ok(()) | Err(TrySendError::Closed(_)) => {}
        Err(TrySendError::Full(_)) => tracing::error!("a reply channel was sized too small"),
    }
}

pub(crate) fn fail(job: &Job, error: EngineError) {
    send(job, Reply::Failed(error));
}
