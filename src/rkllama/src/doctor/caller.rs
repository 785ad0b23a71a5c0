//! Whoever runs this: what the process itself, and no file, says.

use std::{io, path::Path, process::Command};

use rustix::fs::{Access, access};

use crate::board::{Cpus, limits::Nofile};

/// The process's own circumstances. The functions are fields so that tests can put others there.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The processor that this program is built for, as in `aarch64`.
    pub(super) arch: &'static str,
    /// Where it may run.
    pub(super) cpus: Cpus,
    /// How many files it may open.
    pub(super) nofile: Nofile,
    /// Whether it may read and write a file.
    pub(super) opens: fn(&Path) -> bool,
    /// The dynamic linker's list of libraries; empty where it cannot be had.
    pub(super) linker_cache: fn() -> String,
}

impl Caller {
    pub(super) fn here() -> io::Result<Self> {
        Ok(Self {
            arch: std::env::consts::ARCH,
            cpus: Cpus::allowed()?,
            nofile: Nofile::here(),
            // The kernel is asked, since access lists can give more than the mode shows.
            opens: |path| access(path, Access::READ_OK | Access::WRITE_OK).is_ok(),
            linker_cache,
        })
    }
}

/// `ldconfig` is not in every user's path.
fn linker_cache() -> String {
    ["ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig"]
        .into_iter()
        .find_map(|program| Command::new(program).arg("-p").output().ok())
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}
