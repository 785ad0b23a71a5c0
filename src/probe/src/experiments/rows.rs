//! What the modes for the last hidden layer and for logits give.

use crate::{
    bench::{Bench, Load, Run, Stop},
    experiments::nothing_in_the_way,
    judge::{Experiment, Step, Verdict, step, trouble},
    seen::{Ran, Rows, Seen, Subject},
};

/// Lengths of prompts whose cost is measured.
const LENGTHS: [usize; 3] = [1, 8, 400];
/// The run that is none of the mode's.
const CONTROL: &str = "control";
/// Cosine from which on two rows are the same but for rounding.
const SAME_COSINE: f64 = 0.999;

pub(super) const HIDDEN_LAYER: Experiment = Experiment {
    name: "hidden-layer",
    question: "Does it give the last hidden layer, in how many calls and rows, and is there a FINISH?",
    how: "texts are read twice with an empty cache: the same must give the same row, another another",
    is_dangerous: false,
    obstacle: nothing_in_the_way,
    steps: |_| vec![Step::new("read", |bench| texts(bench, |run| run.hidden()))],
    judge: hidden,
};

pub(super) const LOGITS: Experiment = Experiment {
    name: "logits",
    question: "Does it give logits, for how many tokens, at what cost, and does it keep a common \
               beginning then?",
    how: "prompts are weighed and answered: the likeliest token must be the answer's first; 1, 8 and \
          400 tokens are weighed, and the same prompt twice without emptying the cache",
    is_dangerous: false,
    obstacle: nothing_in_the_way,
    steps: |_| {
        vec![
            Step::new("read", |bench| texts(bench, |run| run.logits())),
            Step::new("answer", answers),
            Step::new("cost", cost),
        ]
    },
    judge: logits,
};

fn texts(bench: &mut Bench, mode: fn(Run<'_>) -> Run<'_>) -> Result<(), Stop> {
    bench.load(&Load::to(1))?;
    let questions = bench.subject().material.questions.clone();
    // What goes wrong behind this is the mode's doing.
    bench.fresh(CONTROL, Run::tokens(&questions[0]))?;
    for (index, text) in questions.iter().enumerate() {
        bench.fresh(&format!("text {index}"), mode(Run::tokens(text)))?;
        bench.fresh(&format!("again {index}"), mode(Run::tokens(text)))?;
    }
    Ok(())
}

fn answers(bench: &mut Bench) -> Result<(), Stop> {
    bench.load(&Load::to(1))?;
    for (index, text) in bench.subject().material.questions.clone().iter().enumerate() {
        bench.fresh(&format!("text {index}"), Run::tokens(text))?;
    }
    Ok(())
}

fn cost(bench: &mut Bench) -> Result<(), Stop> {
    bench.load(&Load::to(1))?;
    for len in LENGTHS {
        let text = bench.subject().material.of_len(len);
        bench.fresh(&format!("{len} tokens"), Run::tokens(&text).logits())?;
    }
    let text = bench.subject().material.of_len(LENGTHS[2]);
    bench.run("the same again", Run::tokens(&text).logits())?;
    Ok(())
}

/// The rows of a run: those of the last call that had some.
fn rows(ran: &Ran) -> Option<&Rows> {
    ran.rows.last().filter(|_| ran.status == Some(0))
}

fn cosine(one: &Rows, other: &Rows) -> f64 {
    let pairs = || one.last.iter().zip(&other.last).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let product: f64 = pairs().map(|(a, b)| a * b).sum();
    let (a, b): (f64, f64) = pairs().fold((0.0, 0.0), |(x, y), (a, b)| (x + a * a, y + b * b));
    product / (a * b).sqrt().max(f64::MIN_POSITIVE)
}

/// What the rows of all texts have in common.
struct All<'a> {
    texts: Vec<&'a Rows>,
    finite: bool,
    repeats: bool,
    differ: bool,
}

