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
/// is said about text, which may lie in `tokenizer/`. `None` for a folder without weights.
///
/// # Errors
/// Names what is no model, or what there is too much of.
pub fn model_files(path: &Path) -> Result<Option<Vec<ModelFile>>, String> {
    let (folder, weights) = if path.is_dir() {
        let found = weights_in(path).map_err(|error| error.to_string())?;
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
        let files = model_files(path).unwrap().unwrap();
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
        let files = model_files(dir.path()).unwrap().unwrap();
        assert_eq!(files[3].path, dir.path().join("tokenizer_config.json"));
    }

    #[test]
    fn of_several_models_one_is_named() {
        let dir = folder(&["a.rkllm", "b.rkllm", "vision.rknn", "tokenizer.json"]);
        let error = model_files(dir.path()).unwrap_err();
        assert!(error.ends_with("name one: a.rkllm, b.rkllm"), "{error}");
        assert_eq!(names(&dir.path().join("b.rkllm")), ["b.rkllm", "tokenizer.json"]);
    }

    #[test]
    fn what_has_no_weights_is_no_model() {
        let dir = folder(&["tokenizer.json", "x.gguf"]);
        assert_eq!(model_files(dir.path()), Ok(None));
        let error = model_files(&dir.path().join("x.gguf")).unwrap_err();
        assert!(error.contains("x.gguf is no model"), "{error}");
    }
}
