//! The form of an answer, whoever's words ask for it.

use rkllama_core::Format;
use rkllama_http::ApiError;
use serde_json::Value;

use crate::{
    convert::{common::CommonFields, tools::check_name},
    refusal::{invalid, invalid_type, missing, string_too_long},
    wire::{JsonObject, JsonValue, ResponseFormat, ResponseFormatType, given},
};

/// Largest schema, in bytes. It stands in the prompt too, and no model of these has a context of
/// more than 16,384 tokens, which is a quarter of it.
pub(super) const SCHEMA_BYTES_MAX: usize = 256 << 10;

/// The form that was asked for, and the field that asked.
pub(super) fn format(
    response_format: Option<ResponseFormat>,
    common: &mut CommonFields,
) -> Result<Option<(Format, &'static str)>, ApiError> {
    let mut asked = Vec::new();
    if let Some(format) = response_format.map(of_openai).transpose()?.flatten() {
        asked.push((format, "response_format"));
    }
    if let Some(object) = common.json_schema.take() {
        asked.push((schema("json_schema", object.text())?, "json_schema"));
    }
    if let Some(json) = common.guided_json.take() {
        asked.push((schema_or_its_text("guided_json", &json)?, "guided_json"));
    }
    if let Some(outputs) = given(common.structured_outputs.take()) {
        if let Some(json) = outputs.json {
            let json = schema_or_its_text("structured_outputs.json", &json)?;
            asked.push((json, "structured_outputs.json"));
        }
        if outputs.json_object == Some(true) {
            asked.push((Format::JsonObject, "structured_outputs.json_object"));
        }
    }
    match asked.as_slice() {
        [(_, one), (_, other), ..] => Err(invalid(format!(
            "Invalid '{other}': '{one}' asks for the form of the answer already."
        ))
        .code("invalid_value")
        .param(*other)),
        _ => Ok(asked.pop()),
    }
}

fn of_openai(wire: ResponseFormat) -> Result<Option<Format>, ApiError> {
    match (wire.kind, wire.schema) {
        (ResponseFormatType::Text, _) => Ok(None),
        (ResponseFormatType::JsonObject, None) => Ok(Some(Format::JsonObject)),
        (ResponseFormatType::JsonObject, Some(object)) => {
            schema("response_format.schema", object.text()).map(Some)
        }
        (ResponseFormatType::JsonSchema, _) => {
            const PARAM: &str = "response_format.json_schema";
            let format = given(wire.json_schema).ok_or_else(|| missing(PARAM))?;
            named_schema(PARAM, &format.name, format.schema.as_ref()).map(Some)
        }
    }
}

/// OpenAI's schema with its name, both in the object at `param`.
pub(super) fn named_schema(
    param: &str,
    name: &str,
    object: Option<&JsonObject>,
) -> Result<Format, ApiError> {
    check_name(&format!("{param}.name"), name)?;
    let param = format!("{param}.schema");
    let object = object.ok_or_else(|| missing(&param))?;
    schema(&param, object.text())
}

/// vLLM takes both: its Python clients send what pydantic gives them.
fn schema_or_its_text(param: &str, json: &JsonValue) -> Result<Format, ApiError> {
    match serde_json::from_str::<String>(json.text()) {
        Ok(text) => schema(param, &text),
        Err(_) => schema(param, json.text()),
    }
}

fn schema(param: &str, text: &str) -> Result<Format, ApiError> {
    let value = read_schema(param, text)?;
    if !value.is_object() {
        return Err(invalid_type(param, "an object", &value));
    }
    Ok(Format::JsonSchema(text.to_owned()))
}

/// The schema as values. The engine will read it again, and has to be able to.
pub(super) fn read_schema(param: &str, text: &str) -> Result<Value, ApiError> {
    if text.len() > SCHEMA_BYTES_MAX {
        return Err(string_too_long(param, SCHEMA_BYTES_MAX, text.len()));
    }
    serde_json::from_str(text).map_err(|error| {
        invalid(format!("Invalid schema in '{param}': {error}.")).code("invalid_value").param(param)
    })
}
