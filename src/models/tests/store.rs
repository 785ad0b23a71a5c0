//! The store over real folders.
#![expect(clippy::unwrap_used, reason = "helpers of tests, to which the exception does not reach")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rkllama_core::{Model, ModelError, ModelState, Models, Sampling, TextFiles};
use rkllama_models::{Defaults, Store};
use rstest::rstest;
use tempfile::TempDir;

/// A root that grows.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn with(self, file: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// A model in which nothing is missing.
    fn with_model(self, id: &str) -> Self {
        self.with(&format!("{id}/{id}.rkllm"), "w").with(&format!("{id}/tokenizer.json"), "{}")
    }

    fn store(&self) -> Store {
        Store::open(self.path().to_owned(), Defaults::default())
    }

    fn model(&self, name: &str) -> Model {
        Model::clone(&self.store().resolve(name).unwrap())
    }

    /// Why a model is incomplete, without this run's path.
    fn fault(&self, name: &str) -> String {
        let ModelState::Incomplete(reason) = self.model(name).state else {
            panic!("{name} is complete");
        };
        self.redact(&reason)
    }

    fn redact(&self, text: &str) -> String {
        text.replace(self.path().to_str().unwrap(), "ROOT")
    }
}

fn ids(store: &Store) -> Vec<String> {
    store.list().iter().map(|model| model.id.clone()).collect()
}

#[test]
fn a_root_that_is_not_there_is_an_empty_store_and_stays_so() {
    let root = Root::new();
    let missing = root.path().join("models");
    let store = Store::open(missing.clone(), Defaults::default());
    assert_eq!(ids(&store), [""; 0]);
    assert!(!missing.exists());
    assert_eq!(store.resolve("a"), Err(ModelError::NotFound { name: "a".to_owned() }));
}

#[test]
fn a_folder_without_a_word_is_a_model_with_defaults() {
    let root = Root::new().with_model("a");
    let weights = root.path().join("a/a.rkllm");
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    fs::File::options().write(true).open(&weights).unwrap().set_modified(written).unwrap();
    let expected = Model {
        weights_bytes: fs::metadata(&weights).map_or(0, |metadata| metadata.len()),
        memory_bytes: None,
        id: "a".to_owned(),
        created_s: 1_700_000_000,
        weights,
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
    };
    assert_eq!(root.model("a"), expected);
    let store = Store::open(root.path().to_owned(), Defaults { context_tokens_max: 2048 });
    assert_eq!(store.resolve("a").unwrap().context_tokens_max, 2048);
}

#[test]
fn an_adapter_is_no_second_model() {
    let named = "[adapter]\nfile = 'lora.rkllm'\n";
    let root = Root::new().with_model("a").with("a/lora.rkllm", "small");
    assert_eq!(
        root.fault("a"),
        "ROOT/a holds several models (a.rkllm, lora.rkllm): name one with `file` in rkllama.toml"
    );
    let root = root.with("a/rkllama.toml", named);
    let model = root.model("a");
    assert_eq!((model.state, model.weights_bytes), (ModelState::Ready, 1));
    let adapter = model.adapter.unwrap();
    assert_eq!((adapter.file, adapter.bytes), (root.path().join("a/lora.rkllm"), 5));

    // As servers for these boards and Ollama's words have it, and beside weights that lie loose.
    let root = Root::new().with_model("a").with("a/lora.rkllm", "small");
    let root = root.with("a/Modelfile", "FROM=\"a.rkllm\"\nADAPTER=\"./lora.rkllm\"\n");
    let root = root.with("b.rkllm", "w").with("b/tokenizer.json", "{}");
    let root = root.with("b/lora.rkllm", "small").with("b/rkllama.toml", named);
    for id in ["a", "b"] {
        let model = root.model(id);
        assert_eq!((model.state, model.weights_bytes), (ModelState::Ready, 1), "{id}");
        assert_eq!(model.adapter.unwrap().bytes, 5, "{id}");
    }
}

