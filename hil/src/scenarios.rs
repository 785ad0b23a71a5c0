//! The scenarios. Each is a function on a [`Lab`]; what a target lacks skips it with the reason.

mod cancel;
mod chat;
mod faults;
mod forms;
mod memory;
mod models;
mod readings;

use futures_util::future::{BoxFuture, FutureExt};

use crate::{api::Checked, lab::Lab};

type Body = for<'a> fn(&'a Lab) -> BoxFuture<'a, Checked>;

/// One scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name, `group.what`.
    pub name: &'static str,
    body: Body,
}

impl Scenario {
    /// Runs it.
    ///
    /// # Errors
    /// What it found, or why it is skipped.
    pub async fn run(&self, lab: &Lab) -> Checked {
        (self.body)(lab).await
    }
}

macro_rules! scenarios {
    ($($group:ident: $($name:ident),+;)+) => {
        /// All of them, in the order in which they run.
        pub const ALL: &[Scenario] = &[$($(Scenario {
            name: concat!(stringify!($group), ".", stringify!($name)),
            body: |lab| $group::$name(lab).boxed(),
        },)+)+];
    };
}

scenarios! {
    chat: whole, stream, counts, stop, refusal;
    cancel: frees_the_slot;
    forms: tools, schema_holds;
    memory: long_context, too_long, prefix_reuse;
    models: several, pull;
    readings: embeddings, rerank, vision;
    faults: worker_killed, run_fails, run_crashes, broken_download;
}
