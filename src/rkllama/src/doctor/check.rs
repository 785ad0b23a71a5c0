//! One thing that was looked at, and the report of all of them.

use serde::Serialize;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Verdict {
    /// As it should be.
    #[serde(rename = "ok")]
    Ok,
    /// It works, but worse than it could.
    #[serde(rename = "warn")]
    Warn,
    /// With this nothing, or one of the main things, works.
    #[serde(rename = "fail")]
    Fail,
    /// It may be right or wrong: this user cannot look, or the kernel does not say.
    #[serde(rename = "unseen")]
    Unseen,
    /// There is no such thing on this machine.
    #[serde(rename = "n/a")]
    NotApplicable,
}

impl Verdict {
    /// As it is printed.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Unseen => "unseen",
            Self::NotApplicable => "n/a",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What it is about; the same from release to release.
    pub(super) check: &'static str,
    /// Which one, where there are several: a model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    /// What is there, in words.
    pub(super) found: String,
    pub(super) verdict: Verdict,
    /// Why it is not good as it is.
    pub(super) reason: Option<String>,
    /// A line for the shell that mends it.
    pub(super) mend: Option<String>,
}

impl Check {
    fn new(check: &'static str, found: impl Into<String>, verdict: Verdict) -> Self {
        Self { check, subject: None, found: found.into(), verdict, reason: None, mend: None }
    }

    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, found, Verdict::Ok)
    }

    pub(super) fn warn(
        check: &'static str,
        found: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { reason: Some(why.into()), ..Self::new(check, found, Verdict::Warn) }
    }

    pub(super) fn fail(
        check: &'static str,
        found: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { reason: Some(why.into()), ..Self::new(check, found, Verdict::Fail) }
    }

    pub(super) fn unseen(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, found, Verdict::Unseen)
    }

    pub(super) fn not_applicable(check: &'static str) -> Self {
        Self::new(check, "does not apply: no Rockchip board", Verdict::NotApplicable)
    }

    /// Names which one of several it is.
    pub(super) fn about(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    /// Gives the reason of a verdict that does not demand one.
    pub(super) fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// Gives the line that mends it.
    pub(super) fn mend(self, line: impl Into<String>) -> Self {
        Self { mend: Some(line.into()), ..self }
    }
}

/// Everything that was looked at.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    /// This program's version.
    pub(super) rkllama: &'static str,
    /// The worst that was found; what could not be seen does not count.
    pub(super) verdict: Verdict,
    pub(super) checks: Vec<Check>,
}

impl Report {
    pub(super) fn of(checks: Vec<Check>) -> Self {
        let has = |wanted| checks.iter().any(|check| check.verdict == wanted);
        let worst = [Verdict::Fail, Verdict::Warn].into_iter().find(|verdict| has(*verdict));
        Self { rkllama: env!("CARGO_PKG_VERSION"), verdict: worst.unwrap_or(Verdict::Ok), checks }
    }

    /// Whether the server could not do its work here.
    pub(super) fn failed(&self) -> bool {
        self.verdict == Verdict::Fail
    }

    pub(super) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}
