//! Chaos: from one seed a fixed sequence of faults, one draw per run.

use crate::faults::Faults;
use crate::rng::{self, Stream};

/// Chance that a run is disturbed at all.
const DISTURBED: f64 = 0.3;

/// Adds to `faults` what the seed holds for run number `run` of a handle.
pub(crate) fn disturb(faults: &mut Faults, seed: u64, run: u64) {
    let mut stream = Stream::new(rng::mix(rng::mix(0x0063_6861_6f73, seed), run));
    if stream.next_unit() >= DISTURBED {
        return;
    }
    let kind = (stream.next_unit() * KINDS.len() as f64) as usize;
    let token = (stream.next_unit() * 24.0) as u32;
    let (name, act) = KINDS[kind.min(KINDS.len() - 1)];
    act(faults, token);
    crate::trace::note(
        "chaos",
        || serde_json::json!({ "run": run, "fault": name, "token": token }),
    );
}

type Act = fn(&mut Faults, u32);

/// The faults that chaos draws from, each as likely. Hangs are left out: a caller needs a timeout
/// of minutes for those, and a sequence with one in it would test little else.
const KINDS: [(&str, Act); 9] = [
    ("error_at_token", |faults, token| faults.error_at_token = Some(token)),
    ("crash_at_token", |faults, token| faults.crash_at_token = Some(token)),
    ("ggml_abort_at_token", |faults, token| faults.ggml_abort_at_token = Some(token)),
    ("error_result_null", |faults, token| {
        faults.error_at_token = Some(token);
        faults.error_result_null = true;
    }),
    ("finish_missing", |faults, _| faults.finish_missing = true),
    ("abort_ignored_ms", |faults, token| faults.abort_ignored_ms = Some(u64::from(token) * 20)),
    ("empty_text", |faults, _| faults.empty_text = true),
    ("whole_answer_at_once", |faults, _| faults.whole_answer_at_once = true),
    ("stdout_flood", |faults, token| faults.stdout_flood = Some(token * 4)),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(seed: u64) -> Vec<Faults> {
        (0..200)
            .map(|run| {
                let mut faults = Faults::default();
                disturb(&mut faults, seed, run);
                faults
            })
            .collect()
    }

    #[test]
    fn one_seed_is_one_sequence() {
        assert_eq!(sequence(7), sequence(7));
        assert_ne!(sequence(7), sequence(8));
    }

    #[test]
    fn some_runs_are_disturbed_and_most_are_not() {
        let disturbed = sequence(1).iter().filter(|f| **f != Faults::default()).count();
        assert!((30..90).contains(&disturbed), "{disturbed} of 200");
    }
}
