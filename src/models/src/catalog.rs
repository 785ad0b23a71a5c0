//! Short names of models on the hub: a shipped list, and the operator's own.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The list that comes with this program.
const SHIPPED: &str = include_str!("catalog.toml");

/// Where the models of short names lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog(BTreeMap<String, Entry>);

/// A model, for one chip or for all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// What to pull on an RK3588.
    rk3588: Option<String>,
    /// What to pull on an RK3576.
    rk3576: Option<String>,
    /// The repository of the tokenizer, where the model's own has none.
    pub(crate) tokenizer: Option<String>,
}

impl Catalog {
    /// The shipped list.
    ///
    /// # Errors
    /// In words, should it ever be broken.
    pub fn shipped() -> Result<Self, String> {
        Self::parse(SHIPPED)
    }

    /// Reads a list: a table for each name, with `rk3588`, `rk3576` and `tokenizer`.
    ///
    /// # Errors
    /// In words, naming the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entries: BTreeMap<String, Entry> =
            toml::from_str(text).map_err(|error| error.to_string().trim().replace('\n', " "))?;
        Ok(Self(entries.into_iter().map(|(name, entry)| (plain(&name), entry)).collect()))
    }

    /// This list over another.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        let mut entries = lower.0;
        entries.extend(self.0);
        Self(entries)
    }

    /// The short names, sorted, each with whether there is a model for this chip.
    pub fn names(&self, chip: Option<&str>) -> Vec<String> {
        let fits = |entry: &Entry| entry.source(chip).is_some();
        self.0.iter().filter(|(_, entry)| fits(entry)).map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Entry> {
        self.0.get(&plain(name))
    }
}

impl Entry {
    /// What to pull for this chip; without one, whatever there is.
    pub(crate) fn source(&self, chip: Option<&str>) -> Option<&str> {
        match chip {
            Some("rk3588") => self.rk3588.as_deref(),
            Some("rk3576") => self.rk3576.as_deref(),
            Some(_) => None,
            None => self.rk3588.as_deref().or(self.rk3576.as_deref()),
        }
    }
}

fn plain(name: &str) -> String {
    let name = name.trim().to_lowercase();
    name.strip_suffix(":latest").unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn the_shipped_list_names_repositories() {
        let shipped = Catalog::shipped().unwrap();
        assert!(!shipped.0.is_empty());
        for (name, entry) in &shipped.0 {
            crate::names::folder_for(name).unwrap();
            for chip in [Some("rk3588"), Some("rk3576"), None] {
                if let Some(source) = entry.source(chip) {
                    assert!(matches!(reference::parse(source), Ok(Some(_))), "{name}: {source}");
                }
            }
            assert!(entry.source(None).is_some(), "{name}");
        }
    }

    #[test]
    fn the_operators_list_wins_and_is_read_strictly() {
        let own =
            Catalog::parse("['Qwen2.5:3b']\nrk3588 = 'me/mine'\n[other]\nrk3576 = 'a/b'").unwrap();
        let lower = Catalog::parse("['qwen2.5:3b']\nrk3588 = 'x/y'").unwrap();
        let both = own.over(lower);
        let source = |name: &str, chip| both.find(name).and_then(|entry| entry.source(chip));
        assert_eq!(source("qwen2.5:3B:latest", Some("rk3588")), Some("me/mine"));
        assert_eq!(source("qwen2.5:3b", Some("rk3576")), None);
        assert_eq!(source("other", None), Some("a/b"));
        assert_eq!(both.names(Some("rk3576")), ["other"]);
        let error = Catalog::parse("[a]\nrk3588 = 'a/b'\nrk3566 = 'a/b'").unwrap_err();
        assert!(error.contains("rk3566"), "{error}");
    }
}
