//! From what was asked to tokens, to the reader of the answer, and to the form that holds it.
//!
//! Blocks for tens of milliseconds on a long prompt.

use std::sync::Arc;

use rkllama_core::{Chat, EngineError, Format, Message, Prompt, Role, Tool, ToolChoice};
use rkllama_text::{
    AnswerParser, CallForm, ChatPrompt, Codec, Encoded, ReasoningFormat,
    grammar::{Call, Calls, Grammar, GrammarError, GrammarLimits},
};

use crate::{
    kv::Prefixes,
    steering::{FreeCalls, Steering, Watch},
};

/// What was asked, as tokens.
pub(crate) struct Encoding {
    pub(crate) encoded: Encoded,
    /// The same as a text with a mark for each image, where it has some.
    pub(crate) pictured: Option<String>,
    /// What other conversations of the same application begin with too.
    pub(crate) shared_prefix: Option<Arc<[i32]>>,
    /// Tells thoughts, text and calls apart; none for what is no conversation.
    pub(crate) parser: Option<AnswerParser>,
    pub(crate) steering: Option<Steering>,
    /// The tokens that end the answer.
    pub(crate) stop_tokens: Vec<i32>,
}

/// Where beginnings of prompts are remembered, and from how many tokens on.
pub(crate) struct SharedPrefixes {
    pub(crate) known: Arc<Prefixes>,
    pub(crate) tokens_min: Option<usize>,
}

/// Encodes what was asked; little work for what has certainly more tokens than `tokens_max`.
pub(crate) fn encode(
    codec: &Arc<Codec>,
    asked: Prompt,
    format: Option<&Format>,
    tokens_max: usize,
    prefixes: &SharedPrefixes,
    model: &str,
) -> Result<Encoding, EngineError> {
    let of_text = |err: rkllama_text::TextError| err.of_model(model);
    let chat = match asked {
        Prompt::Chat(chat) => chat,
        Prompt::Text(text) => {
            let encoded = codec.encode_text_within(&text, tokens_max).map_err(of_text)?;
            return bare(codec, encoded, format);
        }
        Prompt::Infill(infill) => {
            let encoded = codec.encode_infill(&infill, tokens_max).map_err(of_text)?;
            let stop_tokens = [codec.eos_ids(), codec.infill_end_ids()].concat();
            return Ok(Encoding { stop_tokens, ..bare(codec, encoded, format)? });
        }
        Prompt::Tokens(tokens) => {
            let encoded = codec.check_tokens(&tokens).map_err(of_text)?;
            return bare(codec, encoded, format);
        }
    };
    let preface = codec.check_tokens(&chat.preface).map_err(of_text)?;
    let grammar = match forced_calls(codec, &chat)? {
        Some(calls) => Some(calls),
        None => format.map(grammar_of).transpose()?,
    };
    let calls = free_calls(codec, &chat)?;
    let chat = if grammar.is_some() { instructed(chat, format) } else { chat };
    let mut prompt = codec.prompt(&chat, None, tokens_max).map_err(of_text)?;
    if prompt.pictured.is_none() {
        prompt.encoded = behind(preface, prompt.encoded);
    }
    let shared_prefix = match &prompt.encoded {
        // Images are no part of what is saved.
        Encoded::Whole(_) if !chat.preface.is_empty() || prompt.pictured.is_some() => None,
        Encoded::Whole(tokens) => {
            prefixes.tokens_min.and_then(|min| prefixes.known.of(codec, &chat, tokens, min))
        }
        Encoded::TooLong { .. } => None,
    };
    let is_thinking = prompt.answer.is_thinking();
    let has_form = grammar.is_some() || matches!(calls, FreeCalls::Held(_));
    let steering = has_form.then(|| Steering {
        codec: Arc::clone(codec),
        grammar,
        watch: watch(codec, chat, is_thinking, calls),
    });
    let ChatPrompt { encoded, answer, pictured, .. } = prompt;
    let stop_tokens = codec.eos_ids().to_vec();
    let parser = Some(answer);
    Ok(Encoding { encoded, pictured, shared_prefix, parser, steering, stop_tokens })
}

/// `encoded` behind what is in front of it.
fn behind(front: Encoded, encoded: Encoded) -> Encoded {
    match (front, encoded) {
        (Encoded::Whole(front), Encoded::Whole(tokens)) => Encoded::Whole([front, tokens].concat()),
        (Encoded::Whole(front), Encoded::TooLong { tokens_min }) => {
            Encoded::TooLong { tokens_min: tokens_min + front.len() }
        }
        (too_long @ Encoded::TooLong { .. }, _) => too_long,
    }
}

