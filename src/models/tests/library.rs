//! Making, copying and removing models, and the files that are sent for it, over real folders.
#![expect(clippy::unwrap_used, reason = "helpers of tests, to which the exception does not reach")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt, TryStreamExt, future, stream};
use proptest::prelude::*;
use rkllama_core::{
    Creation, Digest, Message, Model, ModelError, ModelState, ModelStore, Models, Presets, Role,
    Sampling, Source, Step, StoreError, Upload,
};
use rkllama_hub::HubConfig;
use rkllama_models::{Catalog, Defaults, Library, Sources, Store};
use rstest::rstest;
use sha2::Digest as _;
use tempfile::TempDir;

/// A root that grows, in a folder of its own, so that what lands beside it is seen.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let around = tempfile::tempdir().unwrap();
        fs::create_dir(around.path().join("models")).unwrap();
        Self(around)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("models")
    }

    fn with(self, file: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// A model in which nothing is missing.
    fn with_model(self, id: &str) -> Self {
        self.with(&format!("{id}/{id}.rkllm"), format!("weights of {id}"))
            .with(&format!("{id}/tokenizer.json"), format!("tokenizer of {id}"))
    }

    fn open(self) -> Opened {
        let store = Arc::new(Store::open(self.path(), Defaults::default()));
        let hub = HubConfig { is_offline: true, ..HubConfig::default() };
        let sources = Sources { chip: None, hub, catalog: Catalog::default() };
        let library = Library::new(Arc::clone(&store), sources, Box::new(|_| Ok(())));
        Opened { root: self, store, library }
    }
}

/// A library over a root, without a network.
struct Opened {
    root: Root,
    store: Arc<Store>,
    library: Library,
}

impl Opened {
    async fn create(&self, creation: Creation) -> Result<Vec<Step>, StoreError> {
        self.library.create(creation).try_collect().await
    }

    async fn copy(&self, source: &str, destination: &str) -> Result<(), StoreError> {
        self.library.copy(self.model(source), destination.to_owned()).await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.library.delete(self.model(name)).await
    }

    /// Sends a file.
    async fn blob(&self, content: &str) -> Digest {
        let digest = digest(content);
        self.library.put_blob(digest, upload(&[Ok(content)])).await.unwrap();
        digest
    }

    fn model(&self, name: &str) -> Arc<Model> {
        self.store.resolve(name).unwrap()
    }

    fn ids(&self) -> Vec<String> {
        self.store.list().iter().map(|model| model.id.clone()).collect()
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn inode(&self, path: &str) -> u64 {
        fs::metadata(self.at(path)).unwrap().ino()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    /// Everything in the root and beside it.
    fn tree(&self) -> BTreeMap<PathBuf, String> {
        tree(self.root.0.path())
    }
}

/// All paths below a folder, with what is in the files. Links are not followed.
fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            found.extend(tree(&path));
        }
        let content = match kind.is_file() {
            true => String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned(),
            false => format!("{kind:?}"),
        };
        found.insert(path, content);
    }
    found
}

fn digest(content: &str) -> Digest {
    Digest(sha2::Sha256::digest(content).into())
}

fn upload(pieces: &[Result<&str, &str>]) -> Upload {
    let owned = |piece: &Result<&str, &str>| match piece {
        Ok(piece) => Ok(piece.as_bytes().to_vec().into()),
        Err(reason) => Err((*reason).to_owned()),
    };
    Box::pin(stream::iter(pieces.iter().map(owned).collect::<Vec<_>>()))
}

/// A model without the names of the files that say what counts for it: a made one's manifest says more.
fn unsigned(model: &Model) -> Model {
    let mut model = model.clone();
    model.presets.origins.clear();
    model
}

fn made_from(base: &str, name: &str) -> Creation {
    Creation { name: name.to_owned(), from: Some(base.to_owned()), ..Creation::default() }
}

fn made_of(name: &str, files: &[(&str, Digest)]) -> Creation {
    let files = files.iter().map(|(path, digest)| ((*path).to_owned(), *digest)).collect();
    Creation { name: name.to_owned(), files, ..Creation::default() }
}

fn with_parameters(mut creation: Creation, parameters: &[(&str, &str)]) -> Creation {
    let owned = |(name, json): &(&str, &str)| ((*name).to_owned(), (*json).to_owned());
    creation.parameters = parameters.iter().map(owned).collect();
    creation
}

fn reason(result: Result<impl std::fmt::Debug, StoreError>) -> String {
    match result.unwrap_err() {
        StoreError::Refused { reason } => reason,
        error => panic!("not refused: {error:?}"),
    }
}

const MANIFEST: &str = "context_length = 8192\naliases = ['nick']\nsystem = 'Old.'\nstop = ['A', 'B']\n\
    licenses = ['MIT']\n[sampling]\ntop_k = 5\ntemperature = 0.1\n[parameters]\nseed = 1\nmirostat = 0\n\
    [source]\nrepository = 'org/repo'\nrevision = 'c0ffee'\nfile = 'x.rkllm'\n\
    [[messages]]\nrole = 'user'\ncontent = 'Old?'\n";

