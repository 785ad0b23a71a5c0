//! The bodies of librknnrt's exported functions.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::{Value, json};

use super::model::{RknnModel, Tensor};
use super::structs::{InOutNum, Input, MemSize, Output, SdkVersion, TensorAttr, fixed_text};
use super::tensor::ElementType;
use crate::faults::{self, Faults};
use crate::latency;
use crate::log;
use crate::memory::{self, Reservation};
use crate::trace::{self, Call};

const OK: c_int = 0;
const FAIL: c_int = -1;
const MALLOC_FAIL: c_int = -4;
const PARAM_INVALID: c_int = -5;
const MODEL_INVALID: c_int = -6;
const CTX_INVALID: c_int = -7;
const INPUT_INVALID: c_int = -8;
const OUTPUT_INVALID: c_int = -9;
const PLATFORM_UNMATCH: c_int = -13;

macro_rules! api_version {
    () => {
        "2.3.2 (429f97ae6b@2025-04-09T09:09:27)"
    };
}

/// As the library of this release says it.
pub const API_VERSION: &str = api_version!();
/// The same between two zero bytes, as it stands in the vendor's file for those who read that.
#[used]
static API_VERSION_IN_FILE: &str = concat!("\0", api_version!(), "\0");

/// What a context points at.
struct Context {
    model: RknnModel,
    inputs: Vec<Option<Vec<f32>>>,
    planar: bool,
    outputs: Vec<Vec<f32>>,
    _memory: Reservation,
}

fn guarded(body: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        log::mock("a bug in the mock made it panic; the call returns -1");
        FAIL
    })
}

fn faults_now() -> Faults {
    faults::merge(&[&faults::from_environment()]).unwrap_or_else(|error| {
        log::mock(&error);
        Faults::default()
    })
}

/// # Safety
/// `context` is 0 or came from [`init`], is not destroyed, and no other call uses it.
unsafe fn opened<'a>(context: u64) -> Option<&'a mut Context> {
    // SAFETY: 0 or valid and exclusive by the caller's duty.
    unsafe { (context as *mut Context).as_mut() }
}

/// # Safety
/// `model` is a path when `size` is 0, and `size` bytes otherwise.
unsafe fn read_model(model: *const c_void, size: u32) -> Option<Vec<u8>> {
    if model.is_null() {
        return None;
    }
    if size > 0 {
        // SAFETY: `size` bytes by the caller's duty.
        return Some(
            unsafe { std::slice::from_raw_parts(model.cast::<u8>(), size as usize) }.to_vec(),
        );
    }
    // SAFETY: a path, and so NUL-terminated, by the caller's duty.
    let path = unsafe { CStr::from_ptr(model.cast::<c_char>()) };
    std::fs::read(path.to_str().ok()?).ok()
}

/// `rknn_init`.
///
/// # Safety
/// As the vendor's header demands.
pub unsafe fn init(context: *mut u64, model: *const c_void, size: u32) -> c_int {
    guarded(|| {
        let traced = Call::enter("rknn_init", || json!({ "size": size }));
        let faults = faults_now();
        // SAFETY: the caller's duty.
        let loaded = unsafe { read_model(model, size) };
        match load(loaded, &faults) {
            Ok(loaded) => {
                let loaded = Box::into_raw(Box::new(loaded)) as u64;
                // SAFETY: the caller's place for the context.
                unsafe { context.write(loaded) };
                trace::note("rknn_context", || json!({ "context": loaded }));
                traced.done(OK)
            }
            Err(code) => {
                // SAFETY: the caller's place for the context.
                unsafe { context.write(0) };
                traced.done(code)
            }
        }
    })
}

fn rknn_error(text: &str) {
    log::raw_stderr(&format!("E RKNN: [00:00:00.000] {text}\n"));
}

