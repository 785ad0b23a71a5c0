//! Texts that are to be read into vectors.

use rkllama_text::Encoded;
use serde_json::json;

use crate::support::{Tiny, bytes_as_ids};

/// `<|im_end|>` is 256, `<|endoftext|>` 257.
fn tiny() -> Tiny {
    let ends = Tiny::bare().special("<|im_end|>").special("<|endoftext|>");
    ends.template("{{ messages[0].content }}").config("eos_token", json!("<|im_end|>"))
}

fn ids(tiny: &Tiny, text: &str, with_end: bool) -> Vec<i32> {
    match tiny.codec().encode_document(text, with_end, 1000).unwrap() {
        Encoded::Whole(ids) => ids,
        Encoded::TooLong { .. } => panic!("too long"),
    }
}

fn ended(text: &str, end: i32) -> Vec<i32> {
    [bytes_as_ids(text), vec![end]].concat()
}

/// As Qwen3-Embedding has it: its tokenizer puts an end behind texts that is not its `eos_token`.
#[test]
fn an_end_that_the_tokenizer_puts_there_is_the_only_one() {
    let tiny = tiny().ended_by("<|endoftext|>", 257);
    assert_eq!(ids(&tiny, "hi", true), ended("hi", 257));
    assert_eq!(ids(&tiny, "hi", false), ended("hi", 257));
}

#[test]
fn else_it_is_the_only_one_of_the_generation_config_or_the_eos_token() {
    let one = tiny().generation_config(&json!({"eos_token_id": 257}));
    assert_eq!(ids(&one, "hi", true), ended("hi", 257));
    let several = tiny().generation_config(&json!({"eos_token_id": [257, 256]}));
    assert_eq!(ids(&several, "hi", true), ended("hi", 256));
    assert_eq!(ids(&tiny(), "hi", true), ended("hi", 256));
    assert_eq!(ids(&tiny(), "hi", false), bytes_as_ids("hi"));
}

/// A text about marks is not marked by it.
#[test]
fn names_of_control_tokens_are_text() {
    let text = "a<|endoftext|>b";
    assert_eq!(ids(&tiny(), text, true), ended(text, 256));
}

#[test]
fn a_text_that_is_certainly_too_long_is_not_tokenised() {
    let codec = tiny().codec();
    let encoded = codec.encode_document(&"x".repeat(100_000), true, 10).unwrap();
    assert!(matches!(encoded, Encoded::TooLong { tokens_min } if tokens_min > 10));
}

/// Cut where it is full, with its end behind it, and not a token otherwise than in the whole.
#[test]
fn the_beginning_of_a_text_is_that_of_the_whole() {
    for tiny in [tiny(), tiny().ended_by("<|endoftext|>", 257)] {
        let codec = tiny.codec();
        for text in ["", "hi", "a<|endoftext|>b", &"é word ".repeat(300)] {
            let whole = ids(&tiny, text, true);
            let (end, text_ids) = whole.split_last().unwrap();
            for tokens_max in [1, 2, 7, 40, 2000, 100_000] {
                let cut = codec.encode_document_beginning(text, true, tokens_max).unwrap();
                let len = text_ids.len().min(tokens_max - 1);
                assert_eq!(cut, [&text_ids[..len], &[*end]].concat(), "{tokens_max}");
            }
        }
        let without = codec.encode_document_beginning("hihi", false, 3).unwrap();
        assert_eq!(without.len(), 3);
    }
}

/// Blanks may be one token or millions, which only a look can tell; it is a short one.
#[test]
fn blanks_without_end_are_too_long() {
    let codec = tiny().codec();
    let encoded = codec.encode_document(&" ".repeat(1_000_000), true, 100).unwrap();
    let looked_at = |tokens_min| tokens_min < 10_000;
    assert!(matches!(encoded, Encoded::TooLong { tokens_min } if looked_at(tokens_min)));
}
