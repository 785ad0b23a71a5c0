//! Stop texts and characters in pieces.

use proptest::{collection::vec, prelude::*, sample::Index};
use rkllama_text::{StopStrings, Utf8Assembler};

use crate::corpus::cases;

/// A text from its bytes in pieces that end at these places.
fn assembled(bytes: &[u8], cuts: &[usize]) -> String {
    let mut utf8 = Utf8Assembler::new();
    let mut text = String::new();
    let mut from = 0;
    for to in cuts.iter().copied().chain([bytes.len()]) {
        text += &utf8.push(&bytes[from..to.max(from)]);
        from = to.max(from);
    }
    text + &utf8.finish()
}

/// What passes the stop texts, and which of them was found.
fn passed(stops: &[String], pieces: &[String]) -> (String, Option<usize>) {
    let mut stopper = StopStrings::new(stops.iter().cloned());
    let mut text = String::new();
    for piece in pieces {
        let passed = stopper.push(piece);
        text += &passed.text;
        if passed.matched.is_some() {
            return (text, passed.matched);
        }
    }
    (text + &stopper.finish(), None)
}

/// However the bytes come, the text is the same and ends before the first stop text.
fn stop_body(bytes: &[u8], cuts: &[usize], stops: &[String]) {
    let text = assembled(bytes, cuts);
    assert_eq!(text, String::from_utf8_lossy(bytes));
    let whole = passed(stops, std::slice::from_ref(&text));
    let by_chars: Vec<String> = text.chars().map(String::from).collect();
    assert_eq!(passed(stops, &by_chars), whole);
    let found = |stop: &String| whole.0.contains(stop.as_str());
    assert!(!stops.iter().any(found), "{stops:?} in {:?}", whole.0);
    assert!(text.starts_with(&whole.0));
    assert_eq!(whole.1.is_none(), whole.0 == text);
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn texts_in_pieces_end_at_the_same_place(
        // Few different bytes, so that stop texts and halves of characters are met.
        bytes in vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xC3), Just(0xA9), any::<u8>()], 0..60),
        cuts in vec(any::<Index>(), 0..6),
        stops in vec("[abé]{1,4}", 0..4),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        stop_body(&bytes, &cuts, &stops);
    }
}
