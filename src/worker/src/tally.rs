//! One run as it is counted: what is passed on, what is not, when it has to stop and why.

use rkllama_npu::Piece;
use rkllama_protocol::{FromWorker, Piece as PieceFrame};

use crate::{control::Control, outlet::Outlet};

/// Why a run is over as far as we are concerned, whatever the runtime still does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A stop token came.
    Stop,
    /// The limit is reached.
    Length,
    /// The server wished so, or is gone.
    Aborted,
}

/// The bounds of a run.
pub(crate) struct Bounds<'a> {
    pub(crate) run: u64,
    /// Tokens to pass on, at least 1: what was asked for, or what the context still holds.
    pub(crate) tokens_max: u32,
    /// Ids that end the answer.
    pub(crate) stop_tokens: &'a [i32],
    /// Whether the runtime ends the run by itself at `tokens_max`.
    pub(crate) runtime_counts: bool,
    /// Whether the runtime ends the run by itself at the end of sequence.
    pub(crate) runtime_stops: bool,
}

/// Receives the pieces of one run.
pub(crate) struct Tally<'a> {
    bounds: Bounds<'a>,
    control: &'a Control,
    outlet: &'a Outlet,
    /// Tokens that belong to the answer, a stop token included.
    pub(crate) tokens: u32,
    /// Ids of the tokens that the runtime generated and that were not passed on.
    pub(crate) unsent: Vec<i32>,
    pub(crate) verdict: Option<Verdict>,
}

impl<'a> Tally<'a> {
    pub(crate) const fn new(bounds: Bounds<'a>, control: &'a Control, outlet: &'a Outlet) -> Self {
        Self { bounds, control, outlet, tokens: 0, unsent: Vec::new(), verdict: None }
    }

    /// One token from the runtime.
    ///
    /// Where the runtime is about to end by itself it is left to: an abort would only leave its KV
    /// cache in doubt. If it goes on nevertheless, the next token aborts it.
    pub(crate) fn take(&mut self, piece: Piece<'_>) {
        if self.verdict.is_some() {
            self.unsent.push(piece.token);
            return self.control.abort_from_callback();
        }
        if self.control.is_stopping() {
            self.unsent.push(piece.token);
            return self.conclude(Verdict::Aborted, false);
        }
        self.tokens = self.tokens.saturating_add(1);
        if self.bounds.stop_tokens.contains(&piece.token) {
            self.unsent.push(piece.token);
            return self.conclude(Verdict::Stop, self.bounds.runtime_stops);
        }
        let frame =
            PieceFrame { run: self.bounds.run, token: piece.token, text: piece.text.to_vec() };
        if self.outlet.send(&FromWorker::Piece(frame)).is_err() {
            return self.conclude(Verdict::Aborted, false);
        }
        if self.tokens >= self.bounds.tokens_max {
            self.conclude(Verdict::Length, self.bounds.runtime_counts);
        }
    }

    fn conclude(&mut self, verdict: Verdict, runtime_ends_by_itself: bool) {
        self.verdict = Some(verdict);
        if !runtime_ends_by_itself {
            self.control.abort_from_callback();
        }
    }
}
