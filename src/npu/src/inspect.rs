//! What a library file is, read from its bytes and never by loading it.
//!
//! The server's process does this at start. Loading would run the vendor's constructors there, and
//! the server must be able to describe a library that it could never load.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use memchr::memmem;
use regex::bytes::Regex;

use crate::{
    Profile,
    profile::{SUPPORTED, Unsupported},
};

/// Largest file that is read. The vendor's libraries have under 10 MB; the rest is room to grow. It
/// keeps a model that is named by mistake from being read into memory.
const LIBRARY_BYTES_MAX: u64 = 256 << 20;

/// What a library file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The file.
    pub path: PathBuf,
    /// Its release, such as `1.2.3`.
    pub version: String,
    /// The vendor's build id and time, such as `77daf2e2 2025-11-24 09:00:00`.
    pub build: String,
    /// What is known of that release.
    pub profile: &'static Profile,
}

/// Why a library file cannot be used. Every text names the file.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The system refused, or it is no regular file.
    #[error("cannot read the runtime library {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// It is no shared library at all.
    #[error("{} is not a shared library", path.display())]
    NotALibrary {
        /// The file.
        path: PathBuf,
    },
    /// It is built for another processor.
    #[error("{} is built for {found}, this machine needs {needed}", path.display())]
    WrongArchitecture {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: String,
        /// What this program is built for.
        needed: &'static str,
    },
    /// It does not say which release of the runtime it is.
    #[error("{} does not say which RKLLM release it is: it is no RKLLM runtime", path.display())]
    NoVersion {
        /// The file.
        path: PathBuf,
    },
    /// It is a release that is not supported.
    #[error("{}: RKLLM runtime {version} {why}; supported are {SUPPORTED}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What the file says.
        version: String,
        /// Too old, too new, not yet.
        why: Unsupported,
    },
    /// It lacks functions that its release has.
    #[error(
        "{} says it is RKLLM runtime {version} but does not export {missing}: \
         the file is damaged or not what it says; supported are {SUPPORTED}",
        path.display()
    )]
    SymbolsDisagree {
        /// The file.
        path: PathBuf,
        /// What the file says.
        version: String,
        /// The functions that are not there.
        missing: String,
    },
}

/// The functions that every supported release exports. The last is what tells 1.2.1 from its elders.
const SYMBOLS: &[&str] = &[
    "rkllm_createDefaultParam",
    "rkllm_init",
    "rkllm_destroy",
    "rkllm_run",
    "rkllm_abort",
    "rkllm_load_prompt_cache",
    "rkllm_release_prompt_cache",
    "rkllm_clear_kv_cache",
    "rkllm_get_kv_cache_size",
];

static VERSION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"RKLLM SDK \(version: ([0-9]+\.[0-9]+\.[0-9]+\w*) \| target: Linux \| ",
        r"build: ([0-9a-f]+ [0-9-]+ [0-9:]+)\)"
    ))
    .expect("the pattern is fixed and valid")
});

static RKNN_VERSION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:^|[^0-9.])([0-9]+\.[0-9]+\.[0-9]+\w*) \([0-9a-f]{7,40}@[0-9-]{10}T[0-9:]{8}\)")
        .expect("the pattern is fixed and valid")
});

/// The release that a library for vision encoders (`librknnrt.so`) says it is, without loading it. `None` if
/// it says nothing or cannot be read. Blocks on the disk.
pub fn rknn_version(path: &Path) -> Option<String> {
    let bytes = read(path).ok()?;
    let found = RKNN_VERSION.captures(&bytes)?;
    Some(String::from_utf8_lossy(&found[1]).into_owned())
}

