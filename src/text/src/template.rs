//! The model's chat template: compiled once, rendered per request.
//!
//! The reference is what `transformers` does (its `apply_chat_template`): Jinja with
//! `trim_blocks` and `lstrip_blocks`, loop controls, `raise_exception`, `strftime_now`, a `tojson`
//! that is Python's `json.dumps`, and the `{% generation %}` tag that marks the assistant's words
//! for training and does nothing here.

use std::{error::Error as _, fmt, sync::LazyLock, time::SystemTime};

use minijinja::{Environment, Error, ErrorKind, Value, syntax::SyntaxConfig};
use regex::{Captures, Regex};
use rkllama_core::{Message, Role};

use crate::{
    TextError,
    config::{TOKENIZER_CONFIG, TemplateSource},
    python,
};

/// The template of models that come with none and whose vocabulary is of this kind.
const CHATML: &str = "\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

const NAME: &str = "chat";

static GENERATION_TAG: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("a constant expression")
});

/// What a rendering depends on besides the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderOptions {
    /// Ends the prompt with the beginning of the assistant's turn.
    pub add_generation_prompt: bool,
    /// For templates that can think: on, off, or as the template has it.
    pub enable_thinking: Option<bool>,
    /// The moment some templates write into the system turn, as a UTC date.
    pub now: SystemTime,
}

impl Default for RenderOptions {
    /// A prompt to be answered now.
    fn default() -> Self {
        Self { add_generation_prompt: true, enable_thinking: None, now: SystemTime::now() }
    }
}

/// A compiled template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    file: &'static str,
    named_tokens: Vec<(String, String)>,
    knows_developer: bool,
}

impl ChatTemplate {
    /// Compiles the model's template, or the fallback where the vocabulary allows it.
    pub(crate) fn compile(
        source: Option<TemplateSource>,
        has_chatml_tokens: bool,
        named_tokens: Vec<(String, String)>,
    ) -> Result<Self, TextError> {
        let source = match source {
            Some(source) => source,
            None if has_chatml_tokens => {
                TemplateSource { file: TOKENIZER_CONFIG, text: CHATML.to_owned() }
            }
            None => {
                let reason = "no chat_template in it and no chat_template.jinja beside it: put \
                              the template of the model's makers there";
                return Err(TextError::File { file: TOKENIZER_CONFIG, reason: reason.to_owned() });
            }
        };
        let mut environment = environment();
        let knows_developer = source.text.contains("developer");
        environment.add_template_owned(NAME, without_generation_tags(&source.text)).map_err(
            |err| TextError::Key {
                file: source.file,
                key: "chat_template".to_owned(),
                reason: describe(&err),
            },
        )?;
        Ok(Self { environment, file: source.file, named_tokens, knows_developer })
    }

    /// Renders a conversation.
    ///
    /// Some templates raise on a system message, or on one that is not the first. The operator's
    /// words must not be lost then, so they are put in front of the user's turn that follows.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<String, TextError> {
        match self.render_once(messages, options) {
            Err(TextError::Template { .. }) if messages.iter().any(|m| is_instruction(m.role)) => {
                self.render_once(&merge_instructions(messages), options)
            }
            rendered => rendered,
        }
    }

    fn render_once(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<String, TextError> {
        let template = self.environment.get_template(NAME).map_err(|err| self.error(&err))?;
        template.render(self.context(messages, options)).map_err(|err| self.error(&err))
    }

    fn context(&self, messages: &[Message], options: &RenderOptions) -> Value {
        let now = options.now;
        let strftime_now = move |format: String| python::strftime(now, &format);
        let mut context: Vec<(&str, Value)> = vec![
            ("messages", messages.iter().map(|message| self.message(message)).collect()),
            ("add_generation_prompt", options.add_generation_prompt.into()),
            // Defined and none, as the reference has it: templates ask both ways.
            ("tools", ().into()),
            ("documents", ().into()),
            ("strftime_now", Value::from_function(strftime_now)),
        ];
        if let Some(thinking) = options.enable_thinking {
            context.push(("enable_thinking", thinking.into()));
        }
        let tokens = self.named_tokens.iter();
        context.extend(tokens.map(|(name, token)| (name.as_str(), token.as_str().into())));
        Value::from_pairs(context)
    }

    fn message(&self, message: &Message) -> Value {
        let role = match message.role {
            Role::Developer if !self.knows_developer => Role::System,
            role => role,
        };
        let mut fields: Vec<(&str, Value)> =
            vec![("role", role.as_str().into()), ("content", message.content.as_str().into())];
        if let Some(name) = &message.name {
            fields.push(("name", name.as_str().into()));
        }
        Value::from_pairs(fields)
    }

    fn error(&self, err: &Error) -> TextError {
        match raised(err) {
            Some(reason) => TextError::Template { reason },
            None => TextError::Render { file: self.file, reason: describe(err) },
        }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the default delimiters are valid"));
    environment.set_unknown_method_callback(python::unknown_method);
    environment.add_filter("tojson", python::tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        let raised = Raised(message);
        Err(Error::new(ErrorKind::InvalidOperation, "the template raised").with_source(raised))
    });
    environment
}

/// The marks vanish, and so do the whitespace and line ends that a tag of its kind would eat.
fn without_generation_tags(source: &str) -> String {
    let tag = |found: &Captures<'_>| {
        let statement = if found.get(2).is_some() { "endif" } else { "if true" };
        format!("{{%{} {statement} {}%}}", &found[1], &found[3])
    };
    GENERATION_TAG.replace_all(source, tag).into_owned()
}

const fn is_instruction(role: Role) -> bool {
    matches!(role, Role::System | Role::Developer)
}

/// The same conversation without system messages: their text stands before that of the next user
/// turn; behind the last one it is a user turn of its own.
fn merge_instructions(messages: &[Message]) -> Vec<Message> {
    let mut merged: Vec<Message> = Vec::with_capacity(messages.len());
    let mut pending: Vec<&str> = Vec::new();
    for message in messages {
        if is_instruction(message.role) {
            pending.push(&message.content);
        } else if message.role == Role::User && !pending.is_empty() {
            pending.push(&message.content);
            let content = std::mem::take(&mut pending).join("\n\n");
            merged.push(Message { content, ..message.clone() });
        } else {
            merged.push(message.clone());
        }
    }
    if !pending.is_empty() {
        merged.push(Message::new(Role::User, pending.join("\n\n")));
    }
    merged
}

/// What a template says with `raise_exception`; carried through the engine as an error's source.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raised(err: &Error) -> Option<String> {
    let mut source = err.source();
    while let Some(err) = source {
        if let Some(Raised(message)) = err.downcast_ref() {
            return Some(message.clone());
        }
        source = err.source();
    }
    None
}

/// The innermost cause with its line.
fn describe(err: &Error) -> String {
    let line = err.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    let detail = err.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{}{detail}{line}", err.kind())
}
