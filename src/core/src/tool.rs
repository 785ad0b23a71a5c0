//! Tools that a model may call, in OpenAI's terms.
//!
//! JSON stays text here: the API layer has checked that it is JSON, and the order of its keys is
//! part of the prompt.

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name: 1 to 64 letters, digits, underscores and dashes.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// The JSON Schema of its arguments as JSON text: an object. `None` where the client gave none.
    pub parameters: Option<String>,
    /// Whether arguments have to follow the schema to the letter.
    pub strict: bool,
}

/// Whether tools are called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// Never.
    None,
    /// As the model decides.
    #[default]
    Auto,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// A call that a model made, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The API's id of the call; results refer to it.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// Its arguments as JSON text, as the client or the model wrote it: usually an object.
    pub arguments: String,
}
