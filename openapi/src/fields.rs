//! What becomes of each field of a request: honoured, ignored and named, or refused.
//!
//! The only list of its kind. The response header that names what was ignored and the refusals
//! come from it, and `coverage.md` beside `openapi.json` is printed from it. A test holds it
//! against the published schema and against OpenAI's.

use std::fmt::Write;

use crate::wire::{
    AnyObject, AnyValue, ChatCompletionRequest, ChatMessage, CompletionRequest, ContentPart,
    ContentPartType, CreateResponse, EmbeddingRequest, GuiActorRequest, IncludeName,
    MessageContent, Modality, Nullable, ResponseInput, ResponseInputContent, ResponseInputPart,
    ResponseInputPartType, StreamOptions, StructuredOutputs, TruncationMode,
};

/// What becomes of a field of a `T`.
enum Class<T> {
    /// It does what its documentation says.
    Honoured,
    /// It has no effect; named in the header where the function says it was used.
    Ignored(fn(&T) -> bool),
    /// 400 where the function says that the answer would be wrong.
    Refused(fn(&T) -> bool),
}

/// A field and what becomes of it.
pub(crate) struct Field<T> {
    name: &'static str,
    class: Class<T>,
    note: &'static str,
}

const fn honoured<T>(name: &'static str, note: &'static str) -> Field<T> {
    Field { name, class: Class::Honoured, note }
}

const fn ignored<T>(name: &'static str, is_used: fn(&T) -> bool, note: &'static str) -> Field<T> {
    Field { name, class: Class::Ignored(is_used), note }
}

const fn refused<T>(name: &'static str, is_wrong: fn(&T) -> bool, note: &'static str) -> Field<T> {
    Field { name, class: Class::Refused(is_wrong), note }
}

const NO_SCORES: &str = "ignored and named where the runtime does not tell its scores, where there are \
                         images, and where the text is too long to be read once more";

