//! Version numbers of runtime and toolkit.

use std::cmp::Ordering;
use std::fmt;

/// `1.2.1b1`: three numbers and, for a preliminary release, the number of the beta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    numbers: [u32; 3],
    beta: Option<u32>,
}

impl Version {
    pub(crate) const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Version { numbers: [major, minor, patch], beta: None }
    }

    pub(crate) fn parse(text: &str) -> Option<Version> {
        let (text, beta) = match text.trim().split_once('b') {
            Some((text, beta)) => (text, Some(beta.parse().ok()?)),
            None => (text.trim(), None),
        };
        let numbers: Vec<u32> =
            text.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        Some(Version { numbers: numbers.try_into().ok()?, beta })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let beta = |version: &Version| version.beta.unwrap_or(u32::MAX);
        self.numbers.cmp(&other.numbers).then(beta(self).cmp(&beta(other)))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        self.beta.map_or(Ok(()), |beta| write!(f, "b{beta}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beta_comes_before_its_release() {
        let order = ["1.2.0", "1.2.1b1", "1.2.1", "1.2.3", "1.3.0"].map(Version::parse);
        assert!(order.is_sorted());
        assert_eq!(order[1].map(|version| version.to_string()).as_deref(), Some("1.2.1b1"));
        assert_eq!(Version::parse("1.2"), None);
    }
}
