//! How the server is, and whether it can answer.

use poem_openapi::{Enum, Object, types::Example};
use rkllama_core::{ModelRuntime, Problem};
use serde::Serialize;

use super::Nullable;

/// How the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nothing is wrong.
    Ok,
    /// It runs and something is wrong.
    Degraded,
}

/// How the server is.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example)]
pub struct Health {
    /// In a word.
    pub status: HealthStatus,
    /// The server's version.
    pub version: String,
    /// What is wrong; empty when all is well.
    pub problems: Vec<HealthProblem>,
    /// Which release of the vendor's runtime each model gets; models that get none are not here.
    pub runtimes: Vec<HealthRuntime>,
}

/// The runtime that a model gets.
#[derive(Debug, Clone, Object, Serialize)]
pub struct HealthRuntime {
    /// The model's id.
    pub model: String,
    /// The runtime's release.
    pub version: String,
    /// The library's file on the server.
    pub library: String,
    /// Why this one.
    pub reason: String,
    /// What speaks against it, and what to do; null when nothing does. Where it makes answers wrong,
    /// it is one of the `problems` too.
    pub warning: Nullable<String>,
}

/// Something that keeps the server from doing its work well.
#[derive(Debug, Clone, Object, Serialize)]
pub struct HealthProblem {
    /// What it is about: `runtime`, `models`, `server`, or a model's id.
    pub subject: String,
    /// What is wrong and what to do.
    pub detail: String,
}

/// Whether the server can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ReadyStatus {
    /// At least one model can be asked for.
    Ready,
    /// None can.
    NotReady,
}

/// Whether the server can answer.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example)]
pub struct Readiness {
    /// In a word.
    pub status: ReadyStatus,
    /// What is missing, the same thing once; empty when the server is ready.
    pub missing: Vec<HealthProblem>,
}

impl Readiness {
    /// The readiness of a server that lacks these things.
    pub fn new(missing: Vec<Problem>) -> Self {
        let status = if missing.is_empty() { ReadyStatus::Ready } else { ReadyStatus::NotReady };
        Self { status, missing: missing.into_iter().map(HealthProblem::from).collect() }
    }
}

impl From<Problem> for HealthProblem {
    fn from(Problem { subject, detail }: Problem) -> Self {
        Self { subject, detail }
    }
}

impl Health {
    /// The health of a server of this version with these problems, whose models get these runtimes.
    pub fn new(version: &str, problems: Vec<Problem>, runtimes: Vec<ModelRuntime>) -> Self {
        let status = if problems.is_empty() { HealthStatus::Ok } else { HealthStatus::Degraded };
        let problems = problems.into_iter().map(HealthProblem::from).collect();
        let runtimes = runtimes.into_iter().map(HealthRuntime::from).collect();
        Self { status, version: version.to_owned(), problems, runtimes }
    }
}

impl From<ModelRuntime> for HealthRuntime {
    fn from(of: ModelRuntime) -> Self {
        let ModelRuntime { model, version, path, reason, warning } = of;
        Self {
            model,
            version,
            library: path.display().to_string(),
            reason,
            warning: Nullable(warning),
        }
    }
}

impl Example for Readiness {
    fn example() -> Self {
        Self::new(Vec::new())
    }
}

impl Example for Health {
    fn example() -> Self {
        let problem = Problem {
            subject: "Qwen2.5-1.5B".to_owned(),
            detail: "no tokenizer.json beside the weights: copy it from the original model"
                .to_owned(),
        };
        let runtime = ModelRuntime {
            model: "Qwen3-0.6B".to_owned(),
            version: "1.3.0".to_owned(),
            path: "/usr/lib/librkllmrt.so".into(),
            reason: "the release of the toolkit that made the model".to_owned(),
            warning: None,
        };
        Self::new("0.1.0", vec![problem], vec![runtime])
    }
}
