//! A tiny language model: from the tokens so far to a logit for every token of the vocabulary.
//!
//! It continues the places of its corpus that match the last tokens, the longer the match the
//! heavier, and prefers sentences that share rare words with the last user message. It is a pure
//! function of the token context and the seed: [`Reader::push`] only does in steps what reading
//! the longer context would give. Everything that does not follow from the corpus gets a low
//! "floor" logit with fixed noise, so that a step touches a few hundred tokens and not 150,000.

use std::collections::HashSet;
use std::sync::Arc;

use crate::conversation::Conversation;
use crate::corpus::{Corpus, GAP, telling_words_of};
use crate::input::EMBEDDED;
use crate::rng;
use crate::sampler::Logits;
use crate::vocabulary::Vocabulary;

/// Matches longer than this are no better.
const MATCH_LEN_MAX: u8 = 8;
/// Each further matching token makes a place this much heavier.
const MATCH_GAIN: f32 = 5.0;
/// A probability of 1 is this logit: penalties divide logits, so they must be well above zero.
const LOGIT_TOP: f32 = 12.0;
/// Sentences said already are this much lighter, or greedy decoding would say them for ever.
const SAID_WEIGHT: f32 = 0.01;

/// The model: vocabulary, corpus, floor.
pub(crate) struct LanguageModel {
    pub(crate) vocabulary: Arc<Vocabulary>,
    corpus: Corpus,
    /// Logit of every token that has no reason to come next.
    floor: Vec<f32>,
    /// The ids with the highest floor, best first.
    floor_best: Vec<u32>,
    end: u32,
    think_open: Vec<u32>,
    think_close: Vec<u32>,
    /// How many tokens of `think_close` it takes until the mark is whole.
    think_close_mark: usize,
    /// The model begins its answers with a block of thought.
    thinks: bool,
    yes_no: Option<(u32, u32)>,
    seed: u64,
}

/// How many of the best floor ids are known without looking at all of them.
const FLOOR_BEST: usize = 1024;

/// What a model file says about its language model.
pub(crate) struct Traits {
    pub(crate) vocab_len: usize,
    pub(crate) end: u32,
    pub(crate) thinks: bool,
    pub(crate) seed: u64,
}

impl LanguageModel {
    pub(crate) fn new(vocabulary: Arc<Vocabulary>, text: &str, traits: &Traits) -> Self {
        let len = traits.vocab_len.max(vocabulary.len());
        let base = LOGIT_TOP - 9.0 - (len as f32).ln();
        let noise = |id: usize| rng::unit(rng::mix(traits.seed, id as u64)) as f32;
        let floor: Vec<f32> = (0..len).map(|id| base + noise(id)).collect();
        let mut order: Vec<u32> = (0..len as u32).collect();
        let by_floor = |a: &u32, b: &u32| floor[*b as usize].total_cmp(&floor[*a as usize]);
        let best = FLOOR_BEST.min(len);
        if best < len {
            order.select_nth_unstable_by(best, by_floor);
            order.truncate(best);
        }
        order.sort_unstable_by(by_floor);
        let think_close = vocabulary.encode("\n</think>\n\n");
        let mark = (1..=think_close.len())
            .find(|n| vocabulary.decode(&think_close[..*n]).ends_with(b"</think>"));
        LanguageModel {
            corpus: Corpus::read(text, &vocabulary),
            floor_best: order,
            floor,
            end: traits.end,
            think_open: vocabulary.encode("<think>\n"),
            think_close_mark: mark.unwrap_or(think_close.len()),
            think_close,
            thinks: traits.thinks,
            yes_no: vocabulary.single("yes").zip(vocabulary.single("no")),
            seed: traits.seed,
            vocabulary,
        }
    }

