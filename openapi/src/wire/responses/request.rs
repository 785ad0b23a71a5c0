//! The request for a response: every field of OpenAI's, and a few of other servers'.

use std::collections::BTreeMap;

use poem_openapi::{Enum, Object, types::Example};
use rkllama_http::{read_from_object, read_from_string};
use serde::Deserialize;

use super::{
    ResponseInput, ResponseReasoning, ResponseText, ResponseTool, ResponseToolChoice,
    ResponseToolType, TruncationMode,
};
use crate::wire::{AnyObject, AnyValue, JsonObject, KeepAlive, Nullable, Stop};

/// What to answer, and how.
///
/// Fields fall into three classes. Most are honoured. Some are *ignored and named*: they cannot
/// matter here or the runtime has no knob for them; the response header `x-rkllama-ignored` lists
/// those that a request used. A few are *refused* with 400, since without them the answer would be
/// wrong. Fields that are not listed here are ignored. `null` means absent everywhere.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(example, skip_serializing_if_is_none)]
pub struct CreateResponse {
    /// The model, by its id in `GET /v1/models`. Where absent: the server's fallback, else the
    /// only model there is.
    #[oai(nullable)]
    pub model: Option<String>,
    /// What to answer: a text, or items. Required without `previous_response_id`.
    pub input: Option<Nullable<ResponseInput>>,
    /// What the model is told before all else. Those of an earlier response are not carried over.
    #[oai(nullable)]
    pub instructions: Option<String>,
    /// An earlier response, which this one goes on from: its input and its output come before
    /// `input`. 400 with the code `previous_response_not_found` where it is not kept (any more).
    #[oai(nullable)]
    pub previous_response_id: Option<String>,
    /// Whether the server keeps the response for `previous_response_id` and `GET`, in memory and
    /// until others need the room. Default true.
    #[oai(nullable)]
    pub store: Option<bool>,
    /// Answer with server-sent events. Default false.
    #[oai(nullable)]
    pub stream: Option<bool>,
    /// Options of a streamed answer; ignored without `stream`.
    pub stream_options: Option<Nullable<ResponseStreamOptions>>,
    /// Most tokens of the answer, thoughts included: at least 16. Default: the model's own limit.
    #[oai(nullable, validator(minimum(value = "16")))]
    pub max_output_tokens: Option<i64>,
    /// Softmax temperature; 0 always takes the most likely token. Default: the model's own.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "2")))]
    pub temperature: Option<f64>,
    /// Sample from the most likely tokens that together have this probability. Default: the
    /// model's own.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "1")))]
    pub top_p: Option<f64>,

    /// Functions the model may call: at most 128. Built-in tools are refused with 400.
    #[oai(nullable, validator(max_items = 128))]
    pub tools: Option<Vec<ResponseTool>>,
    /// Which tool to call. Default: `auto`.
    pub tool_choice: Option<Nullable<ResponseToolChoice>>,
    /// Whether one answer may call several tools. Where false, the first call is the only one.
    /// Default true.
    #[oai(nullable)]
    pub parallel_tool_calls: Option<bool>,
    /// The form of the text. Default: plain.
    pub text: Option<Nullable<ResponseText>>,
    /// How much the model thinks, and how its thoughts are shown.
    pub reasoning: Option<Nullable<ResponseReasoning>>,
    /// Up to 16 pairs that stay with the response: keys of at most 64 and texts of at most 512
    /// characters.
    #[oai(nullable)]
    pub metadata: Option<BTreeMap<String, String>>,

    /// Sample from this many most likely tokens; 0 and negative numbers from all of them. Default:
    /// the model's own. Not OpenAI's.
    #[oai(nullable)]
    pub top_k: Option<i64>,
    /// Lowers the probability of tokens that have occurred at all. Default 0. Not OpenAI's.
    #[oai(nullable, validator(minimum(value = "-2"), maximum(value = "2")))]
    pub presence_penalty: Option<f64>,
    /// Lowers the probability of tokens with each time they have occurred. Default 0. Not OpenAI's.
    #[oai(nullable, validator(minimum(value = "-2"), maximum(value = "2")))]
    pub frequency_penalty: Option<f64>,
    /// Divides the score of tokens already present; 1 is off. Not OpenAI's.
    #[oai(nullable, validator(minimum(value = "0.01"), maximum(value = "10")))]
    pub repeat_penalty: Option<f64>,
    /// vLLM's name of `repeat_penalty`, which wins over it.
    #[oai(nullable, validator(minimum(value = "0.01"), maximum(value = "10")))]
    pub repetition_penalty: Option<f64>,
    /// Texts that end the answer and are no part of it: at most 64, each of at most 4096 bytes.
    /// Not OpenAI's.
    pub stop: Option<Nullable<Stop>>,
    /// How long the model stays loaded afterwards: seconds, or a text such as `"5m"`; 0 unloads it
    /// at once, a negative number keeps it. Not OpenAI's.
    pub keep_alive: Option<Nullable<KeepAlive>>,
    /// Whether the model thinks before it answers, where it leaves the choice. Not OpenAI's.
    #[oai(nullable)]
    pub enable_thinking: Option<bool>,
    /// Further variables for the chat template: an object of at most 262144 bytes. Not OpenAI's.
    #[oai(nullable)]
    pub chat_template_kwargs: Option<JsonObject>,

