//! How full the context may be.

use crate::{
    bench::{Load, Run},
    experiments::nothing_in_the_way,
    judge::{Experiment, Step, Verdict, step, trouble},
    seen::{Seen, Subject},
};

/// Tokens of the context that a prompt leaves free, in the steps of the experiment.
const MARGINS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
/// The context of these experiments in tokens: little to fill.
const CONTEXT_TOKENS: u32 = 256;
/// Tokens that a run may not go beyond where nothing else ends it.
const RUNAWAY_TOKENS: i32 = 128;

pub(super) const CONTEXT_LIMIT: Experiment = Experiment {
    name: "context-limit",
    question: "How much of the context must a prompt leave free, and what comes of one that is too \
               long?",
    how: "prompts of a length that leaves 64 to 1 tokens free, each in a process of its own and \
          answered to the context's end, then prompts as long as the context, longer, and twice as \
          long",
    is_dangerous: false,
    obstacle: nothing_in_the_way,
    steps: |_| {
        let within = MARGINS
            .iter()
            .rev()
            .map(|margin| filling(&free(*margin), CONTEXT_TOKENS - margin, *margin));
        let beyond = [
            ("0 free", CONTEXT_TOKENS),
            ("1 over", CONTEXT_TOKENS + 1),
            ("twice", 2 * CONTEXT_TOKENS),
        ];
        within.chain(beyond.map(|(name, len)| filling(name, len, 1))).collect()
    },
    judge: limit,
};

fn free(margin: u32) -> String {
    format!("{margin} free")
}

fn filling(name: &str, len: u32, tokens_max: u32) -> Step {
    Step::new(name, move |bench| {
        let tokens_max = i32::try_from(tokens_max).unwrap_or(i32::MAX);
        bench.load(&Load { context: CONTEXT_TOKENS, ..Load::to(tokens_max) })?;
        let prompt = bench.subject().material.of_len(usize::try_from(len).unwrap_or(usize::MAX));
        bench.run("run", Run::tokens(&prompt))?;
        Ok(())
    })
}

fn limit(_: &Subject, seen: &[Seen]) -> Verdict {
    let ran = |name: &str| step(seen, name).and_then(|seen| seen.ran("run"));
    let is_good = |margin: &&u32| {
        ran(&free(**margin)).is_some_and(|ran| ran.is_good() && !ran.tokens.is_empty())
    };
    // From the most room to the least, as far as all goes well.
    let good: Vec<u32> = MARGINS.iter().rev().take_while(is_good).copied().collect();
    let beyond: Vec<String> = seen
        .iter()
        .filter(|it| !it.step.ends_with("free") || it.step == "0 free")
        .map(outcome)
        .collect();
    let verdict = match good.last() {
        Some(margin) => Verdict::decided(
            "context_margin_tokens",
            *margin,
            format!("{margin} free are enough; {}", beyond.join(", ")),
        ),
        None => Verdict::undecided(
            trouble(seen).unwrap_or_else(|| format!("{} free were not enough", MARGINS[6])),
        ),
    };
    let outcomes: Vec<String> = seen.iter().map(outcome).collect();
    verdict.figure("outcomes", outcomes)
}

fn outcome(seen: &Seen) -> String {
    match (seen.trouble(), seen.ran("run")) {
        (Some(trouble), _) => trouble,
        (None, Some(ran)) => {
            let status = ran.status.unwrap_or_default();
            format!(
                "{}: {status}, {}, {} tokens",
                seen.step,
                ran.states.join("+"),
                ran.tokens.len()
            )
        }
        (None, None) => seen.step.clone(),
    }
}

pub(super) const CONTEXT_FULL: Experiment = Experiment {
    name: "context-full",
    question: "What happens when the context is full in the middle of an answer: does it end, or is \
               the beginning forgotten?",
    how: "a prompt that leaves 16 tokens free is answered without a limit, and stopped after 128 tokens",
    is_dangerous: false,
    obstacle: nothing_in_the_way,
    steps: |_| {
        vec![Step::new("run", |bench| {
            bench.load(&Load {
                context: CONTEXT_TOKENS,
                ignore_eos: bench.subject().is_f(),
                ..Load::to(-1)
            })?;
            let prompt = bench.subject().material.of_len(CONTEXT_TOKENS as usize - 16);
            let tokens = usize::try_from(RUNAWAY_TOKENS).unwrap_or(usize::MAX);
            bench.run("run", Run::tokens(&prompt).aborted_after_tokens(tokens))?;
            Ok(())
        })]
    },
    judge: full,
};

fn full(_: &Subject, seen: &[Seen]) -> Verdict {
    let Some((seen, ran)) = seen.first().and_then(|seen| Some((seen, seen.ran("run")?))) else {
        return Verdict::undecided(trouble(seen).unwrap_or_default());
    };
    let forgot = seen.log.iter().any(|line| line.contains("context to be full"));
    let verdict = if forgot {
        Verdict::observed("the beginning is forgotten, and it goes on")
    } else if ran.tokens.len() > 16 + 1 {
        Verdict::observed("it goes on without a word")
    } else if ran.is_good() {
        Verdict::observed("the answer ends")
    } else {
        Verdict::observed("the run fails")
    };
    verdict
        .figure("tokens", ran.tokens.len())
        .figure("kv_tokens", ran.kv)
        .figure("states", &ran.states)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::{End, Ran};

    fn seen(name: &str, status: Option<i32>) -> Seen {
        let ran = Ran { status, tokens: vec![1], ..Ran::default() };
        Seen {
            step: name.to_owned(),
            end: if status.is_some() {
                End::Done
            } else {
                End::Died("killed by SIGSEGV".to_owned())
            },
            at: None,
            ran: status.map(|_| ("run".to_owned(), ran)).into_iter().collect(),
            figures: Default::default(),
            log: Vec::new(),
        }
    }

    #[test]
    fn the_margin_is_the_least_below_which_something_goes_wrong() {
        let subject = Subject::default();
        let mut all: Vec<Seen> =
            MARGINS.iter().map(|margin| seen(&free(*margin), Some(0))).collect();
        assert_eq!(limit(&subject, &all).facts[0].value, 1);
        all[2] = seen(&free(4), None);
        // That 1 and 2 went well is luck.
        assert_eq!(limit(&subject, &all).facts[0].value, 8);
        all[6] = seen(&free(64), Some(-1));
        assert!(limit(&subject, &all).facts.is_empty());
    }
}
