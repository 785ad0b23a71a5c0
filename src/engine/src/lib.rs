//! The server's side of the workers: which runtime, which process, whose turn, and the way from a
//! conversation to events.
//!
//! The vendor's library is never in this process. Each loaded model is a worker process joined by
//! a socket pair ([`process`]); one task per model owns it and gives it one request at a time
//! ([`slot`]); text goes through the machines of `rkllama-text` here ([`generation`]).
#![forbid(unsafe_code)]

mod answer;
mod codecs;
mod config;
mod crash_record;
mod embedding;
mod encoding;
mod engine;
mod generation;
mod kv;
mod load;
mod logprobs;
mod pictures;
mod pointing;
mod presets;
mod process;
mod queue;
mod reading;
mod repetition;
mod report;
mod rerank;
mod residency;
mod run;
mod runtimes;
mod slot;
mod steering;
mod texts;
mod turn;
mod worker_log;

pub use config::{CrashBudget, EngineConfig, MemoryBudget, WorkerCommand};
pub use engine::NpuEngine;
pub use kv::SavedPromptsConfig;
pub use pictures::Pictures;
pub use rkllama_text::check_template;
pub use runtimes::{Doubt, KvReuse, Learned, LoadOutcome, ModelHeader, RuntimeChoice, Runtimes};
