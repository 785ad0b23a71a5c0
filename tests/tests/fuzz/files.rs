//! What lies in folders of models: written by people and by other programs.

use std::fs;

use proptest::prelude::*;
use rkllama_core::{ModelError, ModelState, Models};
use rkllama_models::{Defaults, Store};
use tempfile::tempdir;

use crate::corpus::{cases, files, spliced};

/// A model with this file in its folder is ready, or its state names the file that is wrong.
fn file_body(name: &str, content: &[u8]) {
    let root = tempdir().unwrap();
    let folder = root.path().join("m");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("m.rkllm"), "w").unwrap();
    fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    fs::write(folder.join(name), content).unwrap();
    let store = Store::open(root.path().to_owned(), Defaults::default());
    let models = store.list();
    assert_eq!(models.len(), 1);
    match &models[0].state {
        ModelState::Ready => assert!(models[0].weights.starts_with(&folder)),
        ModelState::Incomplete(reason) => assert!(reason.contains(name), "{reason}"),
    }
}

/// No name finds anything but a model, and whatever is not found is said with the name.
fn name_body(store: &Store, name: &str) {
    match store.resolve(name) {
        Ok(model) => assert_eq!(model.id, "Qwen3-0.6B"),
        Err(ModelError::NotFound { name: said } | ModelError::Ambiguous { name: said, .. }) => {
            assert_eq!(said, name);
        }
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn any_manifest_is_read_or_named(text in spliced(files("manifests"))) {
        file_body("rkllama.toml", &text);
    }

    #[test]
    fn any_modelfile_is_read_or_named(text in spliced(files("modelfiles"))) {
        file_body("Modelfile", &text);
    }

    #[test]
    fn any_generation_config_is_read_or_named(text in spliced(files("generation_configs"))) {
        file_body("generation_config.json", &text);
    }

    #[test]
    fn no_name_leaves_the_models(names in proptest::collection::vec(
        prop_oneof![".*", "(\\.\\./|/|%2e|[Qq]wen3?|/|:|@|0\\.6[bB]|latest|-|\u{0}){0,8}"], 20,
    )) {
        let root = tempdir().unwrap();
        let folder = root.path().join("Qwen3-0.6B");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("m.rkllm"), "w").unwrap();
        fs::write(folder.join("tokenizer.json"), "{}").unwrap();
        fs::write(root.path().join("secret"), "s").unwrap();
        let store = Store::open(root.path().to_owned(), Defaults::default());
        assert_eq!(store.list().len(), 1);
        for name in names {
            name_body(&store, &name);
        }
    }
}
