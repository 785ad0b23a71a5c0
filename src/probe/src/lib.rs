//! Experiments that tell what a runtime of the vendor's really does on this board.
//!
//! ```text
//! probe ──▶ for each step of an experiment a process of its own ──▶ what it saw, line by line
//!   │                                                                  │
//!   └──────────── judge: what was seen, how the process ended, what the runtime logged ◀──┘
//! ```
//!
//! A step may crash or hang: then that is what was found out, and the others go on. A step only looks,
//! in `child`; what it means is decided in `experiments` by functions of what was seen. A fact is
//! stated where what was seen decides it, and left out otherwise.
#![forbid(unsafe_code)]

mod bench;
mod child;
mod experiments;
mod judge;
mod material;
mod parent;
mod seen;

pub use child::run as run_step;
pub use experiments::EXPERIMENTS;
pub use judge::{Experiment, Fact, Kind, Verdict};
pub use parent::{Finding, Found, Probe, probe};
