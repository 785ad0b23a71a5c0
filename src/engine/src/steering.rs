//! Holds an answer to a form: JSON of a schema, or calls of tools.
//!
//! What a model thinks first is its own affair. Only with the first word of an answer proper does the
//! form of answers take over, and with the first call the form of calls, each where there is one:
//!
//! ```text
//!   Watching ── first word, or a call ──▶ Held ── complete ──▶ the answer's end
//!      └─────── a call that is free to be made ──▶ Free
//! ```
//!
//! A call is known by the time its name is read, and models open calls in several spellings. So
//! tokens that could begin one are kept back until that is decided: a call that is held goes on if it
//! is spelt as the form has it, and is begun anew if not.

use std::{collections::VecDeque, sync::Arc};

use rkllama_core::{Chat, Event, ToolCallPiece};
use rkllama_protocol::Piece;
use rkllama_text::{
    AnswerParser, Codec, Utf8Assembler,
    grammar::{Grammar, GrammarError, GrammarRun, Next, RunLimits},
};

/// Stands for no token, or for a part of one.
pub(crate) const TOKEN_UNKNOWN: i32 = -1;

/// The form of an answer.
#[derive(Debug)]
pub(crate) struct Steering {
    pub(crate) codec: Arc<Codec>,
    /// What an answer is held to that is no call, or that has to be one; `None` leaves it free.
    pub(crate) grammar: Option<Grammar>,
    /// What may come before the form; `None` if nothing may.
    pub(crate) watch: Option<Watch>,
}

/// What may come before the form.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The conversation without its messages: how thoughts and calls are told apart.
    pub(crate) chat: Chat,
    /// The prompt has begun a thought.
    pub(crate) is_thinking: bool,
    pub(crate) calls: FreeCalls,
}

/// Calls that a model need not make.
#[derive(Debug)]
pub(crate) enum FreeCalls {
    /// There are none: a call is a word like any other.
    None,
    /// They need no form.
    Free,
    /// They have to have this form, whose calls are those of the conversation's tools, in order.
    Held(Grammar),
}

/// An answer in the making.
pub(crate) struct Steered<'a> {
    steering: &'a Steering,
    stage: Stage,
    utf8: Utf8Assembler,
    /// What could be the beginning of a call, or what is not for the client yet.
    kept: VecDeque<Kept>,
    /// What the client is to get before anything else.
    released: Vec<Released>,
    before: Before,
}

enum Stage {
    /// Thoughts and calls are told from the words of an answer proper.
    Watching(Box<AnswerParser>),
    Free,
    Held(Box<GrammarRun>),
}

/// A token that is kept back.
struct Kept {
    token: i32,
    /// The characters that it completes.
    text: String,
    /// So much of it is released.
    released_len: usize,
}

/// A token, or a part of one, for the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Released {
    /// Negative for a part, or where the runtime does not tell.
    pub(crate) token: i32,
    pub(crate) text: String,
    /// 1 with a token's last part.
    pub(crate) tokens: u32,
}

/// What stands in front of the grammar's part of an answer.
#[derive(Default)]
struct Before {
    tokens: Vec<i32>,
    text: String,
    /// The tokens are not those of the text: one was not told, or a part of one was dropped.
    is_inexact: bool,
}

/// What is to be done, after the client has what was released.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The run goes on.
    Pass,
    /// The client gets this text, and the run goes on.
    GoOn(String),
    /// The client gets this text, and a run on prompt and [`Steered::tokens`] follows.
    Restart(String),
    /// The client gets this text, which is the end.
    Finish(String),
}

/// What a character of an answer turns out to be.
enum Seen {
    /// A thought, or what could be a call, or a word where words are free.
    Nothing,
    /// A word of an answer that has a form, or a call where none is free to be made.
    Form,
    /// A call of this tool begins.
    Call(String),
}

