//! The trace: every call and callback as one line of JSON, appended to `MOCK_NPU_TRACE`.
//!
//! Timing claims are proven on it ("abort was called before two more tokens"), so each line is one
//! `write` to an `O_APPEND` file with a monotonic time: lines of several processes never mix.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

static SEQUENCE: AtomicU64 = AtomicU64::new(0);

fn file() -> Option<&'static File> {
    static FILE: OnceLock<Option<File>> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = std::env::var_os("MOCK_NPU_TRACE").filter(|path| !path.is_empty())?;
        match OpenOptions::new().create(true).append(true).open(&path) {
            Ok(file) => Some(file),
            Err(error) => {
                crate::log::mock(&format!("MOCK_NPU_TRACE: {}: {error}", path.display()));
                None
            }
        }
    })
    .as_ref()
}

/// Whether anybody reads.
pub(crate) fn is_on() -> bool {
    file().is_some()
}

/// CLOCK_MONOTONIC in µs: comparable between processes of one machine.
fn now_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

fn write(event: &str, call: &str, fields: Value) {
    let Some(mut file) = file() else { return };
    let mut line = Map::new();
    line.insert("t_us".to_owned(), now_us().into());
    line.insert("pid".to_owned(), std::process::id().into());
    line.insert("event".to_owned(), event.into());
    line.insert("call".to_owned(), call.into());
    if let Value::Object(fields) = fields {
        line.extend(fields);
    }
    let mut text = Value::Object(line).to_string();
    text.push('\n');
    // A full disk must not change what the library does.
    let _ = file.write_all(text.as_bytes());
}

/// A call in progress; its return is written by [`Call::done`].
pub(crate) struct Call {
    name: &'static str,
    id: u64,
}

impl Call {
    /// Writes that a function was entered; the arguments are only built when somebody reads.
    pub(crate) fn enter(name: &'static str, arguments: impl FnOnce() -> Value) -> Call {
        let id = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        if is_on() {
            write("call", name, serde_json::json!({ "id": id, "args": arguments() }));
        }
        Call { name, id }
    }

    /// Writes the return value and hands it on.
    pub(crate) fn done(self, returned: i32) -> i32 {
        if is_on() {
            write("return", self.name, serde_json::json!({ "id": self.id, "ret": returned }));
        }
        returned
    }
}

/// Writes a result callback about to be made.
pub(crate) fn callback(state: &str, fields: impl FnOnce() -> Value) {
    if is_on() {
        let mut line = serde_json::json!({ "state": state });
        if let (Value::Object(line), Value::Object(more)) = (&mut line, fields()) {
            line.extend(more);
        }
        write("callback", "result_callback", line);
    }
}

/// Writes something that is neither call nor callback: a fault that struck, a token discarded.
pub(crate) fn note(what: &str, fields: impl FnOnce() -> Value) {
    if is_on() {
        write("note", what, fields());
    }
}
