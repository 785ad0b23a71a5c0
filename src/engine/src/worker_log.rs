//! A worker's standard output and error: the vendor's log, and the only place where it gives its
//! reasons.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::runtimes::ModelHeader;

/// Lines kept. A failed load explains itself in the last five to ten.
const LINES_MAX: usize = 40;
/// Longest line kept whole; the rest of a longer one becomes further lines.
const LINE_BYTES_MAX: u64 = 4096;
/// Lines shown in an error.
const SHOWN_LINES_MAX: usize = 5;
/// The line that explains a failure is in the pipe before the frame that reports it is in the
/// socket, but it may be read after it.
const EXPLANATION_TIMEOUT: Duration = Duration::from_millis(100);
/// The same for the line about the model, which every known release prints. What it says decides
/// whether answers are right, so it is waited for longer than any machine is slow.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest text taken from that line. A version has five letters.
const HEADER_TEXT_LEN_MAX: usize = 40;

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
    /// What the first line about the model said. Later ones may be a client's prompt, which the
    /// runtime prints when it is told to log much.
    header: Option<ModelHeader>,
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
        if lines.header.is_none() {
            lines.header = header(line);
        }
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

    /// The error lines that came after `mark`, else the last lines that did; waits a moment for the
    /// first error.
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
            if timeout_at(deadline, arrived).await.is_err() {
                // Not all of the vendor's reasons are marked as errors.
                let from = lines.len().saturating_sub(SHOWN_LINES_MAX);
                return (!lines.is_empty()).then(|| lines[from..].join("; "));
            }
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

    /// What the runtime said of the model, if it has.
    pub(crate) fn header(&self) -> Option<ModelHeader> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner).header.clone()
    }

    /// The same for a model that has been loaded: then the line is on its way.
    pub(crate) async fn header_of_loaded(&self) -> Option<ModelHeader> {
        let deadline = Instant::now() + HEADER_TIMEOUT;
        loop {
            let arrived = self.shared.arrived.notified();
            let header = self.header();
            if header.is_some() {
                return header;
            }
            timeout_at(deadline, arrived).await.ok()?;
        }
    }

    /// Whether it says that no other library would load the model either.
    pub(crate) fn blames_circumstances(&self) -> bool {
        self.snapshot().iter().any(|line| CIRCUMSTANCES.iter().any(|words| line.contains(words)))
    }

    /// The model's own context limit, where init failed because more was asked for.
    pub(crate) fn context_limit_tokens(&self) -> Option<u32> {
        self.snapshot().iter().rev().find_map(|line| {
            let (_, rest) = line.split_once("max_context_limit[")?;
            rest.split_once(']')?.0.parse().ok()
        })
    }
}

/// Words of refusals that are not about the library: the chip, the file, the NPU's memory, the cores.
const CIRCUMSTANCES: [&str; 7] = [
    "target_platform does not match the real platform",
    "Platform error",
    "rkllm: failed to open '",
    "failed to allocate handle",
    "failed to malloc npu memory",
    "number of enabled CPUs",
    "enabled CPUs mask",
];

/// Reads the line that a runtime prints of a model:
/// `I rkllm: rkllm-toolkit version: 1.2.3, max_context_limit: 4096, npu_core_num: 3, …`.
fn header(line: &str) -> Option<ModelHeader> {
    let (before, fields) = line.split_once("rkllm-toolkit version: ")?;
    if !before.starts_with("I rkllm: ") {
        return None;
    }
    let mut fields = fields.split(", ").map(str::trim);
    let text = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let usable = (1..=HEADER_TEXT_LEN_MAX).contains(&text.len()) && text.bytes().all(plain);
        usable.then(|| text.to_owned())
    };
    let toolkit = text(fields.next()?)?;
    let fields: HashMap<&str, &str> = fields.filter_map(|field| field.split_once(": ")).collect();
    let number = |name| fields.get(name)?.parse().ok();
    Some(ModelHeader {
        toolkit,
        context_limit_tokens: number("max_context_limit"),
        npu_cores: number("npu_core_num"),
        platform: fields.get("target_platform").and_then(|name| text(name)),
        dtype: fields.get("model_dtype").and_then(|name| text(name)),
    })
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
    async fn the_first_line_about_the_model_is_believed() {
        let log = log_of(&[
            "I rkllm: rkllm-runtime version: 1.2.3, rknpu driver version: 0.9.8, platform: RK3588",
            "I rkllm: rkllm-toolkit version: 1.2.1b1, max_context_limit: 4096, npu_core_num: 3, \
             target_platform: RK3588, model_dtype: W8A8",
        ]);
        let header = ModelHeader {
            toolkit: "1.2.1b1".into(),
            context_limit_tokens: Some(4096),
            npu_cores: Some(3),
            platform: Some("RK3588".into()),
            dtype: Some("W8A8".into()),
        };
        for _ in 0..LINES_MAX {
            log.push("m", "I rkllm: rkllm-toolkit version: 9.9.9, max_context_limit: 32");
        }
        assert_eq!(log.header_of_loaded().await, Some(header));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_about_the_model_that_says_less_is_taken_for_what_it_says() {
        let of = |line: &str| log_of(&[line]).header();
        let bare = of("I rkllm: rkllm-toolkit version: 1.1.4, max_context_limit: many").unwrap();
        assert_eq!((bare.toolkit.as_str(), bare.context_limit_tokens), ("1.1.4", None));
        let long = "9".repeat(41);
        for line in [
            "I rkllm: rkllm-toolkit version: ",
            "I rkllm: rkllm-toolkit version: \u{1b}[31m",
            "hello rkllm-toolkit version: 1.2.3",
            &format!("I rkllm: rkllm-toolkit version: {long}"),
        ] {
            assert_eq!(of(line), None, "{line}");
        }
        assert_eq!(
            WorkerLog::default().header_of_loaded().await,
            None,
            "it is not waited for long"
        );
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
