//! Parameters of several forms: texts that end an answer, and lengths of time.

use std::fmt;

use poem_openapi::registry::MetaSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IgnoredAny, SeqAccess, Visitor},
};

use rkllama_http::document_one_of;

/// Stop texts of one request. Each is searched for in all that is generated; OpenAI takes 4,
/// llama-server's clients send a few dozen.
pub const STOP_TEXTS_MAX: usize = 64;
/// Bytes of one stop text. As many have to be held back while they may be its beginning, and no
/// model says so much by accident.
pub const STOP_TEXT_BYTES_MAX: usize = 4096;

/// What the document can say of a text's length: it counts characters, which are never more.
fn stop_text_bounds() -> MetaSchema {
    MetaSchema { max_length: Some(STOP_TEXT_BYTES_MAX), ..MetaSchema::ANY }
}

/// Texts that end an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Stop {
    /// One.
    One(String),
    /// Up to [`STOP_TEXTS_MAX`].
    Several(Vec<String>),
}

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StopVisitor;
        impl<'de> Visitor<'de> for StopVisitor {
            type Value = Stop;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of a string or an array of strings")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Stop, E> {
                Ok(Stop::One(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Stop, A::Error> {
                let mut texts = Vec::new();
                while texts.len() < STOP_TEXTS_MAX {
                    match seq.next_element()? {
                        Some(text) => texts.push(text),
                        None => return Ok(Stop::Several(texts)),
                    }
                }
                // Counted and not kept: a body may hold millions.
                let mut len = texts.len();
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    len += 1;
                }
                if len == STOP_TEXTS_MAX {
                    return Ok(Stop::Several(texts));
                }
                let expected = format!("an array with maximum length {STOP_TEXTS_MAX}");
                Err(de::Error::invalid_length(len, &&*expected))
            }
        }
        deserializer.deserialize_any(StopVisitor)
    }
}

document_one_of!(
    Stop,
    "One text, or up to 64 of them, each of at most 4096 bytes. Empty texts are dropped.",
    [
        String: stop_text_bounds(),
        Vec<String>: MetaSchema {
            items: Some(Box::new(String::schema_ref().merge(stop_text_bounds()))),
            max_items: Some(STOP_TEXTS_MAX),
            ..MetaSchema::ANY
        }
    ]
);

/// A length of time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum KeepAlive {
    /// Seconds; negative means for ever.
    Seconds(f64),
    /// A number with units: `300ms`, `5m`, `1h30m`.
    Text(String),
}

impl<'de> Deserialize<'de> for KeepAlive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeepAliveVisitor;
        impl Visitor<'_> for KeepAliveVisitor {
            type Value = KeepAlive;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of a number or a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<KeepAlive, E> {
                Ok(KeepAlive::Text(text.to_owned()))
            }
            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<KeepAlive, E> {
                Ok(KeepAlive::Seconds(seconds))
            }
            #[allow(clippy::cast_precision_loss, reason = "seconds beyond 2^53 are for ever")]
            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<KeepAlive, E> {
                Ok(KeepAlive::Seconds(seconds as f64))
            }
            #[allow(clippy::cast_precision_loss, reason = "seconds beyond 2^53 are for ever")]
            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<KeepAlive, E> {
                Ok(KeepAlive::Seconds(seconds as f64))
            }
        }
        deserializer.deserialize_any(KeepAliveVisitor)
    }
}

document_one_of!(
    KeepAlive,
    "Seconds, or a number with units such as `5m`. 0 means not at all, negative for ever.",
    [f64, String]
);