impl Steering {
    /// Begins an answer.
    pub(crate) fn begin(&self) -> Result<Steered<'_>, GrammarError> {
        let stage = match (&self.watch, &self.grammar) {
            (Some(watch), _) => {
                Stage::Watching(Box::new(self.codec.answer(&watch.chat, watch.is_thinking)))
            }
            (None, Some(grammar)) => Stage::Held(Box::new(self.held(grammar)?)),
            (None, None) => Stage::Free,
        };
        Ok(Steered {
            steering: self,
            stage,
            utf8: Utf8Assembler::new(),
            kept: VecDeque::new(),
            released: Vec::new(),
            before: Before::default(),
        })
    }

    fn held(&self, grammar: &Grammar) -> Result<GrammarRun, GrammarError> {
        GrammarRun::new(grammar, Arc::clone(&self.codec), RunLimits::default())
    }

    fn calls(&self) -> &FreeCalls {
        self.watch.as_ref().map_or(&FreeCalls::None, |watch| &watch.calls)
    }

    fn seen(&self, events: Vec<Event>) -> Seen {
        let is_seen = |event| match (event, self.calls()) {
            (Event::Text(_), _) if self.grammar.is_some() => Some(Seen::Form),
            (Event::ToolCall(_), FreeCalls::None) => Some(Seen::Form),
            (Event::ToolCall(ToolCallPiece::Begin { name, .. }), _) => Some(Seen::Call(name)),
            (
                Event::Started(_)
                | Event::Reasoning(_)
                | Event::Text(_)
                | Event::ToolCall(ToolCallPiece::Arguments { .. })
                | Event::Finished(_),
                _,
            ) => None,
        };
        events.into_iter().find_map(is_seen).unwrap_or(Seen::Nothing)
    }
}

