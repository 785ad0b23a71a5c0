//! The command line as written. What it means together with file and environment is in `config`.
//!
//! Commands that need no server and are none of the server's own stand below: `adopt`, `config`,
//! `completions` and `man`.

mod adopt;
mod manual;
mod settings;

pub(crate) use adopt::adopt;
pub(crate) use manual::{completions, man};
pub(crate) use settings::settings;

use std::{
    io::{self, Write},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

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
    /// Have a running server fetch a model from the Hugging Face hub.
    ///
    /// NAME is a short name such as `qwen3:1.7b`, or a repository, ORG/REPO, with the file behind it
    /// where it holds several models for the server's chip. Ctrl-C stops it; the same command goes on
    /// where it was.
    Pull(PullArgs),
    /// Have a running server make a model as a Modelfile says.
    ///
    /// Takes Ollama's Modelfiles and those of KEY=VALUE lines. Where FROM names a file or a folder that
    /// is here, its files are sent to the server.
    Create(CreateArgs),
    /// Show what a running server knows of a model.
    Show(ShowArgs),
    /// List the models of a running server.
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// List the models that a running server has loaded or is loading.
    Ps(ListArgs),
    /// Give a model of a running server another name too. Takes no more space.
    Cp(CpArgs),
    /// Remove models of a running server.
    Rm(RmArgs),
    /// Have a running server unload a model.
    Stop(StopArgs),
    /// Measure how fast a model of a running server reads and writes.
    ///
    /// For each length of a prompt: how fast it is read, how fast the answer is written, and the time to
    /// the first token, each as mean and range over the runs. No two prompts begin alike.
    Bench(BenchArgs),
    /// Try out what a runtime does on this board, so that the server need not assume the worst.
    ///
    /// Each experiment runs in processes of its own, which may crash or hang; that is found out then, and
    /// the others go on. What is decided goes into a file that `serve` reads when it starts. No server
    /// may use the NPU meanwhile. Takes minutes for each model.
    Probe(ProbeArgs),
    /// Take over the models of another folder, by links. Moves, changes and deletes nothing in it.
    ///
    /// Needs no server; one that runs sees them within seconds.
    Adopt(AdoptArgs),
    /// Get the vendor's runtime library, which is not part of rkllama.
    Runtime {
        #[command(subcommand)]
        command: RuntimeCommand,
    },
    /// Print the configuration as `serve` would have it, without secrets.
    Config(ServeArgs),
    /// Print a script that makes a shell complete this command line.
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands into a folder.
    Man {
        /// Write all pages there
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print the API document (OpenAPI, JSON).
    Openapi,
}

/// What to do about the vendor's library.
#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeCommand {
    /// Fetch a release of the vendor's library and put it where `serve` finds it.
    ///
    /// Releases lie side by side. What comes is compared with its SHA-256: the one given, else the one
    /// that is known of the release. Where there is neither, it is printed and nothing is installed,
    /// unless --trust says so.
    Fetch(FetchArgs),
}

/// Which library, from where.
#[derive(Debug, Clone, Args)]
pub(crate) struct FetchArgs {
    /// The release, such as 1.3.1 [default: the newest whose SHA-256 is known; with --from what comes]
    pub(crate) version: Option<String>,
    /// The file's address [default: the vendor's repository]
    #[arg(long, value_name = "URL")]
    pub(crate) from: Option<String>,
    /// What the file's SHA-256 must be, 64 hexadecimal digits
    #[arg(long, value_name = "H")]
    pub(crate) sha256: Option<String>,
    /// Install a file of which no SHA-256 is known
    #[arg(long)]
    pub(crate) trust: bool,
    /// Folder for releases [default: /var/lib/rkllama/runtimes for root, else
    /// $XDG_DATA_HOME/rkllama/runtimes]
    #[arg(long, value_name = "DIR")]
    pub(crate) into: Option<PathBuf>,
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

/// What to fetch.
#[derive(Debug, Clone, Args)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// A short name, ORG/REPO or ORG/REPO/FILE.rkllm
    pub(crate) name: String,
    /// What the model is called on the server [default: the short, the repository's or the file's name]
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) alias: Option<String>,
    /// The repository to take the tokenizer from [default: the model's own, else its makers']
    #[arg(long, value_name = "ORG/REPO")]
    pub(crate) tokenizer: Option<String>,
    /// Print what the server says, a line of JSON each
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to make.
#[derive(Debug, Clone, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// What the model is called
    pub(crate) name: String,
    /// The Modelfile
    #[arg(short, long, value_name = "FILE", default_value = "Modelfile")]
    pub(crate) file: PathBuf,
}

