//! Room on the disk, and checksums of what is on it.

use std::{fs::File, io, io::Read, path::Path};

use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use crate::{HubError, RemoteFile};

/// Left free beside a file, so that a server with a full disk can still write a log.
const SPARE_BYTES: u64 = 16 << 20;
/// Read per blocking task: a dropped future leaves no more than this to be read.
const PIECE_BYTES: u64 = 4 << 20;

pub(crate) fn disk_error(path: &Path) -> impl Fn(io::Error) -> HubError {
    move |err| HubError::Disk { path: path.to_owned(), reason: err.to_string() }
}

/// The length of the file, if it is there already as far as the hub tells what it is.
pub(crate) async fn bytes_there(path: &Path, file: &RemoteFile) -> Result<Option<u64>, HubError> {
    let Ok(metadata) = path.metadata() else { return Ok(None) };
    let fits = file.known_bytes().is_none_or(|bytes| bytes == metadata.len());
    let is_there = match &file.sha256 {
        Some(sha256) if fits && metadata.is_file() => {
            let opened = File::open(path).map_err(disk_error(path))?;
            let (hasher, _) = hash(opened).await.map_err(disk_error(path))?;
            hex(hasher) == *sha256
        }
        Some(_) => false,
        None => fits && metadata.is_file() && file.known_bytes().is_some(),
    };
    Ok(is_there.then_some(metadata.len()))
}

/// Reads a file to its end, a piece per blocking task.
pub(crate) async fn hash(mut file: File) -> io::Result<(Sha256, u64)> {
    let (mut hasher, mut len) = (Sha256::new(), 0);
    loop {
        let read;
        (file, hasher, read) = spawn_blocking(move || hash_piece(file, hasher)).await??;
        len += read;
        if read == 0 {
            return Ok((hasher, len));
        }
    }
}

fn hash_piece(mut file: File, mut hasher: Sha256) -> io::Result<(File, Sha256, u64)> {
    let mut piece = file.by_ref().take(PIECE_BYTES);
    let mut buffer = vec![0; 64 << 10];
    let mut len = 0;
    loop {
        match piece.read(&mut buffer)? {
            0 => return Ok((file, hasher, len)),
            read => {
                hasher.update(&buffer[..read]);
                len += read as u64;
            }
        }
    }
}

pub(crate) fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks that the folder's filesystem holds so many bytes more.
pub(crate) fn check_space(path: &Path, folder: &Path, missing_bytes: u64) -> Result<(), HubError> {
    let stat = rustix::fs::statvfs(folder).map_err(|err| disk_error(folder)(err.into()))?;
    let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
    let needed_bytes = missing_bytes.saturating_add(SPARE_BYTES);
    if needed_bytes > free_bytes {
        return Err(HubError::Space { path: path.to_owned(), needed_bytes, free_bytes });
    }
    Ok(())
}
