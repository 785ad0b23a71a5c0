//! A server of our own on the mock, with a script whose words the scenarios know.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::{args::ServerArgs, hub::StubHub, machine::Machine};

/// The words of the scenarios' questions. Anything else is answered by the mock's language model.
const SCRIPT: &str = r#"
[[rule]]
user_contains = "Say hello."
say = "Hello from the board."

[[rule]]
user_contains = "Count on and on."
say = "one two three "
no_eos = true

[[rule]]
user_contains = "Which colours are these?"
say = "I see {images}."

[[rule]]
user_contains = "Fail now."
say = "one two three"
fail_at_token = 1

[[rule]]
user_contains = "Crash now."
say = "one two three"
crash_at_token = 1
"#;

/// What makes the demo's weights a model that sees, and its encoder: four vectors of 16 numbers from
/// 16 by 16 points.
const SEEING: (&str, &str) = (
    "\n[vision]\nstart = '<|vision_start|>'\nend = '<|vision_end|>'\n\
     content = '<|image_pad|>'\nembedding_size = 16\n",
    "RKNN-MOCK 1\ntarget_platform = 'RK3588'\nrun_ms = 5\n[[input]]\nname = 'pixels'\n\
     dims = [1, 16, 16, 3]\nfmt = 'NHWC'\ntype = 'float16'\n[[output]]\nname = 'layer'\n\
     dims = [1, 4, 16]\n",
);

/// Its models, each with what its manifest says besides the demo's files.
const MODELS: [(&str, &str); 5] = [
    ("demo", ""),
    ("second", ""),
    ("vectors", "type = 'embed'\n"),
    ("judge", "type = 'rerank'\n"),
    // By this name it is known which tokens stand around its images.
    (SEES, ""),
];
const SEES: &str = "qwen2-vl";

/// Where the executable and the mock's libraries lie.
#[derive(Debug, Clone)]
pub struct Built {
    executable: PathBuf,
    /// The folder with one folder for each release of the mock.
    mock: PathBuf,
    demo: PathBuf,
    release: String,
}

impl Built {
    /// Where they were said to lie.
    pub fn of(args: &ServerArgs) -> Self {
        let ServerArgs { executable, mock, demo, release, .. } = args.clone();
        Self { executable, mock, demo, release }
    }
}

/// What a server on the mock is to have.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its models, each with what its manifest says besides the demo's files.
    pub models: Vec<(&'static str, &'static str)>,
    /// Variables for the library.
    pub environment: Vec<(&'static str, String)>,
    /// The hub from which it fetches models.
    pub hub: Option<String>,
}

impl Setup {
    /// What the scenarios know.
    pub fn scenarios(hub: &StubHub) -> Self {
        Self {
            models: MODELS.to_vec(),
            environment: vec![("MOCK_NPU_SCRIPT", SCRIPT.to_owned())],
            hub: Some(hub.url()),
        }
    }
}

/// A server on the mock; it ends when dropped.
#[derive(Debug)]
pub struct MockServer {
    child: Child,
    dir: TempDir,
    /// When it was executed.
    pub began: Instant,
    /// Where it listens.
    pub url: String,
}

impl MockServer {
    /// Starts it; it listens when this returns.
    ///
    /// # Errors
    /// Something is not built, or the server ended at once.
    pub fn start(built: &Built, setup: &Setup) -> anyhow::Result<Self> {
        let dir = TempDir::new()?;
        let release = &built.release;
        for (name, manifest) in &setup.models {
            let folder = dir.path().join("models").join(name);
            write_model(&built.demo, &folder, manifest, release)?;
            if *name == SEES {
                give_sight(&folder)?;
            }
        }
        let hub = |url| format!("[hub]\nendpoint = \"{url}\"\nchip = \"rk3588\"\n");
        let config = setup.hub.as_ref().map(hub).unwrap_or_default();
        std::fs::write(dir.path().join("config.toml"), config)?;
        let library = built.mock.join(release).join("librkllmrt.so");
        if !library.exists() {
            bail!("{} is not there: `ci/mock` builds it", library.display());
        }
        let log = std::fs::File::create(dir.path().join("log"))?;
        let began = Instant::now();
        let mut child = Command::new(&built.executable)
            .env_clear()
            .env("HOME", dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(setup.environment.iter().map(|(name, value)| (name, value)))
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(dir.path().join("config.toml"))
            .arg("--models")
            .arg(dir.path().join("models"))
            .arg("--runtime")
            .arg(library)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", built.executable.display()))?;
        let output = child.stdout.take().context("no output")?;
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let url =
            lines.find_map(|it| it.split_once("listening on ").map(|(_, url)| url.to_owned()));
        let mut server = Self { child, dir, began, url: String::new() };
        let Some(url) = url else {
            bail!("the server ended at once:\n{}", server.log());
        };
        server.url = url.trim().to_owned();
        thread::spawn(move || lines.for_each(drop));
        Ok(server)
    }

    /// The machine that it runs on.
    pub fn machine(&self) -> Machine {
        Machine::Here { server: self.child.id() }
    }

    /// Its folder: models lie in `models`, and there is room beside them.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for MockServer {
    fn drop(&mut self) {
        // Workers end with the socket to their server.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

fn write_model(demo: &Path, folder: &Path, manifest: &str, release: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    for file in ["demo.rkllm", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(demo.join(file), folder.join(file))
            .with_context(|| format!("cannot copy {}", demo.join(file).display()))?;
    }
    // A release refuses the models of newer toolkits.
    let weights = std::fs::read_to_string(demo.join("demo.rkllm"))?;
    let weights = weights.replace(r#"toolkit_version = "1.3.0""#, &toolkit(release));
    std::fs::write(folder.join("demo.rkllm"), weights)?;
    let written = std::fs::read_to_string(demo.join("rkllama.toml"))?;
    Ok(std::fs::write(folder.join("rkllama.toml"), format!("{written}{manifest}"))?)
}

fn toolkit(release: &str) -> String {
    let version = if release.starts_with("1.3.") { "1.3.0" } else { release };
    format!("toolkit_version = \"{version}\"")
}

fn give_sight(folder: &Path) -> anyhow::Result<()> {
    let weights = std::fs::read_to_string(folder.join("demo.rkllm"))?;
    let (header, body) = weights.split_once('\n').context("no model file of the mock")?;
    let (model, encoder) = SEEING;
    let seeing = format!("{header}\nembedding_size = 16\n{body}{model}");
    std::fs::write(folder.join("demo.rkllm"), seeing)?;
    Ok(std::fs::write(folder.join("vision.rknn"), encoder)?)
}
