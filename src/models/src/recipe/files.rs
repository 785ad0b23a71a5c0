//! The files of a model that lies on a client's disk.

use std::path::{Path, PathBuf};

use crate::{
    draft::is_large,
    files::WEIGHTS_EXTENSION,
    folder::{text_file, weights_in},
    make::small_files,
};

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// What it is called in the model.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// The files that a model made of this folder, or of this `.rkllm` file, has: weights, encoders, and what
/// is said about text, which may lie in `tokenizer/`. `None` for a folder without weights. `adapter` is a
/// file that is no model, wherever it lies.
///
/// # Errors
/// Names what is no model, or what there is too much of.
pub fn model_files(path: &Path, adapter: Option<&Path>) -> Result<Option<Vec<ModelFile>>, String> {
    let weights_in = |folder: &Path| {
        let mut found = weights_in(folder).map_err(|error| error.to_string())?;
        found
            .retain(|name| adapter.is_none_or(|adapter| !is_one_file(adapter, &folder.join(name))));
        Ok::<_, String>(found)
    };
    let (folder, weights) = if path.is_dir() {
        let found = weights_in(path)?;
        match found.as_slice() {
            [] => return Ok(None),
            [only] => (path, only.clone()),
            several => {
                let (shown, names) = (path.display(), several.join(", "));
                return Err(format!("{shown} holds several models, name one: {names}"));
            }
        }
    } else {
        (path.parent().unwrap_or(Path::new("")), name_of_weights(path)?)
    };
    let mut files = vec![ModelFile { path: folder.join(&weights), name: weights }];
    // An encoder beside several models is nobody knows whose.
    if weights_in(folder).is_ok_and(|found| found.len() == 1) {
        files.extend(encoders_in(folder));
    }
    for name in small_files() {
        let path = text_file(folder, name);
        if path.is_file() {
            files.push(ModelFile { name: name.to_owned(), path });
        }
    }
    Ok(Some(files))
}

/// The adapter that is named: this file, or the only one of its kind in this folder.
///
/// # Errors
/// Names what is no adapter, or what there is too much of.
pub fn adapter_file(path: &Path) -> Result<ModelFile, String> {
    if !path.is_dir() {
        let name = name_of_weights(path).map_err(|_| {
            format!(
                "{} is no adapter for this runtime: it takes .{WEIGHTS_EXTENSION} files, which \
                 RKLLM-Toolkit makes",
                path.display()
            )
        })?;
        return Ok(ModelFile { path: path.to_owned(), name });
    }
    let found = weights_in(path).map_err(|error| error.to_string())?;
    match found.as_slice() {
        [only] => Ok(ModelFile { path: path.join(only), name: only.clone() }),
        [] => Err(format!("{} holds no .{WEIGHTS_EXTENSION} file", path.display())),
        several => Err(format!(
            "{} holds several adapters, name one: {}",
            path.display(),
            several.join(", ")
        )),
    }
}

/// Whether both names lead to the same file.
fn is_one_file(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| path.canonicalize();
    place(one).is_ok_and(|one| place(other).is_ok_and(|other| one == other))
}

fn name_of_weights(path: &Path) -> Result<String, String> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let is_weights = extension.is_some_and(|ext| ext.eq_ignore_ascii_case(WEIGHTS_EXTENSION));
    let name = path.file_name().and_then(|name| name.to_str());
    name.filter(|_| is_weights).map(str::to_owned).ok_or_else(|| {
        format!(
            "{} is no model for this runtime: it runs .{WEIGHTS_EXTENSION} files, which \
             RKLLM-Toolkit makes",
            path.display()
        )
    })
}

/// What is as large as weights and is none, sorted.
fn encoders_in(folder: &Path) -> Vec<ModelFile> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let file = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        let is_encoder = is_large(&path) && name_of_weights(&path).is_err() && path.is_file();
        is_encoder.then_some(ModelFile { name, path })
    };
    let mut files: Vec<ModelFile> = entries.filter_map(|entry| file(entry.path())).collect();
    files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    files
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(paths: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in paths {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    fn names(path: &Path) -> Vec<String> {
        let files = model_files(path, None).unwrap().unwrap();
        assert!(files.iter().all(|file| file.path.is_file()), "{files:?}");
        files.into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn a_folder_has_all_that_a_model_may_have() {
        let dir = folder(&[
            "m.rkllm",
            "vision.rknn",
            "tokenizer/tokenizer.json",
            "tokenizer_config.json",
            "tokenizer/tokenizer_config.json",
            "config.json",
            "Modelfile",
            "notes.txt",
        ]);
        let all =
            ["m.rkllm", "vision.rknn", "tokenizer.json", "tokenizer_config.json", "config.json"];
        assert_eq!(names(dir.path()), all);
        assert_eq!(names(&dir.path().join("m.rkllm")), all);
        let files = model_files(dir.path(), None).unwrap().unwrap();
        assert_eq!(files[3].path, dir.path().join("tokenizer_config.json"));
    }

    #[test]
    fn of_several_models_one_is_named() {
        let dir = folder(&["a.rkllm", "b.rkllm", "vision.rknn", "tokenizer.json"]);
        let error = model_files(dir.path(), None).unwrap_err();
        assert!(error.ends_with("name one: a.rkllm, b.rkllm"), "{error}");
        assert_eq!(names(&dir.path().join("b.rkllm")), ["b.rkllm", "tokenizer.json"]);
    }

    #[test]
    fn what_has_no_weights_is_no_model() {
        let dir = folder(&["tokenizer.json", "x.gguf"]);
        assert_eq!(model_files(dir.path(), None), Ok(None));
        let error = model_files(&dir.path().join("x.gguf"), None).unwrap_err();
        assert!(error.contains("x.gguf is no model"), "{error}");
    }
}
