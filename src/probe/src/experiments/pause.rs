//! Whether a run that is paused can be gone on with by hand.

use crate::{
    bench::{Bench, Load, Run, Stop},
    experiments::nothing_in_the_way,
    judge::{Experiment, Step, Verdict, is_same, step, trouble},
    seen::{Seen, Subject},
};

/// Tokens of each answer.
const TOKENS_MAX: i32 = 16;
/// Behind how many tokens it is paused.
const PAUSE_AFTER: usize = 6;

pub(super) const PAUSE: Experiment = Experiment {
    name: "pause",
    question: "Can a paused run be gone on with tokens of one's own, and a part of its cache be taken \
               out first?",
    how: "a run is paused behind 6 tokens; tokens are given to it, with and without taking out the \
          answer's part of the cache, and the answer is compared with that of an empty cache",
    is_dangerous: false,
    obstacle: nothing_in_the_way,
    steps: |_| {
        vec![
            Step::new("tokens", |bench| paused(bench, false)),
            Step::new("range", |bench| paused(bench, true)),
        ]
    },
    judge,
};

fn paused(bench: &mut Bench, takes_out: bool) -> Result<(), Stop> {
    bench.load(&Load::to(TOKENS_MAX))?;
    let material = bench.subject().material.clone();
    let prompt = &material.long;
    let paused = bench.fresh("paused", Run::tokens(prompt).pausing_after(PAUSE_AFTER))?;
    let kv = paused.kv.and_then(|kv| i32::try_from(kv).ok());
    let held = if takes_out { prompt.len() } else { kv.map_or(0, i32::cast_unsigned) as usize };
    if takes_out && let Some(end) = kv {
        let start = i32::try_from(prompt.len()).unwrap_or(i32::MAX);
        let cleared = bench.clear_range(start, end);
        bench.figure("range_cleared", cleared);
        let kv = bench.kv();
        bench.figure("kv_tokens_cleared", kv);
    }
    // What the cache does not hold of the paused answer stands in front of what goes on.
    let said = held.saturating_sub(prompt.len()).min(paused.tokens.len());
    let given = if takes_out {
        material.follow_up.clone()
    } else {
        [&paused.tokens[said..], &material.follow_up].concat()
    };
    bench.run("goes on", Run::tokens(&given))?;
    let kept = if takes_out { &[] } else { &paused.tokens[..said] };
    let whole = [&prompt[..], kept, &given].concat();
    bench.fresh("alone", Run::tokens(&whole))?;
    Ok(())
}

fn judge(_: &Subject, seen: &[Seen]) -> Verdict {
    let way = |name: &str| {
        let seen = step(seen, name)?;
        let (on, alone) = (seen.ran("goes on")?, seen.ran("alone")?);
        (!alone.tokens.is_empty()).then(|| on.is_good() && is_same(&on.tokens, &alone.tokens))
    };
    let word = |way| match way {
        Some(true) => "goes on right",
        Some(false) => "goes on wrong",
        None => "was not seen",
    };
    let (tokens, range) = (way("tokens"), way("range"));
    let verdict = match (tokens, range) {
        (None, None) => Verdict::undecided(trouble(seen).unwrap_or_default()),
        (tokens, range) => Verdict::observed(format!(
            "with tokens of one's own it {}, with a part taken out it {}",
            word(tokens),
            word(range)
        )),
    };
    let paused = step(seen, "tokens").and_then(|seen| seen.ran("paused"));
    let figures = step(seen, "range").map(|seen| seen.figures.clone()).unwrap_or_default();
    let mut verdict = verdict
        .figure("paused_tokens", paused.map(|ran| ran.tokens.len()))
        .figure("paused_states", paused.map(|ran| &ran.states))
        .figure("paused_kv_tokens", paused.map(|ran| ran.kv));
    verdict.figures.extend(figures);
    verdict
}
