//! Reads calls of tools out of an answer that arrives in pieces: one machine for all formats.
//!
//! ```text
//!            opener, or what a call begins with          name or object
//!   Text ──────────────────────────────────────▶ Lead ──────────────────▶ Name, Object
//!    ▲                                            ▲ │                          │
//!    │ anything else                  next call   │ │ no call: back to Text    ▼
//!    └───────────────── Behind ◀──────────────────┴─┘◀──────── Arguments, Python, Tagged
//! ```
//!
//! It goes character by character, and whatever it decides depends on the characters alone. So any
//! split of a text gives the same pieces, by construction. Text is held back only while it could
//! be the beginning of a call: an opener, and behind it a name that is looked up as soon as it is
//! read. What turns out to be no call is read again as text, from its second character on.
//!
//! What is decided here, because formats leave it open:
//! - A name that was not offered makes no call: the whole of it is text.
//! - A call that breaks off in its arguments stays begun and is [`Calls::cut`]; what follows is text.
//! - Blanks around calls are dropped, between texts they are kept.

use std::collections::VecDeque;

use rkllama_core::Tool;

use super::{
    ToolFormat,
    format::Family,
    object::ObjectCall,
    python_call::PythonCall,
    sink::{Piece, Sink},
    tagged::{self, TaggedArguments},
    tags::{Found, find},
    value::{Broken, Read, ValueReader},
};

/// Bytes of a call that is held back until it is known to be one: room for arguments that stand
/// before the name. A model that writes on and on must be seen to do so.
const RAW_LEN_MAX: usize = 32 * 1024;
/// Bytes of a call's name.
const NAME_LEN_MAX: usize = 128;

/// What may stand before a call, behind its opener.
const LEADS: &[&str] =
    &["```json\n", "```python\n", "```\n", "<|plugin|>", "<｜tool▁call▁begin｜>", "<function="];

/// What may stand between a call's name and its arguments.
const BETWEEN: &[&str] = &[
    "[ARGS]",
    "[CALL_ID]",
    "<｜tool▁sep｜>",
    "```json\n",
    "```python\n",
    "<|constrain|>",
    "json",
    "<|message|>",
    ">",
    "\">",
    "tool_call",
];

/// Reads the calls of one answer.
#[derive(Debug)]
pub struct ToolParser {
    format: ToolFormat,
    family: Family,
    /// Whether the answer is over with its first call.
    single: bool,
    sink: Sink,
    /// Characters to be read, before those that are still to come.
    input: VecDeque<char>,
    state: State,
    /// The text of a call that has not begun yet, to be read as text if it never does.
    raw: String,
    /// Text that could be the beginning of a call.
    held: String,
}

/// The calls of an answer so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    /// Complete calls.
    pub made: usize,
    /// Whether a call has begun that will not be complete.
    pub cut: bool,
}

#[derive(Debug)]
enum State {
    Text,
    Call(Box<Body>),
}

/// What stands behind an opener.
#[derive(Debug)]
struct Body {
    stage: Stage,
    /// The beginning of something.
    buf: String,
    /// Whether a list has been opened.
    list: bool,
    /// Whether a code fence has been opened.
    fenced: bool,
    /// Whether some call was made in here.
    called: bool,
    /// Whether something has closed it since.
    closed: bool,
}

#[derive(Debug)]
enum Stage {
    Lead,
    Name,
    /// Behind a name; `None` where it is a mark that says that it comes now.
    Named(Option<String>),
    Object(ObjectCall),
    Arguments(ValueReader),
    Python(PythonCall),
    Tagged(TaggedArguments),
    Behind,
}

/// What became of a character in a call.
enum Step {
    /// It was read.
    Read,
    /// It belongs to the next stage.
    Again,
    /// It is the end of a mark without meaning: what follows is text.
    Text,
}

impl ToolParser {
    /// A reader of calls in this format of these tools.
    pub fn new(format: ToolFormat, tools: &[Tool]) -> Self {
        Self {
            format,
            family: format.family(),
            single: false,
            sink: Sink::new(tools),
            input: VecDeque::new(),
            state: State::Text,
            raw: String::new(),
            held: String::new(),
        }
    }

    /// The same reader, for which the answer is over with its first call.
    #[must_use]
    pub fn single(self) -> Self {
        Self { single: true, ..self }
    }

