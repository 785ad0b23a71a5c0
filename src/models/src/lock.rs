//! Folders of one server at a time, where several have the same root.
//!
//! The system's own advisory locks on the folders themselves: nothing is left lying about, and a server
//! that dies holds none. Where a filesystem has none, everything goes on as with one server.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

/// How often a folder that another server has is asked for.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// A folder that no other server has. Dropped, it is free.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "it is the lock")] Option<File>);

/// Waits for the folder, which is made if need be. Blocks.
pub(crate) fn wait_for(folder: &Path) -> io::Result<Held> {
    fs::create_dir_all(folder)?;
    let file = File::open(folder)?;
    match file.lock() {
        Ok(()) => Ok(Held(Some(file))),
        Err(error) => Ok(without(folder, &error)),
    }
}

/// Waits for the folder, which is made if need be; whether another had it is told once to `told`.
pub(crate) async fn wait_for_patiently(folder: &Path, told: impl FnOnce()) -> io::Result<Held> {
    let mut told = Some(told);
    loop {
        if let Some(held) = try_for(folder)? {
            return Ok(held);
        }
        if let Some(told) = told.take() {
            told();
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// The folder, unless another has it.
pub(crate) fn try_for(folder: &Path) -> io::Result<Option<Held>> {
    fs::create_dir_all(folder)?;
    let file = File::open(folder)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Ok(Some(without(folder, &error))),
    }
    // Whoever had it may have moved it away meanwhile: then it is no longer what is asked for.
    let id = |found: &fs::Metadata| (found.dev(), found.ino());
    let is_there = fs::metadata(folder)
        .is_ok_and(|there| file.metadata().is_ok_and(|ours| id(&ours) == id(&there)));
    Ok(is_there.then_some(Held(Some(file))))
}

fn without(folder: &Path, error: &io::Error) -> Held {
    tracing::debug!(folder = %folder.display(), %error, "no locks here");
    Held(None)
}