    /// Entries of a row of logits.
    pub(crate) fn vocab_len(&self) -> usize {
        self.floor.len()
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Reads a context from its first token.
    pub(crate) fn read(self: &Arc<Self>, tokens: &[u32]) -> Reader {
        let bytes = self.vocabulary.decode(tokens);
        let conversation = Conversation::read(&String::from_utf8_lossy(&bytes));
        let mut at = 0;
        let begin = tokens
            .iter()
            .position(|&id| {
                at += self.vocabulary.piece(id).len();
                at > conversation.answer_at
            })
            .unwrap_or(tokens.len());
        // Without eyes the model can at least tell that there is an image.
        let image = if tokens.iter().any(|cell| cell & EMBEDDED != 0) { " image" } else { "" };
        let message = conversation.user.clone() + image;
        let mut reader = Reader {
            model: Arc::clone(self),
            tokens: tokens[..begin].to_vec(),
            topic: Arc::from(self.corpus.topic(&message)),
            verdict: verdict(&conversation),
            answer_len: 0,
            sentence_ended: false,
            matches: Vec::new(),
            said: HashSet::new(),
            tail: Vec::new(),
            thought: Thought::Absent,
        };
        for &token in &tokens[begin..] {
            reader.tokens.push(token);
            reader.take(token, self.vocabulary.piece(token));
        }
        reader
    }
}

/// How relevant a document is to a query, in a prompt of the usual rerank form: log odds of yes.
fn verdict(conversation: &Conversation) -> Option<f32> {
    let (_, rest) = conversation.user.split_once("<Query>:")?;
    let (query, document) = rest.split_once("<Document>:")?;
    let asked: HashSet<String> = telling_words_of(query).collect();
    let given: HashSet<String> = telling_words_of(document).collect();
    let share = asked.intersection(&given).count() as f32 / asked.len().max(1) as f32;
    // Nothing in common is a clear no, half of the words is an even bet or better.
    Some(9.0 * share - 3.5)
}

/// Where the model stands with its block of thought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Thought {
    Absent,
    Open,
    Closed,
}

/// The model in the middle of a text.
#[derive(Clone)]
pub(crate) struct Reader {
    model: Arc<LanguageModel>,
    tokens: Vec<u32>,
    topic: Arc<[f32]>,
    verdict: Option<f32>,
    /// Tokens of the answer, or of the thought, so far.
    answer_len: usize,
    sentence_ended: bool,
    /// Places in the corpus whose last tokens are ours, with the length of the match.
    matches: Vec<(u32, u8)>,
    said: HashSet<u32>,
    /// Last bytes of the answer, to see the marks of a thought.
    tail: Vec<u8>,
    thought: Thought,
}

const TAIL_BYTES: usize = 24;

impl Reader {
    /// Reads one more token.
    pub(crate) fn push(&mut self, token: u32) {
        self.tokens.push(token);
        let model = Arc::clone(&self.model);
        let piece = model.vocabulary.piece(token);
        let marks_thought = piece.ends_with(b"think>");
        if model.vocabulary.is_special(token) && !marks_thought {
            // A mark may end the turn: what counts as the answer is read anew.
            *self = model.read(&self.tokens);
        } else {
            self.take(token, piece);
        }
    }

    fn take(&mut self, token: u32, piece: &[u8]) {
        self.tail.extend_from_slice(piece);
        if self.tail.ends_with(b"<think>") {
            self.restart(Thought::Open);
        } else if self.tail.ends_with(b"</think>") {
            self.restart(Thought::Closed);
        } else if self.answer_len == 0 && piece.iter().all(u8::is_ascii_whitespace) {
            // Blank lines before the answer are not yet the answer.
        } else {
            self.answer_len += 1;
            self.follow(token);
        }
        let excess = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
    }

    fn restart(&mut self, thought: Thought) {
        self.thought = thought;
        self.answer_len = 0;
        self.sentence_ended = false;
        self.matches.clear();
        self.said.clear();
    }

    fn follow(&mut self, token: u32) {
        let corpus = &self.model.corpus;
        let mut next: Vec<(u32, u8)> = self
            .matches
            .iter()
            .filter(|(at, _)| corpus.tokens.get(*at as usize + 1) == Some(&token))
            .map(|(at, len)| (at + 1, (len + 1).min(MATCH_LEN_MAX)))
            .collect();
        let known: HashSet<u32> = next.iter().map(|(at, _)| *at).collect();
        next.extend(
            corpus.places(token).iter().filter(|at| !known.contains(at)).map(|&at| (at, 1)),
        );
        let piece = self.model.vocabulary.piece(token);
        self.sentence_ended =
            piece.trim_ascii_end().last().is_some_and(|last| matches!(last, b'.' | b'!' | b'?'));
        if self.sentence_ended {
            let whole = next.iter().filter(|(_, len)| *len >= MATCH_LEN_MAX.min(4));
            self.said.extend(whole.map(|(at, _)| corpus.sentence_of[*at as usize]));
        }
        self.matches = next;
    }

