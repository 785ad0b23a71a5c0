//! How wire types are read and documented where the derives do something else.
//!
//! For crates that depend on `poem-openapi` and `serde_json`.

/// Documents a type that is not kept as the schema of another.
#[macro_export]
macro_rules! document_as {
    ($type:ty, $documented:ty) => {
        impl poem_openapi::types::Type for $type {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> std::borrow::Cow<'static, str> {
                <$documented as poem_openapi::types::Type>::name()
            }

            fn schema_ref() -> poem_openapi::registry::MetaSchemaRef {
                <$documented as poem_openapi::types::Type>::schema_ref()
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(std::iter::once(self))
            }
        }

        impl poem_openapi::types::ParseFromJSON for $type {
            fn parse_from_json(
                value: Option<serde_json::Value>,
            ) -> poem_openapi::types::ParseResult<Self> {
                serde_json::from_value(value.unwrap_or_default())
                    .map_err(poem_openapi::types::ParseError::custom)
            }
        }

        impl poem_openapi::types::ToJSON for $type {
            fn to_json(&self) -> Option<serde_json::Value> {
                serde_json::to_value(self).ok()
            }
        }
    };
}

/// Documents a hand-read type as one of several schemas.
///
/// poem-openapi's `Union` writes `"type": "object"` beside the `oneOf`, which no string and no
/// array can satisfy, and copies the whole value once for each alternative.
#[macro_export]
macro_rules! document_one_of {
    ($type:ident, $description:literal, [$($alternative:ty $(: $bounds:expr)?),+]) => {
        impl poem_openapi::types::Type for $type {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn schema_ref() -> poem_openapi::registry::MetaSchemaRef {
                poem_openapi::registry::MetaSchemaRef::Reference(Self::name().into_owned())
            }

            fn register(registry: &mut poem_openapi::registry::Registry) {
                registry.create_schema::<Self, _>(Self::name().into_owned(), |registry| {
                    $(<$alternative as poem_openapi::types::Type>::register(registry);)+
                    poem_openapi::registry::MetaSchema {
                        description: Some($description),
                        one_of: vec![
                            $(<$alternative as poem_openapi::types::Type>::schema_ref()$(.merge($bounds))?),+
                        ],
                        ..poem_openapi::registry::MetaSchema::ANY
                    }
                });
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(std::iter::once(self))
            }
        }

        impl poem_openapi::types::ParseFromJSON for $type {
            fn parse_from_json(
                value: Option<serde_json::Value>,
            ) -> poem_openapi::types::ParseResult<Self> {
                serde_json::from_value(value.unwrap_or_default())
                    .map_err(poem_openapi::types::ParseError::custom)
            }
        }

        impl poem_openapi::types::ToJSON for $type {
            fn to_json(&self) -> Option<serde_json::Value> {
                serde_json::to_value(self).ok()
            }
        }
    };
}

/// Lets a struct be read from a JSON object only.
///
/// serde's derive takes an array too, field by field, which would make `["user", "hi"]` a message.
/// The struct derives `Deserialize` with `remote = "Self"`, which gives it a plain function that
/// this trait implementation calls once it has seen an object.
#[macro_export]
macro_rules! read_from_object {
    ($($type:ident),* $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ObjectVisitor;
                impl<'de> serde::de::Visitor<'de> for ObjectVisitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        map: A,
                    ) -> Result<$type, A::Error> {
                        $type::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    }
                }
                deserializer.deserialize_map(ObjectVisitor)
            }
        }
    )*};
}

/// Lets an enum be read from a JSON string only.
///
/// `serde_json` reads an enum from an object with one key too, so that `{"user": null}` would be
/// a role, and calls anything else broken JSON instead of naming its type. The enum derives
/// `Deserialize` with `remote = "Self"`, as in [`read_from_object`].
#[macro_export]
macro_rules! read_from_string {
    ($($type:ident),* $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct StringVisitor;
                impl serde::de::Visitor<'_> for StringVisitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a string")
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        $type::deserialize(serde::de::value::StrDeserializer::new(text))
                    }
                }
                deserializer.deserialize_str(StringVisitor)
            }
        }
    )*};
}
