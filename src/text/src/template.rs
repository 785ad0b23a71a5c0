//! The model's chat template: compiled once, rendered per request.
//!
//! The reference is what `transformers` does (its `apply_chat_template`): Jinja with
//! `trim_blocks` and `lstrip_blocks`, loop controls, `raise_exception`, `strftime_now`, a `tojson`
//! that is Python's `json.dumps`, and the `{% generation %}` tag that marks the assistant's words
//! for training and does nothing here.

use std::{error::Error as _, fmt, sync::LazyLock, time::SystemTime};

use minijinja::{Environment, Error, ErrorKind, Value, syntax::SyntaxConfig};
use regex::{Captures, Regex};
use rkllama_core::{Chat, Message, Role, ToolCall};

use crate::{
    CallForm, TextError,
    config::{TOKENIZER_CONFIG, TemplateSource},
    history::{
        calls_as_text, instructions_merged, is_instruction, offered, prompted, short_id,
        single_calls, with_system,
    },
    probe, python,
};

/// The template of models that come with none and whose vocabulary is of this kind.
const CHATML: &str = "\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

const NAME: &str = "chat";
/// The name of a second template for conversations with tools.
const TOOL_NAME: &str = "tool_use";

static GENERATION_TAG: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("a constant expression")
});

/// What a rendering depends on besides the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderOptions {
    /// Ends the prompt with the beginning of the assistant's turn.
    pub add_generation_prompt: bool,
    /// The moment some templates write into the system turn, as a UTC date.
    pub now: SystemTime,
}

impl Default for RenderOptions {
    /// A prompt to be answered now.
    fn default() -> Self {
        Self { add_generation_prompt: true, now: SystemTime::now() }
    }
}

/// What a template does with tools, learnt by trying it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// Whether it takes what is said in typed parts and loses a plain text, as those of some models that
    /// see do.
    pub(crate) content_in_parts: bool,
    /// Where it takes the tools from, if it writes them down.
    pub(crate) tools: Option<ToolsIn>,
    /// Whether it writes down earlier calls and their results.
    pub(crate) calls: bool,
    /// Whether it wants the arguments of earlier calls as JSON text instead of an object.
    pub(crate) arguments_as_text: bool,
    /// Whether thinking can be switched on and off.
    pub(crate) thinking_switch: bool,
}

/// Where a template takes the tools from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToolsIn {
    /// The variable `tools`, as the reference has it.
    Variable,
    /// The field `tools` of the system message, as JSON text: Phi-4-mini.
    SystemMessage,
}

/// Whether a chat template can be compiled.
///
/// # Errors
/// In words, with the place of the fault.
pub fn check_template(source: &str) -> Result<(), String> {
    let text = without_generation_tags(source);
    environment().add_template_owned(NAME, text).map_err(|error| describe(&error))
}

/// A compiled template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    file: &'static str,
    /// All there is of template text, to see what it mentions.
    source: String,
    named_tokens: Vec<(String, String)>,
    has_tool_template: bool,
    traits: Traits,
}

impl ChatTemplate {
    /// Compiles the model's template, or the fallback where the vocabulary allows it, and the one
    /// for tools where there is one.
    pub(crate) fn compile(
        source: Option<TemplateSource>,
        tool_source: Option<TemplateSource>,
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
        let mut all_text = String::new();
        let sources = [(NAME, Some(&source)), (TOOL_NAME, tool_source.as_ref())];
        for (name, source) in sources {
            let Some(source) = source else { continue };
            let text = without_generation_tags(&source.text);
            environment.add_template_owned(name, text).map_err(|err| TextError::Key {
                file: source.file,
                key: "chat_template".to_owned(),
                reason: describe(&err),
            })?;
            all_text.push_str(&source.text);
        }
        let mut template = Self {
            environment,
            file: source.file,
            source: all_text,
            named_tokens,
            has_tool_template: tool_source.is_some(),
            traits: Traits::default(),
        };
        probe::try_out(&mut template);
        Ok(template)
    }

    /// The special token of this name.
    pub(crate) fn named_token(&self, name: &str) -> Option<&str> {
        let found = self.named_tokens.iter().find(|(key, _)| key == name);
        found.map(|(_, token)| token.as_str())
    }

    /// What it does with tools.
    pub(crate) const fn traits(&self) -> Traits {
        self.traits
    }

    /// The same template, taken to have other traits.
    pub(crate) const fn set_traits(&mut self, traits: Traits) {
        self.traits = traits;
    }

