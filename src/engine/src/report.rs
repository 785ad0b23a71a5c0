//! One log line for each generation, however it ends. No text of the conversation is in it.

use std::time::Instant;

use rkllama_core::{EngineError, Finished};

/// Logs the end of a generation; one that is dropped before its end was cancelled.
pub(crate) struct Report {
    model: String,
    pub(crate) prompt_tokens: u32,
    began: Instant,
    done: bool,
}

impl Report {
    pub(crate) fn new(model: &str) -> Self {
        Self { model: model.to_owned(), prompt_tokens: 0, began: Instant::now(), done: false }
    }

    /// Passes a result on; an error is the end.
    pub(crate) fn watch<T>(&mut self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        if let Err(error) = &result {
            self.done = true;
            // Who renders the error logs it, with the request it belongs to.
            tracing::debug!(
                model = self.model,
                prompt_tokens = self.prompt_tokens,
                took_ms = self.began.elapsed().as_millis(),
                %error,
                "generation failed"
            );
        }
        result
    }

    /// Passes the end on.
    pub(crate) fn finish(&mut self, finished: Finished) -> Finished {
        self.done = true;
        tracing::info!(
            model = self.model,
            prompt_tokens = finished.usage.prompt_tokens,
            cached_tokens = finished.usage.cached_tokens,
            completion_tokens = finished.usage.completion_tokens,
            finish = ?finished.finish,
            queued_ms = finished.timings.queued.as_millis(),
            prefill_ms = finished.timings.prefill.as_millis(),
            decode_ms = finished.timings.decode.as_millis(),
            "generation finished"
        );
        finished
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.done {
            tracing::info!(
                model = self.model,
                prompt_tokens = self.prompt_tokens,
                took_ms = self.began.elapsed().as_millis(),
                "generation cancelled"
            );
        }
    }
}
