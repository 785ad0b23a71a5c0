//! The names a model answers to.
//!
//! Compared with the list of what was found and nothing else: a client's name never becomes a
//! path, and never matches a part of a name. Only a model that is made here gets a folder of its name,
//! and only under a name that can be nothing else.

use std::sync::{Arc, LazyLock};

use regex::Regex;
use rkllama_core::{Model, ModelError, StoreError};

use crate::folder::Folder;

/// Finds the model a name means. The first kind of name that fits decides: the exact id; the id
/// without regard to case, `:latest` and `.rkllm`; an alias; the weights' file name; where it was pulled
/// from; the simple name that the weights' name is worth.
pub(crate) fn resolve<'a>(
    folders: &'a [Arc<Folder>],
    name: &str,
) -> Result<&'a Arc<Folder>, ModelError> {
    let plain = plain(name);
    let pulled = without_hub(&plain);
    let kinds: [&dyn Fn(&Folder) -> bool; 6] = [
        &|folder| folder.model.id == name,
        &|folder| self::plain(&folder.model.id) == plain,
        &|folder| folder.aliases.iter().any(|alias| self::plain(alias) == plain),
        &|folder| weights_name(&folder.model).is_some_and(|name| self::plain(name) == plain),
        &|folder| is_from(&folder.model, pulled),
        &|folder| {
            let name = weights_name(&folder.model).and_then(simple_name);
            name.or_else(|| simple_name(&folder.model.id)).is_some_and(|simple| simple == plain)
        },
    ];
    for fits in kinds {
        let mut candidates = folders.iter().filter(|folder| fits(folder));
        let Some(first) = candidates.next() else { continue };
        let others: Vec<&Arc<Folder>> = candidates.collect();
        if others.is_empty() {
            return Ok(first);
        }
        let ids = std::iter::once(first).chain(others).map(|folder| folder.model.id.clone());
        return Err(ModelError::Ambiguous { name: name.to_owned(), candidates: ids.collect() });
    }
    Err(ModelError::NotFound { name: name.to_owned() })
}

/// A name without what clients add or leave out at will.
fn plain(name: &str) -> String {
    let lower = name.to_lowercase();
    let name = lower.strip_suffix(":latest").unwrap_or(&lower);
    name.strip_suffix(".rkllm").unwrap_or(name).to_owned()
}

/// What stands in front of a repository's name where people copy it from.
pub(crate) const HUBS: [&str; 6] = [
    "https://huggingface.co/",
    "https://hf.co/",
    "http://hf.co/",
    "huggingface.co/",
    "hf.co/",
    "hf/",
];

/// A name without the hub in front of it.
pub(crate) fn without_hub(name: &str) -> &str {
    HUBS.iter().find_map(|hub| name.strip_prefix(hub)).unwrap_or(name)
}

/// Whether the model was pulled from this repository, or as this file of it.
fn is_from(model: &Model, pulled: &str) -> bool {
    let Some(source) = &model.presets.source else { return false };
    let repository = source.repository.to_lowercase();
    pulled == repository || pulled == plain(&format!("{repository}/{}", source.file))
}

/// The name that servers for these boards make of a file's name, such as `qwen2.5-instruct:3b` of
/// `Qwen2.5-3B-Instruct-rk3588-w8a8.rkllm`. `None` where it says nothing about the size.
pub(crate) fn simple_name(file: &str) -> Option<String> {
    /// In the order in which they stand in the name.
    const VARIANTS: [&str; 8] =
        ["coder", "math", "chat", "instruct", "vision", "mini", "small", "medium"];
    static SIZE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?:^|[^a-z0-9.])(\d{1,3}(?:\.\d{1,3})?)b(?:[^a-z0-9]|$)").ok()
    });
    static FAMILY: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^(?:deepseek|tinyllama|[a-z]+(?:\d+(?:\.\d+)?)?)").ok());
    let name = plain(file);
    let size = SIZE.as_ref()?.captures(&name)?.get(1)?.as_str().to_owned();
    let family = FAMILY.as_ref()?.find(&name)?.as_str().to_owned();
    let words: Vec<&str> = name.split(['-', '_', ' ']).collect();
    let variants = VARIANTS.iter().filter(|variant| words.contains(variant));
    let parts: Vec<&str> = std::iter::once(family.as_str()).chain(variants.copied()).collect();
    Some(format!("{}:{size}b", parts.join("-")))
}

/// Longest name of a model's folder, in bytes: filesystems take 255.
const NAME_LEN_MAX: usize = 200;
/// What a `/` of a model's name is in its folder's name. No name has a `%`.
const SLASH: &str = "%2F";

