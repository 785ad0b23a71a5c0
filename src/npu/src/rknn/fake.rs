//! A vendor library made of Rust functions, for unit tests without one: it adds up its input.

use std::{
    cell::Cell,
    ffi::{c_char, c_void},
    slice,
};

use super::{
    RknnLibrary,
    raw::{
        Context, FORMAT_NHWC, FORMAT_UNDEFINED, InOutNum, Input, Output, QUERY_IN_OUT_NUM,
        QUERY_INPUT_ATTR, QUERY_SDK_VERSION, SdkVersion, TYPE_F32, TYPE_U8, TensorAttr,
    },
    table::Table,
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Init,
    Query,
    Run,
    ShortOutput,
}

thread_local! {
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
    static CONTEXTS: Cell<i32> = const { Cell::new(0) };
    static UNRELEASED: Cell<i32> = const { Cell::new(0) };
}

/// A library with this fault, on this thread.
pub(super) fn library(fault: Option<Fault>) -> RknnLibrary {
    FAULT.set(fault);
    RknnLibrary::of_functions(Table {
        init,
        query,
        inputs_set,
        run,
        outputs_get,
        outputs_release,
        destroy,
        set_core_mask: Some(set_core_mask),
    })
}

/// Networks that are loaded on this thread.
pub(super) fn contexts() -> i32 {
    CONTEXTS.get()
}

/// Outputs that were given and not released.
pub(super) fn unreleased() -> i32 {
    UNRELEASED.get()
}

#[derive(Default)]
struct Loaded {
    sum: f32,
    count: f32,
}

/// # Safety
/// The context is one that `init` has given.
unsafe fn loaded<'a>(context: Context) -> &'a mut Loaded {
    let at = usize::try_from(context).expect("an address") as *mut Loaded;
    // SAFETY: the caller's promise.
    unsafe { &mut *at }
}

unsafe extern "C" fn init(
    out: *mut Context,
    _: *mut c_void,
    size: u32,
    _: u32,
    _: *mut c_void,
) -> i32 {
    assert_eq!(size, 0, "the model is a path");
    if FAULT.get() == Some(Fault::Init) {
        return -4;
    }
    CONTEXTS.set(CONTEXTS.get() + 1);
    let context = Box::into_raw(Box::new(Loaded::default())) as u64;
    // SAFETY: the caller passes a valid out pointer.
    unsafe { *out = context };
    0
}

/// Sizes, order and type of a tensor.
type Shape = (&'static [u32], i32, i32, &'static str);

const INPUT: Shape = (&[1, 2, 2, 3], FORMAT_NHWC, TYPE_U8, "image");
const OUTPUTS: [Shape; 2] =
    [(&[1, 2], FORMAT_UNDEFINED, TYPE_F32, "sum"), (&[3], FORMAT_UNDEFINED, TYPE_F32, "other")];

fn put_text(to: &mut [c_char; 256], text: &str) {
    for (to, byte) in to.iter_mut().zip(text.bytes()) {
        *to = c_char::from_ne_bytes([byte]);
    }
}

unsafe extern "C" fn query(_: Context, command: i32, at: *mut c_void, size: u32) -> i32 {
    let size = usize::try_from(size).expect("small");
    match command {
        QUERY_IN_OUT_NUM => {
            assert_eq!(size, size_of::<InOutNum>());
            // SAFETY: the structure of this command.
            unsafe { *at.cast() = InOutNum { n_input: 1, n_output: 2 } };
        }
        QUERY_SDK_VERSION => {
            assert_eq!(size, size_of::<SdkVersion>());
            // SAFETY: the structure of this command.
            let version = unsafe { &mut *at.cast::<SdkVersion>() };
            put_text(&mut version.api_version, "2.3.2 (fake)");
        }
        command => {
            assert_eq!(size, size_of::<TensorAttr>());
            if FAULT.get() == Some(Fault::Query) {
                return -5;
            }
            // SAFETY: the structure of this command.
            let attr = unsafe { &mut *at.cast::<TensorAttr>() };
            let index = usize::try_from(attr.index).expect("small");
            let shape = if command == QUERY_INPUT_ATTR { INPUT } else { OUTPUTS[index] };
            let (dims, fmt, kind, name) = shape;
            attr.n_dims = u32::try_from(dims.len()).expect("small");
            attr.dims[..dims.len()].copy_from_slice(dims);
            attr.n_elems = dims.iter().product();
            (attr.fmt, attr.kind) = (fmt, kind);
            put_text(&mut attr.name, name);
        }
    }
    0
}

unsafe extern "C" fn inputs_set(context: Context, count: u32, inputs: *mut Input) -> i32 {
    assert_eq!(count, 1);
    // SAFETY: as many as it says.
    let input = unsafe { &*inputs };
    let size = usize::try_from(input.size).expect("small");
    // SAFETY: one that `init` has given.
    let loaded = unsafe { loaded(context) };
    if input.kind == TYPE_U8 {
        // SAFETY: as large as it says.
        let bytes = unsafe { slice::from_raw_parts(input.buf.cast::<u8>(), size) };
        loaded.sum = bytes.iter().map(|byte| f32::from(*byte)).sum();
    } else {
        assert_eq!(size, 48, "12 numbers of 4 bytes");
    }
    loaded.count = 12.0;
    0
}

unsafe extern "C" fn run(_: Context, _: *mut c_void) -> i32 {
    if FAULT.get() == Some(Fault::Run) { -2 } else { 0 }
}

unsafe extern "C" fn outputs_get(
    context: Context,
    count: u32,
    outputs: *mut Output,
    _: *mut c_void,
) -> i32 {
    assert_eq!(count, 2);
    // SAFETY: as many as it says.
    let outputs = unsafe { slice::from_raw_parts_mut(outputs, 2) };
    // SAFETY: one that `init` has given.
    let Loaded { sum, count } = unsafe { loaded(context) };
    let values = [vec![*sum, *count], vec![0.5, 1.5, 2.5]];
    for (output, mut values) in outputs.iter_mut().zip(values) {
        assert_eq!((output.want_float, output.is_prealloc), (1, 0));
        if FAULT.get() == Some(Fault::ShortOutput) {
            values.truncate(1);
        }
        output.size = u32::try_from(values.len() * 4).expect("small");
        output.buf = Box::into_raw(values.into_boxed_slice()).cast();
        UNRELEASED.set(UNRELEASED.get() + 1);
    }
    0
}

unsafe extern "C" fn outputs_release(_: Context, count: u32, outputs: *mut Output) -> i32 {
    let count = usize::try_from(count).expect("small");
    // SAFETY: as many as it says.
    for output in unsafe { slice::from_raw_parts_mut(outputs, count) } {
        let len = usize::try_from(output.size).expect("small") / 4;
        let values = std::ptr::slice_from_raw_parts_mut(output.buf.cast::<f32>(), len);
        // SAFETY: from `outputs_get`, of this length.
        drop(unsafe { Box::from_raw(values) });
        UNRELEASED.set(UNRELEASED.get() - 1);
    }
    0
}

unsafe extern "C" fn set_core_mask(_: Context, mask: i32) -> i32 {
    if mask == 3 { 0 } else { -1 }
}

unsafe extern "C" fn destroy(context: Context) -> i32 {
    CONTEXTS.set(CONTEXTS.get() - 1);
    // SAFETY: one that `init` has given.
    let loaded = std::ptr::from_mut(unsafe { loaded(context) });
    // SAFETY: from `init`, and the caller's last use.
    drop(unsafe { Box::from_raw(loaded) });
    0
}
