//! The mock NPU: model files, a small language model, sampling, scripts, traces.
//!
//! The thin crates beside this one turn it into shared libraries that imitate the vendor's
//! `librkllmrt.so` below its C ABI, one per ABI group. See `mock-npu/README.md`.

pub mod abi;
mod batch;
mod chaos;
mod circumstances;
mod conversation;
mod corpus;
mod data;
mod faults;
pub mod generate;
mod generation;
mod handle;
mod hidden;
mod init;
mod input;
mod language_model;
mod latency;
mod log;
mod lora;
mod memory;
mod model_file;
mod perf_table;
mod prefill;
mod prompt_cache;
mod request;
pub mod rknn;
mod rng;
mod run;
mod sampler;
mod script;
mod services;
mod session;
mod sink;
mod text_pieces;
mod tool_format;
mod trace;
mod version;
mod vocabulary;

pub use corpus::ENGLISH;
pub use faults::FAULTS;
pub use model_file::HEADER;
