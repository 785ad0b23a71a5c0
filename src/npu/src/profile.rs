//! What is known of each release of the runtime, as data.
//!
//! Every decision that depends on a version is a column here; no other file compares versions. A
//! release that is not in the table is not supported, and the refusal says why.

use std::fmt;

use crate::raw;

/// A family of releases with the same structures in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// 1.2.1, 1.2.2, 1.2.3.
    E,
    /// 1.3.
    F,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::E => "E (1.2.1 to 1.2.3)",
            Self::F => "F (1.3)",
        })
    }
}

/// Sizes of the vendor's structures, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StructSizes {
    /// `RKLLMParam`.
    pub param: usize,
    /// `RKLLMInput`.
    pub input: usize,
    /// `RKLLMInferParam`.
    pub infer_param: usize,
    /// `RKLLMResult`.
    pub result: usize,
}

impl Group {
    /// Sizes of this group's structures.
    pub const fn sizes(self) -> StructSizes {
        match self {
            Self::E => StructSizes {
                param: size_of::<raw::e::Param>(),
                input: size_of::<raw::e::Input>(),
                infer_param: size_of::<raw::e::InferParam>(),
                result: size_of::<raw::RunResult>(),
            },
            Self::F => StructSizes {
                param: size_of::<raw::f::Param>(),
                input: size_of::<raw::f::Input>(),
                infer_param: size_of::<raw::f::InferParam>(),
                result: size_of::<raw::RunResult>(),
            },
        }
    }
}

/// What goes wrong in a release, by name; [`Fault::workaround`] says what this product does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Reads the end-of-sequence ids of models from toolkits before 1.3 as the vocabulary's default.
    EosOfOlderToolkits,
    /// `rkllm_run_async` hangs.
    RunAsyncHangs,
    /// Models of toolkit 1.2.0 load and then print garbage.
    GarbageFromToolkit120,
    /// GET_LOGITS with TOKEN input and kept history ends the process.
    LogitsWithHistoryAborts,
    /// A second init that finds no NPU memory ends the process.
    SecondInitCrashes,
    /// Answers about the previous image where consecutive requests differ in the image only.
    StaleImage,
    /// SIGBUS while loading a model of an older toolkit was seen once.
    BusErrorAtLoad,
}

impl Fault {
    /// What this product does about it.
    pub const fn workaround(self) -> &'static str {
        match self {
            Self::EosOfOlderToolkits => {
                "the runtime ignores the end of sequence and the worker stops at the tokenizer's ids; \
                 reconvert the model with toolkit 1.3 or use runtime 1.2.3"
            }
            Self::RunAsyncHangs => "rkllm_run_async is never called",
            Self::GarbageFromToolkit120 => "use a model of toolkit 1.2.1 or newer",
            Self::LogitsWithHistoryAborts => "history is never kept",
            Self::SecondInitCrashes => "one model in each worker process",
            Self::StaleImage => "the KV cache is emptied before a prompt with another image",
            Self::BusErrorAtLoad => "the worker dies alone; use runtime 1.2.3 for this model",
        }
    }
}

/// How a release runs the models of one toolkit; the lesser is the better. The number says how far apart
/// the two are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pairing {
    /// Nothing is known against it.
    Good(u32),
    /// It misreads the end of sequence; see [`Profile::eos_untrusted`].
    EosUntrusted(u32),
    /// It loads them and prints garbage.
    Garbage(u32),
    /// It refuses them: they are newer.
    RuntimeOlder(u32),
    /// It refuses them: no supported release loads models of such old toolkits.
    ToolkitTooOld(u32),
}

impl Pairing {
    /// Whether answers are right, perhaps with a workaround.
    pub const fn is_usable(self) -> bool {
        match self {
            Self::Good(_) | Self::EosUntrusted(_) => true,
            Self::Garbage(_) | Self::RuntimeOlder(_) | Self::ToolkitTooOld(_) => false,
        }
    }

    /// Whether they are the same release.
    pub const fn is_same(self) -> bool {
        matches!(self, Self::Good(0))
    }

