//! The `probe` role: tries out what a runtime does on this board, and keeps what was decided for the
//! server.

mod capabilities;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use rkllama_npu::{Inspection, inspect};
use rkllama_probe::{EXPERIMENTS, Finding, Found, Kind, Probe, probe};
use serde_json::json;

use self::capabilities::{Facts, Origin};
use crate::{
    board::{Board, Driver, Root},
    cli::{self, ProbeArgs, ServeArgs},
    config::Config,
    runtime_profiles::CAPABILITIES,
};

/// The first argument of the process of a step.
const STEP: &str = "probe-step";

/// Whether this process is that of a step.
pub(crate) fn step_asked_for() -> bool {
    env::args_os().nth(1).is_some_and(|role| role == STEP)
}

/// Takes a step.
pub(crate) fn run_step() -> anyhow::Result<ExitCode> {
    rkllama_probe::run_step().map_err(anyhow::Error::msg)
}

/// Makes the experiments and says what they have shown.
pub(crate) fn run(args: &ProbeArgs) -> anyhow::Result<()> {
    if args.list {
        return list();
    }
    let unknown = args.only.iter().find(|only| EXPERIMENTS.iter().all(|it| it.name != *only));
    if let Some(name) = unknown {
        bail!("no experiment is called {name}; `rkllama probe --list` names them");
    }
    let runtime = args.runtime.as_deref().context("--runtime says which library to try")?;
    let library = inspect(runtime)?;
    for model in &args.model {
        std::fs::metadata(model).with_context(|| model.display().to_string())?;
    }
    let file = output(args)?;
    // Before minutes are spent: a file that cannot be read is not overwritten.
    let before = capabilities::read(&file)?;
    let plan = plan(args, &library)?;
    let found = probe(&plan, &mut |finding| {
        if !args.json {
            // A closed pipe is no reason to lose what comes.
            let _ = cli::print(&line(finding));
        }
    })?;
    let (facts, quarrels) = capabilities::facts(&found.findings);
    let origin = origin(&library, &found)?;
    let report = report(&origin, &found, &facts, &quarrels)?;
    let seen = file.with_extension("json");
    capabilities::write(&file, before, &origin, &facts)?;
    capabilities::replace(&seen, &report)?;
    if args.json {
        return cli::print(&report);
    }
    for quarrel in quarrels {
        cli::print(&format!("models disagree about {quarrel}: left out"))?;
    }
    cli::print(&format!("{} facts of {} are in {}", facts.len(), library.version, file.display()))?;
    cli::print(&format!("everything that was seen is in {}", seen.display()))
}

fn list() -> anyhow::Result<()> {
    for experiment in EXPERIMENTS {
        let mark = if experiment.is_dangerous { " (dangerous)" } else { "" };
        cli::print(&format!(
            "{}{mark}\n    {}\n    {}",
            experiment.name, experiment.question, experiment.how
        ))?;
    }
    Ok(())
}

fn plan(args: &ProbeArgs, library: &Inspection) -> anyhow::Result<Probe> {
    let seconds = args.step_seconds.map(|seconds| u64::from(seconds.get()));
    Ok(Probe {
        executable: env::current_exe().context("this executable")?,
        role: STEP,
        runtime: library.path.clone(),
        release: library.version.clone(),
        models: args.model.clone(),
        only: args.only.clone(),
        dangerous: args.dangerous,
        time_max: seconds.map(Duration::from_secs),
    })
}

/// Where the facts go.
fn output(args: &ProbeArgs) -> anyhow::Result<PathBuf> {
    if let Some(file) = &args.output {
        return Ok(file.clone());
    }
    let serve = ServeArgs { config: args.config.clone(), ..ServeArgs::default() };
    Ok(Config::gather(&serve)?.state.join(CAPABILITIES))
}

fn line(finding: &Finding) -> String {
    let kind = match finding.verdict.kind {
        Kind::Decided => "decided",
        Kind::Observed => "observed",
        Kind::Undecided => "undecided",
        Kind::Skipped => "skipped",
    };
    let facts: Vec<String> =
        finding.verdict.facts.iter().map(|fact| format!("{} = {}", fact.key, fact.value)).collect();
    let facts = if facts.is_empty() { String::new() } else { format!(" [{}]", facts.join(", ")) };
    format!("{:16} {kind:10} {}{facts}", finding.experiment, finding.verdict.words)
}

/// Of what the facts are.
fn origin(library: &Inspection, found: &Found) -> anyhow::Result<Origin> {
    let board = Board::read(&Root::system(), |_| false);
    let driver = match board.driver {
        Driver::Vendor(release) => Some(release),
        Driver::Unversioned(_) => Some("unknown".to_owned()),
        Driver::Rocket => Some("rocket".to_owned()),
        Driver::Absent => None,
    };
    let toolkits = found.toolkits.iter().map(|(model, toolkit)| (name(model), toolkit.clone()));
    Ok(Origin {
        release: library.version.clone(),
        date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        board: board.name,
        chip: board.chip.map(|chip| chip.to_string()),
        driver,
        kernel: board.kernel,
        library_build: library.build.clone(),
        library_sha256: capabilities::sha256(&library.path)
            .with_context(|| library.path.display().to_string())?,
        toolkits: toolkits.collect(),
    })
}

fn name(model: &Path) -> String {
    model.file_name().unwrap_or(model.as_os_str()).to_string_lossy().into_owned()
}

fn report(
    origin: &Origin,
    found: &Found,
    facts: &Facts,
    quarrels: &[String],
) -> anyhow::Result<String> {
    let report = json!({
        "rkllama": env!("CARGO_PKG_VERSION"),
        "of": origin,
        "facts": facts,
        "models_disagree_about": quarrels,
        "findings": found.findings,
    });
    Ok(serde_json::to_string_pretty(&report)?)
}
