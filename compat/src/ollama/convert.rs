//! From Ollama's words to the domain's.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use rkllama_core::{
    Chat, Cutting, Image, ImageSource, Infill, KeepAlive, LogprobsWanted, Message, Model,
    ModelTraits, Prompt, Request, Role, Tool, ToolCall, ToolChoice,
};
use rkllama_http::{ApiError, image_of_base64};

use super::{
    AboutPicture,
    failure::{self, bad},
    options::{Options, format, keep_alive},
    template::{self, Turn, Variables},
    wire::{ChatMessage, ChatRequest, Common, GenerateRequest, OllamaThink, ToolDefinition},
};
use crate::{
    State,
    checks::{SCHEMA_BYTES_MAX, TOOLS_MAX, echo, is_tool_name},
    names::{self, Name},
};

/// A model, and how its client calls it.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) model: Arc<Model>,
    /// The client's own word, byte for byte.
    pub(super) asked: String,
}

impl Named {
    /// The model that is meant; `absent` words it for a name that nobody has.
    pub(super) fn find(
        state: &State,
        asked: String,
        absent: impl FnOnce(&str) -> String,
    ) -> Result<Self, ApiError> {
        match names::find(&*state.models, &asked) {
            Ok(model) => Ok(Self { model, asked }),
            Err(lookup) => Err(failure::lookup(lookup, absent)),
        }
    }

    /// With everything that may be left out of a name.
    fn full(&self) -> String {
        let listed = names::listed(&self.model);
        Name::parse(&listed).map_or(listed, |name| name.full())
    }

    /// Refuses what the model cannot do.
    fn lacks(&self, what: &str) -> ApiError {
        bad(format!("\"{}\" does not support {what}", self.asked))
    }
}

/// What is to be done.
pub(super) enum Task {
    /// Load the model.
    Load(Option<KeepAlive>),
    /// Unload it.
    Unload,
    /// Ask it.
    Answer(Box<Answer>),
    /// Show the prompt.
    Show(Box<Prompt>),
}

/// How a request is to be answered.
pub(super) struct Answer {
    pub(super) request: Request,
    pub(super) stream: bool,
    /// Whether the client is told what the model thinks.
    pub(super) shows_thoughts: bool,
    /// Whether the oldest messages go where there are too many.
    pub(super) truncates: bool,
    /// Whether the answer tells the tokens to go on from.
    pub(super) tells_context: bool,
    /// Fields that were used in vain.
    pub(super) ignored: Vec<&'static str>,
}

fn check_common(common: &Common) -> Result<(), ApiError> {
    match common.top_logprobs {
        Some(..0 | 21..) => Err(bad("top_logprobs must be between 0 and 20")),
        _ => Ok(()),
    }
}

fn logprobs(common: &Common) -> Option<LogprobsWanted> {
    let top = common.top_logprobs.and_then(|top| u32::try_from(top).ok()).unwrap_or(0);
    (common.logprobs == Some(true)).then_some(LogprobsWanted { top, of_prompt: false })
}

fn is_unload(keep_alive: Option<KeepAlive>) -> bool {
    keep_alive.is_some_and(|it| it == KeepAlive::For(std::time::Duration::ZERO))
}

/// Whether the model is to think, and how much.
fn thinking(
    think: Option<&OllamaThink>,
    named: &Named,
    traits: &ModelTraits,
) -> Result<(Option<bool>, Option<String>), ApiError> {
    match think {
        Some(OllamaThink::Switch(false)) => Ok((Some(false), None)),
        Some(_) if !traits.thinking => Err(named.lacks("thinking")),
        Some(OllamaThink::Switch(true)) => Ok((Some(true), None)),
        // No template knows more than three levels.
        Some(OllamaThink::Level(level)) if level == "max" => {
            Ok((Some(true), Some("high".to_owned())))
        }
        Some(OllamaThink::Level(level)) => Ok((Some(true), Some(level.clone()))),
        None => Ok((traits.thinking.then_some(true), None)),
    }
}

