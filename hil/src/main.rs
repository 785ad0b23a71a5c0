//! The runner: `cargo run -p rkllama-hil -- --target mock`.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a command line tool speaks to its user"
)]

use std::{
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use rkllama_hil::{
    api::{Api, Problem},
    args::ServerArgs,
    bench,
    hub::StubHub,
    lab::Lab,
    machine::Machine,
    probe, report,
    run::{self, Run},
    scenarios::{ALL, Scenario},
    server::{Built, MockServer, Setup},
    ssh::{Board, Places},
    target::Target,
};

/// Ports of a board at one of which the hub is found: the first and how many. Systems give out others.
const HUB_PORTS: (u16, u16) = (20_000, 10_000);

/// Runs scenarios against a server and says what passed
#[derive(Parser)]
#[command(
    name = "rkllama-hil",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    scenarios: Args,
}

/// What else there is to do.
#[derive(Subcommand)]
enum Command {
    /// Make the page of a run from its report.json, beside an earlier one
    Page(PageArgs),
    /// Measure the server beside a bare loop of C on the same library, and beside other servers
    Bench(Box<bench::Args>),
    /// Find out on a board what only hardware can tell, with `rkllama probe`
    Probe(Box<probe::Args>),
}

#[derive(clap::Args)]
struct PageArgs {
    /// The run's report.json
    report: PathBuf,
    /// An earlier report.json, to be compared with
    #[arg(long)]
    before: Option<PathBuf>,
    /// The page
    #[arg(long)]
    output: PathBuf,
}

/// How scenarios are run.
#[derive(clap::Args)]
struct Args {
    /// What to try: http://HOST:PORT, mock, or ssh:[user@]host
    #[arg(long, required = true)]
    target: Option<Target>,
    /// Only these models of the target
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Only scenarios whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Repeat the scenarios for this time, such as 90s, 30m or 1h
    #[arg(long, value_parser = duration)]
    soak: Option<Duration>,
    /// The model that the pull scenario fetches, in place of that of a hub which the runner plays
    #[arg(long)]
    pull: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    /// Folder for the reports: report.json, junit.xml, report.html, and a board's server.log
    #[arg(long)]
    reports: Option<PathBuf>,
    /// An earlier report.json, to be compared with
    #[arg(long)]
    before: Option<PathBuf>,
}

impl Args {
    fn target(&self) -> &Target {
        self.target.as_ref().expect("clap wants it where no other command is given")
    }
}

fn duration(written: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{written}\" is no time such as 90s, 30m or 1h");
    let unit = written.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    let count: u64 = written[..written.len() - 1].parse().map_err(|_| wrong())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Page(args)) => page(&args),
        Some(Command::Bench(args)) => measure(&args).await,
        Some(Command::Probe(args)) => probe::run(&args).await.map(|()| ExitCode::SUCCESS),
        None => scenarios(&cli.scenarios).await,
    }
}

fn page(args: &PageArgs) -> anyhow::Result<ExitCode> {
    let before = args.before.as_deref().map(read_report).transpose()?;
    let page = report::html(&read_report(&args.report)?, before.as_ref());
    std::fs::write(&args.output, page)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(args: &bench::Args) -> anyhow::Result<ExitCode> {
    let bench = bench::run(args, &|what| eprintln!("{what}")).await?;
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_string_pretty(&bench)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    match &args.output {
        Some(file) => bench::put_into(file, &bench)?,
        None => print!("{}", bench::table(&bench)),
    }
    Ok(ExitCode::SUCCESS)
}

fn read_report(file: &Path) -> anyhow::Result<Run> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no report of ours", file.display()))
}

