//! Makes models: the demo's tokenizer, and model files around anybody's tokenizer.

use std::path::{Path, PathBuf};

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer, TokenizerImpl};

use crate::ENGLISH;
use crate::model_file::{HEADER, ModelFile};

/// An error for whoever called the generator.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Ids 0 and 2 are what a chat stops at; the order is that of the file for ever.
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

/// At most: the corpus runs out of pairs to merge before that.
const VOCAB_LEN: usize = 2048;

/// Besides prose the model has to write JSON and to read templates.
const NOTATION: &str = "system\nuser\nassistant\ntool\n{\"name\": \"\", \"arguments\": {\"\": \"\"}}\n\
    {\"type\": \"function\", \"function\": {\"name\": \"\", \"description\": \"\", \"parameters\": \
    {\"type\": \"object\", \"properties\": {}, \"required\": []}}}\ntrue false null yes no Yes No\n\
    yes\nno\nYes\nNo\n\n\n# Title\n\n- item\n- item\n\n\n\n0 1 2 3 4 5 6 7 8 9 10 12 15 20 24 30 42 \
    50 60 100 1000 2024 2025 2026\n";

/// The demo's `tokenizer.json`, trained from the mock's own corpus: the same text every time.
///
/// # Errors
/// Those of the training.
pub fn demo_tokenizer() -> Result<String, Error> {
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
    let text = ENGLISH.lines().filter(|line| !line.starts_with('#'));
    let text = text.map(|line| line.trim_start_matches("* ").to_owned());
    tokenizer.train(&mut trainer, text.chain(std::iter::repeat_n(NOTATION.to_owned(), 3)))?;
    let mut tokenizer = Tokenizer::from_bytes(tokenizer.to_string(false)?)?;
    tokenizer.add_tokens(VISIBLE.map(|text| AddedToken::from(text, false)))?;
    tokenizer.to_string(true)
}

/// What a new model file says; everything but the tokenizer has a default.
#[derive(Clone, Debug)]
pub struct NewModel {
    /// `tokenizer.json`, as the file will name it.
    pub tokenizer: PathBuf,
    /// Version of the toolkit.
    pub toolkit: String,
    /// Chip.
    pub platform: String,
    /// Data type.
    pub dtype: String,
    /// Architecture.
    pub architecture: String,
    /// Parameters in billions.
    pub parameters_b: f64,
    /// Largest context in tokens.
    pub context: u32,
    /// Ids at which answers end; found in the tokenizer when empty.
    pub eos_ids: Vec<u32>,
}

impl NewModel {
    /// A model around a tokenizer.
    #[must_use]
    pub fn around(tokenizer: &Path) -> NewModel {
        NewModel {
            tokenizer: tokenizer.to_owned(),
            toolkit: "1.3.0".to_owned(),
            platform: "RK3588".to_owned(),
            dtype: "W8A8".to_owned(),
            architecture: "qwen3".to_owned(),
            parameters_b: 0.6,
            context: 16384,
            eos_ids: Vec::new(),
        }
    }

    /// The text of the `.rkllm` file to be written into `folder`.
    ///
    /// # Errors
    /// When the tokenizer cannot be read or has no known end-of-sequence token.
    pub fn text(&self, folder: &Path) -> Result<String, Error> {
        let tokenizer = Tokenizer::from_file(folder.join(&self.tokenizer))?;
        let family = Family::of(&tokenizer);
        let eos_ids =
            if self.eos_ids.is_empty() { end_ids(&tokenizer) } else { self.eos_ids.clone() };
        if eos_ids.is_empty() {
            return Err("no known end-of-sequence token in the tokenizer: name the ids".into());
        }
        let text = format!(
            "{HEADER}\ntoolkit_version = {:?}\nmax_context_limit = {}\nnpu_core_num = {}\n\
             target_platform = {:?}\nmodel_dtype = {:?}\narchitecture = {:?}\nparameters_b = {:?}\n\
             tokenizer = {:?}\neos_ids = {eos_ids:?}\n\n{}",
            self.toolkit,
            self.context,
            if self.platform == "RK3588" { 3 } else { 2 },
            self.platform,
            self.dtype,
            self.architecture,
            self.parameters_b,
            self.tokenizer.display().to_string(),
            family.template()
        );
        ModelFile::parse(&text).map_err(|error| format!("{error:?}"))?;
        Ok(text)
    }
}

/// Ends of a turn, and ends of a text: of each the first that the tokenizer has.
const ENDS: [&[&str]; 2] = [
    &["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>"],
    &["<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>"],
];

fn end_ids(tokenizer: &Tokenizer) -> Vec<u32> {
    let first = |texts: &&[&str]| texts.iter().find_map(|text| tokenizer.token_to_id(text));
    ENDS.iter().filter_map(first).collect()
}

/// How a family of models marks its turns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    ChatMl,
    Llama3,
    Gemma,
    Plain,
}

impl Family {
    fn of(tokenizer: &Tokenizer) -> Family {
        let has = |text: &str| tokenizer.token_to_id(text).is_some();
        match () {
            () if has("<|im_start|>") => Family::ChatMl,
            () if has("<|start_header_id|>") => Family::Llama3,
            () if has("<start_of_turn>") => Family::Gemma,
            () => Family::Plain,
        }
    }

    fn template(self) -> &'static str {
        match self {
            Family::ChatMl => {
                "[template]\nsystem = \"<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n\"\n\
                 system_open = \"<|im_start|>system\\n\"\nsystem_close = \"<|im_end|>\\n\"\n\
                 prefix = \"<|im_start|>user\\n\"\n\
                 postfix = \"<|im_end|>\\n<|im_start|>assistant\\n\"\n\
                 no_thinking = \"<think>\\n\\n</think>\\n\\n\"\n"
            }
            Family::Llama3 => {
                "[template]\nsystem = \"<|begin_of_text|>\"\n\
                 system_open = \"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\\n\\n\"\n\
                 system_close = \"<|eot_id|>\"\n\
                 prefix = \"<|start_header_id|>user<|end_header_id|>\\n\\n\"\n\
                 postfix = \"<|eot_id|><|start_header_id|>assistant<|end_header_id|>\\n\\n\"\n"
            }
            Family::Gemma => {
                "[template]\nsystem = \"<bos>\"\nprefix = \"<start_of_turn>user\\n\"\n\
                 postfix = \"<end_of_turn>\\n<start_of_turn>model\\n\"\n"
            }
            Family::Plain => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo")
    }

    #[test]
    fn the_demos_tokenizer_is_what_the_generator_makes() {
        let made = demo_tokenizer().expect("trained");
        let kept = std::fs::read_to_string(demo().join("tokenizer.json")).expect("there");
        assert!(made == kept, "run: cargo run -p mock-npu-core -- demo-tokenizer mock-npu/demo");
    }

    #[test]
    fn the_demo_is_a_model_file_and_its_ids_are_its_tokenizers() {
        let file = ModelFile::read(&demo().join("demo.rkllm")).expect("a model file");
        let tokenizer = Tokenizer::from_file(demo().join("tokenizer.json")).expect("a tokenizer");
        assert_eq!(file.eos_ids, end_ids(&tokenizer));
        let config = std::fs::read_to_string(demo().join("generation_config.json")).expect("there");
        let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
        assert_eq!(config["eos_token_id"], serde_json::json!(file.eos_ids));
    }

    #[test]
    fn a_new_model_knows_its_family() {
        let text = NewModel::around(Path::new("tokenizer.json")).text(&demo()).expect("made");
        assert!(text.contains("eos_ids = [2, 0]") && text.contains("<|im_start|>user"), "{text}");
    }
}
