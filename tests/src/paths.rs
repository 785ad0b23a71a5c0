//! Where the things under test lie.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The profile's folder of the target folder: test executables lie in `deps` below it.
fn profile_dir() -> PathBuf {
    env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

/// The server.
pub fn executable() -> PathBuf {
    let path =
        env::var_os("RKLLAMA_BIN").map_or_else(|| profile_dir().join("rkllama"), PathBuf::from);
    assert!(path.is_file(), "{} is missing: run `cargo build` first", path.display());
    path
}

/// The mock runtime of a release.
pub fn mock_library(version: &str) -> PathBuf {
    let root = env::var_os("MOCK_NPU_LIBS")
        .map_or_else(|| profile_dir().parent().unwrap().join("mock"), PathBuf::from);
    let path = root.join(version).join("librkllmrt.so");
    assert!(path.is_file(), "{} is missing: run `ci/mock` first", path.display());
    path
}

/// The folder of a real model's tokenizer files. `None` where they were not fetched, which CI does
/// not forgive.
pub fn tokenizer_files(name: &str) -> Option<PathBuf> {
    let root = env::var_os("TOKENIZERS_DIR")
        .map_or_else(|| profile_dir().parent().unwrap().join("tokenizers"), PathBuf::from);
    let dir = root.join(name);
    if dir.join("tokenizer.json").is_file() {
        return Some(dir);
    }
    let missing = format!("{} is missing: run `ci/tokenizers`", dir.display());
    assert!(env::var_os("CI").is_none(), "{missing}");
    eprintln!("skipped: {missing}");
    None
}