/// The fields that every request for an answer has, chat or not.
macro_rules! common_fields {
    () => {
        &[
            honoured("stream", "a boolean and nothing like one"),
            honoured("stream_options", "ignored without `stream`"),
            honoured("stream_options.include_usage", "one more chunk"),
            ignored(
                "stream_options.include_obfuscation",
                |r| pads_chunks(r.stream, r.stream_options.as_ref()),
                "chunks are not padded",
            ),
            honoured("temperature", "0 to 2"),
            honoured("top_p", "0 to 1"),
            honoured("presence_penalty", "-2 to 2"),
            honoured("frequency_penalty", "-2 to 2"),
            honoured("stop", "at most 64 of at most 4096 bytes; empty texts are dropped"),
            honoured("n", "1 to 8, one answer after the other"),
            honoured("top_k", "not OpenAI's; 0 and below: the whole vocabulary"),
            honoured("repeat_penalty", "not OpenAI's; 0.01 to 10"),
            honoured("repetition_penalty", "not OpenAI's; 0.01 to 10; `repeat_penalty` wins"),
            honoured("keep_alive", "not OpenAI's; how long the model stays loaded afterwards"),
            ignored(
                "ignore_eos",
                |r| r.ignore_eos == Some(true),
                "not OpenAI's; the runtime ends an answer by itself",
            ),
            honoured("timings_per_token", "not OpenAI's; pieces are counted until the last chunk"),
            honoured("response_format", "`text`, `json_object`, `json_schema`"),
            honoured("json_schema", "not OpenAI's; a schema"),
            honoured("guided_json", "not OpenAI's; a schema or its text"),
            honoured("structured_outputs", "not OpenAI's; one form at most"),
            honoured("structured_outputs.json", "a schema or its text"),
            honoured("structured_outputs.json_object", "a boolean"),
            refused(
                "structured_outputs.regex",
                |r| has_form(r.structured_outputs.as_ref(), |s| s.regex),
                NO_GRAMMAR,
            ),
            refused(
                "structured_outputs.choice",
                |r| has_form(r.structured_outputs.as_ref(), |s| s.choice),
                NO_GRAMMAR,
            ),
            refused(
                "structured_outputs.grammar",
                |r| has_form(r.structured_outputs.as_ref(), |s| s.grammar),
                NO_GRAMMAR,
            ),
            refused(
                "structured_outputs.structural_tag",
                |r| has_form(r.structured_outputs.as_ref(), |s| s.structural_tag),
                NO_GRAMMAR,
            ),
            refused("grammar", |r| r.grammar.is_some(), NO_GRAMMAR),
            refused("guided_grammar", |r| r.guided_grammar.is_some(), NO_GRAMMAR),
            refused("guided_regex", |r| r.guided_regex.is_some(), NO_GRAMMAR),
            refused("guided_choice", |r| r.guided_choice.is_some(), NO_GRAMMAR),
            refused("stop_token_ids", |r| names_ids(r.stop_token_ids.as_deref()), "not OpenAI's"),
            refused(
                "include_stop_str_in_output",
                |r| r.include_stop_str_in_output == Some(true),
                "not OpenAI's; stop texts are never in answers",
            ),
            ignored("seed", |r| r.seed.is_some(), "the runtime draws its own random numbers"),
            ignored(
                "logit_bias",
                |r| has_keys(r.logit_bias.as_ref()),
                "the runtime keeps its scores",
            ),
            ignored("min_p", |r| r.min_p.is_some_and(|p| p != 0.0), "not OpenAI's; no such filter"),
            ignored(
                "typical_p",
                |r| r.typical_p.is_some_and(|p| p != 1.0),
                "not OpenAI's; no such filter",
            ),
            ignored(
                "repeat_last_n",
                |r| r.repeat_last_n.is_some(),
                "not OpenAI's; the runtime's own",
            ),
            ignored(
                "mirostat",
                |r| r.mirostat.is_some_and(|m| m != 0.0),
                "not OpenAI's; no such sampler",
            ),
            ignored("min_tokens", |r| r.min_tokens.is_some_and(|n| n > 0), "not OpenAI's"),
            ignored(
                "cache_prompt",
                |r| r.cache_prompt == Some(false),
                "not OpenAI's; the runtime matches prefixes",
            ),
            ignored(
                "id_slot",
                |r| r.id_slot.is_some_and(|slot| slot >= 0),
                "not OpenAI's; the server chooses",
            ),
            ignored("num_ctx", |r| r.num_ctx.is_some(), "not OpenAI's; the context is the model's"),
            ignored("user", |r| r.user.is_some(), "users are not told apart"),
        ]
    };
}

const NO_GRAMMAR: &str = "not OpenAI's; answers are held to JSON only";

/// What a completion request shares with others.
const COMPLETION_COMMON: &[Field<CompletionRequest>] = common_fields!();

/// A completion request's own fields.
const COMPLETION: &[Field<CompletionRequest>] = &[
    honoured("model", "absent: the fallback, else the only model, else 400"),
    honoured("prompt", "a text, token ids, or an array of either"),
    honoured("max_tokens", "16 where absent; 0 is legal; negative: to the context's end"),
    honoured("echo", "with prompts of text"),
    honoured("suffix", "with prompts of text, by models with marks for filling in, else 400"),
    refused(
        "best_of",
        |r| r.stream == Some(true) && r.best_of.is_some_and(|best_of| best_of > r.n.unwrap_or(1)),
        "up to 20; more than `n` not with `stream`, and 400 where there are no scores to choose by",
    ),
    honoured("logprobs", NO_SCORES),
];

/// What a chat request shares with others.
const CHAT_COMMON: &[Field<ChatCompletionRequest>] = common_fields!();

