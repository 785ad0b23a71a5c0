//! How likely tokens were.

/// What is to be told of the tokens' probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogprobsWanted {
    /// How many of the likeliest tokens are named in each place.
    pub top: u32,
    /// Whether the prompt's tokens are told of, too.
    pub of_prompt: bool,
}

/// Probabilities of tokens, as natural logarithms, before temperature, penalties and filters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Logprobs {
    /// Of the prompt; empty where they were not wanted.
    pub prompt: Vec<TokenLogprob>,
    /// Of the answer's text: not of thoughts and calls.
    pub answer: Vec<TokenLogprob>,
}

impl Logprobs {
    /// The mean over the answer's tokens; 0 where it has none.
    pub fn answer_mean(&self) -> f64 {
        let sum: f64 = self.answer.iter().filter_map(|it| it.logprob).map(f64::from).sum();
        #[expect(clippy::cast_precision_loss, reason = "a context holds far fewer tokens")]
        let count = self.answer.len().max(1) as f64;
        sum / count
    }
}

/// A token in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: TokenText,
    /// The logarithm of its probability; none for the first token of all, before which there is nothing.
    pub logprob: Option<f32>,
    /// The likeliest tokens in its place, the likeliest first.
    pub top: Vec<(TokenText, f32)>,
}

/// A token and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenText {
    /// Its id.
    pub id: i32,
    /// Its text in UTF-8; a token can be a part of a character.
    pub bytes: Vec<u8>,
}

impl TokenText {
    /// Its text, with U+FFFD where it is a part of a character.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}
