//! Bodies as Ollama's server reads them, and its words for what it cannot read.
//!
//! Its clients look at the words. The first JSON value counts and what follows does not; names of
//! fields match in either case; `null` is as good as nothing; unknown fields are nobody's business.

use std::collections::BTreeMap;

use rkllama_http::BodyError;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// An object's fields, not yet looked at.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    /// Where they stand, in the words of an error: `ChatRequest.messages`.
    path: String,
    fields: Vec<(String, &'a RawValue)>,
}

/// Why a body is refused.
pub(super) type Refused = BodyError;

fn refused(words: impl Into<String>) -> Refused {
    BodyError::Worded(words.into())
}

/// Reads a body that is an object, for a request whose type Ollama calls `name`.
pub(super) fn read<T>(
    bytes: &[u8],
    name: &str,
    build: impl FnOnce(Fields<'_>) -> Result<T, Refused>,
) -> Result<T, Refused> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.trim_ascii().is_empty() {
        return Err(refused("missing request body"));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = <&RawValue>::deserialize(&mut deserializer);
    let value = value.map_err(|error| refused(syntax(text, &error)))?;
    match kind(value) {
        Kind::Object => build(Fields::of(value, name.to_owned())),
        Kind::Null => build(Fields { path: name.to_owned(), fields: Vec::new() }),
        other => Err(refused(format!(
            "json: cannot unmarshal {} into Go value of type api.{name}",
            other.word()
        ))),
    }
}

/// What is wrong with a text that is no JSON.
fn syntax(text: &str, error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected EOF".to_owned();
    }
    let words = error.to_string();
    let place = match &*words {
        w if w.starts_with("key must be a string") => "looking for beginning of object key string",
        w if w.starts_with("expected `:`") => "after object key",
        w if w.starts_with("expected `,` or `}`") => "after object key:value pair",
        w if w.starts_with("expected `,` or `]`") => "after array element",
        w if w.starts_with("control character") => "in string literal",
        w if w.starts_with("invalid escape") => "in string escape code",
        w if w.starts_with("invalid number") => "in numeric literal",
        _ => "looking for beginning of value",
    };
    // serde's columns are of bytes, and begin with 1.
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let at = error.column().saturating_sub(1);
    let rest = (0..=at.min(line.len())).rev().find_map(|at| line.get(at..)).unwrap_or_default();
    match rest.chars().next() {
        Some(found) => format!("invalid character {found:?} {place}"),
        None => format!("invalid character '\\n' {place}"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Null => "null",
        }
    }
}

/// What a value is. It is known to be JSON.
pub(super) fn kind(value: &RawValue) -> Kind {
    match value.get().as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'n') | None => Kind::Null,
        Some(_) => Kind::Number,
    }
}

impl<'a> Fields<'a> {
    /// The fields of an object; of anything else none.
    pub(super) fn of(value: &'a RawValue, path: String) -> Self {
        let fields = serde_json::from_str::<Entries<'a>>(value.get());
        Self { path, fields: fields.map(|entries| entries.0).unwrap_or_default() }
    }

    /// A field's value as it stands, unless it is null. Of several of one name the last counts.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        let mut fields = self.fields.iter().rev();
        let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| *value).filter(|value| kind(value) != Kind::Null)
    }

    fn wrong(&self, name: &str, value: &RawValue, expected: &str) -> Refused {
        let found = match kind(value) {
            Kind::Number if expected.starts_with("int") => format!("number {}", value.get()),
            other => other.word().to_owned(),
        };
        refused(format!(
            "json: cannot unmarshal {found} into Go struct field {}.{name} of type {expected}",
            self.path
        ))
    }

    fn typed<T: Deserialize<'a>>(&self, name: &str, expected: &str) -> Result<Option<T>, Refused> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let read = serde_json::from_str(value.get());
        read.map(Some).map_err(|_| self.wrong(name, value, expected))
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Refused> {
        self.typed(name, "string")
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refused> {
        self.typed(name, "bool")
    }

    /// A place in a list.
    pub(super) fn place(&self, name: &str) -> Result<Option<u32>, Refused> {
        self.typed(name, "int")
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Refused> {
        self.typed(name, "int")
    }

    /// Pictures: standard base64.
    pub(super) fn images(&self, name: &str) -> Result<Vec<String>, Refused> {
        let images: Option<Vec<String>> = self.typed(name, "[]api.ImageData")?;
        let images = images.unwrap_or_default();
        for image in &images {
            if let Some(at) = not_base64(image) {
                return Err(refused(format!("illegal base64 data at input byte {at}")));
            }
        }
        Ok(images)
    }

    /// Token ids.
    pub(super) fn tokens(&self, name: &str) -> Result<Vec<i32>, Refused> {
        Ok(self.typed(name, "[]int")?.unwrap_or_default())
    }

    /// An object's fields.
    pub(super) fn object(&self, name: &str, expected: &str) -> Result<Option<Fields<'a>>, Refused> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        match kind(value) {
            Kind::Object => Ok(Some(Fields::of(value, format!("{}.{name}", self.path)))),
            _ => Err(self.wrong(name, value, expected)),
        }
    }

    /// An object of texts.
    pub(super) fn map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, Refused> {
        self.typed(name, "map[string]string")
    }

    /// The objects of an array.
    pub(super) fn objects(&self, name: &str, of: &str) -> Result<Vec<Fields<'a>>, Refused> {
        let Some(value) = self.raw(name) else { return Ok(Vec::new()) };
        let items: Vec<&'a RawValue> = serde_json::from_str(value.get())
            .map_err(|_| self.wrong(name, value, &format!("[]{of}")))?;
        let item = |item: &'a RawValue| match kind(item) {
            Kind::Object => Ok(Fields::of(item, format!("{}.{name}", self.path))),
            _ => Err(self.wrong(name, item, of)),
        };
        items.into_iter().map(item).collect()
    }
}