/// A conversation.
pub(super) async fn chat(
    wire: ChatRequest,
    client: Arc<str>,
    state: &State,
) -> Result<(Named, Task), ApiError> {
    check_common(&wire.common)?;
    if wire.model.is_empty() {
        return Err(bad("model is required"));
    }
    let named = {
        let asked = wire.model.clone();
        Named::find(state, wire.model, |_| format!("model '{asked}' not found"))?
    };
    let messages = wire.messages.unwrap_or_default();
    let keep_alive = keep_alive(wire.common.keep_alive.as_ref())?;
    if messages.is_empty() && is_unload(keep_alive) {
        return Ok((named, Task::Unload));
    }
    let traits = state.texts.traits(Arc::clone(&named.model)).await.map_err(failure::engine)?;
    let (thinking, reasoning_effort) = thinking(wire.common.think.as_ref(), &named, &traits)?;
    if named.model.pooling.is_some() {
        return Err(named.lacks("chat"));
    }
    let tools = tools(wire.tools.unwrap_or_default())?;
    if !tools.is_empty() && !traits.tools {
        return Err(bad(format!("{} does not support tools", named.full())));
    }
    let options = Options::of(wire.common.options.as_ref())?;
    if messages.is_empty() {
        return Ok((named, Task::Load(keep_alive)));
    }
    refuse_images(&named, messages.iter().any(|message| message.images.is_some()))?;
    let has_images = messages.iter().any(|message| message.images.is_some());
    let messages = conversation(messages);
    let prompt =
        match go_template(&named.model, &traits).filter(|_| tools.is_empty() && !has_images) {
            Some(template) => by_template(template, &messages, &named.model)?,
            None => Prompt::Chat(Chat {
                tools,
                tool_choice: ToolChoice::Auto,
                thinking,
                reasoning_effort,
                ..Chat::new(messages)
            }),
        };
    Ok((named.clone(), task(named, prompt, options, keep_alive, &wire.common, client, false)?))
}

/// The template in Go's language that the model was made with. It knows neither thoughts nor calls, so
/// the model's own stands in where it has those.
fn go_template<'a>(model: &'a Model, traits: &ModelTraits) -> Option<&'a str> {
    model.presets.go_template.as_deref().filter(|_| !traits.thinking)
}

/// A conversation as such a template writes it.
fn by_template(template: &str, messages: &[Message], model: &Model) -> Result<Prompt, ApiError> {
    fn turn(message: &Message) -> Turn<'_> {
        Turn { role: message.role.as_str(), content: &message.content }
    }
    let presets = &model.presets;
    let is_instructed = messages.first().is_some_and(|first| first.role == Role::System);
    let own = presets.system.as_deref().filter(|_| !is_instructed);
    let own = own.map(|content| Turn { role: Role::System.as_str(), content });
    let (front, rest) = messages.split_at(usize::from(is_instructed));
    let turns = own.into_iter().chain(front.iter().map(turn));
    let turns = turns.chain(presets.messages.iter().map(turn)).chain(rest.iter().map(turn));
    let turns: Vec<Turn<'_>> = turns.collect();
    template::render_chat(template, &turns).map(Prompt::Text).map_err(bad)
}

