//! Fetching models from a hub that is played here.
#![expect(clippy::unwrap_used, reason = "helpers of tests, to which the exception does not reach")]

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, future};
use rkllama_core::{
    Creation, Model, ModelState, ModelStore, Models, Pull, Source, Step, Steps, StoreError,
};
use rkllama_hub::{HubConfig, Patience};
use rkllama_models::{Catalog, Defaults, Library, Sources, Store};
use rstest::rstest;
use serde_json::{Value, json};
use sha2::Digest;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

const SHA: &str = "c0ffee";

/// A repository in the making.
#[derive(Clone)]
struct Repo {
    sha: String,
    card: Value,
    files: Vec<File>,
    is_gated: bool,
}

#[derive(Clone)]
struct File {
    path: String,
    content: Vec<u8>,
    sha256: String,
    /// Where the content is, if not here.
    location: Option<String>,
}

impl Repo {
    fn new() -> Self {
        Self { sha: SHA.to_owned(), card: json!({}), files: Vec::new(), is_gated: false }
    }

    /// One with a tokenizer and these weights.
    fn of(weights: &[&str]) -> Self {
        let repo = Self::new().with("tokenizer.json", "T");
        weights.iter().fold(repo, |repo, path| repo.with(path, format!("weights {path}")))
    }

    fn with(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref().to_owned();
        let sha256 = sha256(&content);
        self.files.push(File { path: path.to_owned(), content, sha256, location: None });
        self
    }

    /// Its last file has another checksum than is told.
    fn damaged(mut self) -> Self {
        self.files.last_mut().unwrap().sha256 = sha256(b"another");
        self
    }

    /// Its last file comes from elsewhere.
    fn at(mut self, location: &str) -> Self {
        self.files.last_mut().unwrap().location = Some(location.to_owned());
        self
    }

    fn card(self, card: Value) -> Self {
        Self { card, ..self }
    }

    fn commit(self, sha: &str) -> Self {
        Self { sha: sha.to_owned(), ..self }
    }

    fn gated(self) -> Self {
        Self { is_gated: true, ..self }
    }

    fn listing(&self) -> Value {
        let sibling = |file: &File| {
            let bytes = file.content.len();
            let mut sibling = json!({ "rfilename": file.path, "size": bytes });
            if file.path.ends_with(".rkllm") {
                sibling["lfs"] = json!({ "sha256": file.sha256, "size": bytes });
            }
            sibling
        };
        let siblings: Vec<Value> = self.files.iter().map(sibling).collect();
        json!({ "sha": self.sha, "siblings": siblings, "cardData": self.card })
    }
}

fn sha256(content: &[u8]) -> String {
    sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Repositories by their names.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<BTreeMap<String, Repo>>>);

impl Respond for Shelf {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let path = decoded(request.url.path());
        for (id, repo) in &*self.0.lock().unwrap() {
            let gated = ResponseTemplate::new(403).insert_header("x-error-code", "GatedRepo");
            let is_about = path == format!("/api/models/{id}")
                || ["main", "v1", &repo.sha]
                    .iter()
                    .any(|revision| path == format!("/api/models/{id}/revision/{revision}"));
            if is_about && repo.is_gated {
                return gated;
            }
            if is_about {
                return ResponseTemplate::new(200).set_body_json(repo.listing());
            }
            let Some(file) = path.strip_prefix(&format!("/{id}/resolve/{}/", repo.sha)) else {
                continue;
            };
            return match repo.files.iter().find(|known| known.path == file) {
                None => ResponseTemplate::new(404),
                Some(File { location: Some(location), .. }) => {
                    ResponseTemplate::new(302).insert_header("location", location.as_str())
                }
                Some(file) => ResponseTemplate::new(200).set_body_bytes(file.content.clone()),
            };
        }
        ResponseTemplate::new(404)
    }
}

fn decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}

/// A hub, and a root for what comes from it.
struct Bench {
    server: MockServer,
    shelf: Shelf,
    root: TempDir,
    store: Arc<Store>,
    library: Library,
}

impl Bench {
    async fn new(chip: Option<&str>, repos: &[(&str, Repo)]) -> Self {
        Self::with_catalog(chip, "", repos).await
    }

    async fn with_catalog(chip: Option<&str>, catalog: &str, repos: &[(&str, Repo)]) -> Self {
        let (server, shelf) = (MockServer::start().await, Shelf::default());
        Mock::given(any()).respond_with(shelf.clone()).mount(&server).await;
        let root = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(root.path().to_owned(), Defaults::default()));
        let patience =
            Patience { attempts_max: 2, wait_min: Duration::from_millis(1), ..Patience::default() };
        let hub = HubConfig { endpoint: server.uri(), patience, ..HubConfig::default() };
        let catalog = Catalog::parse(catalog).unwrap();
        let sources = Sources { chip: chip.map(str::to_owned), hub, catalog };
        let check = |template: &str| match template.contains("broken") {
            true => Err("broken".to_owned()),
            false => Ok(()),
        };
        let library = Library::new(Arc::clone(&store), sources, Box::new(check));
        let bench = Self { server, shelf, root, store, library };
        for (id, repo) in repos {
            bench.show(id, repo.clone());
        }
        bench
    }

    /// The hub has this from now on.
    fn show(&self, id: &str, repo: Repo) {
        self.shelf.0.lock().unwrap().insert(id.to_owned(), repo);
    }

    fn begin(&self, source: &str) -> Steps {
        self.library.pull(Pull { source: source.to_owned(), ..Pull::default() })
    }

    async fn pull(&self, source: &str) -> Result<String, StoreError> {
        end(self.begin(source)).await
    }

    async fn pull_as(&self, source: &str, name: &str) -> Result<String, StoreError> {
        let name = Some(name.to_owned());
        end(self.library.pull(Pull { source: source.to_owned(), name, tokenizer: None })).await
    }

    async fn pull_with(&self, source: &str, tokenizer: &str) -> Result<String, StoreError> {
        let tokenizer = Some(tokenizer.to_owned());
        end(self.library.pull(Pull { source: source.to_owned(), name: None, tokenizer })).await
    }

    /// The paths that were asked for.
    async fn asked(&self) -> Vec<String> {
        let requests = self.server.received_requests().await.unwrap();
        requests.iter().map(|request| request.url.path().to_owned()).collect()
    }

    async fn weights_asked(&self) -> usize {
        self.asked().await.iter().filter(|path| path.ends_with(".rkllm")).count()
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

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    /// The names in a folder of the root, sorted.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(folder)).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    fn write(&self, file: &str, content: &str) {
        fs::create_dir_all(self.at(file).parent().unwrap()).unwrap();
        fs::write(self.at(file), content).unwrap();
        self.store.rescan();
    }
}

