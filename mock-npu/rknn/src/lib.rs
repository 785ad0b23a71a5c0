//! librknnrt.so for vision encoders and pointer heads, as a mock.

use core::ffi::{c_int, c_void};

use mock_npu_core::rknn::entry;
use mock_npu_core::rknn::structs::{Input, Output};

/// Says to whoever searches the file or its symbols that this is no vendor library.
#[unsafe(no_mangle)]
#[used]
pub static MOCK_NPU_MARKER: [u8; 53] = *b"mock-npu: imitation of librknnrt.so, not the original";

/// Loads a model.
///
/// # Safety
/// As the vendor's header demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rknn_init(
    context: *mut u64,
    model: *mut c_void,
    size: u32,
    _flag: u32,
    _extend: *mut c_void,
) -> c_int {
    // SAFETY: the caller's duty is the same.
    unsafe { entry::init(context, model, size) }
}

/// Answers what a model is like.
///
/// # Safety
/// As the vendor's header demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rknn_query(
    context: u64,
    command: u32,
    info: *mut c_void,
    size: u32,
) -> c_int {
    // SAFETY: the caller's duty is the same.
    unsafe { entry::query(context, command, info, size) }
}

/// Takes inputs.
///
/// # Safety
/// As the vendor's header demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rknn_inputs_set(context: u64, count: u32, inputs: *mut Input) -> c_int {
    // SAFETY: the caller's duty is the same.
    unsafe { entry::inputs_set(context, count, inputs) }
}

/// Computes.
///
/// # Safety
/// As the vendor's header demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rknn_run(context: u64, _extend: *mut c_void) -> c_int {
    // SAFETY: the caller's duty is the same.
    unsafe { entry::run(context) }
}

/// Hands out outputs.
///
/// # Safety
/// As the vendor's header demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rknn_outputs_get(
    context: u64,
    count: u32,
    outputs: *mut Output,
    _extend: *mut c_void,
) -> c_int {
    // SAFETY: the caller's duty is the same.
    unsafe { entry::outputs_get(context, count, outputs) }
}

/// Frees outputs.
///
/// # Safety
/// As the vendor's header demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rknn_outputs_release(
    context: u64,
    count: u32,
    outputs: *mut Output,
) -> c_int {
    // SAFETY: the caller's duty is the same.
    unsafe { entry::outputs_release(context, count, outputs) }
}

/// Chooses cores.
///
/// # Safety
/// As the vendor's header demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rknn_set_core_mask(context: u64, mask: u32) -> c_int {
    // SAFETY: the caller's duty is the same.
    unsafe { entry::set_core_mask(context, mask) }
}

/// Frees a context.
///
/// # Safety
/// As the vendor's header demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rknn_destroy(context: u64) -> c_int {
    // SAFETY: the caller's duty is the same.
    unsafe { entry::destroy(context) }
}
