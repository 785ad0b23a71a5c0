//! The last hidden layer: a vector per token that stands for the words so far.
//!
//! Each word has a fixed random direction, and a row is the sum over the words read, so that texts
//! with common words lie near each other. That is all that tests of retrieval need.
//!
//! Behind an image the words before it count for little, and each image leads elsewhere. The mock's
//! encoders paint red, green and blue along the directions of these words, so that a pointer head finds
//! what is called so.

use crate::corpus::is_function_word;
use crate::input::EMBEDDED;
use crate::rng;
use crate::vocabulary::Vocabulary;

/// Words that say little still tell two texts apart.
const FUNCTION_WORD_WEIGHT: f32 = 0.15;
/// An instruction before "Query:" is the same for all queries.
const INSTRUCTION_WEIGHT: f32 = 0.1;
/// What an image adds to all that follows it.
const IMAGE_WEIGHT: f32 = 0.3;
/// The last token's own share.
const TOKEN_WEIGHT: f32 = 0.05;

/// Reads tokens and gives their rows.
pub(crate) struct HiddenLayer<'a> {
    vocabulary: &'a Vocabulary,
    width: usize,
    seed: u64,
    sum: Vec<f32>,
    word: String,
    held: Vec<u8>,
    /// The rows of the image that is being read.
    image: Option<u64>,
}

/// One number of a word's direction, from -0.5 to 0.5.
pub(crate) fn direction_of(seed: u64, word: &str, column: usize) -> f32 {
    along(rng::hash_bytes(seed, word.as_bytes()), column)
}

fn along(direction: u64, column: usize) -> f32 {
    rng::unit(rng::mix(direction, column as u64)) as f32 - 0.5
}

impl<'a> HiddenLayer<'a> {
    pub(crate) fn new(vocabulary: &'a Vocabulary, width: usize, seed: u64) -> Self {
        let sum = vec![0.0; width];
        HiddenLayer {
            vocabulary,
            width,
            seed,
            sum,
            word: String::new(),
            held: Vec::new(),
            image: None,
        }
    }

    /// Rows of the tokens from `from` on.
    pub(crate) fn rows(mut self, tokens: &[u32], from: usize) -> Vec<f32> {
        let mut rows = Vec::with_capacity((tokens.len() - from) * self.width);
        for (index, token) in tokens.iter().enumerate() {
            self.read(*token);
            if index >= from {
                self.write_row(*token, &mut rows);
            }
        }
        rows
    }