/// What comes of it, before anybody's patience ends.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.unwrap()
}

/// The id of the model that comes of it.
async fn end(steps: Steps) -> Result<String, StoreError> {
    let steps: Vec<Step> = within(steps.try_collect()).await?;
    match steps.last() {
        Some(Step::Done { model }) => Ok(model.clone()),
        last => panic!("ends with {last:?}"),
    }
}

fn absent(result: Result<String, StoreError>) -> String {
    match result.unwrap_err() {
        StoreError::Absent { reason } => reason,
        error => panic!("not absent: {error:?}"),
    }
}

#[tokio::test]
async fn a_whole_pull_tells_its_steps_and_ends_with_a_model() {
    let repo = Repo::of(&["x.rkllm"])
        .with("tokenizer_config.json", "{}")
        .with("README.md", "")
        .with("model.safetensors", "large")
        .with("x.gguf", "large")
        .with(".gitattributes", "")
        .with("images/tokenizer.json", "another")
        .card(json!({ "license": "mit" }));
    let bench = Bench::new(Some("rk3588"), &[("org/repo", repo)]).await;
    let steps: Vec<Step> = within(bench.begin("org/repo").try_collect()).await.unwrap();
    let (weights, mut told) = ("weights x.rkllm".len() as u64, Vec::new());
    for step in steps {
        let line = match step {
            Step::Fetching { file, sha256: sum, total, completed } => {
                if file == "x.rkllm" {
                    assert_eq!((total, sum), (weights, Some(sha256(b"weights x.rkllm"))));
                } else {
                    assert_eq!(sum, None);
                }
                assert!(completed <= total);
                format!("{file} {}", if completed == total { "whole" } else { "begun" })
            }
            step => format!("{step:?}"),
        };
        if !line.ends_with("begun") {
            told.push(line);
        }
    }
    let expected = [
        "Resolving",
        "tokenizer.json whole",
        "tokenizer_config.json whole",
        "x.rkllm whole",
        "Verifying",
        "Writing",
        "Done { model: \"repo\" }",
    ];
    assert_eq!(told, expected);

    let model = bench.model("repo");
    assert_eq!(model.state, ModelState::Ready);
    let source = Source {
        repository: "org/repo".to_owned(),
        revision: SHA.to_owned(),
        file: "x.rkllm".to_owned(),
    };
    assert_eq!(model.presets.source, Some(source));
    assert_eq!(model.presets.licenses, ["mit"]);
    assert_eq!(bench.model("hf.co/org/repo").id, "repo");
    let files = ["rkllama.toml", "tokenizer.json", "tokenizer_config.json", "x.rkllm"];
    assert_eq!(bench.names("repo"), files, "and no others, nor parts of them");
    assert_eq!(bench.read("repo/x.rkllm"), "weights x.rkllm");
    assert_eq!(bench.names(".pulls"), [""; 0]);
    assert_eq!(bench.names(""), [".pulls", "repo"]);
    let asked = bench.asked().await;
    let contents: Vec<&String> = asked.iter().filter(|path| path.contains("/resolve/")).collect();
    assert_eq!(contents.len(), 3, "{contents:?}");
}

#[rstest]
#[case::by_file("rk3588", "org/repo", &["a-rk3588.rkllm", "a-rk3576.rkllm"], "a-rk3588.rkllm")]
#[case::by_the_other("rk3576", "org/repo", &["a-rk3588.rkllm", "a-rk3576.rkllm"], "a-rk3576.rkllm")]
#[case::capitals("rk3588", "org/repo", &["a_RK3588.rkllm", "a_RK3576.rkllm"], "a_RK3588.rkllm")]
#[case::by_folder("rk3576", "org/repo", &["rk3588/a.rkllm", "rk3576/a.rkllm"], "rk3576/a.rkllm")]
#[case::for_both("rk3576", "org/repo", &["a-rk3576-rk3588.rkllm", "b-rk3588.rkllm"], "a-rk3576-rk3588.rkllm")]
#[case::unnamed_fits("rk3588", "org/repo", &["a.rkllm", "b-rk3576.rkllm"], "a.rkllm")]
#[case::by_repository("rk3588", "org/repo-RK3588", &["a.rkllm"], "a.rkllm")]
#[case::file_over_repository("rk3576", "org/repo-rk3588", &["a.rkllm", "b-rk3576.rkllm"], "b-rk3576.rkllm")]
#[tokio::test]
async fn the_file_for_the_chip_is_taken(
    #[case] chip: &str,
    #[case] id: &str,
    #[case] files: &[&str],
    #[case] taken: &str,
) {
    let bench = Bench::new(Some(chip), &[(id, Repo::of(files))]).await;
    let name = bench.pull(id).await.unwrap();
    let model = bench.model(&name);
    assert_eq!(model.presets.source.as_ref().unwrap().file, taken);
    assert_eq!(fs::read_to_string(&model.weights).unwrap(), format!("weights {taken}"));
}

