//! The client against servers of the test's own, over real sockets.
#![expect(clippy::unwrap_used, reason = "helpers of tests, to which the exception does not reach")]

mod fetch;
mod listing;
mod resume;
mod script;
mod setup;
mod text;
mod trouble;
