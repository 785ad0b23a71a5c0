//! What a model thinks before it answers, told apart from the answer.

use std::{fmt, str::FromStr};

use crate::tools::UnknownFormat;

/// How a family of models marks its thoughts.
///
/// The names are those of [`fmt::Display`] and [`FromStr`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReasoningFormat {
    /// `none`: it does not think aloud.
    None,
    /// `think`: `<think>…</think>`. Qwen 3, QwQ, DeepSeek R1, GLM, MiniCPM 4.1, SmolLM3.
    Think,
    /// `mistral`: `[THINK]…[/THINK]`. Magistral.
    Mistral,
    /// `kimi`: `◁think▷…◁/think▷`.
    Kimi,
    /// `minicpm3`: `<|thought_start|>…<|thought_end|>`.
    Minicpm3,
    /// `granite`: `Here is my thought process:…Here is my response:`. Granite 3.2.
    Granite,
    /// `gemma4`: `<|channel>thought…<channel|>`.
    Gemma4,
    /// `harmony`: channels. gpt-oss.
    Harmony,
}

/// The marks around a thought.
#[derive(Debug)]
pub(crate) struct Marks {
    pub(crate) open: &'static [&'static str],
    pub(crate) close: &'static [&'static str],
    /// Whether the end's mark is text that no answer contains otherwise.
    pub(crate) unmistakable: bool,
}

impl ReasoningFormat {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::Think,
        Self::Mistral,
        Self::Kimi,
        Self::Minicpm3,
        Self::Granite,
        Self::Gemma4,
        Self::Harmony,
    ];

    /// The format's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Think => "think",
            Self::Mistral => "mistral",
            Self::Kimi => "kimi",
            Self::Minicpm3 => "minicpm3",
            Self::Granite => "granite",
            Self::Gemma4 => "gemma4",
            Self::Harmony => "harmony",
        }
    }

    /// The marks around a thought; none where thoughts are not between two marks.
    pub(crate) const fn marks(self) -> Option<&'static Marks> {
        Some(match self {
            Self::None | Self::Harmony => return None,
            Self::Think => &Marks { open: &["<think>"], close: &["</think>"], unmistakable: true },
            Self::Mistral => {
                &Marks { open: &["[THINK]"], close: &["[/THINK]"], unmistakable: true }
            }
            Self::Kimi => {
                &Marks { open: &["◁think▷"], close: &["◁/think▷"], unmistakable: true }
            }
            Self::Minicpm3 => &Marks {
                open: &["<|thought_start|>"],
                close: &["<|thought_end|>"],
                unmistakable: true,
            },
            Self::Granite => &Marks {
                open: &["Here is my thought process:", "Here's my thought process:"],
                close: &["Here is my response:", "Here's my response:"],
                unmistakable: false,
            },
            Self::Gemma4 => {
                &Marks { open: &["<|channel>thought"], close: &["<channel|>"], unmistakable: true }
            }
        })
    }

    /// Texts of the format that a tokenizer may have as special tokens.
    pub(crate) fn special_marks(self) -> Vec<&'static str> {
        match (self, self.marks()) {
            (Self::Harmony, _) => {
                vec![
                    "<|start|>",
                    "<|channel|>",
                    "<|constrain|>",
                    "<|message|>",
                    "<|end|>",
                    "<|call|>",
                ]
            }
            (Self::Gemma4, _) => vec!["<|channel>", "<channel|>"],
            (_, Some(marks)) => marks.open.iter().chain(marks.close).copied().collect(),
            (_, None) => Vec::new(),
        }
    }

    /// Whether a prompt that ends so has begun a thought, which the answer goes on with.
    pub(crate) fn is_opened_by(self, prompt: &str) -> bool {
        let end = prompt.trim_end();
        self.marks().is_some_and(|marks| marks.open.iter().any(|tag| end.ends_with(tag)))
    }

    /// Whether the beginning of an answer has begun a thought and not ended it.
    pub(crate) fn is_open_in(self, answer: &str) -> bool {
        let Some(marks) = self.marks() else { return false };
        let last = |tags: &[&str]| tags.iter().filter_map(|tag| answer.rfind(tag)).max();
        match (last(marks.open), last(marks.close)) {
            (Some(open), Some(close)) => open > close,
            (open, _) => open.is_some(),
        }
    }

    /// What ends a thought that a prompt has begun.
    pub(crate) fn ended(self) -> String {
        self.marks().map(|marks| format!("\n{}\n\n", marks.close[0])).unwrap_or_default()
    }
}

impl fmt::Display for ReasoningFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ReasoningFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let wanted = name.trim().to_lowercase().replace('-', "_");
        let named = |format: &Self| match format {
            // What others call it.
            Self::Think => ["think", "deepseek", "deepseek_r1", "qwen3"].contains(&wanted.as_str()),
            Self::Harmony => ["harmony", "gpt_oss"].contains(&wanted.as_str()),
            format => format.as_str() == wanted,
        };
        let found = Self::ALL.into_iter().find(named);
        found.ok_or_else(|| UnknownFormat::new(name, &Self::ALL))
    }
}
