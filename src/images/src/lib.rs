//! Images that clients send: decoded within limits, brought into the form a vision encoder takes.
//!
//! Pure: bytes in, pixels out; nothing here reads a disk, a socket or the environment. The server
//! decodes to refuse a bad image with a clear text before anything is queued, a worker to fill its
//! encoder's input. What an encoder sees decides what a model answers, so resizing and padding
//! follow the programs that models were converted and measured with (OpenCV's bilinear resize, which
//! does not smooth), to within one step of 255.
#![forbid(unsafe_code)]

mod decode;
mod error;
pub mod gui;
mod jpeg;
mod normalise;
mod picture;
mod resize;
mod webp;

pub use decode::{Limits, decode};
pub use error::ImageError;
pub use normalise::{Layout, Normalisation, normalise};
pub use picture::Picture;
pub use resize::square;
