//! `create`: has the server make a model of what a Modelfile says, and sends it the files for that.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::{
    Body,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use rkllama_compat::ollama::check_template;
use rkllama_core::{Digest, Message};
use rkllama_models::{ModelFile, Recipe, adapter_file, model_files};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt;

use super::{Client, is_absent, lines::Lines, progress::Progress, pull::hear_all, runtime};
use crate::cli::{self, CreateArgs};

/// As much of a file as is held at a time, in bytes.
const PIECE_LEN: usize = 1 << 20;

/// What a model is made of.
#[derive(Debug, PartialEq)]
enum Source {
    /// A model of the server, or of the hub.
    Model(String),
    /// Files that are here.
    Files(Vec<ModelFile>),
}

/// Ends with the model on the server.
pub(crate) fn create(args: &CreateArgs) -> anyhow::Result<()> {
    let shown = args.file.display();
    let bytes = fs::read(&args.file).with_context(|| format!("{shown}"))?;
    let recipe = Recipe::parse_bytes(&bytes);
    let recipe = recipe.map_err(anyhow::Error::msg).with_context(|| format!("{shown}"))?;
    if let Some(template) = &recipe.template {
        // Before gigabytes are sent for nothing.
        let checked = check_template(rkllama_engine::check_template, template);
        checked.map_err(anyhow::Error::msg).with_context(|| format!("{shown}: template error"))?;
    }
    for warning in &recipe.warnings {
        writeln!(io::stderr(), "{warning}")?;
    }
    if recipe.adapters.len() > 1 {
        bail!("{shown}: only one adapter is currently supported");
    }
    let folder = args.file.parent().unwrap_or(Path::new(""));
    let home = env::home_dir();
    let adapter = recipe.adapters.first();
    let adapter = adapter.map(|it| adapter_at(&place(it, folder, home.as_deref()))).transpose();
    let adapter =
        adapter.map_err(anyhow::Error::msg).with_context(|| format!("{shown}: ADAPTER"))?;
    let source = source(&recipe.from, folder, home.as_deref(), adapter.as_ref());
    let source = source.map_err(anyhow::Error::msg)?;
    let client = Client::new(&args.server)?;
    runtime()?.block_on(async {
        let mut request = request(&args.name, &recipe);
        match source {
            Source::Model(name) => request.insert("from".to_owned(), name.into()),
            Source::Files(files) => {
                let files = client.send_files(&files).await?;
                request.insert("files".to_owned(), json!(files))
            }
        };
        if let Some(adapter) = adapter {
            let sent = client.send_files(&[adapter]).await?;
            request.insert("adapters".to_owned(), json!(sent));
        }
        let answer = client.send(client.post("/api/create").json(&request)).await?;
        // Where it is made from a model of the hub, that comes first.
        let mut progress = Progress::new();
        let mut lines = Lines::of(answer);
        hear_all(&mut lines, |line, _| progress.hear(line)).await?;
        let known = client.id_of(&args.name).await;
        cli::print(&format!("created '{}'", known.as_deref().unwrap_or(&args.name)))
    })
}

/// Where a path of a Modelfile leads.
fn place(path: &str, folder: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => folder.join(path),
    }
}

/// The adapter that lies there.
fn adapter_at(path: &Path) -> Result<ModelFile, String> {
    if path.exists() { adapter_file(path) } else { Err(format!("there is no {}", path.display())) }
}

/// What FROM means: what is here, unless nothing here is a model.
fn source(
    from: &str,
    folder: &Path,
    home: Option<&Path>,
    adapter: Option<&ModelFile>,
) -> Result<Source, String> {
    let path = place(from, folder, home);
    let is_path = ["/", "./", "../", "~/"].iter().any(|start| from.starts_with(start))
        || matches!(from, "." | "..");
    if path.exists() {
        match model_files(&path, adapter.map(|it| &*it.path))? {
            Some(files) => return Ok(Source::Files(files)),
            None if is_path => return Err(format!("{} holds no .rkllm file", path.display())),
            // A folder that happens to be called as a model is.
            None => {}
        }
    }
    if is_path {
        Err(format!("there is no {}", path.display()))
    } else {
        Ok(Source::Model(from.to_owned()))
    }
}

/// All but what it is made from.
fn request(name: &str, recipe: &Recipe) -> Map<String, Value> {
    let mut request = Map::new();
    let mut say = |field: &str, value: Option<Value>| {
        request.extend(value.map(|value| (field.to_owned(), value)));
    };
    let messages: Vec<Value> = recipe.messages.iter().map(preset).collect();
    let parameters: Map<String, Value> = recipe.parameters.iter().cloned().collect();
    say("model", Some(name.into()));
    say("system", recipe.system.clone().map(Value::from));
    say("template", recipe.template.clone().map(Value::from));
    say("license", (!recipe.licenses.is_empty()).then(|| json!(recipe.licenses)));
    say("model_type", recipe.model_type.clone().map(Value::from));
    say("messages", (!messages.is_empty()).then(|| messages.into()));
    say("parameters", (!parameters.is_empty()).then(|| parameters.into()));
    request
}

