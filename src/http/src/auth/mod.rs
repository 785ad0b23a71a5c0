//! API keys: who may ask, how often, and how much at once.
//!
//! ```text
//!   request -> Guard -> key? -> known? -> its limits? -> the API, which finds the key's name
//!                       401     401       429            in Caller
//! ```
//!
//! Without any key everybody is let in, whatever they send. The keys are a handle: whoever holds
//! it can replace them while the server runs.

mod caller;
mod guard;
mod keys;
mod usage;

pub use caller::Caller;
pub use guard::Guard;
pub use keys::{ApiKey, InvalidDigest, KeyLimits, Keys};

use poem::{error::ResponseError, http::StatusCode};

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It carries no key.
    #[error("no API key")]
    Missing,
    /// Its key is none of ours.
    #[error("an unknown API key")]
    Unknown {
        /// The key's beginning, so that its owner knows which one it was.
        hint: String,
    },
    /// Its key has asked too often.
    #[error("more than {per_minute} requests in a minute with the key '{key}'")]
    TooOften {
        /// The key's name.
        key: String,
        /// Its limit.
        per_minute: u32,
        /// Seconds until it may ask again.
        retry_after_s: u32,
    },
    /// Its key is in use so often that there is no place left.
    #[error("more than {concurrent_max} requests at once with the key '{key}'")]
    TooMany {
        /// The key's name.
        key: String,
        /// Its limit.
        concurrent_max: u32,
        /// Seconds after which it makes sense to ask again.
        retry_after_s: u32,
    },
}

impl AuthError {
    /// Seconds after which it makes sense to ask again, where it does.
    pub const fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Missing | Self::Unknown { .. } => None,
            Self::TooOften { retry_after_s, .. } | Self::TooMany { retry_after_s, .. } => {
                Some(*retry_after_s)
            }
        }
    }
}

impl ResponseError for AuthError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Missing | Self::Unknown { .. } => StatusCode::UNAUTHORIZED,
            Self::TooOften { .. } | Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        }
    }
}
