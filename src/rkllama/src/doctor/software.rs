//! The configuration, the vendor's libraries, and what those need of the system.

use std::path::PathBuf;

use super::{check::Check, shared_libraries::SharedLibraries};
use crate::{board::Board, runtimes::Libraries};

/// The C library that the vendor's runtime needs, as its symbols say.
const GLIBC_MIN: (u32, u32) = (2, 29);

/// What a probe found out about the runtime on this board.
const CAPABILITIES: &str = "capabilities";

/// The configuration could be read.
pub(super) fn configuration(file: Option<PathBuf>) -> Check {
    let found = file.map_or("built-in, no file".to_owned(), |file| file.display().to_string());
    Check::ok("configuration", found)
}

/// It could not: the server would not start.
pub(super) fn bad_configuration(error: &anyhow::Error) -> Check {
    Check::fail("configuration", "cannot be read", format!("{error:#}"))
}

pub(super) fn checks(
    board: &Board,
    shared: &SharedLibraries<'_>,
    libraries: &Libraries,
) -> Vec<Check> {
    let mut checks = runtimes(board, libraries);
    checks.extend(libraries.unprobed().map(|why| Check::warn(CAPABILITIES, "not used", why)));
    checks.extend(libraries.usable().iter().filter_map(|library| {
        let probed = libraries.probed(&library.version);
        let found = || Check::ok(CAPABILITIES, probed.join(", ")).about(&library.version);
        (!probed.is_empty()).then(found)
    }));
    checks.push(rknn(board, shared, libraries));
    checks.push(needed(board, shared, "libgomp", "libgomp.so.1", "libgomp1"));
    checks.push(needed(board, shared, "libstdc++", "libstdc++.so.6", "libstdc++6"));
    checks.push(glibc(shared));
    checks
}

/// One row for each library that can be used and each that cannot; the latter are only a nuisance
/// while there is one of the former.
fn runtimes(board: &Board, libraries: &Libraries) -> Vec<Check> {
    const CHECK: &str = "runtime";
    if libraries.usable().is_empty() {
        let check = Check::fail(CHECK, "none that can be used", libraries.nothing_usable());
        return vec![check.mend(match board.is_rockchip() {
            true => "sudo rkllama runtime fetch",
            false => "rkllama serve --runtime /path/to/librkllmrt.so",
        })];
    }
    let usable = libraries.usable().iter().map(|library| {
        Check::ok(CHECK, format!("{} (build {})", library.path.display(), library.build))
            .about(&library.version)
    });
    let refused = libraries
        .refused()
        .iter()
        .map(|reason| Check::warn(CHECK, "a library that cannot be used", reason));
    usable.chain(refused).collect()
}

/// The runtime for image encoders; the vendor ships it apart from the one for language models.
fn rknn(board: &Board, shared: &SharedLibraries<'_>, libraries: &Libraries) -> Check {
    const CHECK: &str = "librknnrt";
    let folders: Vec<PathBuf> = libraries
        .usable()
        .iter()
        .filter_map(|library| library.path.parent().map(PathBuf::from))
        .collect();
    if let Some(file) = shared.find_beside("librknnrt.so", &folders) {
        let release = rkllama_npu::rknn_version(&file).map(|it| format!(" (release {it})"));
        return Check::ok(CHECK, format!("{}{}", file.display(), release.unwrap_or_default()));
    }
    if !board.is_rockchip() {
        return Check::not_applicable(CHECK);
    }
    Check::warn(CHECK, "none", "models that see images need it; others do not")
        .mend("sudo install -m 644 librknnrt.so /usr/lib/")
}

/// A library that the vendor's links to. Its absence is the commonest reason why the runtime cannot
/// be opened; libraries for other machines may not need it.
fn needed(
    board: &Board,
    shared: &SharedLibraries<'_>,
    check: &'static str,
    file: &str,
    package: &str,
) -> Check {
    if let Some(found) = shared.find(file) {
        return Check::ok(check, found.display().to_string());
    }
    if !board.is_rockchip() {
        return Check::not_applicable(check);
    }
    Check::fail(check, format!("no {file}"), "the vendor's runtime cannot be opened without it")
        .mend(format!("sudo apt install {package}"))
}

fn glibc(shared: &SharedLibraries<'_>) -> Check {
    const CHECK: &str = "glibc";
    let Some(release) = shared.glibc() else {
        return Check::unseen(CHECK, "libc.so.6 does not say");
    };
    let (major, minor) = GLIBC_MIN;
    let number = |text: &str| text.parse::<u32>().ok();
    let known = release.split_once('.').and_then(|(a, b)| Some((number(a)?, number(b)?)));
    match known {
        None => Check::unseen(CHECK, release),
        Some(known) if known >= GLIBC_MIN => Check::ok(CHECK, release),
        Some(_) => {
            let why = format!("the vendor's runtime needs {major}.{minor}: a newer distribution");
            Check::fail(CHECK, release, why)
        }
    }
}
