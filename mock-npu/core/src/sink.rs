//! What a run hands to the caller's callback, before it takes the shape of a C struct.

/// State of a callback, in the vendor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum State {
    Normal = 0,
    Waiting = 1,
    Finish = 2,
    Error = 3,
    /// Group C only: the last hidden layer has a state of its own.
    LastHiddenLayer = 4,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Normal => "NORMAL",
            State::Waiting => "WAITING",
            State::Finish => "FINISH",
            State::Error => "ERROR",
            State::LastHiddenLayer => "GET_LAST_HIDDEN_LAYER",
        }
    }
}

/// What the callback's return value asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Continue,
    Pause,
    /// Give back the memory of the output now (hidden layer and logits, from 1.3.0).
    Release,
}

/// Rows of floats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) row_len: usize,
}

impl Matrix<'_> {
    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.row_len.max(1)
    }
}

/// Times and counts of a run, as FINISH reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Perf {
    pub(crate) prefill_time_ms: f32,
    pub(crate) prefill_tokens: i32,
    pub(crate) generate_time_ms: f32,
    pub(crate) generate_tokens: i32,
    pub(crate) memory_usage_mb: f32,
}

/// The contents of one result.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Output<'a> {
    pub(crate) text: Option<&'a [u8]>,
    pub(crate) token_id: i32,
    pub(crate) hidden: Option<Matrix<'a>>,
    pub(crate) logits: Option<Matrix<'a>>,
    pub(crate) perf: Option<Perf>,
}

/// Takes results: one per input of a batch, none for a NULL result.
pub(crate) trait Sink {
    fn emit(&mut self, state: State, outputs: &[Output<'_>]) -> Reply;
}
