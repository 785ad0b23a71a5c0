//! What the engine takes for granted, in no API's words.

/// Most functions in a request: OpenAI's number.
pub(crate) const TOOLS_MAX: usize = 128;
/// The longest name of a function: OpenAI's number.
const TOOL_NAME_LEN_MAX: usize = 64;
/// Largest JSON Schema of an answer, in bytes; it stands in the prompt too.
pub(crate) const SCHEMA_BYTES_MAX: usize = 256 << 10;
/// Longest piece of a client's text in an error, in characters.
const ECHO_CHARS_MAX: usize = 200;

/// Whether a function may be called so.
pub(crate) fn is_tool_name(name: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    (1..=TOOL_NAME_LEN_MAX).contains(&name.len()) && name.chars().all(is_name)
}

/// A client's text, short enough to be repeated to it.
pub(crate) fn echo(text: &str) -> &str {
    text.char_indices().nth(ECHO_CHARS_MAX).map_or(text, |(at, _)| &text[..at])
}
