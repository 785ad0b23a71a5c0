//! From bodies to requests: each type reads itself.

use rkllama_http::{BodyError, JsonObject, JsonValue, ReadBody};
use serde_json::value::RawValue;

use super::{
    body::{Fields, Kind, kind, read},
    store_wire::{
        CopyRequest, CreateRequest, DeleteRequest, PresetMessage, PullRequest, PushRequest,
    },
    wire::{
        CalledFunction, ChatMessage, ChatRequest, Common, EmbedRequest, EmbeddingsRequest,
        GenerateRequest, OllamaKeepAlive, OllamaTexts, OllamaThink, ShowRequest, ToolCall,
        ToolDefinition, ToolFunction,
    },
};

/// The type of `options`.
const OPTIONS: &str = "map[string]interface {}";
const THINK_VALUES: &str = "\"high\", \"medium\", \"low\", \"max\", true, or false";

fn refused(words: impl Into<String>) -> BodyError {
    BodyError::Worded(words.into())
}

/// A value whose kind has been looked at.
fn parsed<T: serde::de::DeserializeOwned>(value: &RawValue) -> Result<T, BodyError> {
    serde_json::from_str(value.get()).map_err(|error| refused(error.to_string()))
}

fn keep_alive(fields: &Fields<'_>) -> Result<Option<OllamaKeepAlive>, BodyError> {
    let Some(value) = fields.raw("keep_alive") else { return Ok(None) };
    match kind(value) {
        Kind::Number | Kind::String => parsed(value).map(Some),
        Kind::Bool => Err(refused("Unsupported type: 'bool'")),
        Kind::Array => Err(refused("Unsupported type: '[]interface {}'")),
        Kind::Object | Kind::Null => Err(refused("Unsupported type: 'map[string]interface {}'")),
    }
}

fn options(fields: &Fields<'_>) -> Result<Option<JsonObject>, BodyError> {
    fields.object("options", OPTIONS)?;
    fields.raw("options").map(parsed).transpose()
}

fn think(fields: &Fields<'_>) -> Result<Option<OllamaThink>, BodyError> {
    let Some(value) = fields.raw("think") else { return Ok(None) };
    match kind(value) {
        Kind::Bool => parsed(value).map(|switch| Some(OllamaThink::Switch(switch))),
        Kind::String => {
            let level: String = parsed(value)?;
            if ["high", "medium", "low", "max"].contains(&&*level) {
                return Ok(Some(OllamaThink::Level(level)));
            }
            Err(refused(format!("invalid think value: {level:?} (must be {THINK_VALUES})")))
        }
        _ => Err(refused(format!("think must be a boolean or string ({THINK_VALUES})"))),
    }
}

fn common(fields: &Fields<'_>) -> Result<Common, BodyError> {
    Ok(Common {
        stream: fields.flag("stream")?,
        format: fields.raw("format").map(parsed::<JsonValue>).transpose()?,
        keep_alive: keep_alive(fields)?,
        options: options(fields)?,
        think: think(fields)?,
        truncate: fields.flag("truncate")?,
        shift: fields.flag("shift")?,
        logprobs: fields.flag("logprobs")?,
        top_logprobs: fields.integer("top_logprobs")?,
        debug_render_only: fields.flag("_debug_render_only")?,
    })
}

fn some<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

fn call(fields: &Fields<'_>) -> Result<ToolCall, BodyError> {
    let function = fields.object("function", "api.ToolCallFunction")?;
    let function = function.unwrap_or_default();
    let arguments = match function.raw("arguments") {
        Some(value) if kind(value) == Kind::Object => Some(parsed(value)?),
        Some(_) => {
            return Err(refused("Value looks like object, but can't find closing '}' symbol"));
        }
        None => None,
    };
    Ok(ToolCall {
        id: fields.text("id")?,
        function: CalledFunction {
            index: function.place("index")?,
            name: function
                .text("name")?
                .ok_or_else(|| refused("tool_calls: a call has no name"))?,
            arguments,
        },
    })
}

fn message(fields: &Fields<'_>) -> Result<ChatMessage, BodyError> {
    let calls = fields.objects("tool_calls", "api.ToolCall")?;
    Ok(ChatMessage {
        role: fields.text("role")?,
        content: fields.text("content")?,
        thinking: fields.text("thinking")?,
        images: some(fields.images("images")?),
        tool_calls: some(calls.iter().map(call).collect::<Result<_, _>>()?),
        tool_name: fields.text("tool_name")?,
        tool_call_id: fields.text("tool_call_id")?,
    })
}

fn tool(fields: &Fields<'_>) -> Result<ToolDefinition, BodyError> {
    let function = fields.object("function", "api.ToolFunction")?.unwrap_or_default();
    function.object("parameters", "api.ToolFunctionParameters")?;
    Ok(ToolDefinition {
        kind: fields.text("type")?,
        function: ToolFunction {
            name: function.text("name")?.unwrap_or_default(),
            description: function.text("description")?,
            parameters: function.raw("parameters").map(parsed).transpose()?,
        },
    })
}

