//! What the runtime's KV cache holds, kept by token ids.
//!
//! The runtime tells how many tokens its cache holds and not which. We know which tokens went in: the
//! prompt, then what was generated, of which the last was sampled and not yet computed with. So the
//! cache holds a beginning of `prompt ++ generated`, and its size tells how long a beginning. When
//! the size is none that this can explain, nothing is known, and the cache is emptied before it is
//! used again.
//!
//! ```text
//!             a run ends, its size fits             size does not fit, run failed
//!   Empty ──────────────────────────────▶ Tokens ──────────────────────────────▶ Unknown
//!     ▲                                     │ ▲                                     │
//!     └──────────── clear ──────────────────┘ └───────── clear, then a run ─────────┘
//! ```

use crate::{pictures::is_image, runtimes::KvReuse};

/// What the cache holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Held {
    #[default]
    Empty,
    Tokens {
        /// The first of them, as far as their ids are known.
        known: Vec<i32>,
        /// How many there are.
        len: usize,
    },
    Unknown,
}

/// The ledger of one worker's KV cache.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    held: Held,
}

/// How to run a prompt on what the cache holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Empty the cache first.
    pub(crate) clear: bool,
    /// Append what is new.
    pub(crate) append: bool,
    /// Tokens at the beginning of the prompt that need not be computed.
    pub(crate) cached: usize,
}

impl Plan {
    /// What the runtime is given of the prompt.
    pub(crate) fn tokens<'a>(&self, prompt: &'a [i32]) -> &'a [i32] {
        if self.append { &prompt[self.cached..] } else { prompt }
    }
}

/// What a run left behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ran<'a> {
    pub(crate) prompt: &'a [i32],
    /// Ids that the runtime generated, in their order; negative where it gave none.
    pub(crate) generated: &'a [i32],
    /// The size of the cache, as the runtime counts.
    pub(crate) kv_tokens: Option<u32>,
    /// The run was broken off, after which some runtimes' caches are doubtful: then only the very
    /// size that an unbroken run would have is believed.
    pub(crate) doubtful: bool,
}

impl Ledger {
    /// How to run `prompt`, which is not empty.
    pub(crate) fn plan(&self, prompt: &[i32], reuse: KvReuse) -> Plan {
        let fresh = |clear, append| Plan { clear, append, cached: 0 };
        let append = reuse == KvReuse::Append;
        let (known, len) = match &self.held {
            Held::Empty => return fresh(false, append),
            Held::Unknown => return fresh(true, append),
            Held::Tokens { known, len } => (known, *len),
        };
        match reuse {
            KvReuse::Off => fresh(true, false),
            KvReuse::Prefix => {
                let same = known.iter().zip(prompt).take_while(|(held, new)| held == new).count();
                // The runtime computes the last token in any case: it needs something to go on from.
                Plan { clear: false, append: false, cached: same.min(prompt.len() - 1) }
            }
            KvReuse::Append => {
                let goes_on = known.len() == len && len < prompt.len() && prompt.starts_with(known);
                if goes_on {
                    Plan { clear: false, append, cached: len }
                } else {
                    fresh(true, append)
                }
            }
        }
    }

    /// Takes note of what a run left behind.
    pub(crate) fn settle(&mut self, ran: Ran<'_>) {
        let Ran { prompt, generated, kv_tokens, doubtful } = ran;
        let most = prompt.len() + generated.len();
        let least = if doubtful { most.saturating_sub(1).max(prompt.len()) } else { prompt.len() };
        let size = kv_tokens.map(|tokens| usize::try_from(tokens).unwrap_or(usize::MAX));
        self.held = match size {
            Some(0) => Held::Empty,
            Some(len) if (least..=most).contains(&len) => {
                let tokens = prompt.iter().chain(generated).take(len);
                let known = tokens.take_while(|id| **id >= 0 || is_image(**id)).copied().collect();
                Held::Tokens { known, len }
            }
            Some(_) | None => Held::Unknown,
        };
    }

    /// Nothing is known any more.
    pub(crate) fn doubt(&mut self) {
        self.held = Held::Unknown;
    }