#[test]
fn a_model_without_the_adapter_that_it_names_is_incomplete() {
    let root = Root::new().with_model("a");
    let root = root.with("a/rkllama.toml", "[adapter]\nfile = 'parts/lora.bin'\n");
    let store = root.store();
    assert_eq!(
        root.fault("a"),
        "no adapter parts/lora.bin in ROOT/a: correct `file` under [adapter] in rkllama.toml or \
         ADAPTER in Modelfile"
    );
    // It comes later, and is another one later still.
    let root = root.with("a/parts/lora.bin", "small");
    store.rescan();
    assert_eq!(store.resolve("a").unwrap().adapter.as_ref().unwrap().bytes, 5);
    let root = root.with("a/parts/lora.bin", "smaller");
    store.rescan();
    assert_eq!(store.resolve("a").unwrap().adapter.as_ref().unwrap().bytes, 7);
    let root = root.with("a/rkllama.toml", "[adapter]\nfile = 'a.rkllm'\n");
    assert!(root.fault("a").contains("no .rkllm file"), "{}", root.fault("a"));
    let root = root.with("a/rkllama.toml", "file = 'a.rkllm'\n[adapter]\nfile = 'a.rkllm'\n");
    assert!(root.fault("a").starts_with("the adapter is the model itself: a.rkllm"));
}

#[test]
fn models_are_listed_by_id_and_other_things_are_not() {
    let root = Root::new().with_model("b").with_model("a").with_model("c:1b");
    let root = root.with("readme.txt", "").with("empty/notes.txt", "").with_model(".partial");
    let root =
        root.with("tokens/tokenizer.json", "{}").with(".x.rkllm", "").with("x%2Fy/y.rkllm", "");
    assert_eq!(ids(&root.store()), ["a", "b", "c:1b", "x/y"]);
}

#[test]
fn loose_weights_are_a_model_whose_folder_may_come_later() {
    let root =
        Root::new().with("Qwen3-4B.rkllm", "w").with("b/own.rkllm", "w").with("b.rkllm", "w");
    let store = root.store();
    assert_eq!(ids(&store), ["Qwen3-4B", "b"]);
    let loose = store.resolve("qwen3-4b").unwrap();
    assert_eq!(loose.weights, root.path().join("Qwen3-4B.rkllm"));
    assert!(
        matches!(&loose.state, ModelState::Incomplete(reason) if reason.contains("tokenizer.json"))
    );
    assert_eq!(store.resolve("b").unwrap().weights, root.path().join("b/own.rkllm"));
    let root = root.with("Qwen3-4B/tokenizer.json", "{}");
    store.rescan();
    let complete = store.resolve("qwen3:4b").unwrap();
    assert_eq!((&complete.state, &complete.weights), (&ModelState::Ready, &loose.weights));
    fs::remove_file(root.path().join("Qwen3-4B.rkllm")).unwrap();
    store.rescan();
    assert_eq!(ids(&store), ["b"]);
}

#[test]
fn a_model_is_found_by_where_it_was_pulled_from() {
    let source = "[source]\nrepository = 'Org/Repo'\nrevision = 'c'\nfile = 'sub/X.rkllm'\n";
    let root = Root::new().with_model("a").with("a/rkllama.toml", source).with_model("repo");
    let store = root.store();
    for name in
        ["org/repo", "hf.co/Org/Repo", "hf/org/repo/sub/x.rkllm", "https://huggingface.co/Org/Repo"]
    {
        assert_eq!(store.resolve(name).unwrap().id, "a", "{name}");
    }
    assert_eq!(store.resolve("repo").unwrap().id, "repo");
    assert!(store.resolve("hf.co/org/other").is_err());
}

#[test]
fn a_rescan_sees_what_came_and_went() {
    let root = Root::new().with_model("a");
    let store = root.store();
    let root = root.with_model("b");
    fs::remove_dir_all(root.path().join("a")).unwrap();
    assert_eq!(ids(&store), ["a"]);
    let gone = store.resolve("a").unwrap();
    store.rescan();
    assert_eq!(ids(&store), ["b"]);
    assert!(matches!(store.text_files(&gone), Err(ModelError::NotFound { .. })));
}