    /// All there is of template text.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    fn mentions(&self, word: &str) -> bool {
        self.source.contains(word)
    }

    /// Renders a conversation. What the template cannot say of tools is put into words first, in
    /// the given form.
    pub(crate) fn render(
        &self,
        chat: &Chat,
        options: &RenderOptions,
        form: &CallForm,
    ) -> Result<String, TextError> {
        let mut chat = chat.clone();
        chat.tools = offered(&chat).to_vec();
        if self.traits.tools.is_none() && !chat.tools.is_empty() {
            chat = prompted(&chat, form);
        }
        if !self.traits.calls {
            chat.messages = calls_as_text(&chat.messages, form);
        }
        if self.mentions("length 9") {
            // Mistral's templates refuse the ids of every other API.
            for message in &mut chat.messages {
                message.tool_call_id = message.tool_call_id.as_deref().map(short_id);
                message.tool_calls.iter_mut().for_each(|call| call.id = short_id(&call.id));
            }
        }
        self.render_somehow(chat, options)
    }

    /// Some templates raise on a system message, or on one that is not the first. The operator's
    /// words must not be lost then, so they are put in front of the user's turn that follows. Some
    /// raise on several calls in one turn, which become several turns.
    fn render_somehow(&self, mut chat: Chat, options: &RenderOptions) -> Result<String, TextError> {
        let mut rendered = self.render_once(&chat, options);
        type Change = (fn(&Message) -> bool, fn(&[Message]) -> Vec<Message>);
        let changes: [Change; 2] = [
            (|message| message.tool_calls.len() > 1, single_calls),
            (|message| is_instruction(message.role), instructions_merged),
        ];
        for (concerns, change) in changes {
            if matches!(rendered, Err(TextError::Template { .. }))
                && chat.messages.iter().any(concerns)
            {
                chat.messages = change(&chat.messages);
                rendered = self.render_once(&chat, options);
            }
        }
        rendered
    }

    /// Renders without any change for the template's sake.
    pub(crate) fn render_once(
        &self,
        chat: &Chat,
        options: &RenderOptions,
    ) -> Result<String, TextError> {
        let name = match chat.tools.is_empty() || !self.has_tool_template {
            true => NAME,
            false => TOOL_NAME,
        };
        let template = self.environment.get_template(name).map_err(|err| self.error(&err))?;
        let context = self.context(chat, options)?;
        template.render(context).map_err(|err| self.error(&err))
    }

    fn context(&self, chat: &Chat, options: &RenderOptions) -> Result<Value, TextError> {
        let now = options.now;
        let strftime_now = move |format: String| python::strftime(now, &format);
        let tools: Vec<Value> = chat.tools.iter().map(python::tool).collect();
        let in_system = self.traits.tools == Some(ToolsIn::SystemMessage) && !tools.is_empty();
        let messages = match in_system {
            true => with_system(&chat.messages, str::to_owned),
            false => chat.messages.clone(),
        };
        let message = |(index, message): (usize, &Message)| {
            let tools = Some(&tools).filter(|_| in_system && index == 0);
            self.message(message, tools, &chat.messages)
        };
        let tools_value = |tools: &[Value]| match tools.is_empty() {
            // Defined and none, as the reference has it: templates ask both ways.
            true => Value::from(()),
            false => Value::from(tools.to_vec()),
        };
        let mut context: Vec<(String, Value)> = vec![
            ("messages".to_owned(), messages.iter().enumerate().map(message).collect()),
            ("add_generation_prompt".to_owned(), options.add_generation_prompt.into()),
            ("tools".to_owned(), tools_value(&tools)),
            ("documents".to_owned(), ().into()),
            ("strftime_now".to_owned(), Value::from_function(strftime_now)),
        ];
        if self.mentions("xml_tools") {
            // SmolLM3's name for them.
            context.push(("xml_tools".to_owned(), tools_value(&tools)));
        }
        if let Some(thinking) = chat.thinking {
            // The second is Granite's and DeepSeek's name for the same switch.
            context.push(("enable_thinking".to_owned(), thinking.into()));
            context.push(("thinking".to_owned(), thinking.into()));
        }
        if let Some(effort) = &chat.reasoning_effort {
            context.push(("reasoning_effort".to_owned(), effort.as_str().into()));
        }
        let tokens = self.named_tokens.iter();
        context.extend(tokens.map(|(name, token)| (name.clone(), token.as_str().into())));
        if let Some(variables) = &chat.template_variables {
            context.extend(python::variables(variables)?);
        }
        Ok(Value::from_pairs(context))
    }

    fn message(&self, message: &Message, tools: Option<&Vec<Value>>, all: &[Message]) -> Value {
        let role = match message.role {
            Role::Developer if !self.mentions("developer") => Role::System,
            role => role,
        };
        let content: Value = match self.traits.content_in_parts {
            false => message.content.as_str().into(),
            true => {
                let part = [("type", "text"), ("text", message.content.as_str())];
                Value::from(vec![Value::from_pairs(part)])
            }
        };
        let mut fields: Vec<(&str, Value)> =
            vec![("role", role.as_str().into()), ("content", content)];
        let call = message.tool_call_id.as_deref().and_then(|id| call_of(all, id));
        // Templates that write the name of a result's function read it here.
        if let Some(name) = message.name.as_ref().or(call.map(|call| &call.name)) {
            fields.push(("name", name.as_str().into()));
        }
        if let Some(reasoning) = &message.reasoning {
            let others = ["reasoning", "thinking", "thought"];
            let known = others.into_iter().filter(|name| self.mentions(&format!("message.{name}")));
            let names = std::iter::once("reasoning_content").chain(known);
            fields.extend(names.map(|name| (name, reasoning.as_str().into())));
        }
        if !message.tool_calls.is_empty() {
            let calls = message.tool_calls.iter();
            let as_text = self.traits.arguments_as_text;
            fields
                .push(("tool_calls", calls.map(|call| python::tool_call(call, as_text)).collect()));
        }
        if let Some(id) = &message.tool_call_id {
            fields.push(("tool_call_id", id.as_str().into()));
        }
        if let Some(tools) = tools {
            let functions = tools.iter().filter_map(|tool| tool.get_attr("function").ok());
            let functions: Value = functions.collect();
            fields.push(("tools", python::to_json(&functions).into()));
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

/// The call that a result answers.
fn call_of<'a>(messages: &'a [Message], id: &str) -> Option<&'a ToolCall> {
    messages.iter().flat_map(|message| &message.tool_calls).find(|call| call.id == id)
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
