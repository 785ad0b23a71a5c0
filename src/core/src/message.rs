//! A conversation's messages, in OpenAI's terms.

use serde::{Deserialize, Serialize};

use crate::{IMAGE_MARK, Image, ToolCall};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The operator's instructions.
    System,
    /// The application's instructions: OpenAI's newer name for `system`.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The name as it stands on the wire and in chat templates.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; empty where the assistant only called tools. Text parts of a request are
    /// joined by the API layer, and [`IMAGE_MARK`] stands for each image.
    pub content: String,
    /// The images, in the order of their marks.
    pub images: Vec<Image>,
    /// The speaker's name where the API gives one; templates may use it.
    pub name: Option<String>,
    /// What the assistant thought before it said this, if the client kept it. Most templates leave
    /// out the thoughts of earlier turns.
    pub reasoning: Option<String>,
    /// The calls that the assistant made in this turn.
    pub tool_calls: Vec<ToolCall>,
    /// In a turn of the role `tool`: the call that it answers.
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message of nothing but text.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            images: Vec::new(),
            name: None,
            reasoning: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }

    /// Adds a part of text; a line feed stands between two of them.
    pub fn push_text(&mut self, text: &str) {
        if !self.content.is_empty() && !self.content.ends_with(IMAGE_MARK) {
            self.content.push('\n');
        }
        self.content.extend(text.chars().map(|it| if it == IMAGE_MARK { '\u{fffd}' } else { it }));
    }

    /// Adds an image.
    pub fn push_image(&mut self, image: Image) {
        self.content.push(IMAGE_MARK);
        self.images.push(image);
    }
}
