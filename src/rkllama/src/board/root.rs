//! Files of the kernel below a root: `/` in earnest, a folder laid out by a test otherwise.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Most that is read of one file, in bytes. The files of `/proc` and `/sys` that matter here have a
/// few kilobytes; `/proc/cpuinfo` of a machine with hundreds of cores is only read in part.
const TEXT_BYTES_MAX: u64 = 64 << 10;

/// Why something could not be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// There is no such file.
    Absent,
    /// This user may not read it.
    Denied,
    /// The kernel refused, or the text is not what such a file holds.
    Odd(String),
}

impl From<io::Error> for Unseen {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Absent,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Odd(error.to_string()),
        }
    }
}

/// Where the files of the kernel begin.
#[derive(Debug, Clone)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// This machine's.
    pub(crate) fn system() -> Self {
        Self(PathBuf::from("/"))
    }

    /// Another tree's.
    #[cfg(test)]
    pub(crate) fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Where an absolute path lies below this root.
    pub(crate) fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.0.join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// Whether there is such a file or folder. One behind a folder that may not be read is not.
    pub(crate) fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// A file's text without the white space around it.
    pub(crate) fn text(&self, path: impl AsRef<Path>) -> Result<String, Unseen> {
        let mut bytes = Vec::new();
        File::open(self.path(path))?.take(TEXT_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// A file that holds one whole number.
    pub(crate) fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.text(path).ok()?.parse().ok()
    }

    /// The names in a folder, sorted; none where it cannot be read.
    pub(crate) fn names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(folder)) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}
