//! Trains the demo model's tokenizer from the mock's own corpus and writes it.
//!
//! `cargo run -p mock-npu-core --example demo_tokenizer -- mock-npu/demo` writes
//! `tokenizer.json` there. The same corpus gives the same file, byte for byte; a test compares.

use std::path::PathBuf;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer, TokenizerImpl};

/// Ids 0 to 2 are what a chat stops at; the order is that of the file for ever.
const SPECIAL: [&str; 6] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
];

/// Added tokens that stay visible when special tokens are skipped.
const VISIBLE: [&str; 6] =
    ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"];

const VOCAB_LEN: usize = 2048;

/// Besides prose the model has to write JSON and to read templates.
const NOTATION: &str = "system\nuser\nassistant\ntool\n{\"name\": \"\", \"arguments\": {\"\": \"\"}}\n\
    {\"type\": \"function\", \"function\": {\"name\": \"\", \"description\": \"\", \"parameters\": \
    {\"type\": \"object\", \"properties\": {}, \"required\": []}}}\ntrue false null yes no Yes No\n\
    \n\n# Title\n\n- item\n- item\n\n\n\n0 1 2 3 4 5 6 7 8 9 10 12 15 20 24 30 42 50 60 100 \
    1000 2024 2025 2026\n";

type Error = Box<dyn std::error::Error + Send + Sync>;

fn train() -> Result<Tokenizer, Error> {
    let specials = SPECIAL.map(|text| AddedToken::from(text, true));
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(VOCAB_LEN - VISIBLE.len())
        .min_frequency(1)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(specials.to_vec())
        .build();
    let mut tokenizer: TokenizerImpl<BPE, NFC, ByteLevel, ByteLevel, ByteLevel> =
        TokenizerImpl::new(BPE::default());
    tokenizer.with_normalizer(Some(NFC))?;
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
    let text = mock_npu_core::ENGLISH.lines().filter(|line| !line.starts_with('#'));
    let text = text.map(|line| line.trim_start_matches("* ").to_owned());
    tokenizer.train(&mut trainer, text.chain(std::iter::repeat_n(NOTATION.to_owned(), 3)))?;
    let mut tokenizer = Tokenizer::from_bytes(tokenizer.to_string(false)?)?;
    tokenizer.add_tokens(VISIBLE.map(|text| AddedToken::from(text, false)))?;
    Ok(tokenizer)
}

fn main() -> Result<(), Error> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("name the folder to write to")?);
    train()?.save(folder.join("tokenizer.json"), true)
}
