//! A worker's standard output and error: the vendor's log, and the only place where it gives its
//! reasons.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Lines kept. A failed load explains itself in the last five to ten.
const LINES_MAX: usize = 40;
/// Longest line kept whole; the rest of a longer one becomes further lines.
const LINE_BYTES_MAX: u64 = 4096;
/// Lines shown in an error.
const SHOWN_LINES_MAX: usize = 5;
/// The line that explains a failure is in the pipe before the frame that reports it is in the
/// socket, but it may be read after it.
const EXPLANATION_TIMEOUT: Duration = Duration::from_millis(100);

/// The last lines of one worker. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkerLog {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    /// Lines ever seen.
    seen: u64,
}

impl WorkerLog {
    /// Reads `from` to its end, so that the worker never blocks on a full pipe.
    pub(crate) async fn follow(self, model: String, from: impl AsyncRead + Unpin) {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = (&mut reader).take(LINE_BYTES_MAX);
            match bounded.read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => self.push(&model, String::from_utf8_lossy(&line).trim_end()),
            }
        }
    }

    fn push(&self, model: &str, line: &str) {
        if line.is_empty() {
            return;
        }
        if line.starts_with("E ") {
            tracing::warn!(model, "{line}");
        } else {
            tracing::debug!(model, "{line}");
        }
        let mut lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.kept.len() == LINES_MAX {
            lines.kept.pop_front();
        }
        lines.kept.push_back(line.to_owned());
        lines.seen += 1;
        drop(lines);
        self.shared.arrived.notify_waiters();
    }

    fn snapshot(&self) -> Vec<String> {
        let lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.kept.iter().cloned().collect()
    }

    /// A point in the log: what comes later belongs to what happens later.
    pub(crate) fn mark(&self) -> u64 {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner).seen
    }

    fn since(&self, mark: u64) -> Vec<String> {
        let lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let new = usize::try_from(lines.seen.saturating_sub(mark)).unwrap_or(usize::MAX);
        let old = lines.kept.len().saturating_sub(new);
        lines.kept.iter().skip(old).cloned().collect()
    }

    /// The error lines that came after `mark`; waits a moment for the first.
    pub(crate) async fn explanation_since(&self, mark: u64) -> Option<String> {
        let deadline = Instant::now() + EXPLANATION_TIMEOUT;
        loop {
            let arrived = self.shared.arrived.notified();
            let lines = self.since(mark);
            let errors: Vec<&str> =
                lines.iter().map(String::as_str).filter(|line| is_error(line)).collect();
            if !errors.is_empty() {
                return Some(errors.join("; "));
            }
            timeout_at(deadline, arrived).await.ok()?;
        }
    }

    /// The runtime's own explanation of a failure: its error lines, without the one that only
    /// says that init failed; where it printed none, its last lines.
    pub(crate) fn explanation(&self) -> Option<String> {
        let lines = self.snapshot();
        let errors: Vec<&str> = lines
            .iter()
            .map(String::as_str)
            .filter(|line| is_error(line) && !line.ends_with("rkllm_init failed"))
            .collect();
        let shown = if errors.is_empty() { self.last_lines() } else { Some(errors.join("; ")) };
        shown.filter(|text| !text.is_empty())
    }

    /// The last lines as they came.
    pub(crate) fn last_lines(&self) -> Option<String> {
        let lines = self.snapshot();
        let from = lines.len().saturating_sub(SHOWN_LINES_MAX);
        (!lines.is_empty()).then(|| lines[from..].join("; "))
    }

    /// The model's own context limit, where init failed because more was asked for.
    pub(crate) fn context_limit_tokens(&self) -> Option<u32> {
        self.snapshot().iter().rev().find_map(|line| {
            let (_, rest) = line.split_once("max_context_limit[")?;
            rest.split_once(']')?.0.parse().ok()
        })
    }
}

/// The vendor marks most of its errors with `E`; the rest are known by their words.
fn is_error(line: &str) -> bool {
    line.starts_with("E rkllm") || line.starts_with("E RKNN") || line.starts_with("Platform error")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(lines: &[&str]) -> WorkerLog {
        let log = WorkerLog::default();
        for line in lines {
            log.push("m", line);
        }
        log
    }

    #[test]
    fn the_reason_is_the_error_line_not_the_summary() {
        let log = log_of(&[
            "I rkllm: rkllm-runtime version: 1.3.0, rknpu driver version: 0.9.8, platform: RK3588",
            "E rkllm: the model's target_platform does not match the real platform",
            "E rkllm: rkllm_init failed",
        ]);
        assert_eq!(
            log.explanation().as_deref(),
            Some("E rkllm: the model's target_platform does not match the real platform")
        );
    }

    #[test]
    fn without_an_error_line_the_last_lines_speak() {
        let log = log_of(&["I rkllm: loading rkllm model from /m", "something odd"]);
        assert_eq!(
            log.explanation().as_deref(),
            Some("I rkllm: loading rkllm model from /m; something odd")
        );
        assert_eq!(WorkerLog::default().explanation(), None);
    }

    #[test]
    fn the_models_limit_is_read_from_the_refusal() {
        let log = log_of(&[
            "E rkllm: max_context[8192] must be less than the model's max_context_limit[4096]",
        ]);
        assert_eq!(log.context_limit_tokens(), Some(4096));
    }

    #[tokio::test]
    async fn an_old_error_does_not_explain_a_new_failure() {
        let log = log_of(&["E rkllm: old"]);
        let mark = log.mark();
        assert_eq!(log.explanation_since(mark).await, None);
        log.push("m", "E rkllm: matmul(w8a8) run failed");
        assert_eq!(
            log.explanation_since(mark).await.as_deref(),
            Some("E rkllm: matmul(w8a8) run failed")
        );
    }

    #[tokio::test]
    async fn a_flood_without_line_ends_stays_bounded() {
        let log = WorkerLog::default();
        let flood = vec![b'x'; 1 << 20];
        log.clone().follow("m".into(), flood.as_slice()).await;
        let kept: usize = log.snapshot().iter().map(String::len).sum();
        assert!(kept <= LINES_MAX * usize::try_from(LINE_BYTES_MAX).unwrap());
    }
}