fn load(bytes: Option<Vec<u8>>, faults: &Faults) -> Result<Context, c_int> {
    if faults.rknn_no_device {
        log::raw_stderr("failed to open rknpu module, need to insmod rknpu dirver!\n");
        log::raw_stderr("failed to open rknn device!\n");
        return Err(FAIL);
    }
    let bytes = bytes.ok_or_else(|| {
        rknn_error("load model file error!");
        FAIL
    })?;
    let model = RknnModel::parse(&bytes).map_err(|error| {
        log::mock(&error);
        rknn_error("rknn_init, parse model failed!");
        MODEL_INVALID
    })?;
    let board = faults.board_platform.as_deref().unwrap_or("RK3588");
    if !model.target_platform.eq_ignore_ascii_case(board) {
        return Err(PLATFORM_UNMATCH);
    }
    let domain_mb = faults.npu_domain_mb.unwrap_or(memory::DOMAIN_MB);
    let shared = faults.npu_board.as_deref().map(Path::new);
    let memory = memory::reserve(model.memory_mb, 0, domain_mb, shared).ok_or_else(|| {
        rknn_error("failed to allocate handle, ret: -1, errno: 14, errstr: Bad address");
        MALLOC_FAIL
    })?;
    let inputs = vec![None; model.input.len()];
    Ok(Context { model, inputs, planar: false, outputs: Vec::new(), _memory: memory })
}

/// Records the call, and runs `body` on a context that is not 0.
///
/// # Safety
/// As for [`opened`].
unsafe fn on_context(
    name: &'static str,
    context: u64,
    arguments: impl FnOnce() -> Value,
    body: impl FnOnce(&mut Context) -> Result<(), c_int>,
) -> c_int {
    guarded(|| {
        let traced = Call::enter(name, || {
            let mut all = json!({ "context": context });
            if let (Value::Object(all), Value::Object(more)) = (&mut all, arguments()) {
                all.extend(more);
            }
            all
        });
        // SAFETY: the caller's duty.
        let returned = match unsafe { opened(context) } {
            Some(context) => body(context).err().unwrap_or(OK),
            None => CTX_INVALID,
        };
        traced.done(returned)
    })
}

fn attr_of(tensor: &Tensor, index: u32) -> TensorAttr {
    let mut dims = [0; 16];
    dims[..tensor.dims.len()].copy_from_slice(&tensor.dims);
    let size = (tensor.elements() * tensor.element.len()) as u32;
    TensorAttr {
        index,
        n_dims: tensor.dims.len() as u32,
        dims,
        name: fixed_text(&tensor.name),
        n_elems: tensor.elements() as u32,
        size,
        fmt: tensor.fmt.code(),
        tensor_type: tensor.element as u32,
        qnt_type: 0,
        fl: 0,
        zp: 0,
        scale: 1.0,
        w_stride: 0,
        size_with_stride: size,
        pass_through: 0,
        h_stride: 0,
    }
}

/// Writes an answer to a query if the caller's place is large enough.
///
/// # Safety
/// `info` points at `size` writable bytes.
unsafe fn answer<T>(value: T, info: *mut c_void, size: u32) -> Result<(), c_int> {
    if info.is_null() || (size as usize) < size_of::<T>() {
        return Err(PARAM_INVALID);
    }
    // SAFETY: large enough, as was just checked, and writable by the caller's duty.
    unsafe { info.cast::<T>().write_unaligned(value) };
    Ok(())
}

/// `rknn_query`.
///
/// # Safety
/// As the vendor's header demands.
pub unsafe fn query(context: u64, command: u32, info: *mut c_void, size: u32) -> c_int {
    let body = |context: &mut Context| {
        let model = &context.model;
        let (n_input, n_output) = (model.input.len() as u32, model.output.len() as u32);
        match command {
            // SAFETY: the caller's duty.
            0 => unsafe { answer(InOutNum { n_input, n_output }, info, size) },
            1 | 2 => {
                if info.is_null() || (size as usize) < size_of::<TensorAttr>() {
                    return Err(PARAM_INVALID);
                }
                // SAFETY: the index is the first field of a struct that fits.
                let index = unsafe { info.cast::<u32>().read_unaligned() };
                let tensors = if command == 1 { &model.input } else { &model.output };
                let tensor = tensors.get(index as usize).ok_or(PARAM_INVALID)?;
                // SAFETY: the caller's duty.
                unsafe { answer(attr_of(tensor, index), info, size) }
            }
            // SAFETY: the caller's duty.
            4 => unsafe { answer((model.run_ms * 1e3) as i64, info, size) },
            5 => {
                let drv_version = fixed_text("0.9.8");
                let version = SdkVersion { api_version: fixed_text(API_VERSION), drv_version };
                // SAFETY: the caller's duty.
                unsafe { answer(version, info, size) }
            }
            6 => {
                let bytes = model.memory_mb << 20;
                let total_weight_size = u32::try_from(bytes).unwrap_or(u32::MAX);
                let sizes = MemSize {
                    total_weight_size,
                    total_dma_allocated_size: bytes,
                    ..MemSize::default()
                };
                // SAFETY: the caller's duty.
                unsafe { answer(sizes, info, size) }
            }
            _ => Err(PARAM_INVALID),
        }
    };
    // SAFETY: the caller's duty.
    unsafe { on_context("rknn_query", context, || json!({ "command": command }), body) }
}

