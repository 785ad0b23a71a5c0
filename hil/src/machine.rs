//! The machine that a server of ours runs on: what it tells, and what can be broken there.

use std::{path::Path, process::Stdio, sync::Arc};

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

use crate::ssh::{Board, kill_workers_command};

/// A machine at whose shell the runner sits.
#[derive(Debug, Clone)]
pub enum Machine {
    /// This one, where the server is this process.
    Here {
        /// The server's process.
        server: u32,
    },
    /// A board.
    Board(Arc<Board>),
}

impl Machine {
    /// Temperatures and the NPU's load, as a board's files say. A PC's would say nothing of an NPU.
    pub async fn files(&self) -> String {
        match self {
            Self::Here { .. } => String::new(),
            Self::Board(board) => board.files().await,
        }
    }

    /// The server's process, in a word of the machine's shell.
    pub fn server(&self) -> String {
        match self {
            Self::Here { server } => server.to_string(),
            Self::Board(board) => board.server(),
        }
    }

    /// Kills the server's workers as the kernel does when memory runs out; how many there were.
    ///
    /// # Errors
    /// The machine's shell says why it cannot.
    pub async fn kill_workers(&self) -> anyhow::Result<usize> {
        let killed = self.shell(&kill_workers_command(&self.server())).await?;
        Ok(killed.lines().count())
    }

    /// What a command prints there.
    ///
    /// # Errors
    /// What it complains of.
    pub async fn shell(&self, command: &str) -> anyhow::Result<String> {
        let output = match self {
            Self::Here { .. } => {
                Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output().await?
            }
            Self::Board(board) => return board.shell(command).await,
        };
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A command that goes on there, to be talked to; it ends when dropped.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(&self, command: &str) -> anyhow::Result<Child> {
        let mut shell = match self {
            Self::Here { .. } => {
                let mut shell = Command::new("sh");
                shell.args(["-c", command]);
                shell
            }
            Self::Board(board) => board.command(command),
        };
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        shell.spawn().context("no shell can be started")
    }

    /// Copies a file of this machine there.
    ///
    /// # Errors
    /// It is not there, or cannot be copied.
    pub async fn put(&self, file: &Path, to: &str) -> anyhow::Result<()> {
        match self {
            Self::Here { .. } => {
                let copied = tokio::fs::copy(file, to).await;
                copied.map(drop).with_context(|| format!("cannot copy {}", file.display()))
            }
            Self::Board(board) => board.put(file, to).await,
        }
    }
}