    /// Takes text, gives what is certain.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        for c in text.chars() {
            self.input.push_back(c);
            self.read_all();
        }
        self.sink.take()
    }

    /// The answer has ended: gives what was held back. A call whose arguments are not complete then
    /// stays as it is, which [`ToolParser::calls`] tells; one that had not begun is text.
    pub fn finish(&mut self) -> Vec<Piece> {
        loop {
            let state = std::mem::replace(&mut self.state, State::Text);
            match state {
                State::Text => {
                    std::mem::take(&mut self.held).chars().for_each(|c| self.sink.text(c));
                    self.sink.finish();
                    return self.sink.take();
                }
                State::Call(_) if self.sink.is_open() => self.sink.cut(),
                State::Call(body) if body.is_over(&self.family) => {}
                State::Call(body) => {
                    self.give_back(&body);
                    self.read_all();
                }
            }
        }
    }

    /// The calls so far; after [`ToolParser::finish`] all of them.
    pub const fn calls(&self) -> Calls {
        Calls { made: self.sink.made(), cut: self.sink.is_cut() }
    }

    /// Bytes at the end of what was said that may yet become a call.
    pub fn undecided_len(&self) -> usize {
        let unread: usize = self.input.iter().map(|c| c.len_utf8()).sum();
        self.raw.len() + self.held.len() + unread
    }

    /// Whether nothing that could follow would be read.
    pub const fn is_over(&self) -> bool {
        self.single && self.sink.made() > 0
    }

    fn read_all(&mut self) {
        while let Some(c) = self.input.pop_front() {
            if self.is_over() {
                self.input.clear();
                return;
            }
            match &mut self.state {
                State::Text => self.read_text(c),
                State::Call(_) => self.read_call(c),
            }
        }
    }

    fn read_text(&mut self, c: char) {
        self.held.push(c);
        while !self.held.is_empty() {
            let openers = self.family.openers.iter().copied();
            match find(&self.held, openers) {
                Found::Part => return,
                Found::Whole(_) => {
                    self.raw = std::mem::take(&mut self.held);
                    self.state = State::Call(Box::new(Body::new()));
                    return;
                }
                Found::None => {}
            }
            match self.find_first() {
                Found::Part => return,
                Found::Whole(_) => {
                    // These belong to the call and are read again as its beginning.
                    let held = std::mem::take(&mut self.held);
                    held.chars().rev().for_each(|c| self.input.push_front(c));
                    self.raw.clear();
                    self.state = State::Call(Box::new(Body::new()));
                    return;
                }
                Found::None => {}
            }
            let first = self.held.remove(0);
            self.sink.text(first);
        }
    }

    /// Whether what is held begins a call because nothing was said before.
    fn find_first(&self) -> Found<'_> {
        if !self.sink.is_new() {
            return Found::None;
        }
        match find(&self.held, self.family.first.iter().copied()) {
            Found::None if self.family.name_first => {
                let all = Some("all").filter(|_| self.format == ToolFormat::Functionary3);
                let names = self.sink.tools.names().chain(all);
                let line = |name: &str| match self.held.strip_suffix('\n') {
                    Some(held) if held == name => Found::Whole(""),
                    None if name.starts_with(&self.held) => Found::Part,
                    Some(_) | None => Found::None,
                };
                names.map(line).find(|found| *found != Found::None).unwrap_or(Found::None)
            }
            found => found,
        }
    }

    fn read_call(&mut self, c: char) {
        let State::Call(mut body) = std::mem::replace(&mut self.state, State::Text) else { return };
        let was_open = self.sink.is_open();
        if !was_open {
            self.raw.push(c);
        }
        let step = loop {
            match body.push(c, self.format, &self.family, &mut self.sink) {
                Ok(Step::Again) if body.is_settled() => {
                    // A call that its last character only ended by standing behind it: nothing of
                    // the call may be read again.
                    self.raw.clear();
                    self.raw.push(c);
                }
                Ok(Step::Again) => {}
                step => break step,
            }
        };
        if self.sink.is_open() || body.is_settled() {
            // What has become a part of a call is no text any more.
            self.raw.clear();
        }
        match step {
            Ok(Step::Text) => self.raw.clear(),
            Ok(Step::Read) if self.raw.len() > RAW_LEN_MAX => self.give_back(&body),
            Ok(Step::Read | Step::Again) => self.state = State::Call(body),
            Err(Broken) if self.sink.is_open() => {
                self.sink.cut();
                self.raw.clear();
                self.input.push_front(c);
            }
            Err(Broken) => self.give_back(&body),
        }
    }

    /// What was taken for a call is text, which may hold a call further on.
    fn give_back(&mut self, body: &Body) {
        let raw = std::mem::take(&mut self.raw);
        let mut chars = raw.chars();
        if !body.called {
            chars.next().into_iter().for_each(|c| self.sink.text(c));
        }
        chars.rev().for_each(|c| self.input.push_front(c));
    }
}