/// A prompt.
pub(super) async fn generate(
    wire: GenerateRequest,
    client: Arc<str>,
    state: &State,
) -> Result<(Named, Task), ApiError> {
    check_common(&wire.common)?;
    let absent = || format!("model '{}' not found", wire.model);
    if wire.model.is_empty() {
        return Err(failure::not_found(absent()));
    }
    let named = Named::find(state, wire.model.clone(), |_| absent())?;
    let prompt = wire.prompt.unwrap_or_default();
    let suffix = wire.suffix.filter(|suffix| !suffix.is_empty());
    let keep_alive = keep_alive(wire.common.keep_alive.as_ref())?;
    let is_empty = prompt.is_empty() && suffix.is_none();
    if is_empty && is_unload(keep_alive) {
        return Ok((named, Task::Unload));
    }
    let system = wire.system.filter(|system| !system.is_empty());
    let template = wire.template.filter(|template| !template.is_empty());
    let context = wire.context.unwrap_or_default();
    let is_raw = wire.raw.unwrap_or(false);
    if is_raw && (system.is_some() || template.is_some() || !context.is_empty()) {
        return Err(bad("raw mode does not support template, system, or context"));
    }
    if let Some(negative) = context.iter().find(|id| **id < 0) {
        return Err(bad(format!("context: {negative} is no token")));
    }
    let traits = state.texts.traits(Arc::clone(&named.model)).await.map_err(failure::engine)?;
    let (thinking, reasoning_effort) = thinking(wire.common.think.as_ref(), &named, &traits)?;
    if named.model.pooling.is_some() {
        return Err(named.lacks("generate"));
    }
    if suffix.is_some() && template.is_none() && !traits.infill {
        return Err(bad(format!("{} does not support insert", named.full())));
    }
    let options = Options::of(wire.common.options.as_ref())?;
    if is_empty {
        return Ok((named, Task::Load(keep_alive)));
    }
    refuse_images(&named, wire.images.is_some())?;
    let has_images = wire.images.is_some();
    if has_images && (is_raw || suffix.is_some() || template.is_some()) {
        return Err(bad("images need the model's own template: no raw, suffix or template"));
    }
    let own =
        go_template(&named.model, &traits).filter(|_| !is_raw && suffix.is_none() && !has_images);
    let template = template.or_else(|| own.map(str::to_owned));
    let system = system.or_else(|| {
        let own = named.model.presets.system.clone();
        own.filter(|_| template.is_some() && context.is_empty())
    });
    let prompt = match (suffix, template) {
        (suffix, Some(template)) => {
            let variables = Variables {
                system: system.as_deref().unwrap_or_default(),
                prompt: &prompt,
                suffix: suffix.as_deref().unwrap_or_default(),
            };
            let text = template::render(&template, &variables).map_err(bad)?;
            behind(context, text, &named.model, state).await?
        }
        (Some(after), None) => Prompt::Infill(Infill { before: prompt, after }),
        (None, None) if is_raw => Prompt::Text(prompt),
        (None, None) => {
            let system = system.map(|system| Message::new(Role::System, system));
            let user = pictured(Role::User, &prompt, wire.images, "images");
            let messages = system.into_iter().chain([user]);
            let chat = Chat::new(messages.collect());
            Prompt::Chat(Chat { preface: context, thinking, reasoning_effort, ..chat })
        }
    };
    // Images are no tokens that a client could send back.
    let tells_context = !is_raw && !has_images;
    let task =
        task(named.clone(), prompt, options, keep_alive, &wire.common, client, tells_context)?;
    Ok((named, task))
}

/// A question about one picture.
pub(super) fn about(
    asked: AboutPicture,
    client: Arc<str>,
    state: &State,
    absent: impl FnOnce(&str) -> String,
) -> Result<(Named, Task), ApiError> {
    let AboutPicture { model, prompt, image, stream, options, keep_alive: stays } = asked;
    let words = absent(&model);
    let named = Named::find(state, model, |_| words)?;
    refuse_images(&named, true)?;
    let options = Options::of(options.as_ref())?;
    let stays = keep_alive(stays.as_ref())?;
    let mut message = Message::new(Role::User, "");
    message.push_image(image);
    message.push_text(&prompt);
    let prompt = Prompt::Chat(Chat::new(vec![message]));
    let common = Common { stream: Some(stream), ..Common::default() };
    let task = task(named.clone(), prompt, options, stays, &common, client, false)?;
    Ok((named, task))
}

/// A text behind the tokens of an earlier answer.
async fn behind(
    mut context: Vec<i32>,
    text: String,
    model: &Arc<Model>,
    state: &State,
) -> Result<Prompt, ApiError> {
    if context.is_empty() {
        return Ok(Prompt::Text(text));
    }
    let cutting = Cutting { add_special: false, parse_special: true };
    let tokens = state.texts.tokenize(Arc::clone(model), text, cutting).await;
    context.extend(tokens.map_err(failure::engine)?);
    Ok(Prompt::Tokens(context))
}

fn task(
    named: Named,
    prompt: Prompt,
    options: Options,
    keep_alive: Option<KeepAlive>,
    common: &Common,
    client: Arc<str>,
    tells_context: bool,
) -> Result<Task, ApiError> {
    if common.debug_render_only == Some(true) {
        return Ok(Task::Show(Box::new(prompt)));
    }
    let format = format(common.format.as_ref())?;
    if let Some(rkllama_core::Format::JsonSchema(schema)) = &format
        && schema.len() > SCHEMA_BYTES_MAX
    {
        return Err(bad(format!("format: the schema is larger than {SCHEMA_BYTES_MAX} bytes")));
    }
    let request = Request {
        model: named.model,
        prompt,
        sampling: options.sampling,
        tokens_max: options.tokens_max,
        stop: options.stop,
        format,
        ignore_eos: false,
        logprobs: logprobs(common),
        keep_alive,
        client,
    };
    Ok(Task::Answer(Box::new(Answer {
        request,
        stream: common.stream.unwrap_or(true),
        shows_thoughts: common.think != Some(OllamaThink::Switch(false)),
        truncates: common.truncate.unwrap_or(true),
        tells_context,
        ignored: Vec::new(),
    })))
}

