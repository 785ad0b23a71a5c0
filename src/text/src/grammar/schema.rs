//! Reads a client's JSON Schema before the compiler does: bounds it, names what cannot be held, and
//! rewrites the rest into what the compiler takes.
//!
//! Everything that only describes is dropped, and so is every keyword nobody has defined (the
//! specification's own rule; one of them would be options to the compiler). References are resolved
//! here: each target becomes one numbered definition, so only what is used is looked at. Where the
//! compiler is stricter than the specification, the schema is narrowed, never widened: whatever
//! validates against the rewritten schema validates against the client's.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{
    GrammarError, GrammarLimits,
    disjoint::{self, Shape},
};

/// Say nothing about what is valid.
const ANNOTATIONS: &[&str] = &[
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "$vocabulary",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "examples",
    "id",
    "readOnly",
    "title",
    "writeOnly",
];

/// Defined by some draft, and not held by the compiler.
const UNSUPPORTED: &[&str] = &[
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveAnchor",
    "$recursiveRef",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "not",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// Formats that are held. Any other is an annotation, as the specification has it.
const FORMATS: &[&str] =
    &["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"];

const TYPES: &[&str] = &["array", "boolean", "integer", "null", "number", "object", "string"];

/// A schema for the compiler.
pub(super) struct Checked {
    /// Everything is a definition; the root is number 0.
    pub(super) definitions: Map<String, Value>,
    /// Parts on which the compiler may fail, to find out on which it did.
    pub(super) suspects: Vec<Suspect>,
}

/// A keyword with its place and a schema of it alone.
pub(super) struct Suspect {
    pub(super) keyword: String,
    pub(super) pointer: String,
    pub(super) alone: Value,
}

/// Reads and rewrites a schema.
pub(super) fn check(schema: &str, limits: &GrammarLimits) -> Result<Checked, GrammarError> {
    if schema.len() > limits.schema_len_max {
        let reason = format!("{} bytes, at most {}", schema.len(), limits.schema_len_max);
        return Err(GrammarError::TooLarge { reason });
    }
    let root: Value = serde_json::from_str(schema)
        .map_err(|err| GrammarError::Syntax { reason: err.to_string() })?;
    let depth = depth(&root);
    if depth > limits.depth_max {
        let reason = format!("nested {depth} deep, at most {}", limits.depth_max);
        return Err(GrammarError::TooLarge { reason });
    }
    let mut reader = Reader {
        root: &root,
        limits,
        numbers: HashMap::from([(String::new(), 0)]),
        pending: vec![String::new()],
        schemas: 0,
        values: 0,
        suspects: Vec::new(),
    };
    let mut definitions = Map::new();
    while let Some(pointer) = reader.pending.pop() {
        let number = reader.numbers[&pointer];
        let target = root.pointer(&pointer).expect("looked up when it was referred to");
        definitions.insert(number.to_string(), reader.schema(target, &pointer)?);
    }
    Ok(Checked { definitions, suspects: reader.suspects })
}

fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(members) => members.values().map(depth).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return 0,
    };
    1 + inner.unwrap_or(0)
}

struct Reader<'a> {
    root: &'a Value,
    limits: &'a GrammarLimits,
    /// The number of each definition, by its pointer.
    numbers: HashMap<String, usize>,
    /// Definitions that are referred to and not read yet.
    pending: Vec<String>,
    schemas: usize,
    values: usize,
    suspects: Vec<Suspect>,
}