#[rstest]
#[case::file("org/repo", &["a-rk3588.rkllm", "b-rk3562.rkllm"])]
#[case::repository("org/repo-rk3588", &["a.rkllm", "b.rkllm"])]
#[tokio::test]
async fn what_there_is_is_told_where_none_fits(#[case] id: &str, #[case] files: &[&str]) {
    let bench = Bench::new(Some("rk3576"), &[(id, Repo::of(files))]).await;
    let reason = absent(bench.pull(id).await);
    for part in files.iter().chain(&["rk3576"]) {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(bench.weights_asked().await, 0);
    assert_eq!(bench.names(""), [""; 0]);
}

#[tokio::test]
async fn a_file_that_is_named_is_taken_whatever_its_chip() {
    let bench = Bench::new(Some("rk3576"), &[("org/repo", Repo::of(&["a-rk3588.rkllm"]))]).await;
    bench.pull("org/repo/a-rk3588.rkllm").await.unwrap();
    assert_eq!(bench.model("repo").state, ModelState::Ready);
}

#[rstest]
#[case::plain("org/repo", &["a.rkllm", "deep/er/b c.rkllm", "d#1?.rkllm"])]
#[case::revision("https://huggingface.co/org/repo/tree/v1", &["a.rkllm", "b.rkllm"])]
#[case::folders_of_the_hubs_words("org/repo", &["tree/a.rkllm", "blob/v1/b.rkllm", "resolve/c.rkllm"])]
#[tokio::test]
async fn several_that_fit_are_a_choice_of_what_can_be_pulled(
    #[case] source: &str,
    #[case] files: &[&str],
) {
    let bench = Bench::new(Some("rk3588"), &[("org/repo", Repo::of(files))]).await;
    let Err(StoreError::Choice { source_name, choices }) = bench.pull(source).await else {
        panic!("no choice")
    };
    assert_eq!((source_name.as_str(), choices.len()), ("org/repo", files.len()));
    assert_eq!(bench.weights_asked().await, 0);
    let mut taken = Vec::new();
    for choice in &choices {
        let id = bench.pull(choice).await.unwrap_or_else(|error| panic!("{choice}: {error}"));
        taken.push(bench.model(&id).presets.source.clone().unwrap().file);
    }
    taken.sort_unstable();
    let mut expected = files.to_vec();
    expected.sort_unstable();
    assert_eq!(taken, expected);
    if source.contains("v1") {
        let asked = bench.asked().await;
        let about: Vec<_> = asked.iter().filter(|path| path.starts_with("/api/")).collect();
        assert!(about.iter().all(|path| path.ends_with("/v1")), "{about:?}");
    }
}

#[rstest]
#[case("org/repo:w8a8", "a-w8a8.rkllm")]
#[case("hf.co/org/repo:W4A16", "a-w4a16.rkllm")]
#[tokio::test]
async fn a_tag_tells_files_apart(#[case] source: &str, #[case] file: &str) {
    let repo = Repo::of(&["a-w8a8.rkllm", "a-w4a16.rkllm"]);
    let bench = Bench::new(None, &[("org/repo", repo)]).await;
    let id = bench.pull(source).await.unwrap();
    assert_eq!(id, file.trim_end_matches(".rkllm"));
    let reason = absent(bench.pull("org/repo:fp16").await);
    assert!(reason.contains("'fp16'") && reason.contains("a-w8a8.rkllm"), "{reason}");
}

#[tokio::test]
async fn the_tokenizer_beside_the_weights_is_nearer_than_that_of_the_repository() {
    let repo = Repo::of(&["a/x.rkllm", "b/x.rkllm"]).with("b/tokenizer.json", "B");
    let repo = repo.with("tokenizer/tokenizer_config.json", "{}");
    let bench = Bench::new(None, &[("org/repo", repo)]).await;
    bench.pull_as("org/repo/a/x.rkllm", "a").await.unwrap();
    bench.pull_as("org/repo/b/x.rkllm", "b").await.unwrap();
    assert_eq!(
        (bench.read("a/tokenizer.json"), bench.read("b/tokenizer.json")),
        ("T".into(), "B".into())
    );
    assert_eq!(
        bench.names("b"),
        ["rkllama.toml", "tokenizer.json", "tokenizer_config.json", "x.rkllm"]
    );
}

fn maker(tokenizer: &str) -> Repo {
    let repo = Repo::new().with("tokenizer.json", tokenizer).with("model.safetensors", "large");
    repo.with("chat_template.jinja", "{{ messages }}").commit("beef")
}

#[rstest]
#[case::card(Repo::new().card(json!({ "base_model": "maker/a" })), "A")]
#[case::card_of_several(Repo::new().card(json!({ "base_model": ["nobody/x", "maker/a"] })), "A")]
#[case::modelfile(Repo::new().with("Modelfile", "FROM=x.rkllm\nHUGGINGFACE_PATH=\"maker/a\"\n"), "A")]
#[case::modelfile_over_card(
    Repo::new().with("Modelfile", "HUGGINGFACE_PATH=maker/b").card(json!({ "base_model": "maker/a" })),
    "B"
)]
#[case::own_over_card(Repo::new().with("tokenizer.json", "T").card(json!({ "base_model": "maker/a" })), "T")]
#[tokio::test]
async fn the_tokenizer_comes_from_who_is_named(#[case] repo: Repo, #[case] tokenizer: &str) {
    let repos =
        [("org/repo", repo.with("x.rkllm", "w")), ("maker/a", maker("A")), ("maker/b", maker("B"))];
    let bench = Bench::new(None, &repos).await;
    bench.pull("org/repo").await.unwrap();
    assert_eq!(bench.model("repo").state, ModelState::Ready);
    assert_eq!(bench.read("repo/tokenizer.json"), tokenizer);
    assert_eq!(bench.read("repo/chat_template.jinja"), "{{ messages }}");
    assert!(bench.asked().await.iter().all(|path| !path.ends_with("safetensors")));
}

#[tokio::test]
async fn the_tokenizer_that_is_asked_for_comes_before_all_others() {
    let repo = Repo::of(&["x.rkllm"]).card(json!({ "base_model": "maker/a" }));
    let repos = [("org/repo", repo), ("maker/a", maker("A")), ("maker/b", maker("B"))];
    let bench = Bench::new(None, &repos).await;
    bench.pull_with("org/repo", "maker/b").await.unwrap();
    assert_eq!(bench.read("repo/tokenizer.json"), "B");
}