/// A picture that nobody looks at would make the answer wrong.
fn refuse_images(named: &Named, has_images: bool) -> Result<(), ApiError> {
    let sees = named.model.vision.is_some();
    if has_images && !sees { Err(named.lacks("vision")) } else { Ok(()) }
}

fn tools(wire: Vec<ToolDefinition>) -> Result<Vec<Tool>, ApiError> {
    if wire.len() > TOOLS_MAX {
        return Err(bad(format!("tools: {} are more than {TOOLS_MAX}", wire.len())));
    }
    let tool = |wire: ToolDefinition| {
        let name = wire.function.name;
        if !is_tool_name(&name) {
            let name = echo(&name);
            return Err(bad(format!(
                "tools: {name:?} is no name of 1 to 64 letters, digits, underscores and dashes"
            )));
        }
        let parameters = wire.function.parameters.map(|parameters| parameters.text().to_owned());
        let description = wire.function.description;
        Ok(Tool { name, description, parameters, strict: false })
    };
    wire.into_iter().map(tool).collect()
}

/// Most calls of a turn whose results are looked for: more than any model makes, and few enough to go
/// through for each result.
const OPEN_CALLS_MAX: usize = 1024;

/// Messages in the domain's words. Results of calls come without ids as often as with them: then
/// they belong to the calls before them in their order, or by name.
fn conversation(wire: Vec<ChatMessage>) -> Vec<Message> {
    let mut open: VecDeque<(String, String)> = VecDeque::new();
    let mut count = 0;
    let mut messages = Vec::with_capacity(wire.len());
    for (place, message) in wire.into_iter().enumerate() {
        let role = role(message.role.as_deref().unwrap_or_default());
        let content = message.content.unwrap_or_default();
        if message.tool_calls.is_some() {
            // Results follow their calls before others are made.
            open.clear();
        }
        let mut calls = Vec::new();
        for call in message.tool_calls.unwrap_or_default() {
            count += 1;
            let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{count}"));
            let name = call.function.name;
            if open.len() < OPEN_CALLS_MAX {
                open.push_back((id.clone(), name.clone()));
            }
            let arguments = call.function.arguments;
            let arguments = arguments.map_or_else(|| "{}".to_owned(), |it| it.text().to_owned());
            calls.push(ToolCall { id, name, arguments });
        }
        let mut answered = message.tool_call_id.filter(|id| !id.is_empty());
        let mut name = None;
        if role == Role::Tool {
            let wanted = message.tool_name.filter(|name| !name.is_empty());
            let at = open.iter().position(|(id, name)| match (&answered, &wanted) {
                (Some(answered), _) => answered == id,
                (None, Some(wanted)) => wanted == name,
                (None, None) => true,
            });
            let call = at.and_then(|at| open.remove(at));
            name = wanted.or_else(|| call.as_ref().map(|(_, name)| name.clone()));
            answered = answered.or_else(|| call.map(|(id, _)| id));
        }
        messages.push(Message {
            name,
            reasoning: message.thinking.filter(|text| !text.is_empty()),
            tool_calls: calls,
            tool_call_id: if role == Role::Tool { answered } else { None },
            ..pictured(role, &content, message.images, &format!("messages[{place}].images"))
        });
    }
    messages
}

/// A message with its images in front of what is said, where Ollama has them.
fn pictured(role: Role, text: &str, images: Option<Vec<String>>, field: &str) -> Message {
    let mut message = Message::new(role, "");
    for (place, image) in images.into_iter().flatten().enumerate() {
        // It was looked at when the body was read.
        let source = image_of_base64(&image).unwrap_or(ImageSource::Bytes(Bytes::new()));
        message.push_image(Image { field: format!("{field}[{place}]"), source });
    }
    if message.images.is_empty() {
        return Message::new(role, text);
    }
    message.push_text(text);
    message
}

fn role(text: &str) -> Role {
    match &*text.to_lowercase() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => Role::User,
    }
}

