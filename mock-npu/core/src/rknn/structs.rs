//! The structs of the RKNN interface; a test compares them with `abi/rknn-abi.json`.

use std::ffi::c_void;

/// Numbers of tensors.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct InOutNum {
    /// Inputs.
    pub n_input: u32,
    /// Outputs.
    pub n_output: u32,
}

/// What a tensor is like.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TensorAttr {
    /// Which one: set by the caller.
    pub index: u32,
    /// Dimensions in use.
    pub n_dims: u32,
    /// Sizes, outermost first.
    pub dims: [u32; 16],
    /// NUL-terminated.
    pub name: [u8; 256],
    /// Product of the dimensions.
    pub n_elems: u32,
    /// Bytes.
    pub size: u32,
    /// 0 NCHW, 1 NHWC, 3 neither.
    pub fmt: u32,
    /// 0 f32, 1 f16, 2 i8, 3 u8.
    pub tensor_type: u32,
    /// 0 none, 2 affine.
    pub qnt_type: u32,
    /// Fraction length.
    pub fl: i8,
    /// Zero point.
    pub zp: i32,
    /// Scale.
    pub scale: f32,
    /// Width with stride.
    pub w_stride: u32,
    /// Bytes with stride.
    pub size_with_stride: u32,
    /// Whether data passes unconverted.
    pub pass_through: u8,
    /// Height with stride.
    pub h_stride: u32,
}

/// An input to set.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Which one.
    pub index: u32,
    /// Data.
    pub buf: *const c_void,
    /// Bytes.
    pub size: u32,
    /// Whether data passes unconverted.
    pub pass_through: u8,
    /// Type of the data.
    pub tensor_type: u32,
    /// Order of the data.
    pub fmt: u32,
}

/// An output to get.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// As f32 and not in the model's own type.
    pub want_float: u8,
    /// `buf` is the caller's.
    pub is_prealloc: u8,
    /// Which one.
    pub index: u32,
    /// Data.
    pub buf: *mut c_void,
    /// Bytes.
    pub size: u32,
}

/// Versions as text.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SdkVersion {
    /// Of the library.
    pub api_version: [u8; 256],
    /// Of the kernel driver.
    pub drv_version: [u8; 256],
}

/// Memory in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MemSize {
    /// Weights.
    pub total_weight_size: u32,
    /// Between layers.
    pub total_internal_size: u32,
    /// All DMA memory.
    pub total_dma_allocated_size: u64,
    /// SRAM.
    pub total_sram_size: u32,
    /// SRAM that is free.
    pub free_sram_size: u32,
    /// Nothing yet.
    pub reserved: [u32; 10],
}

/// A text as a fixed array, cut if need be and always NUL-terminated.
pub(crate) fn fixed_text(text: &str) -> [u8; 256] {
    let mut bytes = [0; 256];
    let len = text.len().min(255);
    bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn layouts_are_the_published_ones() {
        let table: Value =
            serde_json::from_str(include_str!("../../../abi/rknn-abi.json")).expect("JSON");
        let ours = json!({
            "rknn_input_output_num": { "size": size_of::<InOutNum>(), "fields": {
                "n_input": offset_of!(InOutNum, n_input), "n_output": offset_of!(InOutNum, n_output) } },
            "rknn_tensor_attr": { "size": size_of::<TensorAttr>(), "fields": {
                "index": offset_of!(TensorAttr, index), "n_dims": offset_of!(TensorAttr, n_dims),
                "dims": offset_of!(TensorAttr, dims), "name": offset_of!(TensorAttr, name),
                "n_elems": offset_of!(TensorAttr, n_elems), "size": offset_of!(TensorAttr, size),
                "fmt": offset_of!(TensorAttr, fmt), "type": offset_of!(TensorAttr, tensor_type),
                "qnt_type": offset_of!(TensorAttr, qnt_type), "fl": offset_of!(TensorAttr, fl),
                "zp": offset_of!(TensorAttr, zp), "scale": offset_of!(TensorAttr, scale),
                "w_stride": offset_of!(TensorAttr, w_stride),
                "size_with_stride": offset_of!(TensorAttr, size_with_stride),
                "pass_through": offset_of!(TensorAttr, pass_through),
                "h_stride": offset_of!(TensorAttr, h_stride) } },
            "rknn_input": { "size": size_of::<Input>(), "fields": {
                "index": offset_of!(Input, index), "buf": offset_of!(Input, buf),
                "size": offset_of!(Input, size), "pass_through": offset_of!(Input, pass_through),
                "type": offset_of!(Input, tensor_type), "fmt": offset_of!(Input, fmt) } },
            "rknn_output": { "size": size_of::<Output>(), "fields": {
                "want_float": offset_of!(Output, want_float),
                "is_prealloc": offset_of!(Output, is_prealloc), "index": offset_of!(Output, index),
                "buf": offset_of!(Output, buf), "size": offset_of!(Output, size) } },
            "rknn_sdk_version": { "size": size_of::<SdkVersion>(), "fields": {
                "api_version": offset_of!(SdkVersion, api_version),
                "drv_version": offset_of!(SdkVersion, drv_version) } },
            "rknn_mem_size": { "size": size_of::<MemSize>(), "fields": {
                "total_weight_size": offset_of!(MemSize, total_weight_size),
                "total_internal_size": offset_of!(MemSize, total_internal_size),
                "total_dma_allocated_size": offset_of!(MemSize, total_dma_allocated_size),
                "total_sram_size": offset_of!(MemSize, total_sram_size),
                "free_sram_size": offset_of!(MemSize, free_sram_size) } },
        });
        assert_eq!(ours, table["structs"]);
    }
}
