//! `show`: what a server knows of a model.

use std::fmt::Write;

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Client, block_on};
use crate::cli::{self, ShowArgs, ShowPart};

/// Lines of a licence that are shown beside all else.
const LICENSE_LINES_MAX: usize = 2;

/// A model as the server describes it, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
struct Shown {
    #[serde(default)]
    modelfile: String,
    /// A name and a value in each line.
    #[serde(default)]
    parameters: String,
    #[serde(default)]
    template: String,
    #[serde(default)]
    system: String,
    #[serde(default)]
    license: String,
    #[serde(default)]
    details: Details,
    #[serde(default)]
    model_info: Map<String, Value>,
    #[serde(default)]
    capabilities: Vec<String>,
    /// Where the values of parameters come from, by their names.
    #[serde(default)]
    origins: Map<String, Value>,
    #[serde(default)]
    settings: Vec<Setting>,
}

/// What else counts for it.
#[derive(Debug, Deserialize)]
struct Setting {
    name: String,
    value: String,
    origin: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Details {
    #[serde(default)]
    parameter_size: String,
    #[serde(default)]
    quantization_level: String,
}

impl Client {
    async fn shown(&self, model: &str) -> anyhow::Result<Value> {
        let response = self.send(self.post("/api/show").json(&json!({ "model": model }))).await?;
        response.json().await.context("the server's answer cannot be read")
    }

    /// The id of the model that a name means, where the server tells.
    pub(super) async fn id_of(&self, name: &str) -> Option<String> {
        let shown = self.shown(name).await.ok()?;
        Some(shown.pointer("/model_info/general.basename")?.as_str()?.to_owned())
    }
}

/// All of it in sections, or one part alone.
pub(crate) fn show(args: &ShowArgs) -> anyhow::Result<()> {
    block_on(async {
        let answer = Client::new(&args.server)?.shown(&args.model).await?;
        if args.json {
            return cli::print(&serde_json::to_string_pretty(&answer)?);
        }
        let shown: Shown =
            serde_json::from_value(answer).context("the server's answer cannot be read")?;
        let text = part(&args.part, &shown).map_or_else(|| sections(&shown), str::to_owned);
        cli::print(text.trim_end())
    })
}

/// The one part that is asked for.
fn part<'a>(part: &ShowPart, shown: &'a Shown) -> Option<&'a str> {
    let ShowPart { modelfile, parameters, template, system, license } = *part;
    let parts = [
        (modelfile, &shown.modelfile),
        (parameters, &shown.parameters),
        (template, &shown.template),
        (system, &shown.system),
        (license, &shown.license),
    ];
    parts.into_iter().find_map(|(is_asked, text)| is_asked.then_some(text.as_str()))
}

fn sections(shown: &Shown) -> String {
    let model = rows_of_model(shown);
    let capabilities = shown.capabilities.iter().map(|name| vec![name.clone()]).collect();
    let license: Vec<&str> = shown.license.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut license_rows = lines(license.iter().copied().take(LICENSE_LINES_MAX));
    if license.len() > LICENSE_LINES_MAX {
        license_rows.push(vec!["...".to_owned()]);
    }
    let all = [
        ("Model", model),
        ("Capabilities", capabilities),
        ("Parameters", rows_of_parameters(shown)),
        ("Settings", rows_of_settings(shown)),
        ("System", lines(shown.system.lines())),
        ("License", license_rows),
    ];
    let mut text = String::new();
    for (title, rows) in all.into_iter().filter(|(_, rows)| !rows.is_empty()) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {title}\n{}", table(&rows));
    }
    text
}

fn lines<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Vec<String>> {
    lines.map(|line| vec![line.trim_end().to_owned()]).collect()
}

fn rows_of_model(shown: &Shown) -> Vec<Vec<String>> {
    let Shown { details, model_info, .. } = shown;
    let architecture = model_info.get("general.architecture").and_then(Value::as_str);
    let number = |name: &str| {
        Some(model_info.get(&format!("{}.{name}", architecture?))?.as_u64()?.to_string())
    };
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let rows = [
        ("architecture", architecture.and_then(said)),
        ("parameters", said(&details.parameter_size)),
        ("context length", number("context_length")),
        ("embedding length", number("embedding_length")),
        ("quantization", said(&details.quantization_level)),
    ];
    rows.into_iter().filter_map(|(name, value)| Some(vec![name.to_owned(), value?])).collect()
}

fn rows_of_settings(shown: &Shown) -> Vec<Vec<String>> {
    let row = |setting: &Setting| {
        let mut row = vec![setting.name.clone(), setting.value.clone()];
        row.extend(setting.origin.clone());
        row
    };
    shown.settings.iter().map(row).collect()
}

fn rows_of_parameters(shown: &Shown) -> Vec<Vec<String>> {
    let row = |line: &str| {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        let mut row = vec![name.to_owned(), value.trim().to_owned()];
        let origin = shown.origins.get(name).and_then(Value::as_str);
        row.extend(origin.map(str::to_owned));
        row
    };
    shown.parameters.lines().filter(|line| !line.trim().is_empty()).map(row).collect()
}

/// Columns as wide as they need to be, a line each.
fn table(rows: &[Vec<String>]) -> String {
    let widest = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() > column + 1);
        cells.filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let mut text = String::new();
    for row in rows {
        let mut line = String::from("    ");
        for (column, cell) in row.iter().enumerate() {
            let width = if column + 1 < row.len() { widest(column).unwrap_or(0) + 4 } else { 0 };
            // Writing to a string does not fail.
            let _ = write!(line, "{cell:width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(answer: Value) -> Shown {
        serde_json::from_value(answer).unwrap()
    }

    #[test]
    fn a_model_is_shown_in_sections() {
        let answer = json!({
            "modelfile": "FROM x",
            "parameters": "temperature                    0.6\nstop                           \"a b\"",
            "template": "{{ messages }}",
            "system": "Be brief.\n\nBe kind.",
            "license": "Apache License\nVersion 2.0\n\nTerms",
            "details": {"parameter_size": "600M", "quantization_level": "W8A8"},
            "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 4096},
            "capabilities": ["completion", "tools"],
            "origins": {"temperature": "generation_config.json"},
            "settings": [
                {"name": "file", "value": "x.rkllm", "origin": "the folder"},
                {"name": "type", "value": "chat"},
            ],
        });
        insta::assert_snapshot!(sections(&shown(answer)));
    }

    #[test]
    fn what_a_model_does_not_have_gets_no_section() {
        let text = sections(&shown(json!({"capabilities": ["embedding"]})));
        assert_eq!(text, "  Capabilities\n    embedding\n\n");
    }

    #[test]
    fn a_part_is_shown_as_it_is() {
        let shown = shown(json!({"template": "{{ a }}\n", "license": ""}));
        let only = ShowPart { template: true, ..ShowPart::default() };
        assert_eq!(part(&only, &shown), Some("{{ a }}\n"));
        let only = ShowPart { license: true, ..ShowPart::default() };
        assert_eq!(part(&only, &shown), Some(""));
        assert_eq!(part(&ShowPart::default(), &shown), None);
    }
}
