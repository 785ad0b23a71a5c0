//! Schemas as generators write them, and random ones, each with a value that is valid.

use serde_json::{Map, Value, json};

use super::models::Rng;

/// Definitions that random schemas refer to: recursive, in ways that a careless walk never leaves.
fn definitions() -> Value {
    json!({
        "tree": {
            "type": "object",
            "properties": {
                "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
                "value": {"type": "integer"},
            },
            "required": ["children", "value"],
            "additionalProperties": false,
        },
        "list": {
            "type": "object",
            "properties": {
                "next": {"anyOf": [{"$ref": "#/$defs/list"}, {"type": "null"}]},
            },
            "required": ["next"],
            "additionalProperties": false,
        },
        "expression": {
            "oneOf": [{"$ref": "#/$defs/add"}, {"$ref": "#/$defs/literal"}],
            "discriminator": {"propertyName": "kind"},
        },
        "add": {
            "title": "Add",
            "type": "object",
            "properties": {
                "kind": {"const": "add", "type": "string"},
                "left": {"$ref": "#/$defs/expression"},
                "right": {"$ref": "#/$defs/expression"},
            },
            "required": ["kind", "left", "right"],
            "additionalProperties": false,
        },
        "literal": {
            "type": "object",
            "properties": {
                "kind": {"const": "literal", "type": "string"},
                "value": {"type": "number"},
            },
            "required": ["kind", "value"],
            "additionalProperties": false,
        },
    })
}

const PATTERNS: &[(&str, &str)] = &[
    ("^[a-z]{3}-[0-9]{4}$", "abc-1234"),
    ("^(foo|bar)+$", "foobar"),
    ("^a*b{3}$", "aabbb"),
    ("[0-9]", "x7y"),
    ("^\\+?[1-9]\\d{1,14}$", "+4930123456"),
    ("^.{2,5}$", "äöü"),
    ("^[A-Z][a-z]+( [A-Z][a-z]+)*$", "Ada Lovelace"),
    ("^\\$[0-9]+\\.[0-9]{2}$", "$12.50"),
];

const FORMATS: &[(&str, &str)] = &[
    ("date-time", "2024-02-29T12:30:00Z"),
    ("date", "2024-12-31"),
    ("time", "23:59:59Z"),
    ("email", "a.b@example.org"),
    ("uuid", "123e4567-e89b-12d3-a456-426614174000"),
    ("ipv4", "192.168.0.1"),
    ("hostname", "a-1.example.org"),
    ("ipv6", "2001:db8::1"),
    ("uri", "https://example.org/a?b=c#d"),
    ("duration", "P1DT2H"),
    ("no-such-format", "anything"),
];

const WORDS: &[&str] =
    &["", "a", "hello world", "naïve 漢字 🎉", "quote \" and \\ back", "line\nbreak", "{\"a\": 1}"];

/// A random schema and a value that it allows.
pub(crate) fn random(seed: u64) -> (Value, Value) {
    let mut rng = Rng(seed);
    let (mut schema, value) = any(&mut rng, 3);
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$defs".to_owned(), definitions());
    }
    (schema, value)
}

fn any(rng: &mut Rng, depth: usize) -> (Value, Value) {
    let kinds = if depth == 0 { 7 } else { 14 };
    match rng.below(kinds) {
        0 => (json!({"type": "null"}), Value::Null),
        1 => (json!({"type": "boolean"}), rng.one_in(2).into()),
        2 => integer(rng),
        3 => number(rng),
        4 | 5 => string(rng),
        6 => choice(rng),
        7 => array(rng, depth - 1),
        8 => tuple(rng, depth - 1),
        9..=11 => object(rng, depth - 1),
        12 => union(rng, depth - 1),
        _ => reference(rng),
    }
}

fn integer(rng: &mut Rng) -> (Value, Value) {
    match rng.below(5) {
        0 => (json!({"type": "integer"}), json!(-17)),
        1 => (json!({"type": "integer", "minimum": 100, "maximum": 1234}), json!(567)),
        2 => (json!({"type": "integer", "exclusiveMinimum": 0, "title": "N"}), json!(3)),
        3 => (json!({"type": "integer", "multipleOf": 7, "maximum": 70}), json!(35)),
        _ => (json!({"type": ["integer", "null"], "minimum": -5}), json!(-5)),
    }
}

fn number(rng: &mut Rng) -> (Value, Value) {
    match rng.below(4) {
        0 => (json!({"type": "number"}), json!(-1.5e3)),
        1 => (json!({"type": "number", "minimum": 0, "maximum": 1}), json!(0.25)),
        2 => (json!({"type": "number", "exclusiveMaximum": -2.5}), json!(-3.75)),
        _ => (json!({"type": "number", "minimum": 10.5, "format": "float"}), json!(11)),
    }
}