/// Leaves out the oldest messages of a conversation that is too long, but for instructions and the
/// last one. Whether there was one to leave out.
pub(super) fn shorten(request: &mut Request, tokens: u32, tokens_max: u32) -> bool {
    let Prompt::Chat(chat) = &mut request.prompt else { return false };
    let len = |message: &Message| {
        let calls = message.tool_calls.iter().map(|call| call.arguments.len() + call.name.len());
        message.content.len() + calls.sum::<usize>() + 1
    };
    let total: usize = chat.messages.iter().map(len).sum();
    let excess = f64::from(tokens.saturating_sub(tokens_max)) / f64::from(tokens.max(1));
    // A little less than what seems right: what is left out by mistake is lost.
    let surplus = (total as f64 * excess * 0.9) as usize;
    let last = chat.messages.len().saturating_sub(1);
    let mut left_out = 0;
    let mut is_behind_gap = false;
    let mut place = 0;
    // In one pass: a body has room for a million messages.
    chat.messages.retain(|message| {
        let is_last = place == last;
        place += 1;
        if is_last || matches!(message.role, Role::System | Role::Developer) {
            return true;
        }
        // Results of a call that is gone would stand there alone.
        let is_orphan = is_behind_gap && message.role == Role::Tool;
        is_behind_gap = left_out == 0 || left_out <= surplus || is_orphan;
        if is_behind_gap {
            left_out += len(message);
        }
        !is_behind_gap
    });
    left_out > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str) -> ChatMessage {
        ChatMessage { role: Some(role.to_owned()), ..ChatMessage::default() }
    }

    fn call(id: Option<&str>, name: &str) -> super::super::wire::ToolCall {
        super::super::wire::ToolCall {
            id: id.map(str::to_owned),
            function: super::super::wire::CalledFunction {
                index: None,
                name: name.to_owned(),
                arguments: None,
            },
        }
    }

    #[test]
    fn results_find_their_calls() {
        let calls = vec![call(None, "a"), call(None, "b"), call(Some("x"), "c")];
        let named =
            |name: &str| ChatMessage { tool_name: Some(name.to_owned()), ..message("tool") };
        let messages = conversation(vec![
            message("USER"),
            ChatMessage { tool_calls: Some(calls), ..message("assistant") },
            named("b"),
            message("tool"),
            message("tool"),
            message("tool"),
        ]);
        let answered: Vec<_> = messages
            .iter()
            .skip(2)
            .map(|m| (m.tool_call_id.as_deref(), m.name.as_deref()))
            .collect();
        assert_eq!(
            answered,
            [
                (Some("call_2"), Some("b")),
                (Some("call_1"), Some("a")),
                (Some("x"), Some("c")),
                (None, None)
            ]
        );
    }

    #[test]
    fn the_oldest_messages_go_and_instructions_and_the_question_stay() {
        let model = Arc::new(Model {
            vision: None,
            adapter: None,
            id: "m".to_owned(),
            created_s: 0,
            weights: "m.rkllm".into(),
            weights_bytes: 0,
            memory_bytes: None,
            context_tokens_max: 100,
            sampling: rkllama_core::Sampling::default(),
            tokens_max: None,
            runtime: None,
            pooling: None,
            reranks: None,
            query_instruction: None,
            presets: rkllama_core::Presets::default(),
            state: rkllama_core::ModelState::Ready,
        });
        let roles = [Role::System, Role::User, Role::Assistant, Role::Tool, Role::User, Role::User];
        let messages = roles.map(|role| Message::new(role, "x".repeat(99))).to_vec();
        let mut request = Request {
            model,
            prompt: Prompt::Chat(Chat::new(messages)),
            sampling: rkllama_core::Sampling::default(),
            tokens_max: None,
            stop: Vec::new(),
            format: None,
            ignore_eos: false,
            logprobs: None,
            keep_alive: None,
            client: Arc::from("c"),
        };
        let left = |request: &Request| match &request.prompt {
            Prompt::Chat(chat) => chat.messages.iter().map(|m| m.role).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        assert!(shorten(&mut request, 110, 100));
        assert_eq!(
            left(&request),
            [Role::System, Role::Assistant, Role::Tool, Role::User, Role::User]
        );
        // The call goes, and its result with it.
        assert!(shorten(&mut request, 101, 100));
        assert_eq!(left(&request), [Role::System, Role::User, Role::User]);
        assert!(shorten(&mut request, 1000, 100));
        assert_eq!(left(&request), [Role::System, Role::User]);
        assert!(!shorten(&mut request, 1000, 100));
    }
}
