//! From a model to a worker that holds it: which library, with which context, and what is tried
//! next when that one refuses the model or dies of it.
//!
//! Only the runtime knows which toolkit made a model, and it says so while it loads it. Where that
//! shows that another library, or this one told otherwise, would have been right, the model is
//! loaded again at once, before anything is answered.

use std::sync::Arc;

use rkllama_core::{EngineError, Model, Normalise, Sampling, Vision};
use rkllama_protocol::{self as protocol, Load, Loaded};
use tokio::{task::spawn_blocking, time::Instant};

use crate::{
    process::{Blame, LoadFailure, Started, Worker},
    runtimes::{Doubt, Learned, LoadOutcome, ModelHeader, RuntimeChoice},
    slot::Shared,
    turn::settled,
};

/// Libraries that may fail to load a model before its request does. A load takes seconds, and the
/// others wait meanwhile.
const FAILURES_MAX: usize = 4;
/// Loads that only set right what the first one taught. One is enough; the second is for a better
/// library that fails.
const CORRECTIONS_MAX: u32 = 2;

/// A model in a worker.
pub(crate) struct LoadedModel {
    pub(crate) worker: Worker,
    pub(crate) loaded: Loaded,
    pub(crate) choice: RuntimeChoice,
    pub(crate) context_tokens_max: u32,
}

/// Why a model is not loaded.
pub(crate) enum NotLoaded {
    /// The server stops.
    Stopped,
    /// There is no library to try.
    NoRuntime(EngineError),
    /// Each library that was tried refused it, or died of it.
    Failed {
        /// Names each of them with its reason if there were several.
        reason: String,
        /// Whether one died.
        crashed: bool,
    },
}

/// A model on its way into a worker.
pub(crate) struct Loading<'a> {
    model: &'a Arc<Model>,
    shared: &'a Shared,
    base_domain: u8,
    /// What the runtime is loaded with, which before 1.3 holds for every run.
    sampling: Sampling,
    failed: Vec<(RuntimeChoice, String)>,
    crashed: bool,
}

impl<'a> Loading<'a> {
    pub(crate) const fn new(
        model: &'a Arc<Model>,
        shared: &'a Shared,
        base_domain: u8,
        sampling: Sampling,
    ) -> Self {
        Self { model, shared, base_domain, sampling, failed: Vec::new(), crashed: false }
    }

    /// Tries one library after the other.
    pub(crate) async fn load(mut self) -> Result<LoadedModel, NotLoaded> {
        let mut corrections = 0;
        let mut choice =
            self.untried().map_err(NotLoaded::NoRuntime)?.ok_or_else(|| self.over())?;
        loop {
            match self.attempt(&choice).await? {
                Ok(mut loaded) => match self.better(&choice) {
                    Some(better) if corrections < CORRECTIONS_MAX => {
                        corrections += 1;
                        self.report_correction(&choice, &better);
                        loaded.worker.shut_down(self.shared.config().shutdown_timeout).await;
                        choice = better;
                    }
                    _ => {
                        loaded.choice = self.fresh(choice);
                        self.report_doubt(&loaded.choice);
                        return Ok(loaded);
                    }
                },
                Err(failure) => {
                    let blame = failure.blame;
                    self.crashed |= failure.crashed;
                    self.failed.push((choice, failure.reason));
                    choice = match blame {
                        Blame::Library if self.failed.len() < FAILURES_MAX => {
                            let next = self.untried().map_err(NotLoaded::NoRuntime)?;
                            next.ok_or_else(|| self.over())?
                        }
                        Blame::Library | Blame::LibraryNextTime | Blame::Circumstances => {
                            return Err(self.over());
                        }
                    };
                    self.report_next(&choice);
                }
            }
        }
    }

    /// Loads with one library, once more with the model's own context limit if ours was too large,
    /// and has noted what that told. `Err` of the outside when the server stops.
    async fn attempt(
        &self,
        choice: &RuntimeChoice,
    ) -> Result<Result<LoadedModel, LoadFailure>, NotLoaded> {
        let mut context_tokens_max = self.clamped(self.model.context_tokens_max, choice);
        loop {
            let load = self.frame(choice, context_tokens_max);
            let began = Instant::now();
            let Some(started) =
                Worker::start(&self.shared.config(), &self.model.id, load, &self.shared.stop).await
            else {
                return Err(NotLoaded::Stopped);
            };
            match started {
                Ok(Started { worker, loaded, header }) => {
                    tracing::info!(
                        model = self.model.id,
                        runtime = loaded.runtime_version,
                        ignore_eos = choice.ignore_eos,
                        toolkit = header.as_ref().map(|header| header.toolkit.as_str()),
                        context_tokens_max,
                        encoder = loaded.encoder_notes.as_deref(),
                        image = loaded.encoder.map(|it| format!("{}x{}", it.width, it.height)),
                        image_tokens = loaded.encoder.map(|it| it.image_tokens),
                        init_ms = loaded.load_ms,
                        took_ms = began.elapsed().as_millis(),
                        "model loaded"
                    );
                    self.report_sizes(&loaded);
                    self.learn(choice, header, LoadOutcome::Worked).await;
                    let choice = choice.clone();
                    return Ok(Ok(LoadedModel { worker, loaded, choice, context_tokens_max }));
                }
                Err(failure) => match failure.context_limit_tokens {
                    Some(limit) if 0 < limit && limit < context_tokens_max => {
                        self.report_clamp(context_tokens_max, limit);
                        context_tokens_max = limit;
                    }
                    _ => {
                        self.learn(choice, failure.header.clone(), outcome(&failure)).await;
                        return Ok(Err(failure));
                    }
                },
            }
        }
    }