    fn read(&mut self, token: u32) {
        if token & EMBEDDED != 0 {
            return self.see(token);
        }
        if let Some(image) = self.image.take() {
            let mut sum = std::mem::take(&mut self.sum);
            self.add(image, IMAGE_WEIGHT, &mut sum);
            self.sum = sum;
        }
        let special = self.vocabulary.is_special(token);
        let piece: &[u8] = if special { b" " } else { self.vocabulary.piece(token) };
        self.held.extend_from_slice(piece);
        let held = std::mem::take(&mut self.held);
        let mut chunks = held.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            chunk.valid().chars().for_each(|character| self.read_character(character));
            if chunks.peek().is_none() {
                self.held = chunk.invalid().to_vec();
            }
        }
        self.held.truncate(8);
    }

    fn see(&mut self, row: u32) {
        let before = self.image.unwrap_or_else(|| {
            self.read_character(' ');
            self.sum.iter_mut().for_each(|value| *value *= INSTRUCTION_WEIGHT);
            self.seed
        });
        self.image = Some(rng::mix(before, u64::from(row)));
    }

    fn read_character(&mut self, character: char) {
        if character.is_alphanumeric() {
            self.word.extend(character.to_lowercase());
            return;
        }
        let word = std::mem::take(&mut self.word);
        if character == ':' && word == "query" {
            self.sum.iter_mut().for_each(|value| *value *= INSTRUCTION_WEIGHT);
        } else {
            let mut sum = std::mem::take(&mut self.sum);
            self.add_word(&word, &mut sum);
            self.sum = sum;
        }
    }

    fn add_word(&self, word: &str, row: &mut [f32]) {
        if word.is_empty() {
            return;
        }
        let stem = word.strip_suffix('s').filter(|stem| stem.len() > 3).unwrap_or(word);
        let weight = if is_function_word(stem) { FUNCTION_WORD_WEIGHT } else { 1.0 };
        self.add(rng::hash_bytes(self.seed, stem.as_bytes()), weight, row);
    }

    fn add(&self, direction: u64, weight: f32, row: &mut [f32]) {
        for (index, value) in row.iter_mut().enumerate() {
            *value += weight * along(direction, index);
        }
    }

    fn write_row(&self, token: u32, rows: &mut Vec<f32>) {
        let start = rows.len();
        rows.extend_from_slice(&self.sum);
        let row = &mut rows[start..];
        self.add_word(&self.word, row);
        self.add(rng::mix(self.seed, u64::from(token)), TOKEN_WEIGHT, row);
        let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        let scale = (self.width as f32).sqrt() / norm.max(f32::MIN_POSITIVE);
        row.iter_mut().for_each(|value| *value *= scale);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn last_row(text: &str) -> Vec<f32> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/tokenizer.json");
        let vocabulary = Vocabulary::load(&path).expect("the demo's tokenizer");
        let tokens = vocabulary.encode(&format!("{text}<|endoftext|>"));
        HiddenLayer::new(&vocabulary, 256, 0).rows(&tokens, tokens.len() - 1)
    }

    fn cosine(a: &str, b: &str) -> f32 {
        let (a, b) = (last_row(a), last_row(b));
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
        dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
    }

    #[test]
    fn texts_with_common_words_are_near() {
        let near = cosine("the cat sleeps on the sofa", "a sleeping cat: the cat sleeps");
        let far = cosine("the cat sleeps on the sofa", "quarterly revenue grew in Europe");
        assert!(near > 0.5 && far < 0.3, "{near} {far}");
    }

    #[test]
    fn an_instruction_hardly_moves_a_query() {
        let query = "Instruct: Given a question, find passages\nQuery:capital of France";
        let right = cosine(query, "Paris is the capital of France");
        let wrong = cosine(query, "The passages in this book answer a question");
        assert!(right > 0.5 && wrong < 0.3, "{right} {wrong}");
    }

    #[test]
    fn behind_an_image_its_words_count_and_the_image_itself() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/tokenizer.json");
        let vocabulary = Vocabulary::load(&path).expect("the demo's tokenizer");
        let row = |image: u32, text: &str| {
            let mut tokens = vocabulary.encode("quarterly revenue grew");
            tokens.extend([EMBEDDED | image, EMBEDDED | 9]);
            tokens.extend(vocabulary.encode(text));
            HiddenLayer::new(&vocabulary, 64, 0).rows(&tokens, tokens.len() - 1)
        };
        let along_red = |row: &[f32]| -> f32 {
            row.iter().enumerate().map(|(at, value)| value * direction_of(0, "red", at)).sum()
        };
        assert!(along_red(&row(1, "red ")) > 10.0 * along_red(&row(1, "dog ")).abs());
        assert_ne!(row(1, "red "), row(2, "red "));
        assert_eq!(row(1, "red "), row(1, "red "));
    }

    #[test]
    fn rows_depend_only_on_what_is_before_them() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/tokenizer.json");
        let vocabulary = Vocabulary::load(&path).expect("the demo's tokenizer");
        let tokens = vocabulary.encode("one two three four");
        let rows = |tokens: &[u32]| HiddenLayer::new(&vocabulary, 8, 0).rows(tokens, 0);
        assert_eq!(rows(&tokens)[..16], rows(&tokens[..2])[..]);
    }
}
