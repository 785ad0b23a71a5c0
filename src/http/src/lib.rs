//! HTTP plumbing shared by the APIs: accept loop, payloads, errors, pages.
