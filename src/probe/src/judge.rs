//! What experiments are, and what can be said when one is over.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use serde_json::Value;

use crate::{
    bench::{Bench, Stop},
    seen::{Ran, Seen, Subject},
};

/// A question for hardware.
pub struct Experiment {
    /// What it is called.
    pub name: &'static str,
    /// What nobody knows.
    pub question: &'static str,
    /// How it is found out.
    pub how: &'static str,
    /// Whether it may leave the NPU's driver in a bad state, so that it is only made when it is named.
    pub is_dangerous: bool,
    /// Why it cannot be made.
    pub(crate) obstacle: fn(&Subject) -> Option<String>,
    /// Its steps.
    pub(crate) steps: fn(&Subject) -> Vec<Step>,
    /// What it means that this was seen.
    pub(crate) judge: fn(&Subject, &[Seen]) -> Verdict,
}

/// What a step does.
pub(crate) type Act = Box<dyn Fn(&mut Bench) -> Result<(), Stop>>;

/// A part of an experiment that has a process of its own.
pub(crate) struct Step {
    pub(crate) name: String,
    /// The time that it may take, its load included.
    pub(crate) time_max: Duration,
    pub(crate) act: Act,
}

/// Time for a step: the largest models load for a minute and answer some tokens a second.
const STEP_TIME_MAX: Duration = Duration::from_secs(600);

impl Step {
    pub(crate) fn new(
        name: impl Into<String>,
        act: impl Fn(&mut Bench) -> Result<(), Stop> + 'static,
    ) -> Self {
        Self { name: name.into(), time_max: STEP_TIME_MAX, act: Box::new(act) }
    }
}

/// How much was found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A fact, on which the server acts.
    Decided,
    /// Something that people may want to know.
    Observed,
    /// Nothing for certain.
    Undecided,
    /// It could not be made.
    Skipped,
}

/// A fact of a release, as `runtime_profiles` has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fact {
    /// Its key.
    pub key: &'static str,
    /// Its value.
    pub value: Value,
}

/// What can be said when an experiment is over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// How much.
    pub kind: Kind,
    /// In words.
    pub words: String,
    /// What the server is to be told.
    pub facts: Vec<Fact>,
    /// Numbers.
    pub figures: BTreeMap<String, Value>,
}

impl Verdict {
    fn of(kind: Kind, words: impl Into<String>) -> Self {
        Self { kind, words: words.into(), facts: Vec::new(), figures: BTreeMap::new() }
    }

    pub(crate) fn decided(
        key: &'static str,
        value: impl Into<Value>,
        words: impl Into<String>,
    ) -> Self {
        Self { facts: vec![Fact { key, value: value.into() }], ..Self::of(Kind::Decided, words) }
    }

    pub(crate) fn observed(words: impl Into<String>) -> Self {
        Self::of(Kind::Observed, words)
    }

    pub(crate) fn undecided(words: impl Into<String>) -> Self {
        Self::of(Kind::Undecided, words)
    }

    pub(crate) fn skipped(words: impl Into<String>) -> Self {
        Self::of(Kind::Skipped, words)
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.words = format!("{}; {}", self.words, other.words);
        self.facts.extend(other.facts);
        self.figures.extend(other.figures);
        if self.facts.is_empty() {
            return self;
        }
        self.kind = Kind::Decided;
        self
    }

    pub(crate) fn figure(mut self, name: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).expect("figures are plain data");
        self.figures.insert(name.to_owned(), value);
        self
    }
}

/// The step of this name.
pub(crate) fn step<'a>(seen: &'a [Seen], name: &str) -> Option<&'a Seen> {
    seen.iter().find(|seen| seen.step == name)
}

/// What went wrong, in a line; `None` where every step came to its end.
pub(crate) fn trouble(seen: &[Seen]) -> Option<String> {
    let troubles: Vec<String> = seen.iter().filter_map(Seen::trouble).collect();
    (!troubles.is_empty()).then(|| troubles.join("; "))
}

/// Tokens at the beginning in which two answers have to be the same to be taken for the same. Behind
/// them they may differ by rounding: a prompt that is computed in other portions has other last bits.
const SAME_TOKENS: usize = 4;

/// Whether two answers say the same as far as rounding lets them.
pub(crate) fn is_same(one: &[i32], other: &[i32]) -> bool {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let shorter = one.len().min(other.len());
    one == other || (same >= SAME_TOKENS.min(shorter) && same * 2 >= shorter && shorter > 0)
}

/// Whether a run left in the cache what its tokens explain. `held` were there before it, apart from
/// what it was given.
pub(crate) fn explains_kv(ran: &Ran, held: usize) -> bool {
    let least = ran.prompt + held;
    ran.kv.is_none_or(|kv| {
        (least..=least + ran.tokens.len()).contains(&usize::try_from(kv).unwrap_or(usize::MAX))
    })
}
