//! The order in which libraries are tried for a model, and why.
//!
//! A model goes with the release of the toolkit that made it. Without that one: with the nearest later
//! release of its series, then with later series, whose faults with older models are worked around.
//! What would print garbage or certainly refuse is tried only where there is nothing else. Until the
//! toolkit is known the order of the libraries decides: the newest of them loads most models, and
//! every load tells the toolkit.

use rkllama_core::{Model, toolkit_in_name};
use rkllama_engine::{Doubt, RuntimeChoice};
use rkllama_npu::{Inspection, Pairing};

use super::memory::Recollection;
use crate::runtime_profiles::{Facts, RuntimeProfiles};

/// Which toolkit made a model, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Toolkit<'a> {
    /// A runtime, when it loaded it.
    Told(&'a str),
    /// Only the file's name.
    Named(&'a str),
    Unknown,
}

impl<'a> Toolkit<'a> {
    const fn version(self) -> Option<&'a str> {
        match self {
            Self::Told(version) | Self::Named(version) => Some(version),
            Self::Unknown => None,
        }
    }

    /// For the operator.
    fn words(self) -> String {
        match self {
            Self::Told(version) => format!("toolkit {version} made the model, as a runtime said"),
            Self::Named(version) => {
                format!("toolkit {version} made the model, as its file's name says")
            }
            Self::Unknown => "which toolkit made the model is known once it has been loaded".into(),
        }
    }
}

/// What an order is made from.
pub(super) struct Ranking<'a> {
    pub(super) libraries: &'a [Inspection],
    pub(super) configured: &'a RuntimeProfiles,
    pub(super) probed: &'a RuntimeProfiles,
    pub(super) known: &'a Recollection,
}

/// A library for one model.
struct Candidate<'a> {
    library: &'a Inspection,
    facts: Facts,
    ignore_eos: bool,
    /// `None` while the toolkit is not known.
    pairing: Option<Pairing>,
    /// Why it could not load the model lately.
    failure: Option<&'a str>,
    worked: bool,
}

impl<'a> Ranking<'a> {
    /// The choices for a model, the best first; none where its manifest asks for a release that is not
    /// there, or where there is no library at all.
    pub(super) fn of(&self, model: &Model) -> Vec<RuntimeChoice> {
        let named = toolkit_in_name(&model.weights);
        let toolkit = match (self.known.toolkit(), &named) {
            (Some(told), _) => Toolkit::Told(told),
            (None, Some(named)) => Toolkit::Named(named),
            (None, None) => Toolkit::Unknown,
        };
        let wanted = model.runtime.as_deref();
        let fitting = self.libraries.iter();
        let fitting = fitting.filter(|library| wanted.is_none_or(|it| library.version == it));
        let mut candidates: Vec<_> = fitting.map(|it| self.candidate(it, toolkit)).collect();
        let usable = |it: &Candidate<'_>| it.pairing.is_none_or(Pairing::is_usable);
        if candidates.iter().any(usable) {
            candidates.retain(usable);
        }
        // Stable: among equals the order of the libraries counts.
        candidates.sort_by_key(|it| (it.failure.is_some(), it.pairing, !it.worked));
        let choice = |candidate: &Candidate<'_>| RuntimeChoice {
            version: candidate.library.version.clone(),
            context_limit_tokens: candidate.context_limit(self.known.context_limit_tokens()),
            why: candidate.why(toolkit, wanted.is_some(), &candidates),
            doubt: candidate.doubt(toolkit, &candidates),
            ..candidate.facts.choice(
                candidate.library.path.clone(),
                candidate.library.profile,
                candidate.ignore_eos,
            )
        };
        candidates.iter().map(choice).collect()
    }

    fn candidate(&self, library: &'a Inspection, toolkit: Toolkit<'_>) -> Candidate<'a> {
        let Inspection { version, profile, .. } = library;
        let facts = self.configured.of_or(version, self.probed);
        let toolkit = toolkit.version();
        let ignore_eos = toolkit.is_some_and(|it| profile.eos_untrusted(it, facts.eos_guard));
        Candidate {
            library,
            facts,
            ignore_eos,
            pairing: toolkit.and_then(|it| profile.pairing(version, it, facts.eos_guard)),
            failure: self.known.failure(library, ignore_eos),
            worked: self.known.worked(library),
        }
    }
}