    /// What the release does wrong and what to do, for the operator, who knows already which release.
    pub fn doubt(self) -> Option<String> {
        let fault = |what: &str, fault: Fault| Some(format!("{what}: {}", fault.workaround()));
        match self {
            Self::Good(_) => None,
            Self::EosUntrusted(_) => fault(
                "misreads the end of sequence of models of toolkits before 1.3",
                Fault::EosOfOlderToolkits,
            ),
            Self::Garbage(_) => {
                fault("prints garbage with models of toolkit 1.2.0", Fault::GarbageFromToolkit120)
            }
            Self::RuntimeOlder(_) => {
                Some("refuses models of newer toolkits: install that release".to_owned())
            }
            Self::ToolkitTooOld(_) => Some(
                "refuses models of toolkits before 1.2: convert the model with a newer one"
                    .to_owned(),
            ),
        }
    }
}

/// One release of the runtime: its structures, what it can do, what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    releases: Releases,
    /// Structures in memory.
    pub group: Group,
    /// Whether a run may bring its own sampling; otherwise it is fixed at load.
    pub sampling_per_run: bool,
    /// Whether the runtime ends a run by itself after a number of tokens given with the run.
    pub tokens_max_per_run: bool,
    /// Whether the runtime can be told not to look for the end of sequence.
    pub ignore_eos: bool,
    /// Whether `rkllm_get_kv_cache_size` exists.
    pub kv_cache_size: bool,
    /// Whether `perf.prefill_tokens` was proven to be the tokens really computed, so that the rest of
    /// the prompt came from the KV cache.
    pub prefill_tokens_trusted: bool,
    /// Whether the KV cache may hold anything after an abort, so that it has to be cleared unless
    /// its size is the expected one.
    pub kv_doubtful_after_abort: bool,
    /// Longest context, in tokens.
    pub context_tokens_max: u32,
    /// The context has to be a multiple of this number of tokens.
    pub context_tokens_step: u32,
    /// What is known to go wrong.
    pub faults: &'static [Fault],
}

#[derive(Debug, PartialEq, Eq)]
enum Releases {
    Exactly(&'static str),
    /// All that begin so.
    Series(&'static str),
}

impl Releases {
    fn contain(&self, version: &str) -> bool {
        match self {
            Self::Exactly(release) => *release == version,
            Self::Series(prefix) => version.starts_with(prefix),
        }
    }
}

/// What the releases of group E have in common.
const E: Profile = Profile {
    releases: Releases::Exactly(""),
    group: Group::E,
    sampling_per_run: false,
    tokens_max_per_run: false,
    ignore_eos: false,
    kv_cache_size: true,
    prefill_tokens_trusted: false,
    kv_doubtful_after_abort: true,
    context_tokens_max: 16_384,
    context_tokens_step: 32,
    faults: &[],
};

/// What the releases of group F have in common.
const F: Profile = Profile {
    group: Group::F,
    sampling_per_run: true,
    tokens_max_per_run: true,
    ignore_eos: true,
    ..E
};

/// The supported releases; the first row that fits counts.
static PROFILES: &[Profile] = &[
    Profile {
        releases: Releases::Exactly("1.2.1"),
        faults: &[Fault::RunAsyncHangs, Fault::GarbageFromToolkit120],
        ..E
    },
    Profile { releases: Releases::Exactly("1.2.2"), faults: &[Fault::GarbageFromToolkit120], ..E },
    Profile {
        releases: Releases::Exactly("1.2.3"),
        faults: &[Fault::GarbageFromToolkit120, Fault::LogitsWithHistoryAborts],
        ..E
    },
    Profile {
        releases: Releases::Exactly("1.3.0"),
        faults: &[Fault::EosOfOlderToolkits, Fault::SecondInitCrashes, Fault::StaleImage],
        ..F
    },
    Profile {
        releases: Releases::Exactly("1.3.1"),
        faults: &[Fault::EosOfOlderToolkits, Fault::StaleImage, Fault::BusErrorAtLoad],
        ..F
    },
    // A later 1.3 is taken for its elder sister; the layout is still checked when it is opened.
    Profile { releases: Releases::Series("1.3."), faults: &[Fault::EosOfOlderToolkits], ..F },
];

/// Why a release is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// Its models do not load on the releases that are supported, nor the reverse.
    #[error("is too old")]
    TooOld,
    /// It could be supported, and is not.
    #[error("is not supported yet")]
    NotYet,
    /// Nothing is known of its structures.
    #[error("is newer than this program knows")]
    TooNew,
}

/// The releases that are supported, for messages.
pub const SUPPORTED: &str = "1.2.1, 1.2.2, 1.2.3 and 1.3.x";

impl Profile {
    /// The profile of a release such as `1.2.3`.
    ///
    /// # Errors
    /// Why that release is refused.
    pub fn of(version: &str) -> Result<&'static Self, Unsupported> {
        if let Some(profile) = PROFILES.iter().find(|profile| profile.releases.contain(version)) {
            return Ok(profile);
        }
        // Beta releases carry a suffix and their own structures, so only whole rows above match;
        // what is left is judged by its numbers.
        match numbers(version) {
            Some(release) if release < (1, 2, 0) => Err(Unsupported::TooOld),
            Some(release) if release < (1, 4, 0) => Err(Unsupported::NotYet),
            Some(_) => Err(Unsupported::TooNew),
            None => Err(Unsupported::NotYet),
        }
    }

