//! Bytes of tokens to text for callbacks: whole characters only.

/// Holds back the bytes of an unfinished character.
#[derive(Default)]
pub(crate) struct TextPieces {
    held: Vec<u8>,
}

impl TextPieces {
    /// The text that is complete now; `None` inside a character.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.held.extend_from_slice(bytes);
        match self.held.utf8_chunks().last() {
            // Cut off in the middle: at most three bytes that may yet become a character.
            Some(last) if self.is_beginning(last.invalid()) => {
                let complete = self.held.len() - last.invalid().len();
                // The whole character comes in one piece with what stands before it.
                (complete > 0).then(|| self.held.drain(..complete).collect())
            }
            _ => Some(std::mem::take(&mut self.held)),
        }
    }

    fn is_beginning(&self, invalid: &[u8]) -> bool {
        let expected = match invalid.first() {
            Some(0xc2..=0xdf) => 2,
            Some(0xe0..=0xef) => 3,
            Some(0xf0..=0xf4) => 4,
            _ => return false,
        };
        self.held.ends_with(invalid) && invalid.len() < expected
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_cut_gives_whole_characters_and_nothing_is_lost(
            text in ".{0,40}",
            cuts in prop::collection::vec(1usize..6, 60),
        ) {
            let mut pieces = TextPieces::default();
            let mut joined = String::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (piece, left) = rest.split_at(cut.min(rest.len()));
                rest = left;
                if let Some(bytes) = pieces.push(piece) {
                    joined.push_str(std::str::from_utf8(&bytes).expect("whole characters"));
                }
            }
            prop_assert!(text.starts_with(&joined));
            prop_assert!(!rest.is_empty() || joined == text, "{joined:?} of {text:?}");
        }
    }

    #[test]
    fn a_character_comes_whole() {
        let mut pieces = TextPieces::default();
        let bytes = "é😀!".as_bytes();
        let out: Vec<Option<Vec<u8>>> = bytes.iter().map(|byte| pieces.push(&[*byte])).collect();
        let text: Vec<Option<String>> =
            out.into_iter().map(|o| o.map(|b| String::from_utf8(b).expect("whole"))).collect();
        let expected = [None, Some("é"), None, None, None, Some("😀"), Some("!")];
        assert_eq!(text, expected.map(|text| text.map(str::to_owned)));
    }

    #[test]
    fn bytes_that_never_become_a_character_are_let_go() {
        let mut pieces = TextPieces::default();
        assert_eq!(pieces.push(&[0xff]), Some(vec![0xff]));
        assert_eq!(pieces.push(&[0xc3]), None);
        assert_eq!(pieces.push(b"a"), Some(vec![0xc3, b'a']));
    }
}
