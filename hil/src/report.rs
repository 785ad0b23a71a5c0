//! Reports of a run: for a terminal, for CI, for programs, for eyes.

mod html;
mod junit;
mod plot;

pub use self::{html::html, junit::junit};

use crate::run::{Case, Outcome};

/// One result on a terminal.
pub fn line(case: &Case) -> String {
    let (word, reason) = match &case.outcome {
        Outcome::Passed => ("passed", None),
        Outcome::Failed(why) => ("FAILED", Some(why)),
        Outcome::Skipped(why) => ("skipped", Some(why)),
    };
    let reason = reason.map(|why| format!(": {why}")).unwrap_or_default();
    format!("{word:7} {:24} {:7.2} s{reason}", case.name, case.took_s)
}
