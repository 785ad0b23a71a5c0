//! The command line as written. What it means together with file and environment is in `config`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand};

use crate::client::Think;

/// Turns a Rockchip board into an OpenAI-compatible AI server.
#[derive(Debug, Parser)]
#[command(name = "rkllama", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server and stay in the foreground.
    Serve(ServeArgs),
    /// Look at this machine and say what keeps the server from working, or from working well.
    ///
    /// Changes nothing. Exit code 0: nothing failed, though something may be worth improving;
    /// 1: something failed.
    Doctor(DoctorArgs),
    /// Ask a model of a running server: a prompt, what a pipe brings, or a conversation.
    ///
    /// With a prompt or a pipe the answer goes to standard output; a pipe's text stands in front of
    /// the prompt. Without them a conversation begins at the terminal; /? there says what it knows.
    Run(RunArgs),
    /// List the models of a running server.
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// List the models that a running server has loaded or is loading.
    Ps(ListArgs),
    /// Print the API document (OpenAPI, JSON).
    Openapi,
}

/// The server to talk to.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServerArgs {
    /// The running server [default: $RKLLAMA_HOST, else $OLLAMA_HOST, else 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) host: Option<String>,
    /// A key, where the server wants one
    #[arg(long, value_name = "KEY", env = "RKLLAMA_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
}

/// What to ask, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The model, as `rkllama list` names it
    pub(crate) model: String,
    /// What to ask; several words are one prompt
    pub(crate) prompt: Vec<String>,
    /// What the model is told before everything else
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// The form of the answer: `json`, or a file with a JSON Schema
    #[arg(long, value_name = "json|FILE")]
    pub(crate) format: Option<String>,
    /// Whether the model thinks first, or how hard: true, false, low, medium, high
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) think: Option<Think>,
    /// Do not show thoughts
    #[arg(long, alias = "hidethinking")]
    pub(crate) hide_thinking: bool,
    /// Print counts and times behind the answer, on standard error
    #[arg(long)]
    pub(crate) verbose: bool,
    /// How long the model stays loaded afterwards, such as 5m; 0 unloads it, -1 keeps it
    #[arg(long, value_name = "TIME", alias = "keepalive", allow_hyphen_values = true)]
    pub(crate) keep_alive: Option<String>,
}

/// What to list, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Print JSON for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where `serve` would look, and how to print.
#[derive(Debug, Default, Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON for programs
    #[arg(long)]
    pub(crate) json: bool,
    /// Folder with one folder per model, as for serve
    #[arg(long, value_name = "DIR")]
    pub(crate) models: Option<PathBuf>,
    /// The vendor's librkllmrt.so, or a folder of them; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) runtime: Vec<PathBuf>,
    /// Configuration file, as for serve
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl DoctorArgs {
    /// The same for `serve`.
    pub(crate) fn as_serve(&self) -> ServeArgs {
        ServeArgs {
            models: self.models.clone(),
            runtime: self.runtime.clone(),
            config: self.config.clone(),
            ..ServeArgs::default()
        }
    }
}

/// Every flag wins over the environment (`RKLLAMA_*`), that over the configuration file, that over
/// the built-in default.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on; may be given several times [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Vec<String>,
    /// Folder with one folder per model [default: $XDG_DATA_HOME/rkllama/models]
    #[arg(long, value_name = "DIR")]
    pub(crate) models: Option<PathBuf>,
    /// The vendor's librkllmrt.so, or a folder of them; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) runtime: Vec<PathBuf>,
    /// Configuration file [default: $XDG_CONFIG_HOME/rkllama/config.toml, else
    /// /etc/rkllama/config.toml]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Log everything below info too, the vendor's own lines included
    #[arg(long)]
    pub(crate) debug: bool,
    /// Listen where OLLAMA_HOST says; its other variables are heard in any case
    #[arg(long)]
    pub(crate) ollama_env: bool,
}

/// Prints to standard output; a closed pipe is no error (`rkllama openapi | head`).
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => Err(err.into()),
        _ => Ok(()),
    }
}

/// Says what failed, in one line.
pub(crate) fn complain(error: &anyhow::Error) {
    // Nothing is left to be done if even standard error is closed.
    let _ = writeln!(io::stderr(), "rkllama: {error:#}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn listen_and_runtime_repeat() {
        let cli = Cli::parse_from([
            "rkllama",
            "serve",
            "--listen",
            "127.0.0.1:1",
            "--listen",
            "[::1]:2",
            "--runtime",
            "/a",
            "--runtime",
            "/b",
            "--debug",
        ]);
        let Command::Serve(args) = cli.command else { panic!("not serve") };
        assert_eq!(args.listen, ["127.0.0.1:1", "[::1]:2"]);
        assert_eq!(args.runtime, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert!(args.debug);
    }
}
