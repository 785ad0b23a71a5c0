//! Lines on C's stdout and stderr.
//!
//! The vendor's library prints through C stdio. Rust's own stdout would flush at every line even
//! into a pipe and so hide from the caller that real log lines come late, in blocks.

use std::ffi::{CString, c_int};

unsafe extern "C" {
    static stdout: *mut libc::FILE;
}

/// Prints on C's stdout, newline added.
pub(crate) fn out(line: &str) {
    let Ok(text) = CString::new(format!("{line}\n")) else { return };
    // SAFETY: C's stdout is set before any code of this process runs.
    let stream = unsafe { stdout };
    // SAFETY: `text` is NUL-terminated and `stream` is open for the life of the process.
    let _: c_int = unsafe { libc::fputs(text.as_ptr(), stream) };
}

/// `I rkllm: …`
pub(crate) fn info(text: &str) {
    out(&format!("I rkllm: {text}"));
}

/// `W rkllm: …`
pub(crate) fn warn(text: &str) {
    out(&format!("W rkllm: {text}"));
}

/// `E rkllm: …`
pub(crate) fn error(text: &str) {
    out(&format!("E rkllm: {text}"));
}

/// Says on stderr what the vendor's library would not: that the mock itself is misused.
pub(crate) fn mock(text: &str) {
    raw_stderr(&format!("mock-npu: {text}\n"));
}

/// Bytes on stderr, unbuffered as C's is.
pub(crate) fn raw_stderr(text: &str) {
    use std::io::Write;
    // Nobody is left to tell when stderr is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// What `RKLLM_LOG_LEVEL` asks for; 0 when unset.
pub(crate) fn level() -> i32 {
    std::env::var("RKLLM_LOG_LEVEL").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
