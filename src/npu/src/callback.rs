//! What the vendor's library calls during a run.
//!
//! It never returns anything but 0: 1 would *pause* the run, and the next one would go on with it
//! instead of reading its prompt. It never unwinds: a panic in the receiver is kept for the caller,
//! and the run is aborted from another thread. Nothing the library passes is kept: its pointers are
//! valid inside the call only.

use std::{
    any::Any,
    ffi::{CStr, c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    slice, thread,
};

use crate::{
    abort::{AbortHandle, RunNumber},
    raw::{RunResult, call_state},
};

/// Stands for a token whose id the runtime did not give.
pub const TOKEN_UNKNOWN: i32 = -1;

/// One token as the runtime reported it; valid inside the receiver's call only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Its id, or [`TOKEN_UNKNOWN`].
    pub token: i32,
    /// Its text as bytes: empty inside an unfinished character and for special tokens.
    pub text: &'a [u8],
}

/// The runtime's own measurements of a run, which it gives where the run ended by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perf {
    /// Time of the prefill, in milliseconds.
    pub prefill_ms: f32,
    /// Prompt tokens that were computed; perhaps without those from the KV cache. Never the number
    /// of prompt tokens.
    pub prefill_tokens: u32,
    /// Time of the decode, in milliseconds.
    pub decode_ms: f32,
    /// Tokens generated.
    pub decode_tokens: u32,
    /// Largest memory the process ever had, in megabytes.
    pub memory_mb: f32,
}

/// The last hidden layer over some tokens, valid inside the receiver's call only: a row of numbers
/// for each token that was computed, in the text's order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hidden<'a> {
    /// Row after row: a whole number of rows, at least one.
    pub values: &'a [f32],
    /// Numbers in a row, at least 1.
    pub width: usize,
}

/// The logits over some tokens, valid inside the receiver's call only: for each token that was
/// computed, in the text's order, a row with one number for each entry of the vocabulary, which says
/// how likely that entry comes behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logits<'a> {
    /// Row after row: a whole number of rows, at least one.
    pub values: &'a [f32],
    /// Numbers in a row, at least 1.
    pub width: usize,
}

/// Who receives what a run gives. `Send`, because nothing promises that the library calls back on
/// the thread that called it.
pub(crate) enum Receiver<'a> {
    /// Of a run that generates.
    Pieces(&'a mut (dyn FnMut(Piece<'_>) + Send)),
    /// Of a run that reads. It gives rows once, on some releases after a call without any.
    Hidden(&'a mut (dyn FnMut(Hidden<'_>) + Send)),
    /// Of a run that weighs what comes next, in the same way.
    Logits(&'a mut (dyn FnMut(Logits<'_>) + Send)),
}

/// A run as its callback sees it; lives in the caller's frame until the run has returned.
pub(crate) struct RunInProgress<'a> {
    pub(crate) receiver: Receiver<'a>,
    pub(crate) abort: AbortHandle,
    pub(crate) number: RunNumber,
    /// The receiver's panic; nothing is passed to it afterwards.
    pub(crate) panic: Option<Box<dyn Any + Send>>,
    /// Whether the runtime reported an error.
    pub(crate) failed: bool,
    pub(crate) perf: Option<Perf>,
}

impl RunInProgress<'_> {
    /// Passes on what the library gives while it runs.
    ///
    /// # Safety
    /// As for [`on_result`], in the states NORMAL and WAITING.
    unsafe fn take(&mut self, result: *const RunResult, state: c_int) {
        if self.panic.is_some() {
            return;
        }
        // The receiver is not used again after a panic, so nobody sees it half changed.
        let passed = match &mut self.receiver {
            Receiver::Pieces(receiver) => {
                // SAFETY: the promise above, passed on.
                let piece = unsafe { piece(result, state) };
                catch_unwind(AssertUnwindSafe(|| receiver(piece)))
            }
            Receiver::Hidden(receiver) => {
                // SAFETY: the promise above, passed on.
                let Some(hidden) = (unsafe { hidden(result) }) else { return };
                catch_unwind(AssertUnwindSafe(|| receiver(hidden)))
            }
            Receiver::Logits(receiver) => {
                // SAFETY: the promise above, passed on.
                let Some(logits) = (unsafe { logits(result) }) else { return };
                catch_unwind(AssertUnwindSafe(|| receiver(logits)))
            }
        };
        if let Err(panic) = passed {
            self.panic = Some(panic);
            let (abort, number) = (self.abort.clone(), self.number);
            // Without a thread to abort from, the run goes on to its own end, unheard.
            let _ = thread::Builder::new()
                .name("abort".to_owned())
                .spawn(move || abort.abort_run(number));
        }
    }
}

