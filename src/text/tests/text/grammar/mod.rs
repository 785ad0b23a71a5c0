//! What must be true of structured output, with models that do what they should not.

mod compile;
mod driver;
mod measure;
mod models;
mod schemas;
mod situations;
mod stubborn;
mod well_behaved;
