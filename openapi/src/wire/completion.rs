//! The request for a text completion, and its answer.

use std::{collections::BTreeMap, fmt};

use poem_openapi::{Enum, Object, registry::MetaSchema, types::Example};
use rkllama_http::EventData;
use rkllama_http::{document_one_of, read_from_object};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};

use super::{
    AnyObject, AnyValue, CompletionUsage, JsonObject, JsonValue, KeepAlive, Nullable,
    ResponseFormat, Stop, StreamOptions, StructuredOutputs, Timings,
};

/// Prompts of one request. Each is a run of its own; evaluation programs send a few dozen.
pub const PROMPTS_MAX: usize = 128;

/// A text to continue, as it is: without the model's chat template.
///
/// Fields fall into the same three classes as those of a chat completion.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(example, skip_serializing_if_is_none)]
pub struct CompletionRequest {
    /// The model, by its id in `GET /v1/models`. Where absent: the server's fallback, else the
    /// only model there is.
    #[oai(nullable)]
    pub model: Option<String>,
    /// What to go on from. Each of several prompts is answered by choices of its own, those of the
    /// first prompt first.
    pub prompt: CompletionPrompt,
    /// Most tokens of each answer. 0 answers with nothing; a negative number means until the
    /// context is full. Default 16.
    #[oai(nullable)]
    pub max_tokens: Option<i64>,
    /// Whether each answer begins with its prompt, which has to be text. Default false.
    #[oai(nullable)]
    pub echo: Option<bool>,
    /// What comes after the answer, which then fills in what stands between `prompt`, which has to be
    /// text, and this. Refused with 400 by models whose vocabulary has no marks for filling in.
    #[oai(nullable)]
    pub suffix: Option<String>,
    /// Number of answers to choose the `n` likeliest of, by the mean over their tokens; all are counted.
    /// More than `n` is refused with 400 with `stream` and where the runtime does not tell its scores.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "20")))]
    pub best_of: Option<i64>,
    /// How likely the answer's tokens were, and with `echo` the prompt's, with so many of the likeliest
    /// in each place. The text is read once more for it. Ignored and named where the runtime does not
    /// tell its scores, and for texts of more than `logprobs_tokens_max` tokens.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "5")))]
    pub logprobs: Option<i64>,
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
    /// Texts that end the answer and are no part of it: at most 64, each of at most 4096 bytes.
    pub stop: Option<Nullable<Stop>>,
    /// Number of answers to each prompt, at most 8: they are made one after the other.
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
    /// The form of the answer. Default: text.
    pub response_format: Option<Nullable<ResponseFormat>>,
    /// A JSON Schema for the answer. Known from llama-server.
    #[oai(nullable)]
    pub json_schema: Option<JsonObject>,
    /// A JSON Schema for the answer, or its text. Known from older versions of vLLM.
    pub guided_json: Option<JsonValue>,
    /// The form of the answer as vLLM asks for it.
    pub structured_outputs: Option<Nullable<StructuredOutputs>>,
    /// Ignored and named when true: the runtime ends an answer at the model's end of turn by
    /// itself. Known from vLLM and llama-server.
    #[oai(nullable)]
    pub ignore_eos: Option<bool>,
    /// Send `timings` with every chunk of a streamed answer. Those before the last count pieces of
    /// text, which are tokens in most cases. Default false. Known from llama-server.
    #[oai(nullable)]
    pub timings_per_token: Option<bool>,
    /// Ignored and named: the runtime draws its own random numbers.
    #[oai(nullable, deprecated)]
    pub seed: Option<i64>,
    /// Ignored and named: the runtime samples where the server cannot reach its scores.
    #[oai(nullable)]
    pub logit_bias: Option<AnyObject>,
    /// Ignored and named: the runtime has no such filter. Known from llama-server and vLLM.
    #[oai(nullable)]
    pub min_p: Option<f64>,
    /// Ignored and named: an id of the person who asks.
    #[oai(nullable, deprecated)]
    pub user: Option<String>,
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
    /// Refused with 400 when not empty: use `stop`. Known from vLLM.
    #[oai(nullable)]
    pub stop_token_ids: Option<Vec<i64>>,
    /// Refused with 400 when true: a stop text is never a part of the answer. Known from vLLM.
    #[oai(nullable)]
    pub include_stop_str_in_output: Option<bool>,
}

impl Example for CompletionRequest {
    fn example() -> Self {
        Self {
            model: Some("Qwen3-0.6B".to_owned()),
            prompt: CompletionPrompt::Text("An NPU is".to_owned()),
            max_tokens: Some(64),
            temperature: Some(0.7),
            stream: Some(false),
            ..Self::default()
        }
    }
}

/// What to go on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum CompletionPrompt {
    /// A text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// Token ids.
    Tokens(Vec<i32>),
    /// Several prompts of token ids.
    TokenArrays(Vec<Vec<i32>>),
}

