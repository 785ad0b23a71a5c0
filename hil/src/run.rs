//! Running scenarios one after the other, and watching the target meanwhile.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    api::Problem,
    lab::{Figure, Lab},
    samples::{Sample, board, memory_mb},
    scenarios::Scenario,
};

/// Between two looks at the target. A look over ssh is a process there.
const BETWEEN_SAMPLES: Duration = Duration::from_secs(1);

/// What a scenario came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "lowercase")]
pub enum Outcome {
    /// Everything is as it must be.
    Passed,
    /// Something is not.
    Failed(String),
    /// The target lacks what it takes.
    Skipped(String),
}

/// One scenario's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// The scenario.
    pub name: String,
    /// Which round of a soak, from 1.
    pub round: u32,
    /// How long it took, in seconds.
    pub took_s: f64,
    /// What it came to.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A whole run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The target, as it was named.
    pub target: String,
    /// The server's version.
    pub version: String,
    /// Its results, in order.
    pub cases: Vec<Case>,
    /// Streamed answers in figures.
    pub figures: Vec<Figure>,
    /// Looks at the target.
    pub samples: Vec<Sample>,
    /// What `rkllama doctor --json` said, where it could be asked.
    pub doctor: Option<serde_json::Value>,
}

impl Run {
    /// Results of each kind: passed, failed, skipped.
    pub fn totals(&self) -> (usize, usize, usize) {
        let count = |wanted: fn(&Outcome) -> bool| {
            self.cases.iter().filter(|case| wanted(&case.outcome)).count()
        };
        (
            count(|it| matches!(it, Outcome::Passed)),
            count(|it| matches!(it, Outcome::Failed(_))),
            count(|it| matches!(it, Outcome::Skipped(_))),
        )
    }

    /// Whether it shows that the target is well: something passed and nothing failed.
    pub fn is_good(&self) -> bool {
        let (passed, failed, _) = self.totals();
        passed > 0 && failed == 0
    }

    /// The last line of a run.
    pub fn summary(&self) -> String {
        let (passed, failed, skipped) = self.totals();
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Runs the scenarios once, or in rounds until the time is over, and tells each result at once.
pub async fn run(
    lab: &Lab,
    scenarios: &[Scenario],
    soak: Option<Duration>,
    mut tell: impl FnMut(&Case),
) -> Run {
    let mut cases = Vec::new();
    let mut samples = Vec::new();
    let rounds = async {
        for round in 1.. {
            for scenario in scenarios {
                let case = one(lab, scenario, round).await;
                tell(&case);
                cases.push(case);
            }
            if soak.is_none_or(|soak| lab.began.elapsed() >= soak) {
                break;
            }
        }
    };
    let watching = async {
        loop {
            samples.push(look(lab).await);
            tokio::time::sleep(BETWEEN_SAMPLES).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        () = watching => {}
    }
    samples.push(look(lab).await);
    Run { cases, samples, figures: lab.figures(), ..Run::default() }
}

async fn one(lab: &Lab, scenario: &Scenario, round: u32) -> Case {
    let began = Instant::now();
    let outcome = match scenario.run(lab).await {
        Ok(()) => Outcome::Passed,
        Err(Problem::Failed(why)) => Outcome::Failed(why),
        Err(Problem::Skipped(why)) => Outcome::Skipped(why),
    };
    let took_s = began.elapsed().as_secs_f64();
    Case { name: scenario.name.to_owned(), round, took_s, outcome }
}

async fn look(lab: &Lab) -> Sample {
    let metrics = lab.api.get("/metrics").await.ok();
    let files = match &lab.machine {
        Some(machine) => machine.files().await,
        None => String::new(),
    };
    let (temperature_c, npu_load_percent) = board(&files);
    Sample {
        at_s: lab.began.elapsed().as_secs_f64(),
        memory_mb: metrics.and_then(|it| memory_mb(it.body.as_str()?)),
        temperature_c,
        npu_load_percent,
    }
}

/// The mean of what soaks compare, by model: milliseconds to the first token in the first and in the
/// last third of the run.
pub fn drift(figures: &[Figure]) -> BTreeMap<String, (f64, f64)> {
    let mut by_model: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for figure in figures {
        by_model.entry(figure.model.clone()).or_default().push(figure.first_token_ms);
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    by_model
        .into_iter()
        .filter(|(_, values)| values.len() >= 3)
        .map(|(model, values)| {
            let third = values.len() / 3;
            (model, (mean(&values[..third]), mean(&values[values.len() - third..])))
        })
        .collect()
}
