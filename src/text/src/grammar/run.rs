//! One answer held to a grammar: the loop around the model, without the model.
//!
//! ```text
//!             opening()                    token() / end_of_sequence()
//!   prompt ─────────────▶ run of the model ───────────────┬─▶ Continue: the run goes on
//!                                 ▲                       ├─▶ Finish:   abort, `stop`
//!                                 └── prompt + answer ◀───┴─▶ Restart:  abort, run again
//! ```

use std::sync::Arc;

use super::{Grammar, GrammarError};
use crate::Codec;

/// How an answer goes on. The text is what the client gets now, whole characters, maybe none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The run goes on.
    Continue {
        /// Text for the client.
        text: String,
    },
    /// The run is to be aborted, and another started on the prompt followed by `answer`.
    Restart {
        /// Text for the client.
        text: String,
        /// All tokens of the answer so far, from the machine's beginning.
        answer: Vec<i32>,
    },
    /// The run is to be aborted if it has not ended, and the answer is complete: `stop`.
    Finish {
        /// Text for the client.
        text: String,
    },
}

/// How much interference an answer may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// Restarts of one answer. The next would-be restart ends it with the shortest valid rest. Each
    /// costs the prefill of a few tokens; a model that needs this many does not follow the schema.
    pub restarts_max: u32,
    /// Restarts in a row to which the model added nothing legal.
    pub barren_restarts_max: u32,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self { restarts_max: 32, barren_restarts_max: 4 }
    }
}

/// An answer in the making.
pub struct GrammarRun {
    codec: Arc<Codec>,
    limits: RunLimits,
}

impl GrammarRun {
    /// Begins where the answer does, or anywhere in it: behind a block of thought, say.
    pub fn new(grammar: &Grammar, codec: Arc<Codec>, limits: RunLimits) -> Self {
        let _ = grammar;
        Self { codec, limits }
    }

    /// What the grammar begins with, whatever the model says: `Continue` without text if nothing,
    /// else `Restart` before there was a run, `Finish` if only one answer is possible.
    ///
    /// # Errors
    /// [`GrammarError::Lost`].
    pub fn opening(&mut self) -> Result<Next, GrammarError> {
        todo!()
    }

    /// Takes a token that the model generated: its id, negative if the runtime does not tell, and
    /// its bytes, which may be none or parts of characters. A control token's bytes are ignored.
    ///
    /// # Errors
    /// [`GrammarError::Lost`].
    pub fn token(&mut self, id: i32, bytes: &[u8]) -> Result<Next, GrammarError> {
        let _ = (id, bytes);
        todo!()
    }

    /// The model wants to end: never `Continue`.
    ///
    /// # Errors
    /// [`GrammarError::Lost`].
    pub fn end_of_sequence(&mut self) -> Result<Next, GrammarError> {
        todo!()
    }

    /// The shortest text that makes the answer complete. It is not taken.
    ///
    /// # Errors
    /// [`GrammarError::Lost`].
    pub fn shortest_completion(&mut self) -> Result<String, GrammarError> {
        todo!()
    }

    /// How many bytes at the beginning of this text could come next: for a choice among several.
    ///
    /// # Errors
    /// [`GrammarError::Lost`].
    pub fn legal_len(&mut self, bytes: &[u8]) -> Result<usize, GrammarError> {
        let _ = bytes;
        todo!()
    }

    /// Restarts so far.
    pub const fn restarts(&self) -> u32 {
        0
    }
}
