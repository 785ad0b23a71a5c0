//! The way out when the vendor's library no longer returns.

/// Ends the process at once with `code`, without running destructors or exit handlers.
///
/// A run or a destroy that hangs inside the vendor's library holds its thread for ever, and an
/// ordinary exit would run that library's own destructors beside the hanging thread: they may wait
/// for it, or free what it uses. The kernel frees the NPU memory when the process is gone. This is
/// for a worker whose time to leave in order has run out, and for nothing else.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any integer, touches no memory of ours and does not return.
    unsafe { libc::_exit(code) }
}
