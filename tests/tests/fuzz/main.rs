//! Bodies to fuzz, one for each reader of foreign input: ordinary functions that take any bytes or
//! any JSON, hold what must be true of them, and panic where it is not.
//!
//! What drives them here is proptest, which splices and damages what lies in `corpus`; how often,
//! `PROPTEST_CASES` says. Answers of models have their body in `rkllama-text`.

#![expect(clippy::unwrap_used, reason = "helpers of tests, to which the exception does not reach")]

mod corpus;
mod files;
mod frames;
mod requests;
mod schemas;
mod stops;
