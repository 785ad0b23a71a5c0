//! Random values and calls for tests.

use proptest::prelude::*;
use rkllama_core::Tool;
use serde_json::{Map, Value};

use super::ToolFormat;

/// Text as arguments have it, with what formats use as marks among it.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z ]{1,6}",
        proptest::sample::select(vec![
            "'", "\"", "\\", "\n", "{", "}", "[", "]", "(", ")", ",", ":", "=", "<", ">", "é",
            "日", "😀", "</", "True", "null", "1",
        ])
        .prop_map(str::to_owned),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// Any JSON value.
pub(crate) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000..1000_i32).prop_map(|n| Value::from(f64::from(n) / 8.0)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[a-z_]{1,6}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// The tools of all tests of readers.
pub(crate) fn tools() -> Vec<Tool> {
    let weather = r##"{"type": "object", "properties": {
        "location": {"type": "string"},
        "days": {"type": "integer"},
        "exact": {"type": "boolean"},
        "share": {"type": "number"},
        "nothing": {"type": "null"},
        "place": {"$ref": "#/$defs/place"},
        "list": {"anyOf": [{"type": "array"}, {"type": "null"}]},
        "open": {}
    }, "$defs": {"place": {"type": "object"}}}"##;
    let tool = |name: &str, parameters: Option<&str>| Tool {
        name: name.to_owned(),
        description: None,
        parameters: parameters.map(str::to_owned),
        strict: false,
    };
    vec![tool("get_weather", Some(weather)), tool("now", None)]
}

/// Arguments that follow the schema of `get_weather`.
fn arguments() -> impl Strategy<Value = Value> {
    let argument = prop_oneof![
        4 => text().prop_map(|text| ("location", Value::from(text))),
        1 => any::<i64>().prop_map(|days| ("days", Value::from(days))),
        1 => any::<bool>().prop_map(|exact| ("exact", Value::from(exact))),
        1 => (-1000..1000_i32).prop_map(|n| ("share", Value::from(f64::from(n) / 8.0))),
        1 => Just(("nothing", Value::Null)),
        2 => proptest::collection::vec(("[a-z_]{1,6}", json()), 0..4)
            .prop_map(|fields| ("place", Value::Object(fields.into_iter().collect()))),
        2 => proptest::collection::vec(json(), 0..4).prop_map(|list| ("list", Value::from(list))),
    ];
    let fields = proptest::collection::vec(argument, 0..4);
    fields.prop_map(|fields| {
        Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    })
}

/// Calls of the tools, one at least.
pub(crate) fn calls() -> impl Strategy<Value = Vec<(String, Value)>> {
    let call = prop_oneof![
        3 => arguments().prop_map(|arguments| ("get_weather".to_owned(), arguments)),
        1 => Just(("now".to_owned(), Value::Object(Map::new()))),
    ];
    proptest::collection::vec(call, 1..4)
}

/// JSON with a blank behind commas and colons, as models write it.
fn spaced(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                format!("{}: {}", Value::from(key.as_str()), spaced(value))
            };
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn python(value: &Value) -> String {
    let join = |items: Vec<String>| items.join(", ");
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => {
            let text = text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n");
            format!("'{text}'")
        }
        Value::Array(items) => format!("[{}]", join(items.iter().map(python).collect())),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| format!("'{key}': {}", python(value));
            format!("{{{}}}", join(fields.iter().map(field).collect()))
        }
        Value::Number(number) => number.to_string(),
    }
}

fn gemma(value: &Value, quote: &str) -> String {
    let join = |items: Vec<String>| items.join(",");
    match value {
        Value::String(text) => format!("{quote}{text}{quote}"),
        Value::Array(items) => {
            format!("[{}]", join(items.iter().map(|item| gemma(item, quote)).collect()))
        }
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| format!("{key}:{}", gemma(value, quote));
            format!("{{{}}}", join(fields.iter().map(field).collect()))
        }
        other => other.to_string(),
    }
}

fn each(
    calls: &[(String, Value)],
    between: &str,
    write: impl Fn(&str, &Value) -> String,
) -> String {
    calls.iter().map(|(name, value)| write(name, value)).collect::<Vec<_>>().join(between)
}

fn fields(value: &Value, write: impl Fn(&str, &Value) -> String, between: &str) -> String {
    let fields = value.as_object().into_iter().flatten();
    fields.map(|(key, value)| write(key, value)).collect::<Vec<_>>().join(between)
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| spaced(value), str::to_owned)
}

/// Calls as a model of the family writes them.
pub(crate) fn written(format: ToolFormat, calls: &[(String, Value)]) -> String {
    let in_python = |name: &str, value: &Value| {
        format!("{name}({})", fields(value, |key, value| format!("{key}={}", python(value)), ", "))
    };
    match format {
        ToolFormat::QwenXml => each(calls, "\n", |name, value| {
            let parameter = |key: &str, value: &Value| {
                format!("<parameter={key}>\n{}\n</parameter>\n", bare(value))
            };
            let parameters = fields(value, parameter, "");
            format!("<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>")
        }),
        ToolFormat::Glm45 => each(calls, "\n", |name, value| {
            let argument = |key: &str, value: &Value| {
                format!("<arg_key>{key}</arg_key>\n<arg_value>{}</arg_value>\n", bare(value))
            };
            format!("<tool_call>{name}\n{}</tool_call>", fields(value, argument, ""))
        }),
        ToolFormat::Minicpm5 => each(calls, "\n", |name, value| {
            let param =
                |key: &str, value: &Value| format!("<param name=\"{key}\">{}</param>", bare(value));
            format!("<function name=\"{name}\">{}</function>", fields(value, param, ""))
        }),
        ToolFormat::FunctionGemma => each(calls, "", |name, value| {
            let arguments = gemma(value, "<escape>");
            format!("<start_function_call>call:{name}{arguments}<end_function_call>")
        }),
        ToolFormat::Gemma4 => each(calls, "", |name, value| {
            format!("<|tool_call>call:{name}{}<tool_call|>", gemma(value, "<|\"|>"))
        }),
        ToolFormat::Pythonic => format!("[{}]", each(calls, ", ", in_python)),
        ToolFormat::Minicpm => format!(
            "<|tool_call_start|>\n```python\n{}\n```\n<|tool_call_end|>",
            each(calls, "\n", in_python)
        ),
        // The others have JSON arguments: the form in which a call is forced is their own.
        format => {
            let texts: Vec<String> = calls.iter().map(|(_, value)| spaced(value)).collect();
            let calls = calls.iter().zip(&texts).map(|((name, _), text)| (name.as_str(), &**text));
            format.form().write(calls)
        }
    }
}
