//! How much a model thinks before it answers, and where its thoughts go.

use std::fmt;

use poem_openapi::{Enum, Object};
use rkllama_http::{document_one_of, read_from_object, read_from_string};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value},
};

/// How much a model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum ReasoningEffort {
    /// Not at all.
    None,
    /// Hardly.
    Minimal,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// Very much.
    Xhigh,
    /// As much as it can.
    Max,
}

impl ReasoningEffort {
    /// Its name, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }
}

/// Where thoughts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum ReasoningFormat {
    /// They stay in the content.
    None,
    /// Into `reasoning_content`.
    Auto,
    /// Into `reasoning_content`.
    Deepseek,
}

/// A switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum ThinkingType {
    /// The model thinks.
    Enabled,
    /// It does not.
    Disabled,
    /// As the model's template has it.
    Auto,
}

/// A switch in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Object, Deserialize)]
#[serde(remote = "Self")]
pub struct ThinkingObject {
    /// The switch.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: ThinkingType,
}

/// Whether the model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Thinking {
    /// Yes or no.
    Is(bool),
    /// In an object.
    Object(#[serde(serialize_with = "serialize_object")] ThinkingObject),
}

// `remote = "Self"` leaves the object without the trait; the document needs the value only.
fn serialize_object<S: serde::Serializer>(
    object: &ThinkingObject,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    use poem_openapi::types::ToJSON;
    object.to_json().serialize(serializer)
}

impl<'de> Deserialize<'de> for Thinking {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ThinkingVisitor;
        impl<'de> Visitor<'de> for ThinkingVisitor {
            type Value = Thinking;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of a boolean or an object")
            }
            fn visit_bool<E: de::Error>(self, is_on: bool) -> Result<Thinking, E> {
                Ok(Thinking::Is(is_on))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Thinking, A::Error> {
                ThinkingObject::deserialize(value::MapAccessDeserializer::new(map))
                    .map(Thinking::Object)
            }
        }
        deserializer.deserialize_any(ThinkingVisitor)
    }
}

document_one_of!(Thinking, "A boolean, or an object with a switch.", [bool, ThinkingObject]);

read_from_object!(ThinkingObject);
read_from_string!(ReasoningEffort, ReasoningFormat, ThinkingType);
