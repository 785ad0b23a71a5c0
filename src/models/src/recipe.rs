//! A Modelfile as a client reads it, to have a model made of what it says somewhere else.
//!
//! Nothing in it is compared with what a runtime takes: the server that makes the model does that. A
//! file in Ollama's dialect is read as Ollama's client reads it, strictly and with its words for what is
//! wrong; one that begins with a `KEY=VALUE` line as the servers for these boards read theirs.

mod commands;
mod files;
mod options;
mod print;

use rkllama_core::Message;
use serde_json::Value;

use crate::modelfile::{Entry, begins_with_assignment, json_of, kind_of, next_entry, role_of};
use commands::{Command, Commands};
pub use files::{ModelFile, adapter_file, model_files};
use options::Kind;

/// The language of a Modelfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Instructions: `FROM`, `PARAMETER temperature 0.7`.
    Ollama,
    /// `KEY=VALUE` lines.
    Rkllama,
}

impl Dialect {
    /// The language of a text.
    pub fn of(text: &str) -> Self {
        if begins_with_assignment(text) { Self::Rkllama } else { Self::Ollama }
    }
}

/// What a Modelfile says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recipe {
    /// A model, or a file or folder of one.
    pub from: String,
    /// Parameters by Ollama's names, each once; texts that end an answer are one list, `stop`.
    pub parameters: Vec<(String, Value)>,
    /// What the model is told before everything else.
    pub system: Option<String>,
    /// The chat template.
    pub template: Option<String>,
    /// Texts or names of licences.
    pub licenses: Vec<String>,
    /// Turns that stand before every conversation: role and text, nothing else.
    pub messages: Vec<Message>,
    /// Files of adapters.
    pub adapters: Vec<String>,
    /// The repository that has the tokenizer. Ollama's dialect has no word for it.
    pub base_repository: Option<String>,
    /// What the model is made for, in the other servers' words. Ollama's dialect has none for it.
    pub model_type: Option<String>,
    /// What was read and counts for nothing, a line each.
    pub warnings: Vec<String>,
}

impl Recipe {
    /// Reads a Modelfile of either dialect.
    ///
    /// # Errors
    /// In words, naming the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let recipe = match Dialect::of(text) {
            Dialect::Ollama => Self::of_commands(text)?,
            Dialect::Rkllama => Self::of_entries(text)?,
        };
        if recipe.from.is_empty() {
            return Err("no FROM line".to_owned());
        }
        Ok(recipe)
    }

    /// Reads a file: UTF-8, or UTF-16 that begins with a byte order mark.
    ///
    /// # Errors
    /// In words, naming the line.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, String> {
        let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
            let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<String, _>>()
        };
        let text = match bytes {
            [0xff, 0xfe, text @ ..] => wide(text, u16::from_le_bytes).ok(),
            [0xfe, 0xff, text @ ..] => wide(text, u16::from_be_bytes).ok(),
            text => std::str::from_utf8(text).ok().map(str::to_owned),
        };
        Self::parse(&text.ok_or("it is no text in UTF-8 or UTF-16")?)
    }

    fn of_commands(text: &str) -> Result<Self, String> {
        // As Ollama has it, either ends a line.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut recipe = Self::default();
        let mut commands = Commands::of(&text);
        while let Some(command) = commands.next()? {
            let line = command.line;
            recipe.follow(command).map_err(|reason| format!("(line {line}): {reason}"))?;
        }
        Ok(recipe)
    }

    fn follow(&mut self, command: Command) -> Result<(), String> {
        let Command { name, argument, value, .. } = command;
        match name {
            "from" => self.from = value,
            "system" => self.system = said(value),
            "template" => self.template = said(value),
            "license" => self.licenses.extend(said(value)),
            "adapter" => self.adapters.extend(said(value)),
            "message" => self.messages.push(Message::new(role_of(&argument)?, value)),
            "parameter" => match Kind::find(&argument)? {
                Kind::Deprecated => {
                    self.warnings.push(format!("warning: parameter {argument} is deprecated"));
                }
                option => self.set(&argument, option.read(&value)?),
            },
            "requires" if !is_version(&value) => {
                return Err("requires must be a valid semver (e.g. 0.14.0)".to_owned());
            }
            name => {
                let name = name.to_uppercase();
                self.warnings.push(format!("warning: {name} has no effect here"));
            }
        }
        Ok(())
    }

    fn of_entries(text: &str) -> Result<Self, String> {
        let mut recipe = Self::default();
        let mut rest = text;
        while let Some(entry) = next_entry(&mut rest) {
            recipe.take(&entry).map_err(|reason| entry.fault(text, &reason))?;
        }
        Ok(recipe)
    }

    fn take(&mut self, entry: &Entry) -> Result<(), String> {
        let value = entry.value.clone();
        match entry.key.as_str() {
            _ if value.is_empty() => {}
            "FROM" => self.from = value,
            "HUGGINGFACE_PATH" => self.base_repository = Some(value),
            "MODEL_TYPE" => {
                kind_of(&value)?;
                self.model_type = Some(value);
            }
            "SYSTEM" => self.system = Some(value),
            "TEMPLATE" => self.template = Some(value),
            "LICENSE" => self.licenses.push(value),
            "ADAPTER" => self.adapters.push(value),
            key => match key.strip_prefix("MESSAGE ") {
                Some(role) => self.messages.push(Message::new(role_of(role)?, value)),
                None => {
                    let known =
                        options::of_key(key).map(|(name, option)| (name.to_owned(), option));
                    if let Some((name, option)) = known {
                        self.set(&name, option.read_plainly(&value)?);
                    } else if entry.is_parameter {
                        self.keep(&key.to_ascii_lowercase(), &value);
                    }
                }
            },
        }
        Ok(())
    }

    /// A parameter that only Ollama's instructions know, among lines of the other dialect.
    fn keep(&mut self, name: &str, value: &str) {
        if name == options::STOP {
            return self.set(name, Value::from(vec![value]));
        }
        self.set(name, serde_json::from_str(&json_of(value)).unwrap_or(Value::Null));
    }

    /// The last word counts, but for texts that end an answer.
    fn set(&mut self, name: &str, value: Value) {
        let known = self.parameters.iter_mut().find(|(known, _)| known == name);
        match (known, value) {
            (Some((_, Value::Array(known))), Value::Array(more)) => known.extend(more),
            (Some((_, known)), value) => *known = value,
            (None, value) => self.parameters.push((name.to_owned(), value)),
        }
    }
}

/// An empty text says nothing.
fn said(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// `1.2.3`, and what may stand behind it.
fn is_version(text: &str) -> bool {
    let text = text.strip_prefix('v').unwrap_or(text);
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    numbers.split('.').count() <= 3 && numbers.split('.').all(is_number)
}

#[cfg(test)]
mod tests;
