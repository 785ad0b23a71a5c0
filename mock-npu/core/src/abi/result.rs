//! `RKLLMResult` of a group, and the caller's callback behind it.

use std::ffi::{c_int, c_void};

use super::layout::{Group, Layout, StructLayout};
use crate::sink::{Matrix, Output, Perf, Reply, Sink, State};

/// The callback's C type. Groups before E declare it `void`; the value is then not looked at.
pub(crate) type ResultCallback = unsafe extern "C" fn(*const c_void, *mut c_void, c_int) -> c_int;

/// Where to report results, with the caller's pointer.
#[derive(Clone, Copy)]
pub(crate) struct Callback {
    pub(crate) function: Option<ResultCallback>,
    pub(crate) userdata: *mut c_void,
}

// SAFETY: the pointer is only handed back to the caller's function, which the vendor's API calls
// from a thread of its own choosing as well.
unsafe impl Send for Callback {}
// SAFETY: as above; the mock never looks behind the pointer.
unsafe impl Sync for Callback {}

const RESULT_LEN_MAX: usize = 128;

/// Memory for one result, aligned as C would.
#[repr(C, align(16))]
struct Slot([u8; RESULT_LEN_MAX]);

/// Offsets that a token's result needs, looked up once a run.
struct Offsets {
    text: usize,
    token_id: usize,
    hidden: usize,
    logits: Option<usize>,
    perf: Option<usize>,
}

/// Calls the caller's function with results in its group's layout.
pub(crate) struct CallbackSink {
    group: Group,
    callback: Callback,
    offsets: Offsets,
    text: Vec<u8>,
}

impl CallbackSink {
    pub(crate) fn new(group: Group, callback: Callback) -> Self {
        let layout = Layout::of(group).structure("RKLLMResult");
        debug_assert!(layout.size <= RESULT_LEN_MAX, "the slot holds every group's result");
        CallbackSink { group, callback, offsets: Offsets::of(layout), text: Vec::new() }
    }

    fn fill(&mut self, output: &Output<'_>) -> Slot {
        let mut slot = Slot([0; RESULT_LEN_MAX]);
        let mut put = |at: usize, bytes: &[u8]| slot.0[at..at + bytes.len()].copy_from_slice(bytes);
        if let Some(text) = output.text {
            self.text.clear();
            // A C string ends at its first NUL, whatever the model meant.
            self.text.extend(text.iter().take_while(|byte| **byte != 0));
            self.text.push(0);
            put(self.offsets.text, &(self.text.as_ptr() as usize).to_ne_bytes());
        }
        put(self.offsets.token_id, &output.token_id.to_ne_bytes());
        for (at, matrix) in
            [(Some(self.offsets.hidden), output.hidden), (self.offsets.logits, output.logits)]
        {
            if let (Some(at), Some(matrix)) = (at, matrix) {
                put(at, &matrix_bytes(&matrix));
            }
        }
        if let (Some(at), Some(perf)) = (self.offsets.perf, output.perf) {
            put(at, &perf_bytes(&perf));
        }
        slot
    }
}

impl Offsets {
    fn of(layout: &StructLayout) -> Offsets {
        let offset = |name: &str| layout.field(name).map(|field| field.offset);
        Offsets {
            text: offset("text").expect("every group's result has a text"),
            token_id: offset("token_id").expect("every group's result has a token id"),
            hidden: offset("last_hidden_layer").expect("every group's result has hidden states"),
            logits: offset("logits"),
            perf: offset("perf"),
        }
    }
}

/// pointer, width, number of rows: both matrix structs have this shape in every group.
fn matrix_bytes(matrix: &Matrix<'_>) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(matrix.values.as_ptr() as usize).to_ne_bytes());
    bytes[8..12].copy_from_slice(&(matrix.row_len as i32).to_ne_bytes());
    bytes[12..].copy_from_slice(&(matrix.rows() as i32).to_ne_bytes());
    bytes
}

fn perf_bytes(perf: &Perf) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&perf.prefill_time_ms.to_ne_bytes());
    bytes[4..8].copy_from_slice(&perf.prefill_tokens.to_ne_bytes());
    bytes[8..12].copy_from_slice(&perf.generate_time_ms.to_ne_bytes());
    bytes[12..16].copy_from_slice(&perf.generate_tokens.to_ne_bytes());
    bytes[16..].copy_from_slice(&perf.memory_usage_mb.to_ne_bytes());
    bytes
}

impl Sink for CallbackSink {
    fn emit(&mut self, state: State, output: Option<&Output<'_>>) -> Reply {
        let Some(function) = self.callback.function else { return Reply::Continue };
        let slot = output.map(|output| self.fill(output));
        let result = slot.as_ref().map_or(std::ptr::null(), |slot| (&raw const *slot).cast());
        // SAFETY: the caller's function obeys the vendor's header; `result` is NULL or a result
        // in the layout of its group and lives until the call returns.
        let returned = unsafe { function(result, self.callback.userdata, state as c_int) };
        match (self.group.callback_returns(), returned) {
            (true, 1) => Reply::Pause,
            (true, 2) if self.group >= Group::F => Reply::Release,
            _ => Reply::Continue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrix_and_perf_have_the_published_shape() {
        let layout = Layout::of(Group::F);
        let shape = |name| -> Vec<usize> {
            layout.structure(name).fields.iter().map(|field| field.offset).collect()
        };
        assert_eq!(shape("RKLLMResultLogits"), [0, 8, 12]);
        assert_eq!(shape("RKLLMResultLastHiddenLayer"), [0, 8, 12]);
        assert_eq!(shape("RKLLMPerfStat"), [0, 4, 8, 12, 16]);
    }
}
