//! A network on the NPU: what goes in, what comes out, and a safe way to run it.

use std::{
    ffi::{CStr, CString, c_char, c_void},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr, slice,
};

use super::{
    RknnLibrary,
    raw::{
        CORES_0_1, CORES_0_1_2, Context, FORMAT_NCHW, FORMAT_NHWC, FORMAT_UNDEFINED, InOutNum,
        Input, Output, QUERY_IN_OUT_NUM, QUERY_INPUT_ATTR, QUERY_OUTPUT_ATTR, QUERY_SDK_VERSION,
        SUCCESS, SdkVersion, TYPE_F32, TYPE_I8, TYPE_U8, TensorAttr,
    },
    table::Table,
};

/// Inputs and outputs that a network may have: more than any vision encoder has, and few enough for
/// what the library writes of them.
const TENSORS_MAX: u32 = 64;

/// Why a network cannot be used. The library's own words stand on its standard error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The path cannot be given to the library.
    #[error("a zero byte in the path {}", .0.display())]
    Path(PathBuf),
    /// A call failed.
    #[error("{call} of {} failed: {}", file.display(), meaning(*.code))]
    Call {
        /// The network's file.
        file: PathBuf,
        /// The function's name.
        call: &'static str,
        /// What it returned.
        code: i32,
    },
    /// The network is none that this program can use.
    #[error("{}: {reason}", file.display())]
    Shape {
        /// The network's file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a return code means, as the vendor's header has it.
fn meaning(code: i32) -> String {
    let words = match code {
        -2 => "it took too long",
        -3 => "there is no NPU, or it cannot be reached",
        -4 => "the NPU is out of memory",
        -5 => "a parameter is wrong",
        -6 => "the file is no network for this runtime",
        -7 => "the network is not loaded",
        -8 => "an input is wrong",
        -9 => "an output is wrong",
        -10 => "the file was made for another device",
        -13 => "the file was made for another chip",
        _ => return format!("code {code}"),
    };
    format!("{words} (code {code})")
}

/// Order of an image's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Channel by channel.
    Nchw,
    /// Pixel by pixel.
    Nhwc,
    /// It is no image.
    Undefined,
}

impl Order {
    const fn code(self) -> i32 {
        match self {
            Self::Nchw => FORMAT_NCHW,
            Self::Nhwc => FORMAT_NHWC,
            Self::Undefined => FORMAT_UNDEFINED,
        }
    }
}

/// What a tensor's numbers are, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    /// Whole numbers of 8 bits.
    EightBits,
    /// Anything else.
    Wider,
}

/// An input or an output of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// As its makers called it.
    pub name: String,
    /// Its sizes, the slowest first.
    pub dims: Vec<u32>,
    /// Order of an image's numbers.
    pub order: Order,
    /// What the numbers are.
    pub element: ElementType,
    /// How many numbers there are.
    pub len: usize,
}

/// What an input is given.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Pixels, one byte for each number, pixel by pixel.
    Pixels(&'a [u8]),
    /// Numbers in the given order.
    Floats(&'a [f32], Order),
}

impl Values<'_> {
    const fn len(&self) -> usize {
        match self {
            Self::Pixels(bytes) => bytes.len(),
            Self::Floats(floats, _) => floats.len(),
        }
    }
}

/// A network on the NPU. Dropping it frees it.
pub struct Network {
    context: Context,
    table: Table,
    file: PathBuf,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    version: String,
}

// SAFETY: the library ties nothing to the thread that made the context, as long as one thread at a
// time uses it: `run` takes `&mut self`, and without `Sync` no other thread can be beside it.
unsafe impl Send for Network {}

