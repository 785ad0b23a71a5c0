//! Whether what earlier prompts left in the KV cache may serve the next.

use crate::{
    bench::{Bench, Load, Run, Stop},
    experiments::nothing_in_the_way,
    judge::{Experiment, Step, Verdict, explains_kv, is_same, step, trouble},
    seen::{Ran, Seen, Subject},
};

/// Tokens of each answer.
const TOKENS_MAX: i32 = 16;

pub(super) const PREFIX_REUSE: Experiment = Experiment {
    name: "prefix-reuse",
    question: "Does a run without keep_history keep the common beginning and nothing else of what was \
               computed before, and does one with keep_history go on behind it?",
    how: "a conversation goes on, and another begins, behind earlier runs and behind an empty cache: \
          the answers must be the same, the cache as large as its tokens explain, and less computed",
    is_dangerous: false,
    obstacle: nothing_in_the_way,
    steps: |_| {
        vec![Step::new("prefix", prefix), Step::new("append", append), Step::new("alone", alone)]
    },
    judge,
};

/// What the conversation is when it goes on: the prompt, its answer and what the user says next.
fn goes_on(prompt: &[i32], first: &Ran, bench: &Bench) -> Vec<i32> {
    [prompt, &first.tokens, &bench.subject().material.follow_up].concat()
}

fn prefix(bench: &mut Bench) -> Result<(), Stop> {
    bench.load(&Load::to(TOKENS_MAX))?;
    let material = bench.subject().material.clone();
    let first = bench.fresh("first", Run::tokens(&material.long))?;
    let second = goes_on(&material.long, &first, bench);
    bench.run("second behind first", Run::tokens(&second))?;
    bench.fresh("second alone", Run::tokens(&second))?;
    for (index, other) in material.questions.iter().enumerate() {
        bench.fresh(&format!("before {index}"), Run::tokens(&second))?;
        bench.run(&format!("other {index} behind it"), Run::tokens(other))?;
        bench.fresh(&format!("other {index} cleared"), Run::tokens(other))?;
    }
    Ok(())
}

fn append(bench: &mut Bench) -> Result<(), Stop> {
    bench.load(&Load::to(TOKENS_MAX))?;
    let material = bench.subject().material.clone();
    let first = bench.fresh("first", Run::tokens(&material.long).keeping_history())?;
    let second = goes_on(&material.long, &first, bench);
    // The last token was sampled and not computed with, unless the runtime says otherwise.
    let held = first.kv.map_or(material.long.len() + first.tokens.len().saturating_sub(1), |kv| {
        usize::try_from(kv).unwrap_or(usize::MAX)
    });
    bench.figure("held", held);
    if held < second.len() {
        bench.run("second behind first", Run::tokens(&second[held..]).keeping_history())?;
    }
    bench.fresh("second alone", Run::tokens(&second).keeping_history())?;
    Ok(())
}

fn alone(bench: &mut Bench) -> Result<(), Stop> {
    bench.load(&Load::to(TOKENS_MAX))?;
    for (index, other) in bench.subject().material.questions.clone().iter().enumerate() {
        bench.fresh(&format!("other {index}"), Run::tokens(other))?;
    }
    Ok(())
}

/// What is known of one way to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Right,
    Wrong,
    /// It was not seen whole.
    Unseen,
}

fn way(right: Option<bool>) -> Way {
    match right {
        Some(true) => Way::Right,
        Some(false) => Way::Wrong,
        None => Way::Unseen,
    }
}

/// Whether a run was good, left what its tokens explain, and answered as the one that had nothing;
/// `None` where neither says anything.
fn as_alone(behind: &Ran, alone: &Ran, held: usize) -> Option<bool> {
    if alone.tokens.is_empty() && (behind.tokens.is_empty() || !alone.is_good()) {
        return None;
    }
    Some(behind.is_good() && is_same(&behind.tokens, &alone.tokens) && explains_kv(behind, held))
}

