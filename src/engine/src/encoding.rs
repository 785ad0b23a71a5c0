//! From what was asked to tokens, to the reader of the answer, and to the form that holds it.
//!
//! Blocks for tens of milliseconds on a long prompt.

use std::sync::Arc;

use rkllama_core::{Chat, EngineError, Format, Message, Prompt, Role, Tool, ToolChoice};
use rkllama_text::{
    AnswerParser, CallForm, Codec, Encoded,
    grammar::{Call, Calls, Grammar, GrammarError, GrammarLimits},
};

use crate::{
    kv::Prefixes,
    steering::{Steering, Watch},
};

/// What was asked, as tokens.
pub(crate) struct Encoding {
    pub(crate) encoded: Encoded,
    /// What other conversations of the same application begin with too.
    pub(crate) shared_prefix: Option<Arc<[i32]>>,
    /// Tells thoughts, text and calls apart; none for what is no conversation.
    pub(crate) parser: Option<AnswerParser>,
    pub(crate) steering: Option<Steering>,
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
            return bare(codec, encoded, format);
        }
        Prompt::Tokens(tokens) => {
            let encoded = codec.check_tokens(&tokens).map_err(of_text)?;
            return bare(codec, encoded, format);
        }
    };
    let grammar = match forced_calls(codec, &chat)? {
        Some(calls) => Some(calls),
        None => format.map(grammar_of).transpose()?,
    };
    let chat = if grammar.is_some() { instructed(chat, format) } else { chat };
    let prompt = codec.prompt(&chat, None, tokens_max).map_err(of_text)?;
    let shared_prefix = match &prompt.encoded {
        Encoded::Whole(tokens) => {
            prefixes.tokens_min.and_then(|min| prefixes.known.of(codec, &chat, tokens, min))
        }
        Encoded::TooLong { .. } => None,
    };
    let is_thinking = prompt.answer.is_thinking();
    let steering = grammar.map(|grammar| Steering {
        codec: Arc::clone(codec),
        grammar,
        watch: watch(codec, chat, is_thinking),
    });
    Ok(Encoding { encoded: prompt.encoded, shared_prefix, parser: Some(prompt.answer), steering })
}

/// What is no conversation: nothing comes before its form.
fn bare(
    codec: &Arc<Codec>,
    encoded: Encoded,
    format: Option<&Format>,
) -> Result<Encoding, EngineError> {
    let grammar = format.map(grammar_of).transpose()?;
    let steering =
        grammar.map(|grammar| Steering { codec: Arc::clone(codec), grammar, watch: None });
    Ok(Encoding { encoded, shared_prefix: None, parser: None, steering })
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
    let form = codec.capabilities().tool_format.form();
    let is_one = !chat.parallel_tool_calls || matches!(chat.tool_choice, ToolChoice::Named(_));
    let calls = Calls {
        open: form.open.to_owned(),
        calls: tools.iter().map(|tool| call_of(&form, tool)).collect(),
        between: (!is_one).then(|| form.between.to_owned()),
        close: form.close.to_owned(),
    };
    let failed = |(index, error): (usize, GrammarError)| EngineError::Format {
        reason: format!("tool '{}': {error}", tools[index].name),
    };
    Grammar::calls(&calls, &GrammarLimits::default()).map(Some).map_err(failed)
}

fn call_of<'a>(form: &CallForm, tool: &'a Tool) -> Call<'a> {
    Call {
        before: [form.before_name, &tool.name, form.behind_name].concat(),
        arguments: tool.parameters.as_deref(),
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
fn watch(codec: &Codec, chat: Chat, is_thinking: bool) -> Option<Watch> {
    let calls_are_free = chat.tool_choice == ToolChoice::Auto && !chat.tools.is_empty();
    let may_think = codec.capabilities().reasoning() && chat.thinking != Some(false);
    (is_thinking || may_think || calls_are_free).then(|| Watch {
        chat: Chat { messages: Vec::new(), ..chat },
        is_thinking,
        calls_are_free,
    })
}