/// A chat request's own fields.
const CHAT: &[Field<ChatCompletionRequest>] = &[
    honoured("model", "absent: the fallback, else the only model, else 400"),
    honoured("messages", "at least one"),
    honoured("max_completion_tokens", "wins over `max_tokens`; negative: to the context's end"),
    honoured("max_tokens", "0 is legal; negative: to the context's end"),
    honoured("tools", "functions, at most 128; `[]` means none; `custom` is 400"),
    honoured("tool_choice", "`none`, `auto`, `required`, a function, `allowed_tools`"),
    honoured("parallel_tool_calls", "false: the first call is the only one"),
    honoured("reasoning_effort", "for templates that know it; `none`: no thinking"),
    honoured("enable_thinking", "not OpenAI's; where the template leaves the choice"),
    honoured("thinking", "not OpenAI's; as `enable_thinking`, which wins"),
    honoured("chat_template_kwargs", "not OpenAI's; variables of the template"),
    honoured("reasoning_format", "not OpenAI's; `none` leaves thoughts in the content"),
    honoured("include_reasoning", "not OpenAI's; false leaves thoughts out"),
    honoured("continue_final_message", "not OpenAI's; the last message is the assistant's"),
    refused(
        "add_generation_prompt",
        |r| r.add_generation_prompt == Some(false) && r.continue_final_message != Some(true),
        "not OpenAI's; false goes with `continue_final_message` only",
    ),
    refused(
        "chat_template",
        |r| r.chat_template.is_some(),
        "not OpenAI's; the model's own is used",
    ),
    refused("modalities", asks_for_sound, "`text` is honoured"),
    honoured("logprobs", NO_SCORES),
    honoured("top_logprobs", "0 to 20; above 0 with `logprobs`, else 400"),
    ignored("verbosity", |r| r.verbosity.is_some(), "no model knows it"),
    ignored("prediction", |r| has_keys(r.prediction.as_ref()), "would save time only"),
    ignored(
        "service_tier",
        |r| asks_for_a_tier(r.service_tier.as_deref()),
        "there is one; `auto` and `default` are not named",
    ),
    ignored("store", |r| r.store == Some(true), "nothing is stored"),
    ignored("metadata", |r| has_keys(r.metadata.as_ref()), "nothing is stored"),
    ignored("safety_identifier", |r| r.safety_identifier.is_some(), "users are not told apart"),
    ignored("prompt_cache_key", |r| r.prompt_cache_key.is_some(), "the runtime matches prefixes"),
    ignored(
        "prompt_cache_options",
        |r| has_keys(r.prompt_cache_options.as_ref()),
        "the runtime matches prefixes",
    ),
    ignored(
        "prompt_cache_retention",
        |r| r.prompt_cache_retention.is_some(),
        "the runtime matches prefixes",
    ),
    ignored("web_search_options", |r| r.web_search_options.is_some(), "the server does not search"),
    ignored("moderation", |r| r.moderation.is_some(), "the server does not moderate"),
    ignored("audio", |r| r.audio.is_some(), "see `modalities`"),
    ignored(
        "functions",
        |r| r.functions.as_ref().is_some_and(|functions| !functions.is_empty()),
        "deprecated form of `tools`",
    ),
    ignored("function_call", |r| r.function_call.is_some(), "deprecated form of `tool_choice`"),
    ignored(
        "messages[].content[].image_url.detail",
        asks_for_detail,
        "other than `auto`; a model sees every image in its encoder's size",
    ),
];

/// The fields of a request for embeddings.
const EMBEDDING: &[Field<EmbeddingRequest>] = &[
    honoured("model", "absent: the fallback for embeddings, else the only model, else 400"),
    honoured("input", "a text, token ids, or an array of either, at most 2048; none empty"),
    honoured("encoding_format", "`float`, `base64`"),
    honoured("dimensions", "from 1 to the model's own"),
    honoured("input_type", "not OpenAI's; a query gets the model's instruction in front"),
    honoured("truncate", "not OpenAI's; true: an input that is too long loses its end"),
    honoured("keep_alive", "not OpenAI's; how long the model stays loaded afterwards"),
    ignored("user", |r| r.user.is_some(), "users are not told apart"),
];

