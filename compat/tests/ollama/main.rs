//! Ollama's API without sockets: a scripted engine, and the answers as snapshots.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod chat;
mod common;
mod errors;
mod generate;
mod models;
mod store;
mod vectors;
