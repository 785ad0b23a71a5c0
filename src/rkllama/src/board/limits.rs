//! How many files this process may hold open.
//!
//! The runtime opens many while it loads a model, and with the usual soft limit of 1024 users of
//! boards have seen "Too many open files" there. Workers inherit the server's limit.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the server asks for. Users report 9999 as enough; this is what services usually get and
/// costs nothing.
pub(crate) const NOFILE_WANTED: u64 = 65_536;

/// The limit: what holds, and how far it may be raised. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nofile {
    pub(crate) soft: Option<u64>,
    pub(crate) hard: Option<u64>,
}

impl Nofile {
    /// What holds for this process.
    pub(crate) fn here() -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        Self { soft: current, hard: maximum }
    }

    /// What holds after [`raise_nofile`].
    pub(crate) fn raised(self) -> Self {
        let reachable = self.hard.map_or(NOFILE_WANTED, |hard| hard.min(NOFILE_WANTED));
        Self { soft: self.soft.map(|soft| soft.max(reachable)), hard: self.hard }
    }
}

/// Raises this process's limit as far as it may and should be; what holds then.
pub(crate) fn raise_nofile() -> io::Result<Nofile> {
    let now = Nofile::here();
    let wanted = now.raised();
    if wanted != now {
        setrlimit(Resource::Nofile, Rlimit { current: wanted.soft, maximum: wanted.hard })?;
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_goes_up_and_never_down() {
        for (soft, hard, raised) in [
            (Some(1024), Some(4096), Some(4096)),
            (Some(1024), Some(1_048_576), Some(NOFILE_WANTED)),
            (Some(1024), None, Some(NOFILE_WANTED)),
            (Some(100_000), Some(1_048_576), Some(100_000)),
            (None, None, None),
        ] {
            assert_eq!(Nofile { soft, hard }.raised(), Nofile { soft: raised, hard });
        }
    }
}
