//! What a generation tells while it runs.

use std::time::Duration;

use crate::Logprobs;

/// One step of a generation. The order is `Started`, any number of `Reasoning`, `Text` and
/// `ToolCall`, then `Finished`; an error may end the sequence at any point.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The model is loaded and the run has begun; prefill is under way.
    Started(Started),
    /// A piece of what the model thinks before it answers: whole characters, never empty.
    Reasoning(String),
    /// A piece of the answer: whole characters, never empty.
    Text(String),
    /// A piece of a call of a tool.
    ToolCall(ToolCallPiece),
    /// The answer is complete. Nothing follows.
    Finished(Finished),
}

/// A piece of a call of a tool. Calls come one after the other, each with one `Begin` and then its
/// arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolCallPiece {
    /// The next call begins.
    Begin {
        /// 0 for the answer's first call, 1 for its second …
        index: usize,
        /// The function's name.
        name: String,
    },
    /// More of the arguments' JSON text; all of them joined are valid JSON if the answer ends with
    /// [`Finish::ToolCalls`].
    Arguments {
        /// The call.
        index: usize,
        /// Never empty.
        json: String,
    },
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
    /// The place among the request's stop texts of the one that ended it, if one did.
    pub stopped_by: Option<usize>,
    /// Token counts.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
    /// How likely the tokens were, where that was asked for and can be told.
    pub logprobs: Option<Logprobs>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model's end of sequence, or a stop string.
    Stop,
    /// The token limit or the end of the context, or the guard against endless repetition.
    Length,
    /// The end of sequence behind complete calls of tools.
    ToolCalls,
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
    /// Those of them with which the model thought.
    pub reasoning_tokens: u32,
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
