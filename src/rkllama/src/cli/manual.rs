//! What is made of the definition of the command line: scripts for shells, and manual pages.

use std::{fs, path::Path};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::{Cli, print};

/// Prints what makes a shell complete.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    generate(shell, &mut command, name, &mut script);
    print(String::from_utf8(script).context("the script is not UTF-8")?.trim_end())
}

/// Prints the page of the whole, or writes one for each command.
pub(crate) fn man(dir: Option<&Path>) -> anyhow::Result<()> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page).context("cannot make the page")?;
        return print(String::from_utf8(page).context("the page is not UTF-8")?.trim_end());
    };
    let refused = || format!("cannot write manual pages into {}", dir.display());
    fs::create_dir_all(dir).with_context(refused)?;
    clap_mangen::generate_to(Cli::command(), dir).with_context(refused)
}
