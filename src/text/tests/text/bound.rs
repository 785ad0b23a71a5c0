//! What is too long is refused with little work, and what fits never.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rkllama_core::{Chat, Message, Role};
use rkllama_text::{Encoded, RenderOptions};
use rstest::rstest;
use serde_json::json;

use crate::support::{CHATML, Tiny, real_codec, user};

/// Texts whose tokens are long, are short, or become fewer bytes on the way.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(" ".to_owned()),
        Just("\n".to_owned()),
        Just("\t".to_owned()),
        Just("-".to_owned()),
        Just("=".to_owned()),
        Just("*".to_owned()),
        Just("<|im_end|>".to_owned()),
        Just("<end_of_turn>".to_owned()),
        Just("internationalization ".to_owned()),
        Just("// ---------- ".to_owned()),
        // Four bytes that a normal form could write as one, Hangul in pieces, marks to compose.
        Just("𝐀".to_owned()),
        Just("\u{1112}\u{1161}\u{11ab}".to_owned()),
        Just("a\u{302}\u{301}".to_owned()),
        Just("漢字".to_owned()),
        "[a-zA-Z0-9 ]{1,12}",
        any::<char>().prop_map(String::from),
    ];
    let run = (piece, 1..200usize).prop_map(|(piece, times)| piece.repeat(times));
    proptest::collection::vec(run, 0..8).prop_map(|runs| runs.concat())
}

#[rstest]
#[case("qwen3")]
#[case("llama3_1")]
#[case("gemma3")]
fn a_prompt_that_fits_is_never_refused(#[case] name: &'static str) {
    let Some(codec) = real_codec(name) else { return };
    proptest!(ProptestConfig::with_cases(300), |(text in texts(), tokens_max in 0..200usize)| {
        let messages = user(&text);
        let real = codec.encode_chat(&messages).unwrap();
        for tokens_max in [tokens_max, real.len().saturating_sub(1), real.len()] {
            match codec.encode_chat_within(&messages, tokens_max).unwrap() {
                Encoded::Whole(tokens) => prop_assert_eq!(&tokens, &real),
                Encoded::TooLong { tokens_min } => {
                    prop_assert!(tokens_min > tokens_max);
                    prop_assert!(tokens_min <= real.len(), "{} of {}", tokens_min, real.len());
                }
            }
        }
    });
}

#[rstest]
#[case::letters("a")]
#[case::words("word ")]
#[case::blanks(" ")]
#[case::ideographs("漢")]
#[case::control_tokens("<|im_end|><end_of_turn><|eot_id|>")]
fn thirty_megabytes_are_refused_at_once(#[case] text: &str) {
    for name in ["qwen3", "llama3_1", "gemma3"] {
        let Some(codec) = real_codec(name) else { return };
        // Between two letters, or a template that trims would be right to take it.
        let messages = user(&format!("x{}x", text.repeat(30_000_000 / text.len())));
        let start = Instant::now();
        let encoded = codec.encode_chat_within(&messages, 4064).unwrap();
        assert!(matches!(encoded, Encoded::TooLong { tokens_min: 4065.. }), "{encoded:?}");
        // To tokenize all of it takes more than a minute in a test's build.
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}

#[test]
fn more_messages_than_tokens_do_not_fit() {
    let codec = Tiny::chatml().template(CHATML).codec();
    let messages = Chat::new(vec![Message::new(Role::Assistant, ""); 101]);
    let refused = codec.encode_chat_within(&messages, 100).unwrap();
    assert_eq!(refused, Encoded::TooLong { tokens_min: 101 });
}

/// One token may stand for a word of any length there, or text may vanish.
#[rstest]
#[case::normalizer(json!({"type": "Replace", "pattern": {"Regex": "x+"}, "content": "x"}))]
#[case::stripped(json!({"type": "Sequence", "normalizers": [
    {"type": "NFC"}, {"type": "Replace", "pattern": {"String": "x"}, "content": ""},
]}))]
fn of_a_tokenizer_that_drops_text_nothing_is_assumed(#[case] normalizer: serde_json::Value) {
    let codec = Tiny::chatml().template(CHATML).normalizer(normalizer).codec();
    let messages = user(&"x".repeat(100_000));
    let real = codec.encode_chat(&messages).unwrap();
    assert!(real.len() < 100);
    assert_eq!(codec.encode_chat_within(&messages, 100).unwrap(), Encoded::Whole(real));
}

#[test]
fn what_is_only_slightly_too_long_is_counted() {
    let codec = Tiny::chatml().template(CHATML).codec();
    let messages = user(&"x".repeat(300));
    let rendered = codec.render(&messages, &RenderOptions::default()).unwrap();
    let whole = Encoded::Whole(codec.encode(&rendered).unwrap());
    assert_eq!(codec.encode_within(&rendered, 100).unwrap(), whole);
}