#[tokio::test]
async fn a_model_made_from_another_says_what_it_was_told_and_keeps_the_rest() {
    let library = Root::new().with_model("base").with("base/rkllama.toml", MANIFEST).open();
    let creation = Creation {
        system: Some("New.".to_owned()),
        template: Some("{% for m in messages %}{{ m.content }}{% endfor %}".to_owned()),
        licenses: vec!["Apache-2.0".to_owned()],
        messages: Some(vec![Message::new(Role::Assistant, "New!")]),
        ..made_from("base", "made")
    };
    let creation = with_parameters(
        creation,
        &[
            ("temperature", "0.7"),
            ("stop", r#"["END", "\nSTOP"]"#),
            ("num_ctx", "4096"),
            ("num_predict", "-1"),
            ("Mirostat", "2"),
            ("use_mmap", "true"),
            ("own_word", "\"a \\\"b\\\"\""),
            ("top_p", "null"),
        ],
    );
    let steps = library.create(creation).await.unwrap();
    let using = Step::Using { file: "base.rkllm".to_owned(), sha256: None };
    assert_eq!(steps, [using, Step::Writing, Step::Done { model: "made".to_owned() }]);

    let made = library.model("made");
    assert_eq!(made.state, ModelState::Ready);
    assert_eq!(made.context_tokens_max, 4096);
    let sampling = Sampling { temperature: Some(0.7), top_k: Some(5), ..Sampling::default() };
    assert_eq!((made.sampling, made.tokens_max), (sampling, None));
    let presets = &made.presets;
    assert_eq!(presets.system.as_deref(), Some("New."));
    assert_eq!(presets.stop, ["END", "\nSTOP"]);
    assert_eq!(presets.licenses, ["MIT", "Apache-2.0"]);
    assert_eq!(presets.messages, [Message::new(Role::Assistant, "New!")]);
    assert_eq!(presets.parent.as_deref(), Some("base"));
    assert_eq!((&presets.source, &presets.go_template), (&None, &None));
    let parameters =
        [("mirostat", "2"), ("own_word", r#""a \"b\"""#), ("seed", "1"), ("use_mmap", "true")];
    let mut kept = presets.parameters.clone();
    kept.sort();
    assert_eq!(kept, parameters.map(|(name, json)| (name.to_owned(), json.to_owned())));
    let text = library.store.text_files(&made).unwrap();
    assert_eq!(
        text.chat_template.as_deref(),
        Some("{% for m in messages %}{{ m.content }}{% endfor %}")
    );
    assert_eq!(library.model("nick").id, "base", "an alias stays where it was");
}

#[tokio::test]
async fn what_is_not_said_stays_the_parents() {
    let library = Root::new().with_model("base").with("base/rkllama.toml", MANIFEST).open();
    let creation = Creation {
        system: Some(String::new()),
        template: Some(String::new()),
        ..made_from("base", "made")
    };
    library.create(creation).await.unwrap();
    let (base, made) = (library.model("base"), library.model("made"));
    let mut expected = base.presets.clone();
    expected.source = None;
    expected.aliases = Vec::new();
    expected.parent = Some("base".to_owned());
    assert_eq!(unsigned(&made).presets, Presets { origins: Vec::new(), ..expected });
    assert_eq!((made.context_tokens_max, made.sampling), (8192, base.sampling));
    let silent = Creation { messages: Some(Vec::new()), ..made_from("base", "silent") };
    library.create(with_parameters(silent, &[("stop", "[]")])).await.unwrap();
    let silent = library.model("silent");
    assert_eq!((silent.presets.messages.len(), silent.presets.stop.len()), (0, 0));
}

#[tokio::test]
async fn a_template_in_gos_language_takes_the_place_of_one_in_jinja() {
    let library = Root::new()
        .with_model("base")
        .with("base/rkllama.toml", "template = '{{ messages }}'")
        .open();
    let go = "{{ .System }}{{ .Prompt }}";
    let creation = Creation { template: Some(go.to_owned()), ..made_from("base", "made") };
    library.create(creation).await.unwrap();
    let made = library.model("made");
    assert_eq!(made.presets.go_template.as_deref(), Some(go));
    assert_eq!(library.store.text_files(&made).unwrap().chat_template, None);
}

/// What a Modelfile says of the parent is as good as what a manifest says.
#[tokio::test]
async fn what_the_parents_modelfile_says_is_inherited() {
    let library = Root::new()
        .with_model("base")
        .with("base/Modelfile", "SYSTEM Old.\nPARAMETER stop A\n")
        .open();
    library.create(with_parameters(made_from("base", "made"), &[("stop", "\"Z\"")])).await.unwrap();
    let made = library.model("made");
    assert_eq!(made.presets.system.as_deref(), Some("Old."));
    assert_eq!(made.presets.stop, ["Z"]);
}

#[tokio::test]
async fn large_files_are_shared_and_small_ones_are_copies() {
    let root = Root::new().with_model("base").with("base/vision.rknn", "encoder");
    let library = root.with("base/tokenizer_config.json", "{}").with("base/notes.txt", "").open();
    library.create(made_from("base", "made")).await.unwrap();
    for file in ["base.rkllm", "vision.rknn"] {
        let (base, made) = (format!("base/{file}"), format!("made/{file}"));
        assert_eq!(library.inode(&base), library.inode(&made), "{file}");
    }
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        let (base, made) = (format!("base/{file}"), format!("made/{file}"));
        assert_ne!(library.inode(&base), library.inode(&made), "{file}");
        assert_eq!(library.read(&base), library.read(&made));
    }
    assert!(!library.at("made/notes.txt").exists());
}

#[tokio::test]
async fn a_parents_files_lie_flat_wherever_they_lay() {
    let root = Root::new()
        .with("base/rkllama.toml", "file = 'deep/x.rkllm'")
        .with("base/deep/x.rkllm", "w")
        .with("base/tokenizer/tokenizer.json", "T");
    let library = root.open();
    library.create(made_from("base", "made")).await.unwrap();
    assert_eq!(library.model("made").state, ModelState::Ready);
    assert_eq!(library.inode("base/deep/x.rkllm"), library.inode("made/x.rkllm"));
    assert_eq!(library.read("made/tokenizer.json"), "T");
}

#[tokio::test]
async fn loose_weights_can_be_a_parent() {
    let library = Root::new().with("x.rkllm", "w").with("x/tokenizer.json", "T").open();
    library.create(made_from("x", "made")).await.unwrap();
    assert_eq!(library.model("made").state, ModelState::Ready);
    assert_eq!(library.inode("x.rkllm"), library.inode("made/x.rkllm"));
}

#[rstest]
#[case::another("old")]
#[case::another_case("OLD")]
#[case::latest("old:latest")]
#[tokio::test]
async fn what_has_the_name_is_replaced(#[case] name: &str) {
    let root = Root::new().with_model("base").with_model("old");
    let library = root.with("old/extra.txt", "").with("old/rkllama.toml", "system = 'x'").open();
    let steps = library.create(made_from("base", name)).await.unwrap();
    assert_eq!(steps.last(), Some(&Step::Done { model: "old".to_owned() }));
    assert_eq!(library.ids(), ["base", "old"]);
    assert_eq!(library.read("old/tokenizer.json"), "tokenizer of base");
    assert!(!library.at("old/extra.txt").exists() && !library.at("old/old.rkllm").exists());
    assert_eq!(fs::read_dir(library.root.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn what_has_the_name_is_there_at_every_moment() {
    let library = Root::new().with_model("base").with_model("old").open();
    let (place, store) = (library.at("old"), Arc::clone(&library.store));
    let is_over = Arc::new(AtomicBool::new(false));
    let is_watched = Arc::clone(&is_over);
    let (begun, first_look) = std::sync::mpsc::sync_channel(1);
    let watcher = std::thread::spawn(move || {
        while !is_watched.load(Ordering::Relaxed) {
            assert!(place.is_dir() && store.resolve("old").is_ok());
            let _ = begun.try_send(());
        }
    });
    first_look.recv().unwrap();
    for _ in 0..50 {
        library.create(made_from("base", "old")).await.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
}

/// It is the same model still, so its names and its origin stay its own.
#[tokio::test]
async fn a_model_made_from_itself_keeps_what_is_its_own() {
    let library = Root::new().with_model("base").with("base/rkllama.toml", MANIFEST).open();
    let weights = library.inode("base/base.rkllm");
    let source = library.model("base").presets.source.clone();
    let creation = Creation { system: Some("New.".to_owned()), ..made_from("Base", "BASE") };
    library.create(creation).await.unwrap();
    let base = library.model("base");
    assert_eq!(library.ids(), ["base"]);
    assert_eq!(base.presets.system.as_deref(), Some("New."));
    assert_eq!(library.inode("base/base.rkllm"), weights);
    assert_eq!(library.model("nick").id, "base");
    assert_eq!((&base.presets.parent, &base.presets.source), (&None, &source));
    let other = library.blob("other weights").await;
    let creation =
        Creation { from: Some("base".to_owned()), ..made_of("base", &[("y.rkllm", other)]) };
    library.create(creation).await.unwrap();
    assert_eq!(library.model("base").presets.source, None, "these weights were not pulled");
}

#[tokio::test]
async fn a_model_in_a_linked_folder_is_replaced_by_a_folder() {
    let elsewhere = Root::new().with_model("old");
    let library = Root::new().with_model("base").open();
    symlink(elsewhere.path().join("old"), library.at("new")).unwrap();
    library.store.rescan();
    library.create(made_from("base", "new")).await.unwrap();
    assert!(fs::symlink_metadata(library.at("new")).unwrap().is_dir());
    assert_eq!(tree(&elsewhere.path()).len(), 3, "what the link led to stays");
    assert_eq!(fs::read_dir(library.root.path()).unwrap().count(), 2);
}

/// An operator's own things in the root are no models to be replaced.
#[rstest]
#[case::file("notes.txt", "notes.txt")]
#[case::folder("data", "data/set.csv")]
#[case::weights("x.rkllm", "x.rkllm")]
#[tokio::test]
async fn what_is_no_model_is_not_replaced(#[case] name: &str, #[case] file: &str) {
    let library = Root::new().with_model("base").with(file, "mine").open();
    let before = library.tree();
    let refused = reason(library.create(made_from("base", name)).await);
    assert!(refused.contains(name), "{refused}");
    let refused = reason(library.copy("base", name).await);
    assert!(refused.contains(name), "{refused}");
    assert_eq!(library.tree(), before);
}

#[tokio::test]
async fn files_that_were_sent_become_a_model() {
    let library = Root::new().open();
    let (weights, text) = (library.blob("w").await, library.blob("T").await);
    let steps =
        library.create(made_of("made", &[("x.rkllm", weights), ("tokenizer.json", text)])).await;
    let using = |file: &str, digest: Digest| Step::Using {
        file: file.to_owned(),
        sha256: Some(digest.to_string().replace("sha256:", "")),
    };
    let done = Step::Done { model: "made".to_owned() };
    let expected = [using("x.rkllm", weights), using("tokenizer.json", text), Step::Writing, done];
    assert_eq!(steps.unwrap(), expected);
    let made = library.model("made");
    assert_eq!((&made.state, &made.presets.parent), (&ModelState::Ready, &None));
    let sent = format!(".blobs/{}", weights.to_string().replace(':', "-"));
    assert_eq!(library.inode(&sent), library.inode("made/x.rkllm"));
    assert_eq!(library.read("made/tokenizer.json"), "T");
}

#[rstest]
#[case::here("./x.rkllm", "./tokenizer.json")]
#[case::below("deep/x.RKLLM", "tokenizer/tokenizer.json")]
#[case::odd("rkllama.toml/x.rkllm", "tokenizer.json")]
#[case::blanks("a b \u{e9}.rkllm", "tokenizer.json")]
#[tokio::test]
async fn sent_files_are_found_wherever_they_lay(#[case] weights: &str, #[case] tokenizer: &str) {
    let library = Root::new().open();
    let files = [(weights, library.blob("w").await), (tokenizer, library.blob("T").await)];
    library.create(made_of("made", &files)).await.unwrap();
    let made = library.model("made");
    assert_eq!(made.state, ModelState::Ready);
    assert_eq!(fs::read_to_string(&made.weights).unwrap(), "w");
    assert_eq!(library.store.text_files(&made).unwrap().tokenizer, b"T");
}

#[rstest]
#[case::weights("y.rkllm", "new", "tokenizer of base")]
#[case::tokenizer("tokenizer.json", "weights of base", "new")]
#[case::tokenizer_below("tokenizer/tokenizer.json", "weights of base", "new")]
#[tokio::test]
async fn a_sent_file_takes_the_place_of_the_parents(
    #[case] file: &str,
    #[case] weights: &str,
    #[case] tokenizer: &str,
) {
    let library = Root::new().with_model("base").open();
    let files = [(file, library.blob("new").await)];
    let creation = Creation { from: Some("base".to_owned()), ..made_of("made", &files) };
    library.create(creation).await.unwrap();
    let made = library.model("made");
    assert_eq!(made.state, ModelState::Ready);
    assert_eq!(fs::read_to_string(&made.weights).unwrap(), weights);
    assert_eq!(library.store.text_files(&made).unwrap().tokenizer, tokenizer.as_bytes());
    assert_eq!(library.read("base/base.rkllm"), "weights of base");
    assert_eq!(library.read("base/tokenizer.json"), "tokenizer of base");
}

#[tokio::test]
async fn an_adapter_makes_another_model_of_the_same_weights() {
    let library = Root::new().with_model("base").open();
    let sent = library.blob("small weights").await;
    let adapter = Some(("adapters/lora.rkllm".to_owned(), sent));
    library.create(Creation { adapter, ..made_from("base", "made") }).await.unwrap();
    let made = library.model("made");
    assert_eq!(made.state, ModelState::Ready);
    assert_eq!(fs::read_to_string(&made.weights).unwrap(), "weights of base");
    let adapter = made.adapter.clone().unwrap();
    assert_eq!(fs::read_to_string(&adapter.file).unwrap(), "small weights");
    assert_eq!((adapter.bytes, adapter.scale.to_bits()), (13, 1.0_f32.to_bits()));
    assert_eq!(library.model("base").adapter, None);

    // What is made of it has it, copies too, and its scale with it.
    let manifest = library.read("made/rkllama.toml");
    let scaled = manifest.replace("[adapter]\n", "[adapter]\nscale = 0.5\n");
    fs::write(library.at("made/rkllama.toml"), scaled).unwrap();
    library.store.rescan();
    library.create(made_from("made", "child")).await.unwrap();
    library.copy("made", "copy").await.unwrap();
    for id in ["child", "copy"] {
        let heir = library.model(id).adapter.clone().unwrap();
        assert_eq!((heir.bytes, heir.scale.to_bits()), (13, 0.5_f32.to_bits()), "{id}");
        assert!(heir.file.ends_with(format!("{id}/lora.rkllm")), "{heir:?}");
    }
    // But it was made for these weights.
    let files = [("x.rkllm", library.blob("other weights").await)];
    let other = Creation { from: Some("made".to_owned()), ..made_of("other", &files) };
    library.create(other).await.unwrap();
    assert_eq!(library.model("other").adapter, None);
    assert_eq!(library.model("other").state, ModelState::Ready);

    library.delete("made").await.unwrap();
    assert!(
        !library.library.has_blob(sent).await.unwrap(),
        "the file that it was sent as goes with it"
    );
}

#[tokio::test]
async fn a_modelfile_names_the_adapter_that_was_sent() {
    let library = Root::new().with_model("base").open();
    let sent = library.blob("small weights").await;
    let modelfile = Some("FROM base\nADAPTER ./lora.rkllm".to_owned());
    let named = |adapter| Creation {
        name: "made".to_owned(),
        modelfile: modelfile.clone(),
        adapter,
        ..Creation::default()
    };
    let refused = reason(library.create(named(None)).await);
    assert_eq!(
        refused,
        "ADAPTER lora.rkllm: no such file was sent; `adapters` names it with its digest"
    );
    library.create(named(Some(("lora.rkllm".to_owned(), sent)))).await.unwrap();
    assert!(library.model("made").adapter.is_some());
}

#[rstest]
#[case::leads_out("../lora.rkllm", "file path must be relative")]
#[case::safetensors("adapter_model.safetensors", "no adapter for this runtime")]
#[case::weights("base.rkllm", "the adapter has the name of the model's own file, base.rkllm")]
#[tokio::test]
async fn a_file_that_is_no_adapter_is_refused(#[case] path: &str, #[case] words: &str) {
    let library = Root::new().with_model("base").open();
    let adapter = Some((path.to_owned(), library.blob("x").await));
    let before = library.tree();
    let refused = library.create(Creation { adapter, ..made_from("base", "made") }).await;
    let refused = reason(refused);
    assert!(refused.contains(words), "{refused}");
    assert_eq!(library.tree(), before);
}

#[tokio::test]
async fn a_file_that_was_not_sent_is_named() {
    let library = Root::new().open();
    let (weights, digest) = (library.blob("w").await, digest("never sent"));
    let before = library.tree();
    let made = library.create(made_of("m", &[("x.rkllm", weights), ("tokenizer.json", digest)]));
    assert_eq!(made.await, Err(StoreError::NoBlob { digest }));
    assert_eq!(library.tree(), before);
}

#[rstest]
#[case::two(&["a.rkllm", "b.rkllm", "tokenizer.json"], "two models among the files: a.rkllm and b.rkllm")]
#[case::same_name(&["a/x.rkllm", "b/x.rkllm", "tokenizer.json"], "x.rkllm")]
#[case::same_tokenizer(&["x.rkllm", "tokenizer.json", "tokenizer/tokenizer.json"], "tokenizer.json")]
#[case::no_tokenizer(&["x.rkllm"], "no tokenizer.json")]
#[case::no_weights(&["tokenizer.json"], "no .rkllm file")]
#[case::gguf(&["x.gguf", "tokenizer.json"], "\"x.gguf\" is no file of a model")]
#[case::safetensors(&["model.safetensors"], "model.safetensors")]
#[case::manifest(&["x.rkllm", "tokenizer.json", "rkllama.toml"], "rkllama.toml")]
#[case::no_extension(&["rkllm"], "rkllm")]
#[tokio::test]
async fn files_that_make_no_model_are_refused(#[case] files: &[&str], #[case] part: &str) {
    let library = Root::new().open();
    let sent = library.blob("x").await;
    let before = library.tree();
    let files: Vec<_> = files.iter().map(|file| (*file, sent)).collect();
    let refused = reason(library.create(made_of("m", &files)).await);
    assert!(refused.contains(part), "{refused}");
    assert_eq!(library.tree(), before);
    assert_eq!(library.ids(), [""; 0]);
}

#[rstest]
#[case::parent("../x.rkllm")]
#[case::parents("a/../../x.rkllm")]
#[case::root("/x.rkllm")]
#[case::etc("/etc/x.rkllm")]
#[case::nul("x\0.rkllm")]
#[case::backslash("..\\x.rkllm")]
#[case::empty("")]
#[case::here(".")]
#[case::other_model("../base/tokenizer.json")]
#[tokio::test]
async fn a_path_that_leads_out_is_refused(#[case] path: &str) {
    let library = Root::new().with_model("base").open();
    let sent = library.blob("x").await;
    let before = library.tree();
    let creation = Creation { from: Some("base".to_owned()), ..made_of("m", &[(path, sent)]) };
    assert_eq!(reason(library.create(creation).await), "file path must be relative");
    assert_eq!(library.tree(), before);
}

#[rstest]
#[case("temperature", "\"hot\"")]
#[case("temperature", "2.5")]
#[case("temperature", "true")]
#[case("temperature", "[0.5]")]
#[case("top_p", "-0.1")]
#[case("top_p", "\"NaN\"")]
#[case("top_k", "1.5")]
#[case("top_k", "-1")]
#[case("num_predict", "0")]
#[case("num_predict", "\"-many\"")]
#[case("num_ctx", "\"\"")]
#[case("repeat_penalty", "{}")]
#[case("seed", "{\"a\": 1}")]
#[case("seed", "[1, 2]")]
#[case("stop", "[[\"a\"]]")]
#[case("stop", "[null]")]
#[case("num_ctx", "4096 and more")]
#[case("num ctx", "4096")]
#[case("", "1")]
#[case("a]\n[sampling", "1")]
#[tokio::test]
async fn a_bad_parameter_is_named(#[case] name: &str, #[case] json: &str) {
    let library = Root::new().with_model("base").open();
    let before = library.tree();
    let creation = with_parameters(made_from("base", "m"), &[(name, json)]);
    let refused = reason(library.create(creation).await);
    assert!(refused.starts_with(&format!("parameter {name:?}: ")), "{refused}");
    assert_eq!(library.tree(), before);
}

/// It would end every answer at once.
#[tokio::test]
async fn an_empty_text_ends_nothing() {
    let library = Root::new().with_model("base").open();
    let creation = with_parameters(made_from("base", "m"), &[("stop", r#"["", "END"]"#)]);
    library.create(creation).await.unwrap();
    assert_eq!(library.model("m").presets.stop, ["END"]);
}

/// A context that the runtime does not take becomes the nearest, as in a Modelfile.
#[rstest]
#[case("5000", 4992)]
#[case("131072", 16_384)]
#[case("\"8192\"", 8192)]
#[case("0", 4096)]
#[tokio::test]
async fn a_context_of_other_servers_becomes_the_nearest(#[case] json: &str, #[case] tokens: u32) {
    let library = Root::new().with_model("base").open();
    library.create(with_parameters(made_from("base", "m"), &[("num_ctx", json)])).await.unwrap();
    let made = library.model("m");
    assert_eq!((&made.state, made.context_tokens_max), (&ModelState::Ready, tokens));
}

#[tokio::test]
async fn a_large_number_is_not_lost() {
    let library = Root::new().with_model("base").open();
    let creation = with_parameters(made_from("base", "m"), &[("seed", "18446744073709551615")]);
    library.create(creation).await.unwrap();
    let parameters = &library.model("m").presets.parameters;
    assert!(
        parameters.iter().any(|(_, json)| json.contains("18446744073709551615")),
        "{parameters:?}"
    );
}

#[tokio::test]
async fn neither_a_parent_nor_files_make_no_model() {
    let library = Root::new().open();
    let nothing = Creation { name: "m".to_owned(), ..Creation::default() };
    assert_eq!(reason(library.create(nothing).await), "neither 'from' or 'files' was specified");
}

#[tokio::test]
async fn a_parent_that_nobody_knows_is_looked_for_and_not_found() {
    let library = Root::new().open();
    let made = library.create(made_from("nobody", "m")).await;
    assert!(
        matches!(&made, Err(StoreError::Absent { reason }) if reason.contains("nobody")),
        "{made:?}"
    );
    let made = library.create(made_from("org/repo", "m")).await;
    assert!(
        matches!(&made, Err(StoreError::Hub { reason }) if reason.contains("offline")),
        "{made:?}"
    );
    assert_eq!(library.tree().len(), 1, "the root and nothing else");
}

#[tokio::test]
async fn a_parent_in_which_something_is_missing_makes_no_model() {
    let root = Root::new().with("bare.rkllm", "w").with("empty/rkllama.toml", "");
    let library = root.with_model("broken").with("broken/rkllama.toml", "top = 1").open();
    let before = library.tree();
    for (base, part) in
        [("bare", "tokenizer.json"), ("empty", "'empty' has no weights"), ("broken", "line 1")]
    {
        let refused = reason(library.create(made_from(base, "m")).await);
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(library.tree(), before);
}

#[tokio::test]
async fn an_ambiguous_parent_is_not_guessed() {
    let library = Root::new().with_model("mixed").with_model("MIXED").open();
    let made = library.create(made_from("Mixed", "m")).await;
    assert!(matches!(made, Err(StoreError::Model(ModelError::Ambiguous { .. }))), "{made:?}");
}

#[tokio::test]
async fn a_root_that_is_not_there_is_made() {
    let root = Root::new();
    fs::remove_dir(root.path()).unwrap();
    let library = root.open();
    let files = [("x.rkllm", library.blob("w").await), ("tokenizer.json", library.blob("T").await)];
    library.create(made_of("m", &files)).await.unwrap();
    assert_eq!(library.ids(), ["m"]);
}

#[rstest]
#[case::empty("")]
#[case::here(".")]
#[case::parent("..")]
#[case::parents("../outside")]
#[case::below("a/../../outside")]
#[case::absolute("/outside")]
#[case::hidden(".hidden")]
#[case::blobs(".blobs")]
#[case::backslash("..\\outside")]
#[case::nul("a\0b")]
#[case::line("a\nb")]
#[case::encoded("..%2foutside")]
#[case::encoded_slash("a%2Fb")]
#[case::empty_part("a//b")]
#[case::folder("a/")]
#[case::tag_missing("a:")]
#[case::only_tag(":latest")]
#[case::digest("a@sha256:0")]
#[case::option("--help")]
#[case::blank("a b")]
#[case::foreign("\u{e9}")]
#[case::address("https://hf.co/a/b")]
#[case::long(&"x".repeat(201))]
#[case::long_as_a_folder(&"x/".repeat(99).replace("x/x", "x/xx"))]
#[case::many_parts(&format!("{}x", "x/".repeat(99)))]
#[tokio::test]
async fn a_hostile_name_is_refused_and_leaves_nothing(#[case] name: &str) {
    let library = Root::new().with_model("base").open();
    let before = library.tree();
    for made in
        [library.create(made_from("base", name)).await.map(drop), library.copy("base", name).await]
    {
        assert!(matches!(&made, Err(StoreError::Name { .. })), "{made:?}");
    }
    assert_eq!(library.tree(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is asked for: what was there stays as it was, and what comes lies in one folder of the root.
    #[test]
    fn nothing_is_made_outside_the_models_folder(
        name in prop_oneof![
            any::<String>(), r"[aB.:/\\%~-]{0,8}", r"(\.\./){0,3}[a-z]{1,3}(:[a-z]{1,3})?", "[a-z]{1,4}(/[a-z]{1,4}){0,2}",
        ],
        path in prop_oneof![
            any::<String>(), r"([a.~]{0,3}[/\\]){0,3}x\.rkllm", r"(\.{0,2}/){0,3}tokenizer(\.json)?", "[a-z]{1,3}.rknn",
        ],
        is_copy in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let library = Root::new().with_model("base").open();
        let made = runtime.block_on(async {
            let sent = library.blob("sent").await;
            let before = library.tree();
            let made = match is_copy {
                true => library.copy("base", &name).await,
                false => {
                    let files = made_of(&name, &[(&path, sent)]);
                    let creation = Creation { from: Some("base".to_owned()), ..files };
                    library.create(creation).await.map(drop)
                }
            };
            (made, before)
        });
        let (made, before) = made;
        let after = library.tree();
        for (path, content) in &before {
            prop_assert_eq!(after.get(path), Some(content), "{:?}", path);
        }
        let root = library.root.path();
        let new: Vec<&PathBuf> = after.keys().filter(|path| !before.contains_key(*path)).collect();
        prop_assert_eq!(new.is_empty(), made.is_err(), "{:?} {:?}", made, new);
        if made.is_ok() {
            let tops = new.iter().filter(|path| path.parent() == Some(&root)).count();
            prop_assert_eq!(tops, 1);
            prop_assert!(new.iter().all(|path| path.starts_with(new[0])), "{:?}", new);
            let ready = library.store.list().iter().filter(|model| model.state == ModelState::Ready).count();
            prop_assert_eq!(ready, 2);
        }
    }
}

#[tokio::test]
async fn a_copy_is_the_same_but_for_names_and_origin() {
    let manifest = format!("parent = 'grandparent'\n{MANIFEST}");
    let library = Root::new().with_model("base").with("base/rkllama.toml", manifest).open();
    library.copy("base", "user/copy:1").await.unwrap();
    let (base, copy) = (library.model("base"), library.model("user/copy:1"));
    let mut expected = Model::clone(&base);
    expected.id = "user/copy:1".to_owned();
    expected.weights = library.at("user%2Fcopy:1/base.rkllm");
    expected.presets.source = None;
    expected.presets.aliases = Vec::new();
    assert_eq!(unsigned(&copy), unsigned(&expected));
    assert_eq!(library.inode("base/base.rkllm"), library.inode("user%2Fcopy:1/base.rkllm"));
    assert_eq!(library.model("nick").id, "base");
}

#[tokio::test]
async fn a_copy_takes_the_place_of_another_model() {
    let library = Root::new().with_model("base").with_model("Old").open();
    library.copy("base", "old").await.unwrap();
    assert_eq!(library.ids(), ["Old", "base"]);
    assert_eq!(library.read("Old/tokenizer.json"), "tokenizer of base");
    assert_eq!(fs::read_dir(library.root.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn a_copy_onto_itself_changes_nothing() {
    let library = Root::new().with_model("base").with("base/rkllama.toml", MANIFEST).open();
    let before = unsigned(&library.model("base"));
    library.copy("base", "BASE:latest").await.unwrap();
    assert_eq!(unsigned(&library.model("base")), before);
    assert_eq!(library.model("nick").id, "base");
    assert_eq!(library.ids(), ["base"]);
}

#[tokio::test]
async fn a_model_in_a_linked_folder_is_copied_with_its_files() {
    let elsewhere = Root::new().with_model("old");
    fs::rename(elsewhere.path().join("old/old.rkllm"), elsewhere.path().join("real.bin")).unwrap();
    symlink("../real.bin", elsewhere.path().join("old/old.rkllm")).unwrap();
    let library = Root::new().open();
    symlink(elsewhere.path().join("old"), library.at("new")).unwrap();
    library.store.rescan();
    library.copy("new", "copy").await.unwrap();
    library.delete("new").await.unwrap();
    drop(elsewhere);
    assert_eq!(library.model("copy").state, ModelState::Ready);
    assert_eq!(library.read("copy/old.rkllm"), "weights of old");
    assert!(fs::symlink_metadata(library.at("copy/old.rkllm")).unwrap().is_file());
}

#[tokio::test]
async fn a_model_that_is_gone_cannot_be_copied() {
    let library = Root::new().with_model("base").open();
    let base = library.model("base");
    library.delete("base").await.unwrap();
    let copied = library.library.copy(base, "copy".to_owned()).await;
    let gone = ModelError::NotFound { name: "base".to_owned() };
    assert_eq!(copied, Err(StoreError::Model(gone)));
}

#[tokio::test]
async fn a_removed_model_is_gone_and_another_with_its_weights_is_not() {
    let library = Root::new().with_model("a").with("a/sub/x", "").open();
    library.copy("a", "b").await.unwrap();
    let a = library.model("a");
    library.delete("a").await.unwrap();
    assert_eq!(library.ids(), ["b"]);
    assert_eq!(fs::read_dir(library.root.path()).unwrap().count(), 1);
    assert_eq!(library.model("b").state, ModelState::Ready);
    assert_eq!(library.read("b/a.rkllm"), "weights of a");
    let again = library.library.delete(a).await;
    let gone = ModelError::NotFound { name: "a".to_owned() };
    assert_eq!(again, Err(StoreError::Model(gone)));
}

#[tokio::test]
async fn of_two_who_remove_one_model_one_has_removed_it() {
    let library = Root::new().with_model("a").open();
    let model = library.model("a");
    let delete = || library.library.delete(Arc::clone(&model));
    let (one, other) = future::join(delete(), delete()).await;
    assert_eq!(
        [&one, &other].iter().filter(|result| result.is_ok()).count(),
        1,
        "{one:?} {other:?}"
    );
}

#[tokio::test]
async fn what_a_linked_folder_leads_to_stays() {
    let elsewhere = Root::new().with_model("old");
    let before = tree(&elsewhere.path());
    let library = Root::new().open();
    symlink(elsewhere.path().join("old"), library.at("new")).unwrap();
    library.store.rescan();
    library.delete("new").await.unwrap();
    assert!(fs::symlink_metadata(library.at("new")).is_err());
    assert_eq!(tree(&elsewhere.path()), before);
    assert_eq!(library.ids(), [""; 0]);
}

#[rstest]
#[case::alone(&["x.rkllm"])]
#[case::with_a_folder(&["x.rkllm", "x/tokenizer.json"])]
#[case::capitals(&["x.RKLLM", "x/tokenizer.json"])]
#[case::beside_others(&["x.rkllm", "x/own.rkllm", "x/tokenizer.json"])]
#[tokio::test]
async fn loose_weights_go_with_their_model(#[case] files: &[&str]) {
    let root = files.iter().fold(Root::new(), |root, file| root.with(file, "w"));
    let library = root.with("xy.rkllm", "w").open();
    library.delete("x").await.unwrap();
    assert_eq!(library.ids(), ["xy"]);
    assert_eq!(fs::read_dir(library.root.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn the_file_that_was_sent_goes_with_its_model() {
    let library = Root::new().open();
    let (weights, text) = (library.blob("w").await, library.blob("T").await);
    let other = library.blob("other").await;
    let files = [("x.rkllm", weights), ("tokenizer.json", text)];
    library.create(made_of("a", &files)).await.unwrap();
    library.create(made_of("b", &files)).await.unwrap();
    library.delete("a").await.unwrap();
    assert!(!library.library.has_blob(weights).await.unwrap());
    assert!(library.library.has_blob(other).await.unwrap());
    assert_eq!(library.model("b").state, ModelState::Ready);
    assert_eq!(library.read("b/x.rkllm"), "w");
}

#[tokio::test]
async fn a_file_is_sent_once() {
    let library = Root::new().open();
    let digest = digest("one two");
    let has = || library.library.has_blob(digest);
    assert!(!has().await.unwrap());
    let put = |pieces: &[_]| library.library.put_blob(digest, upload(pieces));
    assert!(put(&[Ok("one "), Ok(""), Ok("two")]).await.unwrap());
    assert!(has().await.unwrap());
    assert!(!put(&[]).await.unwrap(), "what is there is not read again");
    assert_eq!(
        library.read(&format!(".blobs/{}", digest.to_string().replace(':', "-"))),
        "one two"
    );
    assert_eq!(library.ids(), [""; 0]);
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let library = Root::new().open();
    assert!(library.library.put_blob(digest(""), upload(&[])).await.unwrap());
    assert!(library.library.has_blob(digest("")).await.unwrap());
}

#[tokio::test]
async fn a_file_with_another_digest_is_not_kept() {
    let library = Root::new().open();
    let (expected, got) = (digest("this"), digest("that"));
    let put = library.library.put_blob(expected, upload(&[Ok("that")])).await;
    assert_eq!(put, Err(StoreError::Mismatch { expected, got }));
    let message = put.unwrap_err().to_string();
    assert_eq!(message, format!("digest mismatch, expected \"{expected}\", got \"{got}\""));
    assert_eq!(fs::read_dir(library.at(".blobs")).unwrap().count(), 0);
    assert!(!library.library.has_blob(got).await.unwrap());
}

#[tokio::test]
async fn a_file_that_breaks_off_is_not_kept() {
    let library = Root::new().open();
    let pieces = [Ok("whole"), Err("connection reset")];
    let refused = reason(library.library.put_blob(digest("whole"), upload(&pieces)).await);
    assert!(refused.contains("connection reset"), "{refused}");
    assert_eq!(fs::read_dir(library.at(".blobs")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_file_whose_sender_leaves_is_not_kept() {
    let library = Root::new().open();
    let (waits, is_waiting) = tokio::sync::oneshot::channel();
    let rest = async move {
        waits.send(()).unwrap();
        future::pending().await
    };
    let pieces: Upload = Box::pin(upload(&[Ok("begun")]).chain(stream::once(rest)));
    {
        let mut put = pin!(library.library.put_blob(digest("begun"), pieces));
        tokio::select! {
            result = &mut put => panic!("over: {result:?}"),
            waiting = is_waiting => waiting.unwrap(),
        }
        assert_eq!(fs::read_dir(library.at(".blobs")).unwrap().count(), 1);
    }
    assert_eq!(fs::read_dir(library.at(".blobs")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_file_that_two_send_at_once_is_whole() {
    let library = Root::new().open();
    let digest = digest("same");
    let put = || library.library.put_blob(digest, upload(&[Ok("sa"), Ok("me")]));
    let (one, other) = future::join(put(), put()).await;
    assert!(one.unwrap() || other.unwrap());
    assert_eq!(fs::read_dir(library.at(".blobs")).unwrap().count(), 1);
    assert!(library.library.has_blob(digest).await.unwrap());
}

fn age(path: &Path, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3600 + 60);
    let times = fs::FileTimes::new().set_modified(then).set_accessed(then);
    fs::File::open(path).unwrap().set_times(times).unwrap();
}

#[tokio::test]
async fn old_leftovers_are_removed_and_young_ones_and_others_stay() {
    let elsewhere = Root::new().with_model("old");
    let mut root = Root::new().with_model("a");
    for folder in [".new-old", ".new-young", ".gone-old", ".gone-young", ".other", ".pulls/half"] {
        root = root.with(&format!("{folder}/x.rkllm"), "w");
    }
    symlink(elsewhere.path().join("old"), root.path().join(".new-link")).unwrap();
    for folder in [".new-old", ".gone-old", ".other", ".pulls/half", ".pulls", "a"] {
        age(&root.path().join(folder), 1);
    }
    let library = root.open();
    let mut left: Vec<String> = fs::read_dir(library.root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort_unstable();
    assert_eq!(left, [".gone-young", ".new-link", ".new-young", ".other", ".pulls", "a"]);
    assert!(library.at(".pulls/half/x.rkllm").exists(), "a download may go on");
    assert_eq!(tree(&elsewhere.path()).len(), 3);
}

#[tokio::test]
async fn files_that_no_model_uses_go_after_a_day() {
    let library = Root::new().open();
    let (weights, text) = (library.blob("w").await, library.blob("T").await);
    let (unused, young) = (library.blob("unused").await, library.blob("young").await);
    let files = [("x.rkllm", weights), ("tokenizer.json", text)];
    library.create(made_of("a", &files)).await.unwrap();
    let place = |digest: Digest| format!(".blobs/{}", digest.to_string().replace(':', "-"));
    fs::write(library.at(".blobs/.upload-x"), "half").unwrap();
    for file in [place(weights), place(unused), ".blobs/.upload-x".to_owned()] {
        age(&library.at(&file), 24);
    }
    let library = library.root.open();
    for (digest, is_there) in [(weights, true), (unused, false), (young, true)] {
        assert_eq!(library.library.has_blob(digest).await.unwrap(), is_there, "{digest}");
    }
    assert!(!library.at(".blobs/.upload-x").exists());
}

#[tokio::test]
async fn what_a_model_was_pulled_as_stays_its_own() {
    let library = Root::new().with_model("base").with("base/rkllama.toml", MANIFEST).open();
    library.create(made_from("org/repo", "made")).await.unwrap();
    assert_eq!(library.model("org/repo").id, "base");
    let source = Source {
        repository: "org/repo".to_owned(),
        revision: "c0ffee".to_owned(),
        file: "x.rkllm".to_owned(),
    };
    assert_eq!(library.model("base").presets.source, Some(source));
}

#[tokio::test]
async fn what_a_model_is_made_for_can_be_said() {
    let bench = Root::new().with_model("base").open();
    let of =
        |word: &str| Creation { model_type: Some(word.to_owned()), ..made_from("base", "made") };
    bench.create(of("embed")).await.unwrap();
    assert!(bench.model("made").pooling.is_some());
    bench.create(of("Reranker")).await.unwrap();
    let made = bench.model("made");
    assert!(made.reranks.is_some() && made.pooling.is_none());
    let refused = bench.create(of("image")).await.unwrap_err().to_string();
    assert_eq!(refused, "model_type: \"image\" is none of language, embed, reranker");
    assert!(bench.model("made").reranks.is_some());
}

/// As scripts for older servers send it.
#[tokio::test]
async fn a_modelfile_in_the_request_says_what_the_request_does_not() {
    let bench = Root::new().with_model("a").open();
    let modelfile = "FROM=\"a.rkllm\"\nHUGGINGFACE_PATH=\"org/repo\"\nSYSTEM=\"Own\"\nTEMPERATURE=0.5\nTOP_K=7\n";
    let creation = Creation {
        name: "m".to_owned(),
        modelfile: Some(modelfile.to_owned()),
        parameters: vec![("top_k".to_owned(), "9".to_owned())],
        ..Creation::default()
    };
    bench.create(creation).await.unwrap();
    let made = bench.model("m");
    assert_eq!(made.presets.system.as_deref(), Some("Own"));
    assert_eq!((made.sampling.temperature, made.sampling.top_k), (Some(0.5), Some(9)));
    for (modelfile, words) in [
        ("SYSTEM=x", "missing FROM"),
        ("FROM=../a.rkllm", "line 1, FROM"),
        ("FROM=a\nTOP_P=7", "TOP_P"),
    ] {
        let creation = Creation {
            name: "n".to_owned(),
            modelfile: Some(modelfile.to_owned()),
            ..Creation::default()
        };
        let refused = bench.create(creation).await.unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
}
