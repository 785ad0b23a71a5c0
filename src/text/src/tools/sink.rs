//! What readers of calls write to: pieces of text and calls, in order.

use rkllama_core::Tool;

use super::{schema::Offered, value::Broken};

/// A piece of an answer in which tools are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text, never empty.
    Text(String),
    /// The next call begins. Its arguments follow.
    Begin {
        /// The tool, which is one of those offered.
        name: String,
    },
    /// More of the call's arguments, never empty. All of them joined are a JSON object, unless the
    /// call was cut short.
    Arguments(String),
}

/// Blanks at the end of a text that are held back, in bytes: behind them a call may begin, before
/// which they mean nothing. More than that is not held: an answer that is all blanks still flows.
const BLANK_LEN_MAX: usize = 64;

/// Collects pieces.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) tools: Offered,
    pieces: Vec<Piece>,
    /// Blanks that may be the end of the text before a call.
    blank: String,
    /// Whether anything but blanks was said.
    said: bool,
    /// Whether a call has begun and not ended.
    open: bool,
    /// Calls that have ended.
    made: usize,
    /// Whether some call was left without an end.
    cut: bool,
}

impl Sink {
    pub(crate) fn new(tools: &[Tool]) -> Self {
        Self {
            tools: Offered::new(tools),
            pieces: Vec::new(),
            blank: String::new(),
            said: false,
            open: false,
            made: 0,
            cut: false,
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.pieces)
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) const fn made(&self) -> usize {
        self.made
    }

    pub(crate) const fn is_cut(&self) -> bool {
        self.cut
    }

    /// Whether neither text nor a call has come yet.
    pub(crate) const fn is_new(&self) -> bool {
        !self.said && self.made == 0 && !self.open && !self.cut
    }

    pub(crate) fn text(&mut self, c: char) {
        if c.is_whitespace() {
            self.blank.push(c);
            if self.blank.len() > BLANK_LEN_MAX {
                self.release_blank();
            }
            return;
        }
        self.release_blank();
        self.said = true;
        self.append(Piece::Text(c.to_string()));
    }

    /// Blanks stand between texts, and where there is no call at all.
    fn release_blank(&mut self) {
        let blank = std::mem::take(&mut self.blank);
        if !blank.is_empty() && (self.said || self.made == 0) {
            self.append(Piece::Text(blank));
        }
    }

    /// A call begins.
    pub(crate) fn begin(&mut self, name: &str) -> Result<(), Broken> {
        let name = self.tools.resolve(name).ok_or(Broken)?.to_owned();
        self.blank.clear();
        self.open = true;
        self.pieces.push(Piece::Begin { name });
        Ok(())
    }

    pub(crate) fn arguments(&mut self, json: &str) {
        if !json.is_empty() {
            self.append(Piece::Arguments(json.to_owned()));
        }
    }

    /// The call's arguments are complete.
    pub(crate) const fn end(&mut self) {
        self.open = false;
        self.made += 1;
    }

    /// The call that has begun will not be completed.
    pub(crate) const fn cut(&mut self) {
        self.open = false;
        self.cut = true;
    }

    /// The answer has ended.
    pub(crate) fn finish(&mut self) {
        if self.made == 0 && !self.cut {
            self.release_blank();
        }
        self.blank.clear();
    }

    fn append(&mut self, piece: Piece) {
        match (self.pieces.last_mut(), piece) {
            (Some(Piece::Text(last)), Piece::Text(more))
            | (Some(Piece::Arguments(last)), Piece::Arguments(more)) => last.push_str(&more),
            (_, piece) => self.pieces.push(piece),
        }
    }
}
