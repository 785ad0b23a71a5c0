//! What the threads of a worker know together: which run there is, and whether it shall stop.
//!
//! ```text
//! Empty ── Load ──▶ Loading ── loaded ──▶ Idle ── Run ──▶ Running{run}
//!                                          ▲                        │
//!                                          └───── run over ─────────┘
//! ```
//!
//! A run is current from the moment its `Run` has been read, so an `Abort` behind it finds it,
//! whether or not the run thread has begun. It stops being current before its `End` is written, so
//! nothing that comes later reaches the next run.
//!
//! Two locks. `state` is held for moments only. `gate` is held by the abort thread through the
//! vendor's abort and by the run thread to enter and leave the vendor's run: that is how an abort is
//! sure to hit the run it was meant for. The main thread never takes the gate.

use std::{
    mem,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Longest time the callback holds its token back for the abort thread to be through with the
/// abort. Without it a fast runtime goes on for several tokens that nobody wants; it is bounded in
/// case an abort waits for the callback. A fraction of a token's time on the fastest board.
const ABORT_WAIT: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Empty,
    Loading,
    Idle,
    Running(u64),
}

struct State {
    phase: Phase,
    /// The abort thread has something to do.
    abort_wanted: bool,
    /// Aborts that the abort thread is through with.
    aborts: u64,
    /// The abort thread shall end.
    closed: bool,
}

#[derive(Default)]
struct Gate {
    /// The run that is inside the vendor's library.
    inside: Option<u64>,
    /// Whether it was aborted.
    aborted: bool,
    aborter: Option<Box<dyn Fn() + Send>>,
}

/// A frame that must not come now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfSequence;

pub(crate) struct Control {
    state: Mutex<State>,
    changed: Condvar,
    gate: Mutex<Gate>,
    /// Whether the current run shall stop by the server's wish. Outside of the lock because the
    /// callback looks at it for every token.
    stopping: AtomicBool,
}

impl Control {
    pub(crate) fn new() -> Self {
        let state = State { phase: Phase::Empty, abort_wanted: false, aborts: 0, closed: false };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            gate: Mutex::new(Gate::default()),
            stopping: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing of ours panics while it is held, and every state of it is whole.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The main thread's side.

    /// `Load` was read.
    pub(crate) fn load_asked(&self) -> Result<(), OutOfSequence> {
        let mut state = self.state();
        if state.phase != Phase::Empty {
            return Err(OutOfSequence);
        }
        state.phase = Phase::Loading;
        Ok(())
    }

    /// `Run` was read: from now on this run is the current one.
    pub(crate) fn run_asked(&self, run: u64) -> Result<(), OutOfSequence> {
        let mut state = self.state();
        if state.phase != Phase::Idle {
            return Err(OutOfSequence);
        }
        state.phase = Phase::Running(run);
        state.abort_wanted = false;
        self.stopping.store(false, Ordering::Release);
        Ok(())
    }

    /// `Abort` was read; ignored unless that run is the current one.
    pub(crate) fn abort_asked(&self, run: u64) {
        let mut state = self.state();
        if state.phase == Phase::Running(run) {
            self.stop(&mut state);
        }
    }

    /// The worker is to leave: whatever runs shall stop.
    pub(crate) fn leave_asked(&self) {
        let mut state = self.state();
        self.stop(&mut state);
    }

    fn stop(&self, state: &mut State) {
        self.stopping.store(true, Ordering::Release);
        state.abort_wanted = true;
        self.changed.notify_all();
    }

    /// Ends the abort thread.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    // The run thread's side.

    /// The model is loaded; `aborter` stops its runs.
    pub(crate) fn loaded(&self, aborter: Box<dyn Fn() + Send>) {
        self.gate().aborter = Some(aborter);
        self.state().phase = Phase::Idle;
    }

    /// The run is about to enter the library: aborts reach it from now on.
    pub(crate) fn enter(&self, run: u64) {
        let mut gate = self.gate();
        gate.inside = Some(run);
        gate.aborted = false;
    }

    /// The run has left the library; returns whether it was aborted. Waits for an abort that is
    /// being called.
    pub(crate) fn left(&self) -> bool {
        let mut gate = self.gate();
        gate.inside = None;
        gate.aborted
    }

    /// The run is over in every respect but its `End`.
    pub(crate) fn run_over(&self) {
        self.state().phase = Phase::Idle;
    }

    /// Whether the server wants the current run to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Has the current run aborted and waits a moment for that; called from inside its callback,
    /// again for every token that comes nevertheless: an abort at the very beginning of a run may
    /// have been lost.
    pub(crate) fn abort_from_callback(&self) {
        let mut state = self.state();
        let before = state.aborts;
        state.abort_wanted = true;
        self.changed.notify_all();
        let waited = self
            .changed
            .wait_timeout_while(state, ABORT_WAIT, |state| state.aborts == before && !state.closed);
        // Poisoned or too late: the run's own return is what counts.
        drop(waited);
    }

    // The abort thread's side.

    /// Waits for something to abort; returns its run, or none when the worker is leaving.
    pub(crate) fn next_abort(&self) -> Option<u64> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            // Wanted without a run: it ended meanwhile.
            if mem::take(&mut state.abort_wanted)
                && let Phase::Running(run) = state.phase
            {
                return Some(run);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Aborts `run` if it is inside the library; otherwise it has ended, or it will see that it
    /// shall stop before it enters.
    pub(crate) fn abort(&self, run: u64) {
        let mut gate = self.gate();
        if gate.inside == Some(run)
            && let Some(aborter) = &gate.aborter
        {
            aborter();
            gate.aborted = true;
        }
        drop(gate);
        self.state().aborts += 1;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    /// A control with a loaded model and the number of aborts that reached it.
    fn loaded() -> (Control, Arc<AtomicU32>) {
        let (control, aborts) = (Control::new(), Arc::new(AtomicU32::new(0)));
        control.load_asked().unwrap();
        let counted = Arc::clone(&aborts);
        control.loaded(Box::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        }));
        (control, aborts)
    }

    #[test]
    fn an_abort_stops_its_own_run_only() {
        let (control, _) = loaded();
        control.abort_asked(1);
        control.run_asked(1).unwrap();
        assert!(!control.is_stopping(), "an abort came before its run was asked for");
        control.run_over();
        control.abort_asked(1);
        control.run_asked(2).unwrap();
        for other in [0, 1, 3] {
            control.abort_asked(other);
        }
        assert!(!control.is_stopping(), "the abort of another run");
        control.abort_asked(2);
        assert!(control.is_stopping());
        assert_eq!(control.next_abort(), Some(2));
    }

    #[test]
    fn an_abort_that_comes_late_does_not_reach_the_library() {
        let (control, aborts) = loaded();
        control.run_asked(1).unwrap();
        control.abort_asked(1);
        // The abort thread has taken the order and is slow.
        let late = control.next_abort().unwrap();
        control.enter(1);
        assert!(!control.left(), "nobody has aborted it");
        control.run_over();
        control.run_asked(2).unwrap();
        control.enter(2);
        control.abort(late);
        assert!(!control.left());
        assert_eq!(aborts.load(Ordering::SeqCst), 0);

        control.enter(2);
        control.abort(2);
        assert!(control.left());
        assert_eq!(aborts.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_order_to_abort_does_not_outlive_its_run() {
        let (control, _) = loaded();
        control.run_asked(1).unwrap();
        control.abort_asked(1);
        control.run_over();
        control.run_asked(2).unwrap();
        assert!(!control.is_stopping());
        control.close();
        assert_eq!(control.next_abort(), None);
    }
}
