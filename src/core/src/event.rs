//! What a generation tells while it runs.

use std::time::Duration;

/// One step of a generation. The order is `Started`, any number of `Text`, `Finished`;
/// an error may end the sequence at any point.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The model is loaded and the run has begun; prefill is under way.
    Started(Started),
    /// A piece of the answer: whole characters, never empty.
    Text(String),
    /// The answer is complete. Nothing follows.
    Finished(Finished),
}

/// What is known when a run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// Sampling parameters of the request that this runtime cannot apply.
    pub ignored: Vec<&'static str>,
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Why it ended.
    pub finish: Finish,
    /// Token counts.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model's end of sequence, or a stop string.
    Stop,
    /// The token limit or the end of the context.
    Length,
}

/// Token counts, from our own tokenizer and our own counting of what the runtime produced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// Those of them that the runtime served from its KV cache.
    pub cached_tokens: u32,
    /// Tokens generated, the end of sequence included.
    pub completion_tokens: u32,
}

/// Where the time of a request went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Waiting for other requests and for the model to load.
    pub queued: Duration,
    /// From the start of the run to its first token.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}
