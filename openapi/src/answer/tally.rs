//! Token counts and times of all runs of one answer.

use std::{
    ops::AddAssign,
    time::{Duration, Instant},
};

use rkllama_core::{Event, Finished, Usage};

use super::Step;
use crate::wire::{CompletionUsage, Timings};

/// What the NPU did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    queued: Duration,
    prefill: Duration,
    decode: Duration,
    cached_tokens: u32,
    read_tokens: u32,
    predicted_tokens: u32,
    /// Stretches from one token to the next: the first token ends the prefill.
    gaps: u32,
}

impl From<&Finished> for Work {
    fn from(Finished { usage, timings, .. }: &Finished) -> Self {
        Self {
            queued: timings.queued,
            prefill: timings.prefill,
            decode: timings.decode,
            cached_tokens: usage.cached_tokens,
            read_tokens: usage.prompt_tokens.saturating_sub(usage.cached_tokens),
            predicted_tokens: usage.completion_tokens,
            gaps: usage.completion_tokens.saturating_sub(1),
        }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.queued = self.queued.saturating_add(other.queued);
        self.prefill = self.prefill.saturating_add(other.prefill);
        self.decode = self.decode.saturating_add(other.decode);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.read_tokens = self.read_tokens.saturating_add(other.read_tokens);
        self.predicted_tokens = self.predicted_tokens.saturating_add(other.predicted_tokens);
        self.gaps = self.gaps.saturating_add(other.gaps);
    }
}

impl From<&Work> for Timings {
    fn from(work: &Work) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        // JSON has no infinity: a stretch that took no time has no rate.
        let rate = |count: u32, time: Duration| {
            if time.is_zero() { 0.0 } else { f64::from(count) / time.as_secs_f64() }
        };
        Self {
            queued_ms: ms(work.queued),
            cache_n: work.cached_tokens,
            prompt_n: work.read_tokens,
            prompt_ms: ms(work.prefill),
            prompt_per_second: rate(work.read_tokens, work.prefill),
            predicted_n: work.predicted_tokens,
            predicted_ms: ms(work.decode),
            predicted_per_second: rate(work.gaps, work.decode),
        }
    }
}

/// The sum over all answers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    usage: Usage,
    work: Work,
}

impl Tally {
    /// Counts a step that ends an answer, and no other. A prompt counts once, however many answers
    /// it gets.
    pub(crate) fn add(&mut self, step: &Step) {
        let Event::Finished(finished) = &step.event else { return };
        self.work += Work::from(finished);
        let (sum, usage) = (&mut self.usage, finished.usage);
        if step.is_first_of_prompt {
            sum.prompt_tokens = sum.prompt_tokens.saturating_add(usage.prompt_tokens);
            sum.cached_tokens = sum.cached_tokens.saturating_add(usage.cached_tokens);
        }
        sum.completion_tokens = sum.completion_tokens.saturating_add(usage.completion_tokens);
        sum.reasoning_tokens = sum.reasoning_tokens.saturating_add(usage.reasoning_tokens);
    }

    pub(crate) fn usage(&self) -> CompletionUsage {
        self.usage.into()
    }

    pub(crate) fn timings(&self) -> Timings {
        Timings::from(&self.work)
    }
}

/// Follows a run from outside: what is known of its times before it ends.
pub(super) struct Clock {
    begun: Instant,
    started: Option<Instant>,
    first: Option<Instant>,
    so_far: Work,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), started: None, first: None, so_far: Work::default() }
    }

    /// The times at this event; none where the run itself tells them, or nothing has come yet.
    pub(super) fn tick(&mut self, event: &Event) -> Option<Work> {
        let now = Instant::now();
        match event {
            Event::Started(started) => {
                self.started = Some(now);
                self.so_far.queued = now - self.begun;
                self.so_far.read_tokens = started.prompt_tokens;
                None
            }
            Event::Finished(_) => None,
            Event::Reasoning(_) | Event::Text(_) | Event::ToolCall(_) => {
                let first = *self.first.get_or_insert(now);
                self.so_far.prefill = first - self.started.unwrap_or(self.begun);
                self.so_far.decode = now - first;
                self.so_far.gaps = self.so_far.predicted_tokens;
                self.so_far.predicted_tokens = self.so_far.predicted_tokens.saturating_add(1);
                Some(self.so_far)
            }
        }
    }
}