async fn scenarios(args: &Args) -> anyhow::Result<ExitCode> {
    let chosen: Vec<Scenario> = ALL
        .iter()
        .filter(|it| args.only.is_empty() || args.only.iter().any(|only| it.name.contains(only)))
        .copied()
        .collect();
    if chosen.is_empty() {
        bail!("--only leaves no scenario");
    }
    let run = match args.target() {
        Target::Url(url) => at(args, &chosen, url, None).await?,
        Target::Mock => on_mock(args, &chosen).await?,
        Target::Ssh(host) => on_board(args, &chosen, host).await?,
    };
    write_reports(args, &run)?;
    for (model, (first, last)) in run::drift(&run.figures) {
        println!("{model}: {first:.1} ms to the first token at first, {last:.1} ms at last");
    }
    println!("{}", run.summary());
    Ok(if run.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the server is to fetch from a hub that is played here.
fn plays_hub(args: &Args) -> bool {
    args.pull.is_none() && !matches!(args.target(), Target::Url(_)) && args.server.demo.is_dir()
}

async fn at(
    args: &Args,
    chosen: &[Scenario],
    url: &str,
    machine: Option<Machine>,
) -> anyhow::Result<Run> {
    let plain = |problem: Problem| anyhow::anyhow!("{url}: {problem}");
    let api = Api::new(url, args.server.key.clone()).map_err(plain)?;
    let scripted = *args.target() == Target::Mock;
    let mut lab = Lab::open(api, &args.models, scripted).await.map_err(plain)?;
    lab.pull.clone_from(&args.pull);
    lab.has_hub = plays_hub(args);
    lab.machine = machine;
    let health = lab.api.get("/health").await.and_then(|it| it.good()).map_err(plain)?;
    let mut run = run::run(&lab, chosen, args.soak, |it| println!("{}", report::line(it))).await;
    run.target = match args.target() {
        Target::Url(url) => url.clone(),
        Target::Mock => format!("mock {}", args.server.release),
        Target::Ssh(host) => format!("ssh:{host}"),
    };
    run.version = health["version"].as_str().unwrap_or("unknown").to_owned();
    Ok(run)
}

async fn on_mock(args: &Args, chosen: &[Scenario]) -> anyhow::Result<Run> {
    let hub = StubHub::start(&args.server.demo).await?;
    let server = MockServer::start(&Built::of(&args.server), &Setup::scenarios(&hub))?;
    let run = at(args, chosen, &server.url, Some(server.machine())).await?;
    if !run.is_good() {
        println!("--- the server's log ---\n{}--- end ---", server.log());
    }
    Ok(run)
}

async fn on_board(args: &Args, chosen: &[Scenario], host: &str) -> anyhow::Result<Run> {
    let hub = if plays_hub(args) { Some(StubHub::start(&args.server.demo).await?) } else { None };
    let places = Places {
        models: args.server.board_models.clone(),
        runtime: args.server.board_runtime.clone(),
        hub_port: hub.as_ref().map(|_| HUB_PORTS.0 + process::id() as u16 % HUB_PORTS.1),
    };
    let board = Arc::new(Board::prepare(host, &args.server.executable, places).await?);
    // Whatever comes of it, the board is left as it was.
    let run = through_tunnel(args, chosen, &board, hub.as_ref()).await;
    let log = board.log().await;
    board.clean().await?;
    if let (Some(folder), Ok(log)) = (&args.reports, log) {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("server.log"), log)?;
    }
    run
}

async fn through_tunnel(
    args: &Args,
    chosen: &[Scenario],
    board: &Arc<Board>,
    hub: Option<&StubHub>,
) -> anyhow::Result<Run> {
    let address = board.start().await?;
    let tunnel = board.tunnel(&address, hub).await?;
    let machine = Machine::Board(Arc::clone(board));
    let mut run = at(args, chosen, &tunnel.url, Some(machine)).await?;
    run.doctor = serde_json::from_str(&board.doctor().await?).ok();
    Ok(run)
}

fn write_reports(args: &Args, run: &Run) -> anyhow::Result<()> {
    let Some(folder) = &args.reports else { return Ok(()) };
    let before = args.before.as_deref().map(read_report).transpose()?;
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("report.json"), serde_json::to_string_pretty(run)?)?;
    std::fs::write(folder.join("junit.xml"), report::junit(run)?)?;
    std::fs::write(folder.join("report.html"), report::html(run, before.as_ref()))?;
    Ok(())
}
