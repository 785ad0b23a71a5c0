//! Templates of a request, in Go's language, as far as prompts need it.
//!
//! The library evaluates by recursion. What could make that endless or too deep (templates that call
//! templates, long chains of parentheses) is refused by name before it is asked.

use std::collections::HashMap;

use gtmpl::{Context, Template, Value};

/// Longest template, in bytes: ten times what published ones have.
const TEMPLATE_BYTES_MAX: usize = 64 << 10;
/// Longest prompt, in bytes, as far as can be told beforehand: hundreds of times what a context holds.
const RENDERED_BYTES_MAX: usize = 64 << 20;
/// Most parentheses, and most actions that others can stand in.
const NESTING_MAX: usize = 64;
/// Most loops. There are two messages at most, so that in one another they go round eight times.
const RANGES_MAX: usize = 3;
/// The words that a template may use: those of published ones. None of them makes a text longer.
const WORDS: [&str; 20] = [
    "if", "else", "end", "range", "with", "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge",
    "len", "index", "slice", "true", "false", "nil",
];
/// Actions that others can stand in; `else if` nests too.
const NESTING: [&str; 4] = ["if", "else", "range", "with"];

/// What a template can speak of.
pub(super) struct Variables<'a> {
    pub(super) system: &'a str,
    pub(super) prompt: &'a str,
    pub(super) suffix: &'a str,
}

/// Writes a prompt.
///
/// # Errors
/// In words, naming the construct that is not supported.
pub(super) fn render(source: &str, variables: &Variables<'_>) -> Result<String, String> {
    check(source, variables)?;
    let mut template = Template::default();
    template.parse(source).map_err(|error| words(&error.to_string()))?;
    let message = |role: &str, content: &str| {
        object([("Role", Value::from(role)), ("Content", Value::from(content))])
    };
    let mut messages = Vec::new();
    if !variables.system.is_empty() {
        messages.push(message("system", variables.system));
    }
    messages.push(message("user", variables.prompt));
    let data = object([
        ("System", Value::from(variables.system)),
        ("Prompt", Value::from(variables.prompt)),
        ("Suffix", Value::from(variables.suffix)),
        ("Response", Value::from("")),
        ("Messages", Value::Array(messages)),
        ("Tools", Value::Array(Vec::new())),
    ]);
    template.render(&Context::from(data)).map_err(|error| words(&error.to_string()))
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
fn check(source: &str, variables: &Variables<'_>) -> Result<(), String> {
    if source.len() > TEMPLATE_BYTES_MAX {
        return Err(format!("template: it is longer than {TEMPLATE_BYTES_MAX} bytes"));
    }
    if let Some(opened) = source.rfind("{{").filter(|at| !source[*at..].contains("}}")) {
        let line = source[..opened].matches('\n').count() + 1;
        return Err(format!("template: :{line}: unclosed action"));
    }
    let (mut nesting, mut ranges, mut actions) = (source.matches('(').count(), 0, 0);
    for action in source.split("{{").skip(1) {
        actions += 1;
        for word in words_of(action) {
            if !WORDS.contains(&word) {
                return Err(format!("template: `{word}` is not supported"));
            }
            nesting += usize::from(NESTING.contains(&word));
            ranges += usize::from(word == "range");
        }
    }
    if nesting > NESTING_MAX {
        return Err(format!("template: more than {NESTING_MAX} actions and parentheses in all"));
    }
    if ranges > RANGES_MAX {
        return Err(format!("template: more than {RANGES_MAX} times `range`"));
    }
    let Variables { system, prompt, suffix } = variables;
    // Each action may write them all.
    let written = (system.len() + prompt.len() + suffix.len()).saturating_mul(actions + 1);
    let rendered = (written + source.len()).saturating_mul(1 << ranges);
    if rendered > RENDERED_BYTES_MAX {
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
