//! What chat templates expect of Python beyond Jinja: `json.dumps`, string methods, `strftime`.

use std::time::SystemTime;

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, ValueKind, from_args},
};
use rkllama_core::{Tool, ToolCall};
use serde_json::json;

use crate::TextError;

/// Variables that a client's own may not take the place of.
const OWN_VARIABLES: &[&str] =
    &["messages", "tools", "xml_tools", "documents", "add_generation_prompt", "strftime_now"];

/// A JSON value as templates see it, the order of its keys kept.
pub(crate) fn value(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => ().into(),
        Json::Bool(bool) => bool.into(),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().unwrap_or_default().into(),
        },
        Json::String(text) => text.into(),
        Json::Array(items) => items.into_iter().map(value).collect(),
        Json::Object(fields) => Value::from_pairs(fields.into_iter().map(|(k, v)| (k, value(v)))),
    }
}

/// A tool in OpenAI's shape, as the reference passes it on.
pub(crate) fn tool(tool: &Tool) -> Value {
    let nothing = || json!({"type": "object", "properties": {}});
    let parameters = tool.parameters.as_deref().map(serde_json::from_str);
    // The API layer has checked it; templates read the properties of every tool.
    let parameters = parameters.and_then(Result::ok).unwrap_or_else(nothing);
    let mut function = vec![("name", Value::from(tool.name.as_str()))];
    if let Some(description) = &tool.description {
        function.push(("description", description.as_str().into()));
    }
    function.push(("parameters", value(parameters)));
    Value::from_pairs([("type", "function".into()), ("function", Value::from_pairs(function))])
}

/// A call in OpenAI's shape, but with the arguments as an object: what templates expect.
pub(crate) fn tool_call(call: &ToolCall, arguments_as_text: bool) -> Value {
    let text = || Value::from(call.arguments.as_str());
    let arguments = match serde_json::from_str::<serde_json::Value>(&call.arguments) {
        Ok(arguments) if !arguments_as_text => value(arguments),
        Ok(_) | Err(_) => text(),
    };
    let function =
        Value::from_pairs([("name", call.name.as_str().into()), ("arguments", arguments)]);
    Value::from_pairs([
        ("id", call.id.as_str().into()),
        ("type", "function".into()),
        ("function", function),
    ])
}

/// Variables that a client gives to the template.
pub(crate) fn variables(json: &str) -> Result<Vec<(String, Value)>, TextError> {
    let refused = |err: serde_json::Error| TextError::Template {
        reason: format!("the template's variables are no JSON object: {err}"),
    };
    let variables: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(json).map_err(refused)?;
    let free = variables.into_iter().filter(|(name, _)| !OWN_VARIABLES.contains(&name.as_str()));
    Ok(free.map(|(name, value)| (name, self::value(value))).collect())
}

/// A value as [`tojson`] writes it without further wishes; empty for what is not JSON.
pub(crate) fn to_json(value: &Value) -> String {
    let mut writer = JsonWriter {
        text: String::new(),
        item: ", ",
        key: ": ",
        indent: None,
        sort_keys: false,
        depth: 0,
    };
    if writer.value(value).is_ok() { writer.text } else { String::new() }
}

/// Python's `json.dumps(value, ensure_ascii=False)`, as the reference's `tojson` filter calls it;
/// `separators` and `sort_keys` are honoured, Jinja's own escaping of `<` and `&` is not wanted.
pub(crate) fn tojson(
    value: &Value,
    indent: Option<usize>,
    options: Kwargs,
) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<usize>>("indent")?,
    };
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let default_item = if indent.is_some() { "," } else { ", " };
    let [item, key] = match separators.as_deref() {
        None => [default_item, ": "],
        Some([item, key]) => [item.as_str(), key.as_str()],
        Some(_) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "separators: expected two strings",
            ));
        }
    };
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    // Accepted so that templates that say what is the case anyway do not fail.
    let _ = options.get::<Option<bool>>("ensure_ascii")?;
    options.assert_all_used()?;
    let mut writer = JsonWriter { text: String::new(), item, key, indent, sort_keys, depth: 0 };
    writer.value(value)?;
    Ok(writer.text)
}

struct JsonWriter<'a> {
    text: String,
    item: &'a str,
    key: &'a str,
    indent: Option<usize>,
    sort_keys: bool,
    depth: usize,
}

impl JsonWriter<'_> {
    fn value(&mut self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.text.push_str(&value.to_string()),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.collect::<Vec<_>>();
                self.group('[', ']', &items, |writer, item| writer.value(item))?;
            }
            ValueKind::Map => {
                let mut keys = value.try_iter()?.collect::<Vec<_>>();
                if self.sort_keys {
                    keys.sort();
                }
                self.group('{', '}', &keys, |writer, key| {
                    match key.as_str() {
                        Some(text) => writer.string(text),
                        None => writer.string(&key.to_string()),
                    }
                    writer.text.push_str(writer.key);
                    writer.value(&value.get_item(key)?)
                })?;
            }
            // Undefined above all: Python refuses it too, where `null` would hide a mistake.
            kind => return Err(not_json(kind)),
        }
        Ok(())
    }

    fn group(
        &mut self,
        open: char,
        close: char,
        items: &[Value],
        mut write: impl FnMut(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.text.push(open);
        self.depth += 1;
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.text.push_str(self.item);
            }
            self.line();
            write(self, item)?;
        }
        self.depth -= 1;
        if !items.is_empty() {
            self.line();
        }
        self.text.push(close);
        Ok(())
    }

    fn line(&mut self) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', indent * self.depth));
        }
    }

    fn string(&mut self, text: &str) {
        // JSON leaves the choice of escapes open; serde_json makes the same one as Python.
        self.text.push_str(&serde_json::Value::from(text).to_string());
    }
}

fn not_json(kind: ValueKind) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{kind} is not JSON serializable"))
}

/// Methods of Python's strings that neither the engine nor its compatibility layer has.
pub(crate) fn unknown_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let known = minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args);
    let missing = matches!(&known, Err(err) if err.kind() == ErrorKind::UnknownMethod);
    let (true, Some(text)) = (missing, value.as_str()) else { return known };
    match method {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "partition" => {
            let (mark,): (&str,) = from_args(args)?;
            Ok(match text.split_once(mark) {
                Some((before, after)) => Value::from_iter([before, mark, after]),
                None => Value::from_iter([text, "", ""]),
            })
        }
        "rpartition" => {
            let (mark,): (&str,) = from_args(args)?;
            Ok(match text.rsplit_once(mark) {
                Some((before, after)) => Value::from_iter([before, mark, after]),
                None => Value::from_iter(["", "", text]),
            })
        }
        "rsplit" => {
            let (mark, splits_max): (&str, Option<usize>) = from_args(args)?;
            let pieces_max = splits_max.map_or(usize::MAX, |splits| splits.saturating_add(1));
            let mut pieces: Vec<&str> = text.rsplitn(pieces_max, mark).collect();
            pieces.reverse();
            Ok(Value::from_iter(pieces))
        }
        _ => known,
    }
}

/// `strftime_now`: the moment in UTC. Boards often have no time zone set, and a prompt must not
/// depend on it.
pub(crate) fn strftime(now: SystemTime, format: &str) -> Result<String, Error> {
    let failed = |err: jiff::Error| Error::new(ErrorKind::InvalidOperation, err.to_string());
    let now = jiff::Timestamp::try_from(now).map_err(failed)?.to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(format, &now).map_err(failed)
}