/// The record itself, so that `Arc::ptr_eq` tells what has to be read again.
#[test]
fn a_rescan_keeps_what_has_not_changed() {
    let root = Root::new().with_model("a").with_model("b").with("a/rkllama.toml", "");
    let store = root.store();
    let before = [store.resolve("a").unwrap(), store.resolve("b").unwrap()];
    store.rescan();
    assert!(Arc::ptr_eq(&before[0], &store.resolve("a").unwrap()));
    let root = root.with("notes.txt", "").with("a/notes.txt", "").with("b/.cache/x", "");
    store.rescan();
    assert!(Arc::ptr_eq(&before[0], &store.resolve("a").unwrap()));
    assert!(Arc::ptr_eq(&before[1], &store.resolve("b").unwrap()));
    let _root = root.with("a/tokenizer.json", "{\"longer\": 1}");
    store.rescan();
    let after = store.resolve("a").unwrap();
    assert!(!Arc::ptr_eq(&before[0], &after), "its files have changed");
    assert_eq!(before[0], after, "its record says the same");
    assert!(Arc::ptr_eq(&before[1], &store.resolve("b").unwrap()), "the other has not");
}

#[rstest]
#[case::weights("a/a.rkllm", "longer weights")]
#[case::more_weights("a/z.rkllm", "")]
#[case::manifest("a/rkllama.toml", "context_length = 2048")]
#[case::modelfile("a/Modelfile", "NUM_CTX=2048")]
#[case::recommendation("a/generation_config.json", "{\"top_p\": 0.5}")]
fn a_rescan_sees_what_was_written(#[case] file: &str, #[case] content: &str) {
    let root = Root::new().with_model("a");
    let store = root.store();
    let before = store.resolve("a").unwrap();
    let _root = root.with(file, content);
    store.rescan();
    assert_ne!(before, store.resolve("a").unwrap());
}

/// The same size, written later.
#[test]
fn a_rescan_sees_a_file_of_another_time() {
    let root = Root::new().with_model("a");
    let store = root.store();
    let before = store.resolve("a").unwrap();
    let weights = fs::File::options().write(true).open(&before.weights).unwrap();
    weights.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    store.rescan();
    assert!(!Arc::ptr_eq(&before, &store.resolve("a").unwrap()));
}

#[rstest]
#[case::missing(&[("a/rkllama.toml", "file = 'sub/x.rkllm'")], &[("a/sub/x.rkllm", "w")])]
#[case::unreadable(&[("a/x.rkllm", ""), ("a/rkllama.toml", "top = 1")], &[("a/rkllama.toml", "")])]
fn a_model_that_is_repaired_as_its_fault_says_is_ready(
    #[case] broken: &[(&str, &str)],
    #[case] repaired: &[(&str, &str)],
) {
    let mut root = Root::new().with("a/tokenizer.json", "{}");
    for (file, content) in broken {
        root = root.with(file, content);
    }
    let store = root.store();
    assert_ne!(store.resolve("a").unwrap().state, ModelState::Ready);
    for (file, content) in repaired {
        root = root.with(file, content);
    }
    store.rescan();
    assert_eq!(store.resolve("a").unwrap().state, ModelState::Ready);
}

