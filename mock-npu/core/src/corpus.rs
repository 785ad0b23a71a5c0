//! The text the language model has read, cut into tokens of the model's own vocabulary.

use std::collections::{HashMap, HashSet};

use crate::vocabulary::Vocabulary;

/// The text that ships with the mock.
pub const ENGLISH: &str = include_str!("../corpus/english.txt");

/// Stands between two documents: nothing follows what is before it.
pub(crate) const GAP: u32 = u32::MAX;

/// Places of one token are kept up to this many: a step of the model visits them all.
const PLACES_MAX: usize = 192;

/// One sentence of the text.
pub(crate) struct Sentence {
    /// First token of a document that starts with this sentence.
    pub(crate) first: u32,
    pub(crate) opens_paragraph: bool,
    /// Of a paragraph for messages that match nothing.
    pub(crate) generic: bool,
    pub(crate) words: HashSet<String>,
}

/// A tokenised text with its indices.
pub(crate) struct Corpus {
    /// Documents one after the other, each followed by [`GAP`].
    pub(crate) tokens: Vec<u32>,
    /// Sentence of each token.
    pub(crate) sentence_of: Vec<u32>,
    pub(crate) sentences: Vec<Sentence>,
    places: HashMap<u32, Vec<u32>>,
    /// In how many sentences a word stands.
    spread: HashMap<String, u32>,
}

impl Corpus {
    /// Reads a text of one paragraph a line; `#` begins a comment, `*` a generic paragraph.
    pub(crate) fn read(text: &str, vocabulary: &Vocabulary) -> Corpus {
        let mut corpus = Corpus {
            tokens: Vec::new(),
            sentence_of: Vec::new(),
            sentences: Vec::new(),
            places: HashMap::new(),
            spread: HashMap::new(),
        };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let generic = line.starts_with('*');
            corpus.read_paragraph(line.trim_start_matches('*').trim(), generic, vocabulary);
        }
        corpus.index();
        corpus
    }

    /// A paragraph is one document, and so is each pair of sentences after the first: an answer
    /// may begin in the middle of a paragraph, where the first token has no blank before it.
    fn read_paragraph(&mut self, paragraph: &str, generic: bool, vocabulary: &Vocabulary) {
        let sentences = split_sentences(paragraph);
        let first_id = self.sentences.len();
        for (index, sentence) in sentences.iter().enumerate() {
            let start = self.tokens.len();
            let until = if index == 0 { sentences.len() } else { sentences.len().min(index + 2) };
            for (later, text) in sentences[index..until].iter().enumerate() {
                let text = if later == 0 { (*text).to_owned() } else { format!(" {text}") };
                let ids = vocabulary.encode(&text);
                let of = (first_id + index + later) as u32;
                self.sentence_of.extend(std::iter::repeat_n(of, ids.len()));
                self.tokens.extend(ids);
            }
            self.sentences.push(Sentence {
                first: self.tokens.get(start).copied().unwrap_or(GAP),
                opens_paragraph: index == 0,
                generic,
                words: words_of(sentence).collect(),
            });
            self.tokens.push(GAP);
            self.sentence_of.push((first_id + index) as u32);
        }
    }

    fn index(&mut self) {
        for (at, token) in self.tokens.iter().enumerate() {
            if *token != GAP {
                self.places.entry(*token).or_default().push(at as u32);
            }
        }
        for places in self.places.values_mut().filter(|places| places.len() > PLACES_MAX) {
            let step = places.len().div_ceil(PLACES_MAX);
            *places = places.iter().copied().step_by(step).collect();
        }
        for word in self.sentences.iter().flat_map(|sentence| &sentence.words) {
            *self.spread.entry(word.clone()).or_default() += 1;
        }
    }

    /// Where a token stands.
    pub(crate) fn places(&self, token: u32) -> &[u32] {
        self.places.get(&token).map_or(&[], Vec::as_slice)
    }

    /// How much each sentence has to do with a message: 1 for nothing, more for rare common words.
    pub(crate) fn topic(&self, message: &str) -> Vec<f32> {
        let asked: HashSet<String> = telling_words_of(message).collect();
        let total = self.sentences.len() as f32;
        let weigh = |sentence: &Sentence| -> f32 {
            let common = sentence.words.intersection(&asked);
            let rarity: f32 = common
                .map(|word| (total / self.spread.get(word).copied().unwrap_or(1) as f32).ln())
                .map(|rarity| (rarity - 1.0).max(0.0))
                .sum();
            (2.4 * rarity).min(20.0).exp()
        };
        let mut topic: Vec<f32> = self.sentences.iter().map(weigh).collect();
        if topic.iter().all(|weight| *weight < 1.5) {
            for (weight, sentence) in topic.iter_mut().zip(&self.sentences) {
                *weight *= if sentence.generic { 30.0 } else { 1.0 };
            }
        } else {
            for (weight, sentence) in topic.iter_mut().zip(&self.sentences) {
                *weight *= if sentence.generic { 0.2 } else { 1.0 };
            }
        }
        topic
    }
}

/// Words that tell nothing about what a text is about.
const FUNCTION_WORDS: &str = "a about after again all also am an and any are as at be because been \
    before but by can could did do does each for from get give had has have he her here him his how \
    i if in into is it its just know let like made make me more most my no not now of on one only \
    or other our out over please put say see she should so some take tell than that the their them \
    then there these they thi this those to too up us use very want was way we well were what when \
    where which while who why will with would yes you your";

/// The words of a text without those that tell nothing.
pub(crate) fn telling_words_of(text: &str) -> impl Iterator<Item = String> {
    words_of(text).filter(|word| !is_function_word(word))
}

/// Whether a word in lower case tells nothing.
pub(crate) fn is_function_word(word: &str) -> bool {
    FUNCTION_WORDS.split_whitespace().any(|other| other == word)
}

fn split_sentences(paragraph: &str) -> Vec<&str> {
    paragraph.split_inclusive(['.', '!', '?']).map(str::trim).filter(|s| s.len() > 1).collect()
}

/// Words in lower case; a plural's `s` is cut so that "boards" meets "board".
pub(crate) fn words_of(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(|word| {
        let lower = word.to_lowercase();
        match lower.strip_suffix('s') {
            Some(stem) if stem.len() > 3 && !stem.ends_with('s') => stem.to_owned(),
            _ => lower,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_and_words_are_split() {
        assert_eq!(split_sentences("One. Two! Three?"), ["One.", "Two!", "Three?"]);
        let words: Vec<String> = words_of("The boards' glass, Ünder 12").collect();
        assert_eq!(words, ["the", "board", "glass", "ünder", "12"]);
    }
}
