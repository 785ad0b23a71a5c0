//! What keeps the server from answering at all.

use rkllama_core::{EngineError, Problem};

use crate::State;

impl State {
    /// What is missing so that no model can be asked for; nothing when one can.
    pub(crate) fn missing(&self) -> Vec<Problem> {
        let models = self.models.list();
        let mut missing: Vec<Problem> = Vec::new();
        for model in &models {
            let Err(error) = self.engine.check(model) else { return Vec::new() };
            let problem =
                Problem { subject: subject(&error, &model.id), detail: error.to_string() };
            if !missing.contains(&problem) {
                missing.push(problem);
            }
        }
        if models.is_empty() {
            let hint = self.empty_store_hint.as_deref().unwrap_or("install one");
            let detail = format!("no model is installed: {hint}");
            missing.push(Problem { subject: "models".to_owned(), detail });
        }
        missing
    }
}

/// What an error is about: one that holds for all models is named once.
fn subject(error: &EngineError, model: &str) -> String {
    match error {
        EngineError::Runtime { .. } => "runtime".to_owned(),
        EngineError::ShuttingDown => "server".to_owned(),
        _ => model.to_owned(),
    }
}
