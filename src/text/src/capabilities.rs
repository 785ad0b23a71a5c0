//! What a model can do, from its template and its tokens.

use std::str::FromStr;

use rkllama_core::TextFiles;

use crate::{ReasoningFormat, TextError, ToolFormat, UnknownFormat, template::ChatTemplate};

/// Where its owner may say how a model writes.
const MANIFEST: &str = "rkllama.toml";

/// Formats that somebody knows better than we can tell: a manifest's, say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Formats {
    /// How the model writes calls of tools.
    pub tools: Option<ToolFormat>,
    /// How the model marks its thoughts.
    pub reasoning: Option<ReasoningFormat>,
}

impl Formats {
    /// Those that a model's manifest names.
    pub(crate) fn named(files: &TextFiles) -> Result<Self, TextError> {
        Ok(Self {
            tools: parse("tool_format", files.tool_format.as_deref())?,
            reasoning: parse("reasoning_format", files.reasoning_format.as_deref())?,
        })
    }
}

fn parse<F: FromStr<Err = UnknownFormat>>(
    key: &str,
    name: Option<&str>,
) -> Result<Option<F>, TextError> {
    let wrong = |unknown: UnknownFormat| TextError::Key {
        file: MANIFEST,
        key: key.to_owned(),
        reason: unknown.to_string(),
    };
    name.map(|name| name.parse().map_err(wrong)).transpose()
}

/// What a model can do besides talking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether its template knows tools. If not, it is told about them in plain words, which most
    /// models understand somewhat.
    pub tools: bool,
    /// How it writes calls of tools.
    pub tool_format: ToolFormat,
    /// How it marks its thoughts.
    pub reasoning_format: ReasoningFormat,
    /// Whether a request can switch thinking on and off.
    pub thinking_switch: bool,
}

impl Capabilities {
    /// Whether the model thinks aloud.
    pub fn reasoning(&self) -> bool {
        self.reasoning_format != ReasoningFormat::None
    }

    pub(crate) fn of(
        template: &ChatTemplate,
        has_token: impl Fn(&str) -> bool,
        formats: Formats,
    ) -> Self {
        let traits = template.traits();
        let source = template.source();
        let tools = traits.tools.is_some();
        let tool_format = formats.tools.unwrap_or_else(|| match tools {
            true => tool_format(source),
            false => ToolFormat::Generic,
        });
        let reasoning_format =
            formats.reasoning.unwrap_or_else(|| reasoning_format(source, has_token));
        Self { tools, tool_format, reasoning_format, thinking_switch: traits.thinking_switch }
    }
}

/// The format whose marks the template writes or asks for; those that others contain come last.
fn tool_format(source: &str) -> ToolFormat {
    let has = |mark: &str| source.contains(mark);
    let marks: &[(ToolFormat, &[&str])] = &[
        (ToolFormat::GptOss, &["<|channel|>", "<|message|>"]),
        (ToolFormat::FunctionGemma, &["<start_function_call>"]),
        (ToolFormat::Gemma4, &["<|tool_call>", "<tool_call|>"]),
        (ToolFormat::Deepseek, &["<｜tool▁call▁begin｜>"]),
        (ToolFormat::MistralArgs, &["[TOOL_CALLS]", "[ARGS]"]),
        (ToolFormat::Mistral, &["[TOOL_CALLS]"]),
        (ToolFormat::Internlm, &["<|action_start|>"]),
        (ToolFormat::Minicpm, &["<|tool_call_start|>"]),
        (ToolFormat::Glm45, &["<arg_key>"]),
        (ToolFormat::QwenXml, &["<function=", "<parameter="]),
        (ToolFormat::Minicpm5, &["<function name=", "<param name="]),
        (ToolFormat::Functools, &["functools["]),
        (ToolFormat::Granite, &["<|tool_call|>", "<|start_of_role|>"]),
        (ToolFormat::Phi4, &["<|tool_call|>"]),
        (ToolFormat::Phi4, &["<|tool|>", "<|/tool|>"]),
        (ToolFormat::Functionary3, &[">>>"]),
        (ToolFormat::Functionary, &["<function="]),
        (ToolFormat::Hermes, &["<tool_call>"]),
        (ToolFormat::Glm4, &["<|observation|>"]),
        (ToolFormat::Pythonic, &["[func_name1("]),
        (ToolFormat::Pythonic, &["[func1("]),
        (ToolFormat::Pythonic, &["params_name1=params_value1"]),
        (ToolFormat::Xlam, &["[{\"name\": \"tool_call_name\""]),
        (ToolFormat::Xlam, &["xLAM"]),
        (ToolFormat::Llama3, &["<|python_tag|>"]),
        (ToolFormat::Llama3, &["<|start_header_id|>", "\"parameters\":"]),
        (ToolFormat::Llama3, &["<|start_header_id|>", "\\\"parameters\\\":"]),
    ];
    let found = marks.iter().find(|(_, marks)| marks.iter().all(|mark| has(mark)));
    found.map_or(ToolFormat::Generic, |(format, _)| *format)
}

fn reasoning_format(source: &str, has_token: impl Fn(&str) -> bool) -> ReasoningFormat {
    let has = |mark: &str| source.contains(mark);
    if has("<|channel|>") && has("<|message|>") {
        return ReasoningFormat::Harmony;
    }
    let formats = ReasoningFormat::ALL.into_iter();
    let mut marked = formats.filter_map(|format| Some((format, format.marks()?)));
    let found = marked.find(|(_, marks)| marks.open.iter().chain(marks.close).any(|m| has(m)));
    match found {
        Some((format, _)) => format,
        // Templates that leave all to the model: its vocabulary was made for thinking.
        None if has_token("<think>") && has_token("</think>") => ReasoningFormat::Think,
        None => ReasoningFormat::None,
    }
}
