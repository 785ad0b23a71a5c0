//! Whether schemas exclude each other, so that "one of" them is the same as "any of" them.
//!
//! Generators write `oneOf` for unions that are told apart by a type or by a property with a
//! constant. Those are recognised; in doubt nothing is claimed.

use serde_json::{Map, Value};

use super::schema::local_pointer;

/// References followed to find out what an option is.
const REFERENCES_MAX: usize = 16;

/// What is certain of a schema.
#[derive(Clone, Copy)]
pub(super) struct Shape<'a> {
    schema: Option<&'a Map<String, Value>>,
    root: &'a Value,
}

impl<'a> Shape<'a> {
    /// Of a schema inside of `root`.
    pub(super) fn of(schema: &'a Value, root: &'a Value) -> Self {
        let mut schema = schema.as_object();
        for _ in 0..REFERENCES_MAX {
            let Some(reference) = schema.and_then(|schema| schema.get("$ref")?.as_str()) else {
                return Self { schema, root };
            };
            let target = local_pointer(reference).and_then(|pointer| root.pointer(&pointer));
            schema = target.and_then(Value::as_object);
        }
        Self { schema: None, root }
    }

    /// The values it allows, if it lists them.
    fn values(&self) -> Option<Vec<&'a Value>> {
        let schema = self.schema?;
        if self.is_nullable() {
            return None;
        }
        match (schema.get("const"), schema.get("enum")) {
            (Some(value), _) => Some(vec![value]),
            (None, Some(values)) => Some(values.as_array()?.iter().collect()),
            (None, None) => None,
        }
    }

    fn is_nullable(&self) -> bool {
        self.schema.is_some_and(|schema| schema.get("nullable") == Some(&Value::Bool(true)))
    }

    /// The types it allows, if it says so.
    fn types(&self) -> Option<Vec<&'a str>> {
        if self.is_nullable() {
            return None;
        }
        if let Some(values) = self.values() {
            return Some(values.into_iter().map(type_of).collect());
        }
        match self.schema?.get("type")? {
            Value::String(name) => Some(vec![name]),
            Value::Array(names) => names.iter().map(Value::as_str).collect(),
            _ => None,
        }
    }

    fn property(&self, name: &str) -> Option<Self> {
        let property = self.schema?.get("properties")?.get(name)?;
        Some(Self::of(property, self.root))
    }

    fn requires(&self, name: &str) -> bool {
        let required = self.schema.and_then(|schema| schema.get("required")?.as_array());
        required.is_some_and(|names| names.iter().any(|required| required.as_str() == Some(name)))
    }

    fn excludes(&self, other: &Self) -> bool {
        if let (Some(a), Some(b)) = (self.types(), other.types())
            && a.iter().all(|a| b.iter().all(|b| types_differ(a, b)))
        {
            return true;
        }
        if let (Some(a), Some(b)) = (self.values(), other.values())
            && a.iter().all(|a| b.iter().all(|b| !equal(a, b)))
        {
            return true;
        }
        let objects =
            |shape: &Self| shape.types().is_some_and(|types| types.iter().all(|t| *t == "object"));
        objects(self) && objects(other) && self.told_apart_from(other)
    }

    /// A property that one of them needs and that both give different values.
    fn told_apart_from(&self, other: &Self) -> bool {
        let names = self.schema.and_then(|schema| schema.get("properties")?.as_object());
        names.into_iter().flatten().any(|(name, _)| {
            let values = |shape: &Self| shape.property(name).and_then(|shape| shape.values());
            let (Some(a), Some(b)) = (values(self), values(other)) else { return false };
            (self.requires(name) || other.requires(name))
                && a.iter().all(|a| b.iter().all(|b| !equal(a, b)))
        })
    }
}

/// Whether each excludes each other.
pub(super) fn all(shapes: &[Shape<'_>]) -> bool {
    let pair = |(index, a): (usize, &Shape<'_>)| shapes[index + 1..].iter().all(|b| a.excludes(b));
    shapes.iter().enumerate().all(pair)
}

/// Numbers are equal by value; where one hides in an array, nothing is claimed.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => true,
        _ => a == b,
    }
}

fn types_differ(a: &str, b: &str) -> bool {
    let number = |name| matches!(name, "integer" | "number");
    a != b && !(number(a) && number(b))
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
