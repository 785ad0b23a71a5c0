//! Scripts: what the model says to whom, for tests that must not depend on the language model.
//!
//! A script is TOML in the model file, in the file that `MOCK_NPU_SCRIPT` names, or in that
//! variable itself. The file is read at every run, so a test may change it under a live server.

use std::path::Path;

use serde::Deserialize;
use toml::Table;

use crate::conversation::Conversation;
use crate::latency::Latency;

/// A script: faults, latencies, rules. Of the rules the first that fits speaks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    #[serde(default)]
    pub(crate) faults: Table,
    #[serde(default)]
    pub(crate) latency: Latency,
    #[serde(default, rename = "rule")]
    pub(crate) rules: Vec<Rule>,
}

/// One rule: conditions (all must hold; text is compared without case) and what to do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// The last user turn contains this.
    pub(crate) user_contains: Option<String>,
    /// The last user turn is this, blanks around it aside.
    pub(crate) user_is: Option<String>,
    /// The system text contains this.
    pub(crate) system_contains: Option<String>,
    /// The whole prompt, special tokens included, contains this.
    pub(crate) prompt_contains: Option<String>,
    /// The last turn is (or is not) the result of a tool; a rule that calls a tool defaults to not.
    pub(crate) after_tool: Option<bool>,

    /// Thought before the answer, in `<think>` tags.
    pub(crate) think: Option<String>,
    /// The answer; `{images}` in it becomes a word of four digits for each image that it is about.
    pub(crate) say: Option<String>,
    /// Say it this many times.
    pub(crate) repeat: Option<usize>,
    /// Tools to call after the answer.
    #[serde(default)]
    pub(crate) tool_call: OneOrMany<ToolCall>,
    /// How calls are written.
    #[serde(default)]
    pub(crate) tool_format: ToolFormat,
    /// Token ids to emit after all that.
    #[serde(default)]
    pub(crate) tokens: Vec<u32>,
    /// After the scripted text the language model goes on.
    #[serde(default)]
    pub(crate) then_model: bool,
    /// The answer never ends by itself.
    #[serde(default)]
    pub(crate) no_eos: bool,
    /// Characters beyond ASCII come byte by byte.
    #[serde(default)]
    pub(crate) split_utf8: bool,
    /// ERROR callback and -1 instead of the token of this index.
    pub(crate) fail_at_token: Option<u32>,
    /// SIGSEGV instead of the token of this index.
    pub(crate) crash_at_token: Option<u32>,
    /// The run never returns once this many tokens are out.
    pub(crate) hang_at_token: Option<u32>,
    /// Decode time of this answer.
    pub(crate) delay_ms_per_token: Option<f64>,
}

/// A tool to call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) arguments: Table,
}

/// A table or an array of tables.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        OneOrMany::Many(Vec::new())
    }
}

impl<T> OneOrMany<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

/// The model families' ways to write a call.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToolFormat {
    #[default]
    Hermes,
    QwenXml,
    Llama3,
    Llama3Tag,
    Mistral,
    MistralArgs,
    Deepseek,
    FunctionGemma,
    Internlm,
    Minicpm,
    Phi4,
    Chatglm3,
    Glm4,
    Xlam,
    GptOss,
}

impl Script {
    /// Parses a script; the error is one line.
    pub(crate) fn parse(text: &str) -> Result<Script, String> {
        toml::from_str(text).map_err(|error| one_line(text, &error))
    }

    /// The script of the environment: a file's path, or the script itself.
    pub(crate) fn from_environment() -> Result<Script, String> {
        let text = std::env::var("MOCK_NPU_SCRIPT").unwrap_or_default();
        if text.trim().is_empty() {
            return Ok(Script::default());
        }
        if text.contains('\n') || !Path::new(&text).exists() && text.contains('=') {
            return Script::parse(&text).map_err(|error| format!("MOCK_NPU_SCRIPT: {error}"));
        }
        let content =
            std::fs::read_to_string(&text).map_err(|e| format!("MOCK_NPU_SCRIPT: {text}: {e}"))?;
        Script::parse(&content).map_err(|error| format!("{text}: {error}"))
    }
}

/// A TOML error as one line with its place.
pub(crate) fn one_line(text: &str, error: &toml::de::Error) -> String {
    let line = error
        .span()
        .map(|span| text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1));
    let message = error.message().replace('\n', " ");
    line.map_or(message.clone(), |line| format!("line {line}: {message}"))
}