    /// The probability that the text ends here.
    fn end_chance(&self) -> f32 {
        match (self.answer_len, self.sentence_ended) {
            (0, _) | (_, false) => 1e-5,
            (len, true) => ((len as f32 - 10.0) / 70.0).clamp(0.03, 0.95),
        }
    }

    /// A sequence that must be finished or begun: the marks of a thought.
    fn forced(&self) -> Option<u32> {
        let model = &self.model;
        match self.thought {
            Thought::Absent if model.thinks && self.tail.is_empty() && self.verdict.is_none() => {
                model.think_open.first().copied()
            }
            Thought::Open | Thought::Closed => {
                let close = &model.think_close;
                let steps = if self.thought == Thought::Open && self.answer_len > 2 {
                    1..model.think_close_mark
                } else if self.thought == Thought::Closed && self.answer_len == 0 {
                    model.think_close_mark..close.len()
                } else {
                    return None;
                };
                let begun = steps.rev().find(|n| self.tokens.ends_with(&close[..*n]))?;
                Some(close[begun])
            }
            Thought::Absent => None,
        }
    }

    /// The context read so far.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Logits of the next token.
    pub(crate) fn logits(&self) -> Logits<'_> {
        let mut chances: Vec<(u32, f32)> = Vec::with_capacity(self.matches.len() + 4);
        let mut rest = 1.0;
        let end_token = match self.thought {
            Thought::Open => self.model.think_close.first().copied().unwrap_or(self.model.end),
            _ => self.model.end,
        };
        if let Some(token) = self.forced() {
            chances.push((token, 0.995));
            rest = 0.005;
        } else if let (Some(odds), Some((yes, no)), true) =
            (self.verdict, self.model.yes_no, self.thought != Thought::Open)
        {
            let yes_chance = 1.0 / (1.0 + (-odds).exp());
            let said = if self.answer_len == 0 { 0.995 } else { 0.0 };
            let end = if self.answer_len == 0 { 0.0 } else { 0.995 };
            chances.extend([(yes, yes_chance * said), (no, (1.0 - yes_chance) * said)]);
            chances.push((end_token, end));
            rest = 0.005;
        }
        let end_chance = self.end_chance();
        chances.push((end_token, end_chance * rest));
        self.add_text(&mut chances, (1.0 - end_chance) * rest, end_token);
        Logits {
            near: merge(chances, &self.model.floor),
            floor: &self.model.floor,
            floor_best: &self.model.floor_best,
        }
    }

    /// Shares `mass` among the continuations of the text.
    fn add_text(&self, chances: &mut Vec<(u32, f32)>, mass: f32, end_token: u32) {
        let corpus = &self.model.corpus;
        let from = chances.len();
        let mut total = 0.0;
        let mut add = |token: u32, weight: f32, chances: &mut Vec<(u32, f32)>| {
            total += weight;
            chances.push((if token == GAP { end_token } else { token }, weight));
        };
        let said = |sentence: u32| if self.said.contains(&sentence) { SAID_WEIGHT } else { 1.0 };
        for (at, len) in &self.matches {
            let next = *at as usize + 1;
            let sentence = corpus.sentence_of[next];
            let topic = self.topic[sentence as usize].powf(0.8);
            let weight = MATCH_GAIN.powi(i32::from(*len)) * topic * said(sentence);
            let weight = if corpus.tokens[next] == GAP { weight * 0.05 } else { weight };
            add(corpus.tokens[next], weight, chances);
        }
        if self.answer_len == 0 || self.matches.is_empty() {
            for (index, sentence) in corpus.sentences.iter().enumerate() {
                let place = if sentence.opens_paragraph { 1.0 } else { 0.1 };
                add(sentence.first, place * self.topic[index] * said(index as u32), chances);
            }
        }
        let scale = mass / f32::max(total, f32::MIN_POSITIVE);
        chances[from..].iter_mut().for_each(|(_, weight)| *weight *= scale);
    }
}

