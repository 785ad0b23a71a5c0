//! What an abort leaves behind.

use std::time::Duration;

use crate::{
    bench::{Bench, Load, Run, Stop},
    experiments::nothing_in_the_way,
    judge::{Experiment, Step, Verdict, explains_kv, is_same, step, trouble},
    seen::{Ran, Seen, Subject},
};

/// Tokens of each answer: more than any abort waits for.
const TOKENS_MAX: i32 = 24;
/// Behind how many tokens it is aborted.
const ABORTS_AFTER: [usize; 3] = [2, 5, 9];

pub(super) const ABORT: Experiment = Experiment {
    name: "abort",
    question: "What does an aborted run leave behind: a token that comes in the next run, a KV cache \
               that holds something else than what was said? How long does it take?",
    how: "answers are aborted behind 2, 5 and 9 tokens; the conversation then goes on, or another \
          begins, and each answer is compared with that of an empty cache; a prompt is aborted while \
          it is read",
    is_dangerous: false,
    obstacle: nothing_in_the_way,
    steps: |_| vec![Step::new("decode", decode), Step::new("prefill", prefill)],
    judge,
};

fn decode(bench: &mut Bench) -> Result<(), Stop> {
    bench.load(&Load::to(TOKENS_MAX))?;
    let material = bench.subject().material.clone();
    let other = material.questions.last().ok_or("there are no questions")?;
    for tokens in ABORTS_AFTER {
        let run = || Run::tokens(&material.long).aborted_after_tokens(tokens);
        bench.fresh(&format!("aborted {tokens} before another"), run())?;
        bench.run(&format!("another behind {tokens}"), Run::tokens(other))?;
        bench.fresh(&format!("another cleared {tokens}"), Run::tokens(other))?;

        let aborted = bench.fresh(&format!("aborted {tokens}"), run())?;
        let goes_on = [&material.long[..], &aborted.tokens, &material.follow_up].concat();
        bench.run(&format!("goes on behind {tokens}"), Run::tokens(&goes_on))?;
        bench.fresh(&format!("goes on cleared {tokens}"), Run::tokens(&goes_on))?;
    }
    Ok(())
}

fn prefill(bench: &mut Bench) -> Result<(), Stop> {
    bench.load(&Load::to(TOKENS_MAX))?;
    let prompt = bench.subject().material.of_len(bench.subject().context() as usize / 2);
    let whole = bench.fresh("whole", Run::tokens(&prompt))?;
    let wait = whole.first_ms.unwrap_or(whole.ms) / 4.0;
    let wait = Duration::from_secs_f64((wait / 1000.0).max(0.001));
    bench.fresh("aborted", Run::tokens(&prompt).aborted_after(wait))?;
    Ok(())
}

/// Whether a run began with the last token of the one that was aborted before it, although it is none
/// of its own answer's.
fn is_stale(behind: &Ran, alone: &Ran, aborted: &Ran) -> bool {
    let (Some(first), Some(last)) = (behind.tokens.first(), aborted.tokens.last()) else {
        return false;
    };
    let own = is_same(&behind.tokens, &alone.tokens);
    first == last && !own && is_same(&behind.tokens[1..], &alone.tokens)
}

/// One abort, and the two runs behind it.
struct Case<'a> {
    before_another: &'a Ran,
    another: &'a Ran,
    another_alone: &'a Ran,
    aborted: &'a Ran,
    goes_on: &'a Ran,
    goes_on_alone: &'a Ran,
}

impl<'a> Case<'a> {
    fn of(seen: &'a Seen, tokens: usize) -> Option<Self> {
        let ran = |label: &str| seen.ran(&format!("{label} {tokens}"));
        Some(Self {
            before_another: seen.ran(&format!("aborted {tokens} before another"))?,
            another: ran("another behind")?,
            another_alone: ran("another cleared")?,
            aborted: ran("aborted")?,
            goes_on: ran("goes on behind")?,
            goes_on_alone: ran("goes on cleared")?,
        })
    }

    fn is_stale(&self) -> bool {
        is_stale(self.another, self.another_alone, self.before_another)
            || is_stale(self.goes_on, self.goes_on_alone, self.aborted)
    }

    /// Whether the cache held what its size says.
    fn kv_is_right(&self) -> bool {
        let own = |behind: &Ran, alone: &Ran, aborted: &Ran| {
            let stale = is_stale(behind, alone, aborted);
            behind.is_good() && (stale || is_same(&behind.tokens, &alone.tokens))
        };
        explains_kv(self.aborted, 0)
            && self.aborted.kv.is_some()
            && own(self.another, self.another_alone, self.before_another)
            && own(self.goes_on, self.goes_on_alone, self.aborted)
    }

    /// Whether it was aborted at all: one that ended by itself shows nothing.
    fn is_aborted(&self) -> bool {
        let cut = |ran: &Ran| i32::try_from(ran.tokens.len()).is_ok_and(|len| len < TOKENS_MAX);
        let said = !self.another_alone.tokens.is_empty() && !self.goes_on_alone.tokens.is_empty();
        self.aborted.abort_ms.is_some() && cut(self.aborted) && said
    }
}

fn judge(_: &Subject, seen: &[Seen]) -> Verdict {
    let decode = step(seen, "decode");
    let cases: Vec<Case<'_>> = ABORTS_AFTER
        .iter()
        .filter_map(|tokens| Case::of(decode?, *tokens))
        .filter(Case::is_aborted)
        .collect();
    let stale = cases.iter().filter(|case| case.is_stale()).count();
    let wrong = cases.iter().filter(|case| !case.kv_is_right()).count();
    let whole = cases.len() == ABORTS_AFTER.len();
    let of = cases.len();
    // One case shows that a fault is there; that it is not takes all of them.
    let stale_words = format!("a token of the aborted run came in {stale} of {of} next ones");
    let verdict = match (stale, whole) {
        (1.., _) => Verdict::decided("stale_token_after_abort", true, stale_words),
        (0, true) => Verdict::decided("stale_token_after_abort", false, stale_words),
        (0, false) => {
            Verdict::undecided(trouble(seen).unwrap_or_else(|| "too few aborts".to_owned()))
        }
    };
    let kv_words = format!("the KV cache was not what its size says in {wrong} of {of}");
    let verdict = match (wrong, whole) {
        (1.., _) => verdict.and(Verdict::decided("kv_doubtful_after_abort", true, kv_words)),
        (0, true) => verdict.and(Verdict::decided("kv_doubtful_after_abort", false, kv_words)),
        (0, false) => verdict,
    };
    let times: Vec<Option<f64>> = cases.iter().map(|case| case.aborted.abort_ms).collect();
    let finishes = cases.iter().filter(|case| case.aborted.finished()).count();
    let sizes: Vec<Option<u32>> = cases.iter().map(|case| case.aborted.kv).collect();
    let expected: Vec<usize> =
        cases.iter().map(|case| case.aborted.prompt + case.aborted.tokens.len()).collect();
    let prefill = step(seen, "prefill");
    let ran = |label| prefill.and_then(|seen| seen.ran(label)).cloned().unwrap_or_default();
    let (whole, aborted) = (ran("whole"), ran("aborted"));
    verdict
        .figure("decode_abort_ms", times)
        .figure("aborts_with_finish", finishes)
        .figure("kv_tokens", sizes)
        .figure("kv_tokens_at_most", expected)
        .figure("prefill_ms", whole.first_ms)
        .figure("prefill_abort_ms", aborted.abort_ms)
        .figure("prefill_abort_kv_tokens", aborted.kv)
        .figure("prefill_abort_tokens", aborted.tokens.len())
}
