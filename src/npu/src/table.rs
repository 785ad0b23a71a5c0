//! The functions of the vendor's library that are used, as a table of pointers.
//!
//! libloading fills it in production and Rust functions fill it in unit tests, so that everything
//! above runs without a library. Functions whose signature differs between the groups are kept
//! apart by type: nothing can be called with the other group's structures.

use std::ffi::{c_char, c_int, c_void};

use crate::{
    Group,
    fingerprint::DefaultParamFn,
    raw::{Handle, LoraAdapter, ResultCallback, e, f},
};

pub(crate) type HandleFn = unsafe extern "C" fn(Handle) -> c_int;
pub(crate) type LoadLoraFn = unsafe extern "C" fn(Handle, *mut LoraAdapter) -> c_int;
pub(crate) type LoadPromptCacheFn = unsafe extern "C" fn(Handle, *const c_char) -> c_int;
pub(crate) type SetChatTemplateFn =
    unsafe extern "C" fn(Handle, *const c_char, *const c_char, *const c_char) -> c_int;
pub(crate) type ClearKvCacheFn =
    unsafe extern "C" fn(Handle, c_int, *mut c_int, *mut c_int) -> c_int;
pub(crate) type KvCacheSizeFn = unsafe extern "C" fn(Handle, *mut c_int) -> c_int;
pub(crate) type InitE = unsafe extern "C" fn(*mut Handle, *mut e::Param, ResultCallback) -> c_int;
pub(crate) type RunE =
    unsafe extern "C" fn(Handle, *mut e::Input, *mut e::InferParam, *mut c_void) -> c_int;
pub(crate) type InitF = unsafe extern "C" fn(*mut Handle, *mut f::Param, *mut f::Callback) -> c_int;
pub(crate) type RunF =
    unsafe extern "C" fn(Handle, *mut f::Input, *mut f::InferParam, *mut c_void) -> c_int;

/// The functions whose structures differ between the groups.
#[derive(Clone, Copy)]
pub(crate) enum GroupFns {
    E { init: InitE, run: RunE },
    F { init: InitF, run: RunF },
}

/// All functions of one library.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) create_default_param: DefaultParamFn,
    pub(crate) group: GroupFns,
    pub(crate) destroy: HandleFn,
    pub(crate) abort: HandleFn,
    pub(crate) load_lora: LoadLoraFn,
    pub(crate) load_prompt_cache: LoadPromptCacheFn,
    pub(crate) release_prompt_cache: HandleFn,
    pub(crate) set_chat_template: SetChatTemplateFn,
    pub(crate) clear_kv_cache: ClearKvCacheFn,
    pub(crate) kv_cache_size: KvCacheSizeFn,
}

impl Table {
    /// Looks the functions up.
    ///
    /// # Safety
    /// `library` is an RKLLM runtime of `group`.
    pub(crate) unsafe fn load(
        library: &libloading::Library,
        group: Group,
    ) -> Result<Self, libloading::Error> {
        let group = match group {
            Group::E => GroupFns::E {
                // SAFETY: the caller's promise: in group E the function has this signature.
                init: unsafe { symbol(library, "rkllm_init") }?,
                // SAFETY: as above.
                run: unsafe { symbol(library, "rkllm_run") }?,
            },
            Group::F => GroupFns::F {
                // SAFETY: the caller's promise: in group F the function has this signature.
                init: unsafe { symbol(library, "rkllm_init") }?,
                // SAFETY: as above.
                run: unsafe { symbol(library, "rkllm_run") }?,
            },
        };
        Ok(Self {
            // SAFETY: the same in both groups, at the level of registers.
            create_default_param: unsafe { symbol(library, "rkllm_createDefaultParam") }?,
            group,
            // SAFETY: the same in both groups.
            destroy: unsafe { symbol(library, "rkllm_destroy") }?,
            // SAFETY: the same in both groups.
            abort: unsafe { symbol(library, "rkllm_abort") }?,
            // SAFETY: the same in both groups.
            load_lora: unsafe { symbol(library, "rkllm_load_lora") }?,
            // SAFETY: the same in both groups.
            load_prompt_cache: unsafe { symbol(library, "rkllm_load_prompt_cache") }?,
            // SAFETY: the same in both groups.
            release_prompt_cache: unsafe { symbol(library, "rkllm_release_prompt_cache") }?,
            // SAFETY: the same in both groups.
            set_chat_template: unsafe { symbol(library, "rkllm_set_chat_template") }?,
            // SAFETY: four arguments in both groups; fewer only before 1.2.1, which are refused.
            clear_kv_cache: unsafe { symbol(library, "rkllm_clear_kv_cache") }?,
            // SAFETY: the same in both groups.
            kv_cache_size: unsafe { symbol(library, "rkllm_get_kv_cache_size") }?,
        })
    }
}

/// Looks one function up.
///
/// # Safety
/// The library's function `name` has the signature `T`.
pub(crate) unsafe fn symbol<T: Copy>(
    library: &libloading::Library,
    name: &str,
) -> Result<T, libloading::Error> {
    // SAFETY: the caller's promise. The pointer outlives the library: it is never unloaded.
    let found = unsafe { library.get::<T>(name) }?;
    Ok(*found)
}
