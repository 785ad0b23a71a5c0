//! What people write when they want a model of the hub.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use rkllama_core::StoreError;

use crate::{files::WEIGHTS_EXTENSION, names::without_hub, settings::check_inside};

/// A repository, and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Such as `org/name`.
    pub(crate) repository: String,
    /// A branch, a tag or a commit; none is the main branch.
    pub(crate) revision: Option<String>,
    /// The weights' path.
    pub(crate) file: Option<String>,
    /// A part of the weights' name that tells them from others, such as `w8a8`.
    pub(crate) tag: Option<String>,
}

impl Reference {
    /// How a file of the same revision is asked for.
    pub(crate) fn of_file(&self, path: &str) -> String {
        let repository = &self.repository;
        let is_hubs_word = |word: &str| matches!(word, "tree" | "blob" | "resolve");
        match &self.revision {
            Some(revision) => format!("{repository}/resolve/{revision}/{path}"),
            None if path.split('/').next().is_some_and(is_hubs_word) => {
                format!("{repository}/resolve/main/{path}")
            }
            None => format!("{repository}/{path}"),
        }
    }
}

/// Reads `org/repo`, `org/repo:tag`, `org/repo/file.rkllm` with whatever stands in front when it is
/// copied, and the address of a page or a file. `None` for a name without a `/`: it is no repository's.
///
/// # Errors
/// [`StoreError::Name`].
pub(crate) fn parse(text: &str) -> Result<Option<Reference>, StoreError> {
    let text = text.trim();
    let refused = |reason: &str| StoreError::Name {
        name: text.chars().take(200).collect(),
        reason: reason.to_owned(),
    };
    let plain = hub_stripped(text);
    // Of an address; a file's name may hold both.
    let is_address = plain.len() < text.len();
    let address = plain.split(['?', '#']).next().filter(|_| is_address);
    // So browsers write addresses; elsewhere a percent sign is itself.
    let decoded = address.map(percent_decoded).transpose();
    let decoded = decoded.map_err(|()| refused("what stands behind a % is no UTF-8 text"))?;
    let plain = decoded.as_deref().unwrap_or(plain).trim_end_matches('/');
    if plain.contains("://") {
        return Err(refused("only huggingface.co and hf.co are asked; HF_ENDPOINT names a mirror"));
    }
    let Some((organisation, rest)) = plain.split_once('/') else { return Ok(None) };
    let (name, path) = rest.split_once('/').map_or((rest, None), |(name, path)| (name, Some(path)));
    let (name, tag) = match (name.split_once(':'), path) {
        (Some((name, tag)), None) => (name, Some(tag)),
        _ => (name, None),
    };
    let is_part = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && part.len() <= 96 && part.chars().all(plain) && !part.starts_with('.')
    };
    if !is_part(organisation) || !is_part(name) {
        return Err(refused("a repository is written `organisation/name`"));
    }
    let repository = format!("{organisation}/{name}");
    let (revision, file) = match path.map(|path| path.splitn(3, '/').collect::<Vec<_>>()).as_deref()
    {
        None => (None, None),
        Some(["tree", revision, ..]) => (Some(*revision), None),
        Some(["blob" | "resolve", revision, file]) => (Some(*revision), Some((*file).to_owned())),
        Some(_) => (None, path.map(str::to_owned)),
    };
    let is_weights = |file: &String| {
        let extension = file.rsplit_once('.').map(|(_, extension)| extension);
        extension.is_some_and(|extension| extension.eq_ignore_ascii_case(WEIGHTS_EXTENSION))
    };
    if let Some(file) = &file
        && (!is_weights(file) || check_inside(file).is_err())
    {
        return Err(refused("what stands behind the repository is no path of an .rkllm file"));
    }
    let is_revision = |revision: &str| is_part(revision);
    if revision.is_some_and(|revision| !is_revision(revision)) {
        return Err(refused("no revision of a repository is called so"));
    }
    let tag = tag.filter(|tag| *tag != "latest");
    Ok(Some(Reference {
        repository,
        revision: revision.map(str::to_owned),
        file,
        tag: tag.map(str::to_owned),
    }))
}

fn percent_decoded(text: &str) -> Result<Cow<'_, str>, ()> {
    percent_decode_str(text).decode_utf8().map_err(|_| ())
}

