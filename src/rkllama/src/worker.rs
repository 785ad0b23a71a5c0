//! The `worker` role: this process's standard input is the socket to the server.

use std::{
    env,
    ffi::OsString,
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    process::ExitCode,
};

use anyhow::Context;

use crate::{board::Cpus, cli};

/// The first argument of a worker. What follows is the cores to keep to, such as 4-7, or nothing:
/// then it keeps those that are inherited.
pub(crate) const ROLE: &str = "worker";

const NOT_BY_HAND: &str = "`rkllama worker` is started by the server, not by hand";

/// What a server told this process, if one started it.
pub(crate) fn asked_for() -> Option<Vec<OsString>> {
    let mut args = env::args_os().skip(1);
    (args.next()? == ROLE).then(|| args.collect())
}

/// Runs one model until the server lets go.
pub(crate) fn run(args: &[OsString]) -> anyhow::Result<ExitCode> {
    let cpus = cpus(args)?;
    // Before there is a second thread: each begins with the mask of the one that starts it.
    if let Some(cpus) = &cpus
        && let Err(error) = cpus.pin()
    {
        // Slower, but it works; the server keeps this line in the worker's log.
        cli::complain(&anyhow::Error::new(error).context(format!("cannot keep to cores {cpus}")));
    }
    let socket = io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let socket = UnixStream::from(socket);
    socket.peer_addr().context(NOT_BY_HAND)?;
    Ok(rkllama_worker::run(socket))
}

fn cpus(args: &[OsString]) -> anyhow::Result<Option<Cpus>> {
    match args {
        [] => Ok(None),
        [list] => {
            let list = list.to_str().context(NOT_BY_HAND)?;
            list.parse().map(Some).context(NOT_BY_HAND)
        }
        _ => Err(anyhow::anyhow!(NOT_BY_HAND)),
    }
}
