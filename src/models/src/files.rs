//! Reading from the disk, with a limit on everything.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// The largest `tokenizer.json`: Gemma's 262,144 entries take 33 MB, the largest known.
pub(crate) const TOKENIZER_BYTES_MAX: u64 = 64 << 20;
/// The largest configuration file: Gemma's `tokenizer_config.json` takes 1.2 MB.
pub(crate) const CONFIG_BYTES_MAX: u64 = 8 << 20;

/// The weights' extension.
pub(crate) const WEIGHTS_EXTENSION: &str = "rkllm";
/// The extension of the networks that see.
pub(crate) const ENCODER_EXTENSION: &str = "rknn";

/// A file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) path: PathBuf,
    pub(crate) reason: String,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot read {}: {}", self.path.display(), self.reason)
    }
}

/// Reads a whole file; `None` if there is none.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, Unreadable> {
    let unreadable = |reason: String| Unreadable { path: path.to_owned(), reason };
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => {}
        // A pipe of this name would be waited on for ever.
        Ok(_) => return Err(unreadable("not a regular file".to_owned())),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(unreadable(err.to_string())),
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes))
        .map_err(|err| unreadable(err.to_string()))?;
    if bytes.len() as u64 > bytes_max {
        return Err(unreadable(format!("larger than {} MiB", bytes_max >> 20)));
    }
    Ok(Some(bytes))
}

/// Reads a whole text; `None` if there is none.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> Result<Option<String>, Unreadable> {
    let Some(bytes) = read(path, bytes_max)? else { return Ok(None) };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(err) => Err(Unreadable { path: path.to_owned(), reason: err.to_string() }),
    }
}
