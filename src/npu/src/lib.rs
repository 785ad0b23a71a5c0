//! The vendor's runtime behind a safe session: the only crate with unsafe code.
//!
//! ```text
//! inspect ─▶ Inspection      what a library file is, from its bytes; the server does this much
//! Library::open ─▶ Library   in the worker's process: loaded, its structures checked
//! Session::load ─▶ Session   a model on the NPU; generate, abort from elsewhere, drop to free
//! Experiment::load          a model to try things with that serving never does
//! Network::load ─▶ Network   a network that sees, beside it: from images to what a session is given
//! ```
//!
//! `raw` holds the vendor's structures, `table` its functions, `profile` what is known of each
//! release. Above them nothing is unsafe to call.

mod abort;
mod callback;
mod exit;
#[cfg(test)]
mod fake;
mod fingerprint;
mod inspect;
mod library;
mod params;
mod profile;
mod raw;
mod rknn;
mod sampling;
mod session;
#[cfg(test)]
mod session_tests;
mod table;

pub use abort::AbortHandle;
pub use callback::{Hidden, Logits, Perf, Piece, TOKEN_UNKNOWN};
pub use exit::exit_now;
pub use fingerprint::Layout;
pub use inspect::{InspectError, Inspection, inspect, rknn_version};
pub use library::{Library, OpenError};
pub use profile::{
    Fault, Group, Pairing, Profile, SUPPORTED, StructSizes, Unsupported, is_version, series,
};
pub use rkllama_core::Sampling;
pub use rknn::{
    ElementType, Network, NetworkError, Order, RknnLibrary, RknnOpenError, Tensor, Values,
};
pub use session::experiment::{
    CallState, Called, Experiment, ExperimentInput, ExperimentMode, ExperimentParams,
    ExperimentRun, Reply,
};
pub use session::{
    Adapter, GenerateParams, ImageTags, LoadError, LoadParams, Pictured, Prompt, RunEnd, RunError,
    Session,
};