    fn frame(&self, choice: &RuntimeChoice, context_tokens_max: u32) -> Load {
        Load {
            runtime: choice.path.clone(),
            model: self.model.weights.clone(),
            context_tokens_max,
            sampling: settled(self.sampling),
            ignore_eos: choice.ignore_eos,
            base_domain: self.base_domain,
            vision: self.model.vision.as_ref().map(|vision| self.vision(choice, vision)),
            adapter: self.model.adapter.as_ref().map(|adapter| protocol::Adapter {
                file: adapter.file.clone(),
                scale: adapter.scale,
            }),
        }
    }

    fn vision(&self, choice: &RuntimeChoice, vision: &Vision) -> protocol::Vision {
        protocol::Vision {
            encoder: vision.encoder.clone(),
            start: vision.tags.start.clone(),
            end: vision.tags.end.clone(),
            content: vision.tags.content.clone(),
            fill: vision.fill,
            normalise: vision
                .normalise
                .map(|Normalise { mean, std }| protocol::Normalise { mean, std }),
            ask_width: choice.hidden_layer,
            pixels_max: self.shared.config().pictures.pixels_max,
            pointer_head: vision.pointer_head.as_ref().map(|head| head.file.clone()),
        }
    }

    /// The context to ask for, where the model's own limit is known already.
    fn clamped(&self, asked: u32, choice: &RuntimeChoice) -> u32 {
        match choice.context_limit_tokens {
            Some(limit) if 0 < limit && limit < asked => {
                self.report_clamp(asked, limit);
                limit
            }
            _ => asked,
        }
    }

    /// Has the runtimes' side take note, off the threads that others' tokens go through.
    async fn learn(
        &self,
        choice: &RuntimeChoice,
        header: Option<ModelHeader>,
        outcome: LoadOutcome,
    ) {
        let learned = Learned { choice: choice.clone(), header, outcome };
        let (runtimes, model) = (Arc::clone(&self.shared.runtimes), Arc::clone(self.model));
        if let Err(error) = spawn_blocking(move || runtimes.learned(&model, &learned)).await {
            tracing::error!(%error, "what a load has told is lost");
        }
    }

    /// The best library that has not failed yet.
    fn untried(&self) -> Result<Option<RuntimeChoice>, EngineError> {
        let failed = |choice: &RuntimeChoice| {
            self.failed.iter().any(|(before, _)| before.loads_like(choice))
        };
        let choices = self.shared.runtimes.choose(self.model)?;
        Ok(choices.into_iter().find(|choice| !failed(choice)))
    }

    /// What would have been right instead of the choice that has just worked.
    fn better(&self, choice: &RuntimeChoice) -> Option<RuntimeChoice> {
        let best = self.untried().ok()??;
        (!best.loads_like(choice)).then_some(best)
    }

    /// The choice as it is seen now that more is known.
    fn fresh(&self, choice: RuntimeChoice) -> RuntimeChoice {
        let choices = self.shared.runtimes.choose(self.model).unwrap_or_default();
        choices.into_iter().find(|fresh| fresh.loads_like(&choice)).unwrap_or(choice)
    }

    fn over(&self) -> NotLoaded {
        let reason = match self.failed.as_slice() {
            [] => "no library is left to try".to_owned(),
            [(_, reason)] => reason.clone(),
            several => {
                let each = several.iter();
                let each = each.map(|(choice, reason)| format!("{}: {reason}", choice.name()));
                each.collect::<Vec<_>>().join("; ")
            }
        };
        NotLoaded::Failed { reason, crashed: self.crashed }
    }

    fn report_clamp(&self, asked: u32, limit: u32) {
        tracing::warn!(model = self.model.id, asked, limit, "context clamped to the model");
    }

    fn report_correction(&self, was: &RuntimeChoice, better: &RuntimeChoice) {
        tracing::info!(
            model = self.model.id,
            was = was.version,
            runtime = better.version,
            ignore_eos = better.ignore_eos,
            why = better.why,
            "loading the model again: its toolkit is known now"
        );
    }

    /// What manifest or Modelfile say of images, where the encoder itself says otherwise.
    fn report_sizes(&self, loaded: &Loaded) {
        let (Some(stated), Some(seen)) = (&self.model.vision, &loaded.encoder) else { return };
        let (width, height) = stated.sizes;
        for (what, stated, seen) in [
            ("width", width, seen.width),
            ("height", height, seen.height),
            ("tokens", stated.image_tokens, seen.image_tokens),
        ] {
            if let Some(stated) = stated.filter(|stated| *stated != seen) {
                let model = &self.model.id;
                tracing::warn!(
                    model,
                    what,
                    stated,
                    seen,
                    "an image is not as the model's files say"
                );
            }
        }
    }

    fn report_next(&self, next: &RuntimeChoice) {
        if let Some((choice, reason)) = self.failed.last() {
            tracing::warn!(
                model = self.model.id,
                failed = choice.name(),
                reason,
                next = next.name(),
                "trying another library"
            );
        }
    }

    fn report_doubt(&self, choice: &RuntimeChoice) {
        if let Some(doubt) = choice.doubt.as_ref().map(Doubt::words) {
            tracing::warn!(model = self.model.id, runtime = choice.version, "{doubt}");
        }
    }
}

fn outcome(failure: &LoadFailure) -> LoadOutcome {
    match failure.blame {
        Blame::Library | Blame::LibraryNextTime => LoadOutcome::Failed(failure.reason.clone()),
        Blame::Circumstances => LoadOutcome::Inconclusive,
    }
}
