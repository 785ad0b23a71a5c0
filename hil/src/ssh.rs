//! A board over ssh: the arm64 build is copied there, started, asked, and taken away again.

use std::{path::Path, process::Stdio};

use anyhow::{Context, bail};
use tokio::process::Command;

/// What a board's models and runtime are called in its commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The folder of models on the board; the server's own default where none is named.
    pub models: Option<String>,
    /// The runtime's library on the board; the server's own search where none is named.
    pub runtime: Option<String>,
}

/// A word that a shell takes as it is.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Temperatures and the NPU's load. What cannot be read is left out.
pub fn files_command() -> String {
    "cat /sys/class/thermal/thermal_zone*/temp /sys/kernel/debug/rknpu/load 2>/dev/null || true"
        .to_owned()
}

/// Starts the server in a folder, in the background, and prints its address when it listens.
/// Its output goes on into a file: a reader that leaves must not stop it.
pub fn start_command(folder: &str, places: &Places) -> String {
    let mut serve = "./rkllama serve --listen 127.0.0.1:0".to_owned();
    for (flag, value) in [("--models", &places.models), ("--runtime", &places.runtime)] {
        if let Some(value) = value {
            serve += &format!(" {flag} {}", quoted(value));
        }
    }
    format!(
        "cd {} && chmod +x rkllama && {{ nohup {serve} >out 2>log </dev/null & echo $! >pid; }} && \
         for _ in $(seq 150); do if grep -m1 -o 'http://.*' out; then exit 0; fi; \
         kill -0 $(cat pid) || break; sleep 0.2; done; cat log >&2; exit 1",
        quoted(folder)
    )
}

/// Ends the server, waits for its end, and removes the folder.
pub fn clean_command(folder: &str) -> String {
    let folder = quoted(folder);
    format!(
        "cd {folder} && if [ -e pid ]; then kill $(cat pid); for _ in $(seq 100); do \
         kill -0 $(cat pid) 2>/dev/null || break; sleep 0.1; done; fi; cd / && rm -rf {folder}"
    )
}

/// Asks the doctor with the same places.
pub fn doctor_command(folder: &str, places: &Places) -> String {
    let mut doctor = format!("cd {} && ./rkllama doctor --json", quoted(folder));
    for (flag, value) in [("--models", &places.models), ("--runtime", &places.runtime)] {
        if let Some(value) = value {
            doctor += &format!(" {flag} {}", quoted(value));
        }
    }
    // Its exit code says what it found, and that is in its words.
    doctor + " || true"
}

/// A board with a server on it.
#[derive(Debug)]
pub struct Board {
    host: String,
    folder: String,
    places: Places,
}

impl Board {
    /// Copies the executable into a new folder of the board.
    ///
    /// # Errors
    /// ssh or scp fail.
    pub async fn prepare(host: &str, executable: &Path, places: Places) -> anyhow::Result<Self> {
        let folder = ssh(host, "mktemp -d /tmp/rkllama-hil.XXXXXX").await?.trim().to_owned();
        if !folder.starts_with("/tmp/rkllama-hil.") {
            bail!("the board has made no folder: {folder:?}");
        }
        let board = Self { host: host.to_owned(), folder, places };
        let to = format!("{host}:{}/rkllama", board.folder);
        let copied =
            Command::new("scp").args(["-q", "--"]).arg(executable).arg(to).output().await?;
        if !copied.status.success() {
            board.clean().await?;
            bail!("scp: {}", String::from_utf8_lossy(&copied.stderr));
        }
        Ok(board)
    }

    /// Starts the server; its address on the board.
    ///
    /// # Errors
    /// It does not listen; its log is quoted.
    pub async fn start(&self) -> anyhow::Result<String> {
        Ok(ssh(&self.host, &start_command(&self.folder, &self.places)).await?.trim().to_owned())
    }

    /// A tunnel from a port of this machine to that address; it ends when dropped.
    ///
    /// # Errors
    /// ssh cannot be started.
    pub fn tunnel(&self, port: u16, address: &str) -> anyhow::Result<tokio::process::Child> {
        let there = address.trim_start_matches("http://");
        Ok(Command::new("ssh")
            .args(["-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-N", "-L"])
            .arg(format!("127.0.0.1:{port}:{there}"))
            .args(["--", &self.host])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?)
    }

    /// Temperatures and the NPU's load, as the board's files say.
    pub async fn files(&self) -> String {
        ssh(&self.host, &files_command()).await.unwrap_or_default()
    }

    /// What the doctor says of the board.
    ///
    /// # Errors
    /// ssh fails.
    pub async fn doctor(&self) -> anyhow::Result<String> {
        ssh(&self.host, &doctor_command(&self.folder, &self.places)).await
    }

    /// What the server has logged.
    ///
    /// # Errors
    /// ssh fails.
    pub async fn log(&self) -> anyhow::Result<String> {
        ssh(&self.host, &format!("cat {}/log", quoted(&self.folder))).await
    }

    /// Ends the server and leaves nothing behind.
    ///
    /// # Errors
    /// ssh fails.
    pub async fn clean(&self) -> anyhow::Result<()> {
        ssh(&self.host, &clean_command(&self.folder)).await.map(drop)
    }
}

async fn ssh(host: &str, command: &str) -> anyhow::Result<String> {
    let output = Command::new("ssh")
        .args(["-o", "BatchMode=yes", "--", host, command])
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot start ssh")?;
    if !output.status.success() {
        bail!("ssh {host}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_name_stays_one_word_of_the_shell() {
        let places = Places { models: Some("/a b/it's".to_owned()), runtime: None };
        let command = start_command("/tmp/x", &places);
        assert!(command.contains(r"--models '/a b/it'\''s' >out"), "{command}");
        assert!(!command.contains("--runtime"), "{command}");
        assert!(clean_command("/tmp/x").ends_with("rm -rf '/tmp/x'"));
    }
}
