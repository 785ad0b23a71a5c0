//! Answers that are held to a form.

use serde_json::{Value, json};

use crate::{
    api::{Checked, check, failed, text},
    lab::Lab,
};

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 20},
            "degrees": {"type": "integer", "minimum": -60, "maximum": 60},
        },
        "required": ["city", "degrees"],
        "additionalProperties": false,
    })
}

fn fits(written: &str) -> Checked {
    let Ok(value) = serde_json::from_str::<Value>(written) else {
        return failed(format!("no JSON: {written}"));
    };
    match jsonschema::validate(&schema(), &value) {
        Ok(()) => Ok(()),
        Err(error) => failed(format!("{written} does not fit: {error}")),
    }
}

/// A tool that must be called is called with arguments that fit, and its result is taken.
pub(super) async fn tools(lab: &Lab) -> Checked {
    lab.model("tools")?;
    let mut body = lab.chat("What is the weather in Ulm?", 200)?;
    body["tools"] = json!([{"type": "function", "function": {
        "name": "report_weather", "strict": true, "parameters": schema(),
    }}]);
    body["tool_choice"] = json!("required");
    let answer = lab.api.post("/v1/chat/completions", &body).await?.good()?;
    let function = "/choices/0/message/tool_calls/0/function";
    check(text(&answer, &format!("{function}/name"))? == "report_weather", || answer.to_string())?;
    fits(text(&answer, &format!("{function}/arguments"))?)?;
    check(text(&answer, "/choices/0/finish_reason")? == "tool_calls", || answer.to_string())?;

    let call = answer["choices"][0]["message"].clone();
    let id = text(&call, "/tool_calls/0/id")?.to_owned();
    if let Some(messages) = body["messages"].as_array_mut() {
        messages.push(call);
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": "21 degrees"}));
    }
    body["tool_choice"] = json!("none");
    let answer = lab.api.post("/v1/chat/completions", &body).await?.good()?;
    check(answer["choices"][0]["message"]["tool_calls"].is_null(), || answer.to_string())
}

/// An answer that is held to a schema validates.
pub(super) async fn schema_holds(lab: &Lab) -> Checked {
    let mut body = lab.chat("The weather in Ulm as JSON.", 400)?;
    body["response_format"] = json!({"type": "json_schema", "json_schema": {
        "name": "weather", "strict": true, "schema": schema(),
    }});
    let answer = lab.api.post("/v1/chat/completions", &body).await?.good()?;
    fits(text(&answer, "/choices/0/message/content")?)
}
