//! Ollama's environment variables, for machines that were set up for Ollama.
//!
//! They count more than the built-in defaults and less than everything that is said in our own words. As
//! with Ollama, what cannot be read counts for nothing.

use std::env;

use figment::{Figment, providers::Serialized};
use rkllama_core::KeepAlive;

use crate::config::{CONTEXT_TOKENS_MAX, CONTEXT_TOKENS_MIN};

const DEFAULT_PORT: u16 = 11434;

/// The variables that are set, as what they mean here.
#[derive(Debug, Default)]
pub(crate) struct OllamaVariables(Vec<Variable>);

/// A variable, our key, and its value.
#[derive(Debug, Clone, PartialEq)]
struct Variable {
    name: &'static str,
    key: &'static str,
    value: Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Texts(Vec<String>),
    Number(u64),
}

impl OllamaVariables {
    /// Reads the environment; `OLLAMA_HOST` only with `with_host`.
    pub(crate) fn read(with_host: bool) -> Self {
        Self::from_lookup(with_host, |name| env::var(name).ok())
    }

    fn from_lookup(with_host: bool, lookup: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name: &str| {
            let text = lookup(name)?;
            // Files of services quote what shells would.
            let text = text.trim().trim_matches(['"', '\'']).trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let number = |name: &str| text(name)?.parse::<u64>().ok().filter(|number| *number > 0);
        let texts = |text: String| -> Vec<String> {
            text.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
        };
        let mut found = Vec::new();
        let mut add = |name, key, value: Option<Value>| {
            found.extend(value.map(|value| Variable { name, key, value }));
        };
        add("OLLAMA_MODELS", "models", text("OLLAMA_MODELS").map(Value::Text));
        add(
            "OLLAMA_ORIGINS",
            "browsers.origins",
            text("OLLAMA_ORIGINS").map(|text| Value::Texts(texts(text))),
        );
        let keep_alive = text("OLLAMA_KEEP_ALIVE").filter(|it| it.parse::<KeepAlive>().is_ok());
        add("OLLAMA_KEEP_ALIVE", "keep_alive", keep_alive.map(Value::Text));
        add(
            "OLLAMA_MAX_QUEUE",
            "limits.queue_len_total_max",
            number("OLLAMA_MAX_QUEUE").map(Value::Number),
        );
        add(
            "OLLAMA_MAX_LOADED_MODELS",
            "memory.models_max",
            number("OLLAMA_MAX_LOADED_MODELS").map(Value::Number),
        );
        let context = number("OLLAMA_CONTEXT_LENGTH").map(|tokens| {
            Value::Number(tokens.clamp(CONTEXT_TOKENS_MIN.into(), CONTEXT_TOKENS_MAX.into()))
        });
        add("OLLAMA_CONTEXT_LENGTH", "context_tokens_max", context);
        if with_host {
            let host = text("OLLAMA_HOST").map(|host| Value::Texts(vec![address(&host)]));
            add("OLLAMA_HOST", "listen", host);
        }
        Self(found)
    }

    /// Adds what the variables say.
    pub(crate) fn merge_into(&self, mut figment: Figment) -> Figment {
        for variable in &self.0 {
            figment = match &variable.value {
                Value::Text(text) => figment.merge(Serialized::default(variable.key, text)),
                Value::Texts(texts) => figment.merge(Serialized::default(variable.key, texts)),
                Value::Number(number) => figment.merge(Serialized::default(variable.key, number)),
            };
        }
        figment
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|variable| variable.name).collect()
    }
}

/// The address that `OLLAMA_HOST` means.
fn address(host: &str) -> String {
    let (port, rest) = match host.split_once("://") {
        Some(("http", rest)) => (80, rest),
        Some(("https", rest)) => (443, rest),
        Some((_, rest)) => (DEFAULT_PORT, rest),
        None => (DEFAULT_PORT, host),
    };
    let rest = rest.split('/').next().unwrap_or_default();
    let (name, port) = if let Some(inner) = rest.strip_prefix('[') {
        let (name, behind) = inner.split_once(']').unwrap_or((inner, ""));
        (name, behind.strip_prefix(':').and_then(|it| it.parse().ok()).unwrap_or(port))
    } else {
        match rest.rsplit_once(':') {
            // More than one colon: an address without brackets.
            Some((name, _)) if name.contains(':') => (rest, port),
            Some((name, text)) => (name, text.parse().unwrap_or(DEFAULT_PORT)),
            None => (rest, port),
        }
    };
    match name {
        // Only a port: all interfaces, as with Ollama.
        "" if rest.starts_with(':') => format!("0.0.0.0:{port}"),
        "" => format!("127.0.0.1:{port}"),
        name if name.contains(':') => format!("[{name}]:{port}"),
        name => format!("{name}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_ollama_reads_them() {
        for (host, expected) in [
            ("", "127.0.0.1:11434"),
            (":1234", "0.0.0.0:1234"),
            ("1.2.3.4", "1.2.3.4:11434"),
            ("1.2.3.4:5", "1.2.3.4:5"),
            ("http://1.2.3.4", "1.2.3.4:80"),
            ("https://1.2.3.4", "1.2.3.4:443"),
            ("https://1.2.3.4:7/path", "1.2.3.4:7"),
            (":66000", "0.0.0.0:11434"),
            ("::1", "[::1]:11434"),
            ("[::1]:9", "[::1]:9"),
            ("0.0.0.0", "0.0.0.0:11434"),
        ] {
            assert_eq!(address(host), expected, "{host}");
        }
    }

    #[test]
    fn what_cannot_be_read_counts_for_nothing() {
        let lookup = |name: &str| {
            let value = match name {
                "OLLAMA_KEEP_ALIVE" => "soon",
                "OLLAMA_MAX_QUEUE" => "many",
                "OLLAMA_MAX_LOADED_MODELS" => "0",
                "OLLAMA_CONTEXT_LENGTH" => "1000000",
                "OLLAMA_ORIGINS" => "\"http://a.b, http://*.c\"",
                "OLLAMA_HOST" => "1.2.3.4",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let heard = OllamaVariables::from_lookup(false, lookup);
        assert_eq!(heard.names(), ["OLLAMA_ORIGINS", "OLLAMA_CONTEXT_LENGTH"]);
        assert_eq!(heard.0[1].value, Value::Number(16_384));
        let origins = vec!["http://a.b".to_owned(), "http://*.c".to_owned()];
        assert_eq!(heard.0[0].value, Value::Texts(origins));
        let with_host = OllamaVariables::from_lookup(true, lookup);
        assert_eq!(with_host.names().last(), Some(&"OLLAMA_HOST"));
    }
}
