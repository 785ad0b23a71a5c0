//! The vendor's second runtime, `librknnrt`: networks that see images, and small ones behind them.
//!
//! ```text
//! RknnLibrary::open ─▶ RknnLibrary     in the worker's process; its functions looked up
//! Network::load ─────▶ Network         a `.rknn` file on the NPU; run, drop to free
//! ```
//!
//! Its structures are the same in all releases from 1.6.0 to 2.3.2, so there are no groups here.

#[cfg(test)]
mod fake;
mod network;
mod raw;
mod table;

pub use network::{ElementType, Network, NetworkError, Order, Tensor, Values};
pub use table::{RknnLibrary, RknnOpenError};
