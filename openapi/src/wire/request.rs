//! The request for a chat completion: every field of OpenAI's, and a few of other servers'.

use poem_openapi::{Enum, Object, types::Example};
use rkllama_http::{read_from_object, read_from_string};
use serde::Deserialize;

use super::{
    AnyObject, AnyValue, ChatMessage, FunctionDefinition, JsonObject, JsonValue, KeepAlive,
    MessageContent, MessageRole, Nullable, ReasoningEffort, ReasoningFormat, ResponseFormat, Stop,
    StructuredOutputs, Thinking, Tool, ToolChoice, ToolType,
};

/// A conversation to continue.
///
/// Fields fall into three classes. Most are honoured. Some are *ignored and named*: they cannot
/// matter here or the runtime has no knob for them; the response header `x-rkllama-ignored` lists
/// those that a request used. A few are *refused* with 400, since without them the answer would be
/// wrong. Fields that are not listed here are ignored. `null` means absent everywhere.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(example, skip_serializing_if_is_none)]
pub struct ChatCompletionRequest {
    /// The model, by its id in `GET /v1/models`. Where absent: the server's fallback, else the
    /// only model there is.
    #[oai(nullable)]
    pub model: Option<String>,
    /// The conversation so far, oldest message first.
    #[oai(validator(min_items = 1))]
    pub messages: Vec<ChatMessage>,
    /// Answer with server-sent events, a chunk for each piece of text, and `data: [DONE]` at the
    /// end. Default false.
    #[oai(nullable)]
    pub stream: Option<bool>,
    /// Options of a streamed answer; ignored without `stream`.
    pub stream_options: Option<Nullable<StreamOptions>>,
    /// Softmax temperature; 0 always takes the most likely token. Default: the model's own.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "2")))]
    pub temperature: Option<f64>,
    /// Sample from the most likely tokens that together have this probability. Default: the
    /// model's own.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "1")))]
    pub top_p: Option<f64>,
    /// Lowers the probability of tokens that have occurred at all. Default 0.
    #[oai(nullable, validator(minimum(value = "-2"), maximum(value = "2")))]
    pub presence_penalty: Option<f64>,
    /// Lowers the probability of tokens with each time they have occurred. Default 0.
    #[oai(nullable, validator(minimum(value = "-2"), maximum(value = "2")))]
    pub frequency_penalty: Option<f64>,
    /// Most tokens of the answer. 0 answers with nothing; a negative number means until the
    /// context is full. Wins over `max_tokens`.
    #[oai(nullable)]
    pub max_completion_tokens: Option<i64>,
    /// Older name of `max_completion_tokens`.
    #[oai(nullable, deprecated)]
    pub max_tokens: Option<i64>,
    /// Texts that end the answer and are no part of it: at most 64, each of at most 4096 bytes.
    pub stop: Option<Nullable<Stop>>,
    /// Number of answers, at most 8: they are made one after the other.
    #[oai(nullable, validator(minimum(value = "1"), maximum(value = "8")))]
    pub n: Option<i64>,
    /// Sample from this many most likely tokens; 0 and negative numbers from all of them. Default:
    /// the model's own. Known from llama-server and vLLM.
    #[oai(nullable)]
    pub top_k: Option<i64>,
    /// Divides the score of tokens already present; 1 is off. Known from llama-server.
    #[oai(nullable, validator(minimum(value = "0.01"), maximum(value = "10")))]
    pub repeat_penalty: Option<f64>,
    /// vLLM's name of `repeat_penalty`, which wins over it.
    #[oai(nullable, validator(minimum(value = "0.01"), maximum(value = "10")))]
    pub repetition_penalty: Option<f64>,

    /// How long the model stays loaded afterwards: seconds, or a text such as `"5m"`; 0 unloads it
    /// at once, a negative number keeps it. Known from Ollama.
    pub keep_alive: Option<Nullable<KeepAlive>>,

    /// Functions the model may call: at most 128.
    #[oai(nullable, validator(max_items = 128))]
    pub tools: Option<Vec<Tool>>,
    /// Which tool to call. Default: `auto`.
    pub tool_choice: Option<Nullable<ToolChoice>>,
    /// Whether one answer may call several tools. Where false, the first call is the only one.
    /// Default true.
    #[oai(nullable)]
    pub parallel_tool_calls: Option<bool>,
    /// The form of the answer. Default: text.
    pub response_format: Option<Nullable<ResponseFormat>>,
    /// A JSON Schema for the answer. Known from llama-server.
    #[oai(nullable)]
    pub json_schema: Option<JsonObject>,
    /// A JSON Schema for the answer, or its text. Known from older versions of vLLM.
    pub guided_json: Option<JsonValue>,
    /// The form of the answer as vLLM asks for it.
    pub structured_outputs: Option<Nullable<StructuredOutputs>>,

