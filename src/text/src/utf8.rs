//! Bytes in, whole characters out.
//!
//! A token may hold part of a character, so the pieces a runtime hands out are bytes. Held back
//! is only what could still become a character; what can never become one turns into U+FFFD at
//! once, by the same rule as [`String::from_utf8_lossy`], so that the concatenation of everything
//! emitted does not depend on where the pieces were cut.

/// Assembles characters from pieces of UTF-8.
#[derive(Debug, Default)]
pub struct Utf8Assembler {
    /// The beginning of a character: at most three bytes between calls.
    held: Vec<u8>,
}

impl Utf8Assembler {
    /// An assembler that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes, gives the characters that are complete.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let whole_len = self.held.len() - unfinished_len(&self.held);
        let text = String::from_utf8_lossy(&self.held[..whole_len]).into_owned();
        self.held.drain(..whole_len);
        text
    }

    /// Gives what is held: nothing, or U+FFFD for a character that never became whole.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}

/// Length of the suffix that is the valid beginning of a longer character.
fn unfinished_len(bytes: &[u8]) -> usize {
    let Some(last) = bytes.utf8_chunks().last() else { return 0 };
    // Only the last chunk can be cut short by the end; whether it was is told by asking the
    // decoder about it alone: it names a length for a wrong sequence and none for an unfinished.
    match std::str::from_utf8(last.invalid()) {
        Err(err) if err.error_len().is_none() => last.invalid().len(),
        Ok(_) | Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Byte strings near the borders of UTF-8: random bytes alone hardly ever start a character.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            any::<char>().prop_map(|c| {
                let mut bytes = c.to_string().into_bytes();
                bytes.pop();
                bytes
            }),
            proptest::collection::vec(any::<u8>(), 0..3),
            proptest::sample::select(vec![0xc0, 0xe0, 0xed, 0xa0, 0xf0, 0xf4, 0x90, 0x80, 0xff])
                .prop_map(|byte| vec![byte]),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// F1.
        #[test]
        fn any_split_of_any_bytes_equals_the_lossy_decoding_of_the_whole(
            bytes in bytes(),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut assembler = Utf8Assembler::new();
            let mut text = String::new();
            for pair in cuts.windows(2) {
                text += &assembler.push(&bytes[pair[0]..pair[1]]);
                prop_assert!(assembler.held.len() < 4);
            }
            text += &assembler.finish();
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn a_split_character_waits_and_then_comes_whole() {
        let mut assembler = Utf8Assembler::new();
        assert_eq!(assembler.push(b"a\xe2\x82"), "a");
        assert_eq!(assembler.push(b"\xac!"), "€!");
        assert_eq!(assembler.finish(), "");
    }

    #[test]
    fn wrong_bytes_are_replaced_at_once_and_unfinished_ones_only_at_the_end() {
        let mut assembler = Utf8Assembler::new();
        assert_eq!(assembler.push(b"\xff"), "\u{fffd}");
        assert_eq!(assembler.push(b"\xf0\x9f\x98"), "");
        assert_eq!(assembler.finish(), "\u{fffd}");
        assert_eq!(assembler.push("é".as_bytes()), "é", "usable again after the end");
    }
}
