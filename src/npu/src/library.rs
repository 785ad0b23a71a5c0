//! A vendor library in this process: opened, checked, never unloaded.

use std::{
    error::Error,
    mem::ManuallyDrop,
    path::{self, Path, PathBuf},
    ptr,
};

use libloading::os::unix::{self, RTLD_LOCAL, RTLD_NOW};

use crate::{
    Group, InspectError, Inspection, Profile,
    fingerprint::{Layout, fingerprint},
    inspect::inspect,
    table::Table,
};

/// Why a library cannot be opened. Every text names the file.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its bytes already say that it cannot be used.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The loader refused: most often a library that it needs is not installed.
    #[error("cannot load {}: {words}", path.display())]
    Loader {
        /// The file.
        path: PathBuf,
        /// The loader's own words; they name what is missing.
        words: String,
    },
    /// What the library writes into its default parameters is not what its release writes.
    #[error(
        "{} says it is RKLLM runtime {version}, but its structures are {found}: it is not used, \
         because calling it would crash",
        path.display()
    )]
    LayoutDisagrees {
        /// The file.
        path: PathBuf,
        /// What the file says.
        version: String,
        /// What its default parameters say.
        found: Layout,
    },
}

/// A vendor library that has been loaded into this process.
///
/// It stays loaded to the end of the process: it starts threads of its own, and unloading would pull
/// the code from under them.
pub struct Library {
    inspection: Inspection,
    table: Table,
}

impl Library {
    /// Opens the library at `path`, in the worker's process only.
    ///
    /// Also makes the C library's standard output line-buffered, for good: the vendor explains
    /// failures there and nowhere else, and into a pipe it would otherwise come late or, after a
    /// crash, never.
    ///
    /// # Errors
    /// [`OpenError`]: refused by its bytes, by the loader, or because its structures are not those
    /// of the release it says it is.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let inspection = inspect(path)?;
        buffer_stdout_by_line();
        let refused = |words: String| OpenError::Loader { path: path.to_owned(), words };
        // A bare name would be looked for in the system's folders instead of here.
        let place = path::absolute(path).map_err(|err| refused(err.to_string()))?;
        // SAFETY: it has been checked to be a release whose constructors are known to be harmless.
        let library = unsafe { load_for_good(&place) }.map_err(refused)?;
        let group = inspection.profile.group;
        // SAFETY: the bytes named the release, and the profile gave the release's group.
        let table = unsafe { Table::load(&library, group) }
            .map_err(|err| OpenError::Loader { path: path.to_owned(), words: words(&err) })?;
        // SAFETY: every release returns a structure of at most 208 bytes by value from it.
        let found = unsafe { fingerprint(table.create_default_param) };
        check_layout(&inspection, found)?;
        Ok(Self { inspection, table })
    }

    /// What the library is.
    pub const fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// What is known of its release.
    pub const fn profile(&self) -> &'static Profile {
        self.inspection.profile
    }

    pub(crate) const fn table(&self) -> &Table {
        &self.table
    }

    /// A library made of Rust functions.
    #[cfg(test)]
    pub(crate) fn of_functions(version: &str, table: Table) -> Result<Self, OpenError> {
        let inspection = Inspection {
            path: PathBuf::from("imitation.so"),
            version: version.to_owned(),
            build: String::new(),
            profile: Profile::of(version).expect("tests use supported releases"),
        };
        // SAFETY: the tests' function writes the structure of a known group.
        check_layout(&inspection, unsafe { fingerprint(table.create_default_param) })?;
        Ok(Self { inspection, table })
    }
}

fn check_layout(inspection: &Inspection, found: Layout) -> Result<(), OpenError> {
    match (inspection.profile.group, found) {
        (Group::E, Layout::E) | (Group::F, Layout::F) => Ok(()),
        (Group::E | Group::F, _) => Err(OpenError::LayoutDisagrees {
            path: inspection.path.clone(),
            version: inspection.version.clone(),
            found,
        }),
    }
}

/// Loads a library of this name for good: it starts threads of its own, and unloading would pull the
/// code from under them. A bare name is looked for in the system's folders. Fails in the loader's words.
///
/// # Safety
/// The library is the vendor's, in a process that exists for such libraries alone: its constructors
/// run.
pub(crate) unsafe fn load_for_good(
    name: &Path,
) -> Result<ManuallyDrop<libloading::Library>, String> {
    // SAFETY: the caller's promise.
    let library = unsafe { unix::Library::open(Some(name), RTLD_NOW | RTLD_LOCAL) };
    Ok(ManuallyDrop::new(library.map_err(|err| words(&err))?.into()))
}

/// The loader's own words, which libloading keeps behind a general sentence.
pub(crate) fn words(err: &libloading::Error) -> String {
    err.source().map_or_else(|| err.to_string(), ToString::to_string)
}

unsafe extern "C" {
    /// C's standard output. Not in the `libc` crate.
    static stdout: *mut libc::FILE;
}

fn buffer_stdout_by_line() {
    // SAFETY: the C library sets the pointer before `main` and nothing here changes it.
    let stream = unsafe { stdout };
    // SAFETY: the stream is open or the call fails; with a null buffer the C library takes its own.
    // A failure leaves the buffering as it was, which delays log lines and breaks nothing.
    unsafe { libc::setvbuf(stream, ptr::null_mut(), libc::_IOLBF, 0) };
}
