//! How far the kernel reads ahead on the disk that holds a folder.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{major, minor};

use super::root::Root;

/// The setting of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadAhead {
    /// The disk or partition, such as `nvme0n1p2`.
    pub(crate) device: String,
    /// The setting.
    pub(crate) kib: u64,
    /// The file to change it in.
    pub(crate) file: String,
}

impl ReadAhead {
    /// Finds the disk of a folder, or of the nearest folder above that exists. `None` where the
    /// folder lies on no block device of its own: network, memory, layered file systems.
    pub(crate) fn of(root: &Root, folder: &Path) -> Option<Self> {
        let device = folder.ancestors().find_map(|folder| fs::metadata(folder).ok())?.dev();
        let link = format!("/sys/dev/block/{}:{}", major(device), minor(device));
        let folder = fs::canonicalize(root.path(&link)).ok()?;
        // A partition's queue is its disk's.
        let file = [folder.join(SETTING), folder.parent()?.join(SETTING)]
            .into_iter()
            .find(|file| file.is_file())?;
        let kib = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        let device = folder.file_name()?.to_string_lossy().into_owned();
        Some(Self { device, kib, file: below(root, &file).display().to_string() })
    }
}

const SETTING: &str = "queue/read_ahead_kb";

/// The path as the machine itself has it.
fn below(root: &Root, file: &Path) -> PathBuf {
    let root = fs::canonicalize(root.path("/")).unwrap_or_default();
    Path::new("/").join(file.strip_prefix(&root).unwrap_or(file))
}