impl Reader<'_> {
    fn schema(&mut self, schema: &Value, at: &str) -> Result<Value, GrammarError> {
        self.schemas += 1;
        if self.schemas > self.limits.schemas_max {
            let reason = format!("more than {} schemas", self.limits.schemas_max);
            return Err(GrammarError::TooLarge { reason });
        }
        let keywords = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(keywords) => keywords,
            _ => return Err(invalid(at, "a schema is an object, true or false")),
        };
        let mut out = Map::new();
        for (keyword, value) in keywords {
            if let Some(value) = self.keyword(keyword, value, keywords, at)? {
                out.insert(keyword.clone(), value);
            }
        }
        self.properties_count(keywords, at)?;
        names_of_properties(keywords, &mut out, at)?;
        if let Some(one_of) = out.get("oneOf") {
            self.one_of(keywords, one_of.clone(), &mut out, at);
        }
        exact_format(&mut out);
        self.suspect_leaf(&out, at);
        if keywords.get("nullable") == Some(&Value::Bool(true)) {
            return Ok(json!({"anyOf": [out, {"type": "null"}]}));
        }
        Ok(out.into())
    }

    /// The keyword's value for the compiler; `None` drops it.
    fn keyword(
        &mut self,
        keyword: &str,
        value: &Value,
        siblings: &Map<String, Value>,
        at: &str,
    ) -> Result<Option<Value>, GrammarError> {
        let place = format!("{at}/{}", escaped(keyword));
        let rewritten = match keyword {
            "$ref" => self.reference(value, &place)?,
            "type" => types(value, &place)?,
            "enum" => self.choice(value, &place)?,
            "const" => self.constant(value)?,
            "allOf" | "anyOf" | "oneOf" => self.list(value, &place, 1)?,
            "prefixItems" => self.list(value, &place, 0)?,
            "items" if value.is_array() => self.list(value, &place, 0)?,
            "additionalItems" | "additionalProperties" | "items" => self.schema(value, &place)?,
            "properties" | "patternProperties" => self.map(value, &place, keyword)?,
            "required" => strings(value, &place)?,
            "minimum" | "maximum" | "multipleOf" => number(value, &place)?,
            "exclusiveMinimum" | "exclusiveMaximum" if value.is_boolean() => value.clone(),
            "exclusiveMinimum" | "exclusiveMaximum" => number(value, &place)?,
            "minLength" => self.count(value, self.limits.length_min_max, &place)?.into(),
            "minItems" => self.count(value, self.limits.items_min_max, &place)?.into(),
            "minProperties" => self.count(value, self.limits.items_min_max, &place)?.into(),
            // Narrower than asked, and far beyond any answer.
            "maxLength" | "maxItems" | "maxProperties" => {
                self.count(value, usize::MAX, &place)?.min(self.limits.count_max).into()
            }
            "pattern" => self.pattern(value, &place)?,
            "format" => match value.as_str() {
                Some(format) if FORMATS.contains(&format) => value.clone(),
                Some(_) => return Ok(None),
                None => return Err(invalid(&place, "expected a string")),
            },
            "nullable" if value.is_boolean() => return Ok(None),
            "uniqueItems" => match siblings.get("maxItems").and_then(Value::as_u64) {
                _ if *value == Value::Bool(false) => return Ok(None),
                Some(0 | 1) => return Ok(None),
                _ => {
                    let reason = "only with 'maxItems' of at most 1";
                    return Err(unsupported(keyword, at, reason));
                }
            },
            "propertyNames" => return Ok(None),
            _ if ANNOTATIONS.contains(&keyword) => return Ok(None),
            _ if UNSUPPORTED.contains(&keyword) => {
                return Err(unsupported(keyword, at, "no answer can be held to it"));
            }
            _ => return Ok(None),
        };
        Ok(Some(rewritten))
    }

    fn list(&mut self, value: &Value, at: &str, len_min: usize) -> Result<Value, GrammarError> {
        let items = value.as_array().ok_or_else(|| invalid(at, "expected an array"))?;
        if items.len() < len_min {
            return Err(invalid(at, "must not be empty"));
        }
        // The compiler's work grows with the product of lists that meet.
        if items.len() > self.limits.options_max {
            let reason =
                format!("{} schemas at '{at}', at most {}", items.len(), self.limits.options_max);
            return Err(GrammarError::TooLarge { reason });
        }
        let one = |(index, item)| self.schema(item, &format!("{at}/{index}"));
        items.iter().enumerate().map(one).collect()
    }

    fn map(&mut self, value: &Value, at: &str, keyword: &str) -> Result<Value, GrammarError> {
        let members = value.as_object().ok_or_else(|| invalid(at, "expected an object"))?;
        if members.len() > self.limits.properties_max {
            let (len, max) = (members.len(), self.limits.properties_max);
            let reason = format!("{len} properties at '{at}', at most {max}");
            return Err(GrammarError::TooLarge { reason });
        }
        let mut out = Map::new();
        for (name, schema) in members {
            let place = format!("{at}/{}", escaped(name));
            if keyword == "patternProperties" {
                self.pattern(&Value::String(name.clone()), &place)?;
            }
            out.insert(name.clone(), self.schema(schema, &place)?);
        }
        Ok(out.into())
    }

    fn pattern(&mut self, value: &Value, at: &str) -> Result<Value, GrammarError> {
        let pattern = value.as_str().ok_or_else(|| invalid(at, "expected a string"))?;
        if pattern.len() > self.limits.pattern_len_max {
            let (len, max) = (pattern.len(), self.limits.pattern_len_max);
            let reason = format!("a pattern of {len} bytes at '{at}', at most {max}");
            return Err(GrammarError::TooLarge { reason });
        }
        Ok(value.clone())
    }

    fn count(&self, value: &Value, max: usize, at: &str) -> Result<usize, GrammarError> {
        let whole = |float: f64| (float >= 0.0 && float.fract() == 0.0).then_some(float);
        let count = match value.as_u64() {
            Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
            // 3.0 is an integer to JSON Schema; what is beyond these counts is beyond all.
            None => match value.as_f64().and_then(whole) {
                Some(float) if float <= f64::from(u32::MAX) => {
                    format!("{float:.0}").parse().unwrap_or(usize::MAX)
                }
                Some(_) => usize::MAX,
                None => return Err(invalid(at, "expected a whole number of at least 0")),
            },
        };
        if count > max {
            let reason = format!("{count} at '{at}', at most {max}");
            return Err(GrammarError::TooLarge { reason });
        }
        Ok(count)
    }

    fn choice(&mut self, value: &Value, at: &str) -> Result<Value, GrammarError> {
        let values = value.as_array().ok_or_else(|| invalid(at, "expected an array"))?;
        if values.is_empty() {
            return Err(invalid(at, "must not be empty"));
        }
        values.iter().map(|value| self.constant(value)).collect()
    }

    fn constant(&mut self, value: &Value) -> Result<Value, GrammarError> {
        self.values += 1;
        if self.values > self.limits.values_max {
            let reason = format!("more than {} constants", self.limits.values_max);
            return Err(GrammarError::TooLarge { reason });
        }
        match value {
            Value::Array(items) => items.iter().map(|item| self.constant(item)).collect(),
            Value::Object(members) => {
                let one = |(name, value): (&String, _)| Ok((name.clone(), self.constant(value)?));
                members.iter().map(one).collect::<Result<Map<_, _>, _>>().map(Value::Object)
            }
            // The compiler would write 3.0 where an answer has 3.
            Value::Number(number) => Ok(match number.as_f64() {
                Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => {
                    serde_json::from_str(&format!("{float:.0}")).unwrap_or_else(|_| value.clone())
                }
                _ => value.clone(),
            }),
            Value::Null | Value::Bool(_) | Value::String(_) => Ok(value.clone()),
        }
    }

    fn reference(&mut self, value: &Value, at: &str) -> Result<Value, GrammarError> {
        let reference = value.as_str().ok_or_else(|| invalid(at, "expected a string"))?;
        let Some(pointer) = local_pointer(reference) else {
            let owner = at.strip_suffix("/$ref").unwrap_or(at);
            let reason = format!("only references into the schema itself, not '{reference}'");
            return Err(unsupported("$ref", owner, &reason));
        };
        if self.root.pointer(&pointer).is_none() {
            return Err(invalid(at, &format!("there is nothing at '{reference}'")));
        }
        let next = self.numbers.len();
        let number = *self.numbers.entry(pointer.clone()).or_insert_with(|| {
            self.pending.push(pointer);
            next
        });
        Ok(Value::String(format!("#/$defs/{number}")))
    }

    /// Members with the same name count as one, which the compiler cannot know.
    fn properties_count(
        &self,
        keywords: &Map<String, Value>,
        at: &str,
    ) -> Result<(), GrammarError> {
        let min = keywords.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
        let required = keywords.get("required").and_then(Value::as_array).map_or(0, Vec::len);
        let closed = keywords.get("additionalProperties") == Some(&Value::Bool(false))
            && !keywords.contains_key("patternProperties");
        if min > required as u64 + 1 && !closed {
            let reason = "above 1 only with 'additionalProperties' false";
            return Err(unsupported("minProperties", at, reason));
        }
        Ok(())
    }

    /// One of several that exclude each other is any of them.
    fn one_of(
        &mut self,
        keywords: &Map<String, Value>,
        rewritten: Value,
        out: &mut Map<String, Value>,
        at: &str,
    ) {
        let originals = keywords["oneOf"].as_array().map_or(&[][..], Vec::as_slice);
        let shapes: Vec<Shape<'_>> =
            originals.iter().map(|option| Shape::of(option, self.root)).collect();
        if disjoint::all(&shapes) && !out.contains_key("anyOf") {
            out.shift_remove("oneOf");
            out.insert("anyOf".to_owned(), rewritten);
        } else {
            let alone = json!({"oneOf": [{}, {}]});
            let (keyword, pointer) = ("oneOf".to_owned(), at.to_owned());
            self.suspects.push(Suspect { keyword, pointer, alone });
        }
    }

    /// What stands in this schema and is compiled to one regular expression.
    fn suspect_leaf(&mut self, out: &Map<String, Value>, at: &str) {
        let only = |names: &[&str]| -> Map<String, Value> {
            let named = |name: &&str| Some(((*name).to_owned(), out.get(*name)?.clone()));
            names.iter().filter_map(named).collect()
        };
        let mut push = |keyword: &str, mut alone: Map<String, Value>, kind: &str| {
            if alone.contains_key(keyword) {
                if kind != "any" {
                    alone.insert("type".to_owned(), kind.into());
                }
                let (keyword, pointer) = (keyword.to_owned(), at.to_owned());
                self.suspects.push(Suspect { keyword, pointer, alone: alone.into() });
            }
        };
        let string = ["pattern", "format", "minLength", "maxLength"];
        for keyword in string {
            push(keyword, only(&[keyword]), "string");
        }
        for keyword in string {
            push(keyword, only(&string), "string");
        }
        let number = ["multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
        let kind = match out.get("type").and_then(Value::as_str) {
            Some("integer") => "integer",
            _ => "number",
        };
        for keyword in number {
            push(keyword, only(&[keyword]), kind);
        }
        for keyword in number {
            push(keyword, only(&number), kind);
        }
        push("const", only(&["const"]), "any");
        push("enum", only(&["enum"]), "any");
        for pattern in out.get("patternProperties").and_then(Value::as_object).into_iter().flatten()
        {
            let alone = json!({"type": "string", "pattern": pattern.0});
            let (keyword, pointer) = ("patternProperties".to_owned(), at.to_owned());
            self.suspects.push(Suspect { keyword, pointer, alone });
        }
        if out.contains_key("minProperties") || out.contains_key("maxProperties") {
            let keyword = match out.contains_key("minProperties") {
                true => "minProperties",
                false => "maxProperties",
            };
            let names = out.get("properties").and_then(Value::as_object);
            let any = names.into_iter().flatten().map(|(name, _)| (name.clone(), json!({})));
            let mut alone = only(&["minProperties", "maxProperties", "required"]);
            let closed = out.get("additionalProperties") == Some(&Value::Bool(false));
            alone.insert("type".to_owned(), "object".into());
            alone.insert("properties".to_owned(), any.collect::<Map<_, _>>().into());
            alone.insert("additionalProperties".to_owned(), (!closed).into());
            let (keyword, pointer) = (keyword.to_owned(), at.to_owned());
            self.suspects.push(Suspect { keyword, pointer, alone: alone.into() });
        }
    }
}

