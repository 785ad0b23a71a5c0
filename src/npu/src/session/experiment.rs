//! A loaded model for experiments: what serving never does with a runtime, and what comes of it.
//!
//! Nothing here is kept from the library for its own good: prompts may be too long, runs may be paused,
//! limits may be none. It may crash of it, which is then what was found out. So this belongs into a
//! process of its own, and never into one that serves.

use std::{
    any::Any,
    ffi::{CString, c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    ptr, slice,
};

use super::{Session, c_path};
use crate::{
    AbortHandle, Library, LoadError, LoadParams, Perf, Pictured, Prompt, RunError,
    callback::{hidden, logits, perf, piece},
    params::{self, Extras, Given},
    raw::{MODE_GENERATE, MODE_HIDDEN, MODE_LOGITS, RunResult, call_state},
    table::GroupFns,
};

/// What to load, and what serving never sets.
#[derive(Debug, Clone, PartialEq)]
pub struct ExperimentParams {
    /// What serving sets too.
    pub load: LoadParams,
    /// The limit on a run's tokens that is given at load, where -1 is none and 0 is what it is; absent
    /// leaves the runtime's own.
    pub tokens_max: Option<i32>,
    /// Prompts that each run answers at once, 1 to 100; absent is one.
    pub batches: Option<u8>,
}

/// What a run is given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ExperimentInput<'a> {
    /// Token ids.
    Tokens(&'a [i32]),
    /// A text for the runtime's own template and tokenizer.
    Text(&'a str),
    /// Token ids of as many prompts as the model was loaded for.
    Batch(&'a [&'a [i32]]),
    /// A text with images.
    Pictured(Pictured<'a>),
}

/// What a run is to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExperimentMode {
    /// Text.
    Generate,
    /// The last hidden layer.
    Hidden,
    /// Logits.
    Logits,
}

/// A run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExperimentRun<'a> {
    /// What it goes on from.
    pub input: ExperimentInput<'a>,
    /// What it gives.
    pub mode: ExperimentMode,
    /// `keep_history`.
    pub keep_history: bool,
    /// The file to which the KV cache is saved at its end.
    pub save: Option<&'a Path>,
    /// Its limit on tokens, where the release takes one with a run; 0 and less is that of the load.
    pub tokens_max: i32,
}

/// In which state the runtime called back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallState {
    /// With a token, or with rows.
    Normal,
    /// Inside an unfinished character.
    Waiting,
    /// At the end.
    Finish,
    /// After a failure.
    Error,
    /// In none that a header has.
    Other(i32),
}

/// One call of the runtime; valid inside it only.
#[derive(Debug, Clone, PartialEq)]
pub struct Called<'a> {
    /// In which state.
    pub state: CallState,
    /// The token's id; in a batch those of all prompts. Negative where there is none.
    pub tokens: Vec<i32>,
    /// The text of the first of them.
    pub text: &'a [u8],
    /// Rows of the hidden layer or of logits.
    pub rows: &'a [f32],
    /// Numbers in a row; 0 where there are no rows.
    pub width: usize,
    /// The runtime's measurements, at the end.
    pub perf: Option<Perf>,
}

/// What the runtime is told in return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// To go on.
    Continue,
    /// To pause: it returns, and the next run may go on from there.
    Pause,
}

/// A loaded model to try things with.
pub struct Experiment {
    session: Session,
    batches: usize,
}

/// A run as its callback sees it.
struct Watched<'a> {
    watcher: &'a mut (dyn FnMut(&Called<'_>) -> Reply + Send),
    mode: ExperimentMode,
    batches: usize,
    panic: Option<Box<dyn Any + Send>>,
}

impl Experiment {
    /// Loads a model; as [`Session::load`].
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(library: &Library, params: &ExperimentParams) -> Result<Self, LoadError> {
        let batches = params.batches.unwrap_or(1);
        if !(1..=100).contains(&batches) {
            return Err(LoadError::Invalid(format!("{batches} prompts at once")));
        }
        let extras = Extras { tokens_max: params.tokens_max, batches: params.batches };
        let session = Session::load_with(library, &params.load, extras, on_call)?;
        Ok(Self { session, batches: batches.into() })
    }

    /// The session below: its cache, its files, how to abort.
    pub const fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// As [`Session::abort_handle`].
    pub fn abort_handle(&self) -> AbortHandle {
        self.session.abort_handle()
    }

