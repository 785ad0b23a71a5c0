//! API keys from the configuration and from a file of their own.
//!
//! The file is TOML, one table for each key, and unknown fields are errors:
//!
//! ```toml
//! [[key]]
//! name = "ada"                  # in the log, and for taking turns
//! secret = "…"                  # or, so that the file gives nothing away:
//! sha256 = "64 hex digits"      # printf %s "$SECRET" | sha256sum
//! requests_per_minute = 60      # optional
//! concurrent_max = 2            # optional
//! ```
//!
//! No error and no log line repeats a secret.

use std::{
    collections::HashSet, fmt, fs, num::NonZeroU32, os::unix::fs::PermissionsExt, path::Path,
};

use anyhow::{Context, anyhow, bail, ensure};
use rkllama_http::{ApiKey, KeyLimits};
use serde::{Deserialize, Serialize};

use crate::config::Auth;

/// Permission bits of everybody who is neither the file's owner nor in its group.
const OTHERS: u32 = 0o007;
/// Longest name of a key, in characters: it stands in log lines.
const NAME_LEN_MAX: usize = 64;

/// A key of the configuration, `name:secret`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct KeyLine(String);

impl From<String> for KeyLine {
    fn from(line: String) -> Self {
        Self(line)
    }
}

impl fmt::Debug for KeyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLine(..)")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    key: Vec<KeyTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyTable {
    name: String,
    secret: Option<String>,
    sha256: Option<String>,
    requests_per_minute: Option<NonZeroU32>,
    concurrent_max: Option<NonZeroU32>,
}

/// All keys; none where the configuration names none.
///
/// To read them anew, call it again and hand the result to `Keys::replace`. It never gives an
/// empty list for a configuration that names a file: that would let everybody in.
pub(crate) fn load(auth: &Auth) -> anyhow::Result<Vec<ApiKey>> {
    let mut keys = Vec::new();
    for (place, KeyLine(line)) in (1..).zip(&auth.keys) {
        let of_line = || format!("`auth.keys`, key {place}");
        let (name, secret) =
            line.split_once(':').context("expected `name:secret`").with_context(of_line)?;
        check_name(name).and_then(|()| check_secret(secret)).with_context(of_line)?;
        keys.push(ApiKey::new(name, secret, KeyLimits::default()));
    }
    if let Some(path) = &auth.keys_file {
        let of_file = || format!("`auth.keys_file` {}", path.display());
        keys.extend(read(path).with_context(of_file)?);
    }
    let mut names = HashSet::new();
    if let Some(twice) = keys.iter().find(|key| !names.insert(key.name())) {
        bail!("two API keys are called `{}`", twice.name());
    }
    Ok(keys)
}

fn read(path: &Path) -> anyhow::Result<Vec<ApiKey>> {
    let text = fs::read_to_string(path)?;
    if fs::metadata(path)?.permissions().mode() & OTHERS != 0 {
        let file = path.display();
        tracing::warn!(%file, "every user of this machine can read the API keys: chmod 640 or 600");
    }
    let file: KeyFile = toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        anyhow!("line {}: {}", before.matches('\n').count() + 1, without_values(error.message()))
    })?;
    ensure!(!file.key.is_empty(), "there is no key in it");
    file.key.into_iter().map(key).collect()
}

/// What is wrong, without the value at fault: the error itself would show the whole line.
fn without_values(message: &str) -> String {
    match (message.split_once(": "), message.rsplit_once(", expected ")) {
        (Some((what @ ("invalid type" | "invalid value"), _)), Some((_, expected))) => {
            format!("{what}, expected {expected}")
        }
        _ => message.to_owned(),
    }
}