impl Body {
    const fn new() -> Self {
        Self {
            stage: Stage::Lead,
            buf: String::new(),
            list: false,
            fenced: false,
            called: false,
            closed: false,
        }
    }

    fn push(
        &mut self,
        c: char,
        format: ToolFormat,
        family: &Family,
        sink: &mut Sink,
    ) -> Result<Step, Broken> {
        let read = match &mut self.stage {
            Stage::Lead => return self.lead(c, family),
            Stage::Name => return self.name(c, format, sink),
            Stage::Named(_) => return self.named(c, family, sink),
            Stage::Behind => return self.behind(c, family),
            Stage::Object(call) => call.push(c, sink)?,
            Stage::Python(call) => call.push(c, sink)?,
            Stage::Tagged(arguments) => {
                let read = arguments.push(c, sink)?;
                // The last tag closes the call.
                self.closed = read == Read::Last;
                read
            }
            Stage::Arguments(reader) => {
                let read = reader.push(c)?;
                sink.arguments(&reader.take());
                if read == Read::Last {
                    sink.end();
                }
                read
            }
        };
        self.called |= matches!(&self.stage, Stage::Object(call) if call.is_done());
        if read == Read::More {
            return Ok(Step::Read);
        }
        self.called = true;
        self.stage = Stage::Behind;
        Ok(if read == Read::Behind { Step::Again } else { Step::Read })
    }

    /// Before a call.
    fn lead(&mut self, c: char, family: &Family) -> Result<Step, Broken> {
        if c.is_whitespace() && self.buf.is_empty() {
            return Ok(Step::Read);
        }
        self.buf.push(c);
        let own = Some("call:").filter(|_| family.quote.is_some());
        match find(&self.buf, LEADS.iter().copied().chain(own)) {
            Found::Part => return Ok(Step::Read),
            Found::Whole(tag) => {
                self.fenced |= tag.starts_with('`');
                self.buf.clear();
                return Ok(Step::Read);
            }
            Found::None => {}
        }
        match (self.buf.as_str(), self.list) {
            ("[", false) => {
                self.list = true;
                self.buf.clear();
                Ok(Step::Read)
            }
            ("{", _) => {
                self.buf.clear();
                self.stage = Stage::Object(ObjectCall::new());
                Ok(Step::Again)
            }
            (word, _) if word.chars().all(is_name) => {
                self.buf.pop();
                self.stage = Stage::Name;
                Ok(Step::Again)
            }
            _ => Err(Broken),
        }
    }

    fn name(&mut self, c: char, format: ToolFormat, sink: &Sink) -> Result<Step, Broken> {
        if is_name(c) && self.buf.len() < NAME_LEN_MAX {
            self.buf.push(c);
            return Ok(Step::Read);
        }
        let name = std::mem::take(&mut self.buf);
        self.stage = match sink.tools.resolve(&name) {
            Some(name) => Stage::Named(Some(name.to_owned())),
            None if name == "function" && format == ToolFormat::Deepseek => Stage::Named(None),
            // The recipient of words that are for everybody.
            None if name == "all" && format == ToolFormat::Functionary3 => {
                return if c == '\n' { Ok(Step::Text) } else { Err(Broken) };
            }
            None => return Err(Broken),
        };
        Ok(Step::Again)
    }