/// The place of the first byte that makes a text no base64.
fn not_base64(text: &str) -> Option<usize> {
    use base64::{DecodeError, Engine, prelude::BASE64_STANDARD};
    // Lines may be broken, which is how some tools write it.
    let joined = text.replace(['\r', '\n'], "");
    match BASE64_STANDARD.decode(joined.as_bytes()) {
        Ok(_) => None,
        Err(
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol { offset: at, .. },
        ) => Some(at),
        Err(_) => Some(joined.len() / 4 * 4),
    }
}

/// An object's fields in their order, whatever they are.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(EntriesVisitor).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(body: &str) -> String {
        let read = read(body.as_bytes(), "ChatRequest", |fields| {
            fields.text("model")?;
            fields.flag("stream")?;
            fields.integer("top_logprobs")?;
            fields.object("options", "map[string]interface {}")?;
            for message in fields.objects("messages", "api.Message")? {
                message.text("content")?;
                message.images("images")?;
            }
            Ok(())
        });
        read.map_or_else(|refused| refused.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn the_words_are_ollamas() {
        let field = |found: &str, field: &str, expected: &str| {
            format!(
                "json: cannot unmarshal {found} into Go struct field ChatRequest.{field} of type {expected}"
            )
        };
        let image = "{\"messages\":[{\"images\":[\"data:image/png;base64,AAAA\"]}]}";
        for (body, expected) in [
            ("", "missing request body".to_owned()),
            (" \n", "missing request body".to_owned()),
            ("{\"model\":", "unexpected EOF".to_owned()),
            ("hello", "invalid character 'h' looking for beginning of value".to_owned()),
            ("{\"a\" 1}", "invalid character '1' after object key".to_owned()),
            ("[]", "json: cannot unmarshal array into Go value of type api.ChatRequest".to_owned()),
            ("{\"model\":1}", field("number", "model", "string")),
            ("{\"stream\":\"false\"}", field("string", "stream", "bool")),
            ("{\"top_logprobs\":1.5}", field("number 1.5", "top_logprobs", "int")),
            ("{\"options\":[1]}", field("array", "options", "map[string]interface {}")),
            ("{\"messages\":\"hi\"}", field("string", "messages", "[]api.Message")),
            ("{\"messages\":[{\"content\":[]}]}", field("array", "messages.content", "string")),
            (
                "{\"messages\":[{\"images\":[\"!!!\"]}]}",
                "illegal base64 data at input byte 0".to_owned(),
            ),
            (image, "illegal base64 data at input byte 4".to_owned()),
            ("null", "fine".to_owned()),
            ("{\"MODEL\":\"x\",\"stream\":null,\"foo\":1} garbage", "fine".to_owned()),
        ] {
            assert_eq!(words(body), expected, "{body}");
        }
    }

    #[test]
    fn names_match_in_either_case_and_the_last_counts() {
        let body = r#"{"Model":"a","model":"b"}"#;
        let model = read(body.as_bytes(), "ChatRequest", |fields| fields.text("model")).unwrap();
        assert_eq!(model.as_deref(), Some("b"));
    }
}
