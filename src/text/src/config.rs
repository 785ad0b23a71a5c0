//! The JSON files beside a tokenizer, as far as text needs them.
//!
//! Read by hand and not by derive, because these files come from hundreds of makers: keys we do
//! not use may hold anything, and an error about one we do use must name it.

use rkllama_core::TextFiles;
use serde_json::{Map, Value};

use crate::TextError;

pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";
pub(crate) const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Where a chat template was found, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateSource {
    pub(crate) file: &'static str,
    pub(crate) text: String,
}

/// What the files say about text.
#[derive(Debug, Default)]
pub(crate) struct TextConfig {
    /// `bos_token`, `eos_token` and their like, by the names templates use.
    pub(crate) named_tokens: Vec<(String, String)>,
    /// `generation_config.json`: the ids that end an answer.
    pub(crate) eos_ids: Vec<i32>,
    /// The model's own template.
    pub(crate) template: Option<TemplateSource>,
    /// Another one for conversations with tools, where its makers wrote two.
    pub(crate) tool_template: Option<TemplateSource>,
}

impl TextConfig {
    pub(crate) fn parse(files: &TextFiles) -> Result<Self, TextError> {
        let tokenizer = parse_object(TOKENIZER_CONFIG, files.tokenizer_config.as_deref())?;
        let generation = parse_object(GENERATION_CONFIG, files.generation_config.as_deref())?;
        let (template, tool_template) = match &files.chat_template {
            Some(text) => (Some(TemplateSource { file: CHAT_TEMPLATE, text: text.clone() }), None),
            None => templates_in(&tokenizer)?,
        };
        let of_family = || {
            let text = files.family_template?.to_owned();
            Some(TemplateSource { file: TOKENIZER_CONFIG, text })
        };
        let template = template.or_else(of_family);
        Ok(Self {
            named_tokens: named_tokens(&tokenizer)?,
            eos_ids: eos_ids(&generation)?,
            template,
            tool_template,
        })
    }

    pub(crate) fn named_token(&self, name: &str) -> Option<&str> {
        self.named_tokens.iter().find(|(key, _)| key == name).map(|(_, token)| token.as_str())
    }
}

fn parse_object(file: &'static str, bytes: Option<&[u8]>) -> Result<Map<String, Value>, TextError> {
    let Some(bytes) = bytes else { return Ok(Map::new()) };
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(TextError::File { file, reason: "not a JSON object".to_owned() }),
        Err(err) => Err(TextError::File { file, reason: format!("not JSON: {err}") }),
    }
}

fn key_error(file: &'static str, key: &str, reason: &str) -> TextError {
    TextError::Key { file, key: key.to_owned(), reason: reason.to_owned() }
}

/// Every `…_token` that is a string or an object with `content`; `null` means there is none.
fn named_tokens(config: &Map<String, Value>) -> Result<Vec<(String, String)>, TextError> {
    let mut tokens = Vec::new();
    // `add_bos_token` and its like are switches, not tokens.
    let named = |key: &str| key.ends_with("_token") && !key.starts_with("add_");
    for (key, value) in config.iter().filter(|(key, _)| named(key)) {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => Some(text.as_str()),
            Value::Object(token) => token.get("content").and_then(Value::as_str),
            _ => None,
        };
        let text = text.ok_or_else(|| {
            key_error(TOKENIZER_CONFIG, key, "expected a string or an object with \"content\"")
        })?;
        tokens.push((key.clone(), text.to_owned()));
    }
    Ok(tokens)
}

type Templates = (Option<TemplateSource>, Option<TemplateSource>);

/// One template, or those called `default` and `tool_use` of several: the names that the reference
/// knows.
fn templates_in(config: &Map<String, Value>) -> Result<Templates, TextError> {
    let error = |reason: &str| key_error(TOKENIZER_CONFIG, "chat_template", reason);
    let found = |text: &str| TemplateSource { file: TOKENIZER_CONFIG, text: text.to_owned() };
    match config.get("chat_template") {
        None | Some(Value::Null) => Ok((None, None)),
        Some(Value::String(text)) => Ok((Some(found(text)), None)),
        Some(Value::Array(list)) => {
            let field =
                |item: &Value, key| item.get(key).and_then(Value::as_str).map(str::to_owned);
            let mut names = Vec::new();
            let (mut default, mut tool_use) = (None, None);
            for item in list {
                let (Some(name), Some(text)) = (field(item, "name"), field(item, "template"))
                else {
                    return Err(error("expected a list of {\"name\", \"template\"}"));
                };
                match name.as_str() {
                    "default" if default.is_none() => default = Some(found(&text)),
                    "tool_use" => tool_use = Some(found(&text)),
                    _ => {}
                }
                names.push(name);
            }
            if default.is_none() {
                let names = names.join(", ");
                return Err(error(&format!("none is called 'default', only: {names}")));
            }
            Ok((default, tool_use))
        }
        Some(_) => Err(error("expected a string or a list of {\"name\", \"template\"}")),
    }
}

/// `eos_token_id`: one id or a list of ids.
fn eos_ids(config: &Map<String, Value>) -> Result<Vec<i32>, TextError> {
    let error = || {
        key_error(GENERATION_CONFIG, "eos_token_id", "expected a token id or a list of token ids")
    };
    let id = |value: &Value| {
        let id = value.as_i64().and_then(|id| i32::try_from(id).ok());
        id.filter(|id| *id >= 0).ok_or_else(error)
    };
    match config.get("eos_token_id") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}
