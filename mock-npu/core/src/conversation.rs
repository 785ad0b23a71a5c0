//! The turns inside a rendered prompt, found by the markers of its chat template.
//!
//! The runtime is handed tokens and never messages, so scripts and the language model have to see
//! what the user asked the way the model would: in the text with its special tokens.

/// Who speaks in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    fn of(name: &str) -> Role {
        match name.trim() {
            "system" | "developer" => Role::System,
            "assistant" | "model" => Role::Assistant,
            "tool" | "ipython" | "function" | "observation" => Role::Tool,
            _ => Role::User,
        }
    }
}

/// What stands in a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conversation {
    pub(crate) system: String,
    /// The last turn that is not the assistant's.
    pub(crate) user: String,
    /// That last turn carries the result of a tool.
    pub(crate) after_tool: bool,
    /// Where the answer begins, in bytes of the prompt; 0 for a prompt without turns.
    pub(crate) answer_at: usize,
}

/// How one family of templates marks a turn: what opens it, what ends its role, what closes it.
struct Markers {
    open: &'static str,
    header_end: &'static str,
    close: &'static [&'static str],
}

const NAMED: [Markers; 4] = [
    Markers { open: "<|im_start|>", header_end: "\n", close: &["<|im_end|>"] },
    Markers {
        open: "<|start_header_id|>",
        header_end: "<|end_header_id|>\n\n",
        close: &["<|eot_id|>", "<|eom_id|>"],
    },
    Markers { open: "<start_of_turn>", header_end: "\n", close: &["<end_of_turn>"] },
    Markers { open: "<|start|>", header_end: "<|message|>", close: &["<|end|>", "<|return|>"] },
];

/// Families that have one marker per role.
const PER_ROLE: [(&str, Role); 11] = [
    ("[INST]", Role::User),
    ("[/INST]", Role::Assistant),
    ("<｜User｜>", Role::User),
    ("<｜Assistant｜>", Role::Assistant),
    ("<|user|>", Role::User),
    ("<|assistant|>", Role::Assistant),
    ("<|system|>", Role::System),
    ("<|observation|>", Role::Tool),
    ("<|User|>", Role::User),
    ("<|Assistant|>", Role::Assistant),
    ("[TOOL_RESULTS]", Role::Tool),
];

const PER_ROLE_CLOSE: [&str; 4] = ["<|end|>", "</s>", "<｜end▁of▁sentence｜>", "[/TOOL_RESULTS]"];

struct Turn {
    role: Role,
    /// Byte range of the content.
    start: usize,
    end: usize,
    /// Where the marker that closes the turn ends.
    closed_at: Option<usize>,
}

impl Conversation {
    /// Reads a prompt in which special tokens are kept.
    pub(crate) fn read(prompt: &str) -> Conversation {
        let turns = turns_of(prompt);
        let Some(last) = turns.last() else {
            return Conversation { user: prompt.to_owned(), ..Conversation::default() };
        };
        let text = |turn: &Turn| prompt[turn.start..turn.end].trim().to_owned();
        let asked = turns.iter().rev().find(|t| matches!(t.role, Role::User | Role::Tool));
        let system = turns.iter().find(|turn| turn.role == Role::System);
        let user = asked.map(text).unwrap_or_default();
        Conversation {
            system: system.map(text).unwrap_or_default(),
            after_tool: asked.is_some_and(|turn| turn.role == Role::Tool)
                || user.starts_with("<tool_response>"),
            user,
            answer_at: last.closed_at.unwrap_or(last.start),
        }
    }
}

fn turns_of(prompt: &str) -> Vec<Turn> {
    match NAMED.iter().find(|markers| prompt.contains(markers.open)) {
        Some(markers) => named_turns(prompt, markers),
        None => per_role_turns(prompt),
    }
}

/// Position and length of the marker that comes first.
fn first_of(text: &str, markers: &[&str]) -> Option<(usize, usize)> {
    markers.iter().filter_map(|marker| Some((text.find(marker)?, marker.len()))).min()
}

fn named_turns(prompt: &str, markers: &Markers) -> Vec<Turn> {
    let mut turns = Vec::new();
    for (at, _) in prompt.match_indices(markers.open) {
        let header = at + markers.open.len();
        let next = prompt[header..].find(markers.open).map_or(prompt.len(), |n| header + n);
        let Some(header_len) = prompt[header..next].find(markers.header_end) else { continue };
        let start = header + header_len + markers.header_end.len();
        let close = first_of(&prompt[start..next], markers.close);
        turns.push(Turn {
            role: Role::of(&prompt[header..header + header_len]),
            start,
            end: close.map_or(next, |(at, _)| start + at),
            closed_at: close.map(|(at, len)| start + at + len),
        });
    }
    turns
}

fn per_role_turns(prompt: &str) -> Vec<Turn> {
    let mut marks: Vec<(usize, usize, Role)> = PER_ROLE
        .iter()
        .flat_map(|(mark, role)| {
            prompt.match_indices(mark).map(|(at, mark)| (at, at + mark.len(), *role))
        })
        .collect();
    marks.sort_unstable_by_key(|mark| mark.0);
    let mut turns = Vec::new();
    for (index, (_, start, role)) in marks.iter().enumerate() {
        let next = marks.get(index + 1).map_or(prompt.len(), |mark| mark.0);
        let close = first_of(&prompt[*start..next], &PER_ROLE_CLOSE);
        let lead = prompt[*start..next].len() - prompt[*start..next].trim_start_matches('\n').len();
        turns.push(Turn {
            role: *role,
            start: start + lead,
            end: close.map_or(next, |(at, _)| start + at).max(start + lead),
            closed_at: close.map(|(at, len)| start + at + len),
        });
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatml_llama_and_gemma_turns_are_found() {
        let prompts = [
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
            "<bos><start_of_turn>system\nBe kind.<end_of_turn>\n<start_of_turn>user\nHi there<end_of_turn>\n<start_of_turn>model\n",
        ];
        for prompt in prompts {
            let read = Conversation::read(prompt);
            assert_eq!((read.system.as_str(), read.user.as_str()), ("Be kind.", "Hi there"));
            assert_eq!(read.answer_at, prompt.len(), "{prompt}");
            assert!(!read.after_tool);
        }
    }

    #[test]
    fn an_answer_that_has_begun_is_not_the_prompt() {
        let head = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
        let read = Conversation::read(&format!("{head}Hello"));
        assert_eq!(read.answer_at, head.len());
        assert_eq!(read.user, "Hi");
    }

    #[test]
    fn a_tool_result_is_the_last_turn() {
        let read = Conversation::read(
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>user\n<tool_response>\n7\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
        );
        assert!(read.after_tool);
    }

    #[test]
    fn mistral_and_plain_prompts_are_read() {
        assert_eq!(Conversation::read("<s>[INST] Hi [/INST]").user, "Hi");
        let plain = Conversation::read("The capital of");
        assert_eq!((plain.user.as_str(), plain.answer_at), ("The capital of", 0));
    }
}
