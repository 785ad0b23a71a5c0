//! What becomes of each field of a chat request: honoured, ignored and named, or refused.
//!
//! The only list of its kind. The response header that names what was ignored and the refusals
//! come from it, and `coverage.md` beside `openapi.json` is printed from it. A test holds it
//! against the published schema and against OpenAI's.

use std::fmt::Write;

use crate::wire::{
    AnyObject, ChatCompletionRequest, ChatMessage, ContentPart, ContentPartType, Modality,
    Nullable, ResponseFormatType, ToolChoice, ToolChoiceMode,
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

/// The request's own fields.
const REQUEST: &[Field<ChatCompletionRequest>] = &[
    honoured("model", "absent: the fallback, else the only model, else 400"),
    honoured("messages", "at least one"),
    honoured("stream", "a boolean and nothing like one"),
    honoured("stream_options", "ignored without `stream`"),
    honoured("temperature", "0 to 2"),
    honoured("top_p", "0 to 1"),
    honoured("presence_penalty", "-2 to 2"),
    honoured("frequency_penalty", "-2 to 2"),
    honoured("max_completion_tokens", "wins over `max_tokens`; negative: to the context's end"),
    honoured("max_tokens", "0 is legal; negative: to the context's end"),
    honoured("stop", "at most 64 of at most 4096 bytes; empty texts are dropped"),
    honoured("top_k", "not OpenAI's; 0 and below: the whole vocabulary"),
    honoured("repeat_penalty", "not OpenAI's; 0.01 to 10"),
    honoured("repetition_penalty", "not OpenAI's; 0.01 to 10; `repeat_penalty` wins"),
    honoured("keep_alive", "not OpenAI's; how long the model stays loaded afterwards"),
    refused("n", |r| r.n.is_some_and(|n| n > 1), "1 is honoured; more needs several runs"),
    refused("tools", offers_tools, "`[]` means none; with `tool_choice` `none` they are not used"),
    refused("tool_choice", asks_for_a_tool, "`none` and `auto` are honoured"),
    refused("response_format", asks_for_a_form, "`text` is honoured"),
    refused("modalities", asks_for_sound, "`text` is honoured"),
    ignored("seed", |r| r.seed.is_some(), "the runtime draws its own random numbers"),
    ignored("logit_bias", |r| has_keys(r.logit_bias.as_ref()), "the runtime keeps its scores"),
    ignored("logprobs", |r| r.logprobs == Some(true), "`choices[].logprobs` is null"),
    ignored("top_logprobs", |r| r.top_logprobs.is_some(), "as `logprobs`; 0 to 20"),
    ignored("min_p", |r| r.min_p.is_some_and(|p| p != 0.0), "not OpenAI's; no such filter"),
    ignored("parallel_tool_calls", |r| r.parallel_tool_calls == Some(false), "no tools yet"),
    ignored("reasoning_effort", |r| r.reasoning_effort.is_some(), "not yet in templates"),
    ignored("verbosity", |r| r.verbosity.is_some(), "no model knows it"),
    ignored("prediction", |r| has_keys(r.prediction.as_ref()), "would save time only"),
    ignored("service_tier", asks_for_a_tier, "there is one; `auto` and `default` are not named"),
    ignored("store", |r| r.store == Some(true), "nothing is stored"),
    ignored("metadata", |r| has_keys(r.metadata.as_ref()), "nothing is stored"),
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
    ignored("web_search_options", |r| r.web_search_options.is_some(), "the server does not search"),
    ignored("moderation", |r| r.moderation.is_some(), "the server does not moderate"),
    ignored("audio", |r| r.audio.is_some(), "see `modalities`"),
    ignored(
        "functions",
        |r| r.functions.as_ref().is_some_and(|functions| !functions.is_empty()),
        "deprecated form of `tools`",
    ),
    ignored("function_call", |r| r.function_call.is_some(), "deprecated form of `tool_choice`"),
    ignored("stream_options.include_obfuscation", pads_chunks, "chunks are not padded"),
    honoured("stream_options.include_usage", "one more chunk"),
];

/// The fields of a message.
const MESSAGE: &[Field<ChatMessage>] = &[
    honoured("role", "developer, system, user, assistant, tool"),
    honoured("content", "a string or parts; null for the assistant only"),
    honoured("name", "for templates that know names"),
    honoured("refusal", "stands in where `content` is null"),
    ignored("tool_call_id", |m| m.tool_call_id.is_some(), "the order of the messages says it"),
    refused("tool_calls", |m| m.tool_calls.as_ref().is_some_and(|c| !c.is_empty()), "no tools yet"),
    refused("function_call", |m| m.function_call.is_some(), "no tools yet"),
    refused("audio", |m| m.audio.is_some(), "no sound"),
];

/// The fields of a content part.
const PART: &[Field<ContentPart>] = &[
    honoured("type", "text, refusal, image_url, input_audio, file"),
    honoured("text", "texts are joined with a line feed"),
    honoured("refusal", "as text"),
    refused("image_url", |p| p.kind == ContentPartType::ImageUrl, "no images yet"),
    refused("input_audio", |p| p.kind == ContentPartType::InputAudio, "no sound"),
    refused("file", |p| p.kind == ContentPartType::File, "no files"),
];

fn has_keys(object: Option<&AnyObject>) -> bool {
    object.is_some_and(|object| object.has_keys)
}

/// Tools that must not be called cannot make the answer wrong.
fn offers_tools(request: &ChatCompletionRequest) -> bool {
    let choice = request.tool_choice.as_ref().and_then(Nullable::as_given);
    let are_off = matches!(choice, Some(ToolChoice::Mode(ToolChoiceMode::None)));
    !are_off && request.tools.as_ref().is_some_and(|tools| !tools.is_empty())
}

fn asks_for_a_tool(request: &ChatCompletionRequest) -> bool {
    match request.tool_choice.as_ref().and_then(Nullable::as_given) {
        None | Some(ToolChoice::Mode(ToolChoiceMode::None | ToolChoiceMode::Auto)) => false,
        Some(ToolChoice::Mode(ToolChoiceMode::Required) | ToolChoice::Named(_)) => true,
    }
}

/// Without `stream` none of the options is in use.
fn pads_chunks(request: &ChatCompletionRequest) -> bool {
    let options = request.stream_options.as_ref().and_then(Nullable::as_given);
    request.stream == Some(true)
        && options.is_some_and(|options| options.include_obfuscation == Some(true))
}

fn asks_for_a_form(request: &ChatCompletionRequest) -> bool {
    let form = request.response_format.as_ref().and_then(Nullable::as_given);
    form.is_some_and(|form| form.kind != ResponseFormatType::Text)
}

fn asks_for_sound(request: &ChatCompletionRequest) -> bool {
    request.modalities.as_ref().is_some_and(|modalities| modalities.contains(&Modality::Audio))
}

fn asks_for_a_tier(request: &ChatCompletionRequest) -> bool {
    request.service_tier.as_deref().is_some_and(|tier| !matches!(tier, "auto" | "default"))
}

/// The names of the fields that `request` uses in vain.
pub(crate) fn ignored_by(request: &ChatCompletionRequest) -> Vec<&'static str> {
    let mut names: Vec<_> = used(REQUEST, request).collect();
    if request.messages.iter().any(|message| used(MESSAGE, message).next().is_some()) {
        names.push("messages[].tool_call_id");
    }
    names
}

