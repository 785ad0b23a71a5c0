//! A model in the making: a hidden folder of the root, which becomes a model's in one step or leaves
//! no trace.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rkllama_core::StoreError;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use uuid::Uuid;

use crate::{
    files::WEIGHTS_EXTENSION,
    manifest::{self, MANIFEST},
    settings::Settings,
};

/// How folders of models in the making begin, and those of models on their way out.
const NEW: &str = ".new-";
const GONE: &str = ".gone-";
/// The encoders of pictures, whose files are as large as weights.
const ENCODER_EXTENSION: &str = "rknn";

/// What the disk refused.
pub(crate) fn disk(path: &Path, error: &io::Error) -> StoreError {
    let reason = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Space { reason },
        _ => StoreError::Disk { reason },
    }
}

/// Whether a file is so large that it is shared instead of copied.
pub(crate) fn is_large(name: &Path) -> bool {
    let extension = name.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|ext| {
        ext.eq_ignore_ascii_case(WEIGHTS_EXTENSION) || ext.eq_ignore_ascii_case(ENCODER_EXTENSION)
    })
}

/// A folder that is no model yet. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Draft {
    root: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// An empty one below the root, which is made if need be.
    pub(crate) fn begin(root: &Path) -> Result<Self, StoreError> {
        let path = root.join(format!("{NEW}{}", Uuid::new_v4().simple()));
        fs::create_dir_all(&path).map_err(|error| disk(&path, &error))?;
        Ok(Self { root: root.to_owned(), path })
    }

    /// A folder that is full already and lies below the root.
    pub(crate) fn of(root: &Path, path: PathBuf) -> Self {
        Self { root: root.to_owned(), path }
    }

    /// Whether there is such a file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path.join(name).is_file()
    }

    /// Takes a file under this name, in place of one that was there. Weights are linked and use no
    /// space; where they cannot be, and with small files, which people may edit, a copy is made.
    pub(crate) fn take(&self, from: &Path, name: &Path) -> Result<(), StoreError> {
        let to = self.path.join(name);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(|error| disk(parent, &error))?;
        }
        if to.exists() {
            fs::remove_file(&to).map_err(|error| disk(&to, &error))?;
        }
        // A link to a link would lead elsewhere once it lies in another folder.
        let from = fs::canonicalize(from).map_err(|error| disk(from, &error))?;
        if is_large(name) && fs::hard_link(&from, &to).is_ok() {
            return Ok(());
        }
        fs::copy(&from, &to).map(drop).map_err(|error| disk(&to, &error))
    }

    /// Writes what is said about the model.
    pub(crate) fn describe(&self, settings: &Settings) -> Result<(), StoreError> {
        let refused = |reason| StoreError::Refused { reason };
        let text = manifest::print(settings).map_err(refused)?;
        // What is written is what will be read.
        manifest::parse(&text).map_err(refused)?;
        let path = self.path.join(MANIFEST);
        fs::write(&path, text).map_err(|error| disk(&path, &error))
    }

    /// Puts the model into its place, at once: whoever looks sees the old one or the new one. What is
    /// there and is no model stays.
    pub(crate) fn install(self, folder: &str, is_model_there: bool) -> Result<(), StoreError> {
        let place = self.root.join(folder);
        match renameat_with(CWD, &self.path, CWD, &place, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::EXIST) if is_model_there => {}
            Err(rustix::io::Errno::EXIST) => return Err(is_no_model(folder)),
            // A filesystem that cannot say so; what is no empty folder is still not replaced.
            Err(rustix::io::Errno::INVAL) if !place.exists() => {
                return fs::rename(&self.path, &place).map_err(|error| disk(&place, &error));
            }
            Err(rustix::io::Errno::INVAL) if !is_model_there => return Err(is_no_model(folder)),
            Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(disk(&place, &error.into())),
        }
        match renameat_with(CWD, &self.path, CWD, &place, RenameFlags::EXCHANGE) {
            // What is here now is the old one, and goes with this.
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::INVAL) => {
                remove(&self.root, &place)?;
                fs::rename(&self.path, &place).map_err(|error| disk(&place, &error))
            }
            Err(error) => Err(disk(&place, &error.into())),
        }
    }
}

/// Whoever put it there wants to keep it.
pub(crate) fn is_no_model(folder: &str) -> StoreError {
    let reason = format!(
        "the models' folder holds something called '{folder}' that is no model: give this one \
         another name"
    );
    StoreError::Refused { reason }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Installed, there is nothing left; else a later start cleans up.
        let _ = take_away(&self.path);
    }
}

/// Removes a model's folder, or the link to it; what a link leads to stays.
pub(crate) fn remove(root: &Path, place: &Path) -> Result<(), StoreError> {
    let refused = |error| disk(place, &error);
    if place.parent() != Some(root) {
        let reason = format!("{} is not in {}", place.display(), root.display());
        return Err(StoreError::Disk { reason });
    }
    match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
        Ok(found) if !found.is_dir() => return fs::remove_file(place).map_err(refused),
        Ok(_) => {}
    }
    // Gone for everybody at once, whatever comes in between.
    let gone = root.join(format!("{GONE}{}", Uuid::new_v4().simple()));
    fs::rename(place, &gone).map_err(refused)?;
    take_away(&gone).map_err(|error| disk(&gone, &error))
}

fn take_away(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

/// Removes what a server that was killed left in the root, unless it is too young to be surely left.
pub(crate) fn clean_up(root: &Path) {
    let is_ours = |name: &str| name.starts_with(NEW) || name.starts_with(GONE);
    clean_up_older(root, Duration::from_secs(3600), is_ours);
}

/// Removes what is of these names and older than this.
pub(crate) fn clean_up_older(folder: &Path, age_max: Duration, is_ours: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| modified.elapsed().ok());
        let is_ours = entry.file_name().to_str().is_some_and(&is_ours);
        if is_ours && age.is_some_and(|age| age > age_max) {
            let left = take_away(&entry.path());
            tracing::info!(path = %entry.path().display(), ok = left.is_ok(), "removed a leftover");
        }
    }
}
