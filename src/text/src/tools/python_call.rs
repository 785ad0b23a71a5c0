//! Reads the arguments of a call that is written as Python's: `f(a=1, b="x")`.

use super::{
    schema::quoted,
    sink::Sink,
    value::{Broken, Read, ValueReader},
};

/// Reads what stands between the parentheses, the closing one included.
#[derive(Debug)]
pub(crate) struct PythonCall {
    name: String,
    state: State,
    /// Arguments so far.
    count: usize,
}

#[derive(Debug)]
enum State {
    /// Before an argument or the end.
    Argument,
    /// A name, which is the argument's or its value; blanks may stand behind it.
    Word {
        word: String,
        ended: bool,
    },
    /// Before a value.
    Value,
    InValue(ValueReader),
    Next,
}

impl PythonCall {
    pub(crate) const fn new(name: String) -> Self {
        Self { name, state: State::Argument, count: 0 }
    }

    /// Takes the next character.
    pub(crate) fn push(&mut self, c: char, sink: &mut Sink) -> Result<Read, Broken> {
        let blank = c.is_whitespace();
        match &mut self.state {
            State::Argument | State::Next | State::Value if blank => {}
            State::Argument | State::Next if c == ')' => return self.close(sink),
            State::Next if c == ',' => self.state = State::Argument,
            State::Next => return Err(Broken),
            State::Argument if c.is_alphabetic() || c == '_' => {
                self.state = State::Word { word: c.to_string(), ended: false };
            }
            State::Argument => {
                self.positional(sink)?;
                return self.push(c, sink);
            }
            State::Word { ended, .. } if blank => *ended = true,
            State::Word { word, ended: false } if c.is_alphanumeric() || c == '_' => word.push(c),
            State::Word { word, .. } if c == '=' => {
                let word = std::mem::take(word);
                self.key(&word, sink)?;
            }
            State::Word { word, .. } => {
                let word = std::mem::take(word);
                self.positional(sink)?;
                for c in word.chars().chain([c]) {
                    self.push(c, sink)?;
                }
            }
            State::Value => {
                let mut reader = ValueReader::new(None);
                reader.push(c)?;
                sink.arguments(&reader.take());
                self.state = State::InValue(reader);
            }
            State::InValue(reader) => {
                let read = reader.push(c)?;
                sink.arguments(&reader.take());
                if read != Read::More {
                    self.state = State::Next;
                }
                if read == Read::Behind {
                    return self.push(c, sink);
                }
            }
        }
        Ok(Read::More)
    }

    /// A value without a name belongs to the parameter at its place.
    fn positional(&mut self, sink: &mut Sink) -> Result<(), Broken> {
        let parameters = sink.tools.parameters(&self.name);
        let key = parameters.get(self.count).ok_or(Broken)?.0.clone();
        self.key(&key, sink)
    }

    fn key(&mut self, key: &str, sink: &mut Sink) -> Result<(), Broken> {
        if self.count == 0 {
            sink.begin(&self.name)?;
            sink.arguments("{");
        } else {
            sink.arguments(", ");
        }
        self.count += 1;
        sink.arguments(&quoted(key));
        sink.arguments(": ");
        self.state = State::Value;
        Ok(())
    }

    fn close(&self, sink: &mut Sink) -> Result<Read, Broken> {
        if self.count == 0 {
            sink.begin(&self.name)?;
            sink.arguments("{");
        }
        sink.arguments("}");
        sink.end();
        Ok(Read::Last)
    }
}