    /// Whether the cache is known to hold exactly these tokens.
    pub(crate) fn holds(&self, tokens: &[i32]) -> bool {
        matches!(&self.held, Held::Tokens { known, len } if known == tokens && *len == tokens.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(prompt: &[i32], generated: &[i32], kv_tokens: u32) -> Ledger {
        let mut ledger = Ledger::default();
        let kv_tokens = Some(kv_tokens);
        ledger.settle(Ran { prompt, generated, kv_tokens, doubtful: false });
        ledger
    }

    #[test]
    fn the_second_turn_computes_what_is_new() {
        // The end of the turn (9) was sampled and is not in the cache yet.
        let ledger = after(&[1, 2, 3], &[4, 5, 9], 5);
        let second = [1, 2, 3, 4, 5, 9, 6, 7];
        let prefix = ledger.plan(&second, KvReuse::Prefix);
        assert_eq!(prefix, Plan { clear: false, append: false, cached: 5 });
        assert_eq!(prefix.tokens(&second), second);
        let append = ledger.plan(&second, KvReuse::Append);
        assert_eq!(append, Plan { clear: false, append: true, cached: 5 });
        assert_eq!(append.tokens(&second), [9, 6, 7]);
        assert!(ledger.plan(&second, KvReuse::Off).clear);
    }

    #[test]
    fn an_end_that_never_reached_the_callback_is_counted_right() {
        // Both tokens are computed with; what ended the run was never told.
        let ledger = after(&[1, 2, 3], &[4, 5], 5);
        assert_eq!(ledger.plan(&[1, 2, 3, 4, 5, 9], KvReuse::Append).cached, 5);
    }

    #[test]
    fn another_conversation_shares_its_beginning_only() {
        let ledger = after(&[1, 2, 3], &[4], 3);
        let other = [1, 2, 8];
        assert_eq!(ledger.plan(&other, KvReuse::Prefix).cached, 2);
        assert_eq!(
            ledger.plan(&other, KvReuse::Append),
            Plan { clear: true, append: true, cached: 0 }
        );
    }

    #[test]
    fn the_last_token_of_a_prompt_is_always_computed() {
        let ledger = after(&[1, 2, 3], &[4], 3);
        assert_eq!(ledger.plan(&[1, 2, 3], KvReuse::Prefix).cached, 2);
        assert!(ledger.plan(&[1, 2, 3], KvReuse::Append).clear);
    }

    #[test]
    fn a_size_that_cannot_be_explained_empties_the_cache() {
        for size in [2, 6, 99] {
            let ledger = after(&[1, 2, 3], &[4, 5], size);
            for reuse in [KvReuse::Prefix, KvReuse::Append] {
                let plan = ledger.plan(&[1, 2, 3, 4], reuse);
                assert_eq!((plan.clear, plan.cached), (true, 0), "{size} {reuse:?}");
            }
        }
        let mut ledger = after(&[1, 2, 3], &[4, 5], 4);
        let (prompt, generated) = (&[1, 2, 3][..], &[][..]);
        ledger.settle(Ran { prompt, generated, kv_tokens: None, doubtful: false });
        assert!(ledger.plan(prompt, KvReuse::Prefix).clear, "a runtime that does not say");
    }

    #[test]
    fn after_an_abort_only_the_expected_size_is_believed() {
        let (prompt, generated) = (&[1, 2, 3][..], &[4, 5, 6][..]);
        for (size, believed) in [(3, false), (4, false), (5, true), (6, true), (7, false)] {
            let mut ledger = Ledger::default();
            ledger.settle(Ran { prompt, generated, kv_tokens: Some(size), doubtful: true });
            let plan = ledger.plan(&[1, 2, 3, 4, 5, 6, 7], KvReuse::Prefix);
            assert_eq!(!plan.clear, believed, "{size}");
        }
    }

    #[test]
    fn a_token_without_an_id_ends_what_is_known() {
        let ledger = after(&[1, 2], &[3, -1, 5], 4);
        let next = [1, 2, 3, 4, 5, 6];
        assert_eq!(ledger.plan(&next, KvReuse::Prefix).cached, 3);
        assert!(ledger.plan(&next, KvReuse::Append).clear);
    }

    /// A runtime as the vendor describes it, and the faults that were reported.
    #[derive(Debug, Default)]
    struct Runtime {
        kv: Vec<i32>,
    }

    /// What happens to a run.
    #[derive(Debug, Clone)]
    enum Fate {
        Ends,
        /// Aborted after so many tokens.
        Aborted(usize),
        /// The cache holds something else afterwards than it should.
        Damaged(Vec<i32>),
        Failed,
    }

    impl Runtime {
        /// Runs and returns what the model attended to when it sampled its first token.
        fn run(&mut self, plan: &Plan, prompt: &[i32]) -> Vec<i32> {
            if plan.clear {
                self.kv.clear();
            }
            let given = plan.tokens(prompt);
            assert!(!given.is_empty(), "nothing to compute");
            if plan.append {
                self.kv.extend(given);
            } else {
                let same = self.kv.iter().zip(given).take_while(|(a, b)| a == b).count();
                self.kv.truncate(same.min(given.len() - 1));
                assert!(self.kv.len() >= plan.cached, "more was claimed than was there");
                self.kv.extend(&given[self.kv.len()..]);
            }
            self.kv.clone()
        }
    }

    fn fate() -> impl Strategy<Value = Fate> {
        prop_oneof![
            4 => Just(Fate::Ends),
            2 => (0..5usize).prop_map(Fate::Aborted),
            1 => proptest::collection::vec(0..4, 0..12).prop_map(Fate::Damaged),
            1 => Just(Fate::Failed),
        ]
    }

    /// What the next prompt is made of.
    #[derive(Debug, Clone)]
    enum Edit {
        /// The conversation goes on.
        GoesOn(Vec<i32>),
        /// It branches off before this token.
        Branches(usize, Vec<i32>),
        /// An earlier prompt comes again.
        Again(usize),
    }

    fn edit() -> impl Strategy<Value = Edit> {
        let tokens = || proptest::collection::vec(0..4, 1..6);
        prop_oneof![
            3 => tokens().prop_map(Edit::GoesOn),
            2 => (0..20usize, tokens()).prop_map(|(at, new)| Edit::Branches(at, new)),
            1 => (0..20usize).prop_map(Edit::Again),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// Whatever happens, the model attends to the prompt and to nothing but the prompt, and what
        /// is reported as cached was there. A damaged cache is only sure to be noticed by its size.
        #[test]
        fn a_reused_cache_answers_as_a_fresh_one(
            steps in proptest::collection::vec((edit(), fate(), 1..5usize), 1..12),
            reuse in prop_oneof![Just(KvReuse::Prefix), Just(KvReuse::Append), Just(KvReuse::Off)],
        ) {
            let (mut runtime, mut ledger) = (Runtime::default(), Ledger::default());
            let mut earlier: Vec<Vec<i32>> = Vec::new();
            let mut conversation: Vec<i32> = vec![0];
            for (edit, fate, answer_len) in steps {
                let prompt = match edit {
                    Edit::GoesOn(new) => [conversation.clone(), new].concat(),
                    Edit::Branches(at, new) => {
                        [&conversation[..at.min(conversation.len())], &new].concat()
                    }
                    Edit::Again(nth) if !earlier.is_empty() => earlier[nth % earlier.len()].clone(),
                    Edit::Again(_) => conversation.clone(),
                };
                let plan = ledger.plan(&prompt, reuse);
                prop_assert_eq!(&runtime.run(&plan, &prompt), &prompt);
                let len = if let Fate::Aborted(len) = fate { len } else { answer_len };
                let generated: Vec<i32> = (0..len).map(|at| i32::try_from(at % 4).unwrap()).collect();
                runtime.kv.extend(generated.iter().take(len.saturating_sub(1)));
                let doubtful = matches!(fate, Fate::Aborted(_));
                if let Fate::Damaged(kv) = &fate {
                    // One that is noticed: of another size.
                    let range = prompt.len()..=prompt.len() + generated.len();
                    if !range.contains(&kv.len()) {
                        runtime.kv.clone_from(kv);
                    }
                }
                let kv_tokens = Some(u32::try_from(runtime.kv.len()).unwrap());
                match fate {
                    Fate::Failed => ledger.doubt(),
                    Fate::Ends | Fate::Aborted(_) | Fate::Damaged(_) => {
                        let (prompt, generated) = (&prompt[..], &generated[..]);
                        ledger.settle(Ran { prompt, generated, kv_tokens, doubtful });
                    }
                }
                conversation = [prompt.clone(), generated].concat();
                earlier.push(prompt);
            }
        }
    }
}