/// Holds `propertyNames` in the two forms that generators write: any string, or one of some names.
fn names_of_properties(
    keywords: &Map<String, Value>,
    out: &mut Map<String, Value>,
    at: &str,
) -> Result<(), GrammarError> {
    let refuse = |reason| Err(unsupported("propertyNames", at, reason));
    let (names, silent) = match keywords.get("propertyNames") {
        None | Some(Value::Bool(true)) => return Ok(()),
        Some(Value::Object(names)) => {
            let silent = |name: &String| name == "type" || ANNOTATIONS.contains(&name.as_str());
            (names, names.keys().all(silent))
        }
        Some(_) => return refuse("only 'type' and 'enum' in it"),
    };
    if !matches!(names.get("type").map(Value::as_str), None | Some(Some("string"))) {
        return refuse("names are strings");
    }
    if silent {
        return Ok(());
    }
    let known = |name: &String| {
        ["type", "enum"].contains(&name.as_str()) || ANNOTATIONS.contains(&name.as_str())
    };
    let allowed = names.get("enum").and_then(Value::as_array);
    let (Some(allowed), true) = (allowed, names.keys().all(known)) else {
        return refuse("only 'type' and 'enum' in it");
    };
    if ["properties", "patternProperties", "$ref", "allOf"].iter().any(|key| out.contains_key(*key))
    {
        return refuse("an 'enum' only beside 'additionalProperties'");
    }
    let each = out.get("additionalProperties").cloned().unwrap_or(Value::Bool(true));
    let each = allowed.iter().filter_map(Value::as_str).map(|name| (name.to_owned(), each.clone()));
    let properties: Map<String, Value> = each.collect();
    out.insert("properties".to_owned(), properties.into());
    out.insert("additionalProperties".to_owned(), Value::Bool(false));
    Ok(())
}

