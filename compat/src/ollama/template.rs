//! Templates of a request, in Go's language, as far as prompts need it.
//!
//! The library evaluates by recursion. What could make that endless or too deep (templates that call
//! templates, long chains of parentheses) is refused by name before it is asked.

use std::collections::HashMap;

use gtmpl::{Context, Template, Value};
use rkllama_core::is_jinja;

/// Longest template, in bytes: ten times what published ones have.
const TEMPLATE_BYTES_MAX: usize = 64 << 10;
/// Longest prompt, in bytes, as far as can be told beforehand: hundreds of times what a context holds.
const RENDERED_BYTES_MAX: usize = 64 << 20;
/// Most parentheses, and most actions that others can stand in.
const NESTING_MAX: usize = 64;
/// Most loops.
const RANGES_MAX: usize = 8;
/// Most loops in one another.
const RANGES_DEEP_MAX: usize = 2;
/// The words that a template may use: those of published ones. None of them makes a text longer.
const WORDS: [&str; 20] = [
    "if", "else", "end", "range", "with", "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge",
    "len", "index", "slice", "true", "false", "nil",
];
/// Actions that others can stand in; `else if` nests too.
const NESTING: [&str; 4] = ["if", "else", "range", "with"];

/// Stands where the answer will be. What a template writes behind it is no part of the prompt.
const ANSWER: &str = "\u{1}\u{2}answer\u{2}\u{1}";

/// What a template can speak of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variables<'a> {
    pub(super) system: &'a str,
    pub(super) prompt: &'a str,
    pub(super) suffix: &'a str,
}

/// A message of a conversation, as a template sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn<'a> {
    pub(super) role: &'a str,
    pub(super) content: &'a str,
}

/// Writes a prompt.
///
/// # Errors
/// In words, naming the construct that is not supported.
pub(super) fn render(source: &str, variables: &Variables<'_>) -> Result<String, String> {
    let user = Turn { role: "user", content: variables.prompt };
    let system = Turn { role: "system", content: variables.system };
    let turns = [system, user];
    let turns = if variables.system.is_empty() { &turns[1..] } else { &turns[..] };
    check(source, variables, turns)?;
    write(&parsed(source)?, variables, turns, ANSWER).map(up_to_answer)
}

