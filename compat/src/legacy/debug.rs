//! A look at an answer that a client has received: is it lines of JSON, of one kind, and complete?

use serde_json::Value;

use super::wire::Debugged;

/// Most faults that are told.
const ISSUES_MAX: usize = 100;

/// Looks at an answer.
pub(super) fn examine(lines: &str) -> Debugged {
    let issues = issues(lines);
    if issues.is_empty() {
        let message = Some("No issues found in the response format".to_owned());
        return Debugged { status: "ok".to_owned(), message, issues: None, recommendation: None };
    }
    let recommendation = "Each line has to be one JSON object with `response` or `message`, the same in \
                          all lines, and the last one `\"done\": true`.";
    Debugged {
        status: "error".to_owned(),
        message: None,
        issues: Some(issues),
        recommendation: Some(recommendation.to_owned()),
    }
}

fn issues(lines: &str) -> Vec<String> {
    let mut issues = Vec::new();
    let (mut kind, mut is_done, mut count) = (None, false, 0);
    for (at, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        count += 1;
        if issues.len() == ISSUES_MAX {
            break;
        }
        let mut say = |words: String| issues.push(format!("line {}: {words}", at + 1));
        let value: Value = match serde_json::from_str(line) {
            Ok(value) => value,
            Err(error) => {
                say(format!("no JSON: {error}"));
                continue;
            }
        };
        if is_done {
            say("it stands behind the line that has `done`".to_owned());
        }
        is_done |= value["done"] == true;
        let found = ["response", "message"].into_iter().find(|key| value.get(key).is_some());
        match (found, kind) {
            (None, _) if value.get("error").is_some() => {
                say(format!("an error: {}", value["error"]))
            }
            (None, _) => say("neither `response` nor `message`".to_owned()),
            (Some(found), Some(kind)) if found != kind => {
                say(format!("`{found}`, and `{kind}` before"));
            }
            (found, _) => kind = kind.or(found),
        }
    }
    if count == 0 {
        issues.push("there are no lines".to_owned());
    } else if !is_done {
        issues.push("the last line has no `\"done\": true`".to_owned());
    }
    issues
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let fine = "{\"response\":\"a\",\"done\":false}\n\n{\"response\":\"\",\"done\":true}\n";
        assert_eq!(examine(fine).status, "ok");
        for (lines, words) in [
            ("", "no lines"),
            ("data: {}\n", "line 1: no JSON"),
            ("{\"response\":\"a\"}", "no `\"done\": true`"),
            ("{\"done\":true}", "line 1: neither"),
            (
                "{\"response\":\"\"}\n{\"message\":{},\"done\":true}",
                "line 2: `message`, and `response`",
            ),
            ("{\"response\":\"\",\"done\":true}\n{\"response\":\"\"}", "line 2: it stands behind"),
            ("{\"error\":\"x\",\"done\":true}", "an error: \"x\""),
        ] {
            let found = examine(lines);
            let issues = found.issues.unwrap_or_default();
            assert!(issues.iter().any(|issue| issue.contains(words)), "{lines}: {issues:?}");
        }
        assert!(issues(&"x\n".repeat(1000)).len() <= ISSUES_MAX + 1);
    }
}
