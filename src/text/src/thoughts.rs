//! Tells thoughts between two marks from what is said, in an answer that arrives in pieces.
//!
//! A thought begins where nothing was said before: `<think>` in the middle of an answer is a word
//! like any other, and so a model can write about itself. What ends a thought is taken out wherever
//! it stands, because models write it even when they were told not to think. Blanks around marks
//! are the format's: they are dropped.
//!
//! It goes character by character, so that any split of a text gives the same parts.

use crate::{
    ReasoningFormat,
    harmony::Harmony,
    reasoning::Marks,
    tools::{Found, find},
};

/// Blanks that are held back because a mark may follow, in bytes.
const BLANK_LEN_MAX: usize = 64;

/// A part of an answer, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Thought(String),
    Said(String),
}

/// Appends to the last part where it is of the same kind.
pub(crate) fn append(parts: &mut Vec<Part>, thought: bool, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Thought(last)) if thought => last.push_str(text),
        Some(Part::Said(last)) if !thought => last.push_str(text),
        _ if thought => parts.push(Part::Thought(text.to_owned())),
        _ => parts.push(Part::Said(text.to_owned())),
    }
}

/// Splits one answer.
#[derive(Debug)]
pub(crate) enum Thoughts {
    /// Nothing to split.
    None,
    Marked(Marked),
    Harmony(Harmony),
}

impl Thoughts {
    /// A splitter of an answer that begins inside a thought or not. With `verbatim` marks and blanks
    /// stay in the parts.
    pub(crate) fn new(format: ReasoningFormat, thinking: bool, verbatim: bool) -> Self {
        match (format, format.marks()) {
            (ReasoningFormat::Harmony, _) => Self::Harmony(Harmony::new()),
            (_, Some(marks)) => Self::Marked(Marked::new(marks, thinking, verbatim)),
            (_, None) => Self::None,
        }
    }