/// The fields of a request for a place on a picture.
const GUI_ACTOR: &[Field<GuiActorRequest>] = &[
    honoured("model", "not OpenAI's; absent: the only model with a pointer head, else 400"),
    honoured("prompt", "not OpenAI's; what the click is to do"),
    honoured("image", "not OpenAI's; a data URL, base64, or an address"),
    honoured("label", "not OpenAI's; true: the picture with the place marked comes too"),
    honoured("keep_alive", "not OpenAI's; how long the model stays loaded afterwards"),
];

/// A request for a response: what is OpenAI's.
const RESPONSE: &[Field<CreateResponse>] = &[
    honoured("model", "absent: the fallback, else the only model, else 400"),
    honoured("input", "a text or items; required without `previous_response_id`"),
    honoured("instructions", "come first; not carried over"),
    honoured("previous_response_id", "of a kept response, else 400"),
    honoured("store", "default true: kept in memory until others need the room"),
    honoured("stream", "a boolean and nothing like one"),
    honoured("stream_options", "ignored without `stream`"),
    ignored("stream_options.include_obfuscation", pads_events, "events are not padded"),
    honoured("max_output_tokens", "at least 16"),
    honoured("temperature", "0 to 2"),
    honoured("top_p", "0 to 1"),
    honoured("tools", "functions, at most 128; built-in and `custom` tools are 400"),
    honoured("tool_choice", "`none`, `auto`, `required`, a function, `allowed_tools`"),
    honoured("parallel_tool_calls", "false: the first call is the only one"),
    honoured("text", "its form"),
    honoured("text.format", "`text`, `json_object`, `json_schema`"),
    ignored(
        "text.verbosity",
        |r| nested(r.text.as_ref(), |text| text.verbosity.is_some()),
        "no model knows it",
    ),
    honoured("reasoning", "how much is thought, and how it is shown"),
    honoured("reasoning.effort", "for templates that know it; `none`: no thinking"),
    honoured("reasoning.summary", "thoughts stand in it as they are"),
    honoured("reasoning.generate_summary", "deprecated name of `summary`"),
    ignored(
        "reasoning.context",
        |r| nested(r.reasoning.as_ref(), |reasoning| reasoning.context.is_some()),
        "the template's choice",
    ),
    ignored(
        "reasoning.mode",
        |r| {
            nested(r.reasoning.as_ref(), |reasoning| {
                reasoning.mode.as_deref().is_some_and(|mode| mode != "standard")
            })
        },
        "there is one; `standard` is not named",
    ),
    honoured("metadata", "at most 16 pairs"),
    refused("background", |r| r.background == Some(true), "the client waits"),
    refused("conversation", |r| r.conversation.is_some(), "use `previous_response_id`"),
    refused("prompt", |r| r.prompt.is_some(), "no templates of prompts"),
    ignored(
        "include",
        |r| {
            let is_other = |name: &IncludeName| {
                !matches!(name, IncludeName::Logprobs | IncludeName::InputImages)
            };
            r.include.iter().flatten().any(is_other)
        },
        "`message.output_text.logprobs`; images of the input are always shown; the others do not exist",
    ),
    ignored(
        "truncation",
        |r| nested(r.truncation.as_ref(), |mode| *mode == TruncationMode::Auto),
        "what does not fit the context is 400; `disabled` is not named",
    ),
    ignored("max_tool_calls", |r| r.max_tool_calls.is_some(), "no built-in tools"),
    ignored(
        "top_logprobs",
        |r| {
            let names = r.include.as_deref().unwrap_or_default();
            r.top_logprobs.is_some_and(|n| n > 0) && !names.contains(&IncludeName::Logprobs)
        },
        "0 to 20; with `message.output_text.logprobs` in `include`",
    ),
    ignored(
        "context_management",
        |r| r.context_management.as_ref().is_some_and(|list| !list.is_empty()),
        "the conversation is not shortened",
    ),
    ignored(
        "service_tier",
        |r| asks_for_a_tier(r.service_tier.as_deref()),
        "there is one; `auto` and `default` are not named",
    ),
    ignored("user", |r| r.user.is_some(), "users are not told apart"),
    ignored("safety_identifier", |r| r.safety_identifier.is_some(), "users are not told apart"),
    ignored("prompt_cache_key", |r| r.prompt_cache_key.is_some(), "the runtime matches prefixes"),
    ignored(
        "prompt_cache_options",
        |r| has_keys(r.prompt_cache_options.as_ref()),
        "the runtime matches prefixes",
    ),
    ignored(
        "prompt_cache_retention",
        |r| r.prompt_cache_retention.is_some(),
        "the runtime matches prefixes",
    ),
    ignored("moderation", |r| r.moderation.is_some(), "the server does not moderate"),
    ignored(
        "input[].content[].detail",
        asks_for_detail_of_input,
        "other than `auto`; a model sees every image in its encoder's size",
    ),
];

