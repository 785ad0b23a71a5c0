//! Faults on demand, by name: from `MOCK_NPU_FAULTS`, a script or a model file.

use serde::Deserialize;
use toml::{Table, Value};

macro_rules! faults {
    ($($(#[doc = $doc:expr])+ $name:ident: $type:ty,)+) => {
        /// Every fault the mock can act out; the fields are the names to give.
        #[derive(Clone, Debug, Default, Deserialize, PartialEq)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct Faults {
            $($(#[doc = $doc])+ #[serde(default)] pub(crate) $name: $type,)+
        }

        /// Name and meaning of every fault, for the documentation.
        pub const FAULTS: &[(&str, &str)] = &[$((stringify!($name), concat!($($doc),+)),)+];
    };
}

faults! {
    /// The chip that the board claims to be (default: RK3588).
    board_platform: Option<String>,
    /// The version of the kernel driver (default: 0.9.8).
    driver_version: Option<String>,
    /// `rkllm_init` fails with -1 after its log lines.
    init_fails: bool,
    /// `rkllm_init` returns 0 and leaves a NULL handle: NPU memory is gone.
    init_null_handle: bool,
    /// `rkllm_init` never returns.
    hang_in_init: bool,
    /// The same, on this release only.
    hang_in_init_of: Option<String>,
    /// SIGBUS while the model is loaded.
    sigbus_in_init: bool,
    /// The same, on this release only.
    sigbus_in_init_of: Option<String>,
    /// The second `rkllm_init` of a process finds no NPU memory: -1, or SIGSEGV from 1.3.0 on.
    second_init_no_memory: bool,
    /// `rkllm_run` never returns.
    hang_in_run: bool,
    /// `rkllm_run` never returns once this many tokens are out.
    hang_at_token: Option<u32>,
    /// ERROR callback and -1 instead of the token of this index.
    error_at_token: Option<u32>,
    /// In ERROR callbacks the result is NULL.
    error_result_null: bool,
    /// SIGSEGV instead of the token of this index.
    crash_at_token: Option<u32>,
    /// A failed assertion and SIGABRT instead of the token of this index.
    ggml_abort_at_token: Option<u32>,
    /// No FINISH callback at the end of a run.
    finish_missing: bool,
    /// An abort takes effect only after this many ms.
    abort_ignored_ms: Option<u64>,
    /// Aborts are never heard.
    abort_ignored: bool,
    /// No FINISH callback after an abort.
    abort_without_finish: bool,
    /// After an abort one more token of the old answer comes in the next run.
    stale_token_after_abort: bool,
    /// After an abort the cache matches by its tokens and is read as others.
    abort_spoils_cache: bool,
    /// Without keep_history all of a prompt is computed, whatever the cache holds.
    kv_not_matched: bool,
    /// Without keep_history what the cache holds stays in front of the prompt.
    kv_leaks: bool,
    /// With keep_history what the cache holds is forgotten.
    history_forgotten: bool,
    /// SIGSEGV when a prompt leaves fewer tokens of the context free than these.
    crash_near_context: Option<u32>,
    /// SIGSEGV whenever a prompt cache is loaded.
    crash_in_load_cache: bool,
    /// `rkllm_load_prompt_cache` fails with -1.
    load_cache_fails: bool,
    /// A prompt cache that is to be saved is not written; the run ends as if it were.
    save_cache_fails: bool,
    /// SIGSEGV when a prompt cache is loaded after an abort and before the cache is cleared.
    crash_load_cache_after_abort: bool,
    /// An image is answered as the one before it.
    stale_image: bool,
    /// No rows in the mode for the hidden layer.
    no_hidden_layer: bool,
    /// No rows in the mode for logits.
    no_logits: bool,
    /// No FINISH, whatever the release does, in the modes for hidden layer and logits.
    data_modes_without_finish: bool,
    /// FINISH in these modes, whatever the release does.
    data_modes_with_finish: bool,
    /// Characters beyond ASCII come in pieces of this many bytes (only 1 is possible).
    utf8_split: Option<u32>,
    /// All texts are empty; the ids still come.
    empty_text: bool,
    /// The whole answer comes in one callback.
    whole_answer_at_once: bool,
    /// The answer is garbage, as with a model of another toolkit.
    garbage_text: bool,
    /// The answer is `[PAD…]` tokens.
    pad_text: bool,
    /// End-of-sequence ids of the model are not read, whatever the versions.
    eos_unread: bool,
    /// They are read, whatever the versions.
    eos_read: bool,
    /// The end-of-sequence token reaches the callback before FINISH.
    eos_reaches_callback: bool,
    /// `ignore_eos_token` bans the token instead of not stopping at it.
    ignore_eos_bans: bool,
    /// Lines of noise on stdout at every token.
    stdout_flood: Option<u32>,
    /// Size of an IOMMU domain in MB (default: 4096).
    npu_domain_mb: Option<u64>,
    /// A file through which processes share one board's NPU memory.
    npu_board: Option<String>,
    /// A fault in some runs, drawn from this seed.
    chaos: Option<u64>,
    /// Other runs of the same process block `rkllm_init` until they end.
    init_waits_for_runs: bool,
    /// `rknn_init` finds no NPU.
    rknn_no_device: bool,
    /// `rknn_run` fails to submit.
    rknn_run_fails: bool,
    /// `rknn_run` never returns.
    rknn_hangs: bool,
    /// The model's context limit, whatever its file says.
    context_limit: Option<u32>,
}

/// Merges layers of faults, the later over the earlier, into one set.
///
/// # Errors
/// A line that names the fault that is not known or has a wrong value.
pub(crate) fn merge(layers: &[&Table]) -> Result<Faults, String> {
    let mut merged = Table::new();
    for layer in layers {
        merged.extend(layer.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    Faults::deserialize(merged).map_err(|error| format!("faults: {}", error.message()))
}

/// `name` or `name=value`, separated by commas.
pub(crate) fn parse_list(list: &str) -> Table {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| match item.split_once('=') {
            Some((name, value)) => (name.trim().to_owned(), parse_value(value.trim())),
            None => (item.to_owned(), Value::Boolean(true)),
        })
        .collect()
}

fn parse_value(text: &str) -> Value {
    match (text, text.parse::<i64>()) {
        ("true", _) => Value::Boolean(true),
        ("false", _) => Value::Boolean(false),
        (_, Ok(number)) => Value::Integer(number),
        _ => Value::String(text.to_owned()),
    }
}

/// The faults of the environment.
pub(crate) fn from_environment() -> Table {
    parse_list(&std::env::var("MOCK_NPU_FAULTS").unwrap_or_default())
}

/// Dies as a wild pointer does. The reason goes to stderr, since the vendor's library gives none.
pub(crate) fn segfault(reason: &str) -> ! {
    die(libc::SIGSEGV, reason)
}

/// Dies as a failed GGML_ASSERT does.
pub(crate) fn ggml_abort(assertion: &str) -> ! {
    crate::log::raw_stderr(&format!("{assertion}\n"));
    die(libc::SIGABRT, "GGML_ASSERT aborts the process")
}

/// Dies of a signal, whatever handlers the process has set.
pub(crate) fn die(signal: i32, reason: &str) -> ! {
    crate::log::mock(&format!("dying of signal {signal}: {reason}"));
    crate::trace::note("died", || serde_json::json!({ "signal": signal, "reason": reason }));
    // SAFETY: the default action of these signals ends the process.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: raising a signal is always allowed.
    unsafe { libc::raise(signal) };
    std::process::abort()
}

/// Never returns.
pub(crate) fn hang(where_: &str) -> ! {
    crate::trace::note("hung", || serde_json::json!({ "in": where_ }));
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_values_are_read() {
        let faults =
            merge(&[&parse_list("error_at_token=5, finish_missing,board_platform=RK3576")]);
        let faults = faults.expect("known names");
        assert_eq!(faults.error_at_token, Some(5));
        assert!(faults.finish_missing);
        assert_eq!(faults.board_platform.as_deref(), Some("RK3576"));
    }

    #[test]
    fn an_unknown_fault_is_named() {
        let error = merge(&[&parse_list("errror_at_token=5")]).expect_err("unknown");
        assert!(error.contains("errror_at_token"), "{error}");
    }

    #[test]
    fn later_layers_win() {
        let faults = merge(&[&parse_list("error_at_token=5"), &parse_list("error_at_token=7")]);
        assert_eq!(faults.expect("known").error_at_token, Some(7));
    }
}
