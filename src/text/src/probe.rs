//! What a template does with tools and thinking, learnt by rendering conversations with words in
//! them that no template contains.
//!
//! Looking for variables in the template's text would take a comment for a use; what comes out is
//! what the model sees.

use rkllama_core::{Chat, Message, Role, Tool, ToolCall};

use crate::{
    RenderOptions,
    template::{ChatTemplate, ToolsIn, Traits},
};

const WORD: &str = "rkllama_probe_word";
const TOOL: &str = "rkllama_probe_tool";
const KEY: &str = "rkllama_probe_key";
const VALUE: &str = "rkllama_probe_value";
const RESULT: &str = "rkllama_probe_result";

/// Tries a template and gives it the traits found.
pub(crate) fn try_out(template: &mut ChatTemplate) {
    let options = RenderOptions::default();
    let mut traits = Traits::default();

    let says = |template: &ChatTemplate| {
        let chat = Chat::new(vec![Message::new(Role::User, WORD)]);
        template.render_once(&chat, &options).is_ok_and(|text| text.contains(WORD))
    };
    if !says(template) {
        template.set_traits(Traits { content_in_parts: true, ..traits });
        traits.content_in_parts = says(template);
        template.set_traits(traits);
    }

    let switched = [true, false].map(|thinking| {
        let chat = Chat { thinking: Some(thinking), ..question() };
        template.render_once(&chat, &options).ok()
    });
    traits.thinking_switch = switched[0].is_some() && switched[0] != switched[1];

    for place in [ToolsIn::Variable, ToolsIn::SystemMessage] {
        template.set_traits(Traits { tools: Some(place), ..traits });
        let with_system = || {
            let mut chat = with_tool(question());
            chat.messages.insert(0, Message::new(Role::System, "Hi"));
            chat
        };
        let chats = [with_tool(question()), with_system()];
        let written = |chat| {
            let rendered = template.render_once(chat, &options);
            rendered.is_ok_and(|text| text.contains(TOOL) || text.contains(KEY))
        };
        if chats.iter().any(written) {
            traits.tools = Some(place);
            break;
        }
    }

    let mut chat = question();
    chat.messages.extend(call_and_result());
    if traits.tools.is_some() {
        chat = with_tool(chat);
    }
    for as_text in [false, true] {
        let tried = Traits { calls: true, arguments_as_text: as_text, ..traits };
        template.set_traits(tried);
        let Ok(text) = template.render_once(&chat, &options) else { continue };
        if !text.contains(VALUE) || !text.contains(RESULT) {
            continue;
        }
        traits = tried;
        // Written as Python prints an object: the template meant JSON text.
        if !text.contains(&format!("'{KEY}'")) {
            break;
        }
    }
    template.set_traits(traits);
}

fn question() -> Chat {
    Chat::new(vec![Message::new(Role::User, "Hi")])
}

fn with_tool(chat: Chat) -> Chat {
    let parameters = format!(
        r#"{{"type": "object", "properties": {{"{KEY}": {{"type": "string", "description": "A key."}}}}, "required": ["{KEY}"]}}"#
    );
    let tool = Tool {
        name: TOOL.to_owned(),
        description: Some("A probe.".to_owned()),
        parameters: Some(parameters),
        strict: false,
    };
    Chat { tools: vec![tool], ..chat }
}

fn call_and_result() -> [Message; 2] {
    // As short as Mistral wants ids.
    let id = "probe0001".to_owned();
    let call = ToolCall {
        id: id.clone(),
        name: TOOL.to_owned(),
        arguments: format!(r#"{{"{KEY}": "{VALUE}"}}"#),
    };
    [
        Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "") },
        Message { tool_call_id: Some(id), ..Message::new(Role::Tool, RESULT) },
    ]
}