/// Adds up the chances of equal tokens and turns them into logits, none below the floor.
fn merge(mut chances: Vec<(u32, f32)>, floor: &[f32]) -> Vec<(u32, f32)> {
    chances.sort_unstable_by_key(|(token, _)| *token);
    let mut merged: Vec<(u32, f32)> = Vec::with_capacity(chances.len());
    for (token, chance) in chances {
        match merged.last_mut() {
            Some(last) if last.0 == token => last.1 += chance,
            _ => merged.push((token, chance)),
        }
    }
    for (token, chance) in &mut merged {
        let lowest = floor.get(*token as usize).copied().unwrap_or(f32::MIN);
        *chance = (chance.max(1e-30).ln() + LOGIT_TOP).max(lowest);
    }
    merged
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::corpus::ENGLISH;

    fn model() -> Arc<LanguageModel> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/tokenizer.json");
        let vocabulary = Vocabulary::load(&path).expect("the demo's tokenizer");
        let traits = Traits { vocab_len: 0, end: 2, thinks: false, seed: 1 };
        Arc::new(LanguageModel::new(vocabulary, ENGLISH, &traits))
    }

    fn chat(model: &LanguageModel, user: &str, answer: &str) -> Vec<u32> {
        model
            .vocabulary
            .encode(&format!("<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n{answer}"))
    }

    fn row(reader: &Reader) -> Vec<f32> {
        let mut row = Vec::new();
        reader.logits().write_row(&mut row);
        row
    }

    fn greedy(model: &Arc<LanguageModel>, prompt: &[u32]) -> String {
        let mut reader = model.read(prompt);
        let mut answer = Vec::new();
        for _ in 0..200 {
            let row = row(&reader);
            let top = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("a row");
            if top == 2 {
                break;
            }
            answer.push(top as u32);
            reader.push(top as u32);
        }
        String::from_utf8(model.vocabulary.decode(&answer)).expect("whole characters")
    }

    #[test]
    fn answers_are_about_what_was_asked() {
        let model = model();
        let answer = greedy(&model, &chat(&model, "What is the capital of Japan?", ""));
        assert!(answer.starts_with("The capital of Japan is Tokyo."), "{answer}");
        let answer = greedy(&model, &chat(&model, "How do I boil an egg?", ""));
        assert!(answer.contains("six minutes"), "{answer}");
    }

    #[test]
    fn an_open_thought_is_closed_before_the_answer() {
        let model = model();
        let answer = greedy(&model, &chat(&model, "Why is the sky blue?", "<think>\n"));
        let (thought, rest) = answer.split_once("\n</think>\n\n").expect("closed");
        assert!(!thought.is_empty() && !rest.is_empty(), "{answer}");
    }

    #[test]
    fn yes_and_no_follow_what_query_and_document_share() {
        let model = model();
        let odds = |document: &str| {
            let text =
                format!("<Instruct>: judge\n<Query>: capital of France\n<Document>: {document}");
            let row = row(&model.read(&chat(&model, &text, "<think>\n\n</think>\n\n")));
            let (yes, no) = model.yes_no.expect("single tokens");
            row[yes as usize] - row[no as usize]
        };
        let both = odds("Paris is the capital of France.");
        let half = odds("Berlin is the capital of Germany.");
        let none = odds("A pancake is made of flour.");
        assert!(both > 2.0 && half < both && none < half && none < -2.0, "{both} {half} {none}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn reading_in_steps_is_reading_at_once(
            tail in prop::collection::vec(0u32..2048, 0..30),
            split in 0usize..30,
        ) {
            let model = model();
            let mut tokens = chat(&model, "Tell me about the board", "The board has");
            let at = tokens.len() + split.min(tail.len());
            tokens.extend(&tail);
            let mut stepped = model.read(&tokens[..at]);
            tokens[at..].iter().for_each(|token| stepped.push(*token));
            prop_assert_eq!(row(&stepped), row(&model.read(&tokens)));
        }
    }
}