    /// The profiles of a supported release such as `1.2.3`, or of a series such as `1.3`; none where
    /// nothing like it is supported.
    pub fn named(text: &str) -> Vec<&'static Self> {
        if numbers(text).is_some() {
            return Self::of(text).into_iter().collect();
        }
        let within = |profile: &&Self| {
            let (Releases::Exactly(release) | Releases::Series(release)) = profile.releases;
            series(release) == Some(text)
        };
        PROFILES.iter().filter(within).collect()
    }

    /// Whether the runtime may run on after, or stop before, the end of sequence of a model that
    /// was converted by this toolkit, such as `1.2.3`.
    ///
    /// Then `ignore_eos` has to be asked for at load and the stop tokens have to be given with each
    /// run. It must not be asked for otherwise: it may forbid the end of sequence altogether. `false`
    /// for text that is no version. Whether the release has the fault at all can be told better by who
    /// has tried it: `proven`.
    pub fn eos_untrusted(&self, toolkit: &str, proven: Option<bool>) -> bool {
        proven.unwrap_or(self.faults.contains(&Fault::EosOfOlderToolkits))
            && numbers(toolkit).is_some_and(|release| release < (1, 3, 0))
    }
}

/// How far two releases are apart: more for another series than for any release of the same one.
fn distance(one: (u32, u32, u32), other: (u32, u32, u32)) -> u32 {
    const RELEASES_MAX: u32 = 1000;
    let place = |(major, minor, patch): (u32, u32, u32)| {
        let minors = major.saturating_mul(RELEASES_MAX).saturating_add(minor);
        minors.saturating_mul(RELEASES_MAX).saturating_add(patch)
    };
    place(one).abs_diff(place(other))
}

/// The series of a release: `1.2` of `1.2.3`.
pub fn series(version: &str) -> Option<&str> {
    Some(version.rsplit_once('.')?.0)
}

impl Profile {
    /// How this release, `release`, runs models of a toolkit; `proven` as for
    /// [`Profile::eos_untrusted`]. `None` where one of them is no version.
    pub fn pairing(&self, release: &str, toolkit: &str, proven: Option<bool>) -> Option<Pairing> {
        let (runtime, of) = (numbers(release)?, numbers(toolkit)?);
        let apart = distance(runtime, of);
        Some(if of < (1, 2, 0) {
            Pairing::ToolkitTooOld(apart)
        } else if of > runtime {
            Pairing::RuntimeOlder(apart)
        } else if of == (1, 2, 0) && self.faults.contains(&Fault::GarbageFromToolkit120) {
            Pairing::Garbage(apart)
        } else if self.eos_untrusted(toolkit, proven) {
            Pairing::EosUntrusted(apart)
        } else {
            Pairing::Good(apart)
        })
    }
}

/// Whether `text` is a version of the runtime or the toolkit, such as `1.2.3`.
pub fn is_version(text: &str) -> bool {
    numbers(text).is_some()
}

