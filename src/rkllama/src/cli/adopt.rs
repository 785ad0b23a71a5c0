//! `adopt`: the models of another folder, linked into ours.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use rkllama_core::StoreError;
use rkllama_models::{Library, Store};

use super::{AdoptArgs, complain, print};
use crate::{config::Config, hub, serve};

const WEIGHTS: &str = "rkllm";
const TOKENIZER: &str = "tokenizer.json";

/// A folder of a model, or a file of weights that lies loose.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    name: String,
    path: PathBuf,
    /// Where its tokenizer belongs. Beside a loose file this is no folder of theirs, but may be of ours.
    folder: Option<PathBuf>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Linked,
    AlreadyThere,
    Taken,
}

impl Outcome {
    const fn words(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::AlreadyThere => "already there",
            Self::Taken => "name is taken",
        }
    }
}

/// Links, and says a line about each. Fails at the end where a tokenizer could not be fetched.
pub(crate) fn adopt(args: &AdoptArgs) -> anyhow::Result<ExitCode> {
    let config = Config::gather(&args.as_serve())?;
    let shown = args.dir.display();
    let dir = fs::canonicalize(&args.dir).with_context(|| format!("{shown}"))?;
    let found = models_in(&dir).with_context(|| format!("cannot read {shown}"))?;
    if found.is_empty() {
        bail!("{shown} holds no .{WEIGHTS} file, and no folder with one");
    }
    let root = &config.models;
    fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
    if fs::canonicalize(root).is_ok_and(|root| root == dir) {
        bail!("{shown} is the folder of models itself");
    }
    let completer = args.fetch.then(|| Completer::new(args, &config)).transpose()?;
    let mut has_failed = false;
    for model in &found {
        let outcome = link(model, root)?;
        let folder = model.folder.clone().unwrap_or_else(|| own_folder(model, root));
        let lacks = outcome != Outcome::Taken && lacks_tokenizer(&folder);
        let mut line = format!("{}: {}", model.name, outcome.words());
        match &completer {
            _ if !lacks => {}
            Some(completer) => match completer.complete(model, &folder) {
                Ok(names) => line.push_str(&format!("; fetched {}", names.join(", "))),
                Err(error) => {
                    line.push_str("; the tokenizer is missing");
                    complain(&error.context(model.name.clone()));
                    has_failed = true;
                }
            },
            None => line.push_str("; the tokenizer is missing (--fetch looks for it)"),
        }
        print(&line)?;
    }
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The models of a folder, sorted by name.
fn models_in(dir: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            continue;
        };
        // Bookkeeping of other programs, which no server takes for models.
        if name.starts_with('.') {
            continue;
        }
        let loose = path.with_added_extension(WEIGHTS);
        if path.is_dir() && (holds_weights(&path) || loose.is_file()) {
            found.push(Found { name, folder: Some(path.clone()), path });
        } else if is_weights(&path) {
            let folder = Some(path.with_extension("")).filter(|folder| folder.is_dir());
            found.push(Found { name, path, folder });
        }
    }
    found.sort();
    Ok(found)
}

fn is_weights(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case(WEIGHTS)) && path.is_file()
}

fn holds_weights(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| is_weights(&path))
}

fn lacks_tokenizer(folder: &Path) -> bool {
    !folder.join(TOKENIZER).is_file() && !folder.join("tokenizer").join(TOKENIZER).is_file()
}

/// Where the server looks for what belongs to a loose file: the folder beside the link to it.
fn own_folder(model: &Found, root: &Path) -> PathBuf {
    root.join(&model.name).with_extension("")
}

fn link(model: &Found, root: &Path) -> anyhow::Result<Outcome> {
    let place = root.join(&model.name);
    match symlink(&model.path, &place) {
        Ok(()) => Ok(Outcome::Linked),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // The other folder may hold links itself.
            let (theirs, ours) = (fs::canonicalize(&model.path), fs::canonicalize(&place));
            let is_same = theirs.is_ok_and(|theirs| ours.is_ok_and(|ours| ours == theirs));
            Ok(if is_same { Outcome::AlreadyThere } else { Outcome::Taken })
        }
        Err(error) => Err(error).with_context(|| format!("cannot link {}", place.display())),
    }
}

/// Fetches tokenizers.
struct Completer {
    library: Library,
    tokenizer: Option<String>,
    runtime: tokio::runtime::Runtime,
}

impl Completer {
    fn new(args: &AdoptArgs, config: &Config) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start threads")?;
        let store = Arc::new(Store::open(config.models.clone(), serve::defaults(config)));
        // It makes no models of templates.
        let library = Library::new(store, hub::sources(config)?, Box::new(|_| Ok(())));
        Ok(Self { library, tokenizer: args.tokenizer.clone(), runtime })
    }

    /// The names of what came.
    fn complete(&self, model: &Found, folder: &Path) -> anyhow::Result<Vec<String>> {
        let fetch = |repository| self.library.complete(folder, &model.name, repository);
        let fetched = self.runtime.block_on(fetch(None));
        match &self.tokenizer {
            // Nothing says where it is.
            Some(other) if matches!(fetched, Err(StoreError::Refused { .. })) => {
                Ok(self.runtime.block_on(fetch(Some(other)))?)
            }
            _ => Ok(fetched?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_with_weights_and_loose_weights_are_models() {
        let dir = tempfile::tempdir().unwrap();
        let touch = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        for path in [
            "a/model.RKLLM",
            "b/tokenizer.json",
            "b.rkllm",
            "c.rkllm",
            "notes/readme.txt",
            ".hidden/x.rkllm",
            "d/sub/x.rkllm",
        ] {
            touch(path);
        }
        let found = models_in(dir.path()).unwrap();
        let names: Vec<&str> = found.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "b.rkllm", "c.rkllm"]);
        let folders: Vec<PathBuf> = found
            .into_iter()
            .map(|it| it.folder.clone().unwrap_or_else(|| own_folder(&it, Path::new("/ours"))))
            .collect();
        assert_eq!(folders[3], Path::new("/ours/c"));
        let lacking: Vec<bool> = folders.iter().map(|it| lacks_tokenizer(it)).collect();
        assert_eq!(lacking, [true, false, false, true]);
    }
}