/// `rknn_inputs_set`.
///
/// # Safety
/// As the vendor's header demands.
pub unsafe fn inputs_set(context: u64, count: u32, inputs: *const Input) -> c_int {
    let body = |context: &mut Context| {
        if inputs.is_null() {
            return Err(PARAM_INVALID);
        }
        // SAFETY: `count` entries by the caller's duty.
        for input in unsafe { std::slice::from_raw_parts(inputs, count as usize) } {
            let tensor = context.model.input.get(input.index as usize).ok_or(INPUT_INVALID)?;
            let element = if input.pass_through != 0 {
                tensor.element
            } else {
                ElementType::of(input.tensor_type).ok_or(INPUT_INVALID)?
            };
            if input.buf.is_null() || input.size as usize != tensor.elements() * element.len() {
                rknn_error(&format!(
                    "rknn_inputs_set, input {} has {} bytes, expected {}",
                    input.index,
                    input.size,
                    tensor.elements() * element.len()
                ));
                return Err(INPUT_INVALID);
            }
            let (start, len) = (input.buf.cast::<u8>(), input.size as usize);
            // SAFETY: `size` bytes by the caller's duty.
            let bytes = unsafe { std::slice::from_raw_parts(start, len) };
            if input.index == 0 {
                context.planar = input.fmt == 0;
            }
            context.inputs[input.index as usize] = Some(element.read(bytes));
        }
        Ok(())
    };
    let arguments = || {
        if inputs.is_null() {
            return json!({ "inputs": null });
        }
        // SAFETY: `count` entries by the caller's duty.
        let inputs = unsafe { std::slice::from_raw_parts(inputs, count as usize) };
        let input = |input: &Input| {
            json!({
                "index": input.index,
                "size": input.size,
                "type": input.tensor_type,
                "fmt": input.fmt,
                "pass_through": input.pass_through,
            })
        };
        json!({ "inputs": inputs.iter().map(input).collect::<Vec<_>>() })
    };
    // SAFETY: the caller's duty.
    unsafe { on_context("rknn_inputs_set", context, arguments, body) }
}

/// `rknn_run`.
///
/// # Safety
/// As the vendor's header demands.
pub unsafe fn run(context: u64) -> c_int {
    let body = |context: &mut Context| {
        let faults = faults_now();
        if faults.rknn_hangs {
            faults::hang("rknn_run");
        }
        let inputs: Option<Vec<Vec<f32>>> = context.inputs.iter().cloned().collect();
        let inputs = inputs.ok_or(INPUT_INVALID)?;
        std::thread::sleep(
            context.model.run_time(latency::scale_from_environment().unwrap_or(1.0)),
        );
        if faults.rknn_run_fails {
            rknn_error("failed to submit!, op id: 1, op name: Conv, flags: 0x5, task start: 0");
            return Err(FAIL);
        }
        context.outputs = context.model.run(&inputs, context.planar);
        Ok(())
    };
    // SAFETY: the caller's duty.
    unsafe { on_context("rknn_run", context, || json!({}), body) }
}