/// The three numbers at the beginning of a version; a suffix such as `b1` is ignored.
fn numbers(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.splitn(3, '.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    let patch = parts.next()?;
    let digits = patch.find(|c: char| !c.is_ascii_digit()).unwrap_or(patch.len());
    Some((major, minor, patch[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_release_has_its_own_row() {
        for (version, group) in [
            ("1.2.1", Group::E),
            ("1.2.2", Group::E),
            ("1.2.3", Group::E),
            ("1.3.0", Group::F),
            ("1.3.1", Group::F),
            ("1.3.7", Group::F),
        ] {
            assert_eq!(Profile::of(version).unwrap().group, group, "{version}");
        }
        assert!(Profile::of("1.2.1").unwrap().faults.contains(&Fault::RunAsyncHangs));
        assert!(!Profile::of("1.2.2").unwrap().faults.contains(&Fault::RunAsyncHangs));
    }

    #[test]
    fn other_releases_are_refused_with_the_reason() {
        for (version, why) in [
            ("1.0.0", Unsupported::TooOld),
            ("1.0.2", Unsupported::TooOld),
            ("1.1.4", Unsupported::TooOld),
            ("1.2.0", Unsupported::NotYet),
            ("1.2.1b1", Unsupported::NotYet),
            ("1.2.4", Unsupported::NotYet),
            ("1.4.0", Unsupported::TooNew),
            ("2.0.0", Unsupported::TooNew),
        ] {
            assert_eq!(Profile::of(version), Err(why), "{version}");
        }
    }

    #[test]
    fn a_release_or_its_series_can_be_named() {
        for (text, profiles) in [
            ("1.2", 3),
            ("1.3", 3),
            ("1.2.1", 1),
            ("1.3.7", 1),
            ("", 0),
            ("1", 0),
            ("1.1", 0),
            ("1.2.0", 0),
            ("1.2.x", 0),
            ("1.3.", 0),
            ("1.4", 0),
            ("2.0.0", 0),
        ] {
            assert_eq!(Profile::named(text).len(), profiles, "{text}");
        }
    }

    #[test]
    fn toolkits_and_releases_are_paired_by_the_rule() {
        use Pairing::{EosUntrusted, Garbage, Good, RuntimeOlder, ToolkitTooOld};
        for (release, toolkit, expected) in [
            ("1.2.3", "1.2.3", Some(Good(0))),
            ("1.2.3", "1.2.1", Some(Good(2))),
            ("1.2.3", "1.2.1b1", Some(Good(2))),
            ("1.2.2", "1.2.0", Some(Garbage(2))),
            ("1.2.2", "1.2.3", Some(RuntimeOlder(1))),
            ("1.2.3", "1.3.0", Some(RuntimeOlder(997))),
            ("1.3.0", "1.2.3", Some(EosUntrusted(997))),
            ("1.3.0", "1.3.0", Some(Good(0))),
            ("1.3.1", "1.1.4", Some(ToolkitTooOld(1997))),
            ("1.3.1", "unknown", None),
        ] {
            let profile = Profile::of(release).unwrap();
            assert_eq!(profile.pairing(release, toolkit, None), expected, "{release} {toolkit}");
        }
        let mended = Profile::of("1.3.1").unwrap().pairing("1.3.1", "1.2.3", Some(false));
        assert_eq!(mended, Some(Good(998)), "a probe has shown that it reads them");
    }

    #[test]
    fn the_end_of_sequence_is_doubted_for_old_models_on_new_runtimes_only() {
        let proven = |runtime: &str, toolkit: &str, proven| {
            Profile::of(runtime).unwrap().eos_untrusted(toolkit, proven)
        };
        let untrusted = |runtime: &str, toolkit: &str| proven(runtime, toolkit, None);
        assert!(untrusted("1.3.0", "1.2.3"));
        assert!(untrusted("1.3.1", "1.2.1b1"));
        assert!(!untrusted("1.3.0", "1.3.0"));
        assert!(!untrusted("1.2.3", "1.2.0"));
        assert!(!untrusted("1.3.0", "unknown"));
        assert!(!proven("1.3.1", "1.2.3", Some(false)));
        assert!(proven("1.3.1", "1.2.3", Some(true)));
        assert!(!proven("1.3.1", "1.3.0", Some(true)), "it would never end");
    }
}
