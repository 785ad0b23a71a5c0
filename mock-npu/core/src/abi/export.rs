//! The macro with which a group's thin crate exports its functions.

/// Exports the functions of one ABI group under the vendor's names.
///
/// `clear_kv_cache` is written as the group has it (`none`, `two`, `four` arguments); `since_1_2_1`
/// says whether the three functions of that release are there.
#[macro_export]
macro_rules! export_library {
    ($group:ident, $banner:literal, clear_kv_cache: $clear:ident, since_1_2_1: $recent:ident) => {
        use ::core::ffi::{c_char, c_int, c_void};
        use $crate::abi::entry;

        /// The vendor's version string; the file holds it once. Variants of a group differ in
        /// these bytes only, which the build patches in place.
        #[used]
        static BANNER: [u8; $banner.len()] = {
            let mut bytes = [0; $banner.len()];
            let mut at = 0;
            while at < bytes.len() {
                bytes[at] = $banner.as_bytes()[at];
                at += 1;
            }
            bytes
        };

        /// Says to whoever searches the file or its symbols that this is no vendor library.
        #[unsafe(no_mangle)]
        #[used]
        pub static MOCK_NPU_MARKER: [u8; 54] =
            *b"mock-npu: imitation of librkllmrt.so, not the original";

        fn banner() -> ::std::string::String {
            // SAFETY: a static is readable. Volatile, since the bytes on disk may differ from
            // those the compiler saw.
            let bytes = unsafe { ::core::ptr::read_volatile(&raw const BANNER) };
            ::std::string::String::from_utf8_lossy(&bytes).into_owned()
        }

        const LIBRARY: entry::Library =
            entry::Library { group: $crate::abi::layout::Group::$group, banner };

        $crate::export_default_param!();

        /// Loads a model.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_init(
            handle: *mut *mut c_void,
            param: *mut c_void,
            callback: *mut c_void,
        ) -> c_int {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::init(LIBRARY, handle, param, callback) }
        }

        /// Frees a handle.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_destroy(handle: *mut c_void) -> c_int {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::destroy(handle) }
        }

        /// Runs inference on the calling thread.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_run(
            handle: *mut c_void,
            input: *mut c_void,
            infer: *mut c_void,
            userdata: *mut c_void,
        ) -> c_int {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::run(handle, input, infer, userdata, false) }
        }

        /// Runs inference on a thread of the library.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_run_async(
            handle: *mut c_void,
            input: *mut c_void,
            infer: *mut c_void,
            userdata: *mut c_void,
        ) -> c_int {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::run(handle, input, infer, userdata, true) }
        }

        /// Loads a LoRA adapter.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_load_lora(
            handle: *mut c_void,
            adapter: *mut c_void,
        ) -> c_int {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::load_lora(handle, adapter) }
        }

        /// Loads a prompt cache from a file.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_load_prompt_cache(
            handle: *mut c_void,
            path: *const c_char,
        ) -> c_int {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::load_prompt_cache(handle, path) }
        }

        /// Lets go of a loaded prompt cache.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_release_prompt_cache(handle: *mut c_void) -> c_int {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::release_prompt_cache(handle) }
        }

        /// Asks a run to stop.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_abort(handle: *mut c_void) -> c_int {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::abort(handle) }
        }

        /// Whether a run is in progress, in the polarity of the release.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_is_running(handle: *mut c_void) -> c_int {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::is_running(handle) }
        }

        $crate::export_clear!($clear);
        $crate::export_recent!($recent);
    };
}

/// Exports `rkllm_createDefaultParam`, which returns its struct through a hidden pointer.
#[doc(hidden)]
#[macro_export]
macro_rules! export_default_param {
    () => {
        /// Writes the default parameters through the hidden result pointer, which on this machine
        /// is an ordinary first argument.
        ///
        /// # Safety
        /// `param` points at an `RKLLMParam`.
        #[cfg(not(target_arch = "aarch64"))]
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, reason = "the vendor's name")]
        pub unsafe extern "C" fn rkllm_createDefaultParam(param: *mut u8) -> *mut u8 {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::create_default_param(LIBRARY, param) }
        }

        /// Writes the default parameters through the hidden result pointer, which aarch64 passes
        /// in x8, where no Rust signature can see it.
        ///
        /// # Safety
        /// x8 points at an `RKLLMParam`.
        #[cfg(target_arch = "aarch64")]
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, reason = "the vendor's name")]
        pub unsafe extern "C" fn rkllm_createDefaultParam() {
            ::core::arch::naked_asm!("mov x0, x8", "b {body}", body = sym default_param_body)
        }

        #[cfg(target_arch = "aarch64")]
        unsafe extern "C" fn default_param_body(param: *mut u8) {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::create_default_param(LIBRARY, param) };
        }
    };
}

/// Exports the functions on the cache and the template, from 1.2.0 on.
#[doc(hidden)]
#[macro_export]
macro_rules! export_clear {
    (none) => {};
    (two) => {
        /// Empties the cache.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_clear_kv_cache(
            handle: *mut c_void,
            keep_system_prompt: c_int,
        ) -> c_int {
            let none = ::core::ptr::null();
            // SAFETY: the caller's duty is the same.
            unsafe { entry::clear_kv_cache(handle, keep_system_prompt, none, none) }
        }
        $crate::export_clear!(template);
    };
    (four) => {
        /// Empties the cache, or ranges of it.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_clear_kv_cache(
            handle: *mut c_void,
            keep_system_prompt: c_int,
            start: *mut c_int,
            end: *mut c_int,
        ) -> c_int {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::clear_kv_cache(handle, keep_system_prompt, start, end) }
        }
        $crate::export_clear!(template);
    };
    (template) => {
        /// Replaces the chat template.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_set_chat_template(
            handle: *mut c_void,
            system: *const c_char,
            prefix: *const c_char,
            postfix: *const c_char,
        ) -> c_int {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::set_chat_template(handle, system, prefix, postfix) }
        }
    };
}

/// Exports the functions that came with 1.2.1.
#[doc(hidden)]
#[macro_export]
macro_rules! export_recent {
    (no) => {};
    (yes) => {
        /// Entries in the cache, per batch.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_get_kv_cache_size(
            handle: *mut c_void,
            sizes: *mut c_int,
        ) -> c_int {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::get_kv_cache_size(handle, sizes) }
        }

        /// Offers tools to the model through the system prompt.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_set_function_tools(
            handle: *mut c_void,
            system: *const c_char,
            tools: *const c_char,
            tool_response_tag: *const c_char,
        ) -> c_int {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::set_function_tools(handle, system, tools, tool_response_tag) }
        }

        /// Hands over the encoder's caches for cross-attention.
        ///
        /// # Safety
        /// As the vendor's header demands.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn rkllm_set_cross_attn_params(
            handle: *mut c_void,
            param: *mut c_void,
        ) -> c_int {
            // SAFETY: the caller's duty is the same.
            unsafe { entry::set_cross_attn_params(handle, param) }
        }
    };
}