impl Network {
    /// Loads a `.rknn` file onto the NPU, on as many of its cores as it can have.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn load(library: &RknnLibrary, file: &Path) -> Result<Self, NetworkError> {
        let path = CString::new(file.as_os_str().as_bytes())
            .map_err(|_| NetworkError::Path(file.to_owned()))?;
        let table = *library.table();
        let mut context: Context = 0;
        // The library takes a pointer that it could write through, so it gets bytes of its own.
        let mut path = path.into_bytes_with_nul();
        // SAFETY: a valid out pointer; with size 0 the model is a path, which ends with a zero byte and
        // lives until the call has returned.
        let code = unsafe {
            (table.init)(&raw mut context, path.as_mut_ptr().cast(), 0, 0, ptr::null_mut())
        };
        if code != SUCCESS {
            // An old release leaves a context behind all the same: the code alone counts.
            let file = file.to_owned();
            return Err(NetworkError::Call { file, call: "rknn_init", code });
        }
        let mut network = Self {
            context,
            table,
            file: file.to_owned(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            version: String::new(),
        };
        network.take_cores();
        network.look()?;
        Ok(network)
    }

    /// What goes in.
    pub fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    /// What comes out.
    pub fn outputs(&self) -> &[Tensor] {
        &self.outputs
    }