fn used<T>(fields: &'static [Field<T>], value: &T) -> impl Iterator<Item = &'static str> {
    fields.iter().filter_map(move |field| match field.class {
        Class::Ignored(is_used) if is_used(value) => Some(field.name),
        Class::Ignored(_) | Class::Honoured | Class::Refused(_) => None,
    })
}

/// The first field of the request that has to be refused.
pub(crate) fn refused_in(request: &ChatCompletionRequest) -> Option<&'static str> {
    first_refused(REQUEST, request)
}

/// The first field of a message that has to be refused.
pub(crate) fn refused_in_message(message: &ChatMessage) -> Option<&'static str> {
    first_refused(MESSAGE, message)
}

/// The field for which a part has to be refused.
pub(crate) fn refused_in_part(part: &ContentPart) -> Option<&'static str> {
    first_refused(PART, part)
}

fn first_refused<T>(fields: &'static [Field<T>], value: &T) -> Option<&'static str> {
    fields.iter().find_map(|field| match field.class {
        Class::Refused(is_wrong) if is_wrong(value) => Some(field.name),
        Class::Refused(_) | Class::Honoured | Class::Ignored(_) => None,
    })
}

/// The table as Markdown: the content of `coverage.md`.
pub fn coverage() -> String {
    let mut text = String::from(
        "# Fields of a chat request\n\n\
         Printed from `openapi/src/fields.rs`, compared with it by a test. *Ignored*: no effect, \
         and named in the response header `x-rkllama-ignored` when used. *Refused*: 400 with \
         `param` and the code `unsupported_parameter`, since the answer would be wrong. Fields \
         that are not listed are ignored in silence; wrong types and values out of range are 400 \
         in every class.\n\n\
         | field | class | note |\n| --- | --- | --- |\n",
    );
    rows(&mut text, "", REQUEST);
    rows(&mut text, "messages[].", MESSAGE);
    rows(&mut text, "messages[].content[].", PART);
    text
}

fn rows<T>(text: &mut String, prefix: &str, fields: &[Field<T>]) {
    for Field { name, class, note } in fields {
        let class = match class {
            Class::Honoured => "honoured",
            Class::Ignored(_) => "ignored",
            Class::Refused(_) => "refused",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{prefix}{name}` | {class} | {note} |");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_one_ignored_field_and_the_header_names_it() {
        let ignored: Vec<_> = MESSAGE
            .iter()
            .filter(|field| matches!(field.class, Class::Ignored(_)))
            .map(|field| field.name)
            .collect();
        assert_eq!(ignored, ["tool_call_id"]);
    }
}