/// `LLMResultCallback`.
///
/// # Safety
/// `userdata` is null or points to the [`RunInProgress`] of the run that calls; `result` is null or
/// points to the vendor's structure, whose text is null or ends with a zero byte. In a run for the
/// last hidden layer or for logits its matrix is null or as large as it says.
pub(crate) unsafe extern "C" fn on_result(
    result: *mut RunResult,
    userdata: *mut c_void,
    state: c_int,
) -> c_int {
    if userdata.is_null() {
        return 0;
    }
    // SAFETY: the promise above: it lives until the run has returned, and the library calls back
    // one call at a time.
    let run = unsafe { &mut *userdata.cast::<RunInProgress<'_>>() };
    match state {
        call_state::NORMAL | call_state::WAITING => {
            // SAFETY: the promise above, passed on.
            unsafe { run.take(result, state) };
        }
        // SAFETY: the promise above; in this state `perf` is filled.
        call_state::FINISH => run.perf = unsafe { perf(result) },
        call_state::ERROR => run.failed = true,
        // A state that no header has: nothing is known of what comes with it.
        _ => {}
    }
    0
}

/// # Safety
/// As for [`on_result`]; what it returns is valid until that call returns.
pub(crate) unsafe fn piece<'a>(result: *const RunResult, state: c_int) -> Piece<'a> {
    if result.is_null() {
        return Piece { token: TOKEN_UNKNOWN, text: b"" };
    }
    // SAFETY: not null, so it is the vendor's structure.
    let token = unsafe { (*result).token_id };
    if state == call_state::WAITING {
        // The text is null, empty or half a character here.
        return Piece { token, text: b"" };
    }
    // SAFETY: not null, so it is the vendor's structure.
    let text = unsafe { (*result).text };
    if text.is_null() {
        return Piece { token, text: b"" };
    }
    // SAFETY: not null, so it ends with a zero byte.
    let text = unsafe { CStr::from_ptr(text) };
    Piece { token, text: text.to_bytes() }
}

/// The matrix of a result that has one.
///
/// # Safety
/// As for [`on_result`], in a run for the last hidden layer; what it returns is valid until that
/// call returns.
pub(crate) unsafe fn hidden<'a>(result: *const RunResult) -> Option<Hidden<'a>> {
    if result.is_null() {
        return None;
    }
    // SAFETY: not null, so it is the vendor's structure, which has this field in all releases.
    let layer = unsafe { &(*result).last_hidden_layer };
    // SAFETY: the promise above, passed on.
    let (values, width) =
        unsafe { matrix(layer.hidden_states, layer.embd_size, layer.num_tokens)? };
    Some(Hidden { values, width })
}

/// The logits of a result that has some.
///
/// # Safety
/// As for [`on_result`], in a run for logits of a release that has them; what it returns is valid
/// until that call returns.
pub(crate) unsafe fn logits<'a>(result: *const RunResult) -> Option<Logits<'a>> {
    if result.is_null() {
        return None;
    }
    // SAFETY: not null, so it is the vendor's structure, which has this field since 1.2.0.
    let found = unsafe { &(*result).logits };
    // SAFETY: the promise above, passed on.
    let (values, width) = unsafe { matrix(found.logits, found.vocab_size, found.num_tokens)? };
    Some(Logits { values, width })
}

/// A matrix, and the numbers in its rows; none where there is none.
///
/// # Safety
/// `values` is null, or points to `width` times `rows` numbers that live as long as what it returns.
unsafe fn matrix<'a>(values: *const f32, width: c_int, rows: c_int) -> Option<(&'a [f32], usize)> {
    let positive = |number: c_int| usize::try_from(number).ok().filter(|number| *number > 0);
    let (width, rows) = (positive(width)?, positive(rows)?);
    let len = width.checked_mul(rows)?;
    if values.is_null() || !values.is_aligned() {
        return None;
    }
    // SAFETY: not null, aligned, and by the promise above as large as it says; any bits are a f32.
    Some((unsafe { slice::from_raw_parts(values, len) }, width))
}

/// # Safety
/// As for [`on_result`], in the state FINISH of a release since 1.2.1.
pub(crate) unsafe fn perf(result: *const RunResult) -> Option<Perf> {
    if result.is_null() {
        return None;
    }
    // SAFETY: not null, so it is the vendor's structure, which has this field since 1.2.1.
    let perf = unsafe { (*result).perf };
    Some(Perf {
        prefill_ms: perf.prefill_time_ms,
        prefill_tokens: u32::try_from(perf.prefill_tokens).unwrap_or(0),
        decode_ms: perf.generate_time_ms,
        decode_tokens: u32::try_from(perf.generate_tokens).unwrap_or(0),
        memory_mb: perf.memory_usage_mb,
    })
}
