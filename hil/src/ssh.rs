//! A board over ssh: the arm64 build is copied there, started, asked, and taken away again.

use std::{net::TcpListener, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, bail};
use tokio::process::Command;

use crate::{api::Api, hub::StubHub};

/// How long a tunnel to a board may take to stand, in tenths of a second.
const TUNNEL_LOOKS_MAX: u32 = 100;

/// What a board's models and runtime are called in its commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The folder of models on the board; the server's own default where none is named.
    pub models: Option<String>,
    /// The runtime's library on the board; the server's own search where none is named.
    pub runtime: Option<String>,
    /// The port of the board at which the runner's hub is found, where models are fetched from it.
    pub hub_port: Option<u16>,
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
    let hub = places
        .hub_port
        .map_or_else(String::new, |port| format!("RKLLAMA_HUB__ENDPOINT=http://127.0.0.1:{port} "));
    let serve = serve(places);
    format!(
        "cd {} && chmod +x rkllama && {{ {hub}nohup {serve} >out 2>log </dev/null & echo $! >pid; }} && \
         for _ in $(seq 150); do if grep -m1 -o 'http://.*' out; then exit 0; fi; \
         kill -0 $(cat pid) || break; sleep 0.2; done; cat log >&2; exit 1",
        quoted(folder)
    )
}

/// Starts a server in a folder, waits until it listens, ends it, and prints how many nanoseconds that took.
pub fn start_ns_command(folder: &str, places: &Places) -> String {
    // What it says later than that has no reader: it is being ended.
    format!(
        "cd {} && chmod +x rkllama && rm -f said && mkfifo said && began=$(date +%s%N) && \
         {{ {} >said 2>start.log </dev/null & }} && while read -r line; do \
         case $line in *'listening on'*) now=$(date +%s%N); break;; esac; done <said; \
         kill $! && wait $!; rm -f said; if [ -z \"$now\" ]; then cat start.log >&2; exit 1; fi; \
         echo $((now - began))",
        quoted(folder),
        serve(places)
    )
}

fn serve(places: &Places) -> String {
    let mut serve = "./rkllama serve --listen 127.0.0.1:0".to_owned();
    for (flag, value) in [("--models", &places.models), ("--runtime", &places.runtime)] {
        if let Some(value) = value {
            serve += &format!(" {flag} {}", quoted(value));
        }
    }
    serve
}

/// Ends the server, waits for its end, and removes the folder.
pub fn clean_command(folder: &str) -> String {
    let folder = quoted(folder);
    format!(
        "cd {folder} && if [ -e pid ]; then kill $(cat pid); for _ in $(seq 100); do \
         kill -0 $(cat pid) 2>/dev/null || break; sleep 0.1; done; fi; cd / && rm -rf {folder}"
    )
}

/// Kills the processes that a server has started, and prints their numbers.
pub fn kill_workers_command(server: &str) -> String {
    // One may have ended by itself meanwhile.
    format!(
        "for worker in $(cat /proc/{server}/task/*/children); do \
         kill -9 $worker 2>/dev/null && echo $worker; done; true"
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

/// A way to a board's server; it ends when dropped.
#[derive(Debug)]
pub struct Tunnel {
    ssh: tokio::process::Child,
    /// Where the server is found on this machine.
    pub url: String,
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
        if let Err(why) = board.put(executable, &format!("{}/rkllama", board.folder)).await {
            board.clean().await?;
            return Err(why);
        }
        Ok(board)
    }

    /// The folder that is ours there.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The folder of models, where one was named.
    pub fn models(&self) -> Option<&str> {
        self.places.models.as_deref()
    }

    /// Copies a file there.
    ///
    /// # Errors
    /// scp fails.
    pub async fn put(&self, file: &Path, to: &str) -> anyhow::Result<()> {
        let to = format!("{}:{to}", self.host);
        let copied = Command::new("scp").args(["-q", "--"]).arg(file).arg(to).output().await?;
        if !copied.status.success() {
            bail!("scp: {}", String::from_utf8_lossy(&copied.stderr));
        }
        Ok(())
    }

    /// What a command prints there.
    ///
    /// # Errors
    /// ssh fails, or the command.
    pub async fn shell(&self, command: &str) -> anyhow::Result<String> {
        ssh(&self.host, command).await
    }

    /// A command there that is not yet begun.
    pub fn command(&self, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-o", "BatchMode=yes", "--", &self.host, command]);
        ssh
    }

    /// The server's process, in a word of the board's shell.
    pub fn server(&self) -> String {
        format!("$(cat {}/pid)", quoted(&self.folder))
    }

    /// Starts the server; its address on the board.
    ///
    /// # Errors
    /// It does not listen; its log is quoted.
    pub async fn start(&self) -> anyhow::Result<String> {
        Ok(ssh(&self.host, &start_command(&self.folder, &self.places)).await?.trim().to_owned())
    }

    /// How long a server takes from its start until it listens, in milliseconds. It is ended again.
    ///
    /// # Errors
    /// It does not listen; its log is quoted.
    pub async fn start_ms(&self) -> anyhow::Result<f64> {
        let took = ssh(&self.host, &start_ns_command(&self.folder, &self.places)).await?;
        let took_ns: f64 = took.trim().parse().with_context(|| format!("no time: {took}"))?;
        Ok(took_ns / 1e6)
    }

    /// A tunnel from a port of this machine to that address, and back from the board's port for the
    /// hub to the hub's own here. It stands when this returns.
    ///
    /// # Errors
    /// ssh cannot be started, or nothing answers at its end.
    pub async fn tunnel(&self, address: &str, hub: Option<&StubHub>) -> anyhow::Result<Tunnel> {
        // Free a moment ago: ssh says so itself should it be taken meanwhile.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let there = address.trim_start_matches("http://");
        let mut ssh = Command::new("ssh");
        ssh.args(["-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-N", "-L"])
            .arg(format!("127.0.0.1:{port}:{there}"));
        if let (Some(board), Some(hub)) = (self.places.hub_port, hub) {
            ssh.arg("-R").arg(format!("127.0.0.1:{board}:127.0.0.1:{}", hub.port()));
        }
        ssh.args(["--", &self.host]).stdin(Stdio::null()).kill_on_drop(true);
        let mut tunnel = Tunnel { ssh: ssh.spawn()?, url: format!("http://127.0.0.1:{port}") };
        let api = Api::new(&tunnel.url, None).map_err(|it| anyhow::anyhow!("{it:?}"))?;
        let mut looks = 0;
        while api.get("/health").await.is_err() {
            looks += 1;
            if tunnel.ssh.try_wait()?.is_some() || looks > TUNNEL_LOOKS_MAX {
                bail!("no tunnel to {address} of the board");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(tunnel)
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
        let places =
            Places { models: Some("/a b/it's".to_owned()), runtime: None, hub_port: Some(20_001) };
        let command = start_command("/tmp/x", &places);
        assert!(command.contains(r"--models '/a b/it'\''s' >out"), "{command}");
        assert!(!command.contains("--runtime"), "{command}");
        assert!(command.contains("{ RKLLAMA_HUB__ENDPOINT=http://127.0.0.1:20001 nohup "));
        assert!(clean_command("/tmp/x").ends_with("rm -rf '/tmp/x'"));
    }
}
