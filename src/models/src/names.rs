//! The names a model answers to.
//!
//! Compared with the list of what was found and nothing else: a client's name never becomes a
//! path, and never matches a part of a name.

use std::sync::Arc;

use rkllama_core::{Model, ModelError};

use crate::folder::Folder;

/// Finds the model a name means. The first kind of name that fits decides: the exact id; the id
/// without regard to case, `:latest` and `.rkllm`; an alias; the weights' file name.
pub(crate) fn resolve<'a>(
    folders: &'a [Arc<Folder>],
    name: &str,
) -> Result<&'a Arc<Folder>, ModelError> {
    let plain = plain(name);
    let kinds: [&dyn Fn(&Folder) -> bool; 4] = [
        &|folder| folder.model.id == name,
        &|folder| self::plain(&folder.model.id) == plain,
        &|folder| folder.aliases.iter().any(|alias| self::plain(alias) == plain),
        &|folder| weights_name(&folder.model).is_some_and(|name| self::plain(name) == plain),
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
            query_instruction: None,
            state: ModelState::Ready,
        });
        let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        let fingerprint = Fingerprint::default();
        Arc::new(Folder {
            model,
            aliases,
            tool_format: None,
            reasoning_format: None,
            path,
            named: None,
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

    proptest! {
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