/// The id of the model in a folder.
pub(crate) fn id_of(folder: &str) -> String {
    folder.replace(SLASH, "/")
}

/// The folder for a new model: the name's parts begin with a letter, a digit or `_` and hold nothing
/// but these, `-`, `.` and `:`, so that no name leads out of the root, is hidden, or is a path.
///
/// # Errors
/// [`StoreError::Name`].
pub(crate) fn folder_for(name: &str) -> Result<String, StoreError> {
    let refused = |reason: &str| StoreError::Name {
        name: name.chars().take(100).collect(),
        reason: reason.to_owned(),
    };
    let is_begin = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_rest = |c: char| is_begin(c) || matches!(c, '-' | '.' | ':');
    let is_part = |part: &str| {
        let mut chars = part.chars();
        chars.next().is_some_and(is_begin) && chars.all(is_rest) && !part.ends_with(':')
    };
    if !name.split('/').all(is_part) {
        return Err(refused(
            "its parts begin with a letter, a digit or `_` and hold nothing but these, `-`, `.` and `:`",
        ));
    }
    let folder = name.strip_suffix(":latest").unwrap_or(name).replace('/', SLASH);
    if folder.len() > NAME_LEN_MAX {
        return Err(refused("it is longer than 200 bytes, each `/` counted as 3"));
    }
    Ok(folder)
}

