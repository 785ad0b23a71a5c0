//! The models below one root, as last looked at.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rkllama_core::{Model, ModelError, Models, TextFiles};

use crate::{folder::Folder, names};

/// What applies where a model's files say nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// The context to ask the runtime for, in tokens: a multiple of 32, at most 16,384.
    pub context_tokens_max: u32,
}

impl Default for Defaults {
    /// 4096 tokens: every release of the runtime takes it, and its KV cache fits the smallest
    /// boards beside a model of 4 billion parameters.
    fn default() -> Self {
        Self { context_tokens_max: 4096 }
    }
}

/// The models in the folders below a root.
///
/// The list is read at [`Store::open`] and [`Store::rescan`]; between those, nothing a client
/// says causes a look at the disk but [`Models::text_files`] of a model in the list.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    defaults: Defaults,
    /// Sorted by id. Replaced as a whole, so readers hold the lock for one clone.
    folders: RwLock<Arc<[Arc<Folder>]>>,
}

impl Store {
    /// Reads the root. A root that does not exist is an empty store, and is not created.
    pub fn open(root: PathBuf, defaults: Defaults) -> Self {
        let folders = RwLock::new(scan(&root, &defaults));
        Self { root, defaults, folders }
    }

    /// Reads the root again: models that came, went or changed. Blocks on the disk.
    pub fn rescan(&self) {
        let folders = scan(&self.root, &self.defaults);
        *self.folders.write().unwrap_or_else(PoisonError::into_inner) = folders;
    }

    /// Where the models lie.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn folders(&self) -> Arc<[Arc<Folder>]> {
        Arc::clone(&self.folders.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Models for Store {
    fn list(&self) -> Vec<Arc<Model>> {
        self.folders().iter().map(|folder| Arc::clone(&folder.model)).collect()
    }

    fn resolve(&self, name: &str) -> Result<Arc<Model>, ModelError> {
        let folders = self.folders();
        names::resolve(&folders, name).map(|folder| Arc::clone(&folder.model))
    }

    fn text_files(&self, model: &Model) -> Result<TextFiles, ModelError> {
        let folders = self.folders();
        let folder = folders
            .iter()
            .find(|folder| folder.model.id == model.id)
            .ok_or_else(|| ModelError::NotFound { name: model.id.clone() })?;
        match folder.text_files() {
            Ok(Ok(files)) => Ok(files),
            Ok(Err(reason)) => Err(ModelError::Incomplete { model: model.id.clone(), reason }),
            Err(err) => Err(ModelError::Unreadable { path: err.path, reason: err.reason }),
        }
    }
}

fn scan(root: &Path, defaults: &Defaults) -> Arc<[Arc<Folder>]> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Arc::default(),
        Err(err) => {
            tracing::warn!(root = %root.display(), %err, "cannot read the models' folder");
            return Arc::default();
        }
    };
    let mut folders: Vec<Arc<Folder>> =
        entries.flatten().filter_map(|entry| scan_folder(&entry.path(), defaults)).collect();
    folders.sort_unstable_by(|a, b| a.model.id.cmp(&b.model.id));
    folders.into()
}

/// A folder, or a link to one that the operator placed there.
fn scan_folder(path: &Path, defaults: &Defaults) -> Option<Arc<Folder>> {
    let Some(id) = path.file_name().and_then(|name| name.to_str()) else {
        tracing::warn!(path = %path.display(), "skipped: its name is not UTF-8");
        return None;
    };
    // Unfinished downloads and other people's bookkeeping.
    if id.starts_with('.') || !path.is_dir() {
        return None;
    }
    Folder::scan(path, id.to_owned(), defaults).map(Arc::new)
}
