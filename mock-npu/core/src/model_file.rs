//! A mock model: TOML text in a `.rkllm` file, in place of weights.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use crate::corpus::ENGLISH;
use crate::language_model::{LanguageModel, Traits};
use crate::latency::Latency;
use crate::script::{Rule, Script, one_line};
use crate::vocabulary::Vocabulary;

/// First line of every mock model.
pub const HEADER: &str = "RKLLM-MOCK 1";

/// What the file says, key by key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelFile {
    /// Version of the toolkit that is said to have made the file.
    pub(crate) toolkit_version: String,
    pub(crate) max_context_limit: u32,
    pub(crate) npu_core_num: u32,
    pub(crate) target_platform: String,
    pub(crate) model_dtype: String,
    pub(crate) architecture: String,
    /// Parameters in billions.
    pub(crate) parameters_b: f64,
    /// `tokenizer.json`, relative to this file.
    pub(crate) tokenizer: PathBuf,
    /// Entries of a row of logits, when the model has more than its tokenizer.
    pub(crate) vocab_size: Option<u32>,
    /// Width of the last hidden layer.
    #[serde(default = "embedding_len_default")]
    pub(crate) embedding_size: u32,
    /// Ids at which the answer ends.
    pub(crate) eos_ids: Vec<u32>,
    #[serde(default)]
    pub(crate) template: Template,
    #[serde(default)]
    pub(crate) vision: Option<Vision>,
    /// Answers begin with a block of thought unless the prompt has closed one.
    #[serde(default)]
    pub(crate) thinks: bool,
    /// Seed of the language model.
    #[serde(default)]
    pub(crate) seed: u64,
    /// A text to read in place of the built-in English, relative to this file.
    pub(crate) corpus: Option<PathBuf>,
    /// The vendor's hybrid and recurrent models can neither save nor load prompt caches.
    #[serde(default = "yes")]
    pub(crate) prompt_cache: bool,
    /// PROMPT text is tokenised by the caller (group F); ids come without text.
    #[serde(default)]
    pub(crate) external_tokenizer: bool,
    /// Embeddings of ids come from the caller (group F).
    #[serde(default)]
    pub(crate) external_embedding: bool,
    /// Size of keys and values in prompt-cache files.
    #[serde(default)]
    pub(crate) kv_bytes_per_token: usize,
    #[serde(default)]
    pub(crate) faults: toml::Table,
    #[serde(default)]
    pub(crate) latency: Latency,
    #[serde(default, rename = "rule")]
    pub(crate) rules: Vec<Rule>,
}

fn embedding_len_default() -> u32 {
    64
}

fn yes() -> bool {
    true
}

/// The template that the runtime puts around PROMPT text.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Template {
    #[serde(default)]
    pub(crate) system: String,
    /// What opens and closes a system text of the caller's, as tools bring one.
    #[serde(default)]
    pub(crate) system_open: String,
    #[serde(default)]
    pub(crate) system_close: String,
    #[serde(default)]
    pub(crate) prefix: String,
    #[serde(default)]
    pub(crate) postfix: String,
    /// Added when thinking is off.
    #[serde(default)]
    pub(crate) no_thinking: String,
    /// Around the result of a tool, in place of `prefix` and `postfix`.
    #[serde(default)]
    pub(crate) tool_prefix: Option<String>,
    #[serde(default)]
    pub(crate) tool_postfix: Option<String>,
}

/// Tags and width of a vision model.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vision {
    pub(crate) start: String,
    pub(crate) end: String,
    pub(crate) content: String,
    /// Floats per image token: the hidden width times the encoder's outputs.
    pub(crate) embedding_size: u32,
    /// Width and height have to be given and to agree with the number of tokens.
    #[serde(default)]
    pub(crate) mrope_patch: Option<u32>,
}

/// Why a file is no mock model.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ModelError {
    /// It cannot be opened; the text is C's.
    Open(String),
    /// It is some other file.
    Foreign,
    /// It is one of ours with a mistake in it; the text names the place.
    Broken(String),
}

