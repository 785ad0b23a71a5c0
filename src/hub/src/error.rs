//! What can go wrong, each said in one line with what to do about it.

use std::path::PathBuf;

/// Why nothing came from the hub.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// The configuration says that there is no network.
    #[error("this server is offline: unset HF_HUB_OFFLINE to ask the hub")]
    Offline,
    /// No such repository, revision or file.
    #[error("the hub has no {what}: check the name and its spelling")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// Status 401. The hub says this of what does not exist, too, so as not to give away names.
    #[error(
        "the hub does not let this server read {what}: check the name, or set HF_TOKEN to the \
         token of an account that may"
    )]
    Unauthorized {
        /// What was asked for.
        what: String,
    },
    /// Status 403, or the hub's word that its owner wants to know who reads it.
    #[error(
        "{what} is gated: ask for access at {page} and set HF_TOKEN to a token of that account"
    )]
    Gated {
        /// What was asked for.
        what: String,
        /// Where a person accepts the terms.
        page: String,
    },
    /// Status 429, for longer than the configuration lets anybody wait.
    #[error("the hub lets this server ask no more for now: {}", retry(*.retry_after_s))]
    RateLimited {
        /// Seconds after which to ask again, where the hub says so.
        retry_after_s: Option<u64>,
    },
    /// Any other status that trying again will not change.
    #[error("the hub refuses {what} with status {status}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The status.
        status: u16,
    },
    /// No attempt brought anything. What came before is kept: the next call goes on from there.
    #[error("cannot get {what} from the hub: {reason}; try again when the network is back")]
    Unreachable {
        /// What was asked for.
        what: String,
        /// What ended the last attempt.
        reason: String,
    },
    /// The content is not what the hub announced. What came of it is removed.
    #[error("{file} came damaged, with SHA-256 {got} instead of {expected}: try again")]
    Mismatch {
        /// The file.
        file: String,
        /// In lower case hexadecimal.
        expected: String,
        /// In lower case hexadecimal.
        got: String,
    },
    /// The length is not what the hub announced.
    #[error("{file} has {got} bytes instead of {expected}: try again")]
    Size {
        /// The file.
        file: String,
        /// In bytes.
        expected: u64,
        /// In bytes; where more come, those seen until then.
        got: u64,
    },
    /// More than the caller wants in memory.
    #[error("{file} is larger than {bytes_max} bytes, the most that is read of it")]
    TooLarge {
        /// The file.
        file: String,
        /// In bytes.
        bytes_max: u64,
    },
    /// An answer that is none of the hub's.
    #[error("the answer about {what} is not the hub's: {reason}; check HF_ENDPOINT")]
    Malformed {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk cannot hold the file.
    #[error(
        "{} needs {needed_bytes} bytes and {free_bytes} are free: make room or use another disk",
        path.display()
    )]
    Space {
        /// Where the file was to be.
        path: PathBuf,
        /// What is missing of the file, and some to spare.
        needed_bytes: u64,
        /// What the filesystem has for this user.
        free_bytes: u64,
    },
    /// The disk cannot be read or written.
    #[error("cannot write {}: {reason}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
}

fn retry(retry_after_s: Option<u64>) -> String {
    match retry_after_s {
        Some(seconds) => format!("try again in {seconds} s"),
        None => "try again later".to_owned(),
    }
}
