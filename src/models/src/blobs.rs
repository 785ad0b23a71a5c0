//! Files that clients send before they make a model of them, kept by their SHA-256.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::StreamExt;
use rkllama_core::{Digest, StoreError, Upload};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::draft::disk;

/// The folder of the root.
const FOLDER: &str = ".blobs";
/// How files that are still being sent begin.
const PARTIAL: &str = ".upload-";
/// How long a file that no model uses is kept: enough to send the rest and to make the model.
const UNUSED_MAX: Duration = Duration::from_secs(24 * 3600);

/// The files below one root.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    pub(crate) fn below(root: &Path) -> Self {
        Self { folder: root.join(FOLDER) }
    }

    /// Where a file is, if it was sent.
    pub(crate) fn find(&self, digest: Digest) -> Option<PathBuf> {
        Some(self.place(digest)).filter(|place| place.is_file())
    }

    fn place(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string().replace(':', "-"))
    }

    /// Takes a file; whether it is a new one. Nothing of one that breaks off or is another is kept.
    pub(crate) async fn put(&self, digest: Digest, mut upload: Upload) -> Result<bool, StoreError> {
        if self.find(digest).is_some() {
            return Ok(false);
        }
        let partial = Partial(self.folder.join(format!("{PARTIAL}{}", Uuid::new_v4().simple())));
        let failed = |error| disk(&partial.0, &error);
        tokio::fs::create_dir_all(&self.folder).await.map_err(failed)?;
        let file = tokio::fs::File::create(&partial.0).await.map_err(failed)?;
        let mut file = tokio::io::BufWriter::with_capacity(1 << 20, file);
        let mut hash = Sha256::new();
        while let Some(piece) = upload.next().await {
            let piece = piece.map_err(|reason| StoreError::Refused {
                reason: format!("the file broke off: {reason}"),
            })?;
            hash.update(&piece);
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        file.get_ref().sync_all().await.map_err(failed)?;
        let got = Digest(hash.finalize().into());
        if got != digest {
            return Err(StoreError::Mismatch { expected: digest, got });
        }
        tokio::fs::rename(&partial.0, self.place(digest)).await.map_err(failed)?;
        Ok(true)
    }

    /// Removes the files that are these weights too.
    pub(crate) fn forget(&self, weights: &fs::Metadata) {
        for (path, found) in self.all() {
            if (found.dev(), found.ino()) == (weights.dev(), weights.ino()) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Removes files that no model has used for a long time, and what broke off.
    pub(crate) fn clean_up(&self) {
        for (path, found) in self.all() {
            let age = found.modified().ok().and_then(|modified| modified.elapsed().ok());
            if found.nlink() == 1 && age.is_some_and(|age| age > UNUSED_MAX) {
                let gone = fs::remove_file(&path);
                tracing::info!(path = %path.display(), ok = gone.is_ok(), "removed an unused file");
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = (PathBuf, fs::Metadata)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
    }
}

/// A file that is being sent. Dropped, it is gone, unless it has another name by then.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