#[tokio::test]
async fn without_a_tokenizer_no_weights_are_fetched() {
    let repo = Repo::new().with("x.rkllm", "w").card(json!({ "base_model": "maker/bare" }));
    let bench = Bench::new(None, &[("org/repo", repo), ("maker/bare", Repo::new())]).await;
    let reason = absent(bench.pull("org/repo").await);
    for part in ["tokenizer.json", "org/repo", "maker/bare"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(bench.weights_asked().await, 0);
    assert_eq!(bench.names(""), [""; 0]);
}

#[tokio::test]
async fn a_gated_maker_is_told_with_what_to_do() {
    let repo = Repo::new().with("x.rkllm", "w").card(json!({ "base_model": "maker/a" }));
    let repos = [("org/repo", repo), ("maker/a", maker("A").gated())];
    let bench = Bench::new(None, &repos).await;
    let pulled = bench.pull("org/repo").await;
    let Err(StoreError::Forbidden { reason }) = pulled else { panic!("{pulled:?}") };
    assert!(reason.contains("maker/a") && reason.contains("HF_TOKEN"), "{reason}");
    assert_eq!(bench.weights_asked().await, 0);
    bench.show("org/repo", Repo::of(&["x.rkllm"]).card(json!({ "base_model": "maker/a" })));
    bench.pull("org/repo").await.unwrap();
}

#[tokio::test]
async fn a_gated_repository_is_forbidden() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm"]).gated())]).await;
    let pulled = bench.pull("org/repo").await;
    assert!(matches!(pulled, Err(StoreError::Forbidden { .. })), "{pulled:?}");
}

#[tokio::test]
async fn what_the_repository_says_of_its_model_is_kept_but_for_names() {
    let modelfile = "FROM=other.rkllm\nSYSTEM=\"Be brief.\"\nNUM_CTX=8192\n";
    let manifest = "aliases = ['gpt-4o']\nparent = 'p'\n[sampling]\ntop_k = 3\n[source]\nrepository = 'a/b'\n\
        revision = 'c'\nfile = 'd.rkllm'\n";
    let repo = Repo::of(&["x.rkllm"]).with("Modelfile", modelfile).with("rkllama.toml", manifest);
    let bench = Bench::new(None, &[("org/repo", repo)]).await;
    bench.pull("org/repo").await.unwrap();
    let model = bench.model("repo");
    assert_eq!((&model.state, model.context_tokens_max), (&ModelState::Ready, 8192));
    assert_eq!(
        (model.presets.system.as_deref(), model.sampling.top_k),
        (Some("Be brief."), Some(3))
    );
    assert_eq!(model.presets.source.as_ref().unwrap().repository, "org/repo");
    assert!(bench.store.resolve("gpt-4o").is_err());
}

#[rstest]
#[case::no_text(b"\xff\xfe".to_vec())]
#[case::faulty(b"TOP_K=many".to_vec())]
#[case::large(vec![b'#'; (8 << 20) + 1])]
#[tokio::test]
async fn a_modelfile_that_cannot_be_read_says_nothing(#[case] modelfile: Vec<u8>) {
    let repo = Repo::of(&["x.rkllm"]).with("Modelfile", modelfile);
    let bench = Bench::new(None, &[("org/repo", repo)]).await;
    bench.pull("org/repo").await.unwrap();
    assert_eq!(bench.model("repo").state, ModelState::Ready);
}

#[rstest]
#[case::of_the_repository("org/Repo-1.0", &["x.rkllm"], "org/Repo-1.0", "Repo-1.0")]
#[case::of_the_file("org/repo", &["a.rkllm", "sub/b-1.rkllm"], "org/repo/sub/b-1.rkllm", "b-1")]
#[case::mended("org/repo", &["a.rkllm", "b (v2) c.rkllm"], "org/repo/b (v2) c.rkllm", "b--v2--c")]
#[case::odd_begin("org/repo", &["a.rkllm", "(v2) b.rkllm"], "org/repo/(v2) b.rkllm", "v2--b")]
#[case::nothing_left("org/repo", &["a.rkllm", "---.rkllm"], "org/repo/---.rkllm", "repo")]
#[case::odd_repository("org/-repo", &["a.rkllm"], "org/-repo", "repo")]
#[tokio::test]
async fn a_model_has_a_name_without_being_given_one(
    #[case] id: &str,
    #[case] files: &[&str],
    #[case] source: &str,
    #[case] name: &str,
) {
    let bench = Bench::new(None, &[(id, Repo::of(files))]).await;
    assert_eq!(bench.pull(source).await.as_deref(), Ok(name));
    assert_eq!(bench.ids(), [name]);
}

#[tokio::test]
async fn a_model_is_called_as_it_is_told() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm"]))]).await;
    assert_eq!(bench.pull_as("org/repo", "me/mine:1").await.as_deref(), Ok("me/mine:1"));
    assert_eq!(bench.names(""), [".pulls", "me%2Fmine:1"]);
    for name in ["../mine", "", ".pulls", "a\\b"] {
        let pulled = bench.pull_as("org/repo", name).await;
        assert!(matches!(pulled, Err(StoreError::Name { .. })), "{pulled:?}");
    }
    assert_eq!(bench.weights_asked().await, 1);
    assert_eq!(bench.names(""), [".pulls", "me%2Fmine:1"]);
}

const CATALOG: &str = "['small:1b']\nrk3588 = 'org/repo/x.rkllm'\ntokenizer = 'maker/a'\n\
    ['other:1b']\nrk3576 = 'org/repo'\n";

#[tokio::test]
async fn a_short_name_stands_for_a_repository() {
    let repos = [
        ("org/repo", Repo::new().with("x.rkllm", "w").with("y.rkllm", "w")),
        ("maker/a", maker("A")),
    ];
    let bench = Bench::with_catalog(Some("rk3588"), CATALOG, &repos).await;
    assert_eq!(bench.pull(" Small:1B:latest ").await.as_deref(), Ok("small:1b"));
    assert_eq!(bench.read("small:1b/tokenizer.json"), "A");
    assert_eq!(bench.model("small:1b").presets.source.as_ref().unwrap().file, "x.rkllm");
}

#[rstest]
#[case::other_chip("other:1b", "rk3588")]
#[case::unknown("nobody", "small:1b")]
#[tokio::test]
async fn a_name_that_stands_for_nothing_is_absent(#[case] source: &str, #[case] part: &str) {
    let bench = Bench::with_catalog(Some("rk3588"), CATALOG, &[]).await;
    let reason = absent(bench.pull(source).await);
    assert!(reason.contains(part) && reason.contains("organisation/name"), "{reason}");
    assert_eq!(bench.asked().await, [""; 0]);
}

