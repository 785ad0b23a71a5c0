//! One answer held to a grammar: the loop around the model, without the model.
//!
//! ```text
//!             opening()                    token() / end_of_sequence()
//!   prompt ─────────────▶ run of the model ───────────────┬─▶ Continue: the run goes on
//!                                 ▲                       ├─▶ Finish:   abort, `stop`
//!                                 └── prompt + answer ◀───┴─▶ Restart:  abort, run again
//! ```
//!
//! The tokens that the model chose stay as they are: they are in the runtime's KV cache. What is put
//! behind them is tokenized together with the last of them, so that it becomes what the model would have
//! seen in training, wherever that agrees with the tokens that are there.

use std::{fmt, sync::Arc};

use super::{Grammar, GrammarError, form::FormText};
use crate::Codec;

/// How an answer goes on. The text is what the client gets now: whole characters, maybe none.
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

/// Open arrays and objects, beyond which the answer is completed: many parsers take 128.
const DEPTH_MAX: usize = 80;

/// Tokens before an insertion with which it is tokenized.
const CONTEXT_TOKENS_MAX: usize = 16;

/// An answer in the making.
pub struct GrammarRun {
    codec: Arc<Codec>,
    limits: RunLimits,
    text: FormText,
    /// Bytes of a character that is not whole yet.
    tail: Vec<u8>,
    /// How much of the text the client has.
    sent_len: usize,
    /// The tokens of the text up to the last mark.
    tokens: Vec<i32>,
    /// Where tokens and text are known to agree: so many tokens are so many bytes.
    marks: Vec<(usize, usize)>,
    /// Tokens behind the last mark; `None` if the runtime did not tell one's id.
    open: Option<Vec<i32>>,
    restarts: u32,
    /// Restarts since the model added something, and the length of the text at the last.
    barren: u32,
    restarted_len: usize,
}

impl GrammarRun {
    /// Begins where the answer does, or anywhere in it: behind a block of thought, say.
    ///
    /// # Errors
    /// [`GrammarError::Lost`].
    pub fn new(
        grammar: &Grammar,
        codec: Arc<Codec>,
        limits: RunLimits,
    ) -> Result<Self, GrammarError> {
        Ok(Self {
            codec,
            limits,
            text: FormText::new(Arc::clone(&grammar.form))?,
            tail: Vec::new(),
            sent_len: 0,
            tokens: Vec::new(),
            marks: vec![(0, 0)],
            open: Some(Vec::new()),
            restarts: 0,
            barren: 0,
            restarted_len: 0,
        })
    }

    /// What the grammar begins with, whatever the model says: `Continue` without text if nothing,
    /// else `Restart`, before there was a run; `Finish` if only one answer is possible.
    ///
    /// # Errors
    /// [`GrammarError::Lost`].
    pub fn opening(&mut self) -> Result<Next, GrammarError> {
        self.text.force()?;
        if self.text.text().is_empty() {
            return Ok(Next::Continue { text: String::new() });
        }
        self.go_on()
    }

    /// Begins with the call of this index, which the model has chosen already: as
    /// [`opening`](Self::opening).
    ///
    /// # Errors
    /// [`GrammarError::Lost`], also if there is no such call.
    pub fn begin_call(&mut self, call: usize) -> Result<Next, GrammarError> {
        let beginning = self.text.beginning_of(call).unwrap_or_default();
        let taken = self.text.take(beginning.as_bytes())?;
        if beginning.is_empty() || taken.len < beginning.len() {
            return Err(GrammarError::Lost { reason: format!("no call {call} can begin") });
        }
        self.text.force()?;
        self.go_on()
    }

    /// Takes a token that the model generated: its id, negative if the runtime does not tell, and
    /// its bytes, which may be none or parts of characters. A control token's bytes are not looked
    /// at; where the grammar has none it is an [end of sequence](Self::end_of_sequence).
    ///
    /// # Errors
    /// [`GrammarError::Lost`].
    pub fn token(&mut self, id: i32, bytes: &[u8]) -> Result<Next, GrammarError> {
        let codec = Arc::clone(&self.codec);
        let bytes = match codec.control_token(id) {
            Some(name) if self.text.is_fixed_next(name) => name.as_bytes(),
            Some(_) => return self.end_of_sequence(),
            None => bytes,
        };
        match &mut self.open {
            Some(open) if id >= 0 => open.push(id),
            _ => self.open = None,
        }
        let bytes = [self.tail.as_slice(), bytes].concat();
        let taken = self.text.take(&bytes)?;
        let rest = &bytes[taken.len..];
        if !taken.is_legal {
            return self.recover(rest);
        }
        self.tail = rest.to_vec();
        if self.tail.is_empty() && !bytes.is_empty() {
            self.mark()?;
        }
        if let Some(rest) = self.text.fixed_rest() {
            self.text.take(rest.as_bytes())?;
        }
        if self.text.is_complete() {
            return self.finish();
        }
        if self.text.depth() > DEPTH_MAX {
            let rest = self.text.completion()?;
            return self.complete_with(&rest);
        }
        Ok(Next::Continue { text: self.send() })
    }

    /// The model wants to end: never `Continue`.
    ///
    /// # Errors
    /// [`GrammarError::Lost`].
    pub fn end_of_sequence(&mut self) -> Result<Next, GrammarError> {
        self.recover(&[])
    }

