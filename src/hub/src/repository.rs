//! What a repository holds, as the hub tells it, checked before anything is believed.

use serde::Deserialize;
use serde_json::Value;

use crate::HubError;

/// A repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// As `org/name`.
    pub id: String,
    /// The commit: files are fetched at exactly this, whatever the branch does meanwhile.
    pub revision: String,
    /// Sorted by path. Those whose path could leave a folder are not among them.
    pub files: Vec<RemoteFile>,
    /// Which models this one was made from, as `org/name`, where its card says so.
    pub base_models: Vec<String>,
    /// The licence's name, where its card says so.
    pub license: Option<String>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Below the repository's root: plain names with slashes between.
    pub path: String,
    /// The length. 0 stands for an empty file and for one whose length is not told, as mirrors
    /// do: then the transfer says how long the file is, and the checksum is all that is compared.
    pub bytes: u64,
    /// Of large files, in lower case hexadecimal.
    pub sha256: Option<String>,
}

impl RemoteFile {
    /// The length, where the hub tells one.
    pub(crate) fn known_bytes(&self) -> Option<u64> {
        (self.bytes > 0).then_some(self.bytes)
    }
}

/// The part of the answer that is read.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default, rename = "cardData")]
    card: Value,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Repository {
    /// Reads the hub's answer.
    pub(crate) fn read(id: &str, json: &[u8]) -> Result<Self, HubError> {
        let malformed = |reason| HubError::Malformed { what: id.to_owned(), reason };
        let listing: Listing =
            serde_json::from_slice(json).map_err(|err| malformed(err.to_string()))?;
        if !is_commit(&listing.sha) {
            return Err(malformed("its commit is none".to_owned()));
        }
        let (plain, odd): (Vec<_>, Vec<_>) =
            listing.siblings.into_iter().partition(|sibling| is_plain_path(&sibling.rfilename));
        for sibling in odd {
            tracing::warn!(id, path = ?sibling.rfilename, "left out: not a plain path");
        }
        let mut files = plain
            .into_iter()
            .map(Sibling::read)
            .collect::<Result<Vec<_>, _>>()
            .map_err(malformed)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Ok(Self {
            id: id.to_owned(),
            revision: listing.sha,
            files,
            base_models: base_models(&listing.card),
            license: listing.card["license"].as_str().map(str::to_owned),
        })
    }
}

impl Sibling {
    fn read(self) -> Result<RemoteFile, String> {
        let Self { rfilename: path, size, lfs } = self;
        let (sha256, lfs_size) = lfs.map_or((None, None), |lfs| (lfs.sha256, lfs.size));
        let sha256 = sha256.map(|it| it.to_ascii_lowercase());
        if sha256.as_deref().is_some_and(|it| !is_sha256(it)) {
            return Err(format!("the checksum of {path} is none"));
        }
        Ok(RemoteFile { path, bytes: lfs_size.or(size).unwrap_or(0), sha256 })
    }
}

/// One id or several; whatever else people write there is no repository.
fn base_models(card: &Value) -> Vec<String> {
    let ids = match &card["base_model"] {
        Value::String(id) => std::slice::from_ref(id).iter().map(String::as_str).collect(),
        Value::Array(ids) => ids.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    ids.into_iter().filter(|id| is_id(id)).map(str::to_owned).collect()
}

/// Whether this is `org/name` or `name` in the hub's letters.
pub(crate) fn is_id(id: &str) -> bool {
    let is_name = |name: &str| {
        // The hub's own limit.
        (1..=96).contains(&name.len())
            && name != "."
            && name != ".."
            && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
    };
    id.split('/').count() <= 2 && id.split('/').all(is_name)
}

/// Whether this can name a branch, a tag or a commit, by git's rules.
pub(crate) fn is_revision(revision: &str) -> bool {
    !revision.is_empty()
        && revision.len() <= 255
        && revision != "."
        && !revision.contains("..")
        && !revision.chars().any(|it| it.is_control() || " ~^:?*[\\".contains(it))
}

/// A mirror may count its commits another way; it still takes no more than letters and digits.
pub(crate) fn is_commit(sha: &str) -> bool {
    (1..=64).contains(&sha.len()) && sha.bytes().all(|it| it.is_ascii_alphanumeric())
}

/// In lower case.
pub(crate) fn is_sha256(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a folder joined with this path is always a place inside that folder.
pub(crate) fn is_plain_path(path: &str) -> bool {
    let is_name = |name: &str| !matches!(name, "" | "." | "..");
    path.split('/').all(is_name) && !path.chars().any(|it| it == '\\' || it.is_control())
}

/// Encodes what has a meaning of its own in an address; slashes stay.
pub(crate) fn encode_path(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// Encodes what has a meaning of its own in an address, slashes too.
pub(crate) fn encode(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    fn listing(paths: &[&str]) -> Repository {
        let siblings: Vec<_> =
            paths.iter().map(|path| serde_json::json!({ "rfilename": path })).collect();
        let json = serde_json::json!({ "sha": "c0ffee", "siblings": siblings });
        Repository::read("org/name", json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn plain_paths_are_kept() {
        let paths = [".gitattributes", "a b#1.rkllm", "deep/er/..x", "~", "\u{e4}/..."];
        let kept = listing(&paths).files;
        assert_eq!(kept.iter().map(|file| &*file.path).collect::<Vec<_>>(), paths);
    }

    proptest! {
        #[test]
        fn no_path_that_is_kept_leaves_a_folder(
            path in prop_oneof![any::<String>(), r"(\.|\.\.|/|\\|a|~|\x00|C:){0,9}"],
        ) {
            let folder = Path::new("/models/folder");
            for file in listing(&[&path]).files {
                let joined = folder.join(&file.path);
                let below = joined.strip_prefix(folder);
                prop_assert!(below.is_ok(), "{joined:?}");
                let mut parts = below.unwrap().components().peekable();
                prop_assert!(parts.peek().is_some(), "{joined:?} is the folder itself");
                prop_assert!(parts.all(|part| matches!(part, Component::Normal(_))), "{joined:?}");
                prop_assert!(!file.path.contains(['\\', '\0']), "{joined:?}");
            }
        }

        #[test]
        fn an_encoded_path_has_nothing_that_ends_it(path in any::<String>()) {
            let encoded = encode_path(&path);
            let is_safe = |it: char| it.is_ascii_alphanumeric() || "-._~/%".contains(it);
            prop_assert!(encoded.chars().all(is_safe), "{encoded}");
            prop_assert_eq!(encoded.matches('/').count(), path.matches('/').count());
        }
    }

    #[test]
    fn ids_and_revisions_are_those_of_the_hub_and_of_git() {
        for id in ["gpt2", "org/name", "Org-1/na.me_2"] {
            assert!(is_id(id), "{id}");
        }
        for id in
            ["", "/", "a/", "/a", "a/b/c", "..", "a/..", "./a", "a b", "a%2f", "a?b", "\u{e4}"]
        {
            assert!(!is_id(id), "{id}");
        }
        for revision in ["main", "refs/pr/1", "v1.0", "c0ffee"] {
            assert!(is_revision(revision), "{revision}");
        }
        for revision in ["", ".", "..", "a/../b", "a b", "a?b", "a\\b", "a\nb"] {
            assert!(!is_revision(revision), "{revision}");
        }
    }
}
