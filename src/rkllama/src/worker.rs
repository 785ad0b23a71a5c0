//! The `worker` role: this process's standard input is the socket to the server.

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    process::ExitCode,
};

use anyhow::Context;

/// Runs one model until the server lets go.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let socket = io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let socket = UnixStream::from(socket);
    socket.peer_addr().context("`rkllama worker` is started by the server, not by hand")?;
    Ok(rkllama_worker::run(socket))
}
