//! A lower bound on the number of tokens of a text, without tokenizing it.
//!
//! Tokenizing costs a microsecond and a hundred bytes of memory for each byte of text; a body of
//! 30 MB would take seconds and gigabytes to learn that it is a thousand times too long. No token
//! covers more bytes than the longest entry of the vocabulary, so dividing is enough to know.
//!
//! The bound must never refuse what fits. So it counts only what certainly reaches the tokens:
//! no whitespace, which normalizers, pre-tokenizers and control tokens may swallow, and a quarter
//! of the bytes, because a normal form writes at most four bytes as one (`𝐀` as `A`). Of a
//! tokenizer that may drop other text, or cover an unknown word of any length by one token,
//! nothing is known, and the bound is 0.

use serde_json::Value;
use tokenizers::{ModelWrapper, Tokenizer, pre_tokenizers::byte_level::ByteLevel};

use crate::guard::BREAKER;

/// Bytes that a normal form may write as one.
const SHRINKAGE_MAX: usize = 4;

/// What is known of a tokenizer's tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// Bytes of the longest entry, where every token is an entry and no text is dropped.
    entry_len_max: Option<usize>,
}

impl Bound {
    /// The bound of a tokenizer as its makers wrote it.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Self {
        let vocabulary = tokenizer.get_vocab(true);
        let has = |entry: &str| vocabulary.contains_key(entry);
        let ModelWrapper::BPE(bpe) = tokenizer.get_model() else {
            return Self { entry_len_max: None };
        };
        let normalizer = described(tokenizer.get_normalizer());
        let pre_tokenizer = described(tokenizer.get_pre_tokenizer());
        let bytes_are_entries = || (0..=255u8).all(|byte| has(&format!("<0x{byte:02X}>")));
        let letters_are_entries = || ByteLevel::alphabet().iter().all(|c| has(&c.to_string()));
        let by_bytes = bpe.byte_fallback && bytes_are_entries();
        let by_letters = any(&pre_tokenizer, "ByteLevel") && letters_are_entries();
        let whole = (by_bytes || by_letters)
            && all(&normalizer, "normalizers", keeps_normalized)
            && all(&pre_tokenizer, "pretokenizers", keeps_split);
        let entry_len_max = vocabulary.keys().map(String::len).max().filter(|_| whole);
        Self { entry_len_max }
    }

    /// The text has at least so many tokens.
    pub(crate) fn tokens_min(self, text: &str) -> usize {
        let Some(entry_len_max) = self.entry_len_max else { return 0 };
        let counted = |c: &char| !c.is_whitespace() && *c != BREAKER;
        let bytes: usize = text.chars().filter(counted).map(char::len_utf8).sum();
        bytes / SHRINKAGE_MAX / entry_len_max
    }
}

/// A part of the tokenizer as `tokenizer.json` has it: its settings are not public otherwise.
fn described<T: serde::Serialize>(part: Option<&T>) -> Value {
    part.and_then(|part| serde_json::to_value(part).ok()).unwrap_or_default()
}

fn kind(part: &Value) -> &str {
    part["type"].as_str().unwrap_or_default()
}

/// Whether every step of a chain is of a kind; an absent one is.
fn all(part: &Value, steps: &str, keeps: fn(&Value) -> bool) -> bool {
    match part[steps].as_array() {
        Some(steps_of) => steps_of.iter().all(|step| all(step, steps, keeps)),
        None => part.is_null() || keeps(part),
    }
}

/// Whether some step of a chain of pre-tokenizers or decoders is of this kind.
fn any(part: &Value, wanted: &str) -> bool {
    let steps = ["pretokenizers", "decoders"].iter().find_map(|steps| part[*steps].as_array());
    kind(part) == wanted || steps.is_some_and(|steps| steps.iter().any(|step| any(step, wanted)))
}

/// Whether the entries are written in letters for bytes.
pub(crate) fn decodes_letters(tokenizer: &Tokenizer) -> bool {
    any(&described(tokenizer.get_decoder()), "ByteLevel")
}

fn keeps_normalized(step: &Value) -> bool {
    match kind(step) {
        "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "Prepend" => true,
        "Replace" => step["pattern"]["String"] == " ",
        _ => false,
    }
}

fn keeps_split(step: &Value) -> bool {
    match kind(step) {
        "Split" | "Punctuation" => step["behavior"] != "Removed",
        kind => {
            ["ByteLevel", "Metaspace", "Digits", "UnicodeScripts", "Whitespace"].contains(&kind)
        }
    }
}
