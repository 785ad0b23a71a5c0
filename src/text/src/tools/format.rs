//! The formats in which families of models write their calls of tools: one row each.
//!
//! A row says what begins a call, what may stand behind one, and how a call is written whose
//! beginning we put into the prompt. What stands between is read by one machine for all of them
//! (`parser.rs`), because families differ in their marks and hardly in their grammar.

use std::{fmt, str::FromStr};

/// How a family of models writes its calls of tools.
///
/// The names are those of [`fmt::Display`] and [`FromStr`], which also takes names of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ToolFormat {
    /// `hermes`: `<tool_call>{"name": …, "arguments": …}</tool_call>`. Qwen 2.5 and 3, QwQ, Hermes,
    /// SmolLM3, Granite 4.
    Hermes,
    /// `qwen_xml`: `<tool_call><function=f><parameter=k>v</parameter></function></tool_call>`.
    /// Qwen3-Coder, Qwen 3.5.
    QwenXml,
    /// `llama3`: `{"name": …, "parameters": …}` as the whole answer, `<|python_tag|>` before it or
    /// not, several joined by `;`; also `<function=f>{…}</function>`.
    Llama3,
    /// `pythonic`: `[f(a=1), g(b="x")]` as the whole answer. Llama 3.2, ToolACE, Gemma 3.
    Pythonic,
    /// `mistral`: `[TOOL_CALLS][{"name": …, "arguments": …}]`. Mistral, Nemo, Ministral.
    Mistral,
    /// `mistral_args`: `[TOOL_CALLS]f[ARGS]{…}`. Mistral since 2025, Magistral.
    MistralArgs,
    /// `deepseek`: `function<｜tool▁sep｜>f` and fenced JSON between marks of their own. R1, its
    /// distillations, V3.
    Deepseek,
    /// `functiongemma`: `<start_function_call>call:f{k:<escape>v<escape>}<end_function_call>`.
    FunctionGemma,
    /// `gemma4`: `<|tool_call>call:f{k:<|"|>v<|"|>}<tool_call|>`.
    Gemma4,
    /// `phi4`: `<|tool_call|>[{"name": …, "arguments": …}]<|/tool_call|>`. Phi-4-mini.
    Phi4,
    /// `functools`: `functools[{"name": …, "arguments": …}]`. Firefunction, other templates for Phi-4-mini.
    Functools,
    /// `granite`: `<|tool_call|>[{"name": …, "arguments": …}]`. Granite 3.
    Granite,
    /// `internlm`: `<|action_start|><|plugin|>{"name": …, "parameters": …}<|action_end|>`.
    Internlm,
    /// `minicpm`: `<|tool_call_start|>`, fenced Python, `<|tool_call_end|>`. MiniCPM 3 and 4.
    Minicpm,
    /// `minicpm5`: `<function name="f"><param name="k">v</param></function>`.
    Minicpm5,
    /// `glm4`: the name on a line, JSON on the next or fenced `tool_call(k=v)`. ChatGLM3, GLM-4.
    Glm4,
    /// `glm45`: `<tool_call>f<arg_key>k</arg_key><arg_value>v</arg_value></tool_call>`. GLM-4.5 on.
    Glm45,
    /// `functionary`: `<function=f>{…}</function>`. Functionary 3.1.
    Functionary,
    /// `functionary3`: `>>>f`, a line end, JSON. Functionary 3 and 3.2.
    Functionary3,
    /// `xlam`: a bare JSON list of `{"name": …, "arguments": …}` as the whole answer.
    Xlam,
    /// `gpt_oss`: `<|channel|>commentary to=functions.f <|constrain|>json<|message|>{…}<|call|>`.
    GptOss,
    /// `generic`: for models whose template knows no tools, told by us to write as `hermes`; JSON as
    /// the whole answer, fenced or not, is read too.
    Generic,
}

/// A call as text: `open`, calls joined by `between`, `close`, where a call is `before_name`, the
/// name, `behind_name`, the arguments as a JSON object, `behind_arguments`.
///
/// It is the family's own way where that has JSON arguments. Where it has none (Python, XML) it is
/// another that the family's parser reads too, so that arguments can be held to a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallForm {
    /// Before the first call.
    pub open: &'static str,
    /// Before a call's name.
    pub before_name: &'static str,
    /// Between name and arguments.
    pub behind_name: &'static str,
    /// Behind the arguments.
    pub behind_arguments: &'static str,
    /// Between two calls.
    pub between: &'static str,
    /// Behind the last call.
    pub close: &'static str,
}