#[rstest]
#[case::empty("")]
#[case::parent("..")]
#[case::blank("small 1b")]
#[case::nul("small\0")]
#[case::absolute("/org/repo")]
#[case::leads_out("org/repo/../../x.rkllm")]
#[case::other_hub("https://example.com/org/repo")]
#[case::gguf("org/repo/x.gguf")]
#[tokio::test]
async fn what_can_be_no_name_is_refused_before_anything_else(#[case] source: &str) {
    let bench = Bench::with_catalog(Some("rk3588"), CATALOG, &[]).await;
    let first = within(bench.begin(source).next()).await;
    assert!(matches!(first, Some(Err(StoreError::Name { .. }))), "{first:?}");
    assert_eq!((bench.asked().await.len(), bench.names("").len()), (0, 0));
}

#[rstest]
#[case::repository("org/none")]
#[case::file("org/repo/none.rkllm")]
#[case::revision("https://huggingface.co/org/repo/tree/none")]
#[case::without_weights("org/bare")]
#[tokio::test]
async fn what_the_hub_does_not_have_is_absent(#[case] source: &str) {
    let repos =
        [("org/repo", Repo::of(&["x.rkllm"])), ("org/bare", Repo::of(&[]).with("x.gguf", ""))];
    let bench = Bench::new(None, &repos).await;
    absent(bench.pull(source).await);
    assert_eq!(bench.names(""), [""; 0]);
}

#[tokio::test]
async fn a_name_that_another_model_has_is_refused_before_anything_is_fetched() {
    let repos = [("org/repo", Repo::of(&["x.rkllm"])), ("other/repo", Repo::of(&["x.rkllm"]))];
    let bench = Bench::new(None, &repos).await;
    bench.write("Repo/mine.rkllm", "mine");
    let refused = |pulled: Result<String, StoreError>| match pulled {
        Err(StoreError::Refused { reason }) => reason,
        other => panic!("{other:?}"),
    };
    let reason = refused(bench.pull("org/repo").await);
    assert!(reason.contains("'Repo'") && reason.contains("org/repo"), "{reason}");
    bench.pull_as("org/repo", "pulled").await.unwrap();
    let weights = bench.weights_asked().await;
    refused(bench.pull_as("other/repo", "PULLED").await);
    assert_eq!(bench.weights_asked().await, weights);
    assert_eq!(bench.read("Repo/mine.rkllm"), "mine");
    assert_eq!(bench.names(".pulls"), [""; 0]);
}

/// An operator's own things in the root are no models to be replaced.
#[tokio::test]
async fn what_is_no_model_is_not_replaced() {
    let bench = Bench::new(None, &[("org/data", Repo::of(&["x.rkllm"]))]).await;
    bench.write("data/set.csv", "mine");
    let pulled = bench.pull("org/data").await;
    assert!(matches!(pulled, Err(StoreError::Refused { .. })), "{pulled:?}");
    assert_eq!(bench.weights_asked().await, 0, "known before anything is fetched");
    assert_eq!(bench.read("data/set.csv"), "mine");
}

#[tokio::test]
async fn loose_weights_get_the_folder_that_they_lack() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm"]))]).await;
    bench.write("repo.rkllm", "w");
    bench.pull("org/repo").await.unwrap();
    assert_eq!(bench.ids(), ["repo"]);
    assert_eq!(bench.model("repo").weights, bench.at("repo/x.rkllm"));
}

#[tokio::test]
async fn what_is_there_is_not_fetched_again() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm"]))]).await;
    bench.pull("org/repo").await.unwrap();
    let before = bench.asked().await.len();
    let steps: Vec<Step> = within(bench.begin("org/repo").try_collect()).await.unwrap();
    let done = Step::Done { model: "repo".to_owned() };
    assert_eq!(steps, [Step::Resolving, Step::Verifying, done]);
    let asked = bench.asked().await;
    assert!(asked[before..].iter().all(|path| path.starts_with("/api/")), "{asked:?}");
}

#[tokio::test]
async fn a_model_that_has_lost_a_file_is_fetched_again() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm"]))]).await;
    bench.pull("org/repo").await.unwrap();
    fs::remove_file(bench.at("repo/tokenizer.json")).unwrap();
    bench.store.rescan();
    bench.pull("org/repo").await.unwrap();
    assert_eq!(bench.model("repo").state, ModelState::Ready);
}

#[tokio::test]
async fn a_new_revision_takes_the_place_of_the_old() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm", "y-rk1.rkllm"]))]).await;
    bench.pull_as("org/repo/x.rkllm", "m").await.unwrap();
    let newer = Repo::of(&["z.rkllm"]).commit("c0ffef");
    bench.show("org/repo", newer);
    assert_eq!(bench.pull_as("org/repo", "M").await.as_deref(), Ok("m"));
    assert_eq!(bench.ids(), ["m"]);
    assert_eq!(bench.names("m"), ["rkllama.toml", "tokenizer.json", "z.rkllm"]);
    assert_eq!(bench.model("m").presets.source.as_ref().unwrap().revision, "c0ffef");
    assert_eq!(
        (bench.names(""), bench.names(".pulls")),
        (vec![".pulls".into(), "m".into()], vec![])
    );
}

#[tokio::test]
async fn a_new_revision_keeps_what_the_owner_wrote_and_weights_that_are_the_same() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm"]))]).await;
    bench.pull("org/repo").await.unwrap();
    let manifest = bench.read("repo/rkllama.toml");
    bench.write("repo/rkllama.toml", &format!("aliases = ['gpt']\nmax_tokens = 7\n{manifest}"));
    let newer = Repo::of(&["x.rkllm"]).with("tokenizer_config.json", "{}").commit("c0ffef");
    bench.show("org/repo", newer);
    bench.pull("org/repo").await.unwrap();
    let model = bench.model("gpt");
    assert_eq!((model.id.as_str(), model.tokens_max), ("repo", Some(7)));
    assert_eq!(model.presets.source.as_ref().unwrap().revision, "c0ffef");
    assert_eq!(bench.read("repo/x.rkllm"), "weights x.rkllm");
    assert_eq!(bench.read("repo/tokenizer_config.json"), "{}");
    assert_eq!(bench.weights_asked().await, 1);
}

