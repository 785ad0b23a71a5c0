//! JSON that is kept as the text the client wrote.
//!
//! The order of keys is a part of the prompt, and a tree of values takes thirty times the memory.

use std::collections::BTreeMap;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Unexpected},
};
use serde_json::{Value, value::RawValue};

use crate::document_as;

/// A JSON object, as it was written.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct JsonObject(Box<RawValue>);

/// A JSON value of any type, as it was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonValue(Box<RawValue>);

impl JsonObject {
    /// The text.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// The same on one line, as the data of an event has to be. In JSON a line feed can stand
    /// between tokens only.
    #[must_use]
    pub fn on_one_line(self) -> Self {
        if !self.text().contains(['\n', '\r']) {
            return self;
        }
        let line = self.text().replace(['\n', '\r'], " ");
        RawValue::from_string(line).map_or(self, Self)
    }

    /// The object that `value` is.
    ///
    /// # Errors
    /// As `serde_json` does for a value that is no object.
    pub fn of(value: &Value) -> serde_json::Result<Self> {
        serde_json::from_str(&value.to_string())
    }
}

impl JsonValue {
    /// The text.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Box::<RawValue>::deserialize(deserializer)?;
        let got = match value.get().as_bytes().first() {
            Some(b'{') => return Ok(Self(value)),
            Some(b'[') => Unexpected::Seq,
            Some(b'"') => Unexpected::Str(""),
            Some(b't') => Unexpected::Bool(true),
            Some(b'f') => Unexpected::Bool(false),
            Some(b'n') | None => Unexpected::Unit,
            Some(_) => Unexpected::Float(0.0),
        };
        Err(D::Error::invalid_type(got, &"an object"))
    }
}

document_as!(JsonObject, BTreeMap<String, Value>);
document_as!(JsonValue, Value);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_stays_as_it_was() {
        let text = r#"{ "b":1.0, "a":[ 2 ], "b":"\u00e9" }"#;
        assert_eq!(serde_json::from_str::<JsonObject>(text).unwrap().text(), text);
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(serde_json::from_str::<JsonObject>(&deep).unwrap().text(), deep);
        let lines = "{\n\t\"a\":\r\n\"\\n\"}";
        let lines = serde_json::from_str::<JsonObject>(lines).unwrap().on_one_line();
        assert_eq!(lines.text(), "{ \t\"a\":  \"\\n\"}");
        for other in ["[]", "\"{}\"", "7", "null", "true"] {
            let error = serde_json::from_str::<JsonObject>(other).unwrap_err().to_string();
            assert!(error.contains("expected an object"), "{error}");
        }
    }
}