impl CallForm {
    /// The text up to where the arguments of a first call begin.
    pub fn begin(&self, name: &str) -> String {
        [self.open, self.before_name, name, self.behind_name].concat()
    }

    /// The text up to where the name of a first call begins.
    pub fn begin_any(&self) -> String {
        [self.open, self.before_name].concat()
    }

    /// What follows the arguments of the last call.
    pub fn end(&self) -> String {
        [self.behind_arguments, self.close].concat()
    }

    /// Calls as text: names with their arguments.
    pub fn write<'a>(&self, calls: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let call = |(name, arguments)| {
            [self.before_name, name, self.behind_name, arguments, self.behind_arguments].concat()
        };
        let calls: Vec<String> = calls.into_iter().map(call).collect();
        [self.open, &calls.join(self.between), self.close].concat()
    }
}

/// What is known of a format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    /// The first is the format's own, the others are other people's.
    names: &'static [&'static str],
    /// Texts that begin calls anywhere in an answer.
    pub(crate) openers: &'static [&'static str],
    /// Texts that begin calls where nothing was said before; they are a part of the call.
    pub(crate) first: &'static [&'static str],
    /// Whether a line with nothing but a tool's name begins a call where nothing was said before.
    pub(crate) name_first: bool,
    /// Texts without meaning behind a call.
    pub(crate) closers: &'static [&'static str],
    /// Whether a call may follow another without an opener.
    pub(crate) chained: bool,
    /// How text is quoted inside arguments beside JSON's way.
    pub(crate) quote: Option<&'static str>,
    /// What is written for a forced call.
    pub(crate) form: CallForm,
}

const fn object_form(
    open: &'static str,
    arguments: &'static str,
    between: &'static str,
    close: &'static str,
) -> CallForm {
    CallForm {
        open,
        before_name: r#"{"name": ""#,
        behind_name: arguments,
        behind_arguments: "}",
        between,
        close,
    }
}

const ARGUMENTS: &str = r#"", "arguments": "#;
const PARAMETERS: &str = r#"", "parameters": "#;

const TOOL_CALL: CallForm =
    object_form("<tool_call>\n", ARGUMENTS, "\n</tool_call>\n<tool_call>\n", "\n</tool_call>");

const TAGGED: Family = Family {
    names: &[],
    openers: &["<tool_call>"],
    first: &[],
    name_first: false,
    closers: &["</tool_call>"],
    chained: false,
    quote: None,
    form: TOOL_CALL,
};

const BARE: Family = Family { openers: &[], closers: &[], chained: true, ..TAGGED };

