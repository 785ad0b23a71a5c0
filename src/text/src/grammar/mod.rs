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
//!
//! Measured optimised on a busy 2.5 GHz x86-64 (`tests/text/grammar/measure.rs`): an ordinary schema
//! compiles in 0.5 ms and one of 36 kB in 40 ms; a token takes 1 to 14 µs (4 ms at worst on a busy
//! machine), a restart 0.1 ms; a grammar holds up to 100 kB, an answer of 4,700 tokens 200 kB.

mod disjoint;
mod error;
mod form;
mod json;
mod run;
mod scan;
mod schema;
mod shortest;

use std::{fmt, sync::Arc};

pub use error::GrammarError;
use form::{Form, FormCall};
use json::JsonGrammar;
pub use run::{GrammarRun, Next, RunLimits};

/// What a client's schema may cost. More is [`GrammarError::TooLarge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrammarLimits {
    /// Bytes of one schema as JSON text. OpenAI allows 120,000 characters of names and constants.
    pub schema_len_max: usize,
    /// Arrays and objects inside each other in the schema's text. OpenAI allows ten levels of
    /// objects, each of which takes two.
    pub depth_max: usize,
    /// Schemas inside the schema.
    pub schemas_max: usize,
    /// Properties of one object: the compiler recurses over them.
    pub properties_max: usize,
    /// Schemas in one list (`anyOf`, `allOf` …).
    pub options_max: usize,
    /// Constants of all `enum` and `const` together.
    pub values_max: usize,
    /// Bytes of a `pattern`.
    pub pattern_len_max: usize,
    /// The greatest `minLength`: so much is written for a model that writes nothing.
    pub length_min_max: usize,
    /// The greatest `minItems` and `minProperties`.
    pub items_min_max: usize,
    /// What greater upper limits in a schema are taken to be.
    pub count_max: usize,
}

impl Default for GrammarLimits {
    fn default() -> Self {
        Self {
            schema_len_max: 256 * 1024,
            depth_max: 48,
            schemas_max: 5_000,
            properties_max: 500,
            options_max: 200,
            values_max: 2_000,
            pattern_len_max: 1_000,
            length_min_max: 1_000,
            items_min_max: 256,
            count_max: 16_384,
        }
    }
}

/// A compiled grammar. Cheap to clone; independent of a model.
#[derive(Clone)]
pub struct Grammar {
    form: Arc<Form>,
}

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
    /// The tools that may be called; names of control tokens in the texts are control tokens.
    pub calls: Vec<Call<'a>>,
    /// What stands between two calls; `None` allows only one.
    pub between: Option<String>,
    /// What ends the calls.
    pub close: String,
}

const ANY_OBJECT: &str = r#"{"type": "object"}"#;

impl Grammar {
    /// A JSON object.
    ///
    /// # Errors
    /// None that can be foreseen.
    pub fn json_object() -> Result<Self, GrammarError> {
        Self::json_schema(ANY_OBJECT, &GrammarLimits::default())
    }

    /// JSON that validates against this JSON Schema, whose root may be of any type.
    ///
    /// # Errors
    /// [`GrammarError`] of a schema that is invalid, too large or uses what no answer can be held to.
    pub fn json_schema(schema: &str, limits: &GrammarLimits) -> Result<Self, GrammarError> {
        let json = JsonGrammar::compile(schema, limits)?;
        let call = FormCall { before: String::new(), json, after: String::new() };
        let (open, close) = (String::new(), String::new());
        Ok(Self { form: Arc::new(Form { open, calls: vec![call], between: None, close }) })
    }

    /// Calls of tools. There must be one to choose from.
    ///
    /// # Errors
    /// As [`Grammar::json_schema`], with the index of the call whose arguments it is about.
    pub fn calls(calls: &Calls<'_>, limits: &GrammarLimits) -> Result<Self, (usize, GrammarError)> {
        let compile = |(index, call): (usize, &Call<'_>)| {
            let json = JsonGrammar::compile(call.arguments.unwrap_or(ANY_OBJECT), limits)
                .map_err(|err| (index, err))?;
            Ok(FormCall { before: call.before.clone(), json, after: call.after.clone() })
        };
        let compiled: Result<Vec<_>, _> = calls.calls.iter().enumerate().map(compile).collect();
        let form = Form {
            open: calls.open.clone(),
            calls: compiled?,
            between: calls.between.clone(),
            close: calls.close.clone(),
        };
        Ok(Self { form: Arc::new(form) })
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}
