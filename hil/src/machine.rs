//! The machine that a server of ours runs on: what it tells, and what can be broken there.

use std::{process::Stdio, sync::Arc};

use tokio::process::Command;

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

    /// Kills the server's workers as the kernel does when memory runs out; how many there were.
    ///
    /// # Errors
    /// The machine's shell says why it cannot.
    pub async fn kill_workers(&self) -> anyhow::Result<usize> {
        let killed = match self {
            Self::Here { server } => shell(&kill_workers_command(&server.to_string())).await?,
            Self::Board(board) => board.kill_workers().await?,
        };
        Ok(killed.lines().count())
    }
}

async fn shell(command: &str) -> anyhow::Result<String> {
    let output = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output().await?;
    if !output.status.success() {
        anyhow::bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
