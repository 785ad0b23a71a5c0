//! Whether anything that makes up a model has changed, told from sizes and times and not from
//! contents: looking at a hundred models takes a few milliseconds, so it can be done every few
//! seconds.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::{
    files::ENCODER_EXTENSION,
    folder::{CONFIG, TEXT_FILES, files_in, text_file, weights_in},
    generation_config::GENERATION_CONFIG,
    manifest::MANIFEST,
    modelfile::MODELFILE,
};

/// The files of a model as they were when they were looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint(Vec<Seen>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    path: PathBuf,
    /// Size, time and kind; nothing where there is no such file.
    state: Option<(u64, Option<SystemTime>, bool)>,
}

impl Fingerprint {
    /// Looks at a folder.
    pub(crate) fn of(folder: &Path) -> Self {
        // A folder that cannot be read has no weights, which is a state like others.
        let mut weights = weights_in(folder).unwrap_or_default();
        weights.extend(files_in(folder, ENCODER_EXTENSION).unwrap_or_default());
        let weights = weights.into_iter().map(|name| folder.join(name));
        let beside = [MANIFEST, MODELFILE].map(|name| folder.join(name));
        let text = TEXT_FILES.iter().chain([&GENERATION_CONFIG, &CONFIG]);
        let text = text.map(|name| text_file(folder, name));
        Self(beside.into_iter().chain(text).chain(weights).map(Seen::at).collect())
    }

    /// Looks at these files too, which a manifest or a Modelfile names.
    pub(crate) fn and(mut self, named: Vec<PathBuf>) -> Self {
        self.0.extend(named.into_iter().map(Seen::at));
        self
    }
}

impl Seen {
    fn at(path: PathBuf) -> Self {
        let state = fs::metadata(&path)
            .ok()
            .map(|found| (found.len(), found.modified().ok(), found.is_file()));
        Self { path, state }
    }
}
