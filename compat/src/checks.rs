//! What the engine takes for granted, in no API's words.

use rkllama_core::Sampling;

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

/// A number for a knob, as near to it as the knob's range allows.
pub(crate) fn clamped(value: Option<f64>, min: f64, max: f64) -> Option<f32> {
    value.map(|value| value.clamp(min, max) as f32)
}

/// A number of most likely tokens. 0 and less mean all of the vocabulary.
pub(crate) fn top_k(value: i64) -> u32 {
    if value > 0 { saturated(value) } else { u32::MAX }
}

/// A number of tokens. 0 and less mean as many as there is room for.
pub(crate) fn tokens_max(value: i64) -> u32 {
    if value > 0 { saturated(value) } else { u32::MAX }
}

/// A number that is not negative.
pub(crate) fn saturated(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Sampling as llama.cpp's family names it, each value within the range of its knob.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Knobs {
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<i64>,
    pub(crate) repeat_penalty: Option<f64>,
    pub(crate) frequency_penalty: Option<f64>,
    pub(crate) presence_penalty: Option<f64>,
}

impl Knobs {
    pub(crate) fn sampling(self) -> Sampling {
        let (min, max) = (Sampling::REPEAT_PENALTY_MIN, Sampling::REPEAT_PENALTY_MAX);
        Sampling {
            temperature: clamped(self.temperature, 0.0, 2.0),
            top_p: clamped(self.top_p, 0.0, 1.0),
            top_k: self.top_k.map(top_k),
            repeat_penalty: clamped(self.repeat_penalty, min, max),
            frequency_penalty: clamped(self.frequency_penalty, -2.0, 2.0),
            presence_penalty: clamped(self.presence_penalty, -2.0, 2.0),
        }
    }
}
