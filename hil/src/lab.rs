//! What the scenarios stand on: a server, what it has, and what was measured on it.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    api::{Api, Checked, failed, skipped, text},
    machine::Machine,
};

/// A model as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub id: String,
    /// Tokens of prompt and answer together.
    pub context_tokens_max: u64,
    /// What it can do, in the words of `/api/show`, and `rerank`.
    pub capabilities: Vec<String>,
}

impl Model {
    fn can(&self, what: &str) -> bool {
        self.capabilities.iter().any(|it| it == what)
    }
}

/// One streamed answer in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Seconds since the run began.
    pub at_s: f64,
    /// The model.
    pub model: String,
    /// From the request to the first token.
    pub first_token_ms: f64,
    /// Tokens a second from the first to the last; nothing of answers of one piece.
    pub tokens_per_s: Option<f64>,
}

/// A target that is ready.
#[derive(Debug)]
pub struct Lab {
    /// The server.
    pub api: Api,
    /// Its models, only the chosen ones where some were chosen.
    pub models: Vec<Model>,
    /// Whether the words of its models are known: it is the mock with its own script.
    pub scripted: bool,
    /// What the pull scenario fetches in place of the stub hub's model.
    pub pull: Option<String>,
    /// Whether the server asks the runner's stub hub.
    pub has_hub: bool,
    /// The machine that the server runs on, where the runner has a shell there.
    pub machine: Option<Machine>,
    /// The moment from which everything is counted.
    pub began: std::time::Instant,
    figures: Mutex<Vec<Figure>>,
}

impl Lab {
    /// Looks at what a server has.
    ///
    /// # Errors
    /// It does not answer, or a chosen model is not there.
    pub async fn open(api: Api, chosen: &[String], scripted: bool) -> Checked<Self> {
        let list = api.get("/v1/models").await?.good()?;
        let Some(data) = list["data"].as_array() else {
            return failed(format!("/v1/models gives no list: {list}"));
        };
        let mut models = Vec::new();
        for entry in data {
            let id = text(entry, "/id")?;
            if chosen.is_empty() || chosen.iter().any(|it| it == id) {
                models.push(described(&api, id, entry).await?);
            }
        }
        if let Some(absent) = chosen.iter().find(|it| models.iter().all(|model| model.id != **it)) {
            return failed(format!("the target has no model {absent}"));
        }
        let began = std::time::Instant::now();
        Ok(Self {
            api,
            models,
            scripted,
            pull: None,
            has_hub: false,
            machine: None,
            began,
            figures: Mutex::default(),
        })
    }

    /// The first model that can do this.
    ///
    /// # Errors
    /// There is none: the scenario is skipped.
    pub fn model(&self, capability: &str) -> Checked<&Model> {
        let found = self.models.iter().find(|it| it.can(capability));
        found.map_or_else(|| skipped(format!("no model can do `{capability}`")), Ok)
    }

    /// All models that hold conversations.
    pub fn chatting(&self) -> Vec<&Model> {
        self.models.iter().filter(|it| it.can("completion")).collect()
    }

    /// A request to the first model that holds conversations: one user message, greedy.
    ///
    /// # Errors
    /// There is none: the scenario is skipped.
    pub fn chat(&self, words: &str, tokens_max: u64) -> Checked<Value> {
        let model = self.model("completion")?;
        Ok(json!({
            "model": model.id, "temperature": 0, "max_tokens": tokens_max,
            "messages": [{"role": "user", "content": words}],
        }))
    }

    /// Keeps what a streamed answer showed.
    pub fn note(&self, figure: Figure) {
        if let Ok(mut figures) = self.figures.lock() {
            figures.push(figure);
        }
    }

    /// Everything that was kept.
    pub fn figures(&self) -> Vec<Figure> {
        self.figures.lock().map(|it| it.clone()).unwrap_or_default()
    }
}

async fn described(api: &Api, id: &str, entry: &Value) -> Checked<Model> {
    let shown = api.post("/api/show", &json!({"model": id})).await?.good()?;
    let listed = shown["capabilities"].as_array().into_iter().flatten();
    let mut capabilities: Vec<String> =
        listed.filter_map(|it| it.as_str().map(str::to_owned)).collect();
    // The list has no word for rerankers, and they hold no conversation: an empty question tells.
    let asked = json!({"model": id, "query": "q", "documents": ["d"]});
    if capabilities.iter().any(|it| it == "completion")
        && api.post("/v1/rerank", &asked).await?.status == 200
    {
        capabilities = vec!["rerank".to_owned()];
    }
    let context_tokens_max = entry["max_model_len"].as_u64().unwrap_or(4096);
    Ok(Model { id: id.to_owned(), context_tokens_max, capabilities })
}
