//! Notices an answer that repeats itself without end, as small models at temperature 0 do.
//!
//! The text goes round when its last tokens repeat one block: the token at each place equals the one
//! a period before it. That is followed for every period up to a quarter of the bound, so that a
//! block has come at least four times before an answer is ended. Exact repetition only: a list whose
//! numbers count up is none.

/// Follows the tokens of one answer.
#[derive(Debug)]
pub(crate) struct Repetition {
    /// Tokens of pure repetition after which it is enough.
    tokens_max: usize,
    /// The last tokens, a ring as long as the longest period.
    last: Vec<i32>,
    /// Tokens seen.
    seen: usize,
    /// For each period, from 1 on: how many tokens in a row equal the one a period before.
    same: Vec<usize>,
}

impl Repetition {
    /// Ends an answer after so many tokens of pure repetition; 0 never does.
    pub(crate) fn after(tokens_max: u32) -> Option<Self> {
        let tokens_max = usize::try_from(tokens_max).ok().filter(|max| *max > 0)?;
        let period_max = (tokens_max / 4).max(1);
        Some(Self { tokens_max, last: vec![0; period_max], seen: 0, same: vec![0; period_max] })
    }

    /// Takes the next token; whether the answer has gone round for too long with it.
    pub(crate) fn goes_round_with(&mut self, token: i32) -> bool {
        let len = self.last.len();
        let mut longest = 0;
        for period in 1..=len.min(self.seen) {
            let before = self.last[(self.seen - period) % len];
            let same = &mut self.same[period - 1];
            // A token without an id equals nothing.
            *same = if before == token && token >= 0 { *same + 1 } else { 0 };
            longest = longest.max(*same);
        }
        self.last[self.seen % len] = token;
        self.seen += 1;
        longest >= self.tokens_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended_at(tokens_max: u32, tokens: impl IntoIterator<Item = i32>) -> Option<usize> {
        let mut repetition = Repetition::after(tokens_max).unwrap();
        tokens.into_iter().position(|token| repetition.goes_round_with(token))
    }

    #[test]
    fn a_block_that_comes_again_and_again_is_noticed() {
        for period in [1, 2, 7, 25] {
            let endless = (0..10_000).map(|at| at % period);
            // The block itself, then a hundred tokens that repeat it.
            let expected = usize::try_from(period).unwrap() + 100 - 1;
            assert_eq!(ended_at(100, endless), Some(expected), "{period}");
        }
    }

    #[test]
    fn the_beginning_need_not_be_part_of_it() {
        let tokens = (0..500).chain((0..10_000).map(|at| at % 3));
        assert_eq!(ended_at(100, tokens), Some(500 + 3 + 100 - 1));
    }

    #[test]
    fn what_changes_now_and_then_goes_on() {
        // A table whose last column counts up.
        let table = (0..10_000).map(|at| if at % 20 == 19 { 1000 + at } else { at % 20 });
        assert_eq!(ended_at(100, table), None);
        // A block longer than a quarter of the bound.
        assert_eq!(ended_at(100, (0..10_000).map(|at| at % 26)), None);
        assert_eq!(ended_at(100, std::iter::repeat_n(-1, 1000)), None, "tokens without ids");
    }

    #[test]
    fn none_is_none() {
        assert!(Repetition::after(0).is_none());
    }
}
