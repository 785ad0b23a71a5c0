//! The worker process: one model, one runtime, no async.
