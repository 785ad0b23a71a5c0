//! The `doctor` role: looks at the machine as the server would find it and says what is wrong.
//!
//! Nothing is changed and nothing of the vendor's is loaded. A threshold here has its reason beside
//! it; figures of speed are reports of board users or the vendor's own, none was measured by us.

mod caller;
mod check;
mod hardware;
mod models;
mod shared_libraries;
mod software;
mod table;
#[cfg(test)]
mod tests;
mod tuning;

use std::process::ExitCode;

use rkllama_core::{Model, Models};
use rkllama_models::Store;

use self::{caller::Caller, check::Report, shared_libraries::SharedLibraries};
use crate::{
    board::{Board, ReadAhead, Root},
    cli::{self, DoctorArgs, ServeArgs},
    config::{self, Config},
    runtimes::Libraries,
};

/// Prints the report. Success means that nothing failed; warnings are allowed.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let report = examine(&Root::system(), &Caller::here()?, &args.as_serve());
    cli::print(&if args.json { report.to_json()? } else { table::render(&report) })?;
    Ok(if report.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Everything there is to examine, with the configuration as `serve` would have it. Where that cannot
/// be read the rest is examined with the built-in one.
fn examine(root: &Root, caller: &Caller, args: &ServeArgs) -> Report {
    let board = Board::read(root, caller.opens);
    let gathered = Config::gather(args);
    let configuration = match &gathered {
        Ok(_) => software::configuration(config::file(args.config.as_deref()).ok().flatten()),
        Err(error) => software::bad_configuration(error),
    };
    let config = gathered.unwrap_or_else(|_| Config::of_flags(args));
    let libraries = Libraries::of(&config);
    let store = Store::open(config.models.clone(), crate::serve::defaults(&config));
    let models = store.list();
    let shared = SharedLibraries { root, caller };
    let read_ahead = ReadAhead::of(root, &config.models);

    let mut checks = vec![configuration];
    checks.extend(hardware::checks(&board, caller));
    checks.extend(tuning::checks(&board, caller, config.board.affinity));
    checks.push(tuning::memory(&board, largest(&models)));
    checks.push(tuning::read_ahead(read_ahead.as_ref()));
    checks.extend(software::checks(&board, &shared, &libraries));
    checks.extend(models::checks(&board, &config.models, &models, &libraries));
    Report::of(checks)
}

/// The model with the most bytes of weights, and how many.
fn largest(models: &[std::sync::Arc<Model>]) -> Option<(&str, u64)> {
    let sized = |model: &'_ std::sync::Arc<Model>| models::weights_bytes(model);
    models.iter().filter_map(|model| Some((model.id.as_str(), sized(model)?))).max_by_key(|m| m.1)
}