impl Steered<'_> {
    /// What comes before the first run.
    pub(crate) fn opening(&mut self) -> Result<Step, GrammarError> {
        match &mut self.stage {
            Stage::Held(run) => Ok(step(run.opening()?)),
            Stage::Watching(_) | Stage::Free => Ok(Step::GoOn(String::new())),
        }
    }

    /// Takes a token that the model has generated.
    pub(crate) fn token(&mut self, piece: Piece) -> Result<Step, GrammarError> {
        if let Stage::Held(run) = &mut self.stage {
            return Ok(step(run.token(piece.token, &piece.text)?));
        }
        let special = self.steering.codec.special_text(piece.token);
        let text = self.utf8.push(special.map_or(piece.text.as_slice(), str::as_bytes));
        let len = self.kept_len();
        self.kept.push_back(Kept { token: piece.token, text: text.clone(), released_len: 0 });
        self.characters(&text, len)
    }

    /// What was released since this was last asked.
    pub(crate) fn released(&mut self) -> Vec<Released> {
        std::mem::take(&mut self.released)
    }

    /// The model wants to end. `None` if it may.
    pub(crate) fn ended(&mut self) -> Result<Option<Step>, GrammarError> {
        let parser = match &mut self.stage {
            Stage::Held(run) => return Ok(Some(step(run.end_of_sequence()?))),
            Stage::Free => {
                self.release_all();
                return Ok(None);
            }
            Stage::Watching(parser) => parser,
        };
        if parser.is_thinking() {
            let Some(grammar) = &self.steering.grammar else {
                self.release_all();
                return Ok(None);
            };
            let (text, tokens) = self.steering.codec.thought_end().map_err(|err| lost(&err))?;
            // A mark that was begun is written whole.
            self.drop_kept();
            self.before.tokens.extend(tokens);
            self.before.text.push_str(&text);
            return self.take_over(grammar, &text).map(Some);
        }
        let undecided = parser.undecided_len();
        let events = parser.finish();
        let certain = self.kept_len().saturating_sub(undecided);
        match (self.steering.seen(events), &self.steering.grammar) {
            (Seen::Call(name), _) => self.call(&name, certain).map(Some),
            (Seen::Form | Seen::Nothing, Some(grammar)) => {
                self.release(certain);
                self.drop_kept();
                self.take_over(grammar, "").map(Some)
            }
            (Seen::Form | Seen::Nothing, None) => {
                self.release_all();
                Ok(None)
            }
        }
    }

    /// The answer is cut short: nothing decides any more about what was kept.
    pub(crate) fn release_all(&mut self) {
        self.release(usize::MAX);
        let text = self.utf8.finish();
        if !text.is_empty() {
            self.released.push(Released { token: TOKEN_UNKNOWN, text, tokens: 0 });
        }
    }

    /// All tokens of the answer so far.
    pub(crate) fn tokens(&self) -> Vec<i32> {
        match &self.stage {
            Stage::Held(run) => [&self.before.tokens, run.answer()].concat(),
            Stage::Watching(_) | Stage::Free => self.before.tokens.clone(),
        }
    }

    /// What is left of a text that the form demanded without its last tokens: whole characters.
    pub(crate) fn without_last(&self, text: &str, tokens: u32) -> String {
        let count = |text: &str| self.steering.codec.answer_ids(text).map_or(0, |ids| ids.len());
        let room = count(text).saturating_sub(usize::try_from(tokens).unwrap_or(usize::MAX));
        let ends = text.char_indices().map(|(at, _)| at).rev();
        let mut beginnings = ends.map(|end| text.get(..end).unwrap_or_default());
        beginnings.find(|beginning| count(beginning) <= room).unwrap_or_default().to_owned()
    }

    /// Reads the text of the last token kept, which begins at this place of all that is kept.
    fn characters(&mut self, text: &str, mut at: usize) -> Result<Step, GrammarError> {
        for character in text.chars() {
            let Stage::Watching(parser) = &mut self.stage else { break };
            let certain = at.saturating_sub(parser.undecided_len());
            let events = parser.push(character.encode_utf8(&mut [0; 4]));
            match (self.steering.seen(events), &self.steering.grammar) {
                (Seen::Call(name), _) => return self.call(&name, certain),
                (Seen::Form, Some(grammar)) => {
                    self.release(certain);
                    self.drop_kept();
                    return self.take_over(grammar, "");
                }
                (Seen::Form, None) | (Seen::Nothing, _) => {}
            }
            at += character.len_utf8();
        }
        let undecided = match &self.stage {
            Stage::Watching(parser) => parser.undecided_len(),
            Stage::Free | Stage::Held(_) => 0,
        };
        self.release(self.kept_len().saturating_sub(undecided));
        Ok(Step::Pass)
    }

    /// A call begins behind so much of what was kept.
    fn call(&mut self, name: &str, certain: usize) -> Result<Step, GrammarError> {
        let FreeCalls::Held(grammar) = self.steering.calls() else {
            self.stage = Stage::Free;
            self.release(usize::MAX);
            return Ok(Step::Pass);
        };
        self.release(certain);
        if let Some(step) = self.call_as_it_is(grammar)? {
            return Ok(step);
        }
        self.drop_kept();
        self.before.settle(&self.steering.codec)?;
        let mut tools = self.steering.watch.iter().flat_map(|watch| &watch.chat.tools);
        let index = tools.position(|tool| tool.name == name);
        let index = index.ok_or_else(|| lost(&format!("there is no tool '{name}'")))?;
        let mut run = self.steering.held(grammar)?;
        let next = run.begin_call(index)?;
        self.stage = Stage::Held(Box::new(run));
        Ok(match step(next) {
            Step::GoOn(text) => Step::Restart(text),
            step @ (Step::Restart(_) | Step::Finish(_) | Step::Pass) => step,
        })
    }

    /// Holds a call whose beginning, which was kept, is spelt as the form has it: the run goes on.
    fn call_as_it_is(&mut self, grammar: &Grammar) -> Result<Option<Step>, GrammarError> {
        let mut run = self.steering.held(grammar)?;
        let mut said = String::new();
        for Kept { token, text, released_len } in &self.kept {
            let token = if *released_len == 0 { *token } else { TOKEN_UNKNOWN };
            let text = text.get(*released_len..).unwrap_or_default();
            match step(run.token(token, text.as_bytes())?) {
                Step::GoOn(text) => said.push_str(&text),
                Step::Finish(text) => {
                    said.push_str(&text);
                    self.kept.clear();
                    return Ok(Some(Step::Finish(said)));
                }
                Step::Restart(_) | Step::Pass => return Ok(None),
            }
        }
        self.before.is_inexact |= self.kept.front().is_some_and(|kept| kept.released_len > 0);
        self.before.settle(&self.steering.codec)?;
        // The last of them is counted with its text.
        let tokens = u32::try_from(self.kept.len()).unwrap_or(u32::MAX).saturating_sub(1);
        self.released.push(Released { token: TOKEN_UNKNOWN, text: String::new(), tokens });
        self.kept.clear();
        self.stage = Stage::Held(Box::new(run));
        Ok(Some(Step::GoOn(said)))
    }

    /// The form begins, behind this text.
    fn take_over(&mut self, grammar: &Grammar, said: &str) -> Result<Step, GrammarError> {
        self.before.settle(&self.steering.codec)?;
        self.stage = Stage::Held(Box::new(self.steering.held(grammar)?));
        Ok(match self.opening()? {
            Step::Finish(text) => Step::Finish(said.to_owned() + &text),
            Step::Restart(text) | Step::GoOn(text) => Step::Restart(said.to_owned() + &text),
            Step::Pass => Step::Restart(said.to_owned()),
        })
    }

    fn kept_len(&self) -> usize {
        self.kept.iter().map(|kept| kept.text.len()).sum()
    }

    /// Gives the client this much of the text that was kept.
    fn release(&mut self, len: usize) {
        let mut left = len;
        while let Some(kept) = self.kept.front_mut() {
            if kept.text.len() > left {
                // Blanks and thoughts may be certain in the middle of a token.
                if let Some(part) = kept.text.get(kept.released_len..left).filter(|p| !p.is_empty())
                {
                    self.before.text.push_str(part);
                    let text = part.to_owned();
                    self.released.push(Released { token: TOKEN_UNKNOWN, text, tokens: 0 });
                    kept.released_len = left;
                }
                return;
            }
            left -= kept.text.len();
            let Some(Kept { token, text, released_len }) = self.kept.pop_front() else { return };
            let rest = text.get(released_len..).unwrap_or_default().to_owned();
            self.before.push(token, &rest);
            let token = if released_len == 0 { token } else { TOKEN_UNKNOWN };
            self.released.push(Released { token, text: rest, tokens: 1 });
        }
    }

    /// Forgets what was kept: something else is written in its place.
    fn drop_kept(&mut self) {
        let is_begun = self.kept.front().is_some_and(|kept| kept.released_len > 0);
        self.before.is_inexact |= is_begun;
        self.kept.clear();
    }
}

