//! Whether the runtime reads a model's end of sequence.

use rkllama_npu::Profile;

use crate::{
    bench::{Bench, Load, Run, Stop},
    judge::{Experiment, Step, Verdict, step, trouble},
    seen::{Ran, Seen, Subject},
};

/// Tokens after which an answer is given up: the questions ask for short ones.
const TOKENS_MAX: i32 = 64;

pub(super) const END_OF_SEQUENCE: Experiment = Experiment {
    name: "end-of-sequence",
    question: "Does it read the end of sequence of models from toolkits before 1.3, or does it stop \
               elsewhere, or never?",
    how: "questions are answered with the runtime looking for the end and with it told not to; where \
          the two part, and which ids it names at load, tells what it takes for the end",
    is_dangerous: false,
    obstacle,
    steps: |_| {
        vec![
            Step::new("looking", |bench| answers(bench, false)),
            Step::new("ignoring", |bench| answers(bench, true)),
        ]
    },
    judge,
};

fn obstacle(subject: &Subject) -> Option<String> {
    if !Profile::of(&subject.release).is_ok_and(|profile| profile.ignore_eos) {
        return Some(format!("{} cannot be told to ignore the end", subject.release));
    }
    let toolkit = subject.toolkit.as_deref().unwrap_or("an unknown toolkit");
    let is_old = Profile::of("1.3.0").is_ok_and(|it| it.eos_untrusted(toolkit, Some(true)));
    if !is_old {
        return Some(format!(
            "the model is of toolkit {toolkit}, and it takes one from before 1.3"
        ));
    }
    subject.material.eos_ids.is_empty().then(|| "the tokenizer names no end".to_owned())
}

fn answers(bench: &mut Bench, ignore_eos: bool) -> Result<(), Stop> {
    bench.load(&Load { ignore_eos, ..Load::to(TOKENS_MAX) })?;
    for (index, question) in bench.subject().material.questions.clone().iter().enumerate() {
        bench.fresh(&format!("question {index}"), Run::tokens(question))?;
    }
    Ok(())
}

/// What one question tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It ended where the end was.
    Right,
    /// It ran over it, or ended elsewhere.
    Wrong,
    Nothing,
}

fn told(looking: &Ran, ignoring: Option<&Ran>, eos: &[i32]) -> Told {
    let end = |ran: &Ran| ran.tokens.iter().position(|token| eos.contains(token));
    let len = looking.tokens.len();
    if !looking.is_good() {
        return Told::Nothing;
    }
    if end(looking).is_some_and(|at| at + 1 < len) {
        return Told::Wrong;
    }
    let ended_itself = i32::try_from(len).is_ok_and(|len| len < TOKENS_MAX);
    match (ended_itself, ignoring.filter(|ran| ran.is_good())) {
        (true, Some(ignoring)) => match end(ignoring) {
            // The end itself may or may not have been told.
            Some(at) if at == len || at + 1 == len => Told::Right,
            Some(_) => Told::Wrong,
            // It may have been forbidden altogether: then the log has to tell.
            None => Told::Nothing,
        },
        (true, None) | (false, _) => Told::Nothing,
    }
}

/// The ids that the runtime took for the end, by its own line at load.
fn named(seen: &Seen) -> Option<Vec<i32>> {
    let ids: Vec<i32> = seen
        .log
        .iter()
        .filter_map(|line| line.split_once("EOS token")?.1.split_once(": "))
        .filter_map(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
        .collect();
    (!ids.is_empty()).then_some(ids)
}

fn judge(subject: &Subject, seen: &[Seen]) -> Verdict {
    let eos = &subject.material.eos_ids;
    let (Some(looking), Some(ignoring)) = (step(seen, "looking"), step(seen, "ignoring")) else {
        return Verdict::undecided("nothing was seen");
    };
    let all: Vec<Told> =
        looking.ran.iter().map(|(label, ran)| told(ran, ignoring.ran(label), eos)).collect();
    let count = |wanted| all.iter().filter(|told| **told == wanted).count();
    let (right, wrong) = (count(Told::Right), count(Told::Wrong));
    let named = named(looking);
    let names_right = named.as_ref().map(|ids| ids.iter().any(|id| eos.contains(id)));
    let said = |ids: &Option<Vec<i32>>| match ids {
        Some(ids) => format!("it takes {ids:?} for the end, which is {eos:?}"),
        None => format!("the end is {eos:?}"),
    };
    let with = |told: fn(&Ran) -> bool| ignoring.ran.values().filter(|ran| told(ran)).count();
    let ends =
        ignoring.ran.values().filter(|it| it.tokens.iter().any(|id| eos.contains(id))).count();
    let commas = &subject.material.commas;
    let comma = ignoring.ran.values().filter(|it| it.tokens.iter().any(|id| commas.contains(id)));
    let verdict = match (names_right, right, wrong) {
        (Some(false), ..) => Verdict::decided("eos_guard", true, said(&named)),
        (_, _, 1..) => Verdict::decided(
            "eos_guard",
            true,
            format!("{wrong} of {} answers ended in the wrong place", all.len()),
        ),
        (_, 1.., 0) => Verdict::decided(
            "eos_guard",
            false,
            format!("{right} of {} answers ended where the end is, none elsewhere", all.len()),
        ),
        (Some(true), 0, 0) => Verdict::undecided(format!("{}, but no answer ended", said(&named))),
        (None, 0, 0) => Verdict::undecided(
            trouble(seen).unwrap_or_else(|| "no answer showed where it ends".to_owned()),
        ),
    };
    verdict
        .figure("eos_ids_named", &named)
        .figure("answers", all.len())
        .figure("answers_right", right)
        .figure("answers_wrong", wrong)
        .figure("ignoring_answers", with(Ran::is_good))
        .figure("ignoring_answers_with_end", ends)
        .figure("ignoring_answers_with_comma", comma.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(tokens: &[i32]) -> Ran {
        Ran { status: Some(0), tokens: tokens.to_vec(), ..Ran::default() }
    }

    #[test]
    fn where_an_answer_ends_tells_whether_the_end_is_known() {
        let told = |looking: &[i32], ignoring: &[i32]| {
            super::told(&ran(looking), Some(&ran(ignoring)), &[9])
        };
        assert_eq!(told(&[1, 2], &[1, 2, 9, 9]), Told::Right);
        assert_eq!(told(&[1, 2, 9], &[1, 2, 9, 9]), Told::Right, "the end was told");
        assert_eq!(told(&[1], &[1, 2, 3, 9]), Told::Wrong, "it stopped before");
        assert_eq!(told(&[1, 2, 9, 4], &[1, 2, 9, 9]), Told::Wrong, "it ran over the end");
        assert_eq!(told(&[1, 2], &[1, 2, 3]), Told::Nothing, "the end may be forbidden");
        assert_eq!(told(&[1; 64], &[1; 64]), Told::Nothing);
    }
}