    /// Takes text, gives what is certain.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        match self {
            Self::None => append(&mut parts, false, text),
            Self::Marked(marked) => text.chars().for_each(|c| marked.push(c, &mut parts)),
            Self::Harmony(harmony) => text.chars().for_each(|c| harmony.push(c, &mut parts)),
        }
        parts
    }

    /// The answer has ended. A thought that did not end is one all the same.
    pub(crate) fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        match self {
            Self::None => {}
            Self::Marked(marked) => marked.finish(&mut parts),
            Self::Harmony(harmony) => harmony.finish(&mut parts),
        }
        parts
    }

    /// Bytes at the end that may become a mark.
    pub(crate) const fn undecided_len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Marked(marked) => marked.held.len(),
            Self::Harmony(harmony) => harmony.undecided_len(),
        }
    }

    /// Whether what comes next is a thought, as far as one can tell.
    pub(crate) const fn is_thinking(&self) -> bool {
        match self {
            Self::None => false,
            Self::Marked(marked) => matches!(marked.state, State::Inside { .. }),
            Self::Harmony(harmony) => harmony.is_thinking(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Marked {
    marks: &'static Marks,
    verbatim: bool,
    state: State,
    /// What could be the beginning of a mark.
    held: String,
    /// Blanks that could stand beside a mark.
    blank: String,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing was said yet, behind a thought or not.
    Start { behind: bool },
    /// In a thought, of which something has come or not.
    Inside { begun: bool },
    /// In the answer.
    Outside,
}

impl Marked {
    fn new(marks: &'static Marks, thinking: bool, verbatim: bool) -> Self {
        let mut marked = Self {
            marks,
            verbatim,
            state: State::Start { behind: false },
            held: String::new(),
            blank: String::new(),
        };
        if thinking {
            marked.state = State::Inside { begun: false };
            if verbatim {
                // The prompt has it; it belongs to the text all the same.
                marked.blank = [marks.open[0], "\n"].concat();
            }
        }
        marked
    }

    fn push(&mut self, c: char, parts: &mut Vec<Part>) {
        self.held.push(c);
        while !self.held.is_empty() {
            match self.find() {
                Found::Part => return,
                Found::Whole(tag) => {
                    self.held.clear();
                    self.mark(tag, parts);
                }
                Found::None => {
                    let first = self.held.remove(0);
                    self.character(first, parts);
                }
            }
        }
    }

    fn find(&self) -> Found<'static> {
        let Marks { open, close, unmistakable } = self.marks;
        let (open, close): (&[_], &[_]) = match self.state {
            State::Start { .. } => (open, if *unmistakable { close } else { &[] }),
            // Some models open what the prompt has opened already.
            State::Inside { begun: false } => (open, close),
            State::Inside { begun: true } => (&[], close),
            State::Outside => (&[], if *unmistakable { close } else { &[] }),
        };
        find(&self.held, open.iter().chain(close).copied())
    }

    fn mark(&mut self, tag: &str, parts: &mut Vec<Part>) {
        let opens = self.marks.open.contains(&tag);
        if self.verbatim {
            let thought = opens || matches!(self.state, State::Inside { .. });
            append(parts, thought, &std::mem::take(&mut self.blank));
            append(parts, thought, tag);
        }
        self.state = match self.state {
            State::Outside => return,
            State::Start { .. } | State::Inside { .. } if opens => State::Inside { begun: false },
            State::Start { .. } | State::Inside { .. } => State::Start { behind: true },
        };
        self.blank.clear();
    }

    fn character(&mut self, c: char, parts: &mut Vec<Part>) {
        let beside_marks = !matches!(self.state, State::Outside);
        if c.is_whitespace() && beside_marks && self.blank.len() < BLANK_LEN_MAX {
            self.blank.push(c);
            return;
        }
        let thought = matches!(self.state, State::Inside { .. });
        let meaningless =
            matches!(self.state, State::Start { behind: true } | State::Inside { begun: false });
        let blank = std::mem::take(&mut self.blank);
        if self.verbatim || !meaningless {
            append(parts, thought, &blank);
        }
        if c.is_whitespace() && meaningless && !self.verbatim {
            return;
        }
        append(parts, thought, c.encode_utf8(&mut [0; 4]));
        self.state = match self.state {
            State::Inside { .. } => State::Inside { begun: true },
            state @ State::Start { .. } if c.is_whitespace() => state,
            State::Start { .. } | State::Outside => State::Outside,
        };
    }

    fn finish(&mut self, parts: &mut Vec<Part>) {
        let held = std::mem::take(&mut self.held);
        let blank = std::mem::take(&mut self.blank);
        match self.state {
            State::Inside { .. } if !self.verbatim => {}
            State::Inside { .. } => {
                append(parts, true, &blank);
                append(parts, true, &held);
            }
            State::Start { behind } => {
                if !behind || self.verbatim {
                    append(parts, false, &blank);
                }
                append(parts, false, &held);
            }
            State::Outside => append(parts, false, &held),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// What is thought and what is said, joined.
    fn split<'a>(
        mut thoughts: Thoughts,
        pieces: impl IntoIterator<Item = &'a str>,
    ) -> (String, String) {
        let mut parts = Vec::new();
        for piece in pieces {
            parts.extend(thoughts.push(piece));
        }
        parts.extend(thoughts.finish());
        let (mut thought, mut said) = (String::new(), String::new());
        for part in parts {
            match part {
                Part::Thought(text) => thought += &text,
                Part::Said(text) => said += &text,
            }
        }
        (thought, said)
    }

    fn think(text: &str) -> (String, String) {
        split(Thoughts::new(ReasoningFormat::Think, false, false), [text])
    }

    #[rstest]
    #[case::usual("<think>\nHm.\n\nYes.\n</think>\n\nHello.\n", "Hm.\n\nYes.", "Hello.\n")]
    #[case::without_blanks("<think>a</think>b", "a", "b")]
    #[case::blanks_first("\n <think> a </think> b", "a", "b")]
    #[case::no_thought(" Hello  <b> < c\n", "", " Hello  <b> < c\n")]
    #[case::empty("<think>\n\n</think>\n\nHello", "", "Hello")]
    #[case::two("<think>a</think>\n<think>b</think>\nc", "ab", "c")]
    #[case::unfinished("<think>\nHm. \n", "Hm.", "")]
    #[case::unfinished_mark("<think>Hm.</thi", "Hm.", "")]
    #[case::stray_first("</think>\n\nHello", "", "Hello")]
    #[case::stray_behind("Hello</think> you", "", "Hello you")]
    #[case::opened_late("The <think> tag", "", "The <think> tag")]
    #[case::only_blanks(" \n", "", " \n")]
    #[case::a_beginning_of_a_mark("<thi", "", "<thi")]
    #[case::nothing("", "", "")]
    #[case::a_mark_in_a_mark("</think><thi</think>nk>", "", "<think>")]
    fn thoughts_are_told_apart(#[case] text: &str, #[case] thought: &str, #[case] said: &str) {
        assert_eq!(think(text), (thought.to_owned(), said.to_owned()));
    }

    /// QwQ and the distillations of R1: the prompt has opened the thought.
    #[rstest]
    #[case::usual("Hm.\n</think>\n\nHello", "Hm.", "Hello")]
    #[case::never_closed("All of it.", "All of it.", "")]
    #[case::opened_again("<think>\nHm.\n</think>\nHello", "Hm.", "Hello")]
    #[case::closed_at_once("\n</think>\n\nHello", "", "Hello")]
    fn an_answer_may_begin_inside_a_thought(
        #[case] text: &str,
        #[case] thought: &str,
        #[case] said: &str,
    ) {
        let thoughts = Thoughts::new(ReasoningFormat::Think, true, false);
        assert!(thoughts.is_thinking());
        assert_eq!(split(thoughts, [text]), (thought.to_owned(), said.to_owned()));
    }

    #[rstest]
    #[case(ReasoningFormat::Mistral, "[THINK]a[/THINK]b")]
    #[case(ReasoningFormat::Kimi, "◁think▷a◁/think▷b")]
    #[case(ReasoningFormat::Minicpm3, "<|thought_start|>\na\n<|thought_end|>\nb")]
    #[case(ReasoningFormat::Granite, "Here is my thought process: a\n\nHere is my response: b")]
    #[case(ReasoningFormat::Gemma4, "<|channel>thought\na<channel|>b")]
    #[case(
        ReasoningFormat::Harmony,
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>"
    )]
    #[case(
        ReasoningFormat::Harmony,
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|message|>b"
    )]
    fn every_familys_marks_are_known(#[case] format: ReasoningFormat, #[case] text: &str) {
        let thoughts = Thoughts::new(format, false, false);
        assert_eq!(split(thoughts, [text]), ("a".to_owned(), "b".to_owned()));
    }

    #[rstest]
    #[case::call(
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>",
        "<|channel|>commentary to=functions.f<|message|>{}<|call|>"
    )]
    #[case::recipient_first(
        " to=functions.f<|channel|>commentary json<|message|>{}<|call|>",
        "<|channel|>commentary to=functions.f<|message|>{}<|call|>"
    )]
    #[case::preamble("<|channel|>commentary<|message|>I look.<|end|>", "I look.")]
    #[case::no_marks("Just words.", "Just words.")]
    #[case::cut_head("<|channel|>fin", "")]
    fn messages_of_gpt_oss_are_for_whom_they_say(#[case] text: &str, #[case] said: &str) {
        let thoughts = Thoughts::new(ReasoningFormat::Harmony, false, false);
        assert_eq!(split(thoughts, [text]).1, said);
    }

    #[test]
    fn a_thought_flows_and_no_part_of_a_mark_leaks() {
        let mut thoughts = Thoughts::new(ReasoningFormat::Think, false, false);
        let thought = |text: &str| vec![Part::Thought(text.to_owned())];
        assert_eq!(thoughts.push("<th"), []);
        assert_eq!(thoughts.push("ink>\nOne"), thought("One"));
        assert_eq!(thoughts.push(" two\n"), thought(" two"));
        assert_eq!(thoughts.push("</b> </"), thought("\n</b>"));
        assert!(thoughts.is_thinking());
        assert_eq!(thoughts.push("think"), []);
        assert_eq!(thoughts.push("> \n Yes"), [Part::Said("Yes".to_owned())]);
        assert!(!thoughts.is_thinking());
    }

    fn text() -> impl Strategy<Value = String> {
        let piece = proptest::sample::select(vec![
            "<think>",
            "</think>",
            "<thi",
            "nk>",
            "</",
            "<",
            "\n",
            " ",
            "a",
            "é",
            "<|channel|>",
            "analysis",
            "final",
            "<|message|>",
            "<|end|>",
            "<|start|>",
            "assistant",
            "to=functions.f",
            "Here is my ",
            "thought process:",
            "response:",
            "[THINK]",
            "[/THINK]",
        ]);
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_split_gives_the_same(
            format in proptest::sample::select(ReasoningFormat::ALL.to_vec()),
            thinking: bool,
            verbatim: bool,
            text in text(),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<usize> =
                cuts.iter().map(|cut| text.floor_char_boundary(cut.index(text.len() + 1))).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]);
            let new = || Thoughts::new(format, thinking, verbatim);
            prop_assert_eq!(split(new(), pieces), split(new(), [text.as_str()]));
        }

        #[test]
        fn no_mark_reaches_what_is_said(text in text(), thinking: bool) {
            // What a stray mark stood in the middle of is a mark only without it: the model's words.
            let bare = text.replace("</think>", "");
            let opened = |text: &str| text.matches("<think>").count();
            prop_assume!(!bare.contains("</think>") && opened(&bare) == opened(&text));
            let thoughts = Thoughts::new(ReasoningFormat::Think, thinking, false);
            let (thought, said) = split(thoughts, [text.as_str()]);
            prop_assert!(!said.contains("</think>"), "{}", said);
            prop_assert!(!thought.contains("</think>"), "{}", thought);
            prop_assert!(!said.starts_with("<think>"), "{}", said);
        }

        #[test]
        fn verbatim_everything_passes_in_order(text in text(), thinking: bool) {
            let mut thoughts = Thoughts::new(ReasoningFormat::Think, thinking, true);
            let mut parts = thoughts.push(&text);
            parts.extend(thoughts.finish());
            let whole: String = parts
                .into_iter()
                .map(|part| match part { Part::Thought(text) | Part::Said(text) => text })
                .collect();
            let opened = if thinking { "<think>\n" } else { "" };
            prop_assert_eq!(whole, format!("{opened}{text}"));
        }
    }
}
