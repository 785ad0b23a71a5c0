//! The port through which the APIs change what models there are.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_core::Stream;

use crate::{Message, Model, ModelError};

/// What a change of the models' folder is doing; the last is [`Step::Done`]. Dropping it stops it,
/// unless somebody else waits for the same.
pub type Steps = Pin<Box<dyn Stream<Item = Result<Step, StoreError>> + Send>>;

/// A change of the models' folder that is over soon.
pub type Storing<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// A file that is being sent, in pieces; an error is the connection's.
pub type Upload = Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;

/// How far something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Finding out what there is to fetch.
    Resolving,
    /// A file on its way.
    Fetching {
        /// Its name.
        file: String,
        /// Its SHA-256 in hexadecimal digits, where it is known.
        sha256: Option<String>,
        /// Its size, in bytes.
        total: u64,
        /// As much of it as is here.
        completed: u64,
    },
    /// The files are compared with what they are said to be.
    Verifying,
    /// A file that is here already becomes part of a model.
    Using {
        /// Its name.
        file: String,
        /// Its SHA-256, where it is known.
        sha256: Option<String>,
    },
    /// The model is put into its place.
    Writing,
    /// It is there.
    Done {
        /// The model's id.
        model: String,
    },
}

/// A model to pull.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pull {
    /// As people write it: `org/repo`, `hf.co/org/repo/file.rkllm`, a short name.
    pub source: String,
    /// What it is called here; `None` takes the repository's or the file's name.
    pub name: Option<String>,
    /// The repository to take the tokenizer from; `None` looks for it in the model's own, then where
    /// that says it was made from.
    pub tokenizer: Option<String>,
}

/// A model to make.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Creation {
    /// What it is called.
    pub name: String,
    /// The model it is made from.
    pub from: Option<String>,
    /// Files that were sent before: their paths inside the model, and their digests.
    pub files: Vec<(String, Digest)>,
    /// A LoRA adapter that was sent before: its path and its digest; `None` keeps its parent's.
    pub adapter: Option<(String, Digest)>,
    /// A Modelfile, in either dialect: what it says counts where the rest says nothing, the model it is
    /// made from too.
    pub modelfile: Option<String>,
    /// What it is told before everything else; `None` keeps its parent's.
    pub system: Option<String>,
    /// Its template, in Jinja or in Go's language; `None` keeps its parent's.
    pub template: Option<String>,
    /// Texts or names of licences, besides its parent's.
    pub licenses: Vec<String>,
    /// Turns before each conversation; `None` keeps its parent's.
    pub messages: Option<Vec<Message>>,
    /// What it is made for, in the word that a Modelfile's `MODEL_TYPE` has; `None` keeps its parent's.
    pub model_type: Option<String>,
    /// Parameters by Ollama's names, with their values as JSON text; others stay its parent's.
    pub parameters: Vec<(String, String)>,
}

/// The SHA-256 of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid digest format")]
pub struct InvalidDigest;

/// `sha256:` or `sha256-` and 64 hexadecimal digits.
impl std::str::FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let hex = text.strip_prefix("sha256").ok_or(InvalidDigest)?;
        let hex = hex.strip_prefix([':', '-']).ok_or(InvalidDigest)?.as_bytes();
        let mut bytes = [0; 32];
        if hex.len() != 64 {
            return Err(InvalidDigest);
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidDigest)?;
            if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(InvalidDigest);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidDigest)?;
        }
        Ok(Self(bytes))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The models' folder cannot be changed as it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The model itself is the problem.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A name that no model can have.
    #[error("{name:?} is no name of a model: {reason}")]
    Name {
        /// As the client wrote it.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What was asked for makes no model.
    #[error("{reason}")]
    Refused {
        /// Names the field or the file, and what is wrong with it.
        reason: String,
    },
    /// A file that was not sent.
    #[error("no blob {digest}: send it to /api/blobs first")]
    NoBlob {
        /// Which.
        digest: Digest,
    },
    /// A file that is not what it was said to be.
    #[error("digest mismatch, expected \"{expected}\", got \"{got}\"")]
    Mismatch {
        /// What was said.
        expected: Digest,
        /// What it is.
        got: Digest,
    },
    /// The hub has nothing of this name, or nobody knows the name.
    #[error("{reason}")]
    Absent {
        /// Says what was looked for, and where.
        reason: String,
    },
    /// Several files could be meant.
    #[error("{source_name} holds several models for this chip; name one: {}", choices.join(", "))]
    Choice {
        /// The repository.
        source_name: String,
        /// What can be pulled, each as it is to be asked for.
        choices: Vec<String>,
    },
    /// The hub wants to know who asks, or refuses.
    #[error("{reason}")]
    Forbidden {
        /// Says what to do about it.
        reason: String,
    },
    /// The hub cannot be reached or does not do what it should.
    #[error("{reason}")]
    Hub {
        /// What happened.
        reason: String,
    },
    /// The file does not fit.
    #[error("{reason}")]
    Space {
        /// How much is missing, and where.
        reason: String,
    },
    /// The disk refused.
    #[error("{reason}")]
    Disk {
        /// The path and the system's words.
        reason: String,
    },
}

/// Changes what models there are. Implemented by `rkllama-models`.
pub trait ModelStore: Send + Sync + 'static {
    /// Fetches a model from the hub. Whoever asks for one that is on its way waits for that one.
    fn pull(&self, pull: Pull) -> Steps;

    /// Makes a model of another one or of files.
    fn create(&self, creation: Creation) -> Steps;

    /// Makes a model of another name that is the same as `source`; replaces what had the name.
    fn copy(&self, source: Arc<Model>, destination: String) -> Storing<()>;

    /// Removes a model. Its files are gone when this returns.
    fn delete(&self, model: Arc<Model>) -> Storing<()>;

    /// Whether a file was sent.
    fn has_blob(&self, digest: Digest) -> Storing<bool>;

    /// Takes a file; whether it is a new one.
    fn put_blob(&self, digest: Digest, upload: Upload) -> Storing<bool>;
}
