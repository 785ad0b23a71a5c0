//! Filling in: how families of models are asked for what stands between two texts.

use tokenizers::Tokenizer;

use crate::guard::is_control;

/// The marks of a family, all control tokens of its vocabulary.
struct Family {
    prefix: &'static str,
    suffix: &'static str,
    /// Where the model begins to write; none where it writes behind the prefix.
    middle: Option<&'static str>,
    /// What such models write when they have filled in and would begin another file.
    ends: &'static [&'static str],
}

const FAMILIES: &[Family] = &[
    // Qwen 2.5 Coder, Qwen 3, CodeGemma, Granite 3.3 and 4.
    Family {
        prefix: "<|fim_prefix|>",
        suffix: "<|fim_suffix|>",
        middle: Some("<|fim_middle|>"),
        ends: &["<|fim_pad|>", "<|file_sep|>", "<|file_separator|>", "<|repo_name|>"],
    },
    // StarCoder and StarCoder 2, Granite Code, Refact.
    Family {
        prefix: "<fim_prefix>",
        suffix: "<fim_suffix>",
        middle: Some("<fim_middle>"),
        ends: &["<fim_pad>", "<file_sep>", "<filename>", "<reponame>", "<repo_name>"],
    },
    // SantaCoder, and Granite 4's small ones.
    Family {
        prefix: "<fim-prefix>",
        suffix: "<fim-suffix>",
        middle: Some("<fim-middle>"),
        ends: &["<fim-pad>"],
    },
    // DeepSeek Coder: the suffix stands behind the hole.
    Family {
        prefix: "<｜fim▁begin｜>",
        suffix: "<｜fim▁hole｜>",
        middle: Some("<｜fim▁end｜>"),
        ends: &[],
    },
    // Code Llama, as its tokenizer has the names.
    Family {
        prefix: "▁<PRE>", suffix: "▁<SUF>", middle: Some("▁<MID>"), ends: &["▁<EOT>"]
    },
    // GLM 4.
    Family {
        prefix: "<|code_prefix|>",
        suffix: "<|code_suffix|>",
        middle: Some("<|code_middle|>"),
        ends: &[],
    },
    // Codestral: the suffix comes first.
    Family { prefix: "[PREFIX]", suffix: "[SUFFIX]", middle: None, ends: &[] },
];

/// A model's own marks.
#[derive(Debug, Clone)]
pub(crate) struct InfillMarks {
    prefix: i32,
    suffix: i32,
    middle: Option<i32>,
    /// The tokens that end what is filled in, besides the model's ends of sequence.
    pub(crate) end_ids: Vec<i32>,
}

impl InfillMarks {
    /// Those of the first family whose marks are all control tokens here.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let added = tokenizer.get_added_tokens_decoder();
        let id = |name: &str| {
            let mut control = added.iter().filter(|(_, token)| is_control(token));
            let (id, _) = control.find(|(_, token)| token.content == name)?;
            i32::try_from(*id).ok()
        };
        FAMILIES.iter().find_map(|family| {
            let middle = match family.middle {
                Some(name) => Some(id(name)?),
                None => None,
            };
            Some(Self {
                prefix: id(family.prefix)?,
                suffix: id(family.suffix)?,
                middle,
                end_ids: family.ends.iter().filter_map(|name| id(name)).collect(),
            })
        })
    }

    /// The prompt: what the tokenizer begins texts with, and both texts between the marks.
    pub(crate) fn prompt(&self, begin: &[i32], before: &[i32], after: &[i32]) -> Vec<i32> {
        let (prefix, suffix) = ([self.prefix], [self.suffix]);
        match self.middle {
            Some(middle) => [begin, &prefix, before, &suffix, after, &[middle]].concat(),
            None => [begin, &suffix, after, &prefix, before].concat(),
        }
    }
}