fn key(table: KeyTable) -> anyhow::Result<ApiKey> {
    let KeyTable { name, secret, sha256, requests_per_minute, concurrent_max } = table;
    check_name(&name)?;
    let limits = KeyLimits { requests_per_minute, concurrent_max };
    let of_key = || format!("key `{name}`");
    match (secret, sha256) {
        (Some(secret), None) => {
            check_secret(&secret).with_context(of_key)?;
            Ok(ApiKey::new(&name, &secret, limits))
        }
        (None, Some(hex)) => {
            ApiKey::of_digest(&name, &hex, limits).context("`sha256`").with_context(of_key)
        }
        _ => Err(anyhow!("needs `secret` or `sha256`, and not both")).with_context(of_key),
    }
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = (1..=NAME_LEN_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b));
    ensure!(fits, "a key's name has 1 to {NAME_LEN_MAX} of the characters A-Z a-z 0-9 - _ . @");
    Ok(())
}

/// What does not fit into a header could never be sent.
fn check_secret(secret: &str) -> anyhow::Result<()> {
    let fits = !secret.is_empty() && secret.bytes().all(|b| b.is_ascii_graphic());
    ensure!(fits, "a secret is visible ASCII without blanks, and not empty");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_lines(lines: &[&str]) -> Auth {
        let keys = lines.iter().map(|line| KeyLine((*line).to_owned())).collect();
        Auth { keys, ..Auth::default() }
    }

    fn with_file<T>(text: &str, then: impl FnOnce(&Auth) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.toml");
        fs::write(&file, text).unwrap();
        then(&Auth { keys_file: Some(file), ..Auth::default() })
    }

    fn names(keys: &[ApiKey]) -> Vec<&str> {
        keys.iter().map(ApiKey::name).collect()
    }

    #[test]
    fn keys_come_from_the_configuration_and_from_a_file() {
        assert!(load(&Auth::default()).unwrap().is_empty());
        let keys = load(&of_lines(&["ada:s1", "bob:with:colons"])).unwrap();
        assert_eq!(names(&keys), ["ada", "bob"]);
        let digest = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e";
        let text = format!(
            "[[key]]\nname = \"eve\"\nsecret = \"s\"\nrequests_per_minute = 60\nconcurrent_max = 2\n\
             [[key]]\nname = \"mallory\"\nsha256 = \"{digest}\"\n"
        );
        with_file(&text, |auth| assert_eq!(names(&load(auth).unwrap()), ["eve", "mallory"]));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        let mut texts = Vec::new();
        for lines in [
            &["hunter2"][..],
            &[":hunter2"],
            &["a b:hunter2"],
            &["ada:"],
            &["ada:x", "ada:hunter2"],
        ] {
            texts.push(format!("{:#}", load(&of_lines(lines)).unwrap_err()));
        }
        for file in [
            "",
            "key = []",
            "[[key]]\nname = \"a\"\nsecret = \"hunter2\"\nlimit = 7\n",
            "[[key]]\nname = \"a\"\nsecret = 4711\n",
            "[[key]]\nname = \"a\"\nsecret = \"hunter2\n",
            "[[key]]\nname = \"a\"\nsecret = \"hunter2 \"\n",
            "[[key]]\nname = \"a\"\nsecret = \"hunter2\"\nsha256 = \"hunter2\"\n",
            "[[key]]\nname = \"a\"\nsha256 = \"hunter2\"\n",
            "[[key]]\nname = \"a\"\nsecret = \"hunter2\"\nconcurrent_max = 0\n",
            "[[key]]\nsecret = \"hunter2\"\n",
        ] {
            let text = with_file(file, |auth| {
                let text = format!("{:#}", load(auth).unwrap_err());
                let path = auth.keys_file.as_ref().unwrap().display().to_string();
                text.replace(&path, "[file]")
            });
            texts.push(text);
        }
        let tells = |text: &String| text.contains("hunter2") || text.contains("4711");
        assert!(!texts.iter().any(tells), "{texts:#?}");
        insta::assert_snapshot!(texts.join("\n"));
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let auth = Auth { keys_file: Some("/nowhere/keys.toml".into()), ..Auth::default() };
        let text = format!("{:#}", load(&auth).unwrap_err());
        assert!(text.starts_with("`auth.keys_file` /nowhere/keys.toml: No such file"), "{text}");
        assert!(!format!("{:?}", of_lines(&["ada:hunter2"])).contains("hunter2"));
    }
}
