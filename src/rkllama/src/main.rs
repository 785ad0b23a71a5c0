//! The `rkllama` executable: command line and composition root.
//!
//! One program, several roles: the server (`serve`), its child processes (`worker`), and what
//! helps its operator. Failures end in one line on standard error and a non-zero exit code.
#![forbid(unsafe_code)]

mod board;
mod cli;
mod client;
mod config;
mod doctor;
mod engine_config;
mod hub;
mod image_fetch;
mod keys;
mod listen;
mod log;
mod ollama_env;
mod probe;
mod reload;
mod runtime_fetch;
mod runtime_profiles;
mod runtimes;
mod serve;
mod signals;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, RuntimeCommand};

fn main() -> ExitCode {
    // Before the command line's parser, whose pages would count once more for each loaded model.
    let outcome = match worker::asked_for() {
        Some(args) => worker::run(&args),
        None if probe::step_asked_for() => probe::run_step(),
        None => for_people(),
    };
    outcome.unwrap_or_else(|error| {
        cli::complain(&error);
        ExitCode::FAILURE
    })
}

fn for_people() -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match Cli::parse().command {
        Command::Serve(args) => serve::run(&args).map(done),
        Command::Run(args) => client::run(&args).map(done),
        Command::Pull(args) => client::pull(&args).map(done),
        Command::Create(args) => client::create(&args).map(done),
        Command::Show(args) => client::show(&args).map(done),
        Command::List(args) => client::list(&args).map(done),
        Command::Ps(args) => client::ps(&args).map(done),
        Command::Cp(args) => client::cp(&args).map(done),
        Command::Rm(args) => client::rm(&args),
        Command::Stop(args) => client::stop(&args).map(done),
        Command::Bench(args) => client::bench(&args).map(done),
        Command::Probe(args) => probe::run(&args).map(done),
        Command::Adopt(args) => cli::adopt(&args),
        Command::Runtime { command: RuntimeCommand::Fetch(args) } => {
            runtime_fetch::fetch(&args).map(done)
        }
        Command::Config(args) => cli::settings(&args).map(done),
        Command::Completions { shell } => cli::completions(shell).map(done),
        Command::Man { dir } => cli::man(dir.as_deref()).map(done),
        Command::Openapi => {
            cli::print(&rkllama_openapi::document::<rkllama_compat::Operations>()).map(done)
        }
        Command::Doctor(args) => doctor::run(&args),
    }
}
