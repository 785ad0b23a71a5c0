//! The worker's loop over a real socket pair, against a runtime made of Rust.

pub(crate) mod fake;
mod leaving;
mod protocol;
mod runs;