impl Candidate<'_> {
    /// A limit that this runtime could be asked for; what is remembered may be damaged.
    fn context_limit(&self, remembered: Option<u32>) -> Option<u32> {
        remembered.filter(|limit| {
            *limit > 0 && limit.is_multiple_of(self.library.profile.context_tokens_step)
        })
    }

    fn why(&self, toolkit: Toolkit<'_>, is_wanted: bool, all: &[Self]) -> String {
        let is_first = all.first().is_some_and(|first| first.library == self.library);
        let reason = match self.pairing {
            _ if is_wanted => "the model's manifest asks for it",
            _ if all.len() == 1 => "no other one comes into question",
            Some(pairing) if pairing.is_same() => "the same release",
            Some(_) if is_first => "the nearest release that can be had",
            None if self.worked => "it has loaded the model before",
            None if is_first => "it is the first to be tried",
            Some(_) | None => "it is the next to be tried",
        };
        format!("{reason}; {}", toolkit.words())
    }

    /// What speaks against it, as the best of the candidates that are left.
    fn doubt(&self, toolkit: Toolkit<'_>, all: &[Self]) -> Option<Doubt> {
        let name = |library: &Inspection| format!("RKLLM runtime {}", library.version);
        let mut words: Vec<String> = Vec::new();
        if let Some(doubt) = self.pairing.and_then(Pairing::doubt) {
            words.push(format!("{}; {} {doubt}", toolkit.words(), name(self.library)));
        }
        // This one, or those that would come before it.
        let failed = all.iter().filter(|it| it.failure.is_some());
        for other in failed.filter(|it| self.failure.is_none() || it.library == self.library) {
            let (name, path) = (name(other.library), other.library.path.display());
            let reason = other.failure.unwrap_or_default();
            words.push(format!("{name} ({path}) could not load the model lately: {reason}"));
        }
        if words.is_empty() {
            return None;
        }
        let words = words.join("; ");
        let is_right = self.failure.is_none() && self.pairing.is_none_or(Pairing::is_usable);
        Some(if is_right { Doubt::Mended(words) } else { Doubt::Wrong(words) })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rkllama_engine::{Learned, LoadOutcome, ModelHeader};

    use super::*;
    use crate::runtimes::{
        memory::Memory,
        tests::{library, model_in},
    };

    /// Releases in the order in which they were found, and what is known of the model.
    struct Case {
        libraries: Vec<Inspection>,
        configured: RuntimeProfiles,
        memory: Memory,
        model: Model,
    }

    impl Case {
        fn of(weights: &str, releases: &[&str]) -> Self {
            Self {
                libraries: releases.iter().map(|release| library(release)).collect(),
                configured: RuntimeProfiles::default(),
                memory: Memory::default(),
                model: model_in(weights),
            }
        }

        fn learned(
            self,
            release: &str,
            ignore_eos: bool,
            toolkit: &str,
            outcome: LoadOutcome,
        ) -> Self {
            let header = ModelHeader {
                toolkit: toolkit.to_owned(),
                // 17 is no context that a runtime takes.
                context_limit_tokens: Some(if toolkit == "no version" { 17 } else { 2048 }),
                npu_cores: None,
                platform: None,
                dtype: None,
            };
            let choice = RuntimeChoice { ignore_eos, ..RuntimeChoice::new("") };
            let learned = Learned { choice, header: Some(header), outcome };
            self.memory.note(&self.model, &library(release), &learned);
            self
        }

        fn choices(&self) -> Vec<RuntimeChoice> {
            let ranking = Ranking {
                libraries: &self.libraries,
                configured: &self.configured,
                probed: &RuntimeProfiles::default(),
                known: &self.memory.of(&self.model),
            };
            ranking.of(&self.model)
        }

        /// The releases in order; `!` after one that is told to ignore the end of sequence, `?` after
        /// one with which something is wrong.
        fn order(&self) -> String {
            let choices = self.choices();
            let shown = choices.iter().map(|choice| {
                let guard = if choice.ignore_eos { "!" } else { "" };
                let wrong = if matches!(choice.doubt, Some(Doubt::Wrong(_))) { "?" } else { "" };
                format!("{}{guard}{wrong}", choice.version)
            });
            shown.collect::<Vec<_>>().join(" ")
        }
    }

    const ALL: [&str; 5] = ["1.3.1", "1.3.0", "1.2.3", "1.2.2", "1.2.1"];

    #[test]
    fn the_order_follows_the_pairing_rule() {
        for (weights, releases, order) in [
            ("m-v1.2.2.rkllm", &ALL[..], "1.2.2 1.2.3 1.3.0! 1.3.1!"),
            ("m-v1.2.1.rkllm", &ALL, "1.2.1 1.2.2 1.2.3 1.3.0! 1.3.1!"),
            ("m-v1.3.0.rkllm", &ALL, "1.3.0 1.3.1"),
            // Known garbage only where there is nothing else, and what will be refused too.
            ("m-v1.2.0.rkllm", &ALL, "1.3.0! 1.3.1!"),
            ("m-v1.2.0.rkllm", &ALL[2..], "1.2.1? 1.2.2? 1.2.3?"),
            ("m-v1.3.1.rkllm", &ALL[1..], "1.3.0? 1.2.3? 1.2.2? 1.2.1?"),
            ("m-v1.1.4.rkllm", &ALL[..2], "1.3.0!? 1.3.1!?"),
            // As they were found.
            ("m.rkllm", &ALL, "1.3.1 1.3.0 1.2.3 1.2.2 1.2.1"),
            ("m.rkllm", &["1.2.2", "1.3.0"], "1.2.2 1.3.0"),
            ("m.rkllm", &[], ""),
        ] {
            assert_eq!(Case::of(weights, releases).order(), order, "{weights} {releases:?}");
        }
    }

    #[test]
    fn what_a_runtime_said_counts_more_than_the_files_name() {
        let case = Case::of("m-v1.3.0.rkllm", &ALL);
        let case = case.learned("1.3.0", false, "1.2.3", LoadOutcome::Worked);
        assert_eq!(case.order(), "1.2.3 1.3.0! 1.3.1!");
        assert_eq!(case.choices()[0].context_limit_tokens, Some(2048));
    }

    #[test]
    fn what_failed_lately_comes_last_and_is_named() {
        let failed = || LoadOutcome::Failed("was ended by signal 7 (SIGBUS)".into());
        let case = Case::of("m.rkllm", &ALL[..3]).learned("1.2.3", false, "1.2.3", failed());
        assert_eq!(case.order(), "1.3.0! 1.3.1! 1.2.3?");
        let Some(Doubt::Mended(words)) = &case.choices()[0].doubt else { panic!("no doubt") };
        assert!(words.contains("1.2.3 (/lib/1.2.3/librkllmrt.so) could not load"), "{words}");
        assert!(words.contains("SIGBUS"), "{words}");
        // What failed without the guard may do better with it.
        let case = case.learned("1.3.0", false, "1.2.3", failed());
        assert_eq!(case.order(), "1.3.0! 1.3.1! 1.2.3?");
        let case = case.learned("1.3.0", true, "1.2.3", failed());
        assert_eq!(case.order(), "1.3.1! 1.2.3? 1.3.0!?");
    }

    #[test]
    fn without_a_toolkit_the_library_that_worked_comes_first() {
        let worked = LoadOutcome::Worked;
        let case = Case::of("m.rkllm", &ALL[..3]).learned("1.3.0", false, "no version", worked);
        assert_eq!(case.order(), "1.3.0 1.3.1 1.2.3");
        assert!(case.choices()[0].why.starts_with("it has loaded the model before"));
        assert_eq!(case.choices()[0].context_limit_tokens, None);
    }

    #[test]
    fn the_manifest_is_obeyed_and_doubted() {
        for (release, order) in [("1.3.0", "1.3.0!"), ("1.2.3", "1.2.3"), ("1.2.2", "1.2.2?")] {
            let mut case = Case::of("m-v1.2.3.rkllm", &ALL);
            case.model.runtime = Some(release.to_owned());
            assert_eq!(case.order(), order);
            assert!(case.choices()[0].why.starts_with("the model's manifest"));
        }
        let mut case = Case::of("m.rkllm", &ALL);
        case.model.runtime = Some("1.2.9".to_owned());
        assert_eq!(case.choices(), []);
    }

    #[test]
    fn a_release_that_was_seen_to_read_the_ids_needs_no_guard() {
        let mut case = Case::of("m-v1.2.3.rkllm", &["1.3.0", "1.3.1"]);
        case.configured = toml::from_str("[\"1.3.1\"]\neos_guard = false").unwrap();
        assert_eq!(case.order(), "1.3.1 1.3.0!");
        assert_eq!(case.choices()[0].doubt, None);
    }

    #[test]
    fn the_reasons_are_for_people() {
        let mut lines = Vec::new();
        for (weights, releases) in [
            ("m-v1.2.3.rkllm", &ALL[1..4]),
            ("m-v1.2.0.rkllm", &ALL[2..]),
            ("m-v1.3.1.rkllm", &["1.3.0"]),
            ("m-v1.1.4.rkllm", &["1.3.0"]),
            ("m.rkllm", &ALL[1..3]),
        ] {
            for choice in Case::of(weights, releases).choices() {
                lines.push(format!("{weights}, {}: {}", choice.version, choice.why));
                lines.extend(choice.doubt.map(|doubt| format!("    {doubt:?}")));
            }
        }
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn the_toolkit_stands_at_the_end_of_the_name() {
        for (name, toolkit) in [
            ("Qwen3-1.7B-rk3588-w8a8-opt-1-v1.2.3.rkllm", Some("1.2.3")),
            ("Qwen3-1.7B-RK3588-W8A8-Normal-v1.2.1-RKLLM.rkllm", Some("1.2.1")),
            ("model_1.3.0.rkllm", Some("1.3.0")),
            ("model-ratio-0.5.rkllm", None),
            ("model.rkllm", None),
            ("v1.2.3-base.rkllm", None),
        ] {
            assert_eq!(toolkit_in_name(Path::new(name)).as_deref(), toolkit, "{name}");
        }
    }
}