    /// Between name and arguments.
    fn named(&mut self, c: char, family: &Family, sink: &mut Sink) -> Result<Step, Broken> {
        let Stage::Named(name) = &mut self.stage else { return Err(Broken) };
        if c.is_whitespace() && self.buf.is_empty() {
            return Ok(Step::Read);
        }
        if self.buf.starts_with("[CALL_ID]") && c.is_ascii_alphanumeric() {
            return Ok(Step::Read);
        }
        if self.buf == "[CALL_ID]" {
            self.buf.clear();
        }
        self.buf.push(c);
        let Some(known) = name.clone() else {
            return match find(&self.buf, ["<｜tool▁sep｜>"]) {
                Found::Part => Ok(Step::Read),
                Found::None => Err(Broken),
                Found::Whole(_) => {
                    self.buf.clear();
                    self.stage = Stage::Name;
                    Ok(Step::Read)
                }
            };
        };
        match self.buf.as_str() {
            "{" => {
                self.buf.clear();
                sink.begin(&known)?;
                self.stage = Stage::Arguments(ValueReader::new(family.quote));
                return Ok(Step::Again);
            }
            "(" => {
                self.buf.clear();
                self.stage = Stage::Python(PythonCall::new(known));
                return Ok(Step::Read);
            }
            _ => {}
        }
        match find(&self.buf, BETWEEN.iter().copied().chain(tagged::beginnings())) {
            Found::Part => Ok(Step::Read),
            Found::None => Err(Broken),
            Found::Whole("[CALL_ID]") => Ok(Step::Read),
            Found::Whole(tag) if BETWEEN.contains(&tag) => {
                self.fenced |= tag.starts_with('`');
                self.buf.clear();
                Ok(Step::Read)
            }
            Found::Whole(tag) => {
                sink.begin(&known)?;
                let mut arguments = TaggedArguments::new(known);
                let mut read = Read::More;
                for c in tag.chars() {
                    read = arguments.push(c, sink)?;
                }
                self.buf.clear();
                self.called |= read == Read::Last;
                self.closed = read == Read::Last;
                self.stage = match read {
                    Read::Last => Stage::Behind,
                    Read::More | Read::Behind => Stage::Tagged(arguments),
                };
                Ok(Step::Read)
            }
        }
    }

    /// Behind a call: what closes it, or the next one.
    fn behind(&mut self, c: char, family: &Family) -> Result<Step, Broken> {
        self.buf.push(c);
        let text = self.buf.trim_start();
        if text.is_empty() {
            return Ok(Step::Read);
        }
        let chained = family.chained || (!self.closed && !family.closers.is_empty());
        match text {
            "," if self.list => self.next_call(),
            "]" if self.list => {
                self.list = false;
                self.buf.clear();
                return Ok(Step::Read);
            }
            // One brace too many is a common mistake.
            "}" if !self.closed && !family.closers.is_empty() => {
                self.buf.clear();
                return Ok(Step::Read);
            }
            ";" | "," if family.chained => self.next_call(),
            "{" if chained && !self.list => {
                self.stage = Stage::Lead;
                self.buf.clear();
                return Ok(Step::Again);
            }
            _ => {
                let fence = Some("```").filter(|_| self.fenced);
                match find(text, family.closers.iter().copied().chain(fence)) {
                    Found::Part => {}
                    Found::Whole(tag) => {
                        self.fenced &= tag != "```";
                        self.closed |= tag != "```";
                        self.buf.clear();
                    }
                    Found::None if text.chars().all(is_name) && chained && !self.list => {
                        self.stage = Stage::Lead;
                        self.buf.clear();
                        return Ok(Step::Again);
                    }
                    Found::None => return Err(Broken),
                }
            }
        }
        Ok(Step::Read)
    }

    fn next_call(&mut self) {
        self.stage = Stage::Lead;
        self.buf.clear();
    }

    /// Whether all that was read has become a part of a call.
    const fn is_settled(&self) -> bool {
        match &self.stage {
            Stage::Object(call) => call.is_done(),
            Stage::Behind => self.buf.is_empty(),
            _ => false,
        }
    }

    /// Whether an answer that ends here lacks nothing but marks without meaning.
    fn is_over(&self, family: &Family) -> bool {
        let closing = |text: &str| {
            let closers = family.closers.iter().copied().chain(["```"]);
            text.is_empty() || find(text, closers) != Found::None
        };
        match &self.stage {
            Stage::Object(call) => call.is_done(),
            Stage::Behind => closing(self.buf.trim_start()),
            Stage::Lead => self.called && self.buf.is_empty(),
            _ => false,
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}
