//! `Modelfile`, in both dialects that carry this name, into one record per file.
//!
//! Servers for these boards write `KEY=VALUE` lines as in an environment file; Ollama writes
//! instructions (`FROM`, `PARAMETER temperature 0.7`). They are told apart line by line: a first
//! word followed by `=` is the first dialect. Keys that do not concern us are skipped, with their
//! values, which may run over several lines inside quotes.

use crate::settings::{Knob, Settings, check_context, check_inside, check_tokens};

/// The Modelfile's file name.
pub(crate) const MODELFILE: &str = "Modelfile";

/// Parses a Modelfile; the error names the line and the key.
pub(crate) fn parse(text: &str) -> Result<Settings, String> {
    let mut settings = Settings::default();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while let Some(entry) = next_entry(&mut rest) {
        let at = text.len() - entry.from_end;
        apply(&mut settings, &entry).map_err(|reason| {
            let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("{MODELFILE} line {line}, {}: {reason}", entry.key)
        })?;
    }
    Ok(settings)
}

/// A key with its value, in the words of the `KEY=VALUE` dialect.
struct Entry {
    key: String,
    value: String,
    /// Bytes from the entry's line to the end of the text.
    from_end: usize,
}

/// Takes lines off the text until one says something, and the lines its value runs over.
fn next_entry(rest: &mut &str) -> Option<Entry> {
    while !rest.is_empty() {
        let from_end = rest.len();
        let line = rest.split_inclusive('\n').next().unwrap_or_default();
        let words = line.trim_start();
        let words = words.strip_prefix("export ").unwrap_or(words);
        let key_len = words.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        let (key, after) = words.split_at(key_len);
        let spaced = after.trim_start_matches([' ', '\t']);
        if key.is_empty() {
            // Blank, a comment, or nothing we know: not worth refusing a model over.
            *rest = &rest[line.len()..];
            continue;
        }
        let value_at = |value: &str| line.len() - value.len();
        if let Some(value) = spaced.strip_prefix('=') {
            let value = value.trim_start_matches([' ', '\t']);
            *rest = &rest[value_at(value)..];
            let value = take_value(rest, true);
            return Some(Entry { key: key.to_ascii_uppercase(), value, from_end });
        }
        let (key, value) = instruction(key, spaced);
        *rest = &rest[value_at(value)..];
        let value = take_value(rest, false);
        if let Some(key) = key {
            return Some(Entry { key, value, from_end });
        }
    }
    None
}

/// Ollama's instruction as a key; `PARAMETER` has its name in front of the value.
fn instruction<'a>(word: &str, after: &'a str) -> (Option<String>, &'a str) {
    match word.to_ascii_uppercase().as_str() {
        "FROM" => (Some("FROM".to_owned()), after),
        "PARAMETER" => {
            let name_len = after.find(char::is_whitespace).unwrap_or(after.len());
            let (name, value) = after.split_at(name_len);
            (Some(name.to_ascii_uppercase()), value.trim_start_matches([' ', '\t']))
        }
        _ => (None, after),
    }
}

/// Takes the value at the beginning of the text and the rest of its last line.
///
/// A quote that is never closed is not one: the value is then its line alone.
fn take_value(rest: &mut &str, comments: bool) -> String {
    for quote in ["\"\"\"", "\"", "'"] {
        let Some(inner) = rest.strip_prefix(quote) else { continue };
        let Some(len) = closing(inner, quote) else { continue };
        let value = inner[..len].to_owned();
        let behind = &inner[len + quote.len()..];
        *rest = behind.split_once('\n').map_or("", |(_, next)| next);
        return value;
    }
    let (line, next) = rest.split_once('\n').unwrap_or((rest, ""));
    *rest = next;
    let value = if comments { line.split(" #").next().unwrap_or(line) } else { line };
    value.trim().to_owned()
}

/// Where the quote closes; a backslash keeps a quote from closing.
fn closing(inner: &str, quote: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + inner[from..].find(quote)?;
        let backslashes = inner[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        if backslashes % 2 == 0 {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Both dialects' names of one setting.
fn apply(settings: &mut Settings, entry: &Entry) -> Result<(), String> {
    let value = entry.value.as_str();
    if value.is_empty() {
        return Ok(());
    }
    let sampling = &mut settings.sampling;
    match entry.key.as_str() {
        "FROM" => settings.file = Some(check_inside(value)?),
        "NUM_CTX" => settings.context_tokens_max = Some(check_context(count(value)?)?),
        // Ollama: -1 is no limit, -2 as much as the context holds; the same to us.
        "MAX_NEW_TOKENS" | "NUM_PREDICT" if value.starts_with('-') => {
            number(value)?;
            settings.tokens_max = None;
        }
        "MAX_NEW_TOKENS" | "NUM_PREDICT" => {
            settings.tokens_max = Some(check_tokens(count(value)?)?);
        }
        "TOP_K" => sampling.top_k = Some(count(value)?),
        "TEMPERATURE" => Knob::Temperature.set(sampling, number(value)?)?,
        "TOP_P" => Knob::TopP.set(sampling, number(value)?)?,
        "REPEAT_PENALTY" => Knob::RepeatPenalty.set(sampling, number(value)?)?,
        "FREQUENCY_PENALTY" => Knob::FrequencyPenalty.set(sampling, number(value)?)?,
        "PRESENCE_PENALTY" => Knob::PresencePenalty.set(sampling, number(value)?)?,
        _ => {}
    }
    Ok(())
}

fn number(value: &str) -> Result<f32, String> {
    value.parse().map_err(|_| format!("{value:?} is not a number"))
}

fn count(value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("{value:?} is not a whole number from 0"))
}
