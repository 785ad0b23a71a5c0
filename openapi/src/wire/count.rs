//! How many tokens something has.

use poem_openapi::{Enum, Object, types::Example};
use serde::Serialize;

/// What kind of object it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
pub enum InputTokensObject {
    /// A count.
    #[oai(rename = "response.input_tokens")]
    #[serde(rename = "response.input_tokens")]
    InputTokens,
}

/// How many tokens a model would be given.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
#[oai(example)]
pub struct InputTokens {
    /// Always `response.input_tokens`.
    pub object: InputTokensObject,
    /// Tokens of everything: instructions, tools, images, and what the chat template writes around them.
    pub input_tokens: u32,
}

impl Example for InputTokens {
    fn example() -> Self {
        Self { object: InputTokensObject::InputTokens, input_tokens: 26 }
    }
}
