//! What a step saw, as it goes from its process to the one that judges.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::material::Material;

/// What experiments are made with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// The vendor's library.
    pub(crate) runtime: PathBuf,
    /// Its release.
    pub(crate) release: String,
    /// The model; none where only the library is asked.
    pub(crate) model: Option<PathBuf>,
    /// What the model is had read.
    pub(crate) material: Material,
    /// The toolkit that made the model, as the runtime says.
    pub(crate) toolkit: Option<String>,
    /// The model's longest context in tokens, as the runtime says.
    pub(crate) context_limit: Option<u32>,
}

/// What a step's process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) experiment: String,
    pub(crate) step: String,
    pub(crate) subject: Subject,
    /// The file for what it sees.
    pub(crate) report: PathBuf,
    /// A folder for its files, which the experiment's steps share.
    pub(crate) scratch: PathBuf,
}

/// One call of `rkllm_run` and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ran {
    /// Tokens that were given.
    pub(crate) prompt: usize,
    /// What the call returned; none where it never did.
    pub(crate) status: Option<i32>,
    /// The ids that came, in a batch those of the first prompt.
    pub(crate) tokens: Vec<i32>,
    /// What came as text.
    pub(crate) text: String,
    /// The states in which it called back, each run of the same one once.
    pub(crate) states: Vec<String>,
    /// Tokens of all prompts of a batch.
    pub(crate) tokens_of_all: usize,
    /// Rows, their width, and what of them can be compared.
    pub(crate) rows: Vec<Rows>,
    /// Prompt tokens computed, as the runtime counts.
    pub(crate) perf_prefill_tokens: Option<u32>,
    /// Time of the prefill, as the runtime measures.
    pub(crate) perf_prefill_ms: Option<f32>,
    /// Tokens generated, as the runtime counts.
    pub(crate) perf_decode_tokens: Option<u32>,
    /// Time of the decode, as the runtime measures.
    pub(crate) perf_decode_ms: Option<f32>,
    /// Tokens in the KV cache afterwards.
    pub(crate) kv: Option<u32>,
    /// Time to the first callback.
    pub(crate) first_ms: Option<f64>,
    /// Time to the call's return.
    pub(crate) ms: f64,
    /// Time from an abort to the call's return.
    pub(crate) abort_ms: Option<f64>,
}

/// Rows of one callback.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rows {
    pub(crate) rows: usize,
    pub(crate) width: usize,
    /// Whether all numbers are finite.
    pub(crate) finite: bool,
    /// The largest number of the last row, and its place.
    pub(crate) largest: f32,
    pub(crate) largest_at: usize,
    /// The last row, as far as it is kept.
    pub(crate) last: Vec<f32>,
}

impl Ran {
    /// Whether it went well.
    pub(crate) fn is_good(&self) -> bool {
        self.status == Some(0) && !self.states.iter().any(|state| state == "Error")
    }

    /// Whether it said that it had ended.
    pub(crate) fn finished(&self) -> bool {
        self.states.iter().any(|state| state == "Finish")
    }
}

/// A line of a step's report.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Line {
    /// A run is about to begin.
    Begins(String),
    Ran(String, Box<Ran>),
    Figure(String, Value),
    /// The step cannot go on.
    Failed(String),
    /// It has come to its end.
    Done,
}

/// How a step's process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum End {
    Done,
    /// It said why.
    Failed(String),
    /// A signal, or an exit code, without a word.
    Died(String),
    TimedOut,
}

/// What a step saw, and how it ended.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Seen {
    pub(crate) step: String,
    pub(crate) end: End,
    /// What it was at, if it did not come to its end.
    pub(crate) at: Option<String>,
    pub(crate) ran: BTreeMap<String, Ran>,
    pub(crate) figures: BTreeMap<String, Value>,
    /// What the runtime said; the last lines of it.
    pub(crate) log: Vec<String>,
}

impl Seen {
    /// A run that came back.
    pub(crate) fn ran(&self, label: &str) -> Option<&Ran> {
        self.ran.get(label)
    }

    /// What went wrong, in a line.
    pub(crate) fn trouble(&self) -> Option<String> {
        let at = self.at.as_ref().map_or_else(String::new, |at| format!(" in {at}"));
        match &self.end {
            End::Done => None,
            End::Failed(why) => Some(format!("{}{at}: {why}", self.step)),
            End::Died(how) => Some(format!("{}{at}: {how}", self.step)),
            End::TimedOut => Some(format!("{}{at}: no return within its time", self.step)),
        }
    }

    /// The lines that were logged during a run.
    pub(crate) fn log_of(&self, label: &str) -> impl Iterator<Item = &str> {
        let begins = format!("{MARK}{label}");
        let lines = self.log.iter().map(String::as_str);
        lines.skip_while(move |line| *line != begins).skip(1).take_while(|it| !it.starts_with(MARK))
    }
}

/// Stands before a run's name in the log.
pub(crate) const MARK: &str = "probe: ";