/// Reads what the library at `path` is, without loading it. Blocks on the disk.
///
/// # Errors
/// [`InspectError`]: unreadable, no library, another processor, not the vendor's, a release that is
/// not supported, or one whose functions disagree with what it says it is.
pub fn inspect(path: &Path) -> Result<Inspection, InspectError> {
    let bytes =
        read(path).map_err(|source| InspectError::Unreadable { path: path.to_owned(), source })?;
    check_elf(path, &bytes)?;
    let no_version = || InspectError::NoVersion { path: path.to_owned() };
    let found = VERSION.captures(&bytes).ok_or_else(no_version)?;
    let version = String::from_utf8_lossy(&found[1]).into_owned();
    let build = String::from_utf8_lossy(&found[2]).into_owned();
    let profile = Profile::of(&version).map_err(|why| InspectError::Unsupported {
        path: path.to_owned(),
        version: version.clone(),
        why,
    })?;
    let missing: Vec<_> = SYMBOLS.iter().copied().filter(|name| !names(&bytes, name)).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(InspectError::SymbolsDisagree { path: path.to_owned(), version, missing });
    }
    Ok(Inspection { path: path.to_owned(), version, build, profile })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if metadata.len() > LIBRARY_BYTES_MAX {
        let reason = format!("longer than {LIBRARY_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    let mut bytes = Vec::new();
    file.take(LIBRARY_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether `name` stands in a string table: between two zero bytes.
fn names(bytes: &[u8], name: &str) -> bool {
    let entry = format!("\0{name}\0");
    memmem::find(bytes, entry.as_bytes()).is_some()
}

const ELF_MAGIC: &[u8] = b"\x7fELF";
const ELF_64_BIT: u8 = 2;
const ELF_LITTLE_ENDIAN: u8 = 1;
const ELF_SHARED_OBJECT: u16 = 3;

/// `e_machine` and name of the processor this program is built for.
const MACHINE: (u16, &str) =
    if cfg!(target_arch = "aarch64") { (183, "aarch64") } else { (62, "x86-64") };

fn check_elf(path: &Path, bytes: &[u8]) -> Result<(), InspectError> {
    let not_a_library = || InspectError::NotALibrary { path: path.to_owned() };
    if !bytes.starts_with(ELF_MAGIC) {
        return Err(not_a_library());
    }
    let number = |at: usize| bytes.get(at..at + 2).map(|it| u16::from_le_bytes([it[0], it[1]]));
    let (Some(&class), Some(&order)) = (bytes.get(4), bytes.get(5)) else {
        return Err(not_a_library());
    };
    let (Some(kind), Some(machine)) = (number(16), number(18)) else {
        return Err(not_a_library());
    };
    if (class, order, machine) != (ELF_64_BIT, ELF_LITTLE_ENDIAN, MACHINE.0) {
        return Err(InspectError::WrongArchitecture {
            path: path.to_owned(),
            found: architecture(class, order, machine),
            needed: MACHINE.1,
        });
    }
    if kind == ELF_SHARED_OBJECT { Ok(()) } else { Err(not_a_library()) }
}

/// The processor in words. The vendor ships libraries for the first three.
fn architecture(class: u8, order: u8, machine: u16) -> String {
    match (class, order, machine) {
        (ELF_64_BIT, ELF_LITTLE_ENDIAN, 183) => "aarch64".to_owned(),
        (1, ELF_LITTLE_ENDIAN, 40) => "32-bit arm".to_owned(),
        (ELF_64_BIT, ELF_LITTLE_ENDIAN, 62) => "x86-64".to_owned(),
        _ => {
            format!("another processor (ELF class {class}, byte order {order}, machine {machine})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with what `inspect` looks at, and nothing else.
    struct Imitation {
        header: Vec<u8>,
        version: Option<&'static str>,
        symbols: Vec<&'static str>,
    }

    impl Imitation {
        fn of(version: &'static str) -> Self {
            let mut header = vec![0; 64];
            header[..4].copy_from_slice(ELF_MAGIC);
            header[4] = ELF_64_BIT;
            header[5] = ELF_LITTLE_ENDIAN;
            header[16..18].copy_from_slice(&ELF_SHARED_OBJECT.to_le_bytes());
            header[18..20].copy_from_slice(&MACHINE.0.to_le_bytes());
            Self { header, version: Some(version), symbols: SYMBOLS.to_vec() }
        }

        fn inspect(&self) -> Result<Inspection, String> {
            let mut bytes = self.header.clone();
            for symbol in &self.symbols {
                bytes.push(0);
                bytes.extend_from_slice(symbol.as_bytes());
            }
            bytes.push(0);
            if let Some(version) = self.version {
                let text = format!(
                    "RKLLM SDK (version: {version} | target: Linux | \
                     build: 77daf2e2 2025-11-24 09:10:11)"
                );
                bytes.extend_from_slice(text.as_bytes());
            }
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("librkllmrt.so");
            std::fs::write(&path, bytes).unwrap();
            let shown = path.display().to_string();
            inspect(&path).map_err(|err| {
                let text = err.to_string();
                assert!(text.contains(&shown), "the file is not named: {text}");
                text.replace(&shown, "FILE")
            })
        }
    }

    #[test]
    fn a_supported_library_is_recognised() {
        let found = Imitation::of("1.2.3").inspect().unwrap();
        assert_eq!(found.version, "1.2.3");
        assert_eq!(found.build, "77daf2e2 2025-11-24 09:10:11");
        assert_eq!(found.profile, Profile::of("1.2.3").unwrap());
    }

    #[test]
    fn unsupported_releases_are_refused_by_name() {
        let refusal = |version| Imitation::of(version).inspect().unwrap_err();
        let tail = "supported are 1.2.1, 1.2.2, 1.2.3 and 1.3.x";
        assert_eq!(refusal("1.1.4"), format!("FILE: RKLLM runtime 1.1.4 is too old; {tail}"));
        assert_eq!(
            refusal("1.2.1b1"),
            format!("FILE: RKLLM runtime 1.2.1b1 is not supported yet; {tail}")
        );
        assert_eq!(
            refusal("1.4.0"),
            format!("FILE: RKLLM runtime 1.4.0 is newer than this program knows; {tail}")
        );
    }

    #[test]
    fn a_version_whose_functions_are_not_there_is_refused() {
        let mut library = Imitation::of("1.3.0");
        library.symbols.retain(|name| *name != "rkllm_get_kv_cache_size");
        let refusal = library.inspect().unwrap_err();
        assert!(refusal.contains("1.3.0 but does not export rkllm_get_kv_cache_size"), "{refusal}");
    }

    #[test]
    fn a_longer_name_is_not_taken_for_the_function() {
        let mut library = Imitation::of("1.3.0");
        for name in &mut library.symbols {
            if *name == "rkllm_run" {
                *name = "rkllm_run_async";
            }
        }
        let refusal = library.inspect().unwrap_err();
        assert!(refusal.contains("does not export rkllm_run:"), "{refusal}");
    }

    #[test]
    fn other_files_each_get_their_own_refusal() {
        let mut library = Imitation::of("1.2.3");
        library.version = None;
        assert!(library.inspect().unwrap_err().contains("does not say which RKLLM release"));

        library.header[18..20].copy_from_slice(&40_u16.to_le_bytes());
        library.header[4] = 1;
        let refusal = library.inspect().unwrap_err();
        assert_eq!(
            refusal,
            format!("FILE is built for 32-bit arm, this machine needs {}", MACHINE.1)
        );

        library.header = b"\x7fELF\x02".to_vec();
        library.symbols.clear();
        assert_eq!(library.inspect().unwrap_err(), "FILE is not a shared library");
        library.header = b"#!/bin/sh\n".to_vec();
        assert_eq!(library.inspect().unwrap_err(), "FILE is not a shared library");
    }

    #[test]
    fn an_executable_is_no_library() {
        let mut program = Imitation::of("1.2.3");
        program.header[16..18].copy_from_slice(&2_u16.to_le_bytes());
        assert_eq!(program.inspect().unwrap_err(), "FILE is not a shared library");
    }

    #[test]
    fn what_cannot_be_read_is_said_in_the_systems_words() {
        let folder = tempfile::tempdir().unwrap();
        let missing = inspect(&folder.path().join("absent.so")).unwrap_err().to_string();
        assert!(missing.contains("No such file"), "{missing}");
        let directory = inspect(folder.path()).unwrap_err().to_string();
        assert!(directory.contains("not a regular file"), "{directory}");
    }
}
