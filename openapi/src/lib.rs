//! The typed /v1 API and its published document.