/// Every answer has to be right, and that of the conversation which goes on has to be there.
fn prefix_way(seen: &Seen, alone: Option<&Seen>) -> Option<bool> {
    let mut right = as_alone(seen.ran("second behind first")?, seen.ran("second alone")?, 0)?;
    for label in seen.ran.keys().filter(|label| label.ends_with("behind it")) {
        let behind = seen.ran(label)?;
        let cleared = seen.ran(&label.replace("behind it", "cleared"))?;
        let first = alone.and_then(|alone| alone.ran(&label.replace(" behind it", "")));
        for other in [Some(cleared), first].into_iter().flatten() {
            right &= as_alone(behind, other, 0).unwrap_or(true);
        }
    }
    Some(right)
}

fn append_way(seen: &Seen) -> Option<bool> {
    let held = usize::try_from(seen.figures.get("held")?.as_u64()?).ok()?;
    as_alone(seen.ran("second behind first")?, seen.ran("second alone")?, held)
}

/// Share of a prompt from which on what was reused is worth it.
const WORTH: f64 = 0.5;

/// Whether less was computed for the second prompt than it has tokens; `None` where nothing tells.
fn is_spared(seen: &Seen) -> Option<bool> {
    let behind = seen.ran("second behind first")?;
    #[allow(clippy::cast_precision_loss, reason = "a share of some hundred tokens")]
    let share = |matched: usize| matched as f64 / behind.prompt.max(1) as f64;
    // `kv cache matches 183 / 220 tokens of prompt`
    let matched = seen.log_of("second behind first").find_map(|line| {
        let rest = line.split_once("kv cache matches ")?.1;
        rest.split_whitespace().next()?.parse::<usize>().ok()
    });
    if let Some(matched) = matched {
        return Some(share(matched) >= WORTH);
    }
    let (with, without) = (behind.perf_prefill_ms?, seen.ran("second alone")?.perf_prefill_ms?);
    // Shorter times are noise.
    (without >= 20.0).then_some(f64::from(with) <= WORTH * f64::from(without))
}

fn judge(_: &Subject, seen: &[Seen]) -> Verdict {
    let prefix = step(seen, "prefix");
    let appended = step(seen, "append");
    let prefix_way = way(prefix.and_then(|it| prefix_way(it, step(seen, "alone"))));
    let append_way = way(appended.and_then(append_way));
    let spared = prefix.and_then(is_spared);
    let verdict = match (prefix_way, append_way, spared) {
        (Way::Right, _, Some(true) | None) => Verdict::decided(
            "kv_reuse",
            "prefix",
            "answers are the same behind earlier runs, and the common beginning is kept",
        ),
        (Way::Right, Way::Right, Some(false)) => Verdict::decided(
            "kv_reuse",
            "append",
            "prompts are not matched, but what is appended is answered right",
        ),
        (Way::Right, Way::Wrong, Some(false)) => Verdict::decided(
            "kv_reuse",
            "off",
            "prompts are not matched, and what is appended is answered wrong",
        ),
        (Way::Wrong, Way::Right, _) => Verdict::decided(
            "kv_reuse",
            "append",
            "earlier prompts show in answers, but what is appended is answered right",
        ),
        (Way::Wrong, Way::Wrong, _) => Verdict::decided(
            "kv_reuse",
            "off",
            "earlier prompts show in answers, and what is appended is answered wrong",
        ),
        (Way::Unseen, ..) | (_, Way::Unseen, _) => Verdict::undecided(
            trouble(seen).unwrap_or_else(|| "not everything was seen".to_owned()),
        ),
    };
    let second = |label| prefix.and_then(|seen| seen.ran(label)).cloned().unwrap_or_default();
    let (behind, alone) = (second("second behind first"), second("second alone"));
    verdict
        .figure("prefix_right", prefix_way == Way::Right)
        .figure("append_right", append_way == Way::Right)
        .figure("prompt_tokens", behind.prompt)
        .figure("prefill_tokens_behind", behind.perf_prefill_tokens)
        .figure("prefill_tokens_alone", alone.perf_prefill_tokens)
        .figure("prefill_ms_behind", behind.perf_prefill_ms)
        .figure("prefill_ms_alone", alone.perf_prefill_ms)
        .figure("kv_tokens_behind", behind.kv)
}
