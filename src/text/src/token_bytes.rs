//! The bytes that a token stands for.

use std::collections::HashMap;

use tokenizers::Tokenizer;

use crate::bound::decodes_letters;

/// How a tokenizer's entries are read.
#[derive(Debug)]
pub(crate) struct TokenBytes {
    /// The byte for each letter, where entries are written in GPT-2's letters for bytes.
    by_letters: Option<HashMap<char, u8>>,
}

impl TokenBytes {
    pub(crate) fn of(tokenizer: &Tokenizer) -> Self {
        Self { by_letters: decodes_letters(tokenizer).then(letters) }
    }

    /// The bytes of an entry.
    pub(crate) fn read(&self, entry: &str) -> Vec<u8> {
        if let Some(letters) = &self.by_letters {
            let bytes: Option<Vec<u8>> = entry.chars().map(|c| letters.get(&c).copied()).collect();
            // Tokens that were added are written as they are.
            return bytes.unwrap_or_else(|| entry.as_bytes().to_vec());
        }
        let byte = entry.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        match byte.filter(|hex| hex.len() == 2).map(|hex| u8::from_str_radix(hex, 16)) {
            Some(Ok(byte)) => vec![byte],
            _ => entry.replace('▁', " ").into_bytes(),
        }
    }
}

/// GPT-2's letters: a printable byte is itself, the others follow from U+0100 on.
fn letters() -> HashMap<char, u8> {
    let is_printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut others = (0x100..).filter_map(char::from_u32);
    let letter = |byte: u8| match is_printable(byte) {
        true => Some((char::from(byte), byte)),
        false => Some((others.next()?, byte)),
    };
    (0..=255).filter_map(letter).collect()
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    #[test]
    fn every_byte_has_its_letter() {
        let letters = letters();
        assert_eq!(letters.len(), 256);
        assert!(ByteLevel::alphabet().iter().all(|letter| letters.contains_key(letter)));
        let by_letters = TokenBytes { by_letters: Some(letters) };
        assert_eq!(by_letters.read("ĠHi"), b" Hi");
        assert_eq!(by_letters.read("Ċ"), b"\n");
        assert_eq!(by_letters.read("Ã©"), "é".as_bytes());
        assert_eq!(by_letters.read("<a token>"), b"<a token>");
    }

    #[test]
    fn pieces_and_bytes_are_read() {
        let by_pieces = TokenBytes { by_letters: None };
        assert_eq!(by_pieces.read("▁Hi"), b" Hi");
        assert_eq!(by_pieces.read("<0xC3>"), [0xC3]);
        assert_eq!(by_pieces.read("<0xC3"), b"<0xC3");
        assert_eq!(by_pieces.read("é"), "é".as_bytes());
    }
}
