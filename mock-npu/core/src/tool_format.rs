//! Tool calls as the model families write them.

use serde_json::Value;
use toml::Table;

use crate::script::{ToolCall, ToolFormat};

/// JSON in the spacing of the models: a blank after `:` and `,`.
fn spaced(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let items: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{}: {}", Value::from(k.as_str()), spaced(v)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(spaced).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

fn json_of(table: &Table) -> Value {
    serde_json::to_value(table).unwrap_or(Value::Null)
}

/// A value without quotes around text, as the XML-like formats have it.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| spaced(value), str::to_owned)
}

fn object(call: &ToolCall, key: &str) -> String {
    let name = Value::from(call.name.as_str());
    format!("{{\"name\": {name}, \"{key}\": {}}}", spaced(&json_of(&call.arguments)))
}

fn each(calls: &[ToolCall], separator: &str, write: impl Fn(&ToolCall) -> String) -> String {
    calls.iter().map(write).collect::<Vec<_>>().join(separator)
}

fn arguments(call: &ToolCall, separator: &str, write: impl Fn(&str, &Value) -> String) -> String {
    let value = json_of(&call.arguments);
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(key, value)| write(key, value)).collect::<Vec<_>>().join(separator)
}

fn python(call: &ToolCall, name: &str) -> String {
    format!("{name}({})", arguments(call, ", ", |k, v| format!("{k}={}", spaced(v))))
}

/// All calls in one family's format; empty without calls.
pub(crate) fn render(format: ToolFormat, calls: &[ToolCall]) -> String {
    if calls.is_empty() {
        return String::new();
    }
    match format {
        ToolFormat::Hermes => {
            each(calls, "\n", |c| format!("<tool_call>\n{}\n</tool_call>", object(c, "arguments")))
        }
        ToolFormat::QwenXml => each(calls, "\n", qwen_xml),
        ToolFormat::Llama3 => each(calls, "; ", |c| object(c, "parameters")),
        ToolFormat::Llama3Tag => {
            format!("<|python_tag|>{}", each(calls, "; ", |c| object(c, "parameters")))
        }
        ToolFormat::Mistral => {
            format!("[TOOL_CALLS][{}]", each(calls, ", ", |c| object(c, "arguments")))
        }
        ToolFormat::MistralArgs => each(calls, "", |c| {
            format!("[TOOL_CALLS]{}[ARGS]{}", c.name, spaced(&json_of(&c.arguments)))
        }),
        ToolFormat::Deepseek => deepseek(calls),
        ToolFormat::FunctionGemma => each(calls, "", |c| {
            let pairs = arguments(c, ",", |k, v| match v {
                Value::String(text) => format!("{k}:<escape>{text}<escape>"),
                other => format!("{k}:{}", spaced(other)),
            });
            format!("<start_function_call>call:{}{{{pairs}}}<end_function_call>", c.name)
        }),
        ToolFormat::Internlm => each(calls, "", |c| {
            format!("<|action_start|><|plugin|>\n{}<|action_end|>", object(c, "parameters"))
        }),
        ToolFormat::Minicpm => format!(
            "<|tool_call_start|>\n```python\n{}\n```\n<|tool_call_end|>",
            each(calls, "\n", |c| python(c, &c.name))
        ),
        ToolFormat::Phi4 => {
            format!(
                "<|tool_call|>[{}]<|/tool_call|>",
                each(calls, ", ", |c| object(c, "arguments"))
            )
        }
        ToolFormat::Chatglm3 => {
            each(calls, "\n", |c| format!("{}\n```python\n{}\n```", c.name, python(c, "tool_call")))
        }
        ToolFormat::Glm4 => each(calls, "\n", glm4),
        ToolFormat::Xlam => format!("[{}]", each(calls, ", ", |c| object(c, "arguments"))),
        ToolFormat::GptOss => each(calls, "", |c| {
            format!(
                "<|channel|>commentary to=functions.{} <|constrain|>json<|message|>{}<|call|>",
                c.name,
                spaced(&json_of(&c.arguments))
            )
        }),
    }
}

fn qwen_xml(call: &ToolCall) -> String {
    let parameters = arguments(call, "", |key, value| {
        format!("<parameter={key}>\n{}\n</parameter>\n", bare(value))
    });
    format!("<tool_call>\n<function={}>\n{parameters}</function>\n</tool_call>", call.name)
}

fn glm4(call: &ToolCall) -> String {
    let pairs = arguments(call, "", |key, value| {
        format!("<arg_key>{key}</arg_key>\n<arg_value>{}</arg_value>\n", bare(value))
    });
    format!("<tool_call>{}\n{pairs}</tool_call>", call.name)
}

fn deepseek(calls: &[ToolCall]) -> String {
    let calls = each(calls, "\n", |c| {
        format!(
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{}\n```json\n{}\n```<｜tool▁call▁end｜>",
            c.name,
            spaced(&json_of(&c.arguments))
        )
    });
    format!("<｜tool▁calls▁begin｜>{calls}<｜tool▁calls▁end｜>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> ToolCall {
        let arguments = toml::from_str("city = \"Ulm\"\ndays = 2").expect("valid");
        ToolCall { name: "weather".to_owned(), arguments }
    }

    #[test]
    fn families_differ_as_published() {
        let written = |format| render(format, &[call()]);
        assert_eq!(
            written(ToolFormat::Llama3Tag),
            r#"<|python_tag|>{"name": "weather", "parameters": {"city": "Ulm", "days": 2}}"#
        );
        assert_eq!(
            written(ToolFormat::QwenXml),
            "<tool_call>\n<function=weather>\n<parameter=city>\nUlm\n</parameter>\n\
             <parameter=days>\n2\n</parameter>\n</function>\n</tool_call>"
        );
        assert_eq!(
            written(ToolFormat::FunctionGemma),
            "<start_function_call>call:weather{city:<escape>Ulm<escape>,days:2}<end_function_call>"
        );
        assert_eq!(
            written(ToolFormat::MistralArgs),
            r#"[TOOL_CALLS]weather[ARGS]{"city": "Ulm", "days": 2}"#
        );
    }
}