/// Writes the prompt of a conversation. A template that does not speak of messages writes each turn, a
/// question and its answer, with what it says of one.
///
/// # Errors
/// As [`render`].
pub(super) fn render_chat(source: &str, turns: &[Turn<'_>]) -> Result<String, String> {
    let is = |role: &'static str| move |turn: &&Turn<'_>| turn.role == role;
    let system: Vec<&str> = turns.iter().filter(is("system")).map(|turn| turn.content).collect();
    let system = system.join("\n\n");
    let prompt = turns.iter().rev().find(is("user")).map_or("", |turn| turn.content);
    let all = Variables { system: &system, prompt, suffix: "" };
    check(source, &all, turns)?;
    let template = parsed(source)?;
    if source.contains(".Messages") {
        return write(&template, &all, turns, ANSWER).map(up_to_answer);
    }
    let mut text = String::new();
    let (mut system, mut question) = (String::new(), String::new());
    let join = |so_far: &mut String, content: &str| {
        if !so_far.is_empty() {
            so_far.push_str("\n\n");
        }
        so_far.push_str(content);
    };
    for turn in turns {
        match turn.role {
            "system" => join(&mut system, turn.content),
            "assistant" => {
                let said = Variables { system: &system, prompt: &question, suffix: "" };
                text.push_str(&write(&template, &said, &[], turn.content)?);
                (system, question) = (String::new(), String::new());
            }
            _ => join(&mut question, turn.content),
        }
    }
    let asked = Variables { system: &system, prompt: &question, suffix: "" };
    Ok(text + &up_to_answer(write(&template, &asked, &[], ANSWER)?))
}

fn up_to_answer(mut text: String) -> String {
    if let Some(at) = text.find(ANSWER) {
        text.truncate(at);
    }
    text
}

fn parsed(source: &str) -> Result<Template, String> {
    let mut template = Template::default();
    template.parse(source).map_err(|error| words(&error.to_string()))?;
    Ok(template)
}

fn write(
    template: &Template,
    variables: &Variables<'_>,
    turns: &[Turn<'_>],
    response: &str,
) -> Result<String, String> {
    let message = |turn: &Turn<'_>| {
        object([
            ("Role", Value::from(turn.role)),
            ("Content", Value::from(turn.content)),
            // Conversations with these go by the model's own template.
            ("Thinking", Value::from("")),
            ("ToolName", Value::from("")),
            ("ToolCalls", Value::Array(Vec::new())),
            ("Images", Value::Array(Vec::new())),
        ])
    };
    let data = object([
        ("System", Value::from(variables.system)),
        ("Prompt", Value::from(variables.prompt)),
        ("Suffix", Value::from(variables.suffix)),
        ("Response", Value::from(response)),
        ("Messages", Value::Array(turns.iter().map(message).collect())),
        ("Tools", Value::Array(Vec::new())),
        ("Think", Value::from(false)),
        ("ThinkLevel", Value::from("")),
        ("IsThinkSet", Value::from(false)),
    ]);
    template.render(&Context::from(data)).map_err(|error| words(&error.to_string()))
}

/// Whether a model's template can be used, in whichever language it is; `jinja` says it of those in
/// Jinja.
///
/// # Errors
/// In words, with the place of the fault.
pub fn check_template(
    jinja: impl FnOnce(&str) -> Result<(), String>,
    source: &str,
) -> Result<(), String> {
    if is_jinja(source) {
        return jinja(source);
    }
    render(source, &Variables { system: "s", prompt: "p", suffix: "" }).map(drop)
}

/// The library's words, which say themselves mostly what they are about.
fn words(error: &str) -> String {
    if error.starts_with("template: ") { error.to_owned() } else { format!("template: {error}") }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
    Value::Object(fields.collect::<HashMap<_, _>>())
}

/// Refuses what could go too deep, too long or on for ever.
fn check(source: &str, variables: &Variables<'_>, turns: &[Turn<'_>]) -> Result<(), String> {
    if source.len() > TEMPLATE_BYTES_MAX {
        return Err(format!("template: it is longer than {TEMPLATE_BYTES_MAX} bytes"));
    }
    if let Some(opened) = source.rfind("{{").filter(|at| !source[*at..].contains("}}")) {
        let line = source[..opened].matches('\n').count() + 1;
        return Err(format!("template: :{line}: unclosed action"));
    }
    let (mut nesting, mut ranges) = (source.matches('(').count(), 0);
    // What is open, and whether it is a loop.
    let (mut open, mut deep) = (Vec::new(), 0);
    let mut written = source.len();
    let longest = turns.iter().map(|turn| turn.content.len()).max().unwrap_or_default();
    let Variables { system, prompt, suffix } = variables;
    let others = system.len() + prompt.len() + suffix.len() + longest;
    let all: usize = turns.iter().map(|turn| turn.content.len() + turn.role.len()).sum();
    for action in source.split("{{").skip(1) {
        for word in words_of(action) {
            if !WORDS.contains(&word) {
                return Err(format!("template: `{word}` is not supported"));
            }
            nesting += usize::from(NESTING.contains(&word));
            ranges += usize::from(word == "range");
            match word {
                "if" | "with" | "range" => open.push(word == "range"),
                "end" => drop(open.pop()),
                _ => {}
            }
        }
        let loops = open.iter().filter(|is_loop| **is_loop).count();
        deep = deep.max(loops);
        let rounds = turns.len().max(1).saturating_pow(u32::try_from(loops).unwrap_or(u32::MAX));
        // In one loop, what belongs to a message is written once for each.
        let action = action.split("}}").next().unwrap_or(action);
        let is_each_once = loops == 1 && action.contains(".Content") && !action.contains('$');
        let bytes = if is_each_once { all } else { rounds.saturating_mul(others) };
        written = written.saturating_add(bytes).saturating_add(rounds.saturating_mul(source.len()));
    }
    if nesting > NESTING_MAX {
        return Err(format!("template: more than {NESTING_MAX} actions and parentheses in all"));
    }
    if ranges > RANGES_MAX || deep > RANGES_DEEP_MAX {
        return Err(format!(
            "template: more than {RANGES_MAX} times `range`, or {RANGES_DEEP_MAX} in one another"
        ));
    }
    if written > RENDERED_BYTES_MAX {
        return Err(format!(
            "template: the prompt could have more than {RENDERED_BYTES_MAX} bytes"
        ));
    }
    Ok(())
}

/// The words of an action that are no names of fields or variables and stand in no text. What follows
/// its end is not looked at.
fn words_of(action: &str) -> impl Iterator<Item = &str> {
    let mut words = Vec::new();
    let mut rest = action;
    let mut is_name = false;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("}}") {
            break;
        }
        let len = match c {
            '"' => text_len(rest),
            '`' => rest[1..].find('`').map_or(rest.len(), |end| end + 2),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            // A character, which may be a quotation mark: nobody needs one.
            '\'' => {
                words.push(&rest[..1]);
                1
            }
            c if c.is_alphanumeric() || c == '_' => {
                let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                let len = len.unwrap_or(rest.len());
                if !is_name && !c.is_ascii_digit() {
                    words.push(&rest[..len]);
                }
                len
            }
            c => c.len_utf8(),
        };
        is_name = matches!(c, '.' | '$');
        rest = &rest[len..];
    }
    words.into_iter()
}

