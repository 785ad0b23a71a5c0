//! What is asked, the same of every side: prompts that begin alike in no two places of a run, so that
//! nobody's cache helps where the other's does not.

use serde_json::{Value, json};

/// The end of a prompt that the mock's script answers without an end.
pub(super) const ENDLESS: &str = "Go on and on.";
/// Tokens of a short answer, and of the answers in a conversation.
pub(super) const SHORT_TOKENS: u32 = 8;
pub(super) const TURN_TOKENS: u32 = 16;

/// How much is asked in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effort {
    /// Streamed answers, and tokens of each.
    pub(super) streams: u32,
    pub(super) stream_tokens: u32,
    /// Questions of which only the first token counts.
    pub(super) firsts: u32,
    /// Conversations of two turns, of which the first prompt is long.
    pub(super) conversations: u32,
    /// Short answers, for each number of clients.
    pub(super) requests: u32,
    /// Starts of a server.
    pub(super) starts: u32,
}

impl Effort {
    /// Where tokens take the time that they take on a board.
    pub(super) const PACED: Self = Self {
        streams: 1,
        stream_tokens: 300,
        firsts: 5,
        conversations: 1,
        requests: 8,
        starts: 3,
    };
    /// Where they take none: CPU time is counted in steps of 10 ms.
    pub(super) const AT_ONCE: Self = Self {
        streams: 10,
        stream_tokens: 3500,
        firsts: 60,
        conversations: 3,
        requests: 200,
        starts: 5,
    };

    /// As little as shows that everything works.
    pub(super) fn short(self) -> Self {
        Self {
            streams: 1,
            stream_tokens: self.stream_tokens / 15,
            firsts: 2,
            conversations: 1,
            requests: 4,
            starts: 1,
        }
    }
}

/// The questions of one round.
pub(super) struct Questions {
    round: u32,
    /// A text of so many tokens as a long prompt has.
    long: String,
}

impl Questions {
    /// A long prompt has this text.
    pub(super) fn new(round: u32, long: &str) -> Self {
        Self { round, long: long.to_owned() }
    }

    fn user(&self, kind: &str, number: u32, words: &str) -> Value {
        let Self { round, .. } = self;
        json!([{"role": "user", "content": format!("{kind} {round}.{number}: {words}")}])
    }

    pub(super) fn stream(&self, number: u32) -> Value {
        self.user("Story", number, ENDLESS)
    }

    pub(super) fn first(&self, number: u32) -> Value {
        self.user("Question", number, "What is an NPU?")
    }

    pub(super) fn short(&self, number: u32) -> Value {
        self.user("Message", number, "Tell me about the board.")
    }

    pub(super) fn long(&self, number: u32) -> Value {
        self.user("Text", number, &self.long)
    }
}

/// The second turn behind the first and its answer.
pub(super) fn second_turn(first: &Value, answer: &str) -> Value {
    let mut messages = first.clone();
    if let Some(messages) = messages.as_array_mut() {
        messages.push(json!({"role": "assistant", "content": answer}));
        messages
            .push(json!({"role": "user", "content": "And what does that mean for the memory?"}));
    }
    messages
}
