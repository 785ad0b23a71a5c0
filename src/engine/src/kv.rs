//! What the runtime has computed for earlier prompts and need not compute again.

mod ledger;
mod prefixes;
mod saved;

pub(crate) use ledger::{Ledger, Plan, Ran as LedgerEntry};
pub(crate) use prefixes::Prefixes;
pub use saved::SavedPromptsConfig;
pub(crate) use saved::{ModelKey, SavedPrompts};
