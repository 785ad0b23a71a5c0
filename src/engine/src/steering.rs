//! Holds an answer to a form: JSON of a schema, or a call of a tool.
//!
//! What a model thinks first is its own affair, and so is a call where it may answer or call. Only
//! with the first word of an answer proper does the grammar take over:
//!
//! ```text
//!   Watching ── first word ──▶ Held ── complete ──▶ the answer's end
//!      └────── a call that is free to be made ──▶ Free
//! ```

use std::sync::Arc;

use rkllama_core::{Chat, Event};
use rkllama_protocol::Piece;
use rkllama_text::{
    AnswerParser, Codec, Utf8Assembler,
    grammar::{Grammar, GrammarError, GrammarRun, Next, RunLimits},
};

/// The form of an answer.
#[derive(Debug)]
pub(crate) struct Steering {
    pub(crate) codec: Arc<Codec>,
    pub(crate) grammar: Grammar,
    /// What may come before the form; `None` if nothing may.
    pub(crate) watch: Option<Watch>,
}

/// What may come before the form.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The conversation without its messages: how thoughts and calls are told apart.
    pub(crate) chat: Chat,
    /// The prompt has begun a thought.
    pub(crate) is_thinking: bool,
    /// Calls need no form.
    pub(crate) calls_are_free: bool,
}

/// An answer in the making.
pub(crate) struct Steered<'a> {
    steering: &'a Steering,
    stage: Stage,
    /// Tokens in front of the grammar's.
    before: Vec<i32>,
}

enum Stage {
    Watching(Box<Watching>),
    Free,
    Held(Box<GrammarRun>),
}

/// Tells thoughts and calls from the first word of an answer proper.
struct Watching {
    parser: AnswerParser,
    utf8: Utf8Assembler,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The token is the client's as it is.
    Pass,
    /// The client gets this text, and the run goes on.
    GoOn(String),
    /// The client gets this text, and a run on prompt and [`Steered::tokens`] follows.
    Restart(String),
    /// The client gets this text, which is the end.
    Finish(String),
}

impl Steering {
    /// Begins an answer.
    pub(crate) fn begin(&self) -> Result<Steered<'_>, GrammarError> {
        let stage = match &self.watch {
            Some(watch) => Stage::Watching(Box::new(Watching {
                parser: self.codec.answer(&watch.chat, watch.is_thinking),
                utf8: Utf8Assembler::new(),
            })),
            None => self.held()?,
        };
        Ok(Steered { steering: self, stage, before: Vec::new() })
    }

    fn held(&self) -> Result<Stage, GrammarError> {
        let codec = Arc::clone(&self.codec);
        let run = GrammarRun::new(&self.grammar, codec, RunLimits::default())?;
        Ok(Stage::Held(Box::new(run)))
    }
}

impl Steered<'_> {
    /// What comes before the first run.
    pub(crate) fn opening(&mut self) -> Result<Step, GrammarError> {
        match &mut self.stage {
            Stage::Held(run) => Ok(step(run.opening()?)),
            Stage::Watching(_) | Stage::Free => Ok(Step::GoOn(String::new())),
        }
    }

    /// Takes a token that the model has generated.
    pub(crate) fn token(&mut self, piece: &Piece) -> Result<Step, GrammarError> {
        match &mut self.stage {
            Stage::Free => self.pass(piece),
            Stage::Held(run) => Ok(step(run.token(piece.token, &piece.text)?)),
            Stage::Watching(watching) => {
                let Watching { parser, utf8 } = &mut **watching;
                let special = self.steering.codec.special_text(piece.token);
                let text = utf8.push(special.map_or(&piece.text, |text| text.as_bytes()));
                let events = parser.push(&text);
                let calls = events.iter().any(|event| matches!(event, Event::ToolCall(_)));
                let says = events.iter().any(|event| matches!(event, Event::Text(_)));
                let calls_are_free =
                    self.steering.watch.as_ref().is_some_and(|watch| watch.calls_are_free);
                if calls && calls_are_free {
                    self.stage = Stage::Free;
                    self.pass(piece)
                } else if calls || says {
                    // The token is dropped: the form begins in its place.
                    self.take_over(String::new())
                } else {
                    self.pass(piece)
                }
            }
        }
    }

    /// The model wants to end. `None` if it may.
    pub(crate) fn ended(&mut self) -> Result<Option<Step>, GrammarError> {
        match &mut self.stage {
            Stage::Free => Ok(None),
            Stage::Held(run) => Ok(Some(step(run.end_of_sequence()?))),
            Stage::Watching(watching) => {
                let mut said = String::new();
                if watching.parser.is_thinking() {
                    let lost = |err: rkllama_text::TextError| GrammarError::Lost {
                        reason: err.to_string(),
                    };
                    let (text, tokens) = self.steering.codec.thought_end().map_err(lost)?;
                    self.before.extend(tokens);
                    said = text;
                }
                self.take_over(said).map(Some)
            }
        }
    }

    /// All tokens of the answer so far.
    pub(crate) fn tokens(&self) -> Vec<i32> {
        match &self.stage {
            Stage::Held(run) => [&self.before, run.answer()].concat(),
            Stage::Watching(_) | Stage::Free => self.before.clone(),
        }
    }

    fn pass(&mut self, piece: &Piece) -> Result<Step, GrammarError> {
        if piece.token < 0 {
            let reason = "the runtime does not tell which token it generated".to_owned();
            return Err(GrammarError::Lost { reason });
        }
        self.before.push(piece.token);
        Ok(Step::Pass)
    }

    fn take_over(&mut self, said: String) -> Result<Step, GrammarError> {
        self.stage = self.steering.held()?;
        Ok(match self.opening()? {
            Step::Finish(text) => Step::Finish(said + &text),
            Step::Restart(text) | Step::GoOn(text) => Step::Restart(said + &text),
            Step::Pass => Step::Restart(said),
        })
    }
}

fn step(next: Next) -> Step {
    match next {
        Next::Continue { text } => Step::GoOn(text),
        Next::Restart { text, .. } => Step::Restart(text),
        Next::Finish { text } => Step::Finish(text),
    }
}