/// Without the hub in front, in whatever case it is written.
fn hub_stripped(text: &str) -> &str {
    let lower = text.to_ascii_lowercase();
    &text[text.len() - without_hub(&lower).len()..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("org/repo", "org/repo", None, None, None)]
    #[case(" hf.co/Org/Repo ", "Org/Repo", None, None, None)]
    #[case("hf/org/repo/a.rkllm", "org/repo", None, Some("a.rkllm"), None)]
    #[case("org/repo/sub/a b.RKLLM", "org/repo", None, Some("sub/a b.RKLLM"), None)]
    #[case("HTTPS://HuggingFace.co/org/repo", "org/repo", None, None, None)]
    #[case("https://huggingface.co/org/repo/", "org/repo", None, None, None)]
    #[case("https://huggingface.co/org/repo/tree/v1", "org/repo", Some("v1"), None, None)]
    #[case(
        "https://hf.co/org/repo/blob/main/a.rkllm?x=1#y",
        "org/repo",
        Some("main"),
        Some("a.rkllm"),
        None
    )]
    #[case(
        "https://huggingface.co/org/repo/resolve/c0ffee/s/a.rkllm",
        "org/repo",
        Some("c0ffee"),
        Some("s/a.rkllm"),
        None
    )]
    #[case(
        "https://huggingface.co/org/repo/resolve/main/my%20models/%C3%A9%23%3F%25.rkllm?download=true",
        "org/repo",
        Some("main"),
        Some("my models/é#?%.rkllm"),
        None
    )]
    #[case("org/repo/a%20b.rkllm", "org/repo", None, Some("a%20b.rkllm"), None)]
    #[case("org/repo:w8a8", "org/repo", None, None, Some("w8a8"))]
    #[case("org/repo:latest", "org/repo", None, None, None)]
    fn references_are_read(
        #[case] text: &str,
        #[case] repository: &str,
        #[case] revision: Option<&str>,
        #[case] file: Option<&str>,
        #[case] tag: Option<&str>,
    ) {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let expected = Reference {
            repository: repository.to_owned(),
            revision: owned(revision),
            file: owned(file),
            tag: owned(tag),
        };
        assert_eq!(parse(text), Ok(Some(expected)));
    }

    #[rstest]
    #[case::parent("../repo")]
    #[case::file("org/repo/model.gguf")]
    #[case::outside("org/repo/../../a.rkllm")]
    #[case::absolute("/org/repo")]
    #[case::other_host("https://example.com/org/repo")]
    #[case::blank("o rg/repo")]
    #[case::nul("org/repo\0")]
    #[case::query("org/repo%2F..")]
    #[case::hidden_parent("https://hf.co/org/repo/%2e%2e/%2E%2E/a.rkllm")]
    #[case::hidden_slash("https://hf.co/org/repo/..%2Fa.rkllm")]
    #[case::hidden_nul("https://hf.co/org/repo/a%00.rkllm")]
    #[case::no_text("https://hf.co/org/repo/%ff.rkllm")]
    fn what_is_none_is_refused(#[case] text: &str) {
        assert!(matches!(parse(text), Err(StoreError::Name { .. })), "{text}");
    }

    #[test]
    fn a_short_name_is_no_repository() {
        assert_eq!(parse("qwen2.5:3b"), Ok(None));
        assert_eq!(parse(""), Ok(None));
    }

    proptest! {
        #[test]
        fn a_file_is_asked_for_as_it_is_told(
            path in "(tree/|blob/|resolve/|[a-z#? ]{1,3}/){0,3}[a-z#?:%]{1,4}[.]rkllm",
            revision in proptest::option::of("[a-z0-9]{1,8}"),
        ) {
            let repository = "org/repo".to_owned();
            let told = Reference { repository, revision, file: None, tag: None }.of_file(&path);
            let read = parse(&told).unwrap().unwrap();
            prop_assert_eq!(read.file, Some(path), "{}", told);
        }

        #[test]
        fn any_text_is_read_or_refused(
            text in prop_oneof![any::<String>(), "(hf.co/|hf/|https://huggingface.co/)?[a-zA-Z0-9./:_%-]{0,20}(.rkllm)?"],
        ) {
            if let Ok(Some(reference)) = parse(&text) {
                prop_assert_eq!(reference.repository.matches('/').count(), 1);
                prop_assert!(!reference.repository.contains(".."));
                if let Some(file) = reference.file {
                    prop_assert!(check_inside(&file).is_ok());
                }
            }
        }
    }
}
