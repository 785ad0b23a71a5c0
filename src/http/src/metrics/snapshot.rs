//! What is looked up when somebody asks: the models, and which of them are loaded.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
};
use rkllama_core::{LoadState, Model, ModelState, Resident};

use super::table::{self, Labels, Row, Shown};

/// The models as they are now.
#[derive(Debug)]
pub(super) struct Snapshot {
    ready: i64,
    incomplete: i64,
    problems: ConstGauge<i64>,
    models: Vec<(String, Memory)>,
}

/// A model in memory, or not.
#[derive(Debug)]
struct Memory {
    state: &'static str,
    bytes: ConstGauge<i64>,
}

const STATES: [&str; 4] = ["unloaded", "loading", "idle", "busy"];

#[rustfmt::skip]
const ROWS: [Row<Snapshot>; 2] = [
    Row { name: "rkllama_models", help: "Models in the folder", metric: |now| Shown::By("state", vec![("ready", boxed(now.ready)), ("incomplete", boxed(now.incomplete))]) },
    Row { name: "rkllama_problems", help: "Things that are wrong, as /health lists them", metric: |now| Shown::One(&now.problems) },
];

#[rustfmt::skip]
const MODEL_ROWS: [Row<Memory>; 2] = [
    Row { name: "rkllama_model_state", help: "1 for the state that the model is in, 0 for others", metric: |memory| Shown::By("state", memory.states()) },
    Row { name: "rkllama_model_memory_bytes", help: "Memory that a loaded model is planned with; 0 for others", metric: |memory| Shown::One(&memory.bytes) },
];

impl Snapshot {
    pub(super) fn of(models: &[Arc<Model>], residents: &[Resident], problems: usize) -> Self {
        let ready = models.iter().filter(|model| model.state == ModelState::Ready).count();
        let memory = |model: &Arc<Model>| {
            let resident = residents.iter().find(|resident| resident.model == model.id);
            (model.id.clone(), Memory::of(resident))
        };
        Self {
            ready: signed(ready),
            incomplete: signed(models.len() - ready),
            problems: ConstGauge::new(signed(problems)),
            models: models.iter().map(memory).collect(),
        }
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        table::encode(&mut encoder, &ROWS, &[(Labels::new(), self)])?;
        let labelled: Vec<(Labels<'_>, &Memory)> =
            self.models.iter().map(|(id, memory)| (vec![("model_name", &**id)], memory)).collect();
        table::encode(&mut encoder, &MODEL_ROWS, &labelled)
    }
}

impl Memory {
    fn of(resident: Option<&Resident>) -> Self {
        let [unloaded, loading, idle, busy] = STATES;
        let state = match resident.map(|resident| resident.state) {
            None => unloaded,
            Some(LoadState::Loading(_)) => loading,
            Some(LoadState::Idle) => idle,
            Some(LoadState::Busy) => busy,
        };
        let bytes = resident.map_or(0, |resident| resident.memory_bytes);
        Self { state, bytes: ConstGauge::new(signed(bytes)) }
    }

    fn states(&self) -> Vec<(&'static str, Box<dyn EncodeMetric>)> {
        STATES.map(|state| (state, boxed(i64::from(state == self.state)))).into()
    }
}

fn signed(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

fn boxed(value: i64) -> Box<dyn EncodeMetric> {
    Box::new(ConstGauge::new(value))
}
