//! Prompt-cache files: the vendor's head and token ids, and a body of the right shape.
//!
//! The head is the part others read: a word that was the length of the system prompt or 0, the
//! version 8 of llama.cpp's state files, the number of tokens and their ids. The keys and values
//! that follow mean nothing outside the runtime; here they are zero and as many as the model file
//! says.

use std::path::Path;

const STATE_VERSION: u32 = 8;
const HEAD_LEN: usize = 12;
/// Length of the random generator's state as llama.cpp writes it in text form.
const GENERATOR_LEN: usize = 6671;
/// Metadata of one cell.
const CELL_LEN: usize = 12;
const FOOTER: [u8; 16] = [0x6e, 0x73, 0x65, 0x67, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What a file is made of.
pub(crate) struct Contents<'a> {
    pub(crate) system_len: u32,
    pub(crate) tokens: &'a [u32],
    /// Logits of the last position.
    pub(crate) logits: &'a [f32],
    /// Keys and values of one token.
    pub(crate) kv_bytes_per_token: usize,
}

/// Why a file cannot be loaded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CacheError {
    Absent,
    Empty,
    /// Not of this format.
    Foreign,
}

/// Writes a file.
pub(crate) fn save(path: &Path, contents: &Contents<'_>) -> std::io::Result<()> {
    let n = contents.tokens.len();
    let mut bytes = Vec::with_capacity(HEAD_LEN + 4 * n + GENERATOR_LEN);
    for word in [contents.system_len, STATE_VERSION, n as u32] {
        bytes.extend(word.to_le_bytes());
    }
    contents.tokens.iter().for_each(|token| bytes.extend(token.to_le_bytes()));
    bytes.resize(bytes.len() + GENERATOR_LEN, b'0');
    contents.logits.iter().for_each(|logit| bytes.extend(logit.to_le_bytes()));
    bytes.resize(bytes.len() + n * (CELL_LEN + contents.kv_bytes_per_token), 0);
    bytes.extend(FOOTER);
    std::fs::write(path, bytes)
}

/// Reads the head of a file: the length of the system prompt and the tokens.
pub(crate) fn load(path: &Path) -> Result<(u32, Vec<u32>), CacheError> {
    let bytes = std::fs::read(path).map_err(|_| CacheError::Absent)?;
    if bytes.is_empty() {
        return Err(CacheError::Empty);
    }
    let word = |at: usize| -> Option<u32> {
        bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_le_bytes)
    };
    let (Some(system_len), Some(STATE_VERSION), Some(n)) = (word(0), word(4), word(8)) else {
        return Err(CacheError::Foreign);
    };
    let tokens: Option<Vec<u32>> = (0..n as usize).map(|i| word(HEAD_LEN + 4 * i)).collect();
    match tokens {
        Some(tokens) if bytes.ends_with(&FOOTER) => Ok((system_len, tokens)),
        _ => Err(CacheError::Foreign),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_the_vendors() {
        let folder = std::env::temp_dir().join(format!("mock-npu-cache-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("temporary folder");
        let path = folder.join("cache.bin");
        let contents = Contents {
            system_len: 2,
            tokens: &[5, 6, 7],
            logits: &[0.5, 1.5],
            kv_bytes_per_token: 100,
        };
        save(&path, &contents).expect("written");
        let bytes = std::fs::read(&path).expect("there");
        assert_eq!(bytes[..16], [2, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(bytes.len(), 12 + 12 + 6671 + 8 + 3 * 112 + 16);
        assert_eq!(load(&path), Ok((2, vec![5, 6, 7])));
        std::fs::write(&path, &bytes[..100]).expect("written");
        assert_eq!(load(&path), Err(CacheError::Foreign), "cut off");
        assert_eq!(load(&folder.join("absent")), Err(CacheError::Absent));
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
