//! Reads a call that is a JSON object with a name and arguments.

use super::{
    schema::whole_value,
    sink::Sink,
    value::{Broken, Read, ValueReader},
};

/// Reads one object; its first character is the opening brace.
#[derive(Debug)]
pub(crate) struct ObjectCall {
    state: State,
    /// Objects inside which name and arguments stand: OpenAI's shape has them in `function`.
    depth: usize,
    name: Option<String>,
    /// Arguments that stand before the name.
    early: Option<String>,
    done: bool,
}

#[derive(Debug)]
enum State {
    /// Before a key or the end.
    Key,
    InKey(ValueReader),
    Colon(String),
    /// Before a value.
    Value(String),
    Name(ValueReader),
    /// An object of arguments, passed on as it comes.
    Arguments(ValueReader),
    /// Arguments that are not passed on as they come: before the name, or no object.
    Held(ValueReader),
    Other(ValueReader),
    Next,
}

impl ObjectCall {
    pub(crate) const fn new() -> Self {
        let state = State::Value(String::new());
        Self { state, depth: 0, name: None, early: None, done: false }
    }

    /// Takes the next character.
    pub(crate) fn push(&mut self, c: char, sink: &mut Sink) -> Result<Read, Broken> {
        match self.step(c, sink) {
            // What follows complete arguments cannot spoil the call.
            Err(Broken) if self.done => Ok(Read::Behind),
            read => read,
        }
    }

    fn step(&mut self, c: char, sink: &mut Sink) -> Result<Read, Broken> {
        match &mut self.state {
            State::Key | State::Next | State::Colon(_) | State::Value(_) if c.is_whitespace() => {}
            State::Key | State::Next if c == '}' => return self.close(sink),
            State::Next if c == ',' => self.state = State::Key,
            State::Next => return Err(Broken),
            State::Key => {
                if !matches!(c, '"' | '\'') {
                    return Err(Broken);
                }
                self.state = State::InKey(begun(c)?);
            }
            State::InKey(reader) => {
                if reader.push(c)? == Read::Last {
                    self.state = State::Colon(text_of(&reader.take())?);
                }
            }
            State::Colon(key) => {
                if c != ':' {
                    return Err(Broken);
                }
                self.state = State::Value(std::mem::take(key));
            }
            State::Value(key) => {
                let key = std::mem::take(key);
                self.begin_value(&key, c, sink)?;
            }
            State::Name(_) | State::Arguments(_) | State::Held(_) | State::Other(_) => {
                return self.in_value(c, sink);
            }
        }
        Ok(Read::More)
    }

    fn begin_value(&mut self, key: &str, c: char, sink: &mut Sink) -> Result<(), Broken> {
        self.state = match (key, c) {
            // The call itself, whose key is empty, and OpenAI's shape around it.
            ("" | "function", '{') => {
                self.depth += 1;
                State::Key
            }
            ("name" | "function" | "tool_name", '"' | '\'') if self.name.is_none() => {
                State::Name(begun(c)?)
            }
            ("arguments" | "parameters", _) if self.done || self.early.is_some() => {
                State::Other(begun(c)?)
            }
            ("arguments" | "parameters", '{') => match &self.name {
                Some(name) => {
                    sink.begin(name)?;
                    let mut reader = begun(c)?;
                    sink.arguments(&reader.take());
                    State::Arguments(reader)
                }
                None => State::Held(begun(c)?),
            },
            ("arguments" | "parameters", _) => State::Held(begun(c)?),
            (_, c) => State::Other(begun(c)?),
        };
        Ok(())
    }

    fn in_value(&mut self, c: char, sink: &mut Sink) -> Result<Read, Broken> {
        let flows = matches!(self.state, State::Arguments(_));
        let (State::Name(reader)
        | State::Arguments(reader)
        | State::Held(reader)
        | State::Other(reader)) = &mut self.state
        else {
            return Ok(Read::More);
        };
        let read = reader.push(c)?;
        if flows {
            sink.arguments(&reader.take());
        }
        if read == Read::More {
            return Ok(Read::More);
        }
        let json = reader.take();
        match std::mem::replace(&mut self.state, State::Next) {
            State::Name(_) => {
                let name = text_of(&json)?;
                // Said at once: text must not wait for the end of a call that is none.
                sink.tools.resolve(&name).ok_or(Broken)?;
                self.name = Some(name);
                self.complete_early(sink)?;
            }
            State::Arguments(_) => {
                sink.end();
                self.done = true;
            }
            State::Held(_) => {
                self.early = Some(object_of(&json)?);
                self.complete_early(sink)?;
            }
            _ => {}
        }
        if read == Read::Behind { self.step(c, sink) } else { Ok(Read::More) }
    }

    /// Makes the call if both its name and its arguments have been read.
    fn complete_early(&mut self, sink: &mut Sink) -> Result<(), Broken> {
        if let (Some(name), Some(arguments)) = (&self.name, &self.early) {
            sink.begin(name)?;
            sink.arguments(arguments);
            sink.end();
            self.done = true;
        }
        Ok(())
    }

    fn close(&mut self, sink: &mut Sink) -> Result<Read, Broken> {
        self.depth -= 1;
        self.state = State::Next;
        if self.depth > 0 {
            return Ok(Read::More);
        }
        if !self.done {
            // Some models leave out arguments that are empty.
            self.early.get_or_insert_with(|| "{}".to_owned());
            self.complete_early(sink)?;
        }
        if self.done { Ok(Read::Last) } else { Err(Broken) }
    }

    /// Whether the call is complete although its object is not.
    pub(crate) const fn is_done(&self) -> bool {
        self.done
    }
}

/// A reader that has read the first character.
fn begun(c: char) -> Result<ValueReader, Broken> {
    let mut reader = ValueReader::new(None);
    reader.push(c)?;
    Ok(reader)
}

fn text_of(json: &str) -> Result<String, Broken> {
    serde_json::from_str(json).map_err(|_| Broken)
}

/// Arguments as an object: some models write it into a string, or write none.
fn object_of(json: &str) -> Result<String, Broken> {
    let json = match serde_json::from_str::<String>(json) {
        Ok(text) if text.trim().is_empty() => "{}".to_owned(),
        Ok(text) => whole_value(text.trim()).ok_or(Broken)?,
        Err(_) if json == "null" => "{}".to_owned(),
        Err(_) => json.to_owned(),
    };
    if json.starts_with('{') { Ok(json) } else { Err(Broken) }
}