/// The length of a text in quotes at the beginning of `rest`, with both of them.
fn text_len(rest: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(source: &str) -> Result<String, String> {
        render(source, &Variables { system: "S", prompt: "P", suffix: "X" })
    }

    #[test]
    fn prompts_are_written_as_templates_say() {
        for (source, expected) in [
            (
                "System: {{ .System }}\n\nUser: {{ .Prompt }}\n\nAssistant:",
                "System: S\n\nUser: P\n\nAssistant:",
            ),
            ("{{ if .System }}<s>{{ .System }}</s>{{ end }}{{ .Prompt }}", "<s>S</s>P"),
            (
                "{{- if eq .Prompt \"Q\" }}a{{ else if .Suffix }}{{ .Suffix }}{{ else }}c{{ end -}} ",
                "X",
            ),
            ("{{ range .Messages }}[{{ .Role }}:{{ .Content }}]{{ end }}", "[system:S][user:P]"),
            ("{{ if and .System (or .Tools .Prompt) }}y{{ end }}{{ .Response }}", "y"),
            ("plain", "plain"),
            (
                "{{ if eq .Prompt \"printf \\\" x\" `template` }}a{{ end }}define{{/* block */}}",
                "define",
            ),
            ("{{ $p := .Prompt }}{{ range .Messages }}{{ $p }}{{ end }}", "PP"),
        ] {
            assert_eq!(rendered(source).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn conversations_are_written_turn_by_turn_or_all_at_once() {
        let turn = |role, content| Turn { role, content };
        let turns = [
            turn("system", "S"),
            turn("user", "A"),
            turn("assistant", "B"),
            turn("user", "C"),
            turn("user", "D"),
        ];
        let by_turn = "{{ if .System }}<s>{{ .System }}</s>{{ end }}<u>{{ .Prompt }}</u><a>{{ .Response }}</a>";
        let written = render_chat(by_turn, &turns).unwrap();
        assert_eq!(written, "<s>S</s><u>A</u><a>B</a><u>C\n\nD</u><a>");
        let at_once = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}<assistant>{{ .Response }}</assistant>";
        let written = render_chat(at_once, &turns).unwrap();
        assert_eq!(written, "<system>S<user>A<assistant>B<user>C<user>D<assistant>");
        // The prompt of one question ends where the answer begins, too.
        assert_eq!(rendered("{{ .Prompt }}[{{ .Response }}]").as_deref(), Ok("P["));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (source, word) in [
            ("a\n{{ .x", "template: :2: unclosed action"),
            ("{{ if }}", "template: "),
            ("{{ nonsense .Prompt }}", "nonsense"),
            ("{{ define \"a\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}", "`define`"),
            ("{{- template \"a\" }}", "`template`"),
            ("{{ eq '\"' (printf \"%s\" .Prompt) '\"' }}", "`'`"),
            ("{{ $a := printf \"%s%s\" .Prompt .Prompt }}", "`printf`"),
        ] {
            let error = rendered(source).unwrap_err();
            assert!(error.contains(word), "{source}: {error}");
        }
    }

    /// None of these may take the process with it.
    #[test]
    fn depth_is_bounded() {
        for source in [
            "{{ if .Prompt }}".repeat(5000),
            format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)),
            format!("{{{{ if .Prompt }}}}{}{{{{ end }}}}", "{{ else if .Prompt }}".repeat(5000)),
            "x".repeat(TEMPLATE_BYTES_MAX + 1),
            // Two to the fortieth times round.
            format!("{}x{}", "{{ range $.Messages }}".repeat(40), "{{ end }}".repeat(40)),
        ] {
            assert!(rendered(&source).is_err());
        }
        let long = "p".repeat(1 << 20);
        let variables = Variables { system: "", prompt: &long, suffix: "" };
        let error = render(&"{{ .Prompt }}".repeat(4000), &variables).unwrap_err();
        assert!(error.contains("bytes"), "{error}");
        assert_eq!(render("{{ .Prompt }}", &variables).unwrap().len(), long.len());
        let deep = "{{ if .Prompt }}".repeat(60) + "y" + &"{{ end }}".repeat(60);
        assert_eq!(rendered(&deep).as_deref(), Ok("y"));
    }
}
