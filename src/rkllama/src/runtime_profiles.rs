//! What can be said of a release of the runtime beyond its built-in profile.
//!
//! Some facts only hardware can tell. Until they are known the profiles take the safe side; here an
//! operator, or a probe that has looked, says better.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use rkllama_engine::{KvReuse, RuntimeChoice};
use rkllama_npu::{Fault, Profile, SUPPORTED, series};
use serde::{Deserialize, Serialize};

/// The file in the state folder in which a probe leaves what it found.
pub(crate) const CAPABILITIES: &str = "capabilities.toml";
/// Longest context margin that makes sense, in tokens: an eighth of the smallest usual context.
const CONTEXT_MARGIN_TOKENS_MAX: u32 = 512;

/// Facts of one release or series; each replaces what the built-in profile says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Facts {
    /// Whether it misreads the end of sequence of models from toolkits before 1.3, so that it must not
    /// look for it and the host watches instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eos_guard: Option<bool>,
    /// Tokens of the context that a prompt must leave free, 1 to 512.
    #[serde(skip_serializing_if = "Option::is_none")]
    context_margin_tokens: Option<u32>,
    /// How much of earlier prompts' computation may serve a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_reuse: Option<Reuse>,
    /// Whether its prompt-cache files may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    saved_prompts: Option<bool>,
    /// Whether its KV cache has to be mistrusted after an abort.
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_doubtful_after_abort: Option<bool>,
    /// Whether a token of an aborted run comes in the run after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_token_after_abort: Option<bool>,
    /// Whether it may take an image for the one before it, so that its KV cache has to be emptied
    /// before a prompt with another image.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_image: Option<bool>,
    /// Whether it gives the hidden layer, of which embeddings are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden_layer: Option<bool>,
    /// Whether it gives logits, of which rerankers' scores are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<bool>,
}

/// [`KvReuse`] as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reuse {
    Prefix,
    Append,
    Off,
}

impl From<Reuse> for KvReuse {
    fn from(written: Reuse) -> Self {
        match written {
            Reuse::Prefix => Self::Prefix,
            Reuse::Append => Self::Append,
            Reuse::Off => Self::Off,
        }
    }
}

impl Facts {
    /// These facts, and the others where these say nothing.
    fn or(self, others: Self) -> Self {
        Self {
            eos_guard: self.eos_guard.or(others.eos_guard),
            context_margin_tokens: self.context_margin_tokens.or(others.context_margin_tokens),
            kv_reuse: self.kv_reuse.or(others.kv_reuse),
            saved_prompts: self.saved_prompts.or(others.saved_prompts),
            kv_doubtful_after_abort: self
                .kv_doubtful_after_abort
                .or(others.kv_doubtful_after_abort),
            stale_token_after_abort: self
                .stale_token_after_abort
                .or(others.stale_token_after_abort),
            stale_image: self.stale_image.or(others.stale_image),
            hidden_layer: self.hidden_layer.or(others.hidden_layer),
            logits: self.logits.or(others.logits),
        }
    }

    /// A library of this profile, with these facts in place of the profile's.
    pub(crate) fn choice(
        &self,
        path: PathBuf,
        profile: &Profile,
        ignore_eos: bool,
    ) -> RuntimeChoice {
        RuntimeChoice {
            ignore_eos,
            context_margin_tokens: self.context_margin_tokens,
            kv_reuse: self.kv_reuse.map_or_else(KvReuse::default, KvReuse::from),
            saved_prompts: self.saved_prompts.unwrap_or(true),
            kv_doubtful_after_abort: self
                .kv_doubtful_after_abort
                .unwrap_or(profile.kv_doubtful_after_abort),
            stale_token_after_abort: self.stale_token_after_abort.unwrap_or(false),
            stale_image: self.stale_image.unwrap_or(profile.faults.contains(&Fault::StaleImage)),
            hidden_layer: self.hidden_layer.unwrap_or(true),
            logits: self.logits.unwrap_or(true),
            ..RuntimeChoice::new(path)
        }
    }

    fn check(&self, of: &str, profiles: &[&Profile]) -> Result<(), String> {
        if let Some(margin) = self.context_margin_tokens
            && !(1..=CONTEXT_MARGIN_TOKENS_MAX).contains(&margin)
        {
            return Err(format!(
                "`context_margin_tokens` of {of} has to be 1 to {CONTEXT_MARGIN_TOKENS_MAX}"
            ));
        }
        if self.eos_guard == Some(true) && !profiles.iter().all(|profile| profile.ignore_eos) {
            return Err(format!(
                "`eos_guard` of {of} cannot be true: it cannot be told not to look for the end of \
                 sequence"
            ));
        }
        Ok(())
    }
}

/// Facts by release, such as `1.2.3`, or series, such as `1.3`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Facts>")]
pub(crate) struct RuntimeProfiles(BTreeMap<String, Facts>);

impl TryFrom<BTreeMap<String, Facts>> for RuntimeProfiles {
    type Error = String;