/// `None` where a text has no rows.
fn all(seen: &Seen) -> Option<All<'_>> {
    let of = |word: &str| -> Option<Vec<&Rows>> {
        let ran = seen.ran.iter().filter(|(label, _)| label.starts_with(word));
        ran.map(|(_, ran)| rows(ran)).collect()
    };
    let (texts, again) = (of("text")?, of("again")?);
    if texts.is_empty() {
        return None;
    }
    let same = |a: &Rows, b: &Rows| cosine(a, b) >= SAME_COSINE;
    Some(All {
        finite: texts.iter().chain(&again).all(|rows| rows.finite),
        repeats: texts.len() == again.len() && texts.iter().zip(&again).all(|(a, b)| same(a, b)),
        differ: texts.windows(2).all(|pair| !same(pair[0], pair[1])),
        texts,
    })
}

/// Whether the model answers at all.
fn answers_at_all(seen: Option<&Seen>) -> bool {
    seen.and_then(|seen| seen.ran(CONTROL)).is_some_and(Ran::is_good)
}

fn shape(seen: Option<&Seen>, verdict: Verdict) -> Verdict {
    let Some(ran) = seen.and_then(|seen| seen.ran("text 0")) else { return verdict };
    verdict
        .figure("states", &ran.states)
        .figure("calls_with_rows", ran.rows.len())
        .figure("rows", ran.rows.last().map(|rows| rows.rows))
        .figure("width", ran.rows.last().map(|rows| rows.width))
        .figure("prompt_tokens", ran.prompt)
        .figure("finish", ran.finished())
}

fn hidden(_: &Subject, seen: &[Seen]) -> Verdict {
    let decided = |is: bool, words: &str| Verdict::decided("hidden_layer", is, words);
    let read = step(seen, "read");
    let verdict = match read.and_then(all) {
        _ if !answers_at_all(read) => Verdict::undecided(trouble(seen).unwrap_or_default()),
        None => decided(false, &trouble(seen).unwrap_or_else(|| "there are no rows".to_owned())),
        Some(all) if !all.finite => decided(false, "its numbers are none"),
        Some(all) if !all.repeats => decided(false, "the same text gives another row each time"),
        Some(all) if !all.differ => decided(false, "all texts give the same row"),
        Some(_) => decided(true, "the same text gives the same row, and another another"),
    };
    shape(read, verdict)
}

fn logits(_: &Subject, seen: &[Seen]) -> Verdict {
    let decided = |is: bool, words: String| Verdict::decided("logits", is, words);
    let read = step(seen, "read");
    let answered = step(seen, "answer");
    let verdict = match read.and_then(all) {
        _ if !answers_at_all(read) => Verdict::undecided(trouble(seen).unwrap_or_default()),
        None => decided(false, trouble(seen).unwrap_or_else(|| "there are no rows".to_owned())),
        Some(all) if !all.finite => decided(false, "its numbers are none".to_owned()),
        Some(all) => {
            let firsts: Option<Vec<usize>> = answered.and_then(|seen| {
                let first = |ran: &Ran| usize::try_from(*ran.tokens.first()?).ok();
                seen.ran.values().map(first).collect()
            });
            let whole = firsts.filter(|firsts| firsts.len() == all.texts.len());
            let right = whole.map(|firsts| {
                let pairs = all.texts.iter().zip(firsts);
                pairs.filter(|(rows, first)| rows.largest_at == *first).count()
            });
            let of = all.texts.len();
            let words =
                |right| format!("the likeliest token was the answer's first in {right} of {of}");
            match right {
                Some(right) if right == of => decided(true, words(right)),
                Some(0) => decided(false, words(0)),
                Some(right) => Verdict::undecided(words(right)),
                None => Verdict::undecided(
                    trouble(seen).unwrap_or_else(|| "nothing was answered".to_owned()),
                ),
            }
        }
    };
    let costs = step(seen, "cost");
    let ran = |label: &str| costs.and_then(|seen| seen.ran(label)).cloned().unwrap_or_default();
    let [one, eight, many] = LENGTHS.map(|len| ran(&format!("{len} tokens")));
    let again = ran("the same again");
    shape(read, verdict)
        .figure("ms_1_token", one.ms)
        .figure("ms_8_tokens", eight.ms)
        .figure("ms_400_tokens", many.ms)
        .figure("rows_400_tokens", many.rows.last().map(|rows| rows.rows))
        .figure("ms_same_again", again.ms)
        .figure("rows_same_again", again.rows.last().map(|rows| rows.rows))
}