/// `rknn_outputs_get`.
///
/// # Safety
/// As the vendor's header demands.
pub unsafe fn outputs_get(context: u64, count: u32, outputs: *mut Output) -> c_int {
    let body = |context: &mut Context| {
        if outputs.is_null() || count as usize != context.model.output.len() {
            return Err(PARAM_INVALID);
        }
        if context.outputs.is_empty() {
            return Err(OUTPUT_INVALID);
        }
        // SAFETY: `count` entries by the caller's duty.
        let outputs = unsafe { std::slice::from_raw_parts_mut(outputs, count as usize) };
        for (place, output) in outputs.iter_mut().enumerate() {
            if output.is_prealloc == 0 {
                output.index = place as u32;
            }
            let index = output.index as usize;
            let values = context.outputs.get(index).ok_or(OUTPUT_INVALID)?;
            let own = context.model.output[index].element;
            let element = if output.want_float != 0 { ElementType::Float32 } else { own };
            // SAFETY: a preallocated buffer holds `size` bytes by the caller's duty.
            unsafe { hand_over(output, &element.write(values)) }?;
        }
        Ok(())
    };
    // SAFETY: `count` entries by the caller's duty.
    let arguments = || unsafe { asked(count, outputs) };
    // SAFETY: the caller's duty.
    unsafe { on_context("rknn_outputs_get", context, arguments, body) }
}

/// Outputs as the trace shows them: how they are wanted, and whether there is something in them.
///
/// # Safety
/// `outputs` is NULL or points at `count` entries.
unsafe fn asked(count: u32, outputs: *const Output) -> Value {
    if outputs.is_null() {
        return json!({ "outputs": null });
    }
    // SAFETY: the caller's duty.
    let outputs = unsafe { std::slice::from_raw_parts(outputs, count as usize) };
    let output = |output: &Output| {
        json!({
            "index": output.index,
            "want_float": output.want_float,
            "is_prealloc": output.is_prealloc,
            "filled": !output.buf.is_null(),
        })
    };
    json!({ "outputs": outputs.iter().map(output).collect::<Vec<_>>() })
}

/// Copies an output into the caller's buffer, or into one of ours that `outputs_release` frees.
///
/// # Safety
/// A preallocated `buf` points at `size` writable bytes.
unsafe fn hand_over(output: &mut Output, bytes: &[u8]) -> Result<(), c_int> {
    if output.is_prealloc == 0 {
        // SAFETY: allocating has no preconditions.
        output.buf = unsafe { libc::malloc(bytes.len().max(1)) };
        output.size = bytes.len() as u32;
    }
    if output.buf.is_null() || (output.size as usize) < bytes.len() {
        return Err(OUTPUT_INVALID);
    }
    // SAFETY: large enough, as was just checked.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), output.buf.cast(), bytes.len()) };
    Ok(())
}

/// `rknn_outputs_release`.
///
/// # Safety
/// As the vendor's header demands.
pub unsafe fn outputs_release(context: u64, count: u32, outputs: *mut Output) -> c_int {
    let body = |_: &mut Context| {
        if outputs.is_null() {
            return Err(PARAM_INVALID);
        }
        // SAFETY: `count` entries by the caller's duty.
        for output in unsafe { std::slice::from_raw_parts_mut(outputs, count as usize) } {
            if output.is_prealloc == 0 {
                // SAFETY: NULL or from `malloc` in `hand_over`.
                unsafe { libc::free(output.buf) };
                output.buf = std::ptr::null_mut();
            }
        }
        Ok(())
    };
    // SAFETY: `count` entries by the caller's duty.
    let arguments = || unsafe { asked(count, outputs) };
    // SAFETY: the caller's duty.
    unsafe { on_context("rknn_outputs_release", context, arguments, body) }
}

/// `rknn_set_core_mask`.
///
/// # Safety
/// `context` is 0 or came from [`init`].
pub unsafe fn set_core_mask(context: u64, mask: u32) -> c_int {
    let body = |_: &mut Context| match mask {
        0..=4 | 7 | 0xffff => Ok(()),
        _ => Err(PARAM_INVALID),
    };
    // SAFETY: the caller's duty.
    unsafe { on_context("rknn_set_core_mask", context, || json!({ "mask": mask }), body) }
}

/// `rknn_destroy`.
///
/// # Safety
/// `context` is 0 or came from [`init`]; it is not used afterwards.
pub unsafe fn destroy(context: u64) -> c_int {
    guarded(|| {
        let traced = Call::enter("rknn_destroy", || json!({ "context": context }));
        if context == 0 {
            return traced.done(CTX_INVALID);
        }
        // SAFETY: made by `Box::into_raw` in `init`, and given up by the caller now.
        drop(unsafe { Box::from_raw(context as *mut Context) });
        traced.done(OK)
    })
}
