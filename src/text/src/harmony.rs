//! Splits answers in gpt-oss's format, where each message of an answer says in its head for whom it
//! is: `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…`.
//!
//! Messages to functions are passed on with a head of one spelling, for the reader of calls.

use crate::{
    thoughts::{Part, append},
    tools::{Found, find},
};

/// Bytes of a head. What is longer is none.
const HEAD_LEN_MAX: usize = 200;

const MESSAGE: &str = "<|message|>";
const CHANNEL: &str = "<|channel|>";
/// What ends a message.
const ENDS: [&str; 5] = ["<|end|>", "<|return|>", "<|call|>", "<|start|>", CHANNEL];
/// What heads begin with, the beginning of which the prompt may have written.
const HEADS: [&str; 4] = [CHANNEL, "<|start|>", "assistant", "to="];
const TO_FUNCTION: &str = "to=functions.";

#[derive(Debug)]
pub(crate) struct Harmony {
    state: State,
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Thought,
    Said,
    Call,
}

impl Harmony {
    pub(crate) const fn new() -> Self {
        Self { state: State::Head, held: String::new() }
    }

    pub(crate) const fn is_thinking(&self) -> bool {
        matches!(self.state, State::Thought)
    }

    /// Bytes at the end that may become a mark or are in a head.
    pub(crate) const fn undecided_len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn push(&mut self, c: char, parts: &mut Vec<Part>) {
        self.held.push(c);
        if self.state == State::Head {
            self.head(parts);
        } else {
            self.body(parts);
        }
    }

    fn head(&mut self, parts: &mut Vec<Part>) {
        let text = self.held.trim_start();
        let begins = |head: &&str| head.starts_with(text) || text.starts_with(*head);
        if self.held.len() > HEAD_LEN_MAX || !HEADS.iter().any(begins) {
            // Words without a head: the runtime has left out the marks, or the model has.
            self.state = State::Said;
            append(parts, false, &std::mem::take(&mut self.held));
            return;
        }
        let Some(head) = self.held.strip_suffix(MESSAGE) else { return };
        let function = head.split_once(TO_FUNCTION).map(|(_, behind)| {
            let is_name = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
            behind.chars().take_while(is_name).collect::<String>()
        });
        let channel = head.rsplit_once(CHANNEL).map_or("", |(_, channel)| channel);
        self.state = match function {
            Some(name) => {
                let head = [CHANNEL, "commentary ", TO_FUNCTION, &name, MESSAGE].concat();
                append(parts, false, &head);
                State::Call
            }
            None if channel.starts_with("analysis") => State::Thought,
            None => State::Said,
        };
        self.held.clear();
    }

    fn body(&mut self, parts: &mut Vec<Part>) {
        while !self.held.is_empty() {
            match find(&self.held, ENDS) {
                Found::Part => return,
                Found::None => {
                    let first = self.held.remove(0);
                    let thought = self.state == State::Thought;
                    append(parts, thought, first.encode_utf8(&mut [0; 4]));
                }
                Found::Whole(end) => {
                    if self.state == State::Call {
                        append(parts, false, "<|call|>");
                    }
                    self.state = State::Head;
                    self.held.clear();
                    if end == CHANNEL {
                        self.held.push_str(CHANNEL);
                    }
                    return;
                }
            }
        }
    }

    pub(crate) fn finish(&mut self, parts: &mut Vec<Part>) {
        let held = std::mem::take(&mut self.held);
        let shown = match self.state {
            // The beginning of a head is a mark; anything else was words.
            State::Head => held.trim_start().chars().all(|c| c != '<') && !held.starts_with(' '),
            State::Thought | State::Said => true,
            State::Call => false,
        };
        if shown {
            append(parts, self.state == State::Thought, &held);
        }
    }
}
