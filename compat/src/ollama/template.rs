//! Templates of a request, in Go's language, as far as prompts need it.
//!
//! The library evaluates by recursion. What could make that endless or too deep (templates that call
//! templates, long chains of parentheses) is refused by name before it is asked.

use std::collections::HashMap;

use gtmpl::{Context, Template, Value};

/// Longest template, in bytes: ten times what published ones have.
const TEMPLATE_BYTES_MAX: usize = 64 << 10;
/// Most parentheses, and most actions that others can stand in.
const NESTING_MAX: usize = 64;
/// Actions that no prompt needs.
const REFUSED: [&str; 3] = ["template", "define", "block"];
/// Actions that others can stand in.
const NESTING: [&str; 3] = ["if", "range", "with"];

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
    check(source)?;
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

/// Refuses what could go too deep.
fn check(source: &str) -> Result<(), String> {
    if source.len() > TEMPLATE_BYTES_MAX {
        return Err(format!("template: it is longer than {TEMPLATE_BYTES_MAX} bytes"));
    }
    if let Some(opened) = source.rfind("{{").filter(|at| !source[*at..].contains("}}")) {
        let line = source[..opened].matches('\n').count() + 1;
        return Err(format!("template: :{line}: unclosed action"));
    }
    let mut nesting = source.matches('(').count();
    for action in source.split("{{").skip(1) {
        let action = action.strip_prefix('-').unwrap_or(action).trim_start();
        let word = action.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        if REFUSED.contains(&word) {
            return Err(format!("template: the action `{word}` is not supported"));
        }
        // `else if` nests too.
        nesting += usize::from(NESTING.contains(&word) || word == "else");
    }
    if nesting > NESTING_MAX {
        return Err(format!("template: more than {NESTING_MAX} actions and parentheses in all"));
    }
    Ok(())
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
        ] {
            assert!(rendered(&source).is_err());
        }
        let deep = "{{ if .Prompt }}".repeat(60) + "y" + &"{{ end }}".repeat(60);
        assert_eq!(rendered(&deep).as_deref(), Ok("y"));
    }
}
