//! Models to test with.

use super::driver::{Model, Said, Vocabulary};

/// Writes one JSON text in its own tokens, and ends. What others have put into the answer it takes for
/// its own as far as that agrees but for blanks.
pub(crate) struct Writer<'a> {
    vocabulary: &'a Vocabulary,
    text: String,
    ids: Vec<i32>,
    at: usize,
    /// Cuts its tokens anywhere.
    odd: Option<Rng>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(vocabulary: &'a Vocabulary, text: &str) -> Self {
        let mut writer =
            Self { vocabulary, text: text.to_owned(), ids: Vec::new(), at: 0, odd: None };
        writer.begin(&[]);
        writer
    }

    pub(crate) fn odd(vocabulary: &'a Vocabulary, text: &str, seed: u64) -> Self {
        Self { odd: Some(Rng(seed)), ..Self::new(vocabulary, text) }
    }
}

impl Model for Writer<'_> {
    fn begin(&mut self, answer: &[i32]) {
        let there = self.vocabulary.text(answer);
        let from = behind(&self.text, &there).unwrap_or(self.text.len());
        let rest = &self.text[from..];
        self.ids = match &mut self.odd {
            Some(rng) => self.vocabulary.odd_ids(rest, rng),
            None => self.vocabulary.ids(rest),
        };
        self.at = 0;
    }

    fn next(&mut self) -> Said {
        let id = self.ids.get(self.at).copied();
        self.at += 1;
        id.map_or(Said::Eos, Said::Token)
    }
}

/// Where in a text one is behind another text, if that is a beginning of it but for blanks between
/// tokens of JSON.
fn behind(text: &str, there: &str) -> Option<usize> {
    let mut rest = text.char_indices().peekable();
    let (mut in_string, mut escaped) = (false, false);
    for letter in there.chars() {
        let blank = |c: char| !in_string && c.is_ascii_whitespace();
        if blank(letter) {
            continue;
        }
        while rest.next_if(|(_, c)| blank(*c)).is_some() {}
        rest.next_if(|(_, c)| *c == letter)?;
        match letter {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = letter == '\\' && !escaped;
    }
    Some(rest.peek().map_or(text.len(), |(at, _)| *at))
}

/// A model that looks at nothing.
pub(crate) struct Blind<F>(pub(crate) F);

impl<F: FnMut() -> Said> Model for Blind<F> {
    fn begin(&mut self, _answer: &[i32]) {}

    fn next(&mut self) -> Said {
        (self.0)()
    }
}

/// Numbers from a seed (SplitMix64).
#[derive(Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
