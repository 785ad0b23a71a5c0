//! Structured output: answers that are valid JSON of a schema whenever they end by themselves.
//!
//! The runtime samples inside a closed library, so nothing can be masked: a token is seen when it
//! has been chosen. But a run can be aborted within a token and started again on any list of
//! tokens, of which the runtime prefills only the new ones, many times faster than it decodes. So
//! each token is shown to a [`GrammarRun`]; at the first byte that breaks the grammar the run is
//! aborted, what is still legal is kept, what the grammar leaves no choice about is put into the
//! prompt, and the model goes on from there. After a bounded number of restarts the answer is
//! closed in the shortest valid way.
//!
//! llguidance follows the text *by bytes*, with a vocabulary of the 256 bytes: a token that was
//! sampled already has only to be checked, and for that its bytes suffice. Masks over a model's
//! vocabulary, for which llguidance is made, would take 120 MB for each tokenizer and serve nothing
//! here. Nothing in a [`Grammar`] depends on a model.

mod error;
mod run;

pub use error::GrammarError;
pub use run::{GrammarRun, Next, RunLimits};

/// What a client's schema may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrammarLimits {
    /// Bytes of one schema as JSON text.
    pub schema_len_max: usize,
}

/// A compiled grammar. Cheap to clone; independent of a model.
#[derive(Clone)]
pub struct Grammar {}

/// A call of a tool as the model writes it: text, JSON, text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<'a> {
    /// What stands before the arguments, with the tool's name.
    pub before: String,
    /// The JSON Schema of the arguments; `None` takes any object.
    pub arguments: Option<&'a str>,
    /// What stands behind the arguments.
    pub after: String,
}

/// Calls of tools as the model writes them: `open call (between call)* close`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Calls<'a> {
    /// What begins the calls.
    pub open: String,
    /// The tools that may be called. Names of control tokens in texts are control tokens.
    pub calls: Vec<Call<'a>>,
    /// What stands between two calls; `None` allows only one.
    pub between: Option<String>,
    /// What ends the calls.
    pub close: String,
}

impl Grammar {
    /// A JSON object.
    pub fn json_object() -> Self {
        todo!()
    }

    /// JSON that validates against this JSON Schema.
    ///
    /// # Errors
    /// [`GrammarError`] of a schema that is invalid, too large or uses what we cannot hold answers to.
    pub fn json_schema(schema: &str) -> Result<Self, GrammarError> {
        let _ = schema;
        todo!()
    }

    /// One or several calls of tools.
    ///
    /// # Errors
    /// As [`Grammar::json_schema`], with the index of the call whose schema it is about.
    pub fn calls(calls: &Calls<'_>) -> Result<Self, (usize, GrammarError)> {
        let _ = calls;
        todo!()
    }
}