impl Default for CompletionPrompt {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl<'de> Deserialize<'de> for CompletionPrompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PromptVisitor;
        impl<'de> Visitor<'de> for PromptVisitor {
            type Value = CompletionPrompt;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of a string or an array")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<CompletionPrompt, E> {
                Ok(CompletionPrompt::Text(text.to_owned()))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<CompletionPrompt, E> {
                Ok(CompletionPrompt::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<CompletionPrompt, A::Error> {
                Ok(match seq.next_element()? {
                    None => CompletionPrompt::Texts(Vec::new()),
                    Some(Item::Text(text)) => CompletionPrompt::Texts(rest(text, seq)?),
                    Some(Item::Token(id)) => CompletionPrompt::Tokens(rest(id, seq)?),
                    Some(Item::Tokens(ids)) => CompletionPrompt::TokenArrays(rest(ids, seq)?),
                })
            }
        }
        deserializer.deserialize_any(PromptVisitor)
    }
}

/// The items after the first, which are of its type.
fn rest<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
    first: T,
    mut seq: A,
) -> Result<Vec<T>, A::Error> {
    let mut items = vec![first];
    while let Some(item) = seq.next_element()? {
        items.push(item);
    }
    Ok(items)
}

/// The first item of an array of prompts, or of token ids.
enum Item {
    Text(String),
    Token(i32),
    Tokens(Vec<i32>),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemVisitor;
        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = Item;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of a string, an integer or an array of integers")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Text(text.to_owned()))
            }
            fn visit_i64<E: de::Error>(self, id: i64) -> Result<Item, E> {
                let out_of_range = |_| E::invalid_value(de::Unexpected::Signed(id), &"a token id");
                i32::try_from(id).map(Item::Token).map_err(out_of_range)
            }
            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Item, E> {
                let out_of_range =
                    |_| E::invalid_value(de::Unexpected::Unsigned(id), &"a token id");
                i32::try_from(id).map(Item::Token).map_err(out_of_range)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Item, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Item::Tokens)
            }
        }
        deserializer.deserialize_any(ItemVisitor)
    }
}

/// At least one prompt, and not too many.
fn prompt_bounds() -> MetaSchema {
    MetaSchema { min_items: Some(1), max_items: Some(PROMPTS_MAX), ..MetaSchema::ANY }
}

/// At least one token.
fn token_bounds() -> MetaSchema {
    MetaSchema { min_items: Some(1), ..MetaSchema::ANY }
}

document_one_of!(
    CompletionPrompt,
    "A text, an array of at most 128 texts, an array of token ids, or an array of at most 128 such \
     arrays. Control tokens may be written in the text by their names.",
    [
        String,
        Vec<String>: prompt_bounds(),
        Vec<i32>: token_bounds(),
        Vec<Vec<i32>>: prompt_bounds()
    ]
);

/// Always `text_completion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum CompletionObject {
    /// The only value.
    TextCompletion,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum CompletionFinishReason {
    /// The model came to its end, or to a stop text.
    Stop,
    /// The token limit or the end of the context.
    Length,
}

impl From<rkllama_core::Finish> for CompletionFinishReason {
    fn from(finish: rkllama_core::Finish) -> Self {
        match finish {
            // There are no tools here.
            rkllama_core::Finish::Stop | rkllama_core::Finish::ToolCalls => Self::Stop,
            rkllama_core::Finish::Length => Self::Length,
        }
    }
}

/// An answer.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example)]
pub struct Completion {
    /// Its id, `cmpl-` and a random number.
    pub id: String,
    /// Always `text_completion`.
    pub object: CompletionObject,
    /// When the request came, in seconds since 1970.
    pub created: u64,
    /// The model's name as the request gave it.
    pub model: String,
    /// The server's version: answers may differ where it differs.
    pub system_fingerprint: String,
    /// `n` answers to each prompt.
    pub choices: Vec<CompletionChoice>,
    /// Token counts of all answers together; each prompt counts once.
    pub usage: CompletionUsage,
    /// Where the time went.
    pub timings: Timings,
}

/// How likely tokens were, before temperature, penalties and filters. All lists are equally long.
#[derive(Debug, Clone, PartialEq, Object, Serialize)]
pub struct CompletionLogprobs {
    /// Where each token begins in `text`, in characters.
    pub text_offset: Vec<u32>,
    /// The natural logarithm of each token's probability; null for the first token of a prompt.
    pub token_logprobs: Vec<Nullable<f64>>,
    /// The tokens' texts; `bytes:` and its bytes for a part of a character.
    pub tokens: Vec<String>,
    /// The likeliest tokens in each place and the one that stands there; null for the first token of a
    /// prompt.
    pub top_logprobs: Vec<Nullable<BTreeMap<String, f64>>>,
}