/// As large as before and another all the same: the old one is not written into.
#[tokio::test]
async fn weights_that_only_look_the_same_are_fetched() {
    let bench = Bench::new(
        None,
        &[("org/repo", Repo::new().with("tokenizer.json", "T").with("x.rkllm", "old"))],
    )
    .await;
    bench.pull("org/repo").await.unwrap();
    let copy = bench.at("copy");
    fs::hard_link(bench.at("repo/x.rkllm"), &copy).unwrap();
    let newer = Repo::new().with("tokenizer.json", "T").with("x.rkllm", "new").commit("c0ffef");
    bench.show("org/repo", newer);
    bench.pull("org/repo").await.unwrap();
    assert_eq!((bench.read("repo/x.rkllm"), bench.read("copy")), ("new".into(), "old".into()));
}

#[tokio::test]
async fn a_tokenizer_that_is_asked_for_and_not_there_is_told() {
    let repo = Repo::of(&["x.rkllm"]);
    let bare = Repo::new().with("README.md", "");
    let bench = Bench::new(None, &[("org/repo", repo), ("org/bare", bare)]).await;
    assert!(absent(bench.pull_with("org/repo", "org/nothing").await).contains("org/nothing"));
    assert!(absent(bench.pull_with("org/repo", "hf.co/org/bare").await).contains("org/bare"));
    let wrong = bench.pull_with("org/repo", "bare").await;
    assert!(matches!(wrong, Err(StoreError::Refused { .. })), "{wrong:?}");
    assert_eq!(bench.weights_asked().await, 0);
}

#[tokio::test]
async fn downloads_that_broke_off_long_ago_are_removed_at_the_start() {
    let bench = Bench::new(None, &[]).await;
    for (name, days) in [("old", 15), ("young", 13)] {
        bench.write(&format!(".pulls/{name}/x.rkllm.part"), "half");
        let written = std::time::SystemTime::now() - Duration::from_secs(days * 86_400);
        fs::File::open(bench.at(&format!(".pulls/{name}"))).unwrap().set_modified(written).unwrap();
    }
    let hub = HubConfig { is_offline: true, ..HubConfig::default() };
    let sources = Sources { chip: None, hub, catalog: Catalog::default() };
    Library::new(Arc::clone(&bench.store), sources, Box::new(|_| Ok(())));
    assert_eq!(bench.names(".pulls"), ["young"]);
}

#[tokio::test]
async fn a_damaged_file_makes_no_model() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm"]).damaged())]).await;
    let pulled = bench.pull("org/repo").await;
    assert!(
        matches!(&pulled, Err(StoreError::Hub { reason }) if reason.contains("damaged")),
        "{pulled:?}"
    );
    assert_eq!((bench.ids(), bench.names("")), (vec![], vec![".pulls".to_owned()]));
    bench.show("org/repo", Repo::of(&["x.rkllm"]));
    bench.pull("org/repo").await.unwrap();
    assert_eq!(bench.names(".pulls"), [""; 0]);
}

#[rstest]
#[case::parent("../x.rkllm")]
#[case::deep("a/../../x.rkllm")]
#[case::absolute("/x.rkllm")]
#[case::backslash("..\\x.rkllm")]
#[case::nul("x\0.rkllm")]
#[case::empty_part("a//x.rkllm")]
#[tokio::test]
async fn a_file_whose_path_leads_out_is_not_there(#[case] path: &str) {
    let bench = Bench::new(
        None,
        &[("org/repo", Repo::of(&[path])), ("org/two", Repo::of(&[path, "y.rkllm"]))],
    )
    .await;
    absent(bench.pull("org/repo").await);
    assert_eq!(bench.names(""), [""; 0]);
    bench.pull("org/two").await.unwrap();
    assert_eq!(bench.names("two"), ["rkllama.toml", "tokenizer.json", "y.rkllm"]);
}

#[tokio::test]
async fn an_offline_server_says_so_and_keeps_what_it_has() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(root.path().to_owned(), Defaults::default()));
    let hub = HubConfig { is_offline: true, ..HubConfig::default() };
    let library = Library::new(
        store,
        Sources { chip: None, hub, catalog: Catalog::default() },
        Box::new(|_| Ok(())),
    );
    let pull = Pull { source: "org/repo".to_owned(), ..Pull::default() };
    let pulled = end(library.pull(pull)).await;
    assert!(
        matches!(&pulled, Err(StoreError::Hub { reason }) if reason.contains("offline")),
        "{pulled:?}"
    );
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_parent_that_is_not_there_is_pulled() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm"]))]).await;
    let creation = Creation {
        name: "made".to_owned(),
        from: Some("hf.co/org/repo".to_owned()),
        system: Some("Be brief.".to_owned()),
        ..Creation::default()
    };
    assert_eq!(end(bench.library.create(creation.clone())).await.as_deref(), Ok("made"));
    assert_eq!(bench.ids(), ["made", "repo"]);
    let made = bench.model("made");
    assert_eq!((made.presets.parent.as_deref(), &made.presets.source), (Some("repo"), &None));
    end(bench.library.create(creation)).await.unwrap();
    assert_eq!(bench.weights_asked().await, 1);
}

/// As another server over the same root would be.
fn other_library(bench: &Bench) -> (Arc<Store>, Library) {
    let store = Arc::new(Store::open(bench.root.path().to_owned(), Defaults::default()));
    let hub = HubConfig { endpoint: bench.server.uri(), ..HubConfig::default() };
    let sources = Sources { chip: None, hub, catalog: Catalog::default() };
    (Arc::clone(&store), Library::new(store, sources, Box::new(|_| Ok(()))))
}

#[tokio::test]
async fn servers_with_one_root_share_a_download() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm"]))]).await;
    let (store, other) = other_library(&bench);
    let pull = || Pull { source: "org/repo".to_owned(), ..Pull::default() };
    let (ours, theirs) = tokio::join!(end(bench.library.pull(pull())), end(other.pull(pull())));
    assert_eq!((ours.as_deref(), theirs.as_deref()), (Ok("repo"), Ok("repo")));
    assert_eq!(bench.weights_asked().await, 1);
    assert_eq!((bench.ids(), store.list().len()), (vec!["repo".to_owned()], 1));
}

