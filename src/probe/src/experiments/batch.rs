//! What answering several prompts at once is worth.

use crate::{
    bench::{Bench, Load, Run, Stop},
    experiments::nothing_in_the_way,
    judge::{Experiment, Step, Verdict, step, trouble},
    seen::{Seen, Subject},
};

/// Tokens of each answer.
const TOKENS_MAX: i32 = 32;
/// How many prompts are answered at once.
const BATCHES: [u8; 3] = [1, 2, 4];

pub(super) const BATCH: Experiment = Experiment {
    name: "batch",
    question: "Does this model answer several prompts at once, and how much faster than one after the \
               other?",
    how: "the same prompt is answered once, twice and four times at once",
    is_dangerous: false,
    obstacle: nothing_in_the_way,
    steps: |_| BATCHES.map(|of| Step::new(name(of), move |bench| at_once(bench, of))).into(),
    judge,
};

fn name(of: u8) -> String {
    format!("{of} at once")
}

fn at_once(bench: &mut Bench, of: u8) -> Result<(), Stop> {
    bench.load(&Load { batches: Some(of), ..Load::to(TOKENS_MAX) })?;
    let prompt = bench.subject().material.long.clone();
    let prompts = vec![&prompt[..]; of.into()];
    bench.run("run", Run::batch(&prompts))?;
    Ok(())
}

fn judge(_: &Subject, seen: &[Seen]) -> Verdict {
    #[allow(clippy::cast_precision_loss, reason = "some hundred tokens")]
    let speed = |of: u8| {
        let ran = step(seen, &name(of))?.ran("run").filter(|ran| ran.is_good())?;
        let decode_ms = ran.ms - ran.first_ms?;
        let tokens = ran.tokens_of_all.saturating_sub(of.into());
        (decode_ms > 0.0).then(|| tokens as f64 * 1000.0 / decode_ms)
    };
    let speeds = BATCHES.map(speed);
    let words: Vec<String> = BATCHES
        .iter()
        .zip(speeds)
        .map(|(of, speed)| match speed {
            Some(speed) => format!("{of} at once: {speed:.1} tokens/s"),
            None => format!("{of} at once: none"),
        })
        .collect();
    let verdict = match speeds[0] {
        None => Verdict::undecided(trouble(seen).unwrap_or_default()),
        Some(_) => Verdict::observed(words.join(", ")),
    };
    verdict.figure("tokens_per_second", speeds).figure("trouble", trouble(seen))
}
