//! What the runtime makes of texts and of a limit of none.

use crate::{
    bench::{Bench, Load, Run, Stop},
    experiments::{nothing_in_the_way, saved},
    judge::{Experiment, Step, Verdict, trouble},
    seen::{Seen, Subject},
};

/// The file whose head tells the tokens of a text.
const FILE: &str = "text.cache";

pub(super) const SPECIAL_TOKENS: Experiment = Experiment {
    name: "special-tokens",
    question: "Are names of control tokens in a text control tokens?",
    how: "a text with the name of the end of an answer in it is saved as a prompt cache, whose head \
          has its tokens",
    is_dangerous: false,
    obstacle: |subject| {
        let without = "the tokenizer names no end".to_owned();
        subject.material.eos_name.is_none().then_some(without)
    },
    steps: |_| vec![Step::new("texts", texts)],
    judge: special,
};

fn texts(bench: &mut Bench) -> Result<(), Stop> {
    bench.load(&Load::to(1))?;
    let name = bench.subject().material.eos_name.clone().unwrap_or_default();
    for (label, text) in [("without", "one two".to_owned()), ("with", format!("one {name} two"))] {
        let file = bench.file(FILE);
        // Of the text before it.
        let _ = std::fs::remove_file(&file);
        bench.fresh(label, Run::text(&text).saving(file.clone()))?;
        bench.figure(label, saved::head(&file).map(|(_, tokens)| tokens));
    }
    Ok(())
}

fn special(subject: &Subject, seen: &[Seen]) -> Verdict {
    let ends = |label: &str| -> Option<usize> {
        let tokens = seen.first()?.figures.get(label)?.as_array()?;
        let ends = |id: &i64| subject.material.eos_ids.iter().any(|eos| i64::from(*eos) == *id);
        Some(tokens.iter().filter_map(serde_json::Value::as_i64).filter(ends).count())
    };
    let verdict = match (ends("without"), ends("with")) {
        (Some(without), Some(with)) if with > without => {
            Verdict::observed("they are control tokens")
        }
        (Some(_), Some(_)) => Verdict::observed("they are not the control token"),
        _ => Verdict::undecided(
            trouble(seen).unwrap_or_else(|| "no file told the tokens of a text".to_owned()),
        ),
    };
    verdict.figure("ends_without", ends("without")).figure("ends_with", ends("with"))
}

pub(super) const NO_TOKENS: Experiment = Experiment {
    name: "no-tokens",
    question: "What is a limit of 0 new tokens, given at load?",
    how: "a prompt is answered with that limit, and aborted behind 8 tokens",
    is_dangerous: false,
    obstacle: nothing_in_the_way,
    steps: |_| {
        vec![Step::new("run", |bench| {
            bench.load(&Load::to(0))?;
            let prompt = bench.subject().material.long.clone();
            bench.run("run", Run::tokens(&prompt).aborted_after_tokens(8))?;
            Ok(())
        })]
    },
    judge: none,
};

fn none(_: &Subject, seen: &[Seen]) -> Verdict {
    let Some(ran) = seen.first().and_then(|seen| seen.ran("run")) else {
        return Verdict::undecided(trouble(seen).unwrap_or_default());
    };
    let tokens = ran.tokens.len();
    let words = match (ran.is_good(), tokens) {
        (false, _) => "the run fails".to_owned(),
        (true, 8..) => "it is no limit".to_owned(),
        (true, tokens) => format!("{tokens} tokens come"),
    };
    Verdict::observed(words).figure("tokens", tokens).figure("states", &ran.states)
}
