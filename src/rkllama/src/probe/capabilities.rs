//! The file in which facts are kept for the server. What it says of other releases stays; what it says
//! of the same library stays where nothing new was decided.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, anyhow};
use rkllama_probe::Finding;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use toml::Table;

use crate::runtime_profiles::RuntimeProfiles;

/// Facts by key.
pub(super) type Facts = BTreeMap<&'static str, Value>;

/// Of what the facts are.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Origin {
    #[serde(skip)]
    pub(super) release: String,
    pub(super) date: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) board: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) chip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) driver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kernel: Option<String>,
    pub(super) library_build: String,
    pub(super) library_sha256: String,
    /// The toolkit of each model.
    pub(super) toolkits: BTreeMap<String, String>,
}

/// What all findings decide together, and what they disagree about.
pub(super) fn facts(findings: &[Finding]) -> (Facts, Vec<String>) {
    let mut said: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    let mut facts = Facts::new();
    for fact in findings.iter().flat_map(|finding| &finding.verdict.facts) {
        said.entry(fact.key).or_default().push(&fact.value);
        facts.insert(fact.key, fact.value.clone());
    }
    let differs = |values: &Vec<&Value>| values.windows(2).any(|pair| pair[0] != pair[1]);
    let quarrels = said.into_iter().filter(|(_, values)| differs(values));
    let quarrels: Vec<String> = quarrels.map(|(key, _)| key.to_owned()).collect();
    facts.retain(|key, _| !quarrels.iter().any(|quarrel| quarrel == key));
    (facts, quarrels)
}

/// The SHA-256 of a file.
pub(super) fn sha256(file: &Path) -> io::Result<String> {
    let digest = Sha256::digest(std::fs::read(file)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What is there already.
///
/// # Errors
/// It is damaged: then a person has to look at it.
pub(super) fn read(file: &Path) -> anyhow::Result<Table> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Table::new()),
        Err(error) => return Err(error).with_context(|| file.display().to_string()),
    };
    text.parse().with_context(|| format!("{} is damaged", file.display()))
}

/// Enters the facts.
pub(super) fn write(
    file: &Path,
    mut table: Table,
    origin: &Origin,
    facts: &Facts,
) -> anyhow::Result<()> {
    merge(&mut table, origin, facts).with_context(|| file.display().to_string())?;
    let text = format!(
        "# What `rkllama probe` found out about the vendor's runtime on this board.\n\n{}",
        toml::to_string(&table)?
    );
    RuntimeProfiles::of_probe(&text)
        .map_err(|error| anyhow!("the server would refuse it: {error}"))?;
    replace(file, &text)
}

fn merge(table: &mut Table, origin: &Origin, facts: &Facts) -> anyhow::Result<()> {
    let release = &origin.release;
    let probes = section(table, "probes")?;
    let before = probes.insert(release.clone(), Table::try_from(origin)?.into());
    let sha256_before =
        before.as_ref().and_then(|it| it.get("library_sha256")).and_then(toml::Value::as_str);
    let is_other = sha256_before.is_some_and(|it| it != origin.library_sha256);
    let profiles = section(table, "runtime_profiles")?;
    if is_other {
        // Of a library that calls itself the same and is another.
        profiles.remove(release);
    }
    if facts.is_empty() {
        return Ok(());
    }
    let profile = section(profiles, release)?;
    for (key, value) in facts {
        profile.insert((*key).to_owned(), toml::Value::try_from(value)?);
    }
    Ok(())
}

fn section<'a>(table: &'a mut Table, name: &str) -> anyhow::Result<&'a mut Table> {
    let section = table.entry(name).or_insert_with(|| Table::new().into());
    section.as_table_mut().with_context(|| format!("`{name}` is no table"))
}

/// Writes a file whole or not at all.
pub(super) fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    let name = || file.display().to_string();
    let folder = file.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(name)?;
    let mut new = tempfile::NamedTempFile::new_in(folder).with_context(name)?;
    new.write_all(text.as_bytes()).with_context(name)?;
    // The server may be another user.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    new.as_file().set_permissions(readable).with_context(name)?;
    new.as_file().sync_all().with_context(name)?;
    new.persist(file).with_context(name)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn origin(release: &str, sha256: &str) -> Origin {
        Origin {
            release: release.to_owned(),
            date: "2026-11-26T00:00:00Z".to_owned(),
            board: None,
            chip: Some("RK3588".to_owned()),
            driver: Some("0.9.8".to_owned()),
            kernel: None,
            library_build: "77daf2e2".to_owned(),
            library_sha256: sha256.to_owned(),
            toolkits: BTreeMap::from([("a.rkllm".to_owned(), "1.2.3".to_owned())]),
        }
    }

    #[test]
    fn what_is_known_of_other_releases_stays_and_what_is_of_another_library_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state/capabilities.toml");
        let enter = |release, sha256, facts: Facts| {
            write(&file, read(&file).unwrap(), &origin(release, sha256), &facts).unwrap();
            read(&file).unwrap()["runtime_profiles"].clone()
        };
        enter("1.2.3", "aa", Facts::from([("logits", json!(false))]));
        enter("1.3.1", "bb", Facts::from([("eos_guard", json!(false))]));
        let both = enter("1.3.1", "bb", Facts::from([("context_margin_tokens", json!(8))]));
        assert_eq!(both["1.2.3"]["logits"].as_bool(), Some(false));
        assert_eq!(both["1.3.1"]["eos_guard"].as_bool(), Some(false));
        assert_eq!(both["1.3.1"]["context_margin_tokens"].as_integer(), Some(8));
        let other = enter("1.3.1", "cc", Facts::from([("logits", json!(true))]));
        assert!(other["1.3.1"].get("eos_guard").is_none(), "{other}");
        assert_eq!(other["1.2.3"]["logits"].as_bool(), Some(false));
        assert!(RuntimeProfiles::probed(file.parent().unwrap()).is_ok());
    }

    #[test]
    fn a_damaged_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("capabilities.toml");
        std::fs::write(&file, "[runtime_prof").unwrap();
        assert!(read(&file).is_err());
    }
}
