//! The vendor's runtime behind a safe session: the only crate with unsafe code.
