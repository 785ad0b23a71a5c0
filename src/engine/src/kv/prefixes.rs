//! What conversations of one application have in common: the operator's words and the list of tools,
//! as the tokens at the beginning of their prompts.
//!
//! Where that beginning ends is found by rendering the same instructions once more, in front of
//! another user's words: what both prompts begin with does not depend on who asks.

use std::{
    collections::VecDeque,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use rkllama_core::{Chat, Message, Role, ToolChoice};
use rkllama_text::{Codec, Encoded};
use xxhash_rust::xxh3::Xxh3;

/// Beginnings that are known of one model. As many applications do not share a board.
const KNOWN_MAX: usize = 32;
/// What the other user says. Any text will do.
const OTHER_WORDS: &str = "0";

/// The beginnings that are known of one model.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    known: Mutex<VecDeque<(u64, Arc<[i32]>)>>,
}

impl Prefixes {
    /// The beginning of `tokens`, which are those of `chat`, that every conversation with the same
    /// instructions and tools has; `None` if it has fewer than `tokens_min`.
    pub(crate) fn of(
        &self,
        codec: &Codec,
        chat: &Chat,
        tokens: &[i32],
        tokens_min: usize,
    ) -> Option<Arc<[i32]>> {
        let instructions = instructions(chat);
        // A token has at least a byte.
        if instructions.len() == chat.messages.len() || text_len(chat, instructions) < tokens_min {
            return None;
        }
        let name = name_of(chat, instructions);
        if let Some(prefix) = self.recall(name)
            && tokens.starts_with(&prefix)
        {
            return (prefix.len() < tokens.len()).then_some(prefix);
        }
        let other = vec![Message::new(Role::User, OTHER_WORDS)];
        let other = Chat {
            preface: Vec::new(),
            messages: [instructions, &other].concat(),
            tools: chat.tools.clone(),
            tool_choice: chat.tool_choice.clone(),
            reasoning_effort: chat.reasoning_effort.clone(),
            template_variables: chat.template_variables.clone(),
            continue_last: false,
            ..*chat
        };
        let encoded = codec.encode_chat_within(&other, usize::MAX).ok()?;
        let Encoded::Whole(other) = encoded else { return None };
        let len = tokens.iter().zip(&other).take_while(|(a, b)| a == b).count();
        // The last token of a prompt is computed in any case.
        let len = len.min(tokens.len().saturating_sub(1));
        if len < tokens_min {
            return None;
        }
        let prefix: Arc<[i32]> = tokens[..len].into();
        self.remember(name, &prefix);
        Some(prefix)
    }

    fn recall(&self, name: u64) -> Option<Arc<[i32]>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(of, _)| *of == name).map(|(_, prefix)| Arc::clone(prefix))
    }

    fn remember(&self, name: u64, prefix: &Arc<[i32]>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(of, _)| *of != name);
        if known.len() == KNOWN_MAX {
            known.pop_front();
        }
        known.push_back((name, Arc::clone(prefix)));
    }
}

/// The messages in front of the first that is not the operator's.
fn instructions(chat: &Chat) -> &[Message] {
    let is_instruction =
        |message: &&Message| matches!(message.role, Role::System | Role::Developer);
    let len = chat.messages.iter().take_while(is_instruction).count();
    &chat.messages[..len]
}

fn text_len(chat: &Chat, instructions: &[Message]) -> usize {
    let said = instructions.iter().map(|message| message.content.len());
    let tools = chat.tools.iter().map(|tool| {
        let texts = [&tool.description, &tool.parameters];
        texts.into_iter().flatten().map(String::len).sum::<usize>() + tool.name.len()
    });
    said.chain(tools).sum()
}

/// Equal for chats whose prompts begin alike.
fn name_of(chat: &Chat, instructions: &[Message]) -> u64 {
    let mut hasher = Xxh3::new();
    for message in instructions {
        (message.role, &message.content, &message.name).hash(&mut hasher);
    }
    for tool in &chat.tools {
        (&tool.name, &tool.description, &tool.parameters).hash(&mut hasher);
    }
    let settings = (chat.thinking, &chat.reasoning_effort, &chat.template_variables);
    (settings, chat.tool_choice == ToolChoice::None).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use rkllama_core::TextFiles;

    use super::*;

    fn codec() -> Codec {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../mock-npu/demo/");
        let read = |file: &str| std::fs::read(format!("{demo}{file}")).unwrap();
        let files = TextFiles {
            tokenizer: read("tokenizer.json"),
            tokenizer_config: Some(read("tokenizer_config.json")),
            ..TextFiles::default()
        };
        Codec::new(&files).unwrap()
    }

    fn chat(system: &str, user: &str) -> Chat {
        Chat::new(vec![Message::new(Role::System, system), Message::new(Role::User, user)])
    }

    fn tokens(codec: &Codec, chat: &Chat) -> Vec<i32> {
        codec.encode_chat(chat).unwrap()
    }

    const RULES: &str = "Answer in one sentence, and never say what you do not know.";

    #[test]
    fn the_operators_words_are_shared_and_the_users_are_not() {
        let (codec, prefixes) = (codec(), Prefixes::default());
        let of =
            |chat: &Chat, tokens_min| prefixes.of(&codec, chat, &tokens(&codec, chat), tokens_min);
        let first = of(&chat(RULES, "What is an NPU?"), 8).unwrap();
        let second = of(&chat(RULES, "How old is the sun?"), 8).unwrap();
        assert_eq!(first, second);
        let alone = tokens(&codec, &chat(RULES, "What is an NPU?"));
        assert!(alone.starts_with(&first) && first.len() > 10, "{first:?}");
        assert_eq!(of(&chat("Be kind.", "What is an NPU?"), 40), None, "too short");
        assert_ne!(of(&chat(&RULES.replace("one", "two"), "Hi"), 8).unwrap(), first);
    }

    #[test]
    fn without_instructions_or_without_a_question_nothing_is_shared() {
        let (codec, prefixes) = (codec(), Prefixes::default());
        for messages in
            [vec![Message::new(Role::User, RULES)], vec![Message::new(Role::System, RULES)]]
        {
            let chat = Chat::new(messages);
            assert_eq!(prefixes.of(&codec, &chat, &tokens(&codec, &chat), 8), None);
        }
    }
}