    fn try_from(facts: BTreeMap<String, Facts>) -> Result<Self, String> {
        for (name, facts) in &facts {
            let profiles = Profile::named(name);
            if profiles.is_empty() {
                return Err(format!(
                    "\"{name}\" is no supported release and no series of one; supported are \
                     {SUPPORTED}"
                ));
            }
            facts.check(name, &profiles)?;
        }
        Ok(Self(facts))
    }
}

impl RuntimeProfiles {
    /// What a probe has left in the state folder; nothing where there is no such file.
    ///
    /// # Errors
    /// A line that names the file and what is wrong with it.
    pub(crate) fn probed(state: &Path) -> Result<Self, String> {
        let file = state.join(CAPABILITIES);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(format!("{}: {error}", file.display())),
        };
        Self::of_probe(&text).map_err(|error| format!("{} is ignored: {error}", file.display()))
    }

    /// What stands in a probe's file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn of_probe(text: &str) -> Result<Self, String> {
        /// A later probe may find out more than these.
        #[derive(Deserialize)]
        struct Capabilities {
            #[serde(default)]
            runtime_profiles: RuntimeProfiles,
        }
        let parsed: Result<Capabilities, _> = toml::from_str(text);
        parsed.map(|it| it.runtime_profiles).map_err(|error| error.message().to_owned())
    }

    /// What is said of a release: what is said of itself before what is said of its series.
    fn of(&self, release: &str) -> Facts {
        let said = |name: &str| self.0.get(name).copied().unwrap_or_default();
        said(release).or(series(release).map(said).unwrap_or_default())
    }

    /// What is said of a release, `key = value` each.
    pub(crate) fn lines_of(&self, release: &str) -> Vec<String> {
        let facts = toml::to_string(&self.of(release)).unwrap_or_default();
        facts.lines().map(str::to_owned).collect()
    }

    /// What is said of a release, and what the `others` say where these say nothing.
    pub(crate) fn of_or(&self, release: &str, others: &Self) -> Facts {
        self.of(release).or(others.of(release))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles(text: &str) -> RuntimeProfiles {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_release_speaks_before_its_series_and_the_operator_before_the_probe() {
        let configured =
            profiles("[\"1.3\"]\nkv_reuse = \"off\"\nsaved_prompts = false\nhidden_layer = true\n");
        let probed = profiles(
            "[\"1.3.1\"]\neos_guard = false\nkv_reuse = \"append\"\n\
             [\"1.3\"]\neos_guard = true\nkv_doubtful_after_abort = false\n",
        );
        let facts = |release| configured.of_or(release, &probed);
        assert_eq!(
            facts("1.3.1"),
            Facts {
                eos_guard: Some(false),
                context_margin_tokens: None,
                kv_reuse: Some(Reuse::Off),
                saved_prompts: Some(false),
                kv_doubtful_after_abort: Some(false),
                stale_token_after_abort: None,
                stale_image: None,
                hidden_layer: Some(true),
                logits: None,
            }
        );
        assert_eq!(facts("1.3.0").eos_guard, Some(true));
        assert_eq!(facts("1.2.3"), Facts::default());
    }

    #[test]
    fn facts_replace_what_the_profile_says() {
        let profile = Profile::of("1.3.1").unwrap();
        let choice = |facts: Facts| facts.choice("/lib".into(), profile, true);
        let silent = choice(Facts::default());
        assert_eq!(silent, RuntimeChoice { ignore_eos: true, ..RuntimeChoice::new("/lib") });
        let said = profiles(
            "[\"1.3.1\"]\nkv_reuse = \"append\"\nsaved_prompts = false\n\
             kv_doubtful_after_abort = false\ncontext_margin_tokens = 8\n\
             stale_image = false\nhidden_layer = false\nlogits = false\n",
        );
        assert_eq!(
            choice(said.of("1.3.1")),
            RuntimeChoice {
                ignore_eos: true,
                context_margin_tokens: Some(8),
                kv_reuse: KvReuse::Append,
                saved_prompts: false,
                kv_doubtful_after_abort: false,
                stale_token_after_abort: false,
                stale_image: false,
                hidden_layer: false,
                logits: false,
                ..RuntimeChoice::new("/lib")
            }
        );
    }

    #[test]
    fn a_probes_file_is_read_and_a_damaged_one_is_named() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(RuntimeProfiles::probed(state.path()), Ok(RuntimeProfiles::default()));
        let file = state.path().join(CAPABILITIES);
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("probed = 2026-11-25\n[runtime_profiles.\"1.3.1\"]\neos_guard = false\n");
        let probed = RuntimeProfiles::probed(state.path()).unwrap();
        assert_eq!(probed.of("1.3.1").eos_guard, Some(false));
        for damaged in ["[runtime_profiles.\"1.3.1\"]\neos_gua", "[runtime_profiles.\"9\"]\n"] {
            write(damaged);
            let why = RuntimeProfiles::probed(state.path()).unwrap_err();
            assert!(why.starts_with(&format!("{} is ignored: ", file.display())), "{why}");
        }
    }
}
