//! The way out: whole frames to the server, and the worker's own words to standard error.

use std::{
    fmt,
    io::{self, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Mutex, PoisonError},
};

use rkllama_protocol::{FromWorker, write_frame};

/// The server no longer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerGone;

/// Writes frames, one at a time.
pub(crate) struct Outlet {
    socket: Mutex<UnixStream>,
}

impl Outlet {
    pub(crate) const fn new(socket: UnixStream) -> Self {
        Self { socket: Mutex::new(socket) }
    }

    /// Writes one frame in one call of the system: a token is on its way at once. Waits while the
    /// server does not read.
    ///
    /// After a failure the socket is shut, which ends the main thread's reading: the server is gone,
    /// and a worker does not outlive it.
    pub(crate) fn send(&self, frame: &FromWorker) -> Result<(), ServerGone> {
        // Nothing panics while it is held, so a poisoned lock guards a whole stream.
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        write_frame(&mut *socket, frame).map_err(|err| {
            say(format_args!("cannot write to the server: {err}"));
            // It may be shut already; then there is nothing left to end.
            let _ = socket.shutdown(Shutdown::Both);
            ServerGone
        })
    }
}

/// Says something on standard error, which the server keeps as the worker's log.
pub(crate) fn say(what: fmt::Arguments<'_>) {
    // Not `eprintln`, which panics where nobody reads. There is no third place to complain to.
    let _ = writeln!(io::stderr(), "rkllama worker: {what}");
}
