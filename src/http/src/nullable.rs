//! Fields that are always there and may be null.

use std::borrow::Cow;

use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `null` or a value, and always there: `required` with `nullable`, which `Option` cannot say,
/// since poem-openapi never lists an `Option` in `required`.
///
/// Inside an `Option` for fields of a request whose schema is a reference: there the attribute
/// `nullable` says nothing that counts. [`given`] takes both off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nullable<T>(pub Option<T>);

/// The value of a field that may be absent or null.
pub fn given<T>(field: Option<Nullable<T>>) -> Option<T> {
    field.and_then(|nullable| nullable.0)
}

impl<T> Nullable<T> {
    /// The value, for a field that is read where it stands.
    pub const fn as_given(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<T: Type> Type for Nullable<T> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        format!("nullable_{}", T::name()).into()
    }

    fn schema_ref() -> MetaSchemaRef {
        let nullable = MetaSchema { nullable: true, ..MetaSchema::ANY };
        MetaSchemaRef::Inline(Box::new(match T::schema_ref() {
            MetaSchemaRef::Inline(schema) => schema.merge(nullable),
            // OpenAPI 3.0 ignores what stands beside a `$ref`, and `nullable` counts beside a
            // `type` only: null needs a schema of its own.
            reference => {
                let null = MetaSchema {
                    nullable: true,
                    enum_items: vec![Value::Null],
                    ..MetaSchema::new("object")
                };
                let null = MetaSchemaRef::Inline(Box::new(null));
                MetaSchema { any_of: vec![reference, null], ..MetaSchema::ANY }
            }
        }))
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl<T: ParseFromJSON> ParseFromJSON for Nullable<T> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        Option::parse_from_json(value).map(Self).map_err(ParseError::propagate)
    }
}

impl<T: ToJSON> ToJSON for Nullable<T> {
    fn to_json(&self) -> Option<Value> {
        Some(self.0.to_json().unwrap_or_default())
    }
}
