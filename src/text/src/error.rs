//! What can go wrong with a model's text files, and with one conversation.

use rkllama_core::{EngineError, ModelError};

/// A model's files are unusable, or a conversation does not fit them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A file is missing, damaged or lacks something.
    #[error("{file}: {reason}")]
    File {
        /// The file's name inside the model's folder.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A key of a file has a value we cannot use.
    #[error("{file}: key '{key}': {reason}")]
    Key {
        /// The file's name inside the model's folder.
        file: &'static str,
        /// The key.
        key: String,
        /// What it should be.
        reason: String,
    },
    /// The template refused the conversation, in its own words (`raise_exception`).
    #[error("{reason}")]
    Template {
        /// Exactly what the template said.
        reason: String,
    },
    /// The template failed: it uses something we do not have, or expects other values.
    #[error("{file}: cannot render the chat template: {reason}")]
    Render {
        /// The file the template stands in.
        file: &'static str,
        /// What failed, with the template's line.
        reason: String,
    },
    /// A client's token id is none of the model's.
    #[error("the model's vocabulary has no token {id}")]
    UnknownToken {
        /// The id.
        id: i32,
    },
    /// The model was not made to fill in.
    #[error("the model's vocabulary has no marks for filling in")]
    NoInfill,
    /// The tokenizer failed on a text.
    #[error("tokenizer.json: cannot tokenize: {reason}")]
    Tokenize {
        /// The tokenizer's words.
        reason: String,
    },
}

impl TextError {
    /// The error of a model's answer. Only what the template itself says against a conversation
    /// and token ids that do not exist are the client's to mend; everything else the model's files are at fault for.
    pub fn of_model(self, model: &str) -> EngineError {
        match self {
            Self::Template { reason } => EngineError::Template { reason },
            Self::UnknownToken { .. } => EngineError::Prompt { reason: self.to_string() },
            Self::NoInfill => {
                EngineError::Unsupported { model: model.to_owned(), what: "filling in (`suffix`)" }
            }
            Self::File { .. } | Self::Key { .. } | Self::Render { .. } | Self::Tokenize { .. } => {
                let (model, reason) = (model.to_owned(), self.to_string());
                EngineError::Model(ModelError::Incomplete { model, reason })
            }
        }
    }
}
