//! The frames between the server and its workers.
//!
//! One Unix socket pair per worker. A frame is a little-endian `u32` length and that many bytes of
//! `postcard`. Both ends come from the same executable, so the format needs no compatibility with
//! older ones: the first frame of each side carries [`VERSION`] to notice an executable that was
//! replaced while the server ran. The end of the socket is the death signal, both ways.
#![forbid(unsafe_code)]

mod codec;
mod frame;

pub use codec::{FRAME_BYTES_MAX, FrameError, decode, encode, read_frame, write_frame};
pub use frame::{
    Adapter, Embed, Embedding, Encoder, End, FromWorker, Generate, Image, KvOrders, Load, Loaded,
    Normalise, Order, Pictured, Piece, Point, Pointed, Pooling, RunSampling, Score, Scores, Stats,
    ToWorker, TokenScore, VERSION, Vision,
};