impl Before {
    fn push(&mut self, token: i32, text: &str) {
        self.text.push_str(text);
        if token < 0 { self.is_inexact = true } else { self.tokens.push(token) }
    }

    /// Makes the tokens those of the text.
    fn settle(&mut self, codec: &Codec) -> Result<(), GrammarError> {
        if std::mem::take(&mut self.is_inexact) {
            self.tokens = codec.answer_ids(&self.text).map_err(|err| lost(&err))?;
        }
        Ok(())
    }
}

fn lost(reason: &dyn std::fmt::Display) -> GrammarError {
    GrammarError::Lost { reason: reason.to_string() }
}

fn step(next: Next) -> Step {
    match next {
        Next::Continue { text } => Step::GoOn(text),
        Next::Restart { text, .. } => Step::Restart(text),
        Next::Finish { text } => Step::Finish(text),
    }
}

#[cfg(test)]
mod tests {
    use jsonschema::validator_for;
    use proptest::prelude::*;
    use rkllama_core::{Message, Role, TextFiles, Tool};
    use serde_json::{Value, json};

    use super::*;
    use crate::encoding::{SharedPrefixes, encode};

    thread_local! {
        static CODEC: Arc<Codec> = {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../mock-npu/demo/tokenizer.json");
            let tokenizer = std::fs::read(file).unwrap();
            // As Qwen's makers have it: calls in tags, thoughts not at all.
            let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
                            {% endfor %}{% if tools %}<tool_call>{{ tools }}</tool_call>{% endif %}\
                            <|im_start|>assistant\n";
            let chat_template = Some(template.to_owned());
            Arc::new(Codec::new(&TextFiles { tokenizer, chat_template, ..TextFiles::default() }).unwrap())
        };
    }

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 9}, "days": {"enum": [1, 2]}},
            "required": ["city", "days"],
            "additionalProperties": false,
        })
    }

    fn chat() -> Chat {
        let tool = |name: &str, strict| Tool {
            name: name.to_owned(),
            description: None,
            parameters: Some(schema().to_string()),
            strict,
        };
        let mut chat = Chat::new(vec![Message::new(Role::User, "Hi")]);
        chat.tools = vec![tool("lax", false), tool("weather", true)];
        chat
    }

    fn steering(codec: &Arc<Codec>) -> Steering {
        let prefixes = SharedPrefixes { known: Arc::default(), tokens_min: None };
        let asked = rkllama_core::Prompt::Chat(chat());
        let encoding = encode(codec, asked, None, 1000, &prefixes, "demo").unwrap();
        encoding.steering.unwrap()
    }

    /// What the client gets of a model that says these pieces, whatever happens to them, and then
    /// wants to end.
    fn heard<'a>(steering: &Steering, pieces: impl Iterator<Item = &'a str>) -> String {
        let mut steered = steering.begin().unwrap();
        let mut heard = String::new();
        let mut take = |steered: &mut Steered<'_>, step| {
            heard.extend(steered.released().into_iter().map(|released| released.text));
            match step {
                Step::Pass => false,
                Step::GoOn(text) | Step::Restart(text) => {
                    heard.push_str(&text);
                    false
                }
                Step::Finish(text) => {
                    heard.push_str(&text);
                    true
                }
            }
        };
        let mut is_over = false;
        for text in pieces {
            let text = text.as_bytes().to_vec();
            let step = steered.token(Piece { run: 1, token: TOKEN_UNKNOWN, text }).unwrap();
            is_over = take(&mut steered, step);
            if is_over {
                break;
            }
        }
        while !is_over {
            let step = steered.ended().unwrap();
            is_over = step.is_none();
            is_over |= take(&mut steered, step.unwrap_or(Step::Pass));
        }
        heard
    }

    /// Text before the first call, and the calls.
    fn told(codec: &Codec, answer: &str) -> (String, Vec<(String, String)>) {
        let mut parser = codec.answer(&chat(), false);
        let mut events = parser.push(answer);
        events.extend(parser.finish());
        let (mut text, mut calls) = (String::new(), Vec::new());
        for event in events {
            match event {
                Event::Text(said) if calls.is_empty() => text.push_str(&said),
                Event::ToolCall(ToolCallPiece::Begin { name, .. }) => {
                    calls.push((name, String::new()));
                }
                Event::ToolCall(ToolCallPiece::Arguments { json, .. }) => {
                    calls.last_mut().unwrap().1.push_str(&json);
                }
                _ => {}
            }
        }
        (text, calls)
    }

    fn saying() -> impl Strategy<Value = String> {
        let piece = proptest::sample::select(vec![
            "Let me look. ",
            "é",
            "\n",
            "<",
            "<tool",
            "_call>",
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Ulm\"",
            "<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"weather\"}",
            "<tool_call>\n{\"name\": \"lax\", \"arguments\": {\"any\": [1]}}\n</tool_call>",
            "<tool_call>{\"name\": \"nobody\", \"arguments\": {}}",
            ", \"days\": 2}}",
            "}}",
            "\n</tool_call>",
        ]);
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn calls_of_strict_tools_validate_and_all_else_is_as_it_was(
            saying in saying(),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        ) {
            let mut cuts: Vec<usize> =
                cuts.iter().map(|cut| saying.floor_char_boundary(cut.index(saying.len() + 1))).collect();
            cuts.extend([0, saying.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &saying[pair[0]..pair[1]]);
            let codec = CODEC.with(Arc::clone);
            let heard = heard(&steering(&codec), pieces);
            let (text_then, calls_then) = told(&codec, &saying);
            let (text, calls) = told(&codec, &heard);
            prop_assert_eq!(text, text_then, "{}", heard);
            prop_assert_eq!(calls.is_empty(), calls_then.is_empty(), "{}", heard);
            if calls.is_empty() {
                prop_assert_eq!(&heard, &saying);
            }
            if let (Some(first), Some(then)) = (calls.first(), calls_then.first()) {
                prop_assert_eq!(&first.0, &then.0, "the tool that the model chose");
            }
            let validator = validator_for(&schema()).unwrap();
            for (name, arguments) in calls {
                let arguments: Value = serde_json::from_str(&arguments).unwrap();
                prop_assert!(arguments.is_object());
                prop_assert!(name != "weather" || validator.is_valid(&arguments), "{}", heard);
            }
        }
    }
}
