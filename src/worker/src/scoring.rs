//! Probabilities of tokens, of the rows of logits.

use rkllama_npu::Logits;
use rkllama_protocol::{Score, TokenScore};

/// The probabilities that were asked for; what is wrong where they cannot be told.
///
/// Rows are counted from the end: a runtime has none for tokens that it did not compute.
pub(crate) fn scores(
    logits: Logits<'_>,
    score: &Score,
) -> Result<(Vec<f32>, Vec<TokenScore>), String> {
    let rows = logits.values.chunks_exact(logits.width);
    let last = usize::try_from(score.last).unwrap_or(usize::MAX);
    // The row behind a token says what comes next, so the last row is not of the text itself.
    let wanted = last.saturating_add(1);
    if rows.len() < wanted {
        let rows = rows.len();
        return Err(format!("the runtime gave {rows} rows of logits, and {wanted} are needed"));
    }
    let first_row = rows.len() - wanted;
    let mut rows = rows.skip(first_row);
    let first = score.tokens.len().saturating_sub(last);
    let mut tokens = Vec::with_capacity(last);
    for (token, row) in score.tokens.iter().skip(first).zip(rows.by_ref().take(last)) {
        let row = Row::of(row)?;
        tokens.push(TokenScore { logprob: row.logprob(*token)?, top: row.top(score.top) });
    }
    let behind = Row::of(rows.next().unwrap_or_default())?;
    let candidates = score.candidates.iter().map(|token| behind.logprob(*token));
    Ok((candidates.collect::<Result<_, _>>()?, tokens))
}

/// A row, and the logarithm of what its exponentials come to.
struct Row<'a> {
    values: &'a [f32],
    log_sum: f64,
}

impl<'a> Row<'a> {
    fn of(values: &'a [f32]) -> Result<Self, String> {
        let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = values.iter().map(|value| f64::from(value - most).exp()).sum();
        let log_sum = f64::from(most) + sum.ln();
        match log_sum.is_finite() {
            true => Ok(Self { values, log_sum }),
            false => Err("the runtime gave logits that are no numbers".to_owned()),
        }
    }

    fn logprob(&self, token: i32) -> Result<f32, String> {
        let value = usize::try_from(token).ok().and_then(|at| self.values.get(at));
        let value = value.ok_or_else(|| {
            format!("token {token} is beyond the {} of the runtime", self.values.len())
        })?;
        #[expect(clippy::cast_possible_truncation, reason = "logits are f32 themselves")]
        Ok((f64::from(*value) - self.log_sum) as f32)
    }

    /// The likeliest tokens, the likeliest first; of equal ones the one with the smaller id.
    fn top(&self, count: u32) -> Vec<(i32, f32)> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.values.len());
        if count == 0 {
            return Vec::new();
        }
        let mut ids: Vec<usize> = (0..self.values.len()).collect();
        let likelier =
            |a: &usize, b: &usize| self.values[*b].total_cmp(&self.values[*a]).then(a.cmp(b));
        if count < ids.len() {
            ids.select_nth_unstable_by(count - 1, likelier);
            ids.truncate(count);
        }
        ids.sort_unstable_by(likelier);
        let scored = |id: usize| {
            let token = i32::try_from(id).ok()?;
            Some((token, self.logprob(token).ok()?))
        };
        ids.into_iter().filter_map(scored).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(tokens: &[i32], candidates: &[i32], last: u32, top: u32) -> Score {
        Score { run: 1, tokens: tokens.to_vec(), candidates: candidates.to_vec(), last, top }
    }

    #[test]
    fn a_token_is_weighed_by_the_row_before_it_and_candidates_by_the_last() {
        let ln = |p: f32| p.ln();
        // Rows behind the tokens 2 and 0, of a text of three: the first was not computed.
        let values = [ln(0.5), ln(0.25), ln(0.25), ln(0.1), ln(0.2), ln(0.7)];
        let logits = Logits { values: &values, width: 3 };
        let (candidates, tokens) = scores(logits, &asked(&[1, 2, 0], &[2, 1], 1, 2)).unwrap();
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{a} {b}");
        near(candidates[0], ln(0.7));
        near(candidates[1], ln(0.2));
        assert_eq!(tokens.len(), 1);
        near(tokens[0].logprob, ln(0.5));
        let ids: Vec<i32> = tokens[0].top.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [0, 1]);
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        let row = [0.0, 1.0];
        let logits = Logits { values: &row, width: 2 };
        for (score, words) in [
            (asked(&[0, 1], &[], 1, 0), "1 rows of logits, and 2"),
            (asked(&[0], &[2], 0, 0), "token 2"),
            (asked(&[0], &[-1], 0, 0), "token -1"),
        ] {
            let error = scores(logits, &score).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let nan = [f32::NAN, f32::NAN];
        let logits = Logits { values: &nan, width: 2 };
        assert!(scores(logits, &asked(&[0], &[0], 0, 0)).unwrap_err().contains("no numbers"));
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one_and_the_top_is_sorted(
            row in proptest::collection::vec(-50f32..50.0, 1..40),
            top in 0u32..50,
        ) {
            let row = Row::of(&row).unwrap();
            let all = row.top(u32::MAX);
            let sum: f64 = all.iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
            prop_assert!((sum - 1.0).abs() < 1e-4, "{}", sum);
            prop_assert!(all.windows(2).all(|two| two[0].1 >= two[1].1));
            let some = row.top(top);
            prop_assert_eq!(&some[..], &all[..some.len()]);
            prop_assert_eq!(some.len(), all.len().min(top as usize));
        }
    }
}
