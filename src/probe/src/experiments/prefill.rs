//! What the runtime's own count of prompt tokens counts.

use crate::{
    bench::{Bench, Load, Run, Stop},
    experiments::nothing_in_the_way,
    judge::{Experiment, Step, Verdict, trouble},
    seen::{Seen, Subject},
};

pub(super) const PREFILL_TOKENS: Experiment = Experiment {
    name: "prefill-tokens",
    question: "Does its count of prompt tokens count the whole prompt, or what was computed of it?",
    how: "a prompt is answered, and once more with its end replaced, whose count is looked at",
    is_dangerous: false,
    obstacle: nothing_in_the_way,
    steps: |_| vec![Step::new("runs", runs)],
    judge,
};

fn runs(bench: &mut Bench) -> Result<(), Stop> {
    bench.load(&Load::to(1))?;
    let material = bench.subject().material.clone();
    bench.fresh("alone", Run::tokens(&material.long))?;
    let again = [&material.long[..], &material.follow_up].concat();
    bench.run("behind it", Run::tokens(&again))?;
    Ok(())
}

fn judge(_: &Subject, seen: &[Seen]) -> Verdict {
    let ran = |label| seen.first().and_then(|seen| seen.ran(label)).filter(|ran| ran.is_good());
    let (Some(alone), Some(behind)) = (ran("alone"), ran("behind it")) else {
        return Verdict::undecided(trouble(seen).unwrap_or_default());
    };
    let counts = |ran: &crate::seen::Ran| {
        ran.perf_prefill_tokens.and_then(|tokens| usize::try_from(tokens).ok())
    };
    let verdict = match (counts(alone), counts(behind)) {
        (Some(first), Some(second)) if first == alone.prompt && second == behind.prompt => {
            Verdict::observed("it counts the whole prompt, or nothing was reused")
        }
        (Some(first), Some(second)) if first == alone.prompt && second < behind.prompt => {
            Verdict::observed("it counts what was computed")
        }
        (Some(_), Some(_)) => Verdict::observed("it counts something else"),
        _ => Verdict::undecided("it tells no count"),
    };
    verdict
        .figure("prompt_tokens", [alone.prompt, behind.prompt])
        .figure("counted", [alone.perf_prefill_tokens, behind.perf_prefill_tokens])
}
