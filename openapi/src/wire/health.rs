//! How the server is.

use poem_openapi::{Enum, Object, types::Example};
use rkllama_core::Problem;
use serde::Serialize;

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
}

/// Something that keeps the server from doing its work well.
#[derive(Debug, Clone, Object, Serialize)]
pub struct HealthProblem {
    /// What it is about: `runtime`, or a model's id.
    pub subject: String,
    /// What is wrong and what to do.
    pub detail: String,
}

impl Health {
    /// The health of a server of this version with these problems.
    pub fn new(version: &str, problems: Vec<Problem>) -> Self {
        let status = if problems.is_empty() { HealthStatus::Ok } else { HealthStatus::Degraded };
        let problems = problems
            .into_iter()
            .map(|Problem { subject, detail }| HealthProblem { subject, detail })
            .collect();
        Self { status, version: version.to_owned(), problems }
    }
}

impl Example for Health {
    fn example() -> Self {
        let detail = "librkllmrt.so was not found: install it or pass --runtime".to_owned();
        Self::new("0.1.0", vec![Problem { subject: "runtime".to_owned(), detail }])
    }
}
