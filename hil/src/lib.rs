//! Hardware in the loop: scenarios that are written once against HTTP and run on the mock, at a URL
//! or on a board.
//!
//! It knows the product by its public API alone, so that what passes here passes for clients.
#![forbid(unsafe_code)]

pub mod api;
pub mod args;
pub mod bench;
pub mod hub;
pub mod lab;
pub mod machine;
pub mod probe;
pub mod report;
pub mod run;
pub mod samples;
pub mod scenarios;
pub mod server;
pub mod ssh;
pub mod stats;
pub mod target;
