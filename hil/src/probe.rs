//! Questions for hardware: has `rkllama probe` make its experiments on the mock or on a board, and
//! fetches what they have shown.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use tokio::process::Command;

use crate::{
    args::ServerArgs,
    ssh::{Board, Places, quoted},
    target::Target,
};

/// What the server reads, and everything that was seen.
const FILES: [&str; 2] = ["capabilities.toml", "capabilities.json"];

/// What to ask
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Whom to ask: mock, or ssh:[user@]host
    #[arg(long)]
    target: Target,
    /// Only these models' files of the board, by parts of their paths below --board-models
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Only these experiments
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Those too that may leave the NPU's driver in a bad state
    #[arg(long)]
    dangerous: bool,
    /// Folder for capabilities.toml and capabilities.json
    #[arg(long, default_value = ".")]
    reports: PathBuf,
    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    /// What is said to `rkllama probe` besides the files.
    fn flags(&self) -> Vec<String> {
        let mut flags = vec!["probe".to_owned()];
        if !self.only.is_empty() {
            flags.extend(["--only".to_owned(), self.only.join(",")]);
        }
        flags.extend(self.dangerous.then(|| "--dangerous".to_owned()));
        flags
    }
}

/// Asks, with the answers on standard output as they come, and puts the files into the folder.
///
/// # Errors
/// The experiments cannot be made. What they show is no error.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.reports).with_context(|| args.reports.display().to_string())?;
    match &args.target {
        Target::Mock => on_mock(args).await,
        Target::Ssh(host) => on_board(args, host).await,
        Target::Url(_) => bail!("a server cannot be asked: --target is mock or ssh:[user@]host"),
    }
}

async fn on_mock(args: &Args) -> anyhow::Result<()> {
    let ServerArgs { executable, mock, release, demo, .. } = &args.server;
    let status = Command::new(executable)
        .args(args.flags())
        .arg("--runtime")
        .arg(mock.join(release).join("librkllmrt.so"))
        .arg("--model")
        .arg(demo.join("demo.rkllm"))
        .arg("--output")
        .arg(args.reports.join(FILES[0]))
        .status()
        .await
        .with_context(|| executable.display().to_string())?;
    ensure!(status.success(), "rkllama probe: {status}");
    Ok(())
}

async fn on_board(args: &Args, host: &str) -> anyhow::Result<()> {
    let places = Places {
        models: args.server.board_models.clone(),
        runtime: args.server.board_runtime.clone(),
        hub_port: None,
    };
    let board = Board::prepare(host, &args.server.executable, places).await?;
    // Whatever comes of it, the board is left as it was.
    let asked = ask(args, &board).await;
    board.clean().await?;
    asked
}

async fn ask(args: &Args, board: &Board) -> anyhow::Result<()> {
    let runtime = args.server.board_runtime.as_deref();
    let runtime = runtime.context("--board-runtime says which library to try")?;
    let models = models(args, board).await?;
    let folder = quoted(board.folder());
    let mut command = format!("cd {folder} && chmod +x rkllama && ./rkllama");
    let output = ["--runtime", runtime, "--output", FILES[0]].map(str::to_owned);
    let models = models.into_iter().flat_map(|model| ["--model".to_owned(), model]);
    for word in args.flags().into_iter().chain(output).chain(models) {
        command += &format!(" {}", quoted(&word));
    }
    let status = board.command(&command).status().await.context("cannot start ssh")?;
    ensure!(status.success(), "rkllama probe on the board: {status}");
    for file in FILES {
        let text = board.shell(&format!("cat {folder}/{file}")).await?;
        write(&args.reports.join(file), &text)?;
    }
    Ok(())
}

/// The weights below the board's folder of models.
async fn models(args: &Args, board: &Board) -> anyhow::Result<Vec<String>> {
    let Some(folder) = board.models() else {
        bail!("--board-models says where models lie");
    };
    let found = board.shell(&format!("find -L {} -name '*.rkllm'", quoted(folder))).await?;
    let is_wanted = |model: &&str| {
        let below = model.strip_prefix(folder).unwrap_or(model);
        args.models.is_empty() || args.models.iter().any(|part| below.contains(part.as_str()))
    };
    let mut models: Vec<String> = found.lines().filter(is_wanted).map(str::to_owned).collect();
    models.sort();
    ensure!(!models.is_empty(), "no .rkllm file of these names below {folder}");
    Ok(models)
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| file.display().to_string())
}
