//! The models below one root, as last looked at.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use rkllama_core::{Model, ModelError, ModelState, Models, TextFiles};

use crate::{files::WEIGHTS_EXTENSION, folder::Folder, names};

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
    /// Why the root could not be read the last time.
    root_fault: Mutex<Option<String>>,
}

impl Store {
    /// Reads the root. A root that does not exist is an empty store, and is not created.
    pub fn open(root: PathBuf, defaults: Defaults) -> Self {
        let folders = RwLock::default();
        let store = Self { root, defaults, folders, root_fault: Mutex::default() };
        store.look(|_, _| {});
        store
    }

    /// Looks at the root again: models that came, went or changed. Blocks on the disk.
    ///
    /// A model none of whose files has changed keeps its very record, so that [`Arc::ptr_eq`]
    /// tells whether anything about it may have. Cheap then: sizes and times are compared and no
    /// file is opened.
    pub fn rescan(&self) {
        self.look(report);
    }

    /// Replaces what has changed and tells of each folder with what it was before.
    fn look(&self, tell: impl Fn(Option<&Folder>, Option<&Folder>)) {
        let before = self.folders();
        // A root that cannot be read says nothing about the models in it.
        let Some(after) = self.scan(&before) else { return };
        let same = |(a, b): (&Arc<Folder>, &Arc<Folder>)| Arc::ptr_eq(a, b);
        if before.len() == after.len() && before.iter().zip(&after).all(same) {
            return;
        }
        for folder in &after {
            tell(find(&before, &folder.model.id).map(Arc::as_ref), Some(folder));
        }
        for gone in before.iter().filter(|folder| find(&after, &folder.model.id).is_none()) {
            tell(Some(gone), None);
        }
        *self.folders.write().unwrap_or_else(PoisonError::into_inner) = after.into();
    }

    /// The folders of the root, those that have not changed as they were.
    fn scan(&self, before: &[Arc<Folder>]) -> Option<Vec<Arc<Folder>>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>(),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(err) => Err(err),
        };
        let fault = entries.as_ref().err().map(ToString::to_string);
        let mut last = self.root_fault.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(err) = fault.as_ref().filter(|fault| last.as_ref() != Some(fault)) {
            tracing::warn!(root = %self.root.display(), err, "cannot read the models' folder");
        }
        *last = fault;
        let places = places(entries.ok()?.into_iter().map(|entry| entry.path()));
        let folder = |(path, loose)| scan_folder(path, loose, &self.defaults, before);
        let mut folders: Vec<Arc<Folder>> = places.into_iter().filter_map(folder).collect();
        folders.sort_unstable_by(|a, b| a.model.id.cmp(&b.model.id));
        Some(folders)
    }

    /// Where the models lie.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A model's folder.
    pub(crate) fn folder(&self, id: &str) -> Option<Arc<Folder>> {
        find(&self.folders(), id).cloned()
    }

    /// The folder of the model that has this id, whatever its letters' case.
    pub(crate) fn folder_like(&self, id: &str) -> Option<Arc<Folder>> {
        let folders = self.folders();
        let same = |folder: &&Arc<Folder>| folder.model.id.eq_ignore_ascii_case(id);
        folders.iter().find(same).cloned()
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
        let folder = find(&folders, &model.id)
            .ok_or_else(|| ModelError::NotFound { name: model.id.clone() })?;
        match folder.text_files() {
            Ok(Ok(files)) => Ok(files),
            Ok(Err(reason)) => Err(ModelError::Incomplete { model: model.id.clone(), reason }),
            Err(err) => Err(ModelError::Unreadable { path: err.path, reason: err.reason }),
        }
    }
}

/// One line for each model that came, went, or can or cannot be run any more.
fn report(before: Option<&Folder>, after: Option<&Folder>) {
    let (Some(after), before) = (after, before.map(|folder| &folder.model)) else {
        let model = before.map(|folder| folder.model.id.as_str());
        return tracing::info!(model, "a model went");
    };
    let model = &after.model.id;
    match &after.model.state {
        state if before.is_some_and(|before| before.state == *state) => {
            if before != Some(&after.model) {
                tracing::info!(model, "a model's settings have changed");
            }
        }
        ModelState::Ready => tracing::info!(model, "a model is ready"),
        ModelState::Incomplete(reason) => tracing::warn!(model, reason, "a model is incomplete"),
    }
}

/// The folder of this id among folders that are sorted by it.
fn find<'a>(folders: &'a [Arc<Folder>], id: &str) -> Option<&'a Arc<Folder>> {
    let at = folders.binary_search_by(|folder| folder.model.id.as_str().cmp(id)).ok()?;
    folders.get(at)
}

/// The folders that may be models, each with the weights that lie beside it in the root: a file
/// `x.rkllm` there belongs to the folder `x`, whether that exists or not.
fn places(paths: impl Iterator<Item = PathBuf>) -> BTreeMap<PathBuf, Option<PathBuf>> {
    let mut places: BTreeMap<PathBuf, Option<PathBuf>> = BTreeMap::new();
    for path in paths {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_weights = extension.is_some_and(|ext| ext.eq_ignore_ascii_case(WEIGHTS_EXTENSION));
        if path.is_dir() {
            places.entry(path).or_default();
        } else if is_weights && path.is_file() {
            places.insert(path.with_extension(""), Some(path));
        }
    }
    places
}

/// A folder, or a link to one that the operator placed there.
fn scan_folder(
    path: PathBuf,
    loose: Option<PathBuf>,
    defaults: &Defaults,
    before: &[Arc<Folder>],
) -> Option<Arc<Folder>> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        tracing::debug!(path = %path.display(), "skipped: its name is not UTF-8");
        return None;
    };
    // Unfinished downloads and other people's bookkeeping.
    if name.starts_with('.') {
        return None;
    }
    let id = names::id_of(name);
    match find(before, &id) {
        Some(folder) if !folder.has_changed() => Some(Arc::clone(folder)),
        _ => Folder::scan(&path, loose, id, defaults).map(Arc::new),
    }
}
