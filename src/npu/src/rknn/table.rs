//! The functions of `librknnrt` that are used, as a table of pointers, and the library that fills it.

use std::{
    ffi::c_void,
    path::{self, Path, PathBuf},
};

use super::raw::{Context, Input, Output};
use crate::{
    library::{load_for_good, words},
    table::symbol,
};

/// The library's name, where no path to it is known.
const NAME: &str = "librknnrt.so";

pub(crate) type InitFn =
    unsafe extern "C" fn(*mut Context, *mut c_void, u32, u32, *mut c_void) -> i32;
pub(crate) type QueryFn = unsafe extern "C" fn(Context, i32, *mut c_void, u32) -> i32;
pub(crate) type InputsSetFn = unsafe extern "C" fn(Context, u32, *mut Input) -> i32;
pub(crate) type RunFn = unsafe extern "C" fn(Context, *mut c_void) -> i32;
pub(crate) type OutputsGetFn = unsafe extern "C" fn(Context, u32, *mut Output, *mut c_void) -> i32;
pub(crate) type OutputsReleaseFn = unsafe extern "C" fn(Context, u32, *mut Output) -> i32;
pub(crate) type CoreMaskFn = unsafe extern "C" fn(Context, i32) -> i32;
pub(crate) type DestroyFn = unsafe extern "C" fn(Context) -> i32;

/// All functions of one library.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) init: InitFn,
    pub(crate) query: QueryFn,
    pub(crate) inputs_set: InputsSetFn,
    pub(crate) run: RunFn,
    pub(crate) outputs_get: OutputsGetFn,
    pub(crate) outputs_release: OutputsReleaseFn,
    pub(crate) destroy: DestroyFn,
    /// Absent in old releases.
    pub(crate) set_core_mask: Option<CoreMaskFn>,
}

/// Why the library cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot load {}: {words}. Models that see images need the vendor's library for vision \
     networks besides the one for language models: put librknnrt.so beside librkllmrt.so, or where \
     the system's loader finds it",
    path.display()
)]
pub struct RknnOpenError {
    path: PathBuf,
    words: String,
}

/// The vendor's library, loaded into this process to its end.
#[derive(Clone, Copy)]
pub struct RknnLibrary {
    table: Table,
}

impl RknnLibrary {
    /// Opens the library: the one beside the runtime for language models, where there is one, else
    /// the one that the system's loader finds.
    ///
    /// # Errors
    /// [`RknnOpenError`], in the loader's words.
    pub fn open_beside(runtime: &Path) -> Result<Self, RknnOpenError> {
        let beside = runtime.with_file_name(NAME);
        if beside.is_file() {
            let path = path::absolute(&beside).unwrap_or(beside);
            return Self::open(&path);
        }
        Self::open(Path::new(NAME))
    }

    /// Opens the library at `path`; a bare name is looked for by the system's loader.
    ///
    /// # Errors
    /// [`RknnOpenError`], in the loader's words.
    pub fn open(path: &Path) -> Result<Self, RknnOpenError> {
        let refused = |words: String| RknnOpenError { path: path.to_owned(), words };
        // SAFETY: it is opened in the worker's process only, beside the other one of the vendor's.
        let library = unsafe { load_for_good(path) }.map_err(refused)?;
        // SAFETY: the functions have had these signatures in all releases.
        let table = unsafe { Table::load(&library) }.map_err(|err| refused(words(&err)))?;
        Ok(Self { table })
    }

    pub(super) const fn table(&self) -> &Table {
        &self.table
    }

    /// A library made of Rust functions.
    #[cfg(test)]
    pub(super) const fn of_functions(table: Table) -> Self {
        Self { table }
    }
}

impl Table {
    /// Looks the functions up.
    ///
    /// # Safety
    /// `library` is an RKNN runtime.
    unsafe fn load(library: &libloading::Library) -> Result<Self, libloading::Error> {
        Ok(Self {
            // SAFETY: the caller's promise.
            init: unsafe { symbol(library, "rknn_init") }?,
            // SAFETY: the caller's promise.
            query: unsafe { symbol(library, "rknn_query") }?,
            // SAFETY: the caller's promise.
            inputs_set: unsafe { symbol(library, "rknn_inputs_set") }?,
            // SAFETY: the caller's promise.
            run: unsafe { symbol(library, "rknn_run") }?,
            // SAFETY: the caller's promise.
            outputs_get: unsafe { symbol(library, "rknn_outputs_get") }?,
            // SAFETY: the caller's promise.
            outputs_release: unsafe { symbol(library, "rknn_outputs_release") }?,
            // SAFETY: the caller's promise.
            destroy: unsafe { symbol(library, "rknn_destroy") }?,
            // SAFETY: the caller's promise.
            set_core_mask: unsafe { symbol(library, "rknn_set_core_mask") }.ok(),
        })
    }
}
