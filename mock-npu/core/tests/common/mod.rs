//! What the tests that drive the built libraries share.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The checkout.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout")
}

/// The folder that `ci/mock` fills: `MOCK_NPU_LIBS`, or freshly built here.
pub(crate) fn libraries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("MOCK_NPU_LIBS") {
            return PathBuf::from(folder);
        }
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
        let built = Command::new("bash")
            .arg(repository().join("ci/mock"))
            .env("CARGO_TARGET_DIR", target)
            .output()
            .expect("bash runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        target.join("mock")
    })
}

/// Compiles a C program of `conformance` against a group's header and links it.
pub(crate) fn compile(
    source: &str,
    header: Option<&str>,
    library: &Path,
    link: &str,
    folder: &Path,
) -> PathBuf {
    let mock = repository().join("mock-npu");
    let program = folder.join(source.trim_end_matches(".c"));
    let flags = std::env::var("MOCK_NPU_CFLAGS").unwrap_or_default();
    let mut command = Command::new("cc");
    command.args(["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g"]);
    if let Some(header) = header {
        command.arg("-include").arg(mock.join("include").join(header));
    }
    let compiled = command
        .args(flags.split_whitespace())
        .arg("-I")
        .arg(folder)
        .arg("-I")
        .arg(mock.join("include"))
        .arg(mock.join("conformance").join(source))
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(library)
        .args([link, "-lpthread"])
        .output()
        .expect("cc runs");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    program
}

/// A command for a program under `MOCK_NPU_WRAPPER`, free of the caller's own settings.
pub(crate) fn command(program: &Path, library: &Path) -> Command {
    let wrapper = std::env::var("MOCK_NPU_WRAPPER").unwrap_or_default();
    let mut words = wrapper.split_whitespace();
    let mut command = match words.next() {
        Some(wrapper) => {
            let mut command = Command::new(wrapper);
            command.args(words).arg(program);
            command
        }
        None => Command::new(program),
    };
    for name in ["SCRIPT", "FAULTS", "SEED", "TRACE", "SCALE"] {
        command.env_remove(format!("MOCK_NPU_{name}"));
    }
    command.env("LD_LIBRARY_PATH", library);
    command
}
