//! One answer, told apart: what is thought, what is said, and which tools are called.
//!
//! Thoughts come first: a call inside a thought is a thought. What is said goes through the reader
//! of calls if tools were offered, and else passes as it is.

use rkllama_core::{Chat, Event, ToolCallPiece};

use crate::{
    Capabilities,
    history::offered,
    thoughts::{Part, Thoughts},
    tools::{Calls, Piece, ToolParser},
};

/// Reads an answer that arrives in pieces. Whatever the pieces are, the events are the same when
/// those of a kind that follow each other are joined.
#[derive(Debug)]
pub struct AnswerParser {
    thoughts: Thoughts,
    tools: Option<ToolParser>,
    /// Whether thoughts are a part of the text.
    verbatim: bool,
    /// Calls that have begun.
    begun: usize,
}

impl AnswerParser {
    /// A reader of an answer to this conversation, which begins inside a thought or not.
    pub(crate) fn new(capabilities: &Capabilities, chat: &Chat, thinking: bool) -> Self {
        let verbatim = !chat.split_reasoning;
        let offered = offered(chat);
        let tools = (!offered.is_empty()).then(|| {
            let parser = ToolParser::new(capabilities.tool_format, offered);
            if chat.parallel_tool_calls { parser } else { parser.single() }
        });
        let thoughts = Thoughts::new(capabilities.reasoning_format, thinking, verbatim);
        Self { thoughts, tools, verbatim, begun: 0 }
    }

    /// Takes text, gives what is certain: reasoning, text and pieces of calls.
    pub fn push(&mut self, text: &str) -> Vec<Event> {
        let parts = self.thoughts.push(text);
        self.events(parts)
    }

    /// The answer has ended: gives what was held back.
    pub fn finish(&mut self) -> Vec<Event> {
        let parts = self.thoughts.finish();
        let mut events = self.events(parts);
        if let Some(tools) = &mut self.tools {
            let pieces = tools.finish();
            self.calls_of(pieces, &mut events);
        }
        events
    }

    /// Whether what comes next is a thought, as far as one can tell.
    pub const fn is_thinking(&self) -> bool {
        self.thoughts.is_thinking()
    }

    /// The calls so far; after [`AnswerParser::finish`] all of them. An answer with complete calls and
    /// none that is cut may end as `ToolCalls`; one with a call that is cut has to end otherwise.
    pub fn calls(&self) -> Calls {
        self.tools.as_ref().map_or(Calls { made: 0, cut: false }, ToolParser::calls)
    }

    /// Whether nothing that could follow would be read: the one call that was allowed is made. The
    /// run may be ended.
    pub fn is_over(&self) -> bool {
        self.tools.as_ref().is_some_and(ToolParser::is_over)
    }

    /// How much of the text's end, in bytes, may yet become a mark or the beginning of a call.
    pub fn undecided_len(&self) -> usize {
        let calls = self.tools.as_ref().map_or(0, ToolParser::undecided_len);
        self.thoughts.undecided_len() + calls
    }

    fn events(&mut self, parts: Vec<Part>) -> Vec<Event> {
        let mut events = Vec::with_capacity(parts.len());
        for part in parts {
            match (part, &mut self.tools) {
                (Part::Thought(thought), _) if self.verbatim => text(thought, &mut events),
                (Part::Thought(thought), _) => events.push(Event::Reasoning(thought)),
                (Part::Said(said), None) => text(said, &mut events),
                (Part::Said(said), Some(tools)) => {
                    let pieces = tools.push(&said);
                    self.calls_of(pieces, &mut events);
                }
            }
        }
        events
    }

    fn calls_of(&mut self, pieces: Vec<Piece>, events: &mut Vec<Event>) {
        for piece in pieces {
            match piece {
                Piece::Text(said) => text(said, events),
                Piece::Begin { name } => {
                    let index = self.begun;
                    self.begun += 1;
                    events.push(Event::ToolCall(ToolCallPiece::Begin { index, name }));
                }
                Piece::Arguments(json) => {
                    let index = self.begun.saturating_sub(1);
                    events.push(Event::ToolCall(ToolCallPiece::Arguments { index, json }));
                }
            }
        }
    }
}

/// Text behind text is one.
fn text(said: String, events: &mut Vec<Event>) {
    match events.last_mut() {
        Some(Event::Text(last)) => last.push_str(&said),
        _ => events.push(Event::Text(said)),
    }
}
