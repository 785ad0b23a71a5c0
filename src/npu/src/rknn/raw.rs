//! The structures of `rknn_api.h` as they lie in memory, of the functions that are used.
//!
//! `bool` and `uint8_t` are `u8`, enumerations `i32`: every bit pattern is a valid value. Sizes and
//! offsets are compared with those of the vendor's header in the tests below.

use std::ffi::{c_char, c_void};

/// `rknn_context`.
pub(crate) type Context = u64;

/// `RKNN_SUCC`.
pub(crate) const SUCCESS: i32 = 0;
/// `RKNN_QUERY_IN_OUT_NUM`.
pub(crate) const QUERY_IN_OUT_NUM: i32 = 0;
/// `RKNN_QUERY_INPUT_ATTR`.
pub(crate) const QUERY_INPUT_ATTR: i32 = 1;
/// `RKNN_QUERY_OUTPUT_ATTR`.
pub(crate) const QUERY_OUTPUT_ATTR: i32 = 2;
/// `RKNN_QUERY_SDK_VERSION`.
pub(crate) const QUERY_SDK_VERSION: i32 = 5;
/// `RKNN_MAX_DIMS`.
pub(crate) const DIMS_MAX: usize = 16;

/// `RKNN_TENSOR_FLOAT32`.
pub(crate) const TYPE_F32: i32 = 0;
/// `RKNN_TENSOR_INT8`.
pub(crate) const TYPE_I8: i32 = 2;
/// `RKNN_TENSOR_UINT8`.
pub(crate) const TYPE_U8: i32 = 3;
/// `RKNN_TENSOR_NCHW`.
pub(crate) const FORMAT_NCHW: i32 = 0;
/// `RKNN_TENSOR_NHWC`.
pub(crate) const FORMAT_NHWC: i32 = 1;
/// `RKNN_TENSOR_UNDEFINED`.
pub(crate) const FORMAT_UNDEFINED: i32 = 3;

/// `RKNN_NPU_CORE_0_1`.
pub(crate) const CORES_0_1: i32 = 3;
/// `RKNN_NPU_CORE_0_1_2`.
pub(crate) const CORES_0_1_2: i32 = 7;

/// `rknn_input_output_num`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct InOutNum {
    pub(crate) n_input: u32,
    pub(crate) n_output: u32,
}

/// `rknn_tensor_attr`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TensorAttr {
    pub(crate) index: u32,
    pub(crate) n_dims: u32,
    pub(crate) dims: [u32; DIMS_MAX],
    pub(crate) name: [c_char; 256],
    pub(crate) n_elems: u32,
    pub(crate) size: u32,
    pub(crate) fmt: i32,
    pub(crate) kind: i32,
    pub(crate) qnt_type: i32,
    pub(crate) fl: i8,
    pub(crate) zp: i32,
    pub(crate) scale: f32,
    pub(crate) w_stride: u32,
    pub(crate) size_with_stride: u32,
    pub(crate) pass_through: u8,
    pub(crate) h_stride: u32,
}

/// `rknn_input`.
#[repr(C)]
pub(crate) struct Input {
    pub(crate) index: u32,
    pub(crate) buf: *mut c_void,
    pub(crate) size: u32,
    pub(crate) pass_through: u8,
    pub(crate) kind: i32,
    pub(crate) fmt: i32,
}

/// `rknn_output`.
#[repr(C)]
pub(crate) struct Output {
    pub(crate) want_float: u8,
    pub(crate) is_prealloc: u8,
    pub(crate) index: u32,
    pub(crate) buf: *mut c_void,
    pub(crate) size: u32,
}

/// `rknn_sdk_version`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SdkVersion {
    pub(crate) api_version: [c_char; 256],
    pub(crate) drv_version: [c_char; 256],
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn structures_lie_as_in_the_vendors_header() {
        assert_eq!(size_of::<InOutNum>(), 8);
        assert_eq!(size_of::<TensorAttr>(), 376);
        assert_eq!(size_of::<Input>(), 32);
        assert_eq!(size_of::<Output>(), 24);
        assert_eq!(size_of::<SdkVersion>(), 512);
        let attr = [
            (offset_of!(TensorAttr, n_dims), 4),
            (offset_of!(TensorAttr, dims), 8),
            (offset_of!(TensorAttr, name), 72),
            (offset_of!(TensorAttr, n_elems), 328),
            (offset_of!(TensorAttr, size), 332),
            (offset_of!(TensorAttr, fmt), 336),
            (offset_of!(TensorAttr, kind), 340),
            (offset_of!(TensorAttr, qnt_type), 344),
            (offset_of!(TensorAttr, fl), 348),
            (offset_of!(TensorAttr, zp), 352),
            (offset_of!(TensorAttr, scale), 356),
            (offset_of!(TensorAttr, w_stride), 360),
            (offset_of!(TensorAttr, size_with_stride), 364),
            (offset_of!(TensorAttr, pass_through), 368),
            (offset_of!(TensorAttr, h_stride), 372),
        ];
        let input = [
            (offset_of!(Input, buf), 8),
            (offset_of!(Input, size), 16),
            (offset_of!(Input, pass_through), 20),
            (offset_of!(Input, kind), 24),
            (offset_of!(Input, fmt), 28),
        ];
        let output = [
            (offset_of!(Output, is_prealloc), 1),
            (offset_of!(Output, index), 4),
            (offset_of!(Output, buf), 8),
            (offset_of!(Output, size), 16),
        ];
        for (ours, header) in attr.into_iter().chain(input).chain(output) {
            assert_eq!(ours, header);
        }
    }
}
