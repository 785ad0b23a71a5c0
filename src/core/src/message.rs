//! A conversation's messages, in OpenAI's terms.

use serde::{Deserialize, Serialize};

use crate::ToolCall;

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
    /// joined by the API layer.
    pub content: String,
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
            name: None,
            reasoning: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }
}