    /// The shortest text that makes the answer complete, or nearly so. It is not taken.
    ///
    /// # Errors
    /// [`GrammarError::Lost`].
    pub fn shortest_completion(&mut self) -> Result<String, GrammarError> {
        self.text.completion()
    }

    /// All tokens of the answer so far: generated and put there. After `Finish` all of the text.
    pub fn answer(&self) -> &[i32] {
        &self.tokens
    }

    /// Restarts so far, without the opening.
    pub const fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Goes on from the last legal text, where the model wanted to say something else.
    fn recover(&mut self, rejected: &[u8]) -> Result<Next, GrammarError> {
        self.tail.clear();
        self.open = None;
        if self.text.can_end()? {
            return self.finish();
        }
        self.barren = match self.text.text().len() > self.restarted_len {
            true => 0,
            false => self.barren + 1,
        };
        if self.restarts >= self.limits.restarts_max
            || self.barren > self.limits.barren_restarts_max
        {
            let rest = self.text.completion()?;
            return self.complete_with(&rest);
        }
        let before = self.text.text().len();
        let marked = self.marks.last().map_or(0, |(_, len)| *len);
        self.take_escaped(rejected)?;
        if self.text.text().len() == before {
            self.text.force()?;
        }
        if self.text.text().len() == marked {
            self.step()?;
        }
        self.restarts += 1;
        self.go_on()
    }

    /// Takes control characters in a string as they are written in JSON. Models often forget to.
    fn take_escaped(&mut self, rejected: &[u8]) -> Result<(), GrammarError> {
        let is_control = rejected.first().is_some_and(|byte| byte.is_ascii_control());
        if !is_control || !self.text.in_string() {
            return Ok(());
        }
        for character in String::from_utf8_lossy(rejected).chars() {
            let escaped = match character {
                '\0'..='\u{1f}' => serde_json::Value::from(character.to_string()).to_string(),
                _ => character.to_string(),
            };
            let escaped = escaped.trim_matches('"');
            if escaped.is_empty() || self.text.take(escaped.as_bytes())?.len < escaped.len() {
                break;
            }
        }
        Ok(())
    }

    /// Takes one character of the shortest completion and what follows from it.
    fn step(&mut self) -> Result<(), GrammarError> {
        let completion = self.text.completion()?;
        let Some(first) = completion.chars().next() else { return Ok(()) };
        self.text.take(first.to_string().as_bytes())?;
        self.text.force()
    }

    /// Completes the answer with text that is known to be legal.
    fn complete_with(&mut self, rest: &str) -> Result<Next, GrammarError> {
        self.text.take(rest.as_bytes())?;
        if !self.text.can_end()? {
            return Err(GrammarError::Lost { reason: "a completion was refused".to_owned() });
        }
        self.finish()
    }

    fn go_on(&mut self) -> Result<Next, GrammarError> {
        if let Some(rest) = self.text.fixed_rest() {
            self.text.take(rest.as_bytes())?;
        }
        if self.text.is_complete() {
            return self.finish();
        }
        self.tokenize()?;
        self.restarted_len = self.text.text().len();
        Ok(Next::Restart { text: self.send(), answer: self.tokens.clone() })
    }

    fn finish(&mut self) -> Result<Next, GrammarError> {
        self.tokenize()?;
        Ok(Next::Finish { text: self.send() })
    }

    fn send(&mut self) -> String {
        let text = self.text.text()[self.sent_len..].to_owned();
        self.sent_len = self.text.text().len();
        text
    }

    /// Text and tokens are at a common end.
    fn mark(&mut self) -> Result<(), GrammarError> {
        match self.open.replace(Vec::new()) {
            Some(open) => {
                self.tokens.extend(open);
                self.marks.push((self.tokens.len(), self.text.text().len()));
                Ok(())
            }
            None => self.tokenize(),
        }
    }

    /// Gives the text behind the last mark its tokens.
    fn tokenize(&mut self) -> Result<(), GrammarError> {
        self.open = Some(Vec::new());
        let (_, from) = self.marks.last().copied().unwrap_or_default();
        let len = self.text.text().len();
        if from == len {
            return Ok(());
        }
        let ids = self.ids_from(from)?;
        self.tokens.extend(ids);
        self.marks.push((self.tokens.len(), len));
        Ok(())
    }

    fn ids_from(&self, from: usize) -> Result<Vec<i32>, GrammarError> {
        let failed = |err: crate::TextError| GrammarError::Lost { reason: err.to_string() };
        let first = self.tokens.len().saturating_sub(CONTEXT_TOKENS_MAX);
        for (count, len) in self.marks.iter().filter(|(count, len)| *count >= first && *len < from)
        {
            let context = &self.tokens[*count..];
            let ids = self.codec.ids_of_parts(&self.text.parts(*len)).map_err(failed)?;
            if ids.starts_with(context) {
                return Ok(ids[context.len()..].to_vec());
            }
        }
        self.codec.ids_of_parts_alone(&self.text.parts(from)).map_err(failed)
    }
}

impl fmt::Debug for GrammarRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarRun")
            .field("text", &self.text.text())
            .field("restarts", &self.restarts)
            .finish_non_exhaustive()
    }
}