fn weights_name(model: &Model) -> Option<&str> {
    model.weights.file_name().and_then(|name| name.to_str())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;
    use rkllama_core::{ModelState, Sampling};
    use rstest::rstest;

    use super::*;
    use crate::fingerprint::Fingerprint;

    fn folder(id: &str, weights: &str, aliases: &[&str]) -> Arc<Folder> {
        let path = PathBuf::from("/models").join(id);
        let model = Arc::new(Model {
            id: id.to_owned(),
            created_s: 0,
            weights_bytes: 0,
            memory_bytes: None,
            weights: path.join(weights),
            context_tokens_max: 4096,
            sampling: Sampling::default(),
            tokens_max: None,
            runtime: None,
            pooling: None,
            reranks: None,
            query_instruction: None,
            vision: None,
            adapter: None,
            presets: rkllama_core::Presets::default(),
            state: ModelState::Ready,
        });
        let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        let fingerprint = Fingerprint::default();
        Arc::new(Folder {
            model,
            aliases,
            template: None,
            family_template: None,
            tool_format: None,
            reasoning_format: None,
            path,
            named: Vec::new(),
            fingerprint,
        })
    }

    fn folders() -> Vec<Arc<Folder>> {
        vec![
            folder("Qwen3-4B", "Qwen3-4B-rk3588-w8a8.rkllm", &["gpt-4o", "shared"]),
            folder("gemma", "model.rkllm", &["shared", "qwen2.5:3b"]),
            folder("llama3.2:1b", "model.rkllm", &["qwen3-4b"]),
            folder("mixed", "x.rkllm", &[]),
            folder("MIXED", "y.rkllm", &[]),
            folder("org.model:latest", "z.rkllm", &[]),
        ]
    }

    fn id_of(name: &str) -> Result<String, ModelError> {
        resolve(&folders(), name).map(|folder| folder.model.id.clone())
    }

    #[rstest]
    #[case::exact("Qwen3-4B", "Qwen3-4B")]
    #[case::case_is_free("qwen3-4b", "Qwen3-4B")]
    #[case::latest("Qwen3-4B:latest", "Qwen3-4B")]
    #[case::latest_upper("GEMMA:LATEST", "gemma")]
    #[case::latest_after_tag("llama3.2:1b:latest", "llama3.2:1b")]
    #[case::id_with_latest("org.model", "org.model:latest")]
    #[case::extension("gemma.rkllm", "gemma")]
    #[case::extension_and_latest("Gemma.rkllm:latest", "gemma")]
    #[case::alias("GPT-4o", "Qwen3-4B")]
    #[case::alias_with_tag("qwen2.5:3b", "gemma")]
    #[case::weights("Qwen3-4B-rk3588-w8a8.rkllm", "Qwen3-4B")]
    #[case::weights_without_extension("qwen3-4b-rk3588-w8a8", "Qwen3-4B")]
    #[case::exact_beats_ambiguous_case("mixed", "mixed")]
    fn a_model_answers_to(#[case] name: &str, #[case] id: &str) {
        assert_eq!(id_of(name).unwrap(), id);
    }

    #[rstest]
    #[case::case_alone("Mixed", &["mixed", "MIXED"])]
    #[case::alias("shared", &["Qwen3-4B", "gemma"])]
    #[case::weights("model", &["gemma", "llama3.2:1b"])]
    fn an_ambiguous_name_lists_its_candidates(#[case] name: &str, #[case] ids: &[&str]) {
        let candidates = ids.iter().map(|id| (*id).to_owned()).collect();
        assert_eq!(id_of(name), Err(ModelError::Ambiguous { name: name.to_owned(), candidates }));
    }

    #[rstest]
    #[case::part("Qwen3")]
    #[case::other_tag("llama3.2:3b")]
    #[case::tag_left_out("llama3.2")]
    #[case::namespace("somebody/gemma")]
    #[case::parent("../gemma")]
    #[case::absolute("/models/gemma")]
    #[case::folder("gemma/")]
    #[case::empty("")]
    #[case::only_latest(":latest")]
    #[case::nul("gemma\0")]
    fn nothing_else_is_guessed(#[case] name: &str) {
        assert_eq!(id_of(name), Err(ModelError::NotFound { name: name.to_owned() }));
    }

    #[rstest]
    #[case(
        "Qwen2.5-3B-Instruct-rk3588-w8a8-opt-0-hybrid-ratio-1.0.rkllm",
        Some("qwen2.5-instruct:3b")
    )]
    #[case("Qwen2.5-3B_W8A8_RK3588.rkllm", Some("qwen2.5:3b"))]
    #[case("deepseek-coder-7b-instruct-v1.5-rk3588.rkllm", Some("deepseek-coder-instruct:7b"))]
    #[case("Qwen3-0.6B-w8a8.rkllm", Some("qwen3:0.6b"))]
    #[case("TinyLlama-1.1B-Chat-v1.0.rkllm", Some("tinyllama-chat:1.1b"))]
    #[case("model.rkllm", None)]
    #[case("rk3588b.rkllm", None)]
    fn files_have_simple_names(#[case] file: &str, #[case] name: Option<&str>) {
        assert_eq!(simple_name(file).as_deref(), name);
    }

    #[rstest]
    #[case("m", "m")]
    #[case("m:latest", "m")]
    #[case("user/m:1", "user%2Fm:1")]
    #[case("h:1/a/b", "h:1%2Fa%2Fb")]
    #[case("Qwen3-0.6B_w8a8", "Qwen3-0.6B_w8a8")]
    fn a_new_model_gets_a_folder(#[case] name: &str, #[case] folder: &str) {
        assert_eq!(folder_for(name).as_deref(), Ok(folder));
        assert_eq!(folder_for(&super::id_of(folder)).as_deref(), Ok(folder));
    }

    #[rstest]
    #[case::empty("")]
    #[case::parent("..")]
    #[case::parents("a/../../b")]
    #[case::here(".")]
    #[case::hidden(".blobs")]
    #[case::absolute("/etc")]
    #[case::backslash("a\\b")]
    #[case::nul("a\0")]
    #[case::blank("a b")]
    #[case::encoded("a%2Fb")]
    #[case::encoded_parent("%2e%2e")]
    #[case::option("-rf")]
    #[case::tag_missing("a:")]
    #[case::folder("a/")]
    #[case::foreign("é")]
    fn what_is_no_name_gets_none(#[case] name: &str) {
        assert!(matches!(folder_for(name), Err(StoreError::Name { .. })), "{name}");
    }

    proptest! {
        #[test]
        fn a_folder_is_one_plain_part_of_a_path(
            name in prop_oneof![any::<String>(), "[a-zA-Z0-9_./:%~\\\\-]{0,12}"],
        ) {
            if let Ok(folder) = folder_for(&name) {
                let path = std::path::Path::new(&folder);
                let parts: Vec<_> = path.components().collect();
                prop_assert!(matches!(parts[..], [std::path::Component::Normal(_)]), "{folder}");
                prop_assert!(!folder.starts_with('.'), "{folder}");
                prop_assert!(folder.len() <= 255);
                let short = name.strip_suffix(":latest").unwrap_or(&name);
                prop_assert_eq!(super::id_of(&folder), short);
            }
        }

        #[test]
        fn every_listed_id_finds_itself(ids in proptest::collection::btree_set("[aAbB:.]{1,4}", 1..8)) {
            let folders: Vec<_> = ids.iter().map(|id| folder(id, "m.rkllm", &[])).collect();
            for id in &ids {
                prop_assert_eq!(&resolve(&folders, id).unwrap().model.id, id);
            }
        }

        #[test]
        fn any_name_is_answered_by_a_listed_model_or_refused(name in any::<String>()) {
            if let Ok(id) = id_of(&name) {
                prop_assert!(folders().iter().any(|folder| folder.model.id == id));
            }
        }
    }
}
