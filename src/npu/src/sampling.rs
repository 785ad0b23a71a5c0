//! From the domain's sampling to the vendor's numbers.

use crate::{
    Sampling,
    raw::{ParamHead, f::SamplingParam},
};

/// Most candidates to choose from: the largest vocabulary in use. The runtime sets memory aside for
/// them, so a number from a request must not get there unbounded.
const TOP_K_MAX: u32 = 262_144;

impl SamplingParam {
    /// The sampling part of the load parameters.
    pub(crate) const fn of_load(head: &ParamHead) -> Self {
        Self {
            top_k: head.top_k,
            top_p: head.top_p,
            temperature: head.temperature,
            repeat_penalty: head.repeat_penalty,
            frequency_penalty: head.frequency_penalty,
            presence_penalty: head.presence_penalty,
            mirostat: head.mirostat,
            mirostat_tau: head.mirostat_tau,
            mirostat_eta: head.mirostat_eta,
        }
    }

    /// Writes it back into the load parameters.
    pub(crate) const fn put_into(self, head: &mut ParamHead) {
        head.top_k = self.top_k;
        head.top_p = self.top_p;
        head.temperature = self.temperature;
        head.repeat_penalty = self.repeat_penalty;
        head.frequency_penalty = self.frequency_penalty;
        head.presence_penalty = self.presence_penalty;
    }

    /// Replaces what `asked` states. The runtime would divide by a temperature of 0, so greedy is
    /// a choice of one candidate.
    pub(crate) fn with(mut self, asked: &Sampling) -> Self {
        if let Some(top_p) = asked.top_p {
            self.top_p = top_p;
        }
        if let Some(top_k) = asked.top_k {
            let candidates = if top_k == 0 { TOP_K_MAX } else { top_k.min(TOP_K_MAX) };
            self.top_k = candidates.cast_signed();
        }
        if let Some(penalty) = asked.repeat_penalty {
            self.repeat_penalty = penalty;
        }
        if let Some(penalty) = asked.frequency_penalty {
            self.frequency_penalty = penalty;
        }
        if let Some(penalty) = asked.presence_penalty {
            self.presence_penalty = penalty;
        }
        match asked.temperature {
            Some(temperature) if temperature <= 0.0 => {
                self.temperature = 1.0;
                self.top_k = 1;
            }
            Some(temperature) => self.temperature = temperature,
            None => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: SamplingParam = SamplingParam {
        top_k: 40,
        top_p: 0.9,
        temperature: 0.8,
        repeat_penalty: 1.1,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        mirostat: 0,
        mirostat_tau: 5.0,
        mirostat_eta: 0.1,
    };

    #[test]
    fn what_is_not_asked_for_stays_the_runtimes_own() {
        assert_eq!(DEFAULTS.with(&Sampling::default()), DEFAULTS);
        assert_eq!(DEFAULTS.with(&Sampling::FALLBACK).top_k, 40);
    }

    #[test]
    fn what_is_asked_for_is_set() {
        let asked = Sampling {
            temperature: Some(0.3),
            top_p: Some(0.5),
            top_k: Some(7),
            repeat_penalty: Some(1.2),
            frequency_penalty: Some(0.25),
            presence_penalty: Some(-0.5),
        };
        let expected = SamplingParam {
            top_k: 7,
            top_p: 0.5,
            temperature: 0.3,
            repeat_penalty: 1.2,
            frequency_penalty: 0.25,
            presence_penalty: -0.5,
            ..DEFAULTS
        };
        assert_eq!(DEFAULTS.with(&asked), expected);
    }

    #[test]
    fn temperature_0_is_one_candidate_whatever_else_is_asked() {
        let greedy = Sampling { temperature: Some(0.0), top_k: Some(50), ..Sampling::default() };
        let settled = DEFAULTS.with(&greedy);
        assert_eq!((settled.top_k, settled.temperature), (1, 1.0));
    }

    #[test]
    fn a_number_of_candidates_cannot_ask_for_boundless_memory() {
        let asked = |top_k| Sampling { top_k: Some(top_k), ..Sampling::default() };
        assert_eq!(DEFAULTS.with(&asked(u32::MAX)).top_k, 262_144);
        assert_eq!(DEFAULTS.with(&asked(0)).top_k, 262_144);
    }
}