    /// Refused with 400 when true: responses are made while the client waits.
    #[oai(nullable)]
    pub background: Option<bool>,
    /// Refused with 400: use `previous_response_id`. An id, or an object with one.
    pub conversation: Option<AnyValue>,
    /// Refused with 400: the server keeps no templates of prompts.
    #[oai(nullable)]
    pub prompt: Option<AnyObject>,

    /// Further details of the output: `message.output_text.logprobs`. The others do not exist here, and are
    /// ignored and named.
    #[oai(nullable)]
    pub include: Option<Vec<IncludeName>>,
    /// `auto` is ignored and named: a conversation that does not fit the context is refused with
    /// 400 in both modes.
    pub truncation: Option<Nullable<TruncationMode>>,
    /// Ignored and named: the limit is on calls of built-in tools, of which there are none.
    #[oai(nullable)]
    pub max_tool_calls: Option<i64>,
    /// How many of the likeliest tokens to tell in each place, with `message.output_text.logprobs` in
    /// `include`; without it ignored and named.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "20")))]
    pub top_logprobs: Option<i64>,
    /// Ignored and named: the conversation is not shortened.
    #[oai(nullable)]
    pub context_management: Option<Vec<AnyObject>>,
    /// Ignored and named: there is one tier. `auto` and `default` are not named.
    #[oai(nullable)]
    pub service_tier: Option<String>,
    /// Ignored and named: an id of the person who asks.
    #[oai(nullable, deprecated)]
    pub user: Option<String>,
    /// Ignored and named: an id of the person who asks.
    #[oai(nullable)]
    pub safety_identifier: Option<String>,
    /// Ignored and named: the runtime finds what it can reuse by itself.
    #[oai(nullable)]
    pub prompt_cache_key: Option<String>,
    /// Ignored and named, as `prompt_cache_key`.
    #[oai(nullable)]
    pub prompt_cache_options: Option<AnyObject>,
    /// Ignored and named, as `prompt_cache_key`.
    #[oai(nullable)]
    pub prompt_cache_retention: Option<String>,
    /// Ignored and named: the server does not moderate.
    #[oai(nullable)]
    pub moderation: Option<AnyObject>,
    /// Ignored and named: the runtime draws its own random numbers. Not OpenAI's.
    #[oai(nullable)]
    pub seed: Option<i64>,
    /// Ignored and named: the runtime has no such filter. Not OpenAI's.
    #[oai(nullable)]
    pub min_p: Option<f64>,
}

impl Example for CreateResponse {
    fn example() -> Self {
        let parameters = serde_json::json!({
            "type": "object",
            "properties": {"room": {"type": "string"}},
            "required": ["room"],
        });
        Self {
            model: Some("Qwen3-0.6B".to_owned()),
            instructions: Some("Answer in one sentence.".to_owned()),
            input: Some(Nullable(Some(ResponseInput::Text("What is an NPU?".to_owned())))),
            max_output_tokens: Some(128),
            stream: Some(false),
            tools: Some(vec![ResponseTool {
                kind: ResponseToolType::Function,
                name: Some("get_temperature".to_owned()),
                description: Some("The temperature in a room, in degrees Celsius.".to_owned()),
                parameters: JsonObject::of(&parameters).ok(),
                strict: None,
            }]),
            ..Self::default()
        }
    }
}

/// Options of a streamed answer.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct ResponseStreamOptions {
    /// Ignored and named when true: events are not padded.
    #[oai(nullable)]
    pub include_obfuscation: Option<bool>,
}

/// A detail of the output that OpenAI's server can add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[serde(remote = "Self")]
pub enum IncludeName {
    /// What a file search found.
    #[oai(rename = "file_search_call.results")]
    #[serde(rename = "file_search_call.results")]
    FileSearchResults,
    /// What a web search found.
    #[oai(rename = "web_search_call.results")]
    #[serde(rename = "web_search_call.results")]
    WebSearchResults,
    /// Where a web search looked.
    #[oai(rename = "web_search_call.action.sources")]
    #[serde(rename = "web_search_call.action.sources")]
    WebSearchSources,
    /// Images of the input.
    #[oai(rename = "message.input_image.image_url")]
    #[serde(rename = "message.input_image.image_url")]
    InputImages,
    /// Images of a computer's screen.
    #[oai(rename = "computer_call_output.output.image_url")]
    #[serde(rename = "computer_call_output.output.image_url")]
    ScreenImages,
    /// What code printed.
    #[oai(rename = "code_interpreter_call.outputs")]
    #[serde(rename = "code_interpreter_call.outputs")]
    CodeOutputs,
    /// Thoughts that only OpenAI's server can read; here they are in the output as they are.
    #[oai(rename = "reasoning.encrypted_content")]
    #[serde(rename = "reasoning.encrypted_content")]
    EncryptedReasoning,
    /// How likely the tokens of the text were: told when all of it is there.
    #[oai(rename = "message.output_text.logprobs")]
    #[serde(rename = "message.output_text.logprobs")]
    Logprobs,
}

read_from_object!(CreateResponse, ResponseStreamOptions);
read_from_string!(IncludeName);