impl CompletionLogprobs {
    /// Of the answer, behind its prompt where that is part of the text.
    pub fn of(told: rkllama_core::Logprobs) -> Self {
        let mut all = Self {
            text_offset: Vec::new(),
            token_logprobs: Vec::new(),
            tokens: Vec::new(),
            top_logprobs: Vec::new(),
        };
        let mut chars = 0u32;
        for told in told.prompt.into_iter().chain(told.answer) {
            let begun = told.token.bytes.iter().filter(|byte| (**byte & 0xC0) != 0x80).count();
            let is_middle = told.token.bytes.first().is_some_and(|byte| (byte & 0xC0) == 0x80);
            all.text_offset.push(chars.saturating_sub(u32::from(is_middle)));
            chars = chars.saturating_add(u32::try_from(begun).unwrap_or(u32::MAX));
            all.token_logprobs.push(Nullable(told.logprob.map(f64::from)));
            let name = name_of(&told.token);
            let top = told.logprob.map(|logprob| {
                let named = |(token, logprob): &(rkllama_core::TokenText, f32)| {
                    (name_of(token), f64::from(*logprob))
                };
                let mut top: BTreeMap<_, _> = told.top.iter().map(named).collect();
                top.insert(name.clone(), logprob.into());
                top
            });
            all.tokens.push(name);
            all.top_logprobs.push(Nullable(top));
        }
        all
    }
}

/// A token's text; what is no text by its bytes, as OpenAI writes them.
fn name_of(token: &rkllama_core::TokenText) -> String {
    match str::from_utf8(&token.bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let bytes = token.bytes.iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", bytes.collect::<String>())
        }
    }
}

/// One of the answers.
#[derive(Debug, Clone, Object, Serialize)]
pub struct CompletionChoice {
    /// Its place.
    pub index: u32,
    /// The text.
    pub text: String,
    /// With `logprobs`, where the runtime tells its scores; else null.
    pub logprobs: Nullable<CompletionLogprobs>,
    /// Why it ended.
    pub finish_reason: CompletionFinishReason,
}

/// A piece of a streamed answer.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example, skip_serializing_if_is_none)]
pub struct CompletionChunk {
    /// The answer's id, the same in all its chunks.
    pub id: String,
    /// Always `text_completion`.
    pub object: CompletionObject,
    /// When the request came, in seconds since 1970; the same in all chunks.
    pub created: u64,
    /// The model's name as the request gave it.
    pub model: String,
    /// The server's version: answers may differ where it differs.
    pub system_fingerprint: String,
    /// A piece of one of the answers, which come one after the other; none in the chunk that
    /// carries the usage.
    pub choices: Vec<CompletionChunkChoice>,
    /// With `stream_options.include_usage` only: null, and the token counts in the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Nullable<CompletionUsage>>,
    /// Where the time of this answer went; in the chunk with the `finish_reason`, and in all with
    /// `timings_per_token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
}

impl EventData for CompletionChunk {
    const STREAM_DESCRIPTION: &'static str = "Server-sent events without names. The data of each \
        is JSON, a `CompletionChunk` or, where the answer breaks off, an `ErrorResponse`; that of \
        the last is `[DONE]`.";
}

/// A piece of one of the answers.
#[derive(Debug, Clone, Object, Serialize)]
pub struct CompletionChunkChoice {
    /// Its place.
    pub index: u32,
    /// More text: whole characters, to be appended. Empty in the last chunk of an answer.
    pub text: String,
    /// With `logprobs`, in the last chunk of an answer and for all of it; else null.
    pub logprobs: Nullable<CompletionLogprobs>,
    /// Why the answer ended; null until then.
    pub finish_reason: Nullable<CompletionFinishReason>,
}

const EXAMPLE_ID: &str = "cmpl-5f0c3c1e8a5b4a0f9a3f1d2b7c6e4d10";
const EXAMPLE_CREATED: u64 = 1_795_225_178;

impl Example for Completion {
    fn example() -> Self {
        let usage = rkllama_core::Usage {
            prompt_tokens: 4,
            completion_tokens: 9,
            ..rkllama_core::Usage::default()
        };
        Self {
            id: EXAMPLE_ID.to_owned(),
            object: CompletionObject::TextCompletion,
            created: EXAMPLE_CREATED,
            model: "Qwen3-0.6B".to_owned(),
            system_fingerprint: "fp_rkllama".to_owned(),
            choices: vec![CompletionChoice {
                index: 0,
                text: " a processor made for neural networks.".to_owned(),
                logprobs: Nullable(None),
                finish_reason: CompletionFinishReason::Stop,
            }],
            usage: usage.into(),
            timings: Timings {
                queued_ms: 0.0,
                cache_n: 0,
                prompt_n: usage.prompt_tokens,
                prompt_ms: 40.0,
                prompt_per_second: 100.0,
                predicted_n: usage.completion_tokens,
                predicted_ms: 400.0,
                predicted_per_second: 20.0,
            },
        }
    }
}

impl Example for CompletionChunk {
    fn example() -> Self {
        Self {
            id: EXAMPLE_ID.to_owned(),
            object: CompletionObject::TextCompletion,
            created: EXAMPLE_CREATED,
            model: "Qwen3-0.6B".to_owned(),
            system_fingerprint: "fp_rkllama".to_owned(),
            choices: vec![CompletionChunkChoice {
                index: 0,
                text: " a".to_owned(),
                logprobs: Nullable(None),
                finish_reason: Nullable(None),
            }],
            usage: None,
            timings: None,
        }
    }
}

read_from_object!(CompletionRequest);
