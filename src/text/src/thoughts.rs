//! Tells thoughts between two marks from what is said, in an answer that arrives in pieces.
//!
//! A thought begins where nothing was said before: `<think>` in the middle of an answer is a word
//! like any other, and so a model can write about itself. What ends a thought is taken out wherever
//! it stands, because models write it even when they were told not to think. Blanks around marks
//! are the format's: they are dropped.
//!
//! It goes character by character, so that any split of a text gives the same parts.

use crate::{
    ReasoningFormat,
    harmony::Harmony,
    reasoning::Marks,
    tools::{Found, find},
};

/// Blanks that are held back because a mark may follow, in bytes.
const BLANK_LEN_MAX: usize = 64;

/// A part of an answer, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Thought(String),
    Said(String),
}

/// Appends to the last part where it is of the same kind.
pub(crate) fn append(parts: &mut Vec<Part>, thought: bool, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Thought(last)) if thought => last.push_str(text),
        Some(Part::Said(last)) if !thought => last.push_str(text),
        _ if thought => parts.push(Part::Thought(text.to_owned())),
        _ => parts.push(Part::Said(text.to_owned())),
    }
}

/// Splits one answer.
#[derive(Debug)]
pub(crate) enum Thoughts {
    /// Nothing to split.
    None,
    Marked(Marked),
    Harmony(Harmony),
}

impl Thoughts {
    /// A splitter of an answer that begins inside a thought or not. With `verbatim` marks and blanks
    /// stay in the parts.
    pub(crate) fn new(format: ReasoningFormat, thinking: bool, verbatim: bool) -> Self {
        match (format, format.marks()) {
            (ReasoningFormat::Harmony, _) => Self::Harmony(Harmony::new()),
            (_, Some(marks)) => Self::Marked(Marked::new(marks, thinking, verbatim)),
            (_, None) => Self::None,
        }
    }

    /// Takes text, gives what is certain.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        match self {
            Self::None => append(&mut parts, false, text),
            Self::Marked(marked) => text.chars().for_each(|c| marked.push(c, &mut parts)),
            Self::Harmony(harmony) => text.chars().for_each(|c| harmony.push(c, &mut parts)),
        }
        parts
    }

    /// The answer has ended. A thought that did not end is one all the same.
    pub(crate) fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        match self {
            Self::None => {}
            Self::Marked(marked) => marked.finish(&mut parts),
            Self::Harmony(harmony) => harmony.finish(&mut parts),
        }
        parts
    }

    /// Whether what comes next is a thought, as far as one can tell.
    pub(crate) const fn is_thinking(&self) -> bool {
        match self {
            Self::None => false,
            Self::Marked(marked) => matches!(marked.state, State::Inside { .. }),
            Self::Harmony(harmony) => harmony.is_thinking(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Marked {
    marks: &'static Marks,
    verbatim: bool,
    state: State,
    /// What could be the beginning of a mark.
    held: String,
    /// Blanks that could stand beside a mark.
    blank: String,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing was said yet, behind a thought or not.
    Start { behind: bool },
    /// In a thought, of which something has come or not.
    Inside { begun: bool },
    /// In the answer.
    Outside,
}

impl Marked {
    fn new(marks: &'static Marks, thinking: bool, verbatim: bool) -> Self {
        let mut marked = Self {
            marks,
            verbatim,
            state: State::Start { behind: false },
            held: String::new(),
            blank: String::new(),
        };
        if thinking {
            marked.state = State::Inside { begun: false };
            if verbatim {
                // The prompt has it; it belongs to the text all the same.
                marked.blank = [marks.open[0], "\n"].concat();
            }
        }
        marked
    }

    fn push(&mut self, c: char, parts: &mut Vec<Part>) {
        self.held.push(c);
        while !self.held.is_empty() {
            match self.find() {
                Found::Part => return,
                Found::Whole(tag) => {
                    self.held.clear();
                    self.mark(tag, parts);
                }
                Found::None => {
                    let first = self.held.remove(0);
                    self.character(first, parts);
                }
            }
        }
    }

    fn find(&self) -> Found<'static> {
        let Marks { open, close, unmistakable } = self.marks;
        let (open, close): (&[_], &[_]) = match self.state {
            State::Start { .. } => (open, if *unmistakable { close } else { &[] }),
            // Some models open what the prompt has opened already.
            State::Inside { begun: false } => (open, close),
            State::Inside { begun: true } => (&[], close),
            State::Outside => (&[], if *unmistakable { close } else { &[] }),
        };
        find(&self.held, open.iter().chain(close).copied())
    }

    fn mark(&mut self, tag: &str, parts: &mut Vec<Part>) {
        let opens = self.marks.open.contains(&tag);
        if self.verbatim {
            let thought = opens || matches!(self.state, State::Inside { .. });
            append(parts, thought, &std::mem::take(&mut self.blank));
            append(parts, thought, tag);
        }
        self.state = match self.state {
            State::Outside => return,
            State::Start { .. } | State::Inside { .. } if opens => State::Inside { begun: false },
            State::Start { .. } | State::Inside { .. } => State::Start { behind: true },
        };
        self.blank.clear();
    }

    fn character(&mut self, c: char, parts: &mut Vec<Part>) {
        let beside_marks = !matches!(self.state, State::Outside);
        if c.is_whitespace() && beside_marks && self.blank.len() < BLANK_LEN_MAX {
            self.blank.push(c);
            return;
        }
        let thought = matches!(self.state, State::Inside { .. });
        let meaningless =
            matches!(self.state, State::Start { behind: true } | State::Inside { begun: false });
        let blank = std::mem::take(&mut self.blank);
        if self.verbatim || !meaningless {
            append(parts, thought, &blank);
        }
        if c.is_whitespace() && meaningless && !self.verbatim {
            return;
        }
        append(parts, thought, c.encode_utf8(&mut [0; 4]));
        self.state = match self.state {
            State::Inside { .. } => State::Inside { begun: true },
            state @ State::Start { .. } if c.is_whitespace() => state,
            State::Start { .. } | State::Outside => State::Outside,
        };
    }

    fn finish(&mut self, parts: &mut Vec<Part>) {
        let held = std::mem::take(&mut self.held);
        let blank = std::mem::take(&mut self.blank);
        match self.state {
            State::Inside { .. } if !self.verbatim => {}
            State::Inside { .. } => {
                append(parts, true, &blank);
                append(parts, true, &held);
            }
            State::Start { behind } => {
                if !behind || self.verbatim {
                    append(parts, false, &blank);
                }
                append(parts, false, &held);
            }
            State::Outside => append(parts, false, &held),
        }
    }
}