/// What is not.
const RESPONSE_EXTENSIONS: &[Field<CreateResponse>] = &[
    honoured("top_k", "not OpenAI's; 0 and below: the whole vocabulary"),
    honoured("presence_penalty", "not OpenAI's; -2 to 2"),
    honoured("frequency_penalty", "not OpenAI's; -2 to 2"),
    honoured("repeat_penalty", "not OpenAI's; 0.01 to 10"),
    honoured("repetition_penalty", "not OpenAI's; 0.01 to 10; `repeat_penalty` wins"),
    honoured("stop", "not OpenAI's; at most 64 of at most 4096 bytes"),
    honoured("keep_alive", "not OpenAI's; how long the model stays loaded afterwards"),
    honoured("enable_thinking", "not OpenAI's; where the template leaves the choice"),
    honoured("chat_template_kwargs", "not OpenAI's; variables of the template"),
    ignored("seed", |r| r.seed.is_some(), "not OpenAI's; the runtime draws its own numbers"),
    ignored("min_p", |r| r.min_p.is_some_and(|p| p != 0.0), "not OpenAI's; no such filter"),
];

/// The fields of a message.
const MESSAGE: &[Field<ChatMessage>] = &[
    honoured("role", "developer, system, user, assistant, tool"),
    honoured("content", "a string or parts; null for the assistant only"),
    honoured("name", "for templates that know names"),
    honoured("refusal", "stands in where `content` is null"),
    honoured(
        "tool_call_id",
        "required in `tool` messages; of a call in the assistant's turn before",
    ),
    honoured("tool_calls", "of functions; of `custom` tools is 400"),
    honoured("reasoning_content", "not OpenAI's; most templates leave earlier thoughts out"),
    honoured("reasoning", "not OpenAI's; `reasoning_content` wins"),
    refused("function_call", |m| m.function_call.is_some(), "deprecated form of `tool_calls`"),
    refused("audio", |m| m.audio.is_some(), "no sound"),
];

/// The fields of a content part.
const PART: &[Field<ContentPart>] = &[
    honoured("type", "text, refusal, image_url, input_audio, file"),
    honoured("text", "texts are joined with a line feed"),
    honoured("refusal", "as text"),
    honoured("image_url", "of models that see"),
    honoured("image_url.url", "a data URL; an address where `images.allow_urls` allows it"),
    refused("input_audio", |p| p.kind == ContentPartType::InputAudio, "no sound"),
    refused("file", |p| p.kind == ContentPartType::File, "no files"),
];

/// The fields of a part of a response's input.
const RESPONSE_PART: &[Field<ResponseInputPart>] = &[
    honoured("type", "texts, refusal, input_image; input_file and input_audio are 400"),
    honoured("text", "texts are joined with a line feed"),
    honoured("refusal", "as text"),
    honoured("image_url", "of models that see: as `image_url.url` of chat completions"),
    refused("file_id", |p| p.file_id.is_some(), "no files"),
    refused("file_data", |p| p.kind == ResponseInputPartType::InputFile, "no files"),
    refused("file_url", |p| p.kind == ResponseInputPartType::InputFile, "no files"),
    refused("input_audio", |p| p.kind == ResponseInputPartType::InputAudio, "no sound"),
];