/// Days of each month, the 29th of February in leap years only.
const DATE: &str = "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])\
                    |(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))\
                    |(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])\
                    |(?:[02468][048]|[13579][26])00)-02-29)";
/// Without leap seconds, which are legal at one time of day only.
const TIME: &str = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";

/// The lengths that mail systems allow.
const EMAIL: &str = r"^[^@]{1,64}@[^@.]{1,63}(?:\.[^@.]{1,63}){0,2}$";
/// The lengths that the domain name system allows, with fewer labels.
const HOSTNAME: &str = r"^[^.]{1,63}(?:\.[^.]{1,63}){0,2}$";

/// Puts patterns for formats of which the compiler's own let some through that are not valid.
fn exact_format(out: &mut Map<String, Value>) {
    let (pattern, whole) = match out.get("format").and_then(Value::as_str) {
        Some("date") => (format!("^{DATE}$"), true),
        Some("time") => (format!("^{TIME}$"), true),
        Some("date-time") => (format!("^{DATE}[tT]{TIME}$"), true),
        Some("email") => (EMAIL.to_owned(), false),
        Some("hostname") => (HOSTNAME.to_owned(), false),
        _ => return,
    };
    if whole {
        out.shift_remove("format");
    }
    if !out.contains_key("pattern") {
        out.insert("pattern".to_owned(), pattern.into());
        return;
    }
    let more = json!({"pattern": pattern});
    match out.get_mut("allOf").and_then(Value::as_array_mut) {
        Some(all) => all.push(more),
        None => drop(out.insert("allOf".to_owned(), json!([more]))),
    }
}