    /// How much the model thinks before it answers, for models that know levels. `none` switches
    /// thinking off where the model leaves the choice. Default: the model's own.
    pub reasoning_effort: Option<Nullable<ReasoningEffort>>,
    /// Whether the model thinks before it answers, where it leaves the choice. Known from other
    /// servers of Qwen's models.
    #[oai(nullable)]
    pub enable_thinking: Option<bool>,
    /// As `enable_thinking`, which wins over it: a boolean, or an object with `type`. Known from
    /// DeepSeek and GLM.
    pub thinking: Option<Nullable<Thinking>>,
    /// Further variables for the chat template: an object of at most 262144 bytes.
    /// `enable_thinking` or `thinking` among them wins over the fields above. Known from vLLM and
    /// llama-server.
    #[oai(nullable)]
    pub chat_template_kwargs: Option<JsonObject>,
    /// Where thoughts go: `none` leaves them, with their tags, in the content, anything else takes
    /// them out of it. Default `auto`. Known from llama-server.
    pub reasoning_format: Option<Nullable<ReasoningFormat>>,
    /// Whether the answer says what the model thought. Default true. Known from vLLM.
    #[oai(nullable)]
    pub include_reasoning: Option<bool>,
    /// Whether the answer goes on with the last message, which is the assistant's, instead of
    /// beginning a turn. Default false. Known from vLLM.
    #[oai(nullable)]
    pub continue_final_message: Option<bool>,
    /// Whether the prompt ends with the beginning of the assistant's turn. Default: yes, unless
    /// `continue_final_message` is set. False without that is refused with 400. Known from vLLM
    /// and llama-server.
    #[oai(nullable)]
    pub add_generation_prompt: Option<bool>,
    /// Ignored and named when true: the runtime ends an answer at the model's end of turn by
    /// itself. Known from vLLM and llama-server.
    #[oai(nullable)]
    pub ignore_eos: Option<bool>,
    /// Send `timings` with every chunk of a streamed answer. Those before the last count pieces of
    /// text, which are tokens in most cases. Default false. Known from llama-server.
    #[oai(nullable)]
    pub timings_per_token: Option<bool>,

    /// What to answer with. `audio` is refused with 400.
    #[oai(nullable)]
    pub modalities: Option<Vec<Modality>>,

