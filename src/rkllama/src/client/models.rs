//! `list` and `ps`: the models of a server.

use std::fmt::Write;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{Client, block_on};
use crate::cli::{self, ListArgs};

/// A model as the server describes it. What it says besides is kept for `--json`.
#[derive(Debug, Deserialize, Serialize)]
struct Model {
    id: String,
    created: i64,
    max_model_len: u32,
    status: Status,
    #[serde(flatten)]
    more: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Unloaded,
    Loading,
    Loaded,
    Incomplete,
}

impl Status {
    const fn word(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Incomplete => "incomplete",
        }
    }
}

#[derive(Debug, Deserialize)]
struct Models {
    data: Vec<Model>,
}

/// All models.
pub(crate) fn list(args: &ListArgs) -> anyhow::Result<()> {
    show(args, |_| true)
}

/// Those that are loaded or being loaded.
pub(crate) fn ps(args: &ListArgs) -> anyhow::Result<()> {
    show(args, |model| matches!(model.status, Status::Loaded | Status::Loading))
}

fn show(args: &ListArgs, wanted: impl Fn(&Model) -> bool) -> anyhow::Result<()> {
    block_on(async {
        let client = Client::new(&args.server)?;
        let response = client.send(client.get("/v1/models")).await?;
        let mut models: Models =
            response.json().await.context("the server's list of models cannot be read")?;
        models.data.retain(wanted);
        let text = match args.json {
            true => serde_json::to_string_pretty(&models.data)?,
            false => table(&models.data),
        };
        cli::print(&text)
    })
}

/// One line for each model below a head, in columns as wide as they need to be.
fn table(models: &[Model]) -> String {
    let width = models.iter().map(|model| model.id.chars().count()).max().unwrap_or(0).max(4);
    let mut text = format!("{:width$}  {:>7}  {:10}  CHANGED", "NAME", "CONTEXT", "STATUS");
    for model in models {
        let Model { id, created, max_model_len, status, .. } = model;
        let changed = jiff::Timestamp::from_second(*created).unwrap_or_default();
        let changed = changed.strftime("%Y-%m-%d");
        // Writing to a string does not fail.
        let _ = write!(text, "\n{id:width$}  {max_model_len:>7}  {:10}  {changed}", status.word());
        if let Some(problem) = model.more.get("problem").and_then(|problem| problem.as_str()) {
            let _ = write!(text, "\n{:width$}  {problem}", "");
        }
    }
    text
}