impl Rule {
    /// Whether the rule is for this prompt.
    pub(crate) fn fits(&self, conversation: &Conversation, prompt: &str) -> bool {
        let contains = |text: &str, part: &Option<String>| {
            part.as_ref().is_none_or(|part| text.to_lowercase().contains(&part.to_lowercase()))
        };
        let calls = !self.tool_call.as_slice().is_empty();
        let after_tool = self.after_tool.or(calls.then_some(false));
        contains(&conversation.user, &self.user_contains)
            && contains(&conversation.system, &self.system_contains)
            && contains(prompt, &self.prompt_contains)
            && self.user_is.as_ref().is_none_or(|text| text.trim() == conversation.user.trim())
            && after_tool.is_none_or(|wanted| wanted == conversation.after_tool)
    }

    /// The same rule before these images, which stand for `{images}` in its answer.
    pub(crate) fn seeing(&self, images: &[String]) -> Self {
        let say = self.say.as_ref().map(|say| say.replace("{images}", &images.join(" and ")));
        Self { say, ..self.clone() }
    }

    /// The text to say, given what the answer begins with already.
    pub(crate) fn text(&self, begun: &str) -> String {
        let mut text = String::new();
        if let Some(thought) = &self.think {
            // With thinking off the template has closed an empty thought: the model obeys.
            if begun.trim_end().ends_with("<think>") {
                text.push_str(&format!("{thought}\n</think>\n\n"));
            } else if !begun.contains("</think>") {
                text.push_str(&format!("<think>\n{thought}\n</think>\n\n"));
            }
        }
        let mut said = String::new();
        if let Some(say) = &self.say {
            said.push_str(&say.repeat(self.repeat.unwrap_or(1)));
        }
        said.push_str(&crate::tool_format::render(self.tool_format, self.tool_call.as_slice()));
        // An answer whose beginning stands in the prompt is gone on with.
        let there = begun.rsplit("</think>").next().unwrap_or_default();
        text.push_str(behind(&said, there).unwrap_or(&said));
        text
    }

    /// Whether the rule has words of its own.
    pub(crate) fn speaks(&self) -> bool {
        self.say.is_some()
            || self.think.is_some()
            || !self.tokens.is_empty()
            || !self.tool_call.as_slice().is_empty()
    }
}

/// What follows in `text` behind `beginning`, if it begins so; white space does not count.
fn behind<'a>(text: &'a str, beginning: &str) -> Option<&'a str> {
    let mut rest = text.char_indices().filter(|(_, c)| !c.is_whitespace());
    let mut end = None;
    for wanted in beginning.chars().filter(|c| !c.is_whitespace()) {
        let (at, found) = rest.next()?;
        if found != wanted {
            return None;
        }
        end = Some(at + found.len_utf8());
    }
    end.map(|end| &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(user: &str) -> Conversation {
        Conversation { user: user.to_owned(), ..Conversation::default() }
    }

    #[test]
    fn rules_match_without_case_and_all_conditions_must_hold() {
        let script = Script::parse(
            "[[rule]]\nuser_contains = \"weather\"\nsystem_contains = \"x\"\nsay = \"a\"\n\
             [[rule]]\nuser_contains = \"WEATHER\"\nsay = \"b\"\n",
        )
        .expect("valid");
        let fits: Vec<bool> =
            script.rules.iter().map(|rule| rule.fits(&talk("The Weather?"), "")).collect();
        assert_eq!(fits, [false, true]);
    }

    #[test]
    fn a_call_is_not_repeated_after_its_result() {
        let script = Script::parse(
            "[[rule]]\nuser_contains = \"q\"\ntool_call = { name = \"f\", arguments = { a = 1 } }",
        );
        let rule = &script.expect("valid").rules[0];
        assert!(rule.fits(&talk("q"), ""));
        assert!(!rule.fits(&Conversation { after_tool: true, ..talk("q") }, ""));
        assert_eq!(
            rule.text(""),
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>"
        );
    }

    #[test]
    fn thoughts_obey_the_prompt() {
        let rule = Rule { think: Some("hm".into()), say: Some("yes".into()), ..Rule::default() };
        assert_eq!(rule.text(""), "<think>\nhm\n</think>\n\nyes");
        assert_eq!(rule.text("<think>\n"), "hm\n</think>\n\nyes");
        assert_eq!(rule.text("<think>\n\n</think>\n\n"), "yes");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = Script::parse("[[rule]]\nuser_contain = \"x\"\n").expect_err("unknown key");
        assert!(error.starts_with("line 2") && error.contains("user_contain"), "{error}");
    }

    #[test]
    fn what_was_begun_is_gone_on_with() {
        let text = "{\"city\": \"Ulm\"}";
        assert_eq!(behind(text, "{\"city\":"), Some(" \"Ulm\"}"));
        assert_eq!(behind(text, "\n{"), Some("\"city\": \"Ulm\"}"));
        assert_eq!(behind(text, "{\"town"), None);
        assert_eq!(behind(text, "  "), None, "nothing was begun");
        assert_eq!(behind("no", "no, never"), None);
    }
}
