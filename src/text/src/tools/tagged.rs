//! Reads arguments that stand between tags, one by one, without quotes: what they are the schema
//! tells. Text is passed on as it comes, everything else when it is complete.

use super::{
    schema::{Kinds, quoted},
    sink::Sink,
    tags::{Found, find},
    value::{Broken, Read, escape},
};

/// Bytes of a parameter's name.
const KEY_LEN_MAX: usize = 256;

/// How a family writes an argument.
#[derive(Debug)]
struct Style {
    open: &'static str,
    key_end: &'static str,
    /// Between key and value, behind blanks.
    value_open: &'static str,
    close: &'static str,
    /// Whether a line end before and behind the value is the format's.
    lines: bool,
}

const STYLES: &[Style] = &[
    Style { open: "<parameter=", key_end: ">", value_open: "", close: "</parameter>", lines: true },
    Style {
        open: "<param name=\"",
        key_end: "\">",
        value_open: "",
        close: "</param>",
        lines: false,
    },
    Style {
        open: "<arg_key>",
        key_end: "</arg_key>",
        value_open: "<arg_value>",
        close: "</arg_value>",
        lines: false,
    },
];

const ENDS: &[&str] = &["</function>", "</tool_call>"];

/// What arguments between tags begin with, or end with where there are none.
pub(crate) fn beginnings() -> impl Iterator<Item = &'static str> {
    STYLES.iter().map(|style| style.open).chain(ENDS.iter().copied())
}

/// Reads all arguments of a call, from the first tag to the one behind the last.
#[derive(Debug)]
pub(crate) struct TaggedArguments {
    name: String,
    state: State,
    buf: String,
    count: usize,
}

#[derive(Debug)]
enum State {
    Between,
    Key(&'static Style),
    ValueOpen(&'static Style, String),
    Value { style: &'static Style, kinds: Kinds, value: Option<String>, first: bool },
}

impl TaggedArguments {
    /// A reader of the arguments of a call that has begun.
    pub(crate) const fn new(name: String) -> Self {
        Self { name, state: State::Between, buf: String::new(), count: 0 }
    }

    /// Takes the next character.
    pub(crate) fn push(&mut self, c: char, sink: &mut Sink) -> Result<Read, Broken> {
        match &mut self.state {
            State::Between | State::ValueOpen(..) if c.is_whitespace() && self.buf.is_empty() => {}
            State::Between => {
                self.buf.push(c);
                return self.between(sink);
            }
            State::Key(style) => {
                self.buf.push(c);
                let style = *style;
                if let Some(key) = self.buf.strip_suffix(style.key_end) {
                    let key = key.to_owned();
                    self.buf.clear();
                    self.state = State::ValueOpen(style, key);
                    if style.value_open.is_empty() {
                        self.begin_value(sink);
                    }
                } else if self.buf.len() > KEY_LEN_MAX {
                    return Err(Broken);
                }
            }
            State::ValueOpen(style, _) => {
                self.buf.push(c);
                match find(&self.buf, [style.value_open]) {
                    Found::Whole(_) => self.begin_value(sink),
                    Found::Part => {}
                    Found::None => return Err(Broken),
                }
            }
            State::Value { .. } => {
                self.buf.push(c);
                self.in_value(sink);
            }
        }
        Ok(Read::More)
    }

    fn between(&mut self, sink: &mut Sink) -> Result<Read, Broken> {
        match find(&self.buf, beginnings()) {
            Found::Part => Ok(Read::More),
            Found::None => Err(Broken),
            Found::Whole(tag) => {
                self.buf.clear();
                if let Some(style) = STYLES.iter().find(|style| style.open == tag) {
                    self.state = State::Key(style);
                    return Ok(Read::More);
                }
                sink.arguments(if self.count == 0 { "{}" } else { "}" });
                sink.end();
                Ok(Read::Last)
            }
        }
    }

    fn begin_value(&mut self, sink: &mut Sink) {
        let State::ValueOpen(style, key) = &self.state else { return };
        let style = *style;
        let kinds = sink.tools.kinds(&self.name, key);
        sink.arguments(if self.count == 0 { "{" } else { ", " });
        sink.arguments(&quoted(key));
        sink.arguments(": ");
        let value = if kinds.only_text() { None } else { Some(String::new()) };
        if value.is_none() {
            sink.arguments("\"");
        }
        self.count += 1;
        self.buf.clear();
        self.state = State::Value { style, kinds, value, first: true };
    }

    fn in_value(&mut self, sink: &mut Sink) {
        let State::Value { style, kinds, value, first } = &mut self.state else { return };
        let behind_line = if style.lines { ["\n", style.close].concat() } else { String::new() };
        let tags = || [style.close, &behind_line].into_iter().filter(|tag| !tag.is_empty());
        loop {
            match find(&self.buf, tags()) {
                Found::Part => return,
                Found::None => {
                    let c = self.buf.remove(0);
                    let skipped = std::mem::take(first) && style.lines && c == '\n';
                    match value {
                        _ if skipped => {}
                        Some(value) => value.push(c),
                        None => {
                            let mut json = String::new();
                            escape(c, &mut json);
                            sink.arguments(&json);
                        }
                    }
                    if self.buf.is_empty() {
                        return;
                    }
                }
                Found::Whole(_) => {
                    let json = value.as_ref().map(|value| kinds.json_of(value));
                    sink.arguments(json.as_deref().unwrap_or("\""));
                    self.buf.clear();
                    self.state = State::Between;
                    return;
                }
            }
        }
    }
}
