//! The process of one step: told on its standard input what to do, it says what it sees in a file. Its
//! standard output is the vendor's.

use std::{
    io::{self, BufRead, Read},
    process::ExitCode,
    thread,
};

use rkllama_npu::exit_now;

use crate::{
    bench::{Bench, Report},
    experiments,
    seen::{Line, Order},
};

/// Exit code when the process that judges has gone.
const EXIT_ALONE: i32 = 6;

/// Does what standard input says. The end of that input is the order to leave at once.
///
/// # Errors
/// A line where the order is none of ours.
pub fn run() -> Result<ExitCode, String> {
    let not_ours = "a step is started by `rkllama probe`, not by hand";
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|error| error.to_string())?;
    let order: Order = serde_json::from_str(&line).map_err(|_| not_ours)?;
    thread::spawn(|| {
        // It ends when the other end is closed.
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        // A run that hangs inside the library could not be waited for.
        exit_now(EXIT_ALONE)
    });
    let report = Report::open(&order.report)
        .map_err(|error| format!("{}: {error}", order.report.display()))?;
    let (mut report, outcome) = match Bench::open(&order, report) {
        Ok(bench) => step(&order, bench),
        Err((report, why)) => (report, Err(why)),
    };
    report.line(&outcome.map_or_else(Line::Failed, |()| Line::Done));
    Ok(ExitCode::SUCCESS)
}

fn step(order: &Order, mut bench: Bench) -> (Report, Result<(), String>) {
    let step = experiments::step(&order.subject, &order.experiment, &order.step);
    let outcome = match step {
        Some(step) => (step.act)(&mut bench),
        None => Err(format!("no step {} of {}", order.step, order.experiment)),
    };
    (bench.into_report(), outcome)
}
