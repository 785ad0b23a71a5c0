//! The harness of the end-to-end tests: a models' folder, a real server process on the mock
//! runtime, a client, and the mock's trace.
//!
//! The executable and the libraries are taken as `ci/test` builds them: beside the test's own
//! executable and in `target/mock`, or where `RKLLAMA_BIN` and `MOCK_NPU_LIBS` say.
#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test support: a failure here is a failed test, and says so best by panicking"
)]

mod client;
mod models;
mod ollama;
mod paths;
mod process;
mod server;
mod trace;

pub use client::{Answer, Chat, Ending, Sse, Stream, metric, metrics};
pub use models::{ModelDir, Pointer};
pub use ollama::{OllamaReply, content_of, request};
pub use paths::{executable, mock_library, repository, tokenizer_files};
pub use process::{children, is_zombie, open_files, process_runs, status_kib, threads};
pub use server::{Server, ServerSetup, eventually, until};
pub use trace::Trace;
