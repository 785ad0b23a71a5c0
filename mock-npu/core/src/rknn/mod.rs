//! The mock of `librknnrt.so`: encoders whose output depends on the image, pointer heads whose
//! scores depend on what they are given.

pub mod entry;
mod model;
pub mod structs;
mod tensor;
