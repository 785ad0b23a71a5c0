//! The experiments, each with what it does and what it means.

mod abort;
mod batch;
mod board;
mod context;
mod end_of_sequence;
mod image;
mod library;
mod pause;
mod prefill;
mod prompts;
mod reuse;
mod rows;
mod saved;

use rkllama_npu::{Group, Profile};

use crate::{
    judge::{Experiment, Step},
    seen::{Seen, Subject},
};

/// All of them, in the order in which they are made.
pub const EXPERIMENTS: &[Experiment] = &[
    library::LAYOUT,
    library::LOAD,
    end_of_sequence::END_OF_SEQUENCE,
    context::CONTEXT_LIMIT,
    reuse::PREFIX_REUSE,
    abort::ABORT,
    saved::SAVED_PROMPTS,
    rows::HIDDEN_LAYER,
    rows::LOGITS,
    image::STALE_IMAGE,
    context::CONTEXT_FULL,
    pause::PAUSE,
    batch::BATCH,
    prompts::SPECIAL_TOKENS,
    prompts::NO_TOKENS,
    prefill::PREFILL_TOKENS,
    board::CPU_MASKS,
    board::DDR_GOVERNOR,
    board::MEMORY_LIMIT,
];

/// The one that loads a model and tells what the others have to know.
pub(crate) const fn loading() -> &'static Experiment {
    &library::LOAD
}

/// Whether it asks a model and not the library alone.
pub(crate) fn needs_model(experiment: &Experiment) -> bool {
    experiment.name != library::LAYOUT.name
}

/// The step of this name.
pub(crate) fn step(subject: &Subject, experiment: &str, step: &str) -> Option<Step> {
    let found = EXPERIMENTS.iter().find(|it| it.name == experiment)?;
    (found.steps)(subject).into_iter().find(|it| it.name == step)
}

/// The context that experiments have, in tokens: room for a conversation, and little to fill.
const CONTEXT_TOKENS: u32 = 1024;

impl Subject {
    /// The context that experiments have.
    pub(crate) fn context(&self) -> u32 {
        self.context_limit.map_or(CONTEXT_TOKENS, |limit| limit.min(CONTEXT_TOKENS))
    }

    /// Takes note of what the runtime says of a model at load.
    pub(crate) fn learn(&mut self, loads: &[Seen]) {
        let lines = || loads.iter().flat_map(|seen| &seen.log);
        let said = |key: &str| {
            lines().find_map(|line| {
                let rest = line.split_once(key)?.1;
                Some(rest.split(',').next()?.trim().to_owned())
            })
        };
        self.toolkit = said("rkllm-toolkit version: ");
        self.context_limit = said("max_context_limit: ").and_then(|limit| limit.parse().ok());
    }

    /// Whether the release is of group F.
    fn is_f(&self) -> bool {
        Profile::of(&self.release).is_ok_and(|profile| profile.group == Group::F)
    }
}

/// For experiments that every release and every model allows.
const fn nothing_in_the_way(_: &Subject) -> Option<String> {
    None
}