    /// The library's release, in its own words; empty where it does not say.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Runs the network on one set of inputs; what comes out, one list of numbers for each output.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn run(&mut self, values: &[Values<'_>]) -> Result<Vec<Vec<f32>>, NetworkError> {
        self.check(values)?;
        self.set_inputs(values)?;
        // SAFETY: the context is live and idle (`&mut self`); no extension is asked for.
        let code = unsafe { (self.table.run)(self.context, ptr::null_mut()) };
        self.checked("rknn_run", code)?;
        self.take_outputs()
    }

    fn check(&self, values: &[Values<'_>]) -> Result<(), NetworkError> {
        if values.len() != self.inputs.len() {
            let reason = format!("it has {} inputs, not {}", self.inputs.len(), values.len());
            return Err(self.shape(reason));
        }
        for (tensor, values) in self.inputs.iter().zip(values) {
            if tensor.len != values.len() {
                let (name, expected, given) = (&tensor.name, tensor.len, values.len());
                let reason = format!("input {name} takes {expected} numbers, not {given}");
                return Err(self.shape(reason));
            }
        }
        Ok(())
    }

    fn set_inputs(&mut self, values: &[Values<'_>]) -> Result<(), NetworkError> {
        // The library takes pointers that it could write through, so it gets copies of its own.
        let mut copies: Vec<Copied> = values.iter().map(Copied::of).collect();
        let mut inputs: Vec<Input> = Vec::with_capacity(copies.len());
        for (index, copy) in (0..).zip(&mut copies) {
            inputs.push(copy.input(index));
        }
        let count = u32::try_from(inputs.len()).unwrap_or(u32::MAX);
        // SAFETY: the context is live and idle; as many structures as it is told, whose buffers are as
        // large as they say and live until the call has returned, which copies them.
        let code = unsafe { (self.table.inputs_set)(self.context, count, inputs.as_mut_ptr()) };
        self.checked("rknn_inputs_set", code)
    }

    fn take_outputs(&mut self) -> Result<Vec<Vec<f32>>, NetworkError> {
        let mut outputs: Vec<Output> = (0..)
            .zip(&self.outputs)
            .map(|(index, _)| Output {
                want_float: 1,
                is_prealloc: 0,
                index,
                buf: ptr::null_mut(),
                size: 0,
            })
            .collect();
        let count = u32::try_from(outputs.len()).unwrap_or(u32::MAX);
        // SAFETY: the context is live and has just run; as many structures as it is told.
        let code = unsafe {
            (self.table.outputs_get)(self.context, count, outputs.as_mut_ptr(), ptr::null_mut())
        };
        self.checked("rknn_outputs_get", code)?;
        let taken = outputs.iter().zip(&self.outputs).map(|(output, tensor)| {
            // SAFETY: the library has filled the structure: a buffer of its own of `size` bytes, with
            // 32-bit numbers as they were asked for, which lives until it is released below.
            unsafe { floats(output, tensor.len) }
        });
        let taken: Option<Vec<Vec<f32>>> = taken.collect();
        // All of them: the vendor's own example releases the first only and leaks the others.
        // SAFETY: the very structures that the library has filled, and nothing uses them any more.
        let released =
            unsafe { (self.table.outputs_release)(self.context, count, outputs.as_mut_ptr()) };
        self.checked("rknn_outputs_release", released)?;
        taken.ok_or_else(|| self.shape("an output is shorter than the file says".to_owned()))
    }

    /// Asks for all cores there may be. Chips with one core refuse, old releases lack the function.
    fn take_cores(&mut self) {
        let Some(set_core_mask) = self.table.set_core_mask else { return };
        for mask in [CORES_0_1_2, CORES_0_1] {
            // SAFETY: the context is live and idle.
            if unsafe { set_core_mask(self.context, mask) } == SUCCESS {
                return;
            }
        }
    }

    /// Asks what goes in and what comes out.
    fn look(&mut self) -> Result<(), NetworkError> {
        let mut counts = InOutNum::default();
        self.query(QUERY_IN_OUT_NUM, &mut counts)?;
        let InOutNum { n_input, n_output } = counts;
        if !(1..=TENSORS_MAX).contains(&n_input) || !(1..=TENSORS_MAX).contains(&n_output) {
            let reason = format!("it has {n_input} inputs and {n_output} outputs");
            return Err(self.shape(reason));
        }
        for index in 0..n_input {
            self.inputs.push(self.tensor(QUERY_INPUT_ATTR, index)?);
        }
        for index in 0..n_output {
            self.outputs.push(self.tensor(QUERY_OUTPUT_ATTR, index)?);
        }
        let mut version = SdkVersion { api_version: [0; 256], drv_version: [0; 256] };
        if self.query(QUERY_SDK_VERSION, &mut version).is_ok() {
            self.version = text(&version.api_version);
        }
        Ok(())
    }

    fn tensor(&self, command: i32, index: u32) -> Result<Tensor, NetworkError> {
        // SAFETY: zeroes are valid in every field.
        let mut attr: TensorAttr = unsafe { std::mem::zeroed() };
        attr.index = index;
        self.query(command, &mut attr)?;
        let count = usize::try_from(attr.n_dims).unwrap_or(usize::MAX);
        let dims = attr.dims.get(..count).unwrap_or(&attr.dims).to_vec();
        let order = match attr.fmt {
            FORMAT_NCHW => Order::Nchw,
            FORMAT_NHWC => Order::Nhwc,
            _ => Order::Undefined,
        };
        let element = match attr.kind {
            TYPE_I8 | TYPE_U8 => ElementType::EightBits,
            _ => ElementType::Wider,
        };
        let len = usize::try_from(attr.n_elems).unwrap_or(usize::MAX);
        Ok(Tensor { name: text(&attr.name), dims, order, element, len })
    }

    fn query<T>(&self, command: i32, answer: &mut T) -> Result<(), NetworkError> {
        let size = u32::try_from(size_of::<T>()).unwrap_or(0);
        let place: *mut c_void = ptr::from_mut(answer).cast();
        // SAFETY: the context is live and idle; the structure belongs to the command and is as large as
        // the library is told.
        let code = unsafe { (self.table.query)(self.context, command, place, size) };
        self.checked("rknn_query", code)
    }

    fn checked(&self, call: &'static str, code: i32) -> Result<(), NetworkError> {
        if code == SUCCESS {
            return Ok(());
        }
        Err(NetworkError::Call { file: self.file.clone(), call, code })
    }

    fn shape(&self, reason: String) -> NetworkError {
        NetworkError::Shape { file: self.file.clone(), reason }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // SAFETY: the last use of the context.
        let _: i32 = unsafe { (self.table.destroy)(self.context) };
    }
}

/// An input's numbers, for the library alone.
enum Copied {
    Pixels(Vec<u8>),
    Floats(Vec<f32>, Order),
}

impl Copied {
    fn of(values: &Values<'_>) -> Self {
        match values {
            Values::Pixels(bytes) => Self::Pixels(bytes.to_vec()),
            Values::Floats(floats, order) => Self::Floats(floats.to_vec(), *order),
        }
    }

    /// Valid as long as this is not moved or dropped.
    fn input(&mut self, index: u32) -> Input {
        let (buf, len, kind, fmt): (*mut c_void, usize, i32, i32) = match self {
            Self::Pixels(bytes) => (bytes.as_mut_ptr().cast(), bytes.len(), TYPE_U8, FORMAT_NHWC),
            Self::Floats(floats, order) => {
                let len = size_of_val(floats.as_slice());
                (floats.as_mut_ptr().cast(), len, TYPE_F32, order.code())
            }
        };
        let size = u32::try_from(len).unwrap_or(u32::MAX);
        Input { index, buf, size, pass_through: 0, kind, fmt }
    }
}

/// The numbers of an output, of which there have to be `len`.
///
/// # Safety
/// The buffer is null or holds `size` bytes with 32-bit numbers, and lives during the call.
unsafe fn floats(output: &Output, len: usize) -> Option<Vec<f32>> {
    let bytes = usize::try_from(output.size).ok()?;
    let values: *const f32 = output.buf.cast_const().cast();
    if values.is_null() || !values.is_aligned() || bytes / size_of::<f32>() < len {
        return None;
    }
    // SAFETY: not null, aligned, and by the promise above as large as was just checked.
    Some(unsafe { slice::from_raw_parts(values, len) }.to_vec())
}

/// A text of the library's, which need not end with a zero byte.
fn text(chars: &[c_char; 256]) -> String {
    let bytes: Vec<u8> = chars.iter().flat_map(|c| c.to_ne_bytes()).collect();
    let text = CStr::from_bytes_until_nul(&bytes).map(CStr::to_bytes).unwrap_or(&bytes);
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rknn::fake::{self, Fault};

    fn network(fault: Option<Fault>) -> Result<Network, NetworkError> {
        Network::load(&fake::library(fault), Path::new("encoder.rknn"))
    }

    #[test]
    fn a_network_says_what_it_takes_and_gives_it() {
        let mut network = network(None).unwrap();
        let [image] = network.inputs() else { panic!("one input") };
        assert_eq!((image.dims.as_slice(), image.order), ([1, 2, 2, 3].as_slice(), Order::Nhwc));
        assert_eq!((image.element, image.len), (ElementType::EightBits, 12));
        assert_eq!(network.version(), "2.3.2 (fake)");
        let pixels: Vec<u8> = (1..=12).collect();
        let outputs = network.run(&[Values::Pixels(&pixels)]).unwrap();
        assert_eq!(outputs, [vec![78.0, 12.0], vec![0.5, 1.5, 2.5]], "sum and count, then another");
        assert_eq!(fake::unreleased(), 0);
        drop(network);
        assert_eq!(fake::contexts(), 0);
    }

    #[test]
    fn an_image_of_another_size_never_reaches_the_library() {
        let mut network = network(None).unwrap();
        let error = network.run(&[Values::Pixels(&[0; 11])]).unwrap_err();
        assert_eq!(error.to_string(), "encoder.rknn: input image takes 12 numbers, not 11");
        let floats = [0.5; 12];
        let two = [Values::Floats(&floats, Order::Nhwc), Values::Pixels(&[])];
        let error = network.run(&two).unwrap_err();
        assert_eq!(error.to_string(), "encoder.rknn: it has 1 inputs, not 2");
        assert!(network.run(&[Values::Floats(&floats, Order::Nhwc)]).is_ok());
    }

    #[test]
    fn failures_are_told_by_call_and_meaning() {
        for (fault, expected) in [
            (Fault::Init, "rknn_init of encoder.rknn failed: the NPU is out of memory (code -4)"),
            (Fault::Query, "rknn_query of encoder.rknn failed: a parameter is wrong (code -5)"),
        ] {
            let error = network(Some(fault)).err().unwrap();
            assert_eq!(error.to_string(), expected);
        }
        let mut network = network(Some(Fault::Run)).unwrap();
        let error = network.run(&[Values::Pixels(&[0; 12])]).unwrap_err();
        let expected = "rknn_run of encoder.rknn failed: it took too long (code -2)";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_output_that_is_too_short_is_an_error_and_is_released() {
        let mut network = network(Some(Fault::ShortOutput)).unwrap();
        let error = network.run(&[Values::Pixels(&[0; 12])]).unwrap_err();
        assert!(error.to_string().ends_with("an output is shorter than the file says"), "{error}");
        assert_eq!(fake::unreleased(), 0);
    }
}