    /// Runs; `watcher` sees each call of the runtime. Returns what the library's own call returned.
    ///
    /// # Errors
    /// [`RunError::Invalid`] where the structures cannot be made.
    ///
    /// # Panics
    /// With what the watcher panicked, once the run has returned.
    pub fn run(
        &mut self,
        run: &ExperimentRun<'_>,
        watcher: &mut (dyn FnMut(&Called<'_>) -> Reply + Send),
    ) -> Result<i32, RunError> {
        let mut givens = givens(run.input).map_err(RunError::Invalid)?;
        // The library reads as many as it was loaded for.
        if givens.len() != self.batches {
            let (given, wanted) = (givens.len(), self.batches);
            return Err(RunError::Invalid(format!("{given} prompts for {wanted} places")));
        }
        let path = run.save.map(c_path).transpose().map_err(RunError::Invalid)?;
        let mut cache = path.as_deref().map(params::save_to);
        let cache = cache.as_mut().map_or(ptr::null_mut(), |cache| &raw mut *cache);
        let mode = match run.mode {
            ExperimentMode::Generate => MODE_GENERATE,
            ExperimentMode::Hidden => MODE_HIDDEN,
            ExperimentMode::Logits => MODE_LOGITS,
        };
        let mut watched = Watched { watcher, mode: run.mode, batches: self.batches, panic: None };
        let userdata: *mut c_void = (&raw mut watched).cast();
        self.session.abort.run_begins();
        let session = &self.session;
        let status = match session.table.group {
            GroupFns::E { run: call, .. } => {
                let mut inputs: Vec<_> = givens.iter_mut().map(params::input_e).collect();
                let mut infer = params::infer_e(mode, run.keep_history, ptr::null_mut(), cache);
                // SAFETY: the handle is live (the session owns it) and idle (`&mut self`); there are as
                // many inputs as it was loaded for, and all structures are this group's and live, like
                // what they point to, until it returns.
                unsafe { call(session.handle, inputs.as_mut_ptr(), &raw mut infer, userdata) }
            }
            GroupFns::F { run: call, .. } => {
                let tags = session.image_tags.as_ref();
                let mut inputs: Vec<_> =
                    givens.iter_mut().map(|given| params::input_f(given, tags)).collect();
                let mut sampling = session.sampling;
                let mut infer = params::infer_f(
                    mode,
                    &mut sampling,
                    run.tokens_max,
                    run.keep_history,
                    ptr::null_mut(),
                    cache,
                );
                // SAFETY: as above.
                unsafe { call(session.handle, inputs.as_mut_ptr(), &raw mut infer, userdata) }
            }
        };
        self.session.abort.run_ended();
        if let Some(panic) = watched.panic {
            resume_unwind(panic);
        }
        Ok(status)
    }

    /// Takes the tokens from `start` on and before `end` out of the KV cache, which the vendor allows
    /// while a run is paused; returns whether the runtime did.
    pub fn clear_kv_range(&mut self, start: i32, end: i32) -> bool {
        let mut starts = vec![start; self.batches];
        let mut ends = vec![end; self.batches];
        let clear = self.session.table.clear_kv_cache;
        // SAFETY: the handle is live and idle, and there is one entry for each batch.
        unsafe { clear(self.session.handle, 0, starts.as_mut_ptr(), ends.as_mut_ptr()) == 0 }
    }
}

fn givens(input: ExperimentInput<'_>) -> Result<Vec<Given>, String> {
    Ok(match input {
        ExperimentInput::Tokens(tokens) => vec![Given::Tokens(tokens.to_vec())],
        ExperimentInput::Batch(prompts) => {
            prompts.iter().map(|tokens| Given::Tokens(tokens.to_vec())).collect()
        }
        ExperimentInput::Text(text) => {
            let text = CString::new(text).map_err(|_| "a zero byte in the prompt".to_owned())?;
            vec![Given::Text(text.into_bytes_with_nul())]
        }
        ExperimentInput::Pictured(pictured) => vec![Given::of(&Prompt::Pictured(pictured))?],
    })
}

/// `LLMResultCallback` of experiments.
///
/// # Safety
/// `userdata` is null or points to the [`Watched`] of the run that calls; `result` is null or points to
/// as many of the vendor's structures as the model was loaded for, at the end and after a failure to one.
/// Texts are null or end with a zero byte, matrices are null or as large as they say.
unsafe extern "C" fn on_call(result: *mut RunResult, userdata: *mut c_void, state: c_int) -> c_int {
    if userdata.is_null() {
        return 0;
    }
    // SAFETY: the promise above: it lives until the run has returned, and the library calls back one
    // call at a time.
    let watched = unsafe { &mut *userdata.cast::<Watched<'_>>() };
    if watched.panic.is_some() {
        return 0;
    }
    // SAFETY: the promise above, passed on.
    let called = unsafe { called(result, state, watched) };
    match catch_unwind(AssertUnwindSafe(|| (watched.watcher)(&called))) {
        Ok(Reply::Continue) => 0,
        Ok(Reply::Pause) => 1,
        Err(panic) => {
            watched.panic = Some(panic);
            0
        }
    }
}

/// # Safety
/// As for [`on_call`]; what it returns is valid until that call returns.
unsafe fn called<'a>(result: *const RunResult, state: c_int, watched: &Watched<'_>) -> Called<'a> {
    let (state, has_tokens) = match state {
        call_state::NORMAL => (CallState::Normal, true),
        call_state::WAITING => (CallState::Waiting, true),
        call_state::FINISH => (CallState::Finish, false),
        call_state::ERROR => (CallState::Error, false),
        other => (CallState::Other(other), false),
    };
    let mut called =
        Called { state, tokens: Vec::new(), text: b"", rows: &[], width: 0, perf: None };
    if state == CallState::Finish {
        // SAFETY: the promise above; in this state `perf` is filled.
        called.perf = unsafe { perf(result) };
    }
    if !has_tokens || result.is_null() {
        return called;
    }
    let raw = if state == CallState::Waiting { call_state::WAITING } else { call_state::NORMAL };
    match watched.mode {
        ExperimentMode::Generate => {
            // SAFETY: the promise above, passed on.
            called.text = unsafe { piece(result, raw) }.text;
            // SAFETY: the promise above: not null, and as many as there are batches.
            let all = unsafe { slice::from_raw_parts(result, watched.batches) };
            called.tokens = all.iter().map(|one| one.token_id).collect();
        }
        ExperimentMode::Hidden => {
            // SAFETY: the promise above, passed on.
            if let Some(found) = unsafe { hidden(result) } {
                (called.rows, called.width) = (found.values, found.width);
            }
        }
        ExperimentMode::Logits => {
            // SAFETY: the promise above, passed on.
            if let Some(found) = unsafe { logits(result) } {
                (called.rows, called.width) = (found.values, found.width);
            }
        }
    }
    called
}