#[tokio::test]
async fn servers_with_one_root_change_it_one_after_the_other() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm"]))]).await;
    bench.pull("org/repo").await.unwrap();
    let (store, other) = other_library(&bench);
    let named =
        |name: String| Creation { name, from: Some("repo".to_owned()), ..Creation::default() };
    // While another server is at it, this one waits.
    let theirs = fs::File::open(bench.root.path()).unwrap();
    theirs.lock().unwrap();
    let making = tokio::spawn(end(bench.library.create(named("made".to_owned()))));
    let waits = tokio::time::timeout(Duration::from_millis(300), async {
        while !bench.root.path().join("made").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waits.await.is_err(), "it did not wait");
    drop(theirs);
    assert_eq!(making.await.unwrap().as_deref(), Ok("made"));
    store.rescan();
    // What the other one did is seen before anything is done.
    let model = bench.model("made");
    bench.library.delete(model).await.unwrap();
    assert!(store.list().iter().any(|model| model.id == "made"));
    let copied = other.copy(store.resolve("made").unwrap(), "copy".to_owned()).await;
    assert!(matches!(copied, Err(StoreError::Model(_))), "{copied:?}");
}

#[tokio::test]
async fn nothing_is_fetched_for_a_template_that_cannot_be_used() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm"]))]).await;
    let of_request = Creation { template: Some("{{ broken".to_owned()), ..Creation::default() };
    let text = "FROM org/repo\nTEMPLATE {{ broken";
    let of_file = Creation { modelfile: Some(text.to_owned()), ..Creation::default() };
    for creation in [of_request, of_file] {
        let from = Some("org/repo".to_owned());
        let creation = Creation { name: "made".to_owned(), from, ..creation };
        let made = end(bench.library.create(creation)).await;
        let refused = matches!(&made, Err(StoreError::Refused { reason }) if reason.starts_with("template error: "));
        assert!(refused, "{made:?}");
    }
    assert_eq!(bench.asked().await, [""; 0]);
    assert_eq!(fs::read_dir(bench.root.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_model_with_a_name_that_is_none_is_not_pulled_for() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm"]))]).await;
    let from = Some("org/repo".to_owned());
    let creation = Creation { name: "../made".to_owned(), from, ..Creation::default() };
    let made = end(bench.library.create(creation)).await;
    assert!(matches!(made, Err(StoreError::Name { .. })), "{made:?}");
    assert_eq!(bench.asked().await, [""; 0]);
}

/// More than is held in memory before it is written.
const LARGE: usize = 4 << 20;
const HALF: usize = LARGE / 2;

/// Gives the first half of a large file and waits for a sign before the second.
struct Slow {
    address: String,
    content: Arc<Vec<u8>>,
    shared: Arc<Signs>,
}

struct Signs {
    /// The heads of the requests, in small letters.
    heads: Mutex<Vec<String>>,
    goes_on: Semaphore,
    /// One for each client that left.
    left: Semaphore,
}

impl Slow {
    async fn begin() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/content", listener.local_addr().unwrap());
        let content: Arc<Vec<u8>> = Arc::new((0..LARGE).map(|at| (at / 7 % 251) as u8).collect());
        let signs =
            Signs { heads: Mutex::default(), goes_on: Semaphore::new(0), left: Semaphore::new(0) };
        let slow = Self { address, content, shared: Arc::new(signs) };
        let (content, shared) = (Arc::clone(&slow.content), Arc::clone(&slow.shared));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&content), Arc::clone(&shared)));
            }
        });
        slow
    }

    /// A repository whose weights come from here.
    fn repo(&self) -> Repo {
        Repo::of(&[]).with("x.rkllm", &*self.content).at(&self.address)
    }

    fn go_on(&self) {
        self.shared.goes_on.add_permits(1);
    }

    async fn client_left(&self) {
        within(self.shared.left.acquire()).await.unwrap().forget();
    }

    fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }
}

async fn answer(mut stream: TcpStream, content: Arc<Vec<u8>>, signs: Arc<Signs>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-'));
    let from: usize = range.map_or(0, |from| from.parse().unwrap());
    signs.heads.lock().unwrap().push(head);
    let status = match from {
        0 => "200 OK".to_owned(),
        _ => format!("206 Partial Content\r\ncontent-range: bytes {from}-{}/{LARGE}", LARGE - 1),
    };
    let bytes = LARGE - from;
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&content[from..HALF.max(from)]).await.unwrap();
    tokio::select! {
        sign = signs.goes_on.acquire() => sign.unwrap().forget(),
        _ = stream.read_u8() => return signs.left.add_permits(1),
    }
    stream.write_all(&content[HALF.max(from)..]).await.unwrap();
}