impl ModelFile {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<ModelFile, ModelError> {
        let bytes = std::fs::read(path).map_err(|error| ModelError::Open(c_reason(&error)))?;
        let text = String::from_utf8(bytes).map_err(|_| ModelError::Foreign)?;
        ModelFile::parse(&text)
    }

    /// Parses a file's text.
    pub(crate) fn parse(text: &str) -> Result<ModelFile, ModelError> {
        let (first, rest) = text.split_once('\n').ok_or(ModelError::Foreign)?;
        if first.trim_end() != HEADER {
            return Err(ModelError::Foreign);
        }
        // Keeps the line numbers of messages those of the file.
        let body = format!("\n{rest}");
        toml::from_str(&body).map_err(|error| ModelError::Broken(one_line(&body, &error)))
    }
}

impl ModelFile {
    /// The script of the file itself.
    pub(crate) fn script(&self) -> Script {
        let chip = Latency::of_chip(
            &self.target_platform,
            &self.model_dtype,
            &self.architecture,
            self.parameters_b,
        );
        Script {
            faults: self.faults.clone(),
            latency: chip.overlaid(self.latency),
            rules: self.rules.clone(),
        }
    }
}

/// An error as `strerror` words it, without Rust's "(os error 2)".
fn c_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// A loaded model.
pub(crate) struct Model {
    pub(crate) file: ModelFile,
    pub(crate) vocabulary: Arc<Vocabulary>,
    pub(crate) language: Arc<LanguageModel>,
}

impl Model {
    /// Loads what the file refers to.
    pub(crate) fn load(path: &Path, file: ModelFile, seed: u64) -> Result<Model, String> {
        let beside = |name: &Path| path.parent().unwrap_or(Path::new(".")).join(name);
        let vocabulary = Vocabulary::load(&beside(&file.tokenizer))?;
        let text = match &file.corpus {
            Some(name) => std::fs::read_to_string(beside(name))
                .map_err(|error| format!("{}: {error}", name.display()))?,
            None => ENGLISH.to_owned(),
        };
        let traits = Traits {
            vocab_len: file.vocab_size.map_or(vocabulary.len(), |size| size as usize),
            end: *file.eos_ids.first().ok_or("eos_ids is empty: name at least one")?,
            thinks: file.thinks,
            seed: file.seed.wrapping_add(seed),
        };
        let language = Arc::new(LanguageModel::new(Arc::clone(&vocabulary), &text, &traits));
        Ok(Model { file, vocabulary, language })
    }
}

/// `MOCK_NPU_SEED`, 0 when unset.
pub(crate) fn seed_from_environment() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        std::env::var("MOCK_NPU_SEED").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "RKLLM-MOCK 1\ntoolkit_version = \"1.2.3\"\nmax_context_limit = 4096\n\
        npu_core_num = 3\ntarget_platform = \"RK3588\"\nmodel_dtype = \"W8A8\"\n\
        architecture = \"qwen3\"\nparameters_b = 0.6\ntokenizer = \"tokenizer.json\"\n\
        eos_ids = [2, 0]\n";

    #[test]
    fn a_whole_file_is_read() {
        let file = ModelFile::parse(GOOD).expect("valid");
        assert_eq!((file.max_context_limit, file.eos_ids.as_slice()), (4096, &[2, 0][..]));
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let text = format!("{GOOD}max_contxt = 1\n");
        let Err(ModelError::Broken(error)) = ModelFile::parse(&text) else {
            panic!("must be refused")
        };
        assert!(error.starts_with("line 11") && error.contains("max_contxt"), "{error}");
    }

    #[test]
    fn other_files_are_foreign() {
        assert_eq!(ModelFile::parse("GGUF\n").err(), Some(ModelError::Foreign));
        assert_eq!(ModelFile::parse("").err(), Some(ModelError::Foreign));
    }

    #[test]
    fn an_absent_file_has_cs_reason() {
        let error = ModelFile::read(Path::new("/nonexistent/x.rkllm")).expect_err("absent");
        assert_eq!(error, ModelError::Open("No such file or directory".to_owned()));
    }
}
