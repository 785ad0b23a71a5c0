//! The port through which the engine tells what it does, to whoever counts it.

use std::time::Duration;

use crate::{EngineError, Finish, Timings, Usage};

/// Hears of everything that happens to requests and to models' workers.
pub trait Observer: Send + Sync + 'static {
    /// Takes note of what happened to a model. Called between tokens of clients who wait: it must
    /// neither block nor take long.
    fn observe(&self, model: &str, happened: &Happened<'_>);
}

/// What happened to a model. Every `Queued` is followed by one `Dequeued`, every `Dequeued` whose
/// turn came by one `Ended`.
#[derive(Debug, Clone, PartialEq)]
pub enum Happened<'a> {
    /// A request took its place in the queue.
    Queued {
        /// Requests that stood there already.
        position: usize,
    },
    /// A request no longer waits.
    Dequeued {
        /// How long it waited for others and for the model to load.
        waited: Duration,
        /// Whether its turn came: its run has begun. Else it gave up, or its client left.
        turn_came: bool,
    },
    /// A request is over, one that never reached the queue too.
    Ended(Account<'a>),
    /// The model was loaded.
    Loaded {
        /// From the start of its process on.
        took: Duration,
    },
    /// The model could not be loaded.
    LoadFailed,
    /// The model's worker died, or had to be killed because it could not be trusted any more.
    WorkerLost,
}

/// A request at its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Account<'a> {
    /// How it ended.
    pub outcome: Outcome<'a>,
    /// What the runtime did for it; `None` where its run never began.
    pub run: Option<RunAccount>,
    /// From its arrival to its end.
    pub took: Duration,
}

/// What a runtime did for a request, however that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunAccount {
    /// Tokens. What is told at the end of an answer only is 0 where it broke off before.
    pub usage: Usage,
    /// The model's context, in tokens.
    pub context_tokens_max: u32,
    /// Where the time went, as far as it came.
    pub timings: Timings,
    /// From the request's arrival to its first token, if one came.
    pub first_token: Option<Duration>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome<'a> {
    /// With a complete answer.
    Finished(Finish),
    /// With an error.
    Failed(&'a EngineError),
    /// Its client left.
    Cancelled,
}

/// Counts nothing.
impl Observer for () {
    fn observe(&self, _: &str, _: &Happened<'_>) {}
}