#[test]
fn values_for_other_servers_leave_a_model_usable() {
    let root = Root::new()
        .with_model("a")
        .with("a/Modelfile", "FROM=a.rkllm\nNUM_CTX=131072")
        .with("a/generation_config.json", r#"{"top_k": -1, "temperature": 3, "top_p": 0.9}"#);
    let model = root.model("a");
    assert_eq!(model.state, ModelState::Ready);
    assert_eq!(model.context_tokens_max, 16_384);
    assert_eq!(model.sampling, Sampling { top_p: Some(0.9), ..Sampling::default() });
}

#[test]
fn a_linked_folder_is_a_model() {
    let elsewhere = Root::new().with_model("old");
    let root = Root::new();
    symlink(elsewhere.path().join("old"), root.path().join("new")).unwrap();
    symlink(elsewhere.path().join("nowhere"), root.path().join("dangling")).unwrap();
    assert_eq!(ids(&root.store()), ["new"]);
    assert_eq!(root.model("new").state, ModelState::Ready);
    assert_eq!(root.store().text_files(&root.model("new")).unwrap().tokenizer, b"{}");
}

#[test]
fn manifest_wins_over_modelfile_wins_over_recommendation() {
    let root = Root::new()
        .with_model("a")
        .with("a/rkllama.toml", "context_length = 8192\naliases = ['x']\n[sampling]\ntop_p = 0.1\n")
        .with("a/Modelfile", "FROM=a.rkllm\nNUM_CTX=2048\nMAX_NEW_TOKENS=99\nTOP_P=0.2\nTOP_K=2\n")
        .with(
            "a/generation_config.json",
            r#"{"top_p": 0.3, "top_k": 3, "temperature": 0.4, "do_sample": true}"#,
        );
    let model = root.model("X:latest");
    assert_eq!((model.context_tokens_max, model.tokens_max), (8192, Some(99)));
    let expected = Sampling {
        temperature: Some(0.4),
        top_p: Some(0.1),
        top_k: Some(2),
        ..Sampling::default()
    };
    assert_eq!(model.sampling, expected);
    assert_eq!(model.state, ModelState::Ready);
    let mut origins = model.presets.origins;
    origins.sort_unstable();
    let expected = [
        ("aliases", "rkllama.toml"),
        ("file", "Modelfile"),
        ("num_ctx", "rkllama.toml"),
        ("num_predict", "Modelfile"),
        ("temperature", "generation_config.json"),
        ("top_k", "Modelfile"),
        ("top_p", "rkllama.toml"),
    ];
    assert_eq!(origins, expected.map(|(name, file)| (name.to_owned(), file.to_owned())));
}

/// A missing key once inherited the value of the model that was read before.
#[test]
fn nothing_passes_from_one_modelfile_to_another() {
    let root = Root::new().with_model("a").with_model("b");
    let root =
        root.with("a/Modelfile", "TEMPERATURE=\"0.5\"\nNUM_CTX=2048").with("b/Modelfile", "");
    let store = root.store();
    assert_eq!(store.resolve("a").unwrap().sampling.temperature, Some(0.5));
    assert_eq!(store.resolve("b").unwrap().sampling, Sampling::default());
    assert_eq!(store.resolve("b").unwrap().context_tokens_max, 4096);
    assert!(std::env::var_os("TEMPERATURE").is_none() && std::env::var_os("NUM_CTX").is_none());
}

#[rstest]
#[case::manifest("rkllama.toml", "file = 'two.rkllm'")]
#[case::environment("Modelfile", "FROM=two.rkllm")]
#[case::instruction("Modelfile", "FROM ./two.rkllm")]
fn of_several_weights_the_named_one_is_used(#[case] file: &str, #[case] content: &str) {
    let root = Root::new().with("a/one.rkllm", "").with("a/two.rkllm", "");
    let root = root.with("a/tokenizer/tokenizer.json", "{}").with(&format!("a/{file}"), content);
    let model = root.model("two");
    assert_eq!(model.weights, root.path().join("a/two.rkllm"));
    assert_eq!(model.state, ModelState::Ready);
}

#[rstest]
#[case::tokenizer("tokenizer", &[("x.rkllm", "")])]
#[case::weights("weights", &[("rkllama.toml", ""), ("tokenizer.json", "")])]
#[case::several("several", &[("x.rkllm", ""), ("y.rkllm", ""), ("tokenizer.json", "")])]
#[case::named("named", &[("x.rkllm", ""), ("Modelfile", "FROM=llama3"), ("tokenizer.json", "")])]
#[case::key("key", &[("x.rkllm", ""), ("rkllama.toml", "\n[sampling]\ntemprature = 1\n"), ("tokenizer.json", "")])]
#[case::not_text("not_text", &[("x.rkllm", ""), ("rkllama.toml", "\u{0}"), ("tokenizer.json", "")])]
#[case::outside("outside", &[("x.rkllm", ""), ("Modelfile", "FROM=../b/b.rkllm"), ("tokenizer.json", "")])]
#[case::recommendation("recommendation", &[("x.rkllm", ""), ("generation_config.json", "{}}"), ("tokenizer.json", "")])]
#[case::everything("everything", &[("Modelfile", "TOP_K=x"), ("rkllama.toml", "runtime = 1.2")])]
fn a_fault_is_told_and_leaves_the_others_alone(#[case] name: &str, #[case] files: &[(&str, &str)]) {
    let mut root = Root::new().with_model("b");
    for (file, content) in files {
        root = root.with(&format!("a/{file}"), content);
    }
    insta::assert_snapshot!(format!("fault_{name}"), root.fault("a"));
    assert_eq!(root.model("b").state, ModelState::Ready);
}

#[test]
fn models_that_read_what_is_written_have_their_familys_template() {
    let root = Root::new()
        .with_model("DeepSeek-OCR-W8A8")
        .with("DeepSeek-OCR-W8A8/vision.rknn", "w")
        .with_model("mine")
        .with("mine/rkllama.toml", "file = 'dots.ocr.rkllm'\n")
        .with("mine/dots.ocr.rkllm", "w")
        .with("mine/vision.rknn", "w")
        // It cannot see.
        .with_model("deepseek-ocr-text")
        .with_model("qwen2-vl")
        .with("qwen2-vl/vision.rknn", "w");
    let template = |name| root.store().text_files(&root.model(name)).unwrap().family_template;
    assert!(template("DeepSeek-OCR-W8A8").is_some_and(|text| !text.contains("<|")));
    assert!(template("mine").is_some_and(|text| text.contains("<|assistant|>")));
    assert_eq!(template("deepseek-ocr-text"), None);
    assert_eq!(template("qwen2-vl"), None);
}

#[test]
fn text_files_are_read_from_the_folder_or_the_one_below() {
    let root = Root::new()
        .with("a/x.rkllm", "")
        .with("a/tokenizer/tokenizer.json", "T")
        .with("a/tokenizer/tokenizer_config.json", "C")
        .with("a/generation_config.json", "{}")
        .with("a/config.json", "F")
        .with("a/chat_template.jinja", "J")
        .with("a/rkllama.toml", "tool_format = 'hermes'\nreasoning_format = 'none'\n");
    let expected = TextFiles {
        image_tags: None,
        family_template: None,
        tokenizer: b"T".to_vec(),
        tokenizer_config: Some(b"C".to_vec()),
        generation_config: Some(b"{}".to_vec()),
        config: Some(b"F".to_vec()),
        chat_template: Some("J".to_owned()),
        tool_format: Some("hermes".to_owned()),
        reasoning_format: Some("none".to_owned()),
    };
    assert_eq!(root.store().text_files(&root.model("a")).unwrap(), expected);
    let bare = Root::new().with_model("a");
    let files = bare.store().text_files(&bare.model("a")).unwrap();
    assert_eq!(files, TextFiles { tokenizer: b"{}".to_vec(), ..TextFiles::default() });
}

#[test]
fn a_tokenizer_that_came_later_is_read_without_a_rescan_and_a_missing_one_is_named() {
    let root = Root::new().with("a/x.rkllm", "");
    let store = root.store();
    let model = store.resolve("a").unwrap();
    let err = store.text_files(&model).unwrap_err().to_string();
    insta::assert_snapshot!(root.redact(&err));
    let _root = root.with("a/tokenizer.json", "{}");
    assert_eq!(store.text_files(&model).unwrap().tokenizer, b"{}");
}

#[rstest]
#[case::tokenizer("tokenizer.json", 64)]
#[case::config("tokenizer_config.json", 8)]
#[case::template("chat_template.jinja", 8)]
fn a_file_beyond_its_limit_is_refused(#[case] file: &str, #[case] mb_max: u64) {
    let root = Root::new().with_model("a");
    let path = root.path().join("a").join(file);
    let created = fs::File::create(&path).unwrap();
    created.set_len(mb_max << 20).unwrap();
    assert!(root.store().text_files(&root.model("a")).is_ok(), "the limit itself is allowed");
    created.set_len((mb_max << 20) + 1).unwrap();
    let reason = format!("larger than {mb_max} MiB");
    let refused = root.store().text_files(&root.model("a"));
    assert_eq!(refused, Err(ModelError::Unreadable { path, reason }));
}

#[test]
fn a_folder_in_place_of_a_file_is_refused() {
    let root = Root::new().with_model("a").with("a/tokenizer_config.json/x", "");
    let err = root.store().text_files(&root.model("a")).unwrap_err();
    assert_eq!(
        root.redact(&err.to_string()),
        "cannot read ROOT/a/tokenizer_config.json: not a regular file"
    );
}

#[rstest]
#[case("../outside")]
#[case("..")]
#[case(".")]
#[case("a/../../outside")]
#[case("/etc")]
#[case("a/x.rkllm")]
#[case("a\0")]
#[case("%2e%2e/outside")]
fn a_clients_name_is_no_path(#[case] name: &str) {
    let around = Root::new().with_model("outside");
    let root: PathBuf = around.path().join("root");
    fs::create_dir_all(root.join("a")).unwrap();
    fs::write(root.join("a/x.rkllm"), "").unwrap();
    let store = Store::open(root, Defaults::default());
    assert_eq!(store.resolve(name), Err(ModelError::NotFound { name: name.to_owned() }));
}