fn has_keys(object: Option<&AnyObject>) -> bool {
    object.is_some_and(|object| object.has_keys)
}

fn names_ids(ids: Option<&[i64]>) -> bool {
    ids.is_some_and(|ids| !ids.is_empty())
}

fn has_form(
    forms: Option<&Nullable<StructuredOutputs>>,
    form: fn(&StructuredOutputs) -> Option<AnyValue>,
) -> bool {
    forms.and_then(Nullable::as_given).is_some_and(|forms| form(forms).is_some())
}

/// Without `stream` none of the options is in use.
fn pads_chunks(stream: Option<bool>, options: Option<&Nullable<StreamOptions>>) -> bool {
    let options = options.and_then(Nullable::as_given);
    stream == Some(true) && options.is_some_and(|options| options.include_obfuscation == Some(true))
}

fn asks_for_detail(request: &ChatCompletionRequest) -> bool {
    let parts = request.messages.iter().flat_map(|message| {
        match message.content.as_ref().and_then(Nullable::as_given) {
            Some(MessageContent::Parts(parts)) => parts.as_slice(),
            Some(MessageContent::Text(_)) | None => &[],
        }
    });
    parts
        .filter_map(|part| part.image_url.as_ref().and_then(Nullable::as_given))
        .any(|image| image.detail.as_deref().is_some_and(|detail| detail != "auto"))
}

fn asks_for_detail_of_input(request: &CreateResponse) -> bool {
    let Some(ResponseInput::Items(items)) = request.input.as_ref().and_then(Nullable::as_given)
    else {
        return false;
    };
    let contents = items.iter().flat_map(|item| [&item.content, &item.output]).flatten();
    let parts = contents.flat_map(|content| match content.as_given() {
        Some(ResponseInputContent::Parts(parts)) => parts.as_slice(),
        Some(ResponseInputContent::Text(_)) | None => &[],
    });
    let mut details = parts.filter_map(|part| part.detail.as_deref());
    details.any(|detail| detail != "auto")
}

fn asks_for_sound(request: &ChatCompletionRequest) -> bool {
    request.modalities.as_ref().is_some_and(|modalities| modalities.contains(&Modality::Audio))
}

fn asks_for_a_tier(tier: Option<&str>) -> bool {
    tier.is_some_and(|tier| !matches!(tier, "auto" | "default"))
}

/// Without `stream` none of the options is in use.
fn pads_events(request: &CreateResponse) -> bool {
    request.stream == Some(true)
        && nested(request.stream_options.as_ref(), |o| o.include_obfuscation == Some(true))
}

/// Whether something holds of an object that may not be there.
fn nested<T>(object: Option<&Nullable<T>>, holds: impl FnOnce(&T) -> bool) -> bool {
    object.and_then(Nullable::as_given).is_some_and(holds)
}

/// A request for an answer, with its tables.
pub(crate) trait Fields: Sized + 'static {
    /// What becomes of its fields.
    const TABLES: [&'static [Field<Self>]; 2];

    /// The names of the fields that are used in vain.
    fn ignored(&self) -> Vec<&'static str> {
        Self::TABLES.into_iter().flat_map(|fields| used(fields, self)).collect()
    }

    /// The first field that has to be refused.
    fn refused(&self) -> Option<&'static str> {
        Self::TABLES.into_iter().find_map(|fields| first_refused(fields, self))
    }
}

