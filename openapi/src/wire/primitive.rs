//! The building blocks of wire types, and the error body.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use poem_openapi::{
    Object,
    registry::{MetaSchema, MetaSchemaRef},
    types::{Example, ParseError, ParseFromParameter, ParseResult, Type},
};
use rkllama_http::{Nullable, document_as};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::Value;

/// A JSON object that is documented as such and not kept: only whether it has any keys.
///
/// As a tree of values a body of 30 MB would take a gigabyte, for nothing. What is written in its
/// place is an empty object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnyObject {
    /// Whether it has any keys.
    pub has_keys: bool,
}

/// A JSON value of any type that is not kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnyValue;

impl<'de> Deserialize<'de> for AnyObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;
        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = AnyObject;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyObject, A::Error> {
                let mut has_keys = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    has_keys = true;
                }
                Ok(AnyObject { has_keys })
            }
        }
        deserializer.deserialize_map(KeysVisitor)
    }
}

impl Serialize for AnyObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_map(Some(0))?.end()
    }
}

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Serialize for AnyValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

document_as!(AnyObject, BTreeMap<String, Value>);
document_as!(AnyValue, Value);

/// How many items of a list are wanted. Its bounds are kept where it is used, since what poem-openapi
/// says of a bound that is not kept names no field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLen(pub i64);

impl PageLen {
    /// Most items of a page: OpenAI's own number.
    pub const MAX: i32 = 100;
}

impl Type for PageLen {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        i64::name()
    }

    fn schema_ref() -> MetaSchemaRef {
        i64::schema_ref().merge(MetaSchema {
            minimum: Some(1.0),
            maximum: Some(Self::MAX.into()),
            ..MetaSchema::ANY
        })
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromParameter for PageLen {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        i64::parse_from_parameter(value).map(Self).map_err(ParseError::propagate)
    }
}

/// An error.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct ErrorObject {
    /// What went wrong, in a sentence.
    pub message: String,
    /// `invalid_request_error` where the request is at fault, `server_error` where the server is,
    /// `requests` where a key's limit is reached.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    pub kind: String,
    /// The field at fault, such as `messages[0].content`.
    pub param: Nullable<String>,
    /// For programs, such as `model_not_found` or `context_length_exceeded`.
    pub code: Nullable<String>,
    /// With `context_length_exceeded`: tokens of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_prompt_tokens: Option<u32>,
    /// With `context_length_exceeded`: tokens the model's context holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_ctx: Option<u32>,
}

/// The body of every answer that is no success.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example)]
pub struct ErrorResponse {
    /// The error.
    pub error: ErrorObject,
}

impl Example for ErrorResponse {
    fn example() -> Self {
        Self {
            error: ErrorObject {
                message: "Missing required parameter: 'messages'.".to_owned(),
                kind: "invalid_request_error".to_owned(),
                param: Nullable(Some("messages".to_owned())),
                code: Nullable(Some("missing_required_parameter".to_owned())),
                n_prompt_tokens: None,
                n_ctx: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deep, wide or both: nothing of it stays.
    #[test]
    fn an_object_that_is_not_looked_into_takes_no_memory() {
        assert_eq!((size_of::<AnyObject>(), size_of::<AnyValue>()), (1, 0));
        for (text, has_keys) in [
            ("{}".to_owned(), false),
            (r#"{"a":1,"a":[{"b":null}]}"#.to_owned(), true),
            (format!(r#"{{"a":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000)), true),
        ] {
            let object: AnyObject = serde_json::from_str(&text).unwrap();
            assert_eq!(object, AnyObject { has_keys });
        }
        assert!(serde_json::from_str::<AnyObject>(r#"{"a":}"#).is_err());
        assert!(serde_json::from_str::<AnyObject>("[]").is_err());
    }
}
