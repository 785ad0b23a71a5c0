//! The model's real tokenizer: text to ids, ids to the bytes they stand for.
//!
//! Pieces are kept as bytes and not as text, because one token may hold half a character; that is
//! what makes the WAITING state of the callbacks true to the vendor's.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokenizers::{DecoderWrapper, Tokenizer};

/// How a tokenizer spells bytes in its pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spelling {
    /// Every byte is a printable character (GPT-2's table).
    ByteLevel,
    /// `▁` is a blank, `<0x0A>` is a byte (sentencepiece).
    Sentencepiece,
}

/// A tokenizer with its table of pieces.
pub(crate) struct Vocabulary {
    tokenizer: Tokenizer,
    pieces: Vec<Box<[u8]>>,
    special: HashSet<u32>,
    single_bytes: HashMap<u8, u32>,
    spelling: Spelling,
}

impl Vocabulary {
    /// Loads a `tokenizer.json`; a second load in this process is free.
    ///
    /// # Errors
    /// A line for the user when the file is absent or no tokenizer.
    pub(crate) fn load(path: &Path) -> Result<Arc<Vocabulary>, String> {
        static LOADED: OnceLock<Mutex<HashMap<PathBuf, Arc<Vocabulary>>>> = OnceLock::new();
        let key = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
        let mut loaded =
            LOADED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = loaded.get(&key) {
            return Ok(Arc::clone(known));
        }
        let tokenizer = Tokenizer::from_file(&key)
            .map_err(|error| format!("{}: not a tokenizer: {error}", path.display()))?;
        let vocabulary = Arc::new(Vocabulary::new(tokenizer));
        loaded.insert(key, Arc::clone(&vocabulary));
        Ok(vocabulary)
    }

    fn new(tokenizer: Tokenizer) -> Self {
        let spelling = match tokenizer.get_decoder() {
            Some(decoder) if is_byte_level(decoder) => Spelling::ByteLevel,
            _ => Spelling::Sentencepiece,
        };
        let added = tokenizer.get_added_tokens_decoder();
        let mut vocabulary = Vocabulary {
            pieces: Vec::new(),
            special: added.iter().filter(|(_, t)| t.special).map(|(id, _)| *id).collect(),
            single_bytes: HashMap::new(),
            spelling,
            tokenizer,
        };
        vocabulary.fill(|id| added.get(&id).map(|token| token.content.clone()));
        vocabulary
    }

    fn fill(&mut self, added: impl Fn(u32) -> Option<String>) {
        let vocab = self.tokenizer.get_vocab(true);
        let len = vocab.values().max().map_or(0, |max| *max as usize + 1);
        self.pieces = vec![Box::default(); len];
        let table = byte_level_table();
        for (text, id) in &vocab {
            let bytes = match (added(*id), self.spelling) {
                (Some(content), _) => content.into_bytes(),
                (None, Spelling::ByteLevel) => unspell_byte_level(text, &table),
                (None, Spelling::Sentencepiece) => unspell_sentencepiece(text),
            };
            if let [byte] = bytes[..] {
                self.single_bytes.insert(byte, *id);
            }
            self.pieces[*id as usize] = bytes.into_boxed_slice();
        }
    }

    /// Number of ids, gaps included.
    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The bytes a token stands for; empty for an unknown id.
    pub(crate) fn piece(&self, id: u32) -> &[u8] {
        self.pieces.get(id as usize).map_or(&[], |piece| piece)
    }

    /// Whether the token is one that `skip_special_token` hides.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// Whether unread end-of-sequence ids default to those of a BPE vocabulary.
    pub(crate) fn is_bpe(&self) -> bool {
        self.spelling == Spelling::ByteLevel
    }

    /// Text to ids; special tokens in the text are recognised, none are added.
    pub(crate) fn encode(&self, text: &str) -> Vec<u32> {
        match self.tokenizer.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            Err(_) => Vec::new(),
        }
    }

    /// Text to ids in which every character beyond ASCII is cut into single bytes.
    pub(crate) fn encode_split(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut plain = String::new();
        for character in text.chars() {
            let bytes = character.to_string().into_bytes();
            let split: Option<Vec<u32>> =
                bytes.iter().map(|byte| self.single_bytes.get(byte).copied()).collect();
            match split {
                Some(split) if bytes.len() > 1 => {
                    ids.append(&mut self.encode(&plain));
                    plain.clear();
                    ids.extend(split);
                }
                _ => plain.push(character),
            }
        }
        ids.append(&mut self.encode(&plain));
        ids
    }

    /// The bytes of all tokens, special ones kept.
    pub(crate) fn decode(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|&id| self.piece(id).iter().copied()).collect()
    }

    /// A text that is exactly one token.
    pub(crate) fn single(&self, text: &str) -> Option<u32> {
        match self.encode(text)[..] {
            [id] => Some(id),
            _ => None,
        }
    }
}

fn is_byte_level(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().any(is_byte_level),
        _ => false,
    }
}

/// GPT-2's table from printable character to byte: printable Latin-1 stands for itself, the rest
/// is moved to U+0100 and up in order.
fn byte_level_table() -> HashMap<char, u8> {
    let mut moved = 0;
    (0..=255u8)
        .map(|byte| {
            let itself = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
            let code = if itself {
                u32::from(byte)
            } else {
                moved += 1;
                255 + moved
            };
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), byte)
        })
        .collect()
}

fn unspell_byte_level(text: &str, table: &HashMap<char, u8>) -> Vec<u8> {
    text.chars()
        .flat_map(|c| match table.get(&c) {
            Some(byte) => vec![*byte],
            None => c.to_string().into_bytes(),
        })
        .collect()
}

fn unspell_sentencepiece(text: &str) -> Vec<u8> {
    let hex = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        return vec![byte];
    }
    text.replace('\u{2581}', " ").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_table_is_gpt2s() {
        let table = byte_level_table();
        assert_eq!(table.len(), 256);
        assert_eq!(table.get(&'Ġ'), Some(&b' '));
        assert_eq!(table.get(&'Ċ'), Some(&b'\n'));
        assert_eq!(table.get(&'a'), Some(&b'a'));
    }

    #[test]
    fn sentencepiece_bytes_and_blanks_are_undone() {
        assert_eq!(unspell_sentencepiece("<0x0A>"), b"\n");
        assert_eq!(unspell_sentencepiece("\u{2581}the"), b" the");
    }
}
