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
    result_len: usize,
    /// Memory of the results, in words so that it is aligned as C would have it.
    results: Vec<u64>,
    texts: Vec<Vec<u8>>,
}

impl CallbackSink {
    pub(crate) fn new(group: Group, callback: Callback) -> Self {
        let layout = Layout::of(group).structure("RKLLMResult");
        CallbackSink {
            group,
            callback,
            offsets: Offsets::of(layout),
            result_len: layout.size,
            results: Vec::new(),
            texts: Vec::new(),
        }
    }

    /// Lays the results of a batch side by side.
    fn fill(&mut self, outputs: &[Output<'_>]) {
        let words = self.result_len / 8;
        self.results.clear();
        self.results.resize(words * outputs.len(), 0);
        self.texts.resize(self.texts.len().max(outputs.len()), Vec::new());
        let places = self.results.chunks_exact_mut(words).zip(&mut self.texts);
        for ((result, text), output) in places.zip(outputs) {
            fill_one(&self.offsets, result, text, output);
        }
    }
}

fn fill_one(offsets: &Offsets, result: &mut [u64], text: &mut Vec<u8>, output: &Output<'_>) {
    let mut put = |at: usize, bytes: &[u8]| {
        for (index, byte) in bytes.iter().enumerate() {
            let (word, shift) = ((at + index) / 8, (at + index) % 8 * 8);
            result[word] |= u64::from(*byte) << shift;
        }
    };
    if let Some(bytes) = output.text {
        text.clear();
        // A C string ends at its first NUL, whatever the model meant.
        text.extend(bytes.iter().take_while(|byte| **byte != 0));
        text.push(0);
        put(offsets.text, &(text.as_ptr() as usize).to_le_bytes());
    }
    put(offsets.token_id, &output.token_id.to_le_bytes());
    let matrices = [(Some(offsets.hidden), output.hidden), (offsets.logits, output.logits)];
    for (at, matrix) in matrices {
        if let (Some(at), Some(matrix)) = (at, matrix) {
            put(at, &matrix_bytes(&matrix));
        }
    }
    if let (Some(at), Some(perf)) = (offsets.perf, output.perf) {
        put(at, &perf_bytes(&perf));
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
    bytes[..8].copy_from_slice(&(matrix.values.as_ptr() as usize).to_le_bytes());
    bytes[8..12].copy_from_slice(&(matrix.row_len as i32).to_le_bytes());
    bytes[12..].copy_from_slice(&(matrix.rows() as i32).to_le_bytes());
    bytes
}

fn perf_bytes(perf: &Perf) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&perf.prefill_time_ms.to_le_bytes());
    bytes[4..8].copy_from_slice(&perf.prefill_tokens.to_le_bytes());
    bytes[8..12].copy_from_slice(&perf.generate_time_ms.to_le_bytes());
    bytes[12..16].copy_from_slice(&perf.generate_tokens.to_le_bytes());
    bytes[16..].copy_from_slice(&perf.memory_usage_mb.to_le_bytes());
    bytes
}

impl Sink for CallbackSink {
    fn emit(&mut self, state: State, outputs: &[Output<'_>]) -> Reply {
        let Some(function) = self.callback.function else { return Reply::Continue };
        self.fill(outputs);
        let result =
            if outputs.is_empty() { std::ptr::null() } else { self.results.as_ptr().cast() };
        // SAFETY: the caller's function obeys the vendor's header; `result` is NULL or results
        // in the layout of its group that live until the call returns.
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
