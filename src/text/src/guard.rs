//! Keeps special tokens written in a message from acting as control tokens.
//!
//! Who writes `<|im_end|><|im_start|>system` into a message must not begin a system turn. The
//! template mixes its own control tokens with the message's text into one string, so the
//! difference has to be marked before rendering and has to survive it: inside each occurrence of
//! a protected token in a message we put one [`BREAKER`] character behind the token's first. In
//! the rendered text the tokenizer then recognises only what the template wrote; its first
//! normalizer step removes the breakers, which comes after special tokens are looked for and
//! before anything else, so that the message is tokenised as the ordinary text it is. A text
//! without special tokens passes unchanged and gives the very ids it would give anyway.
//!
//! One string stays one string, and so nothing has to be cut and glued: prefix spaces, merges
//! across lines and normalization are the tokenizer's own.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::{
    AddedToken, Tokenizer,
    normalizers::{NormalizerWrapper, Replace, Sequence},
};

use crate::{TextError, config::TOKENIZER};

/// A noncharacter: Unicode reserves it for use inside programs, no text may carry it.
pub(crate) const BREAKER: char = '\u{fdd0}';

/// Finds protected tokens in messages.
pub(crate) struct Guard {
    tokens: Option<AhoCorasick>,
}

impl Guard {
    /// Prepares the tokenizer to take guarded text, and a guard for its special tokens.
    pub(crate) fn install(tokenizer: &mut Tokenizer) -> Result<Self, TextError> {
        let failed = |err: String| TextError::File { file: TOKENIZER, reason: err };
        let protected: Vec<AddedToken> =
            tokenizer.get_added_tokens_decoder().into_values().filter(is_control).collect();

        // Those are looked for after normalization, when the breakers are gone, and a message
        // could reach them in several spellings. Templates write them verbatim, so looking for
        // them verbatim loses nothing.
        let late = protected.iter().filter(|token| token.normalized);
        let early: Vec<AddedToken> = late.map(|token| token.clone().normalized(false)).collect();
        if !early.is_empty() {
            tokenizer.add_tokens(early).map_err(|err| failed(err.to_string()))?;
        }

        let remove =
            Replace::new(BREAKER.to_string(), "").map_err(|err| failed(err.to_string()))?;
        let own = tokenizer.get_normalizer().cloned();
        let steps: Vec<NormalizerWrapper> = std::iter::once(remove.into()).chain(own).collect();
        tokenizer
            .with_normalizer(Some(Sequence::new(steps)))
            .map_err(|err| failed(err.to_string()))?;
        Ok(Self { tokens: matcher(&protected)? })
    }

    /// The text with every protected token broken. Text that holds the breaker itself, which no
    /// text should, has it replaced by U+FFFD.
    pub(crate) fn guard<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let text: Cow<'a, str> = if text.contains(BREAKER) {
            text.replace(BREAKER, "\u{fffd}").into()
        } else {
            text.into()
        };
        let Some(tokens) = &self.tokens else { return text };
        // Overlapping: breaking one occurrence must not leave another whole.
        let first_len = |at: usize| text[at..].chars().next().map_or(0, char::len_utf8);
        let mut breaks: Vec<usize> = tokens
            .find_overlapping_iter(text.as_ref())
            .map(|found| found.start() + first_len(found.start()))
            .collect();
        if breaks.is_empty() {
            return text;
        }
        breaks.sort_unstable();
        breaks.dedup();
        let mut broken = String::with_capacity(text.len() + breaks.len() * BREAKER.len_utf8());
        let mut from = 0;
        for at in breaks {
            broken.push_str(&text[from..at]);
            broken.push(BREAKER);
            from = at;
        }
        broken.push_str(&text[from..]);
        broken.into()
    }
}

/// Guarded text as it was before.
pub(crate) fn unguard(text: &str) -> Cow<'_, str> {
    if text.contains(BREAKER) { text.replace(BREAKER, "").into() } else { text.into() }
}

/// Whether a token controls the conversation.
///
/// Those marked special do. Some makers leave the mark off (DeepSeek's `<｜User｜>`), so whatever
/// is spelled with bars does too. `<think>`, `<tool_call>` and their like are not marked because
/// they are text that templates and parsers read; in a message they stay what they are. A token
/// of one character cannot be told from text.
pub(crate) fn is_control(token: &AddedToken) -> bool {
    let content = token.content.as_str();
    let barred = |open: &str, close: &str| content.starts_with(open) && content.ends_with(close);
    content.chars().nth(1).is_some()
        && (token.special || barred("<|", "|>") || barred("<｜", "｜>"))
}

fn matcher(tokens: &[AddedToken]) -> Result<Option<AhoCorasick>, TextError> {
    if tokens.is_empty() {
        return Ok(None);
    }
    AhoCorasick::builder()
        .match_kind(MatchKind::Standard)
        .build(tokens.iter().map(|token| token.content.as_str()))
        .map(Some)
        .map_err(|err| TextError::File {
            file: TOKENIZER,
            reason: format!("cannot search for its special tokens: {err}"),
        })
}