impl ReadBody for ChatRequest {
    fn read_body(bytes: &[u8]) -> Result<Self, BodyError> {
        read(bytes, "ChatRequest", |fields| {
            let messages = fields.objects("messages", "api.Message")?;
            let tools = fields.objects("tools", "api.Tool")?;
            Ok(Self {
                model: fields.text("model")?.unwrap_or_default(),
                messages: some(messages.iter().map(message).collect::<Result<_, _>>()?),
                tools: some(tools.iter().map(tool).collect::<Result<_, _>>()?),
                common: common(&fields)?,
            })
        })
    }
}

impl ReadBody for GenerateRequest {
    fn read_body(bytes: &[u8]) -> Result<Self, BodyError> {
        read(bytes, "GenerateRequest", |fields| {
            Ok(Self {
                model: fields.text("model")?.unwrap_or_default(),
                prompt: fields.text("prompt")?,
                suffix: fields.text("suffix")?,
                system: fields.text("system")?,
                template: fields.text("template")?,
                context: some(fields.tokens("context")?),
                raw: fields.flag("raw")?,
                images: some(fields.images("images")?),
                common: common(&fields)?,
            })
        })
    }
}

impl ReadBody for EmbedRequest {
    fn read_body(bytes: &[u8]) -> Result<Self, BodyError> {
        read(bytes, "EmbedRequest", |fields| {
            let input = fields.raw("input").map(|value| {
                let texts = serde_json::from_str::<OllamaTexts>(value.get());
                texts.map_err(|_| refused("invalid input type"))
            });
            Ok(Self {
                model: fields.text("model")?.unwrap_or_default(),
                input: input.transpose()?,
                truncate: fields.flag("truncate")?,
                dimensions: fields.integer("dimensions")?,
                keep_alive: keep_alive(&fields)?,
                options: options(&fields)?,
            })
        })
    }
}

impl ReadBody for EmbeddingsRequest {
    fn read_body(bytes: &[u8]) -> Result<Self, BodyError> {
        read(bytes, "EmbeddingRequest", |fields| {
            Ok(Self {
                model: fields.text("model")?.unwrap_or_default(),
                prompt: fields.text("prompt")?,
                keep_alive: keep_alive(&fields)?,
                options: options(&fields)?,
            })
        })
    }
}

impl ReadBody for ShowRequest {
    fn read_body(bytes: &[u8]) -> Result<Self, BodyError> {
        read(bytes, "ShowRequest", |fields| {
            Ok(Self {
                model: fields.text("model")?,
                name: fields.text("name")?,
                verbose: fields.flag("verbose")?,
            })
        })
    }
}

impl ReadBody for PullRequest {
    fn read_body(bytes: &[u8]) -> Result<Self, BodyError> {
        read(bytes, "PullRequest", |fields| {
            Ok(Self {
                model: fields.text("model")?,
                name: fields.text("name")?,
                alias: fields.text("as")?,
                tokenizer: fields.text("tokenizer")?,
                stream: fields.flag("stream")?,
                insecure: fields.flag("insecure")?,
            })
        })
    }
}

impl ReadBody for PushRequest {
    fn read_body(bytes: &[u8]) -> Result<Self, BodyError> {
        read(bytes, "PushRequest", |fields| {
            Ok(Self {
                model: fields.text("model")?,
                name: fields.text("name")?,
                stream: fields.flag("stream")?,
                insecure: fields.flag("insecure")?,
            })
        })
    }
}

impl ReadBody for CopyRequest {
    fn read_body(bytes: &[u8]) -> Result<Self, BodyError> {
        read(bytes, "CopyRequest", |fields| {
            Ok(Self { source: fields.text("source")?, destination: fields.text("destination")? })
        })
    }
}

impl ReadBody for DeleteRequest {
    fn read_body(bytes: &[u8]) -> Result<Self, BodyError> {
        read(bytes, "DeleteRequest", |fields| {
            Ok(Self { model: fields.text("model")?, name: fields.text("name")? })
        })
    }
}

impl ReadBody for CreateRequest {
    fn read_body(bytes: &[u8]) -> Result<Self, BodyError> {
        read(bytes, "CreateRequest", |fields| {
            let message = |fields: &Fields<'_>| {
                Ok(PresetMessage {
                    role: fields.text("role")?.unwrap_or_default(),
                    content: fields.text("content")?.unwrap_or_default(),
                })
            };
            let messages = fields.objects("messages", "api.Message")?;
            let license = fields.raw("license").map(|value| {
                let texts = serde_json::from_str(value.get());
                texts.map_err(|_| refused("license: expected a text or several"))
            });
            fields.object("parameters", "map[string]interface {}")?;
            let quantize = fields.text("quantize")?.or(fields.text("quantization")?);
            Ok(Self {
                model: fields.text("model")?,
                name: fields.text("name")?,
                from: fields.text("from")?,
                files: fields.map("files")?,
                adapters: fields.map("adapters")?,
                modelfile: fields.text("modelfile")?,
                template: fields.text("template")?,
                license: license.transpose()?,
                model_type: fields.text("model_type")?,
                system: fields.text("system")?,
                parameters: fields.raw("parameters").map(parsed).transpose()?,
                messages: match fields.raw("messages") {
                    None => None,
                    Some(_) => {
                        Some(messages.iter().map(message).collect::<Result<_, BodyError>>()?)
                    }
                },
                quantize,
                stream: fields.flag("stream")?,
            })
        })
    }
}