/// What is no conversation: nothing comes before its form.
fn bare(
    codec: &Arc<Codec>,
    encoded: Encoded,
    format: Option<&Format>,
) -> Result<Encoding, EngineError> {
    let grammar = format.map(grammar_of).transpose()?;
    let steering =
        grammar.is_some().then(|| Steering { codec: Arc::clone(codec), grammar, watch: None });
    let stop_tokens = codec.eos_ids().to_vec();
    let (pictured, shared_prefix, parser) = (None, None, None);
    Ok(Encoding { encoded, pictured, shared_prefix, parser, steering, stop_tokens })
}

fn grammar_of(format: &Format) -> Result<Grammar, EngineError> {
    let grammar = match format {
        Format::JsonObject => Grammar::json_object(),
        Format::JsonSchema(schema) => Grammar::json_schema(schema, &GrammarLimits::default()),
    };
    grammar.map_err(|error| EngineError::Format { reason: error.to_string() })
}

/// The calls that `tool_choice` demands, in the model's own format.
fn forced_calls(codec: &Codec, chat: &Chat) -> Result<Option<Grammar>, EngineError> {
    let tools: Vec<&Tool> = match &chat.tool_choice {
        ToolChoice::None | ToolChoice::Auto => return Ok(None),
        ToolChoice::Required => chat.tools.iter().collect(),
        ToolChoice::Named(name) => chat.tools.iter().filter(|tool| tool.name == *name).collect(),
    };
    let is_one = !chat.parallel_tool_calls || matches!(chat.tool_choice, ToolChoice::Named(_));
    let tools = tools.into_iter().map(|tool| (tool, tool.parameters.as_deref()));
    calls(codec, &tools.collect::<Vec<_>>(), is_one).map(Some)
}

/// The calls that the model may make or not: held to the schemas of tools that are strict.
fn free_calls(codec: &Codec, chat: &Chat) -> Result<FreeCalls, EngineError> {
    if chat.tool_choice != ToolChoice::Auto || chat.tools.is_empty() {
        return Ok(FreeCalls::None);
    }
    let Some(strict) = chat.tools.iter().find(|tool| tool.strict) else {
        return Ok(FreeCalls::Free);
    };
    if codec.capabilities().reasoning_format == ReasoningFormat::Harmony {
        // Its calls stand in messages of their own, whose heads are not text.
        let name = &strict.name;
        let reason = format!(
            "tool '{name}': this model's calls can be held to a `strict` schema only where \
             `tool_choice` demands one"
        );
        return Err(EngineError::Format { reason });
    }
    let tools = chat.tools.iter().map(|tool| match tool.strict {
        true => (tool, tool.parameters.as_deref()),
        false => (tool, None),
    });
    let tools: Vec<_> = tools.collect();
    calls(codec, &tools, !chat.parallel_tool_calls).map(FreeCalls::Held)
}

/// Calls of tools, each with the schema that its arguments are held to.
fn calls(
    codec: &Codec,
    tools: &[(&Tool, Option<&str>)],
    is_one: bool,
) -> Result<Grammar, EngineError> {
    let form = codec.capabilities().tool_format.form();
    let calls = Calls {
        open: form.open.to_owned(),
        calls: tools.iter().map(|(tool, schema)| call_of(&form, tool, *schema)).collect(),
        between: (!is_one).then(|| form.between.to_owned()),
        close: form.close.to_owned(),
    };
    let failed = |(index, error): (usize, GrammarError)| EngineError::Format {
        reason: format!("tool '{}': {error}", tools[index].0.name),
    };
    Grammar::calls(&calls, &GrammarLimits::default()).map_err(failed)
}

fn call_of<'a>(form: &CallForm, tool: &Tool, arguments: Option<&'a str>) -> Call<'a> {
    Call {
        before: [form.before_name, &tool.name, form.behind_name].concat(),
        arguments,
        after: form.behind_arguments.to_owned(),
    }
}

/// The conversation in which the model is told of the form too: what it would say by itself is
/// better than what it is held to.
fn instructed(mut chat: Chat, format: Option<&Format>) -> Chat {
    let words = match format {
        Some(Format::JsonObject) => "Answer with a JSON object and nothing else.".to_owned(),
        Some(Format::JsonSchema(schema)) => {
            format!("Answer with JSON that follows this JSON Schema, and nothing else:\n{schema}")
        }
        None => return chat,
    };
    match chat.messages.first_mut() {
        Some(first) if matches!(first.role, Role::System | Role::Developer) => {
            first.content = [&first.content, "\n\n", &words].concat();
        }
        _ => chat.messages.insert(0, Message::new(Role::System, words)),
    }
    chat
}

/// What may come before the form: thoughts, and calls that are free to be made.
fn watch(codec: &Codec, chat: Chat, is_thinking: bool, calls: FreeCalls) -> Option<Watch> {
    let may_call = !matches!(calls, FreeCalls::None);
    let may_think = codec.capabilities().reasoning() && chat.thinking != Some(false);
    (is_thinking || may_think || may_call).then(|| Watch {
        chat: Chat { messages: Vec::new(), ..chat },
        is_thinking,
        calls,
    })
}
