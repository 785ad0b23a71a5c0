//! The `worker` role: this process's standard input is the socket to the server.

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    process::ExitCode,
};

use anyhow::Context;

use crate::cli::{self, WorkerArgs};

/// Runs one model until the server lets go.
pub(crate) fn run(args: &WorkerArgs) -> anyhow::Result<ExitCode> {
    // Before there is a second thread: each begins with the mask of the one that starts it.
    if let Some(cpus) = &args.cpus
        && let Err(error) = cpus.pin()
    {
        // Slower, but it works; the server keeps this line in the worker's log.
        cli::complain(&anyhow::Error::new(error).context(format!("cannot keep to cores {cpus}")));
    }
    let socket = io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let socket = UnixStream::from(socket);
    socket.peer_addr().context("`rkllama worker` is started by the server, not by hand")?;
    Ok(rkllama_worker::run(socket))
}
