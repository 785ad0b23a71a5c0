//! `config`: the configuration in force, without what is nobody's business.

use anyhow::Context;
use toml::{Table, Value};

use super::{ServeArgs, print};
use crate::config::{self, Config};

/// In place of a secret.
const HIDDEN: &str = "***";

/// Prints the configuration as `serve` would gather it.
pub(crate) fn settings(args: &ServeArgs) -> anyhow::Result<()> {
    let config = Config::gather(args)?;
    let mut text = match config::file(args.config.as_deref())? {
        Some(file) => format!("# With {}, the environment and the flags.\n", file.display()),
        None => "# Without a file, with the environment and the flags.\n".to_owned(),
    };
    if !config.ollama_variables.is_empty() {
        text.push_str(&format!("# Heard: {}.\n", config.ollama_variables.join(", ")));
    }
    let mut table = Table::try_from(&config).context("the configuration is no TOML")?;
    hide(&mut table);
    text.push_str(&toml::to_string(&table).context("the configuration is no TOML")?);
    print(text.trim_end())
}

/// Keys, and what a mirror's address says about who asks.
fn hide(config: &mut Table) {
    let keys = config.get_mut("auth").and_then(|auth| auth.get_mut("keys"));
    for key in keys.and_then(Value::as_array_mut).into_iter().flatten() {
        let name = key.as_str().and_then(|line| line.split_once(':')).map(|(name, _)| name);
        *key = Value::from(name.map_or(HIDDEN.to_owned(), |name| format!("{name}:{HIDDEN}")));
    }
    let endpoint = config.get_mut("hub").and_then(|hub| hub.get_mut("endpoint"));
    if let Some(Value::String(endpoint)) = endpoint
        && let Some((scheme, rest)) = endpoint.split_once("://")
        && let Some((_, host)) = rest.rsplit_once('@')
    {
        *endpoint = format!("{scheme}://{HIDDEN}@{host}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_nothing_else_is() {
        let text = "listen = [\"a:1\"]\n[auth]\nkeys = [\"ada:secret-of-ada\", \"nameless\"]\n\
                    [hub]\nendpoint = \"http://me:word@mirror/a\"\n";
        let mut table: Table = text.parse().unwrap();
        hide(&mut table);
        let expected: Table = "listen = [\"a:1\"]\n[auth]\nkeys = [\"ada:***\", \"***\"]\n\
                               [hub]\nendpoint = \"http://***@mirror/a\"\n"
            .parse()
            .unwrap();
        assert_eq!(table, expected);
    }

    #[test]
    fn what_has_no_secrets_stays() {
        let mut table: Table = "debug = true\n[auth]\nkeys = []\n".parse().unwrap();
        let before = table.clone();
        hide(&mut table);
        assert_eq!(table, before);
    }
}
