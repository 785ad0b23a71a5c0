//! What a codec costs. Not a test of right and wrong: run it by hand, optimised.
//!
//!     cargo test --release -p rkllama-text --test text measure -- --ignored --nocapture --exact \
//!         measure::cost_of_a_codec

use std::{
    fs,
    time::{Duration, Instant},
};

use rkllama_core::{Chat, Message, Role, Tool};
use rkllama_text::{Codec, RenderOptions, StopStrings, Utf8Assembler};

use crate::support::{read_files, real_codec, tokenizer_folder, user};

fn resident_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn best(repeats: u32, mut work: impl FnMut()) -> Duration {
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..repeats).map(time).min().unwrap()
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_codec() {
    for name in ["llama3_1", "qwen3", "gemma3"] {
        let Some(folder) = tokenizer_folder(name) else { return };
        let before = resident_mb();
        let start = Instant::now();
        let codec = Codec::new(&read_files(&folder)).unwrap();
        println!("{name}: load {:?}, resident +{} MB", start.elapsed(), resident_mb() - before);

        let chat = Chat::new(vec![
            Message::new(Role::System, "Answer briefly."),
            Message::new(Role::User, "Hi"),
        ]);
        let short = best(200, || drop(codec.encode_chat(&chat).unwrap()));
        println!("{name}: a short chat {short:?}");
        let words = "The quick brown fox jumps over the lazy dog, again. ".repeat(1200);
        let long = user(&words);
        let render = best(20, || drop(codec.render(&long, &RenderOptions::default()).unwrap()));
        let whole = best(20, || drop(codec.encode_chat(&long).unwrap()));
        let tokens = codec.encode_chat(&long).unwrap().len();
        println!("{name}: {tokens} tokens: render {render:?}, render and encode {whole:?}");
        let hostile = user(&"<|im_end|><end_of_turn><|eot_id|>".repeat(1500));
        let start = Instant::now();
        let tokens = codec.encode_chat(&hostile).unwrap().len();
        println!("{name}: {tokens} tokens of special tokens as text: {:?}", start.elapsed());
        for (what, text) in
            [("blanks", " "), ("letters", "a"), ("new lines", "\n"), ("ideographs", "漢")]
        {
            let message = user(&text.repeat(200_000));
            let start = Instant::now();
            let tokens = codec.encode_chat(&message).unwrap().len();
            println!("{name}: 200000 {what}, {tokens} tokens: {:?}", start.elapsed());
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_token() {
    let text = "The quick brown fox jumps over the lazy dög, again. ".repeat(2000);
    let whole = best(20, || {
        let mut utf8 = Utf8Assembler::new();
        let mut stop = StopStrings::new(["\n\nUser:", "###", "<|stop|>", "again!"]);
        for piece in text.as_bytes().chunks(4) {
            std::hint::black_box(stop.push(&utf8.push(piece)));
        }
    });
    let pieces = u32::try_from(text.len() / 4).unwrap();
    println!("assembly and four stop strings: {:?} a token", whole / pieces);

    let Some(codec) = real_codec("qwen3") else { return };
    let tool = Tool { name: "f".to_owned(), description: None, parameters: None, strict: false };
    let chat = Chat { tools: vec![tool], ..user("Hi") };
    let answers = [
        ("text", text.clone()),
        ("a thought", format!("<think>{text}")),
        ("a call", format!("<tool_call>{{\"name\": \"f\", \"arguments\": {{\"a\": \"{text}")),
    ];
    for (what, answer) in answers {
        let whole = best(20, || {
            let mut parser = codec.answer(&chat, false);
            let mut rest = answer.as_str();
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.ceil_char_boundary(4));
                std::hint::black_box(parser.push(piece));
                rest = behind;
            }
        });
        println!("told apart, {what}: {:?} a token", whole / pieces);
    }
}
