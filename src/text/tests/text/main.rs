//! What must be true of conversations as tokens, on tokenizers built here and on real ones.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests, to which clippy's exception for tests does not reach"
)]

mod answers;
mod bound;
mod documents;
mod eos;
mod files;
mod formats;
mod fuzz;
mod golden;
mod grammar;
mod infill;
mod injection;
mod measure;
mod roles;
mod support;
mod tools;