fn string(rng: &mut Rng) -> (Value, Value) {
    match rng.below(5) {
        0 => (json!({"type": "string", "description": "d"}), (*rng.pick(WORDS)).into()),
        1 => {
            let (pattern, value) = rng.pick(PATTERNS);
            (json!({"type": "string", "pattern": pattern}), (*value).into())
        }
        2 => {
            let (format, value) = rng.pick(FORMATS);
            (json!({"type": "string", "format": format}), (*value).into())
        }
        3 => (json!({"type": "string", "minLength": 3, "maxLength": 8}), "ab漢c".into()),
        _ => (json!({"type": "string", "nullable": true, "maxLength": 20}), Value::Null),
    }
}

fn choice(rng: &mut Rng) -> (Value, Value) {
    match rng.below(4) {
        0 => (json!({"enum": ["red", "green", "blue"]}), "green".into()),
        1 => (json!({"const": "only \"this\""}), "only \"this\"".into()),
        2 => (json!({"enum": [1, "one", null, 2.5, {"a": [1, 2]}]}), json!({"a": [1, 2]})),
        _ => (json!({"type": "string", "enum": ["é", "è", "ê"]}), "è".into()),
    }
}

fn array(rng: &mut Rng, depth: usize) -> (Value, Value) {
    let (items, value) = any(rng, depth);
    let min = rng.below(3);
    let mut schema = json!({"type": "array", "items": items});
    if min > 0 {
        schema["minItems"] = min.into();
    }
    if rng.one_in(2) {
        schema["maxItems"] = (min + 2).into();
    }
    (schema, vec![value; min + rng.below(3)].into())
}

fn tuple(rng: &mut Rng, depth: usize) -> (Value, Value) {
    let (first, a) = any(rng, depth);
    let (second, b) = any(rng, depth);
    let schema = json!({
        "type": "array", "prefixItems": [first, second], "items": false, "minItems": 2,
    });
    (schema, json!([a, b]))
}

fn object(rng: &mut Rng, depth: usize) -> (Value, Value) {
    let names = ["id", "name", "na", "value", "with space", "ключ", "q\"uote", "a/b~c", "tab\t"];
    let mut properties = Map::new();
    let mut value = Map::new();
    let mut required = Vec::new();
    for _ in 0..rng.below(5) {
        let name = *rng.pick(&names);
        let (schema, instance) = any(rng, depth);
        if properties.contains_key(name) {
            continue;
        }
        properties.insert(name.to_owned(), schema);
        let needed = !rng.one_in(3);
        if needed {
            required.push(name);
        }
        if needed || rng.one_in(2) {
            value.insert(name.to_owned(), instance);
        }
    }
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    match rng.below(4) {
        0 | 1 => schema["additionalProperties"] = false.into(),
        2 => {
            let (more, instance) = any(rng, 0);
            schema["additionalProperties"] = more;
            value.insert("more".to_owned(), instance);
        }
        _ => {}
    }
    (schema, value.into())
}

fn union(rng: &mut Rng, depth: usize) -> (Value, Value) {
    let (a, value) = any(rng, depth);
    let (b, other) = any(rng, depth);
    let value = if rng.one_in(2) { value } else { other };
    match rng.below(2) {
        0 => (json!({"anyOf": [a, b]}), value),
        _ => {
            let schema = json!({"oneOf": [
                {
                    "type": "object",
                    "properties": {"tag": {"const": "a"}, "is": a},
                    "required": ["tag", "is"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": {"tag": {"enum": ["b", "c"]}},
                    "required": ["tag"],
                    "additionalProperties": false,
                },
            ]});
            (schema, json!({"tag": "c"}))
        }
    }
}

fn reference(rng: &mut Rng) -> (Value, Value) {
    match rng.below(3) {
        0 => {
            let leaf = json!({"children": [], "value": 1});
            (json!({"$ref": "#/$defs/tree"}), json!({"children": [leaf, leaf], "value": 2}))
        }
        1 => (json!({"$ref": "#/$defs/list"}), json!({"next": {"next": null}})),
        _ => {
            let one = json!({"kind": "literal", "value": 1});
            let sum = json!({"kind": "add", "left": one, "right": one});
            let value = json!({"kind": "add", "left": sum, "right": one});
            (json!({"$ref": "#/$defs/expression", "description": "with a sibling"}), value)
        }
    }
}

/// A flat object as OpenAI's strict mode wants it.
pub(crate) fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"type": "string"}},
            "email": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["name", "age", "tags", "email"],
        "additionalProperties": false,
    })
}

/// Whether a validator takes it.
pub(crate) fn is_schema(schema: &Value) -> bool {
    jsonschema::options().build(&without_nullable(schema)).is_ok()
}

pub(crate) fn is_valid(schema: &Value, value: &Value) -> bool {
    // `nullable` is OpenAPI's, which a validator of JSON Schema does not know.
    let schema = without_nullable(schema);
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    validator.is_valid(value)
}

fn without_nullable(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let mut plain: Map<String, Value> = members
                .iter()
                .map(|(name, value)| (name.clone(), without_nullable(value)))
                .collect();
            match plain.shift_remove("nullable") {
                Some(Value::Bool(true)) => json!({"anyOf": [plain, {"type": "null"}]}),
                _ => plain.into(),
            }
        }
        Value::Array(items) => items.iter().map(without_nullable).collect(),
        _ => schema.clone(),
    }
}