    /// Ignored and named: the runtime draws its own random numbers.
    #[oai(nullable, deprecated)]
    pub seed: Option<i64>,
    /// Ignored and named: the runtime samples where the server cannot reach its scores.
    #[oai(nullable)]
    pub logit_bias: Option<AnyObject>,
    /// Whether to tell how likely the answer's tokens were. The conversation is read once more for it.
    /// Ignored and named where the runtime does not tell its scores, with images, and for conversations
    /// of more than `logprobs_tokens_max` tokens.
    #[oai(nullable)]
    pub logprobs: Option<bool>,
    /// With `logprobs`, which it needs: how many of the likeliest tokens to tell in each place.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "20")))]
    pub top_logprobs: Option<i64>,
    /// Ignored and named: the runtime has no such filter. Known from llama-server and vLLM.
    #[oai(nullable)]
    pub min_p: Option<f64>,
    /// Ignored and named when false: the runtime finds what it can reuse by itself. Known from
    /// llama-server.
    #[oai(nullable)]
    pub cache_prompt: Option<bool>,
    /// Ignored and named: the context is the model's. Known from Ollama.
    #[oai(nullable)]
    pub num_ctx: Option<f64>,
    /// Ignored and named: answers end where the model ends them. Known from vLLM.
    #[oai(nullable)]
    pub min_tokens: Option<i64>,
    /// Ignored and named: the runtime has no such filter. Known from llama-server.
    #[oai(nullable)]
    pub typical_p: Option<f64>,
    /// Ignored and named: the runtime penalises over a length of its own. Known from llama-server.
    #[oai(nullable)]
    pub repeat_last_n: Option<i64>,
    /// Ignored and named: the runtime has no such sampler. Known from llama-server.
    #[oai(nullable)]
    pub mirostat: Option<f64>,
    /// Ignored and named: the server chooses. Known from llama-server.
    #[oai(nullable)]
    pub id_slot: Option<i64>,
    /// Refused with 400: answers are held to JSON only. A GBNF grammar, known from llama-server.
    pub grammar: Option<AnyValue>,
    /// Refused with 400, as `grammar`. Known from older versions of vLLM.
    pub guided_grammar: Option<AnyValue>,
    /// Refused with 400, as `grammar`. Known from older versions of vLLM.
    pub guided_regex: Option<AnyValue>,
    /// Refused with 400, as `grammar`. Known from older versions of vLLM.
    pub guided_choice: Option<AnyValue>,
    /// Refused with 400: the model's own template is used. Known from vLLM.
    pub chat_template: Option<AnyValue>,
    /// Refused with 400 when not empty: use `stop`. Known from vLLM.
    #[oai(nullable)]
    pub stop_token_ids: Option<Vec<i64>>,
    /// Refused with 400 when true: a stop text is never a part of the answer. Known from vLLM.
    #[oai(nullable)]
    pub include_stop_str_in_output: Option<bool>,
    /// Ignored and named: `low`, `medium` or `high`.
    #[oai(nullable)]
    pub verbosity: Option<String>,
    /// Ignored and named: a prediction of the answer. It would save time only.
    #[oai(nullable)]
    pub prediction: Option<AnyObject>,
    /// Ignored and named: there is one tier. `auto` and `default` are not named.
    #[oai(nullable)]
    pub service_tier: Option<String>,
    /// Ignored and named when true: nothing is stored.
    #[oai(nullable)]
    pub store: Option<bool>,
    /// Ignored and named: nothing is stored that it could describe.
    #[oai(nullable)]
    pub metadata: Option<AnyObject>,
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
    /// Ignored and named: the server does not search.
    #[oai(nullable)]
    pub web_search_options: Option<AnyObject>,
    /// Ignored and named: the server does not moderate.
    #[oai(nullable)]
    pub moderation: Option<AnyObject>,
    /// Ignored and named: the voice of an answer in sound.
    #[oai(nullable)]
    pub audio: Option<AnyObject>,
    /// Ignored and named: the deprecated form of `tools`.
    #[oai(nullable, deprecated)]
    pub functions: Option<Vec<AnyObject>>,
    /// Ignored and named: the deprecated form of `tool_choice`, a string or an object.
    #[oai(deprecated)]
    pub function_call: Option<AnyValue>,
}

impl Example for ChatCompletionRequest {
    fn example() -> Self {
        let message = |role, text: &str| ChatMessage {
            content: Some(Nullable(Some(MessageContent::Text(text.to_owned())))),
            ..ChatMessage::of(role)
        };
        Self {
            model: Some("Qwen3-0.6B".to_owned()),
            messages: vec![
                message(MessageRole::System, "Answer in one sentence."),
                message(MessageRole::User, "What is an NPU?"),
            ],
            max_completion_tokens: Some(128),
            temperature: Some(0.7),
            stream: Some(false),
            tools: Some(vec![example_tool()]),
            ..Self::default()
        }
    }
}

fn example_tool() -> Tool {
    let parameters = serde_json::json!({
        "type": "object",
        "properties": {"room": {"type": "string"}},
        "required": ["room"],
    });
    let function = FunctionDefinition {
        name: "get_temperature".to_owned(),
        description: Some("The temperature in a room, in degrees Celsius.".to_owned()),
        parameters: JsonObject::of(&parameters).ok(),
        strict: None,
    };
    Tool { kind: ToolType::Function, function: Some(Nullable(Some(function))), custom: None }
}

/// Options of a streamed answer.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(skip_serializing_if_is_none)]
pub struct StreamOptions {
    /// Send one more chunk before `[DONE]`, with `usage` and without choices.
    #[oai(nullable)]
    pub include_usage: Option<bool>,
    /// Ignored and named when true: chunks are not padded.
    #[oai(nullable)]
    pub include_obfuscation: Option<bool>,
}

/// What an answer consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum Modality {
    /// Text.
    Text,
    /// Sound.
    Audio,
}

read_from_object!(ChatCompletionRequest, StreamOptions);
read_from_string!(Modality);