/// What to show of which model.
#[derive(Debug, Clone, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The model, as `rkllama list` names it
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) part: ShowPart,
    /// Print the server's answer, JSON for programs
    #[arg(long, conflicts_with = "ShowPart")]
    pub(crate) json: bool,
}

/// One part alone.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub(crate) struct ShowPart {
    /// Print the Modelfile alone
    #[arg(long)]
    pub(crate) modelfile: bool,
    /// Print the parameters alone
    #[arg(long)]
    pub(crate) parameters: bool,
    /// Print the chat template alone
    #[arg(long)]
    pub(crate) template: bool,
    /// Print the system prompt alone
    #[arg(long)]
    pub(crate) system: bool,
    /// Print the licences alone
    #[arg(long)]
    pub(crate) license: bool,
}

/// What to copy.
#[derive(Debug, Clone, Args)]
pub(crate) struct CpArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The model
    pub(crate) source: String,
    /// What its copy is called
    pub(crate) destination: String,
}

/// What to remove.
#[derive(Debug, Clone, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The models
    #[arg(required = true, value_name = "MODEL")]
    pub(crate) models: Vec<String>,
}

/// What to unload.
#[derive(Debug, Clone, Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The model
    pub(crate) model: String,
}

/// What to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The model
    pub(crate) model: String,
    /// Lengths of prompts, in tokens
    #[arg(long, value_name = "TOKENS,…", value_delimiter = ',', default_value = "16,128,512")]
    pub(crate) prompt: Vec<NonZeroUsize>,
    /// Length of each answer, in tokens
    #[arg(long, value_name = "TOKENS", default_value = "64")]
    pub(crate) tokens: NonZeroU32,
    /// How often each length is measured
    #[arg(long, value_name = "TIMES", default_value = "3")]
    pub(crate) runs: NonZeroU32,
    /// Print JSON for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to try, with what.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProbeArgs {
    /// The vendor's librkllmrt.so
    #[arg(long, value_name = "LIB", required_unless_present = "list")]
    pub(crate) runtime: Option<PathBuf>,
    /// A model, with its tokenizer beside it; may be given several times. A small one is soonest done;
    /// for the end of sequence one of a toolkit before 1.3 is needed
    #[arg(long, value_name = "FILE.rkllm")]
    pub(crate) model: Vec<PathBuf>,
    /// Only these experiments
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Make those too that may leave the NPU's driver in a bad state
    #[arg(long)]
    pub(crate) dangerous: bool,
    /// Seconds that a step of an experiment may take [default: 600]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) step_seconds: Option<NonZeroU32>,
    /// Where the facts go [default: capabilities.toml in the server's state folder]; everything that was
    /// seen goes into a file of the same name that ends in .json
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Print JSON for programs: everything that was seen
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the experiments, and make none
    #[arg(long)]
    pub(crate) list: bool,
    /// Configuration file, as for serve
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// What to take over, and where to.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdoptArgs {
    /// The other folder, such as /opt/rkllama/models
    pub(crate) dir: PathBuf,
    /// Our folder, with one folder per model, as for serve
    #[arg(long, value_name = "DIR")]
    pub(crate) models: Option<PathBuf>,
    /// Fetch missing tokenizers from the repositories that the Modelfiles name, else from those of
    /// short names; they are put beside the weights, those of loose files into our folder
    #[arg(long)]
    pub(crate) fetch: bool,
    /// The repository to fetch tokenizers from, where neither a Modelfile nor a short name tells
    #[arg(long, value_name = "REPO", requires = "fetch")]
    pub(crate) tokenizer: Option<String>,
    /// Configuration file, as for serve
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl AdoptArgs {
    /// The same for `serve`.
    fn as_serve(&self) -> ServeArgs {
        ServeArgs {
            models: self.models.clone(),
            config: self.config.clone(),
            ..ServeArgs::default()
        }
    }
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