/// Follows a pull until half of the weights are here.
async fn until_half(steps: &mut Steps) {
    within(async {
        loop {
            let step = steps.next().await.unwrap().unwrap();
            if matches!(step, Step::Fetching { completed, .. } if completed == HALF as u64) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn two_who_pull_the_same_share_one_download() {
    let slow = Slow::begin().await;
    let bench = Bench::new(None, &[("org/repo", slow.repo())]).await;
    let (mut one, mut other) = (bench.begin("org/repo"), bench.begin("hf.co/org/repo"));
    until_half(&mut one).await;
    until_half(&mut other).await;
    slow.go_on();
    let (one, other) = future::join(end(one), end(other)).await;
    assert_eq!((one.as_deref(), other.as_deref()), (Ok("repo"), Ok("repo")));
    assert_eq!((slow.heads().len(), bench.weights_asked().await), (1, 1));
    assert_eq!(fs::read(bench.at("repo/x.rkllm")).unwrap(), *slow.content);
}

#[tokio::test]
async fn a_download_goes_on_for_those_who_stay() {
    let slow = Slow::begin().await;
    let bench = Bench::new(None, &[("org/repo", slow.repo())]).await;
    let (mut one, mut other) = (bench.begin("org/repo"), bench.begin("org/repo"));
    until_half(&mut one).await;
    until_half(&mut other).await;
    drop(one);
    slow.go_on();
    assert_eq!(end(other).await.as_deref(), Ok("repo"));
    assert_eq!(slow.heads().len(), 1);
}

#[tokio::test]
async fn a_download_that_nobody_waits_for_stops_and_goes_on_where_it_stopped() {
    let slow = Slow::begin().await;
    let bench = Bench::new(None, &[("org/repo", slow.repo())]).await;
    let (mut one, mut other) = (bench.begin("org/repo"), bench.begin("org/repo"));
    until_half(&mut one).await;
    until_half(&mut other).await;
    drop((one, other));
    slow.client_left().await;
    assert_eq!(bench.ids(), [""; 0]);
    slow.go_on();
    assert_eq!(bench.pull("org/repo").await.as_deref(), Ok("repo"));
    let heads = slow.heads();
    let range = heads[1].lines().find_map(|line| line.strip_prefix("range: bytes="));
    let from: usize = range.unwrap().trim_end_matches('-').parse().unwrap();
    assert!(heads.len() == 2 && 0 < from && from <= HALF, "{heads:?}");
    assert_eq!(fs::read(bench.at("repo/x.rkllm")).unwrap(), *slow.content);
    assert_eq!(bench.names("repo"), ["rkllama.toml", "tokenizer.json", "x.rkllm"]);
    assert_eq!(bench.names(".pulls"), [""; 0]);
}

#[tokio::test]
async fn a_download_survives_the_server() {
    let slow = Slow::begin().await;
    let bench = Bench::new(None, &[("org/repo", slow.repo())]).await;
    let mut steps = bench.begin("org/repo");
    until_half(&mut steps).await;
    drop(steps);
    slow.client_left().await;
    let hub = HubConfig { endpoint: bench.server.uri(), ..HubConfig::default() };
    let sources = Sources { chip: None, hub, catalog: Catalog::default() };
    let library = Library::new(Arc::clone(&bench.store), sources, Box::new(|_| Ok(())));
    slow.go_on();
    let pull = Pull { source: "org/repo".to_owned(), ..Pull::default() };
    end(library.pull(pull)).await.unwrap();
    assert!(slow.heads()[1].contains("range: bytes="), "{:?}", slow.heads());
}

/// The name may be taken while gigabytes come in.
#[tokio::test]
async fn a_name_that_is_taken_meanwhile_is_not_replaced() {
    let slow = Slow::begin().await;
    let bench = Bench::new(None, &[("org/repo", slow.repo())]).await;
    let mut steps = bench.begin("org/repo");
    until_half(&mut steps).await;
    bench.write("repo/mine.rkllm", "mine");
    slow.go_on();
    let pulled = end(steps).await;
    assert!(matches!(pulled, Err(StoreError::Refused { .. })), "{pulled:?}");
    assert_eq!(bench.names("repo"), ["mine.rkllm"]);
    fs::remove_dir_all(bench.at("repo")).unwrap();
    bench.store.rescan();
    bench.pull("org/repo").await.unwrap();
    assert_eq!(slow.heads().len(), 1, "what came is not thrown away");
}

/// Somebody who has heard the end and still listens does not answer for the next.
#[tokio::test]
async fn a_removed_model_is_pulled_again_whoever_still_listens() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm"]))]).await;
    let mut first = bench.begin("org/repo");
    within(async { while !matches!(first.next().await, Some(Ok(Step::Done { .. }))) {} }).await;
    bench.library.delete(bench.model("repo")).await.unwrap();
    bench.pull("org/repo").await.unwrap();
    assert_eq!(bench.model("repo").state, ModelState::Ready);
    assert_eq!(bench.weights_asked().await, 2);
}

#[tokio::test]
async fn a_failed_pull_is_tried_again_whoever_still_listens() {
    let bench = Bench::new(None, &[("org/repo", Repo::of(&["x.rkllm"]).damaged())]).await;
    let mut first = bench.begin("org/repo");
    let mut second = bench.begin("org/repo");
    within(async { while !matches!(first.next().await, Some(Err(_))) {} }).await;
    within(async { while !matches!(second.next().await, Some(Err(_))) {} }).await;
    bench.show("org/repo", Repo::of(&["x.rkllm"]));
    bench.pull("org/repo").await.unwrap();
}

#[rstest]
#[case::said("HUGGINGFACE_PATH=maker/a", None, "A")]
#[case::asked("", Some("maker/b"), "B")]
#[case::asked_over_said("HUGGINGFACE_PATH=maker/a", Some("maker/b"), "B")]
#[tokio::test]
async fn a_folder_without_a_tokenizer_is_completed(
    #[case] modelfile: &str,
    #[case] asked: Option<&str>,
    #[case] tokenizer: &str,
) {
    let bench = Bench::new(None, &[("maker/a", maker("A")), ("maker/b", maker("B"))]).await;
    bench.write("m/x.rkllm", "w");
    bench.write("m/Modelfile", modelfile);
    bench.write("m/chat_template.jinja", "mine");
    let came = bench.library.complete(&bench.at("m"), "m", asked).await.unwrap();
    assert_eq!(came, ["tokenizer.json"]);
    assert_eq!(bench.read("m/tokenizer.json"), tokenizer);
    assert_eq!(bench.read("m/chat_template.jinja"), "mine");
    assert_eq!(bench.names("m"), ["Modelfile", "chat_template.jinja", "tokenizer.json", "x.rkllm"]);
    bench.store.rescan();
    assert_eq!(bench.model("m").state, ModelState::Ready);
    let asked = bench.asked().await.len();
    assert_eq!(bench.library.complete(&bench.at("m"), "m", None).await.as_deref(), Ok(&[][..]));
    assert_eq!(bench.asked().await.len(), asked, "nothing is missing");
}

#[tokio::test]
async fn a_folder_that_says_nothing_of_its_tokenizer_cannot_be_completed() {
    let bench = Bench::new(None, &[("maker/bare", Repo::new())]).await;
    bench.write("m/x.rkllm", "w");
    let completed = bench.library.complete(&bench.at("m"), "m", None).await;
    assert!(
        matches!(&completed, Err(StoreError::Refused { reason }) if reason.contains("HUGGINGFACE_PATH"))
    );
    for nowhere in ["maker/bare", "maker/none", "../m"] {
        let completed = bench.library.complete(&bench.at("m"), "m", Some(nowhere)).await;
        assert!(matches!(completed, Err(StoreError::Absent { .. })), "{nowhere}: {completed:?}");
    }
    assert_eq!(bench.names("m"), ["x.rkllm"]);
}
