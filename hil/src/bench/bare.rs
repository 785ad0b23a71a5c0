//! The bare loop of `hil/bench/loop.c`: made for the library that the server uses, on the same machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::{machine::Machine, ssh::quoted};

/// Where the loop comes from.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    /// `loop.c`.
    pub(super) source: PathBuf,
    /// The folder of the vendor's interface in C, a header for each ABI group.
    pub(super) headers: PathBuf,
    /// A folder with `loop-e` and `loop-f`, for machines that cannot compile.
    pub(super) built: Option<PathBuf>,
}

/// The program, and what it is given.
#[derive(Debug, Clone)]
pub(super) struct BareLoop {
    machine: Machine,
    folder: String,
    /// Variables of the shell in front of the program.
    environment: String,
    library: String,
    weights: String,
    context_tokens: u64,
}

/// What a library says of itself, in the shell's words.
fn version_command(library: &str) -> String {
    let library = quoted(library);
    format!("LC_ALL=C grep -aoE 'RKLLM SDK .version: [0-9.]+[0-9a-z]*' {library} | head -n 1")
}

/// The header of a release's ABI group.
fn group(version: &str) -> Option<&'static str> {
    match version {
        "1.2.1" | "1.2.2" | "1.2.3" => Some("e"),
        _ if version.starts_with("1.3.") => Some("f"),
        _ => None,
    }
}

impl BareLoop {
    /// Puts the program into a folder of the machine.
    ///
    /// # Errors
    /// The library's release has another interface, or the machine has no compiler.
    pub(super) async fn make(
        sources: &Sources,
        machine: &Machine,
        folder: &str,
        library: &str,
    ) -> anyhow::Result<Self> {
        let said = machine.shell(&version_command(library)).await?;
        let version = said.trim().rsplit(' ').next().unwrap_or_default();
        let group = group(version)
            .with_context(|| format!("{library} is of release {version:?}, not 1.2.1 to 1.3.x"))?;
        let put = |file: PathBuf, name: &str| {
            let to = format!("{folder}/{name}");
            async move { machine.put(&file, &to).await }
        };
        let change = format!("cd {}", quoted(folder));
        if let Some(built) = &sources.built {
            put(built.join(format!("loop-{group}")), "loop").await?;
            machine.shell(&format!("{change} && chmod +x loop")).await?;
        } else {
            put(sources.source.clone(), "loop.c").await?;
            let header = format!("rkllm-{group}.h");
            for name in [header.as_str(), "rkllm-mock.h"] {
                put(sources.headers.join(name), name).await?;
            }
            let compile = format!(
                "{change} && cc -std=c11 -D_GNU_SOURCE -O2 -include {header} loop.c -o loop -ldl"
            );
            machine.shell(&compile).await.context("a C compiler is needed")?;
        }
        Ok(Self {
            machine: machine.clone(),
            folder: folder.to_owned(),
            environment: String::new(),
            library: library.to_owned(),
            weights: String::new(),
            context_tokens: 0,
        })
    }

    /// What it loads, and the variables that the server's workers have too.
    pub(super) fn on(mut self, weights: &str, context_tokens: u64, environment: &str) -> Self {
        weights.clone_into(&mut self.weights);
        environment.clone_into(&mut self.environment);
        self.context_tokens = context_tokens;
        self
    }

    /// Starts it; it has loaded the model when this returns.
    pub(super) async fn start(&self) -> anyhow::Result<Running> {
        let command = format!(
            "cd {} && {} exec ./loop {} {} {} 2>loop.log",
            quoted(&self.folder),
            self.environment,
            quoted(&self.library),
            quoted(&self.weights),
            self.context_tokens,
        );
        let mut child = self.machine.begin(&command)?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let mut running = Running { child, input: Some(input), output, load_ms: 0.0 };
        match running.line::<Loaded>().await {
            Ok(loaded) => running.load_ms = loaded.load_ms,
            Err(why) => return Err(self.complaint(why).await),
        }
        Ok(running)
    }

    /// With what the library has printed.
    pub(super) async fn complaint(&self, why: anyhow::Error) -> anyhow::Error {
        let log = format!("tail -n 10 {}/loop.log", quoted(&self.folder));
        let log = self.machine.shell(&log).await.unwrap_or_default();
        why.context(format!("the bare loop failed: {}", log.trim()))
    }
}

#[derive(Debug, Deserialize)]
struct Loaded {
    load_ms: f64,
}

/// What a run came to.
#[derive(Debug, Deserialize)]
pub(super) struct Ran {
    pub(super) tokens: u64,
    pub(super) first_ms: f64,
    pub(super) last_ms: f64,
    pub(super) took_ms: f64,
    pub(super) cpu_us: f64,
    pub(super) rss_kib: f64,
    pub(super) pss_kib: f64,
    pub(super) ids: Vec<i32>,
    pub(super) text: String,
}

/// The program with the model in it; it ends when dropped.
pub(super) struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Opening the library and loading the model.
    pub(super) load_ms: f64,
}

impl Running {
    async fn line<T: for<'a> Deserialize<'a>>(&mut self) -> anyhow::Result<T> {
        let mut line = Vec::new();
        if self.output.read_until(b'\n', &mut line).await? == 0 {
            bail!("it ended");
        }
        // An answer can end inside a character.
        let line = String::from_utf8_lossy(&line);
        serde_json::from_str(&line).with_context(|| format!("no JSON: {line}"))
    }

    /// An answer of at most so many tokens.
    pub(super) async fn run(&mut self, prompt: &[i32], tokens_max: u32) -> anyhow::Result<Ran> {
        let mut line = tokens_max.to_string();
        for id in prompt {
            line += &format!(" {id}");
        }
        line.push('\n');
        let input = self.input.as_mut().context("it was ended")?;
        input.write_all(line.as_bytes()).await?;
        input.flush().await?;
        self.line().await
    }

    /// Lets it free the model.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        drop(self.input.take());
        let status = self.child.wait().await?;
        if !status.success() {
            bail!("its end: {status}");
        }
        Ok(())
    }
}

/// `loop.c` as it lies in the repository.
pub(super) const SOURCE: &str = "hil/bench/loop.c";
/// The headers there.
pub(super) const HEADERS: &str = "mock-npu/include";

/// Whether the sources are there: a plain word instead of a compiler's.
pub(super) fn missing(sources: &Sources) -> Option<&Path> {
    let files = [Some(&sources.source), Some(&sources.headers), sources.built.as_ref()];
    let needed = if sources.built.is_some() { &files[2..] } else { &files[..2] };
    needed.iter().copied().flatten().map(PathBuf::as_path).find(|it| !it.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_that_of_the_release() {
        assert_eq!(
            ["1.2.1", "1.2.3", "1.3.0", "1.3.1"].map(group),
            [Some("e"), Some("e"), Some("f"), Some("f")]
        );
        assert_eq!(["1.2.0", "1.2.1b1", "1.1.4", "", "2.0.0"].map(group), [None; 5]);
    }
}