impl ToolFormat {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Hermes,
        Self::QwenXml,
        Self::Llama3,
        Self::Pythonic,
        Self::Mistral,
        Self::MistralArgs,
        Self::Deepseek,
        Self::FunctionGemma,
        Self::Gemma4,
        Self::Phi4,
        Self::Functools,
        Self::Granite,
        Self::Internlm,
        Self::Minicpm,
        Self::Minicpm5,
        Self::Glm4,
        Self::Glm45,
        Self::Functionary,
        Self::Functionary3,
        Self::Xlam,
        Self::GptOss,
        Self::Generic,
    ];

    /// The format's name.
    pub const fn as_str(self) -> &'static str {
        self.family().names[0]
    }

    /// How a call is written whose beginning stands in the prompt.
    pub const fn form(self) -> CallForm {
        self.family().form
    }

    /// Texts of the format that a tokenizer may have as special tokens.
    pub(crate) fn marks(self) -> impl Iterator<Item = &'static str> {
        let family = self.family();
        let inner: &[&str] = match self {
            Self::MistralArgs | Self::Mistral => &["[ARGS]", "[CALL_ID]"],
            Self::Deepseek => &["<｜tool▁sep｜>"],
            Self::Internlm => &["<|plugin|>"],
            _ => &[],
        };
        let tags = family.openers.iter().chain(family.closers).chain(inner);
        tags.copied().chain(family.quote)
    }

    pub(crate) const fn family(self) -> Family {
        match self {
            Self::Hermes => Family {
                names: &["hermes", "qwen", "qwen2.5", "qwen3", "qwq", "smollm3", "granite4"],
                ..TAGGED
            },
            Self::QwenXml => Family {
                names: &["qwen_xml", "qwen3_coder", "qwen3_xml", "qwen3.5"],
                openers: &["<tool_call>", "<function="],
                closers: &["</function>", "</tool_call>"],
                ..TAGGED
            },
            Self::Llama3 => Family {
                names: &["llama3", "llama3_json", "llama"],
                openers: &["<|python_tag|>", "<function="],
                first: &["{"],
                closers: &["</function>", "<|eom_id|>"],
                form: object_form("", PARAMETERS, "; ", ""),
                ..BARE
            },
            Self::Pythonic => Family {
                names: &["pythonic", "toolace", "llama3_pythonic", "gemma3"],
                first: &["[", "{"],
                form: object_form("[", ARGUMENTS, ", ", "]"),
                ..BARE
            },
            Self::Mistral => Family {
                names: &["mistral", "mistral_nemo", "nemo", "ministral"],
                openers: &["[TOOL_CALLS]"],
                closers: &[],
                form: object_form("[TOOL_CALLS][", ARGUMENTS, ", ", "]"),
                ..TAGGED
            },
            Self::MistralArgs => Family {
                names: &["mistral_args", "magistral", "devstral"],
                openers: &["[TOOL_CALLS]"],
                closers: &[],
                form: CallForm {
                    open: "",
                    before_name: "[TOOL_CALLS]",
                    behind_name: "[ARGS]",
                    behind_arguments: "",
                    between: "",
                    close: "",
                },
                ..TAGGED
            },
            Self::Deepseek => Family {
                names: &["deepseek", "deepseek_v3", "deepseek_r1"],
                openers: &["<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"],
                closers: &["<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"],
                form: CallForm {
                    open: "<｜tool▁calls▁begin｜>",
                    before_name: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
                    behind_name: "\n```json\n",
                    behind_arguments: "\n```<｜tool▁call▁end｜>",
                    between: "\n",
                    close: "<｜tool▁calls▁end｜>",
                },
                ..TAGGED
            },
            Self::FunctionGemma => Family {
                names: &["functiongemma", "function_gemma"],
                openers: &["<start_function_call>"],
                closers: &["<end_function_call>"],
                quote: Some("<escape>"),
                form: CallForm {
                    open: "",
                    before_name: "<start_function_call>call:",
                    behind_name: "",
                    behind_arguments: "<end_function_call>",
                    between: "",
                    close: "",
                },
                ..TAGGED
            },
            Self::Gemma4 => Family {
                names: &["gemma4"],
                openers: &["<|tool_call>"],
                closers: &["<tool_call|>"],
                quote: Some("<|\"|>"),
                form: CallForm {
                    open: "",
                    before_name: "<|tool_call>call:",
                    behind_name: "",
                    behind_arguments: "<tool_call|>",
                    between: "",
                    close: "",
                },
                ..TAGGED
            },
            Self::Phi4 => Family {
                names: &["phi4", "phi4_mini"],
                openers: &["<|tool_call|>", "functools"],
                closers: &["<|/tool_call|>"],
                form: object_form("<|tool_call|>[", ARGUMENTS, ", ", "]<|/tool_call|>"),
                ..TAGGED
            },
            Self::Functools => Family {
                names: &["functools", "firefunction", "phi4_mini_json"],
                openers: &["functools", "<functioncall>"],
                closers: &[],
                form: object_form("functools[", ARGUMENTS, ", ", "]"),
                ..TAGGED
            },
            Self::Granite => Family {
                names: &["granite", "granite3"],
                openers: &["<|tool_call|>", "<tool_call>"],
                form: object_form("<|tool_call|>[", ARGUMENTS, ", ", "]"),
                ..TAGGED
            },
            Self::Internlm => Family {
                names: &["internlm", "internlm2", "internlm3"],
                openers: &["<|action_start|>"],
                closers: &["<|action_end|>"],
                form: CallForm {
                    open: "",
                    before_name: "<|action_start|><|plugin|>\n{\"name\": \"",
                    behind_name: PARAMETERS,
                    behind_arguments: "}<|action_end|>",
                    between: "\n",
                    close: "",
                },
                ..TAGGED
            },
            Self::Minicpm => Family {
                names: &["minicpm", "minicpm3", "minicpm4"],
                openers: &["<|tool_call_start|>"],
                closers: &["<|tool_call_end|>"],
                chained: true,
                form: object_form("<|tool_call_start|>\n", ARGUMENTS, "\n", "\n<|tool_call_end|>"),
                ..TAGGED
            },
            Self::Minicpm5 => Family {
                names: &["minicpm5"],
                openers: &["<function name=\""],
                closers: &["</function>"],
                form: CallForm {
                    open: "",
                    before_name: "<function name=\"",
                    behind_name: "\">",
                    behind_arguments: "</function>",
                    between: "\n",
                    close: "",
                },
                ..TAGGED
            },
            Self::Glm4 => Family {
                names: &["glm4", "chatglm3", "chatglm"],
                name_first: true,
                form: CallForm {
                    open: "",
                    before_name: "",
                    behind_name: "\n",
                    behind_arguments: "",
                    between: "\n",
                    close: "",
                },
                ..BARE
            },
            Self::Glm45 => Family { names: &["glm45", "glm4.5", "glm4_moe"], ..TAGGED },
            Self::Functionary => Family {
                names: &["functionary", "functionary_v3.1"],
                openers: &["<function="],
                closers: &["</function>"],
                form: CallForm {
                    open: "",
                    before_name: "<function=",
                    behind_name: ">",
                    behind_arguments: "</function>",
                    between: "",
                    close: "",
                },
                ..TAGGED
            },
            Self::Functionary3 => Family {
                names: &["functionary3", "functionary_v3", "functionary_v3.2"],
                openers: &[">>>"],
                name_first: true,
                closers: &[],
                form: CallForm {
                    open: "",
                    before_name: "",
                    behind_name: "\n",
                    behind_arguments: "",
                    between: ">>>",
                    close: "",
                },
                ..TAGGED
            },
            Self::Xlam => Family {
                names: &["xlam"],
                openers: &["<tool_call>"],
                first: &["[", "{", "```json"],
                closers: &["</tool_call>"],
                form: object_form("[", ARGUMENTS, ", ", "]"),
                ..BARE
            },
            Self::GptOss => Family {
                names: &["gpt_oss", "gpt-oss", "harmony"],
                openers: &["<|channel|>commentary to=functions."],
                closers: &["<|call|>", "<|start|>assistant"],
                form: CallForm {
                    open: "",
                    before_name: "<|channel|>commentary to=functions.",
                    behind_name: " <|constrain|>json<|message|>",
                    behind_arguments: "<|call|>",
                    between: "<|start|>assistant",
                    close: "",
                },
                ..TAGGED
            },
            Self::Generic => Family {
                names: &["generic", "json"],
                first: &["{", "[", "```json"],
                chained: true,
                ..TAGGED
            },
        }
    }
}

impl fmt::Display for ToolFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that stands for no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format '{name}': use one of {known}")]
pub struct UnknownFormat {
    /// What was asked for.
    pub name: String,
    /// The names there are.
    pub known: String,
}

impl UnknownFormat {
    pub(crate) fn new<T: fmt::Display>(name: &str, known: &[T]) -> Self {
        let known: Vec<String> = known.iter().map(T::to_string).collect();
        Self { name: name.to_owned(), known: known.join(", ") }
    }
}

impl FromStr for ToolFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let wanted = name.trim().to_lowercase().replace('-', "_");
        let is = |known: &&str| known.replace('-', "_") == wanted;
        let found = Self::ALL.into_iter().find(|format| format.family().names.iter().any(is));
        found.ok_or_else(|| UnknownFormat::new(name, &Self::ALL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_for_one_format() {
        let mut names = Vec::new();
        for format in ToolFormat::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
            for name in format.family().names {
                assert_eq!(name.parse(), Ok(format));
                names.push(*name);
            }
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn an_unknown_name_is_told_the_known_ones() {
        let err = "Hermés".parse::<ToolFormat>().unwrap_err().to_string();
        assert!(err.contains("'Hermés'") && err.contains("hermes, qwen_xml"), "{err}");
    }
}
