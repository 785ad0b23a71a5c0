//! What a model brings into every conversation, put into a conversation.

use rkllama_core::{Chat, Message, Presets, Role};

/// Gives a conversation the model's own instructions, where it has none, and the turns that stand before
/// all of them.
pub(crate) fn put_into(chat: &mut Chat, presets: &Presets) {
    // What goes on from an earlier answer has them in it.
    if !chat.preface.is_empty() {
        return;
    }
    let instructed = chat
        .messages
        .first()
        .is_some_and(|first| matches!(first.role, Role::System | Role::Developer));
    let system = presets.system.as_ref().filter(|_| !instructed);
    if system.is_none() && presets.messages.is_empty() {
        return;
    }
    let behind_instructions = usize::from(instructed);
    let system = system.map(|text| Message::new(Role::System, text));
    let front = system.into_iter().chain(presets.messages.iter().cloned());
    chat.messages.splice(behind_instructions..behind_instructions, front);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(messages: Vec<Message>, presets: &Presets, preface: Vec<i32>) -> Vec<String> {
        let mut chat = Chat { preface, ..Chat::new(messages) };
        put_into(&mut chat, presets);
        chat.messages.into_iter().map(|message| message.content).collect()
    }

    #[test]
    fn instructions_stand_first_and_turns_behind_them() {
        let presets = Presets {
            system: Some("own".to_owned()),
            messages: vec![Message::new(Role::User, "a"), Message::new(Role::Assistant, "b")],
            ..Presets::default()
        };
        let question = || Message::new(Role::User, "q");
        assert_eq!(contents(vec![question()], &presets, vec![]), ["own", "a", "b", "q"]);
        for role in [Role::System, Role::Developer] {
            let asked = vec![Message::new(role, "theirs"), question()];
            assert_eq!(contents(asked, &presets, vec![]), ["theirs", "a", "b", "q"]);
        }
        assert_eq!(contents(vec![question()], &presets, vec![1]), ["q"]);
        assert_eq!(contents(vec![question()], &Presets::default(), vec![]), ["q"]);
    }
}