fn types(value: &Value, at: &str) -> Result<Value, GrammarError> {
    let known = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    let ok = match value {
        Value::Array(names) => !names.is_empty() && names.iter().all(known),
        _ => known(value),
    };
    if !ok {
        return Err(invalid(at, &format!("expected one or several of {}", TYPES.join(", "))));
    }
    Ok(value.clone())
}

fn strings(value: &Value, at: &str) -> Result<Value, GrammarError> {
    let strings = value.as_array().is_some_and(|items| items.iter().all(Value::is_string));
    if strings { Ok(value.clone()) } else { Err(invalid(at, "expected an array of strings")) }
}

fn number(value: &Value, at: &str) -> Result<Value, GrammarError> {
    if value.is_number() { Ok(value.clone()) } else { Err(invalid(at, "expected a number")) }
}

/// The pointer in a reference like `#/$defs/A%20b`; `None` if it leads elsewhere.
pub(super) fn local_pointer(reference: &str) -> Option<String> {
    let fragment = reference.strip_prefix('#')?;
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let pointer = String::from_utf8(bytes).ok()?;
    (pointer.is_empty() || pointer.starts_with('/')).then_some(pointer)
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn invalid(at: &str, reason: &str) -> GrammarError {
    GrammarError::Invalid { pointer: at.to_owned(), reason: reason.to_owned() }
}

fn unsupported(keyword: &str, at: &str, reason: &str) -> GrammarError {
    GrammarError::Unsupported {
        keyword: keyword.to_owned(),
        pointer: at.to_owned(),
        reason: reason.to_owned(),
    }
}
