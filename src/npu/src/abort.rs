//! Aborting a run from another thread.
//!
//! The lock keeps three things apart: an abort and the end of the handle, an abort and the end of
//! its run, and an abort that comes late and the next run. An idle runtime is never aborted: nothing
//! says whether it would remember.

use std::{
    ffi::c_int,
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{raw::Handle, table::HandleFn};

/// Numbers the runs of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunNumber(u64);

struct State {
    /// Null once the session is gone.
    handle: Handle,
    /// The run that is inside the library.
    running: Option<RunNumber>,
    runs: u64,
}

struct Shared {
    abort: HandleFn,
    state: Mutex<State>,
}

// SAFETY: the pointer is only used under the lock, and the library allows `abort` from any thread.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Stops what a session generates. Outlives the session harmlessly.
#[derive(Clone)]
pub struct AbortHandle(Arc<Shared>);

impl AbortHandle {
    pub(crate) fn new(handle: Handle, abort: HandleFn) -> Self {
        let state = Mutex::new(State { handle, running: None, runs: 0 });
        Self(Arc::new(Shared { abort, state }))
    }

    /// Asks the runtime to stop the run that is under way; returns whether one was.
    ///
    /// It stops at its next token or, during the prefill, at the prefill's end. Pieces may arrive
    /// until `generate` returns, and an abort right at the start of a run may be lost: ask again
    /// when a piece arrives nevertheless. Never call it from the receiver of pieces. The session
    /// cannot start or end a run before this returns.
    pub fn abort(&self) -> bool {
        let state = self.lock();
        self.abort_locked(&state)
    }

    /// As [`AbortHandle::abort`], unless another run has begun by now.
    pub(crate) fn abort_run(&self, number: RunNumber) -> bool {
        let state = self.lock();
        state.running == Some(number) && self.abort_locked(&state)
    }

    fn abort_locked(&self, state: &State) -> bool {
        if state.handle.is_null() || state.running.is_none() {
            return false;
        }
        // SAFETY: not null, so `destroy` has not been called, and the session cannot come to it
        // while we hold the lock. The library allows this call beside a run. What it returns does
        // not tell whether the run will stop.
        let _: c_int = unsafe { (self.0.abort)(state.handle) };
        true
    }

    /// A run is about to enter the library.
    pub(crate) fn run_begins(&self) -> RunNumber {
        let mut state = self.lock();
        state.runs += 1;
        let number = RunNumber(state.runs);
        state.running = Some(number);
        number
    }

    /// The run has returned. An abort that is being called is waited for.
    pub(crate) fn run_ended(&self) {
        self.lock().running = None;
    }

    /// The handle is about to be destroyed: no abort reaches it from now on.
    pub(crate) fn forget(&self) {
        self.lock().handle = ptr::null_mut();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and the state is whole between any two statements.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
