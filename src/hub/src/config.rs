//! How to reach the hub, and how long to try.

use std::{env, fmt, time::Duration};

use hf_hub::Cache;

/// Where files come from unless stated otherwise.
const ENDPOINT: &str = "https://huggingface.co";

/// How to reach the hub.
#[derive(Clone)]
pub struct HubConfig {
    /// The address, as of a mirror: `https://huggingface.co` unless stated.
    pub endpoint: String,
    /// What private and gated repositories ask for. Sent to the endpoint alone, never shown.
    pub token: Option<String>,
    /// Whether every call fails with [`HubError::Offline`](crate::HubError::Offline).
    pub is_offline: bool,
    /// How long to try.
    pub patience: Patience,
}

/// How long to try.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Until the head of an answer, redirects included. 30 s: a link by satellite is faster.
    pub connect_timeout: Duration,
    /// Without a byte. 60 s: a proxy that looks at what it passes on may hold it that long.
    pub stall_timeout: Duration,
    /// Attempts in a row that bring no new byte. 6, which with the waits between is up to a
    /// minute: longer than most breaks, shorter than a person waits.
    pub attempts_max: u32,
    /// The first wait between attempts, doubled with each. 1 s: most breaks are over by then.
    pub wait_min: Duration,
    /// The longest wait. 60 s. The hub may ask for a longer one: that is an error at once, so
    /// that nobody waits unknowing.
    pub wait_max: Duration,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            endpoint: ENDPOINT.to_owned(),
            token: None,
            is_offline: false,
            patience: Patience::default(),
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
            attempts_max: 6,
            wait_min: Duration::from_secs(1),
            wait_max: Duration::from_secs(60),
        }
    }
}

impl HubConfig {
    /// Goes by the variables that all clients of the hub know: `HF_ENDPOINT`; `HF_TOKEN`, else
    /// `HUGGING_FACE_HUB_TOKEN`, else the file that `hf auth login` writes (below `HF_HOME`);
    /// `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        Self::from_variables(|name| env::var(name).ok(), stored_token)
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
        stored_token: impl FnOnce() -> Option<String>,
    ) -> Self {
        // Set to nothing is how a variable is unset in a unit file.
        let stated = |name| {
            let value = variable(name)?.trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let is_yes = |value: String| {
            ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())
        };
        Self {
            endpoint: stated("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()),
            token: stated("HF_TOKEN")
                .or_else(|| stated("HUGGING_FACE_HUB_TOKEN"))
                .or_else(stored_token),
            is_offline: stated("HF_HUB_OFFLINE").is_some_and(is_yes),
            patience: Patience::default(),
        }
    }

    /// The endpoint without a slash at its end.
    pub(crate) fn endpoint(&self) -> &str {
        self.endpoint.trim_end_matches('/')
    }

    /// The endpoint as it may be shown: without what a proxy's address carries of a password.
    pub(crate) fn shown_endpoint(&self) -> String {
        let endpoint = self.endpoint();
        let Some((scheme, rest)) = endpoint.split_once("://") else { return endpoint.to_owned() };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        format!("{scheme}://{host}{path}")
    }
}

/// The token of `hf auth login`. `hf-hub` panics where there is no home, so that is asked first.
fn stored_token() -> Option<String> {
    let cache = if env::var_os("HF_HOME").is_some() {
        Cache::from_env()
    } else {
        Cache::new(env::home_dir()?.join(".cache/huggingface/hub"))
    };
    cache.token()
}

/// Without the token.
impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig")
            .field("endpoint", &self.shown_endpoint())
            .field("has_token", &self.token.is_some())
            .field("is_offline", &self.is_offline)
            .field("patience", &self.patience)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], stored: Option<&str>) -> HubConfig {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        HubConfig::from_variables(variable, || stored.map(str::to_owned))
    }

    #[test]
    fn nothing_stated_is_the_hub_itself_without_a_token() {
        let config = read(&[], None);
        assert_eq!(config.endpoint, "https://huggingface.co");
        assert_eq!(config.token, None);
        assert!(!config.is_offline);
    }

    #[test]
    fn the_token_of_the_newer_variable_wins_and_the_file_comes_last() {
        let both = [("HF_TOKEN", " new\n"), ("HUGGING_FACE_HUB_TOKEN", "old")];
        assert_eq!(read(&both, Some("stored")).token.as_deref(), Some("new"));
        assert_eq!(read(&both[1..], Some("stored")).token.as_deref(), Some("old"));
        assert_eq!(read(&[("HF_TOKEN", " ")], Some("stored")).token.as_deref(), Some("stored"));
    }

    #[test]
    fn offline_is_any_of_the_words_for_yes() {
        for yes in ["1", "true", "TRUE", "yes", "on", "ON"] {
            assert!(read(&[("HF_HUB_OFFLINE", yes)], None).is_offline, "{yes}");
        }
        for no in ["", "0", "false", "no", "off"] {
            assert!(!read(&[("HF_HUB_OFFLINE", no)], None).is_offline, "{no}");
        }
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let endpoint = "https://me:word@mirror.example/hf/";
        let config = read(&[("HF_ENDPOINT", endpoint), ("HF_TOKEN", "hf_secret")], None);
        let shown = format!("{config:?}");
        assert!(shown.contains("\"https://mirror.example/hf\""), "{shown}");
        assert!(!shown.contains("hf_secret") && !shown.contains("word"), "{shown}");
    }
}
