//! The tools of a request as a reader of calls sees them: names, parameters, and the kinds of value
//! that a parameter takes.

use rkllama_core::Tool;
use serde_json::{Map, Value};

use super::value::{Read, ValueReader, escape};

/// References inside a schema that are followed, one behind the other: it may refer to itself.
const REFERENCES_MAX: usize = 8;

/// The tools that may be called.
#[derive(Debug)]
pub(crate) struct Offered {
    tools: Vec<OfferedTool>,
}

#[derive(Debug)]
struct OfferedTool {
    name: String,
    parameters: Vec<(String, Kinds)>,
}

/// The kinds of value that a schema allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kinds {
    text: bool,
    /// Any of the others, by the first character of their JSON.
    number: bool,
    boolean: bool,
    null: bool,
    object: bool,
    array: bool,
}

impl Offered {
    pub(crate) fn new(tools: &[Tool]) -> Self {
        let tool = |tool: &Tool| OfferedTool {
            name: tool.name.clone(),
            parameters: tool.parameters.as_deref().map(parameters).unwrap_or_default(),
        };
        Self { tools: tools.iter().map(tool).collect() }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tools.iter().map(|tool| tool.name.as_str())
    }

    /// The tool that a name in an answer stands for: some models decorate it.
    pub(crate) fn resolve(&self, name: &str) -> Option<&str> {
        let plain = name.strip_prefix("functions.").unwrap_or(name);
        let plain = plain.strip_suffix(".call").unwrap_or(plain);
        self.names().find(|known| *known == name).or_else(|| self.names().find(|k| *k == plain))
    }

    /// The parameters of a tool, in the order of its schema.
    pub(crate) fn parameters(&self, name: &str) -> &[(String, Kinds)] {
        let tool = self.tools.iter().find(|tool| tool.name == name);
        tool.map_or(&[], |tool| &tool.parameters)
    }

    /// The kinds of a parameter; any where the schema does not know it.
    pub(crate) fn kinds(&self, name: &str, parameter: &str) -> Kinds {
        let mut known = self.parameters(name).iter();
        known.find(|(key, _)| key == parameter).map_or(Kinds::ANY, |(_, kinds)| *kinds)
    }
}

impl Kinds {
    const ANY: Self =
        Self { text: true, number: true, boolean: true, null: true, object: true, array: true };
    const TEXT: Self = Self {
        text: true,
        number: false,
        boolean: false,
        null: false,
        object: false,
        array: false,
    };

    /// Whether a value can only be text, which then needs no end to be understood.
    pub(crate) fn only_text(self) -> bool {
        self == Self::TEXT
    }

    fn with(self, other: Self) -> Self {
        Self {
            text: self.text || other.text,
            number: self.number || other.number,
            boolean: self.boolean || other.boolean,
            null: self.null || other.null,
            object: self.object || other.object,
            array: self.array || other.array,
        }
    }

    fn named(name: &str) -> Self {
        let none = Self::default();
        match name {
            "string" => Self::TEXT,
            "number" | "integer" => Self { number: true, ..none },
            "boolean" => Self { boolean: true, ..none },
            "null" => Self { null: true, ..none },
            "object" => Self { object: true, ..none },
            "array" => Self { array: true, ..none },
            _ => Self::ANY,
        }
    }

    fn of_value(value: &Value) -> Self {
        Self::named(match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        })
    }

    fn of_schema(schema: &Value, root: &Value, references: usize) -> Self {
        let union = |kinds: Vec<Self>| kinds.into_iter().reduce(Self::with);
        let each = |schemas: &Value| {
            let schemas = schemas.as_array()?;
            union(schemas.iter().map(|s| Self::of_schema(s, root, references)).collect())
        };
        let of_type = |value: &Value| match value {
            Value::String(name) => Some(Self::named(name)),
            Value::Array(names) => {
                union(names.iter().filter_map(Value::as_str).map(Self::named).collect())
            }
            _ => None,
        };
        let of_reference = || {
            let pointer = schema["$ref"].as_str()?.strip_prefix('#')?;
            let target = root.pointer(pointer).filter(|_| references < REFERENCES_MAX)?;
            Some(Self::of_schema(target, root, references + 1))
        };
        let values =
            |values: &Value| union(values.as_array()?.iter().map(Self::of_value).collect());
        of_type(&schema["type"])
            .or_else(|| values(&schema["enum"]))
            .or_else(|| schema.get("const").map(Self::of_value))
            .or_else(|| each(&schema["anyOf"]))
            .or_else(|| each(&schema["oneOf"]))
            .or_else(|| each(&schema["allOf"]))
            .or_else(of_reference)
            .unwrap_or(Self::ANY)
    }

    fn allows(self, json: &str) -> bool {
        match json.as_bytes().first() {
            Some(b'{') => self.object,
            Some(b'[') => self.array,
            Some(b't' | b'f') => self.boolean,
            Some(b'n') => self.null,
            Some(b'"') => false,
            Some(_) => self.number,
            None => false,
        }
    }

    /// The JSON of a value that was written without quotes.
    pub(crate) fn json_of(self, text: &str) -> String {
        let json = whole_value(text.trim()).filter(|json| self.allows(json));
        json.unwrap_or_else(|| quoted(text))
    }
}

fn parameters(schema: &str) -> Vec<(String, Kinds)> {
    let Ok(schema) = serde_json::from_str::<Value>(schema) else { return Vec::new() };
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let parameter =
        |(key, property): (&String, &Value)| (key.clone(), Kinds::of_schema(property, &schema, 0));
    properties.iter().map(parameter).collect()
}

/// The JSON of a text that is one value and nothing else.
pub(crate) fn whole_value(text: &str) -> Option<String> {
    let mut reader = ValueReader::new(None);
    // A word ends with what stands behind it.
    let mut chars = text.chars().chain([' ']);
    loop {
        match reader.push(chars.next()?).ok()? {
            Read::More => {}
            Read::Last => break,
            Read::Behind => return chars.next().is_none().then(|| reader.take()),
        }
    }
    chars.all(char::is_whitespace).then(|| reader.take())
}

/// A text as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    text.chars().for_each(|c| escape(c, &mut json));
    json.push('"');
    json
}
