//! What is there of a file that is not whole yet.
//!
//! It stands beside the file as `name.KEY.part`. The key is the beginning of the content's
//! checksum or, of small files, of the commit: so a part is only ever gone on with by the same
//! version, and whoever finds one after a crash can tell whose it is.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use tokio::{
    fs::File,
    io::{AsyncSeekExt, AsyncWriteExt, BufWriter},
};

use crate::{
    HubError,
    disk::{disk_error, hash, hex},
};

const KEY_LEN: usize = 16;
/// Written at once. What is lost of it when a future is dropped is fetched again.
const BUFFER_BYTES: usize = 256 << 10;

/// A file that grows.
pub(crate) struct Part {
    path: PathBuf,
    file: BufWriter<File>,
    /// Of all that was written, the buffer included.
    hasher: Sha256,
    len: u64,
}

impl Part {
    /// Opens what is there of this version and removes what is there of others.
    pub(crate) async fn open(path: &Path, version: &str) -> Result<Self, HubError> {
        let key = format!("{version:0>KEY_LEN$.KEY_LEN$}");
        let part = beside(path, &key);
        remove_others(path, &part).map_err(disk_error(path))?;
        Self::open_at(part.clone()).await.map_err(disk_error(&part))
    }

    async fn open_at(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path)?;
        let (hasher, len) = hash(file.try_clone()?).await?;
        // The clone shares the position, which is the end now.
        let file = BufWriter::with_capacity(BUFFER_BYTES, File::from_std(file));
        Ok(Self { path, file, hasher, len })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file.write_all(bytes).await.map_err(disk_error(&self.path))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Starts from nothing.
    pub(crate) async fn clear(&mut self) -> Result<(), HubError> {
        self.clear_file().await.map_err(disk_error(&self.path))?;
        (self.hasher, self.len) = (Sha256::new(), 0);
        Ok(())
    }

    async fn clear_file(&mut self) -> io::Result<()> {
        self.file.rewind().await?;
        self.file.get_ref().set_len(0).await
    }

    /// The checksum of what is there.
    pub(crate) fn sha256(&self) -> String {
        hex(self.hasher.clone())
    }

    /// Leaves what came for the next time; nothing where nothing came.
    pub(crate) async fn keep(mut self) {
        if self.len == 0 {
            if let Err(err) = fs::remove_file(&self.path) {
                tracing::warn!(path = %self.path.display(), %err, "cannot remove an empty part");
            }
        } else if let Err(err) = self.file.flush().await {
            tracing::warn!(path = %self.path.display(), %err, "cannot keep what came");
        }
    }

    /// Gives the file its name once all of it is on the disk.
    pub(crate) async fn finish(mut self, path: &Path) -> Result<(), HubError> {
        self.write_out().await.map_err(disk_error(&self.path))?;
        tokio::fs::rename(&self.path, path).await.map_err(disk_error(path))?;
        // Not every filesystem can. Where the name is lost with the power, the file is fetched again.
        if let Err(err) = sync_folder(path).await {
            tracing::debug!(path = %path.display(), %err, "cannot sync the folder");
        }
        Ok(())
    }

    async fn write_out(&mut self) -> io::Result<()> {
        self.file.flush().await?;
        self.file.get_ref().sync_all().await
    }
}

/// The name is on the disk when its folder is.
async fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path)).await?.sync_all().await
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn beside(path: &Path, key: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{key}.part"));
    path.with_file_name(name)
}

fn remove_others(path: &Path, part: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder_of(path))? {
        let name = entry?.file_name();
        let other = path.with_file_name(&name);
        if other != part && is_part_of(path, &name.to_string_lossy()) {
            fs::remove_file(other)?;
        }
    }
    Ok(())
}

fn is_part_of(path: &Path, name: &str) -> bool {
    let of = path.file_name().unwrap_or_default().to_string_lossy();
    let key =
        name.strip_prefix(&*of).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".part"));
    key.is_some_and(|key| key.len() == KEY_LEN && key.bytes().all(|it| it.is_ascii_alphanumeric()))
}
