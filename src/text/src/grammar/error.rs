//! What can be wrong with a schema, and with following it.

/// A schema cannot be used, or an answer can no longer be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// The schema is not JSON.
    #[error("the schema is not JSON: {reason}")]
    Syntax {
        /// The parser's words.
        reason: String,
    },
    /// A keyword that we cannot hold answers to.
    #[error("the JSON Schema keyword '{keyword}' at '{pointer}' is not supported: {reason}")]
    Unsupported {
        /// The keyword.
        keyword: String,
        /// The JSON pointer of the schema that has it; empty for the root.
        pointer: String,
        /// What about it.
        reason: String,
    },
    /// Something that is no JSON Schema.
    #[error("the JSON Schema is invalid at '{pointer}': {reason}")]
    Invalid {
        /// A JSON pointer; empty for the root.
        pointer: String,
        /// What is wrong there.
        reason: String,
    },
    /// More than one of the limits of [`GrammarLimits`](super::GrammarLimits).
    #[error("the JSON Schema is too large: {reason}")]
    TooLarge {
        /// Which limit.
        reason: String,
    },
    /// A schema that the compiler refuses as a whole: its parts contradict each other, meet in a way that
    /// is not supported, or are together too much.
    #[error("no answer can be held to the JSON Schema: {reason}")]
    Refused {
        /// The compiler's words.
        reason: String,
    },
    /// The answer cannot be followed any longer: its schema is too ambiguous for the limits of a step.
    /// What came before is still the valid beginning of an answer.
    #[error("the answer cannot be held to its JSON Schema any longer: {reason}")]
    Lost {
        /// The parser's words.
        reason: String,
    },
}
