//! The worker process: one model, one runtime, no async.
//!
//! ```text
//!            frames in                        jobs                       vendor's calls
//! server ───────────────▶ main thread ───────────────▶ run thread ──────────────────────▶ library
//!    ▲                        │ abort asked for            │ callback: stop asked for
//!    │                        ▼                            ▼
//!    │                     control ◀───────────────────────┘
//!    │                        │ wakes
//!    │                        ▼
//!    │                   abort thread ──────────── rkllm_abort ─────────────────────────▶ library
//!    └───────────────────────────────────────────── frames out, from the run thread
//! ```
//!
//! * The **main thread** reads frames. It never calls the library and never waits for a lock that is
//!   held through a call of the library, so the end of the socket is always noticed.
//! * The **run thread** owns the model: everything but aborting happens there.
//! * The **abort thread** exists because a callback must not abort its own run, and because the main
//!   thread must not hang in an abort.
//!
//! The socket's end is the order to leave, like `Shutdown`. If the library does not return in time
//! then, the process ends without it.
#![forbid(unsafe_code)]

mod abort_thread;
mod control;
mod outlet;
mod pointer;
mod pooling;
mod run_thread;
mod runtime;
mod scoring;
mod serve;
mod sight;
mod tally;
#[cfg(test)]
mod tests;

use std::{os::unix::net::UnixStream, process::ExitCode};

use rkllama_npu::exit_now;

use crate::{
    runtime::Vendor,
    serve::{Leave, serve},
};

/// Exit code after `Shutdown` or the end of the socket.
pub const EXIT_ASKED: u8 = 0;
/// Exit code after `LoadFailed`.
pub const EXIT_LOAD_FAILED: u8 = 1;
/// Exit code after a frame that is garbage, out of sequence, or of another version of this program.
pub const EXIT_PROTOCOL: u8 = 3;
/// Exit code when a thread of this process panicked, or the system refused it one.
pub const EXIT_INTERNAL: u8 = 4;
/// Exit code when the vendor's library did not return and the process left without it.
pub const EXIT_HUNG: u8 = 5;

/// Serves one server over `socket` until it says `Shutdown` or closes, or until a model cannot be
/// loaded. Returns when the model has been freed.
///
/// Call it from the main thread of a process that does nothing else: the vendor's library is loaded
/// into it, may crash it, and writes its log to standard output. What the worker itself has to say
/// outside of frames goes to standard error. Ends the process with [`EXIT_HUNG`] when the library
/// does not come back within seconds of the order to leave.
///
/// A broken pipe must arrive as an error and not as a signal, which is how Rust starts its programs.
pub fn run(socket: UnixStream) -> ExitCode {
    match serve(socket, Vendor) {
        Leave::With(code) => ExitCode::from(code),
        // Returning would run the library's exit handlers beside the thread that hangs in it.
        Leave::Hung => exit_now(EXIT_HUNG.into()),
    }
}
