//! How bad an error of the domain is for a client, whatever its API's words: the status, and whether
//! and when it makes sense to try again.

use poem::http::StatusCode;
use rkllama_core::{EngineError, ModelError, StoreError};

/// Seconds until a queue may have moved: an answer of a few dozen tokens takes about as long.
const QUEUE_RETRY_AFTER_S: u32 = 5;
/// Seconds until a restarted server answers again.
const RESTART_RETRY_AFTER_S: u32 = 10;

/// What an error means for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// The status of an answer that is nothing but this error.
    pub status: StatusCode,
    /// Seconds after which the client may try again.
    pub retry_after_s: Option<u32>,
    /// Whether it does not go away by itself: who tries again loads a model in vain.
    pub is_lasting: bool,
}

impl Trouble {
    const fn new(status: StatusCode) -> Self {
        Self { status, retry_after_s: None, is_lasting: false }
    }

    const fn until(retry_after_s: u32) -> Self {
        let retry_after_s = Some(retry_after_s);
        Self { retry_after_s, ..Self::new(StatusCode::SERVICE_UNAVAILABLE) }
    }

    const fn lasting() -> Self {
        Self { is_lasting: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE) }
    }
}

impl From<&ModelError> for Trouble {
    fn from(error: &ModelError) -> Self {
        match error {
            ModelError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND),
            ModelError::Ambiguous { .. } => Self::new(StatusCode::BAD_REQUEST),
            ModelError::Incomplete { .. } => Self::lasting(),
            ModelError::Unreadable { .. } => Self::new(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl From<&EngineError> for Trouble {
    fn from(error: &EngineError) -> Self {
        match error {
            EngineError::Model(error) => error.into(),
            EngineError::Template { .. }
            | EngineError::Prompt { .. }
            | EngineError::Format { .. }
            | EngineError::Image { .. }
            | EngineError::Unsupported { .. }
            | EngineError::ContextExceeded { .. } => Self::new(StatusCode::BAD_REQUEST),
            EngineError::QueueFull { .. } | EngineError::QueueTimeout { .. } => {
                Self::until(QUEUE_RETRY_AFTER_S)
            }
            EngineError::Degraded { retry_after_s, .. } => Self::until(*retry_after_s),
            EngineError::ShuttingDown => Self::until(RESTART_RETRY_AFTER_S),
            EngineError::Runtime { .. } | EngineError::Load { .. } => Self::lasting(),
            EngineError::Worker { .. } | EngineError::Run { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

impl From<&StoreError> for Trouble {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Model(error) => error.into(),
            StoreError::Name { .. }
            | StoreError::Refused { .. }
            | StoreError::NoBlob { .. }
            | StoreError::Mismatch { .. }
            | StoreError::Choice { .. } => Self::new(StatusCode::BAD_REQUEST),
            StoreError::Absent { .. } => Self::new(StatusCode::NOT_FOUND),
            StoreError::Forbidden { .. } => Self::new(StatusCode::FORBIDDEN),
            StoreError::Hub { .. } => Self::new(StatusCode::BAD_GATEWAY),
            StoreError::Space { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE),
            StoreError::Disk { .. } => Self::new(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}
