//! A Modelfile's text. What is written is read back as the same, or is not written.

use rkllama_core::Message;
use serde_json::Value;

use super::{Dialect, Recipe, commands, options::KEYS};
use crate::modelfile::take_value;

impl Recipe {
    /// The Modelfile that says this. Warnings are not part of it.
    ///
    /// # Errors
    /// Names what the dialect cannot say.
    pub fn print(&self, dialect: Dialect) -> Result<String, String> {
        let lines: Vec<(String, String)> = match dialect {
            Dialect::Ollama => self.instructions()?,
            Dialect::Rkllama => self.assignments()?,
        };
        let mut text = String::new();
        for (word, value) in lines {
            let (between, written) = match dialect {
                Dialect::Ollama => (' ', commands::written(&value)),
                Dialect::Rkllama => ('=', assigned(&value)),
            };
            let written =
                written.ok_or_else(|| format!("the value of {word} cannot be written"))?;
            text.push_str(&format!("{word}{between}{written}\n"));
        }
        Ok(text)
    }

    fn instructions(&self) -> Result<Vec<(String, String)>, String> {
        if self.base_repository.is_some() {
            return Err("Ollama's dialect has no HUGGINGFACE_PATH".to_owned());
        }
        if self.model_type.is_some() {
            return Err("Ollama's dialect has no MODEL_TYPE".to_owned());
        }
        let mut lines = self.lines_of_both();
        for (name, value) in &self.parameters {
            for value in each(value) {
                lines.push((format!("PARAMETER {name}"), value));
            }
        }
        let message = |Message { role, content, .. }: &Message| {
            (format!("MESSAGE {}", role.as_str()), content.clone())
        };
        lines.extend(self.messages.iter().map(message));
        Ok(lines)
    }

    fn assignments(&self) -> Result<Vec<(String, String)>, String> {
        if !self.messages.is_empty() {
            return Err("KEY=VALUE lines cannot hold messages".to_owned());
        }
        let mut lines = self.lines_of_both();
        lines.extend(
            self.base_repository.iter().map(|it| ("HUGGINGFACE_PATH".to_owned(), it.clone())),
        );
        lines.extend(self.model_type.iter().map(|it| ("MODEL_TYPE".to_owned(), it.clone())));
        for (name, value) in &self.parameters {
            let key = KEYS.into_iter().find(|(_, known)| known == name);
            let (key, _) =
                key.ok_or_else(|| format!("KEY=VALUE lines have no parameter {name:?}"))?;
            lines.extend(each(value).into_iter().map(|value| (key.to_owned(), value)));
        }
        Ok(lines)
    }

    fn lines_of_both(&self) -> Vec<(String, String)> {
        let Self { from, system, template, licenses, adapters, .. } = self;
        let line = |word: &str, value: &String| (word.to_owned(), value.clone());
        let mut lines = vec![line("FROM", from)];
        lines.extend(adapters.iter().map(|it| line("ADAPTER", it)));
        lines.extend(template.iter().map(|it| line("TEMPLATE", it)));
        lines.extend(system.iter().map(|it| line("SYSTEM", it)));
        lines.extend(licenses.iter().map(|it| line("LICENSE", it)));
        lines
    }
}

/// The texts of a value, one for each line.
fn each(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().flat_map(each).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            vec![value.to_string()]
        }
    }
}

/// How a value is written behind a `=`, if it can be.
fn assigned(value: &str) -> Option<String> {
    let quoted = |quote: &str| format!("{quote}{value}{quote}");
    // A quote more or one that stays open could find its end in a later line.
    let ways = [
        (quoted("\""), !value.starts_with('"')),
        (quoted("'"), true),
        (quoted("\"\"\""), true),
        (value.to_owned(), !value.starts_with(['"', '\''])),
    ];
    ways.into_iter().filter(|(_, is_safe)| *is_safe).map(|(way, _)| way).find(|way| {
        let line = format!("{way}\n");
        // As a reader comes to it: behind the blanks that may follow the sign.
        let mut rest = line.trim_start_matches([' ', '\t']);
        !value.is_empty() && take_value(&mut rest, true) == value && rest.is_empty()
    })
}
