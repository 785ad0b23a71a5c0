//! Tokenizers to test with: one of a token per byte, built here, and the real ones that
//! `ci/tokenizers` fetches.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex},
};

use rkllama_core::{Chat, Message, Role, TextFiles};
use rkllama_text::Codec;
use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

pub(crate) const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
                          {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A tokenizer whose ordinary tokens are single bytes, so that ids are easily told; added tokens
/// follow from id 256.
pub(crate) struct Tiny {
    added: Vec<Value>,
    config: Value,
    normalizer: Value,
    post_processor: Option<Value>,
    pub(crate) files: TextFiles,
}

impl Tiny {
    /// With `<|im_start|>` (256), `<|im_end|>` (257) and `<think>` (258, not special).
    pub(crate) fn chatml() -> Self {
        Self::bare().special("<|im_start|>").special("<|im_end|>").token("<think>", false, false)
    }

    pub(crate) fn bare() -> Self {
        Self {
            added: Vec::new(),
            config: json!({}),
            normalizer: Value::Null,
            post_processor: None,
            files: TextFiles::default(),
        }
    }

    pub(crate) fn special(self, content: &str) -> Self {
        self.token(content, true, false)
    }

    pub(crate) fn token(mut self, content: &str, special: bool, normalized: bool) -> Self {
        let id = 256 + self.added.len();
        self.added.push(json!({
            "id": id, "content": content, "special": special, "normalized": normalized,
            "single_word": false, "lstrip": false, "rstrip": false,
        }));
        self
    }

    pub(crate) fn normalizer(mut self, normalizer: Value) -> Self {
        self.normalizer = normalizer;
        self
    }

    /// Puts this token behind every text.
    pub(crate) fn ended_by(mut self, token: &str, id: u32) -> Self {
        self.post_processor = Some(json!({
            "type": "TemplateProcessing", "pair": [],
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": token, "type_id": 0}}],
            "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
        }));
        self
    }

    pub(crate) fn template(self, template: &str) -> Self {
        self.config("chat_template", json!(template))
    }

    pub(crate) fn config(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    pub(crate) fn generation_config(mut self, config: &Value) -> Self {
        self.files.generation_config = Some(config.to_string().into_bytes());
        self
    }

    pub(crate) fn files(&self) -> TextFiles {
        let mut letters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        letters.sort_unstable();
        let vocab: serde_json::Map<String, Value> =
            letters.iter().enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true,
        });
        let tokenizer = json!({
            "version": "1.0",
            // Left over from training, and not to be obeyed.
            "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
            "padding": null,
            "added_tokens": self.added,
            "normalizer": self.normalizer,
            "pre_tokenizer": byte_level, "decoder": byte_level,
            "post_processor": self.post_processor.as_ref().unwrap_or(&byte_level),
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        });
        TextFiles {
            tokenizer: tokenizer.to_string().into_bytes(),
            tokenizer_config: Some(self.config.to_string().into_bytes()),
            ..self.files.clone()
        }
    }

    pub(crate) fn codec(&self) -> Codec {
        Codec::new(&self.files()).unwrap()
    }
}

/// What a text is to [`Tiny`] when nothing in it is a special token: one id per byte.
pub(crate) fn bytes_as_ids(text: &str) -> Vec<i32> {
    static IDS: LazyLock<Vec<i32>> = LazyLock::new(|| {
        let mut letters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        letters.sort_unstable();
        (0..=255)
            .map(|byte| {
                // The byte-level alphabet: printable bytes are themselves, the others move up.
                let kept = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
                let moved = (0..byte).filter(|b| !kept(*b)).count();
                let letter = match kept(byte) {
                    true => char::from(byte),
                    false => char::from_u32(256 + u32::try_from(moved).unwrap()).unwrap(),
                };
                i32::try_from(letters.iter().position(|l| *l == letter).unwrap()).unwrap()
            })
            .collect()
    });
    text.bytes().map(|byte| IDS[usize::from(byte)]).collect()
}

pub(crate) fn user(content: &str) -> Chat {
    Chat::new(vec![Message::new(Role::User, content)])
}

/// A real tokenizer's folder; `None`, visibly, where it was not fetched, which CI does not forgive.
pub(crate) fn tokenizer_folder(name: &str) -> Option<PathBuf> {
    let beside_tests = || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tokenizers");
    let root = env::var_os("TOKENIZERS_DIR").map_or_else(beside_tests, PathBuf::from);
    let folder = root.join(name);
    if folder.join("tokenizer.json").is_file() {
        return Some(folder);
    }
    let missing = format!("{} is missing: run `ci/tokenizers`", folder.display());
    assert!(!env::var("CI").is_ok_and(|ci| ci == "true"), "{missing}");
    eprintln!("skipped: {missing}");
    None
}

pub(crate) fn read_files(folder: &Path) -> TextFiles {
    TextFiles {
        tokenizer: fs::read(folder.join("tokenizer.json")).unwrap(),
        tokenizer_config: Some(fs::read(folder.join("tokenizer_config.json")).unwrap()),
        generation_config: None,
        ..TextFiles::default()
    }
}

/// A real tokenizer's codec, parsed once for all tests of a process.
pub(crate) fn real_codec(name: &'static str) -> Option<Arc<Codec>> {
    static CODECS: Mutex<Vec<(&str, Arc<Codec>)>> = Mutex::new(Vec::new());
    let folder = tokenizer_folder(name)?;
    let mut codecs = CODECS.lock().unwrap();
    if let Some((_, codec)) = codecs.iter().find(|(known, _)| *known == name) {
        return Some(Arc::clone(codec));
    }
    let codec = Arc::new(Codec::new(&read_files(&folder)).unwrap());
    codecs.push((name, Arc::clone(&codec)));
    Some(codec)
}
