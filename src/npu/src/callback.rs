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
    thread,
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

/// Who receives the pieces. `Send`, because nothing promises that the library calls back on the
/// thread that called it.
pub(crate) type Receiver<'a> = &'a mut (dyn FnMut(Piece<'_>) + Send);

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
    fn pass(&mut self, piece: Piece<'_>) {
        if self.panic.is_some() {
            return;
        }
        // The receiver is not used again after a panic, so nobody sees it half changed.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.receiver)(piece))) {
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
/// points to the vendor's structure, whose text is null or ends with a zero byte.
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
            let piece = unsafe { piece(result, state) };
            run.pass(piece);
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
unsafe fn piece<'a>(result: *const RunResult, state: c_int) -> Piece<'a> {
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

/// # Safety
/// As for [`on_result`], in the state FINISH of a release since 1.2.1.
unsafe fn perf(result: *const RunResult) -> Option<Perf> {
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
