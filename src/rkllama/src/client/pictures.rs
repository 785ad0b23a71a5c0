//! Pictures in a question: words that are files of pictures are sent as such, beside the text.

use std::{fs, path::PathBuf};

use anyhow::{Context, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// Kinds of pictures by the ends of their names.
const KINDS: [(&str, &str); 6] = [
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("png", "image/png"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("bmp", "image/bmp"),
];
/// Largest picture, in bytes: base64 makes a third more of it, and a body holds 32 MiB.
const BYTES_MAX: u64 = 20 << 20;

/// What a question says, as the API takes it: a text, or its parts where there are pictures in it.
pub(super) fn content(question: &str) -> anyhow::Result<Value> {
    let mut text = question.to_owned();
    let mut pictures = Vec::new();
    for word in words(question) {
        let Some((path, kind)) = picture(&word.text) else { continue };
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if bytes.len() as u64 > BYTES_MAX {
            bail!("{} is larger than {} MiB", path.display(), BYTES_MAX >> 20);
        }
        let url = format!("data:{kind};base64,{}", BASE64_STANDARD.encode(bytes));
        pictures.push(json!({"type": "image_url", "image_url": {"url": url}}));
        text = text.replacen(&word.written, "", 1);
    }
    if pictures.is_empty() {
        return Ok(question.into());
    }
    let text = json!({"type": "text", "text": text.trim()});
    Ok(std::iter::once(text).chain(pictures).collect())
}

/// The text of a question's content.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        content => content.as_str().unwrap_or_default().to_owned(),
    }
}

/// A word as it stands, and what it says.
struct Word {
    written: String,
    text: String,
}

/// Words are cut at blanks that have no backslash before them and stand in no quotes, as terminals
/// write the names of files that are dropped on them.
fn words(question: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let (mut written, mut text) = (String::new(), String::new());
    let (mut quote, mut is_escaped) = (None, false);
    for c in question.chars().chain([' ']) {
        let ends = c.is_whitespace() && quote.is_none() && !is_escaped;
        if ends {
            if !written.is_empty() {
                words.push(Word {
                    written: std::mem::take(&mut written),
                    text: std::mem::take(&mut text),
                });
            }
            continue;
        }
        written.push(c);
        match c {
            _ if is_escaped => {
                text.push(c);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '\'' | '"' if quote == Some(c) => quote = None,
            '\'' | '"' if quote.is_none() && written.len() == c.len_utf8() => quote = Some(c),
            c => text.push(c),
        }
    }
    words
}

/// The file that a word names, if it is one of a picture. A sentence may end behind it.
fn picture(word: &str) -> Option<(PathBuf, &'static str)> {
    let word = word.trim_end_matches(['?', '!', ',', ';', ':', ')']);
    let extension = word.rsplit_once('.')?.1.to_ascii_lowercase();
    let (_, kind) = KINDS.iter().find(|(end, _)| *end == extension)?;
    let path = match word.strip_prefix("~/") {
        Some(rest) => PathBuf::from(std::env::var_os("HOME")?).join(rest),
        None => PathBuf::from(word),
    };
    path.is_file().then_some((path, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_pictures_become_parts_and_all_else_stays_text() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::write(at("a.PNG"), "p").unwrap();
        fs::write(at("my cat.jpg"), "j").unwrap();
        let question = format!("What is on {} and '{}'?", at("a.PNG"), at("my cat.jpg"));
        let quoted = content(&question).unwrap();
        assert_eq!(quoted[1]["image_url"]["url"], "data:image/png;base64,cA==");
        assert_eq!(quoted[2]["image_url"]["url"], "data:image/jpeg;base64,ag==");
        let escaped = at("my cat.jpg").replace(' ', "\\ ");
        let both = content(&format!("{escaped} What is it? {}", at("a.PNG"))).unwrap();
        assert_eq!(both[0], json!({"type": "text", "text": "What is it?"}));
        assert_eq!(both[1]["image_url"]["url"], "data:image/jpeg;base64,ag==");
        assert_eq!(both.as_array().unwrap().len(), 3);
        assert_eq!(text_of(&both), "What is it?");
        for plain in ["What is on missing.png?", "It's 3.5 \"or\" so", ""] {
            assert_eq!(content(plain).unwrap(), plain);
            assert_eq!(text_of(&content(plain).unwrap()), plain);
        }
        let large = fs::File::create(at("large.png")).unwrap();
        large.set_len(BYTES_MAX + 1).unwrap();
        assert!(content(&at("large.png")).unwrap_err().to_string().contains("20 MiB"));
    }
}
