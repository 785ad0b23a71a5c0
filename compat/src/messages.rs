//! Conversations in OpenAI's form, as llama-server's and the old RKLLama's routes take them.

use std::fmt;

use poem_openapi::{Enum, Object};
use rkllama_core::{Message, Role, Tool, ToolCall};
use rkllama_http::{
    JsonObject, Nullable, document_one_of, given, read_from_object, read_from_string,
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use crate::checks::{TOOLS_MAX, is_tool_name};

/// A message of a conversation.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "PlainMessage", skip_serializing_if_is_none)]
pub struct PlainMessage {
    /// Who speaks.
    pub role: PlainRole,
    /// A text, or parts of it.
    pub content: Option<Nullable<PlainContent>>,
    /// The speaker's name.
    #[oai(nullable)]
    pub name: Option<String>,
    /// What the assistant thought.
    #[oai(nullable)]
    pub reasoning_content: Option<String>,
    /// The calls that the assistant made.
    #[oai(nullable)]
    pub tool_calls: Option<Vec<PlainCall>>,
    /// In a message of the role `tool`: the call that it answers.
    #[oai(nullable)]
    pub tool_call_id: Option<String>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename = "PlainRole", rename_all = "lowercase")]
#[serde(rename_all = "lowercase", remote = "Self")]
pub enum PlainRole {
    /// Instructions.
    System,
    /// The same.
    Developer,
    /// The person.
    #[default]
    User,
    /// The model.
    Assistant,
    /// The result of a call.
    Tool,
}

/// What is said.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum PlainContent {
    /// A text.
    Text(String),
    /// Parts.
    Parts(Vec<PlainPart>),
}

document_one_of!(PlainContent, "A text, or an array of parts of it.", [String, Vec<PlainPart>]);

impl<'de> Deserialize<'de> for PlainContent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = PlainContent;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of parts")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PlainContent, E> {
                Ok(PlainContent::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<PlainContent, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(parts)).map(PlainContent::Parts)
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

/// A part of a text.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
#[oai(rename = "PlainPart")]
pub struct PlainPart {
    /// `text`; nothing else is taken.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    #[serde(default)]
    pub text: String,
}

/// A call of a function.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "PlainCall", skip_serializing_if_is_none)]
pub struct PlainCall {
    /// The call's id.
    #[oai(nullable)]
    pub id: Option<String>,
    /// What is called.
    pub function: PlainCalled,
}

/// What is called.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "PlainCalledFunction")]
pub struct PlainCalled {
    /// The function.
    pub name: String,
    /// Its arguments, as JSON in a text.
    pub arguments: String,
}

/// A function that the model may call.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "PlainTool")]
pub struct PlainTool {
    /// What it is.
    pub function: PlainFunction,
}

/// What a function is.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "PlainFunction", skip_serializing_if_is_none)]
pub struct PlainFunction {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    #[oai(nullable)]
    pub description: Option<String>,
    /// The JSON Schema of its arguments.
    #[oai(nullable)]
    pub parameters: Option<JsonObject>,
}

read_from_object!(PlainMessage, PlainCall, PlainCalled, PlainTool, PlainFunction);
read_from_string!(PlainRole);

/// The messages in the domain's words; an error names the field.
pub(crate) fn conversation(wire: Vec<PlainMessage>) -> Result<Vec<Message>, (String, String)> {
    let messages = wire.into_iter().enumerate().map(|(at, message)| {
        let content = match given(message.content) {
            None => String::new(),
            Some(PlainContent::Text(text)) => text,
            Some(PlainContent::Parts(parts)) => {
                if let Some(part) = parts.iter().position(|part| part.kind != "text") {
                    let field = format!("messages[{at}].content[{part}].type");
                    return Err((field, "only 'text' is supported here".to_owned()));
                }
                parts.into_iter().map(|part| part.text).collect()
            }
        };
        let calls = message.tool_calls.unwrap_or_default().into_iter().enumerate();
        let calls = calls.map(|(place, call)| ToolCall {
            id: call.id.unwrap_or_else(|| format!("call_{place}")),
            name: call.function.name,
            arguments: call.function.arguments,
        });
        Ok(Message {
            name: message.name,
            reasoning: message.reasoning_content,
            tool_calls: calls.collect(),
            tool_call_id: message.tool_call_id,
            ..Message::new(message.role.into(), content)
        })
    });
    messages.collect()
}

/// The functions in the domain's words; an error names the field.
pub(crate) fn tools(wire: Vec<PlainTool>) -> Result<Vec<Tool>, (String, String)> {
    if wire.len() > TOOLS_MAX {
        return Err(("tools".to_owned(), format!("there are more than {TOOLS_MAX}")));
    }
    let tools = wire.into_iter().enumerate().map(|(at, tool)| {
        let PlainFunction { name, description, parameters } = tool.function;
        if !is_tool_name(&name) {
            let words = "a name has 1 to 64 letters, digits, underscores and dashes";
            return Err((format!("tools[{at}].function.name"), words.to_owned()));
        }
        let parameters = parameters.map(|parameters| parameters.text().to_owned());
        Ok(Tool { name, description, parameters, strict: false })
    });
    tools.collect()
}

impl From<PlainRole> for Role {
    fn from(role: PlainRole) -> Self {
        match role {
            PlainRole::System => Self::System,
            PlainRole::Developer => Self::Developer,
            PlainRole::User => Self::User,
            PlainRole::Assistant => Self::Assistant,
            PlainRole::Tool => Self::Tool,
        }
    }
}