fn preset(message: &Message) -> Value {
    json!({ "role": message.role.as_str(), "content": message.content })
}

impl Client {
    /// Brings files to the server, but for those that are there; their digests.
    async fn send_files(&self, files: &[ModelFile]) -> anyhow::Result<BTreeMap<String, String>> {
        // Before gigabytes are read for nobody.
        self.send(self.get("/api/version")).await?;
        let mut digests = BTreeMap::new();
        let mut hashing = Progress::new();
        for file in files {
            let digest = digest(file, &mut hashing);
            let digest = digest.with_context(|| file.path.display().to_string())?;
            digests.insert(file.name.clone(), digest);
        }
        let mut sending = Progress::new();
        for file in files {
            if let Some(digest) = digests.get(&file.name) {
                let sent = self.send_file(&file.path, &file.name, digest, &mut sending).await;
                sent.with_context(|| format!("cannot send {}", file.path.display()))?;
            }
        }
        Ok(digests)
    }

    async fn send_file(
        &self,
        path: &Path,
        name: &str,
        digest: &str,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let place = format!("/api/blobs/{digest}");
        match self.send(self.head(&place)).await {
            Ok(_) => return Ok(()),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
        let file = tokio::fs::File::open(path).await?;
        let total = file.metadata().await?.len();
        let (told, mut tell) = tokio::sync::watch::channel(0);
        let body = Body::wrap_stream(pieces(file, told));
        let upload = self.post(&place).header(CONTENT_TYPE, "application/octet-stream");
        let upload = self.send(upload.header(CONTENT_LENGTH, total).body(body));
        tokio::pin!(upload);
        let label = format!("sending {name}");
        progress.set(&label, 0, total.max(1))?;
        loop {
            tokio::select! {
                sent = &mut upload => {
                    sent?;
                    return progress.set(&label, total.max(1), total.max(1));
                }
                Ok(()) = tell.changed() => {
                    let bytes: u64 = *tell.borrow_and_update();
                    // There when the server says so.
                    progress.set(&label, bytes.min(total.saturating_sub(1)), total.max(1))?;
                }
            }
        }
    }
}

/// A file as it is sent; `told` is how much of it was.
fn pieces(
    file: tokio::fs::File,
    told: tokio::sync::watch::Sender<u64>,
) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((file, told), |(mut file, told)| async move {
        let mut piece = Vec::with_capacity(PIECE_LEN);
        (&mut file).take(PIECE_LEN as u64).read_to_end(&mut piece).await?;
        told.send_modify(|bytes| *bytes += piece.len() as u64);
        Ok((!piece.is_empty()).then(|| (Bytes::from(piece), (file, told))))
    })
    .boxed()
}

/// A file's digest as the API writes it.
fn digest(file: &ModelFile, progress: &mut Progress) -> anyhow::Result<String> {
    let mut reader = fs::File::open(&file.path)?;
    let total = reader.metadata()?.len().max(1);
    let label = format!("reading {}", file.name);
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE_LEN];
    let mut read = 0;
    progress.set(&label, 0, total)?;
    loop {
        let len = reader.read(&mut piece)?;
        let Some(bytes) = piece.get(..len).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
        read += len as u64;
        progress.set(&label, read.min(total - 1), total)?;
    }
    progress.set(&label, total, total)?;
    Ok(Digest(hash.finalize().into()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_is_what_is_here_else_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let touch = |path: &str| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        touch("m/x.rkllm");
        touch("m/tokenizer.json");
        touch("other/notes.txt");
        touch("x.gguf");
        let of = |from: &str| source(from, folder, Some(folder), None);
        let names = |from: &str| match of(from) {
            Ok(Source::Files(files)) => files.into_iter().map(|file| file.name).collect(),
            other => vec![format!("{other:?}")],
        };
        for here in ["m", "./m", "m/x.rkllm", "~/m", folder.join("m").to_str().unwrap()] {
            assert_eq!(names(here), ["x.rkllm", "tokenizer.json"], "{here}");
        }
        for name in ["other", "qwen3:1.7b", "org/repo", "y.rkllm"] {
            assert_eq!(of(name), Ok(Source::Model(name.to_owned())));
        }
        for (wrong, words) in
            [("./other", "holds no .rkllm"), ("./y.rkllm", "there is no"), ("x.gguf", "no model")]
        {
            let error = of(wrong).unwrap_err();
            assert!(error.contains(words) && error.contains(&wrong[2..]), "{error}");
        }
    }

    #[test]
    fn what_a_modelfile_does_not_say_is_not_sent() {
        let recipe = Recipe::parse("FROM x\nPARAMETER stop a\nPARAMETER stop b\nMESSAGE user Hi");
        let expected = json!({
            "model": "mine",
            "messages": [{"role": "user", "content": "Hi"}],
            "parameters": {"stop": ["a", "b"]},
        });
        assert_eq!(Value::Object(request("mine", &recipe.unwrap())), expected);
        let bare = Recipe::parse("FROM=x\nHUGGINGFACE_PATH=org/repo").unwrap();
        assert_eq!(Value::Object(request("mine", &bare)), json!({"model": "mine"}));
    }
}
