//! The hub as the server sees it: three questions.

use std::{fmt, io, path::Path, pin::pin, sync::Arc};

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::{
    HubConfig, HubError, RemoteFile, Repository,
    attempts::{Attempts, Fault},
    disk::{bytes_there, disk_error, hex},
    link::{Link, Question},
    part::{Part, folder_of},
    repository::{is_commit, is_id, is_plain_path, is_revision, is_sha256},
    transfer::Transfer,
};

/// The list of a repository's files: one of 10,000 takes 3 MB, and those who quantize models
/// stay far below that.
const LISTING_BYTES_MAX: u64 = 16 << 20;

/// A client of the hub. Clones share it, and it connects when first asked.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    config: HubConfig,
    link: OnceCell<Link>,
}

impl Hub {
    /// Nothing is sent before the first question.
    pub fn new(config: HubConfig) -> Self {
        Self { shared: Arc::new(Shared { config, link: OnceCell::new() }) }
    }

    /// What a repository holds. `revision` is a branch, tag or commit; `None` is `main`.
    ///
    /// # Errors
    /// [`HubError`]; of a name that can be none, [`HubError::NotFound`] without asking.
    pub async fn repository(
        &self,
        id: &str,
        revision: Option<&str>,
    ) -> Result<Repository, HubError> {
        let link = self.link().await?;
        let question = link.about_repository(id, revision);
        if !is_id(id) || !revision.is_none_or(is_revision) {
            return Err(HubError::NotFound { what: question.what });
        }
        let json = read(link, &question, LISTING_BYTES_MAX).await?;
        Repository::read(id, &json)
    }

    /// A small text file, of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`HubError::TooLarge`] without asking where the hub tells the length;
    /// [`HubError::Malformed`] if it is not UTF-8.
    pub async fn text(
        &self,
        repository: &Repository,
        file: &RemoteFile,
        bytes_max: u64,
    ) -> Result<String, HubError> {
        let link = self.link().await?;
        let question = question(link, repository, file)?;
        if file.bytes > bytes_max {
            return Err(HubError::TooLarge { file: question.what, bytes_max });
        }
        let bytes = read(link, &question, bytes_max).await?;
        check(&question, file, &bytes)?;
        String::from_utf8(bytes).map_err(|err| HubError::Malformed {
            what: question.what,
            reason: err.utf8_error().to_string(),
        })
    }

    /// Brings a file to `path`, and its folder if there is none. An interrupted one goes on where
    /// it stopped, from a part that stands beside `path`; a file that is there and right is kept
    /// without asking. Two calls for one `path` must not run at the same time.
    ///
    /// `progress` hears how many bytes are there: first those of before, then as they come. The
    /// number falls where the hub makes the transfer start over.
    ///
    /// Dropping the future stops everything and keeps the part.
    ///
    /// # Errors
    /// [`HubError`]. The part is kept unless its content is known to be wrong: the checksum is
    /// another, or more came than the hub announced.
    pub async fn fetch(
        &self,
        repository: &Repository,
        file: &RemoteFile,
        path: &Path,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), HubError> {
        let link = self.link().await?;
        let question = question(link, repository, file)?;
        if let Some(bytes) = bytes_there(path, file).await? {
            progress(bytes);
            return Ok(());
        }
        if path.is_dir() {
            return Err(disk_error(path)(io::ErrorKind::IsADirectory.into()));
        }
        tokio::fs::create_dir_all(folder_of(path)).await.map_err(disk_error(path))?;
        let version = file.sha256.as_ref().unwrap_or(&repository.revision);
        let part = Part::open(path, version).await?;
        let bytes = file.known_bytes();
        Transfer { link, question, file, path, bytes, progress }.run(part).await
    }

    async fn link(&self) -> Result<&Link, HubError> {
        let Shared { config, link } = &*self.shared;
        if config.is_offline {
            return Err(HubError::Offline);
        }
        link.get_or_try_init(async || Link::new(config)).await
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hub").field(&self.shared.config).finish()
    }
}

/// The types of a listing are public: what they hold may come from elsewhere, and becomes
/// addresses and, of the versions, names of parts.
fn question(link: &Link, repository: &Repository, file: &RemoteFile) -> Result<Question, HubError> {
    let question = link.about_file(repository, file);
    let has_version =
        is_commit(&repository.revision) && file.sha256.as_deref().is_none_or(is_sha256);
    if is_id(&repository.id) && is_plain_path(&file.path) && has_version {
        Ok(question)
    } else {
        Err(HubError::NotFound { what: question.what })
    }
}

/// Reads an answer into memory.
async fn read(link: &Link, question: &Question, bytes_max: u64) -> Result<Vec<u8>, HubError> {
    let mut attempts = Attempts::new(&question.what, &link.patience);
    loop {
        match read_once(link, question, bytes_max).await {
            Ok(bytes) => return Ok(bytes),
            Err(fault) => attempts.wait(fault).await?,
        }
    }
}

async fn read_once(link: &Link, question: &Question, bytes_max: u64) -> Result<Vec<u8>, Fault> {
    let answer = link.ask(question, 0).await?;
    let mut body = pin!(answer.body);
    let mut bytes = Vec::new();
    while let Some(piece) = body.try_next().await? {
        let piece = piece.as_ref();
        if (bytes.len() + piece.len()) as u64 > bytes_max {
            return Err(HubError::TooLarge { file: question.what.clone(), bytes_max }.into());
        }
        bytes.extend_from_slice(piece);
    }
    Ok(bytes)
}

/// Compares what came with what the hub says of it.
fn check(question: &Question, file: &RemoteFile, bytes: &[u8]) -> Result<(), HubError> {
    let (name, got) = (question.what.clone(), bytes.len() as u64);
    if let Some(expected) = file.known_bytes()
        && expected != got
    {
        return Err(HubError::Size { file: name, expected, got });
    }
    let got = hex(Sha256::new_with_prefix(bytes));
    match file.sha256.clone() {
        Some(expected) if expected != got => Err(HubError::Mismatch { file: name, expected, got }),
        _ => Ok(()),
    }
}
