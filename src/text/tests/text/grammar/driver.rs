//! The engine's loop around a grammar, with an imitated model for the runtime.

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use rkllama_core::TextFiles;
use rkllama_text::{
    Codec,
    grammar::{Grammar, GrammarRun, Next, RunLimits},
};
use tokenizers::{Tokenizer, pre_tokenizers::byte_level::ByteLevel};

use super::models::Rng;
use crate::support::{real_codec, tokenizer_folder};

/// A codec and what its tokens are as bytes.
pub(crate) struct Vocabulary {
    pub(crate) codec: Arc<Codec>,
    pub(crate) tokenizer: Tokenizer,
    bytes: Vec<Vec<u8>>,
    by_bytes: HashMap<Vec<u8>, i32>,
    /// Ids that are text.
    pub(crate) ordinary: Vec<i32>,
    pub(crate) special: Vec<i32>,
}

impl Vocabulary {
    pub(crate) fn demo() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mock-npu/demo");
        let files = TextFiles {
            tokenizer: fs::read(folder.join("tokenizer.json")).unwrap(),
            tokenizer_config: Some(fs::read(folder.join("tokenizer_config.json")).unwrap()),
            ..TextFiles::default()
        };
        Self::of(Arc::new(Codec::new(&files).unwrap()), &folder.join("tokenizer.json"))
    }

    pub(crate) fn named(name: &'static str) -> Option<Self> {
        if name == "demo" {
            return Some(Self::demo());
        }
        let folder = tokenizer_folder(name)?;
        Some(Self::of(real_codec(name)?, &folder.join("tokenizer.json")))
    }

    pub(crate) fn of(codec: Arc<Codec>, file: &Path) -> Self {
        let tokenizer = Tokenizer::from_file(file).unwrap();
        let byte_level = byte_level_alphabet();
        let added = tokenizer.get_added_tokens_decoder();
        let is_spm = tokenizer.token_to_id("<0x0A>").is_some();
        let bytes: Vec<Vec<u8>> = (0..u32::try_from(tokenizer.get_vocab_size(true)).unwrap())
            .map(|id| {
                let Some(token) = tokenizer.id_to_token(id) else { return Vec::new() };
                if added.get(&id).is_some_and(|added| added.special) {
                    return Vec::new();
                }
                if added.contains_key(&id) && !is_spm {
                    return token.into_bytes();
                }
                if !is_spm {
                    return token.chars().map(|c| byte_level[&c]).collect();
                }
                let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    Some(byte) => vec![byte],
                    None => token.replace('▁', " ").into_bytes(),
                }
            })
            .collect();
        let (ordinary, special): (Vec<i32>, Vec<i32>) = (0..i32::try_from(bytes.len()).unwrap())
            .partition(|id| !bytes[usize::try_from(*id).unwrap()].is_empty());
        let by_bytes =
            ordinary.iter().map(|id| (bytes[usize::try_from(*id).unwrap()].clone(), *id)).collect();
        Self { codec, tokenizer, bytes, by_bytes, ordinary, special }
    }

    pub(crate) fn bytes(&self, id: i32) -> &[u8] {
        &self.bytes[usize::try_from(id).unwrap()]
    }

    pub(crate) fn text(&self, ids: &[i32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.bytes(*id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Tokens of a text that no tokenizer would give it.
    pub(crate) fn odd_ids(&self, text: &str, rng: &mut Rng) -> Vec<i32> {
        let mut rest = text.as_bytes();
        let mut ids = Vec::new();
        while !rest.is_empty() {
            let len = 1 + rng.below(rest.len().min(6));
            let longest =
                (1..=len).rev().find_map(|len| Some((len, self.by_bytes.get(&rest[..len])?)));
            let (len, id) = longest.unwrap();
            ids.push(*id);
            rest = &rest[len..];
        }
        ids
    }

    pub(crate) fn ids(&self, text: &str) -> Vec<i32> {
        let ids = self.tokenizer.encode_fast(text, false).unwrap();
        ids.get_ids().iter().map(|id| i32::try_from(*id).unwrap()).collect()
    }
}

fn byte_level_alphabet() -> HashMap<char, u8> {
    let mut letters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    letters.sort_unstable();
    let kept = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut moved = 256..;
    (0..=255)
        .map(|byte| match kept(byte) {
            true => (char::from(byte), byte),
            false => (char::from_u32(moved.next().unwrap()).unwrap(), byte),
        })
        .collect()
}

/// What a model says next.
pub(crate) enum Said {
    Token(i32),
    Eos,
}

/// Something that goes on an answer.
pub(crate) trait Model {
    /// A run begins on these tokens of the answer.
    fn begin(&mut self, answer: &[i32]);
    fn next(&mut self) -> Said;
}

/// What became of an answer.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) text: String,
    /// The text with the shortest completion.
    pub(crate) completed: String,
    /// It ended by itself, not at the token limit.
    pub(crate) ended: bool,
    pub(crate) restarts: u32,
    pub(crate) answer: Vec<i32>,
}

/// Does what the engine does.
pub(crate) fn drive(
    grammar: &Grammar,
    vocabulary: &Vocabulary,
    model: &mut dyn Model,
    tokens_max: usize,
) -> Outcome {
    drive_with(grammar, vocabulary, model, tokens_max, true)
}

pub(crate) fn drive_with(
    grammar: &Grammar,
    vocabulary: &Vocabulary,
    model: &mut dyn Model,
    tokens_max: usize,
    with_opening: bool,
) -> Outcome {
    let codec = Arc::clone(&vocabulary.codec);
    let mut run = GrammarRun::new(grammar, codec, RunLimits::default()).unwrap();
    let mut text = String::new();
    let mut generated = 0;
    let mut next = match with_opening {
        true => run.opening().unwrap(),
        false => Next::Continue { text: String::new() },
    };
    model.begin(&[]);
    let ended = loop {
        match next {
            Next::Continue { text: piece } => text.push_str(&piece),
            Next::Restart { text: piece, answer } => {
                text.push_str(&piece);
                assert_eq!(vocabulary.text(&answer), text, "tokens are the text");
                model.begin(&answer);
            }
            Next::Finish { text: piece } => {
                text.push_str(&piece);
                break true;
            }
        }
        if generated == tokens_max {
            break false;
        }
        next = match model.next() {
            Said::Token(id) => {
                generated += 1;
                run.token(id, vocabulary.bytes(id)).unwrap()
            }
            Said::Eos => run.end_of_sequence().unwrap(),
        };
    };
    let completion = if ended { String::new() } else { run.shortest_completion().unwrap() };
    let completed = format!("{text}{completion}");
    let answer = run.answer().to_vec();
    if ended {
        assert_eq!(vocabulary.text(&answer), text, "tokens are the text");
    }
    Outcome { text, completed, ended, restarts: run.restarts(), answer }
}