impl Fields for CompletionRequest {
    const TABLES: [&'static [Field<Self>]; 2] = [COMPLETION, COMPLETION_COMMON];
}

impl Fields for EmbeddingRequest {
    const TABLES: [&'static [Field<Self>]; 2] = [EMBEDDING, &[]];
}

impl Fields for CreateResponse {
    const TABLES: [&'static [Field<Self>]; 2] = [RESPONSE, RESPONSE_EXTENSIONS];
}

impl Fields for ChatCompletionRequest {
    const TABLES: [&'static [Field<Self>]; 2] = [CHAT, CHAT_COMMON];
}

fn used<T>(fields: &'static [Field<T>], value: &T) -> impl Iterator<Item = &'static str> {
    fields.iter().filter_map(move |field| match field.class {
        Class::Ignored(is_used) if is_used(value) => Some(field.name),
        Class::Ignored(_) | Class::Honoured | Class::Refused(_) => None,
    })
}

/// The first field of a message that has to be refused.
pub(crate) fn refused_in_message(message: &ChatMessage) -> Option<&'static str> {
    first_refused(MESSAGE, message)
}

/// The field for which a part has to be refused.
pub(crate) fn refused_in_part(part: &ContentPart) -> Option<&'static str> {
    first_refused(PART, part)
}

/// The field for which a part of a response's input has to be refused.
pub(crate) fn refused_in_input(part: &ResponseInputPart) -> Option<&'static str> {
    first_refused(RESPONSE_PART, part)
}

fn first_refused<T>(fields: &'static [Field<T>], value: &T) -> Option<&'static str> {
    fields.iter().find_map(|field| match field.class {
        Class::Refused(is_wrong) if is_wrong(value) => Some(field.name),
        Class::Refused(_) | Class::Honoured | Class::Ignored(_) => None,
    })
}

/// The table as Markdown, and what holds the guide to the API: the content of `coverage.md`.
pub fn coverage() -> String {
    let mut text = String::from(
        "# Fields of requests\n\n\
         Printed from `openapi/src/fields.rs`, compared with it by a test. *Ignored*: no effect, \
         and named in the response header `x-rkllama-ignored` when used; 400 where the server is \
         configured to be strict. *Refused*: 400 with `param` and the code \
         `unsupported_parameter`, since the answer would be wrong. Fields that are not listed are \
         ignored in silence; wrong types and values out of range are 400 in every class.\n",
    );
    heading(&mut text, "POST /v1/chat/completions");
    rows(&mut text, "", CHAT);
    rows(&mut text, "", CHAT_COMMON);
    rows(&mut text, "messages[].", MESSAGE);
    rows(&mut text, "messages[].content[].", PART);
    heading(&mut text, "POST /v1/completions");
    rows(&mut text, "", COMPLETION);
    rows(&mut text, "", COMPLETION_COMMON);
    heading(&mut text, "POST /v1/responses");
    rows(&mut text, "", RESPONSE);
    rows(&mut text, "", RESPONSE_EXTENSIONS);
    rows(&mut text, "input[].content[].", RESPONSE_PART);
    heading(&mut text, "POST /v1/embeddings");
    rows(&mut text, "", EMBEDDING);
    heading(&mut text, "POST /v1/gui_actor");
    rows(&mut text, "", GUI_ACTOR);
    text.push_str(include_str!("guide.md"));
    text
}

fn heading(text: &mut String, operation: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n## {operation}\n\n| field | class | note |\n| --- | --- | --- |");
}

fn rows<T>(text: &mut String, prefix: &str, fields: &[Field<T>]) {
    for Field { name, class, note } in fields {
        let class = match class {
            Class::Honoured => "honoured",
            Class::Ignored(_) => "ignored",
            Class::Refused(_) => "refused",
        };
        let _ = writeln!(text, "| `{prefix}{name}` | {class} | {note} |");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ignores nothing needs no place in the header.
    #[test]
    fn nothing_below_the_request_is_ignored() {
        let is_ignored = |class: &Class<_>| matches!(class, Class::Ignored(_));
        assert!(!MESSAGE.iter().any(|field| is_ignored(&field.class)));
        assert!(!PART.iter().any(|field| matches!(field.class, Class::Ignored(_))));
    }
}
