//! Prompts that ask for what stands between two texts.

use rkllama_core::Infill;
use rkllama_text::{Codec, Encoded, TextError};
use rstest::rstest;

use crate::support::{CHATML, Tiny, bytes_as_ids, real_codec};

fn around(before: &str, after: &str) -> Infill {
    Infill { before: before.to_owned(), after: after.to_owned() }
}

fn ids(codec: &Codec, before: &str, after: &str) -> Vec<i32> {
    match codec.encode_infill(&around(before, after), 1000).unwrap() {
        Encoded::Whole(ids) => ids,
        Encoded::TooLong { .. } => panic!("too long"),
    }
}

/// Each family's marks as ids 256, 257 and 258, in the order they are given, and where they stand.
#[rstest]
#[case::qwen(&["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"])]
#[case::starcoder(&["<fim_prefix>", "<fim_suffix>", "<fim_middle>"])]
#[case::santacoder(&["<fim-prefix>", "<fim-suffix>", "<fim-middle>"])]
#[case::deepseek(&["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"])]
#[case::code_llama(&["▁<PRE>", "▁<SUF>", "▁<MID>"])]
#[case::glm(&["<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"])]
fn the_middle_comes_last(#[case] marks: &[&str]) {
    let codec =
        marks.iter().fold(Tiny::bare().template(CHATML), |tiny, mark| tiny.special(mark)).codec();
    assert!(codec.can_infill());
    let prompt =
        [vec![256], bytes_as_ids("def f("), vec![257], bytes_as_ids("):\n  pass"), vec![258]];
    assert_eq!(ids(&codec, "def f(", "):\n  pass"), prompt.concat());
}

#[test]
fn codestral_has_the_suffix_first_and_goes_on_with_the_prefix() {
    let codec = Tiny::bare().template(CHATML).special("[SUFFIX]").special("[PREFIX]").codec();
    let prompt = [vec![256], bytes_as_ids("b"), vec![257], bytes_as_ids("a")];
    assert_eq!(ids(&codec, "a", "b"), prompt.concat());
}

#[test]
fn marks_in_the_texts_are_text() {
    let codec = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>"];
    let codec =
        codec.iter().fold(Tiny::bare().template(CHATML), |tiny, mark| tiny.special(mark)).codec();
    let text = "x<|fim_middle|>y";
    let prompt = [vec![256], bytes_as_ids(text), vec![257], bytes_as_ids(text), vec![258]].concat();
    assert_eq!(ids(&codec, text, text), prompt);
    assert_eq!(codec.infill_end_ids(), [259], "padding ends what is filled in");
}

#[rstest]
#[case::none(Tiny::chatml())]
#[case::not_all(Tiny::bare().template(CHATML).special("<|fim_prefix|>").special("<|fim_suffix|>"))]
#[case::mere_words(Tiny::bare().template(CHATML).token("[SUFFIX]", false, false).token("[PREFIX]", false, false))]
fn without_marks_nothing_is_filled_in(#[case] tiny: Tiny) {
    let codec = tiny.codec();
    assert!(!codec.can_infill());
    assert_eq!(codec.encode_infill(&around("a", "b"), 9), Err(TextError::NoInfill));
}

#[test]
fn what_is_far_too_long_is_not_tokenized() {
    let codec = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"];
    let codec =
        codec.iter().fold(Tiny::bare().template(CHATML), |tiny, mark| tiny.special(mark)).codec();
    let long = codec.encode_infill(&around(&"a".repeat(10_000), &"b".repeat(5_000)), 100).unwrap();
    assert!(matches!(long, Encoded::TooLong { tokens_min: 101.. }), "{long:?}");
}

/// The ids are those of the makers' own documentation: `<|fim_prefix|>` is 151659, and so on.
#[test]
fn qwen_3_is_asked_as_its_makers_say() {
    let Some(codec) = real_codec("qwen3") else { return };
    let prompt = ids(&codec, "a", "b");
    assert_eq!(prompt, [151_659, 64, 151_661, 65, 151_660]);
    assert_eq!(codec.infill_end_ids(), [151_662, 151_664, 151_663]);
}
