//! The signals that a server heeds.

use std::io::{IsTerminal, stderr, stdin};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Read everything again: SIGHUP.
    Reload,
    /// End: SIGTERM, SIGINT, or a SIGHUP because the terminal is gone.
    End,
}

/// Hears signals from the time it is made.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Whether somebody looks on, and a hang-up may mean that nobody does any more.
    in_terminal: bool,
}

impl Signals {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            in_terminal: has_terminal(),
        })
    }

    pub(crate) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
            _ = self.hangup.recv() => match self.in_terminal && !has_terminal() {
                true => Wish::End,
                false => Wish::Reload,
            },
        }
    }

    /// Waits for the wish to end.
    pub(crate) async fn end(&mut self) {
        while self.next().await != Wish::End {}
    }
}

/// A terminal that was closed is none any more.
fn has_terminal() -> bool {
    stdin().is_terminal() || stderr().is_terminal()
}
