//! One answer, told apart: what is thought, what is said, and what calls of tools it makes.

use rkllama_core::{Chat, Event};

use crate::Capabilities;

/// Reads an answer that arrives in pieces.
#[derive(Debug)]
pub struct AnswerParser {}

impl AnswerParser {
    pub(crate) const fn new(_capabilities: &Capabilities, _chat: &Chat, _thinking: bool) -> Self {
        Self {}
    }

    /// Takes text, gives what is certain.
    pub fn push(&mut self, text: &str) -> Vec<Event> {
        if text.is_empty() { Vec::new() } else { vec![Event::Text(text.to_owned())] }
    }
}
