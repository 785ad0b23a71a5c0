//! End-to-end tests: the real executable on the mock runtime, over real sockets.
//!
//! One executable for all of them, because linking is what takes the time.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod adapters;
mod answers;
mod browsers;
mod burdens;
mod cancel;
mod chaos;
mod cli_bench;
mod cli_local;
mod cli_models;
mod cli_pull;
mod cli_support;
mod client;
mod command_line;
mod counts;
mod crashes;
mod doctor;
mod embeddings;
mod faults;
mod forms;
mod gui_actor;
mod kv;
mod lessons;
mod log;
mod logprobs;
mod metrics;
mod model_files;
mod ollama;
mod ollama_replay;
mod packaging;
mod probe;
mod refusals;
mod regressions;
mod reload;
mod rerank;
mod residency;
mod responses;
mod runtime_choice;
mod runtime_fetch;
mod runtimes;
mod shutdown;
mod store;
mod surface;
mod tokenizers;
mod vision;
mod walls;
mod workflows;
