//! A chat completion.

use bytes::Bytes;
use rkllama_core::{Event, Finish, ToolCallPiece};

use super::{Choice, Envelope, Step, Tally, Whole, Work, Writer, encode, runs::Call};
use crate::wire::{
    AssistantRole, ChatAnswerMessage, ChatChoice, ChatChunk, ChatChunkChoice, ChatChunkObject,
    ChatCompletion, ChatCompletionObject, ChatDelta, ChatFunctionCall, ChatFunctionDelta,
    ChatToolCall, ChatToolCallDelta, FinishReason, FunctionType, Logprobs, Nullable, Timings,
};

/// The answer in one piece.
pub(crate) fn whole_chat(whole: Whole, envelope: Envelope) -> ChatCompletion {
    let choices =
        whole.choices.into_iter().zip(0..).map(|(choice, index)| choice_of(choice, index));
    ChatCompletion {
        id: envelope.id,
        object: ChatCompletionObject::ChatCompletion,
        created: envelope.created,
        model: envelope.model,
        system_fingerprint: envelope.system_fingerprint,
        choices: choices.collect(),
        usage: whole.tally.usage(),
        timings: whole.tally.timings(),
    }
}

fn choice_of(choice: Choice, index: u32) -> ChatChoice {
    let Choice { text, reasoning, calls, finish, logprobs } = choice;
    let has_content = !text.is_empty() || calls.is_empty();
    let reasoning = (!reasoning.is_empty()).then_some(reasoning);
    let calls: Vec<_> = calls.into_iter().map(call_of).collect();
    ChatChoice {
        index,
        message: ChatAnswerMessage {
            role: AssistantRole::Assistant,
            content: Nullable(has_content.then_some(text)),
            refusal: Nullable(None),
            reasoning_content: reasoning.clone(),
            reasoning,
            tool_calls: (!calls.is_empty()).then_some(calls),
        },
        logprobs: Nullable(logprobs.map(Into::into)),
        // Every choice that is shown has ended: the steps end with it or with an error.
        finish_reason: finish.unwrap_or(Finish::Length).into(),
    }
}

fn call_of(call: Call) -> ChatToolCall {
    let Call { id, name, arguments } = call;
    let function = ChatFunctionCall { name, arguments };
    ChatToolCall { id, kind: FunctionType::Function, function }
}

/// What the last chunk of an answer tells.
#[derive(Default)]
struct End {
    reason: Option<FinishReason>,
    logprobs: Option<Logprobs>,
}

/// Writes chunks.
pub(crate) struct ChatWriter(pub(crate) Envelope);

impl ChatWriter {
    fn chunk(&self, choices: Vec<ChatChunkChoice>, timings: Option<Timings>) -> ChatChunk {
        let envelope = &self.0;
        ChatChunk {
            id: envelope.id.clone(),
            object: ChatChunkObject::ChatCompletionChunk,
            created: envelope.created,
            model: envelope.model.clone(),
            system_fingerprint: envelope.system_fingerprint.clone(),
            choices,
            usage: envelope.include_usage.then_some(Nullable(None)),
            timings,
        }
    }

    fn piece(&self, choice: usize, delta: ChatDelta, end: End, timings: Option<Timings>) -> Bytes {
        let choice = ChatChunkChoice {
            // At most a few: see the limit of `n`.
            index: u32::try_from(choice).unwrap_or(u32::MAX),
            delta,
            logprobs: Nullable(end.logprobs),
            finish_reason: Nullable(end.reason),
        };
        encode(&self.chunk(vec![choice], timings))
    }
}

impl Writer for ChatWriter {
    fn begin(&mut self, choice: usize) -> Option<Bytes> {
        let role = Some(AssistantRole::Assistant);
        let delta = ChatDelta { role, content: Some(String::new()), ..ChatDelta::default() };
        Some(self.piece(choice, delta, End::default(), None))
    }

    fn step(&mut self, step: Step) -> Option<Bytes> {
        let timings = step.so_far.as_ref().map(Timings::from);
        let delta = match step.event {
            Event::Started(_) => return None,
            Event::Reasoning(text) => ChatDelta {
                reasoning_content: Some(text.clone()),
                reasoning: Some(text),
                ..ChatDelta::default()
            },
            Event::Text(text) => ChatDelta { content: Some(text), ..ChatDelta::default() },
            Event::ToolCall(piece) => {
                ChatDelta { tool_calls: Some(vec![call_delta(piece)]), ..ChatDelta::default() }
            }
            Event::Finished(finished) => {
                let timings = Some(Timings::from(&Work::from(&finished)));
                let end = End {
                    reason: Some(finished.finish.into()),
                    logprobs: finished.logprobs.map(Into::into),
                };
                return Some(self.piece(step.choice, ChatDelta::default(), end, timings));
            }
        };
        Some(self.piece(step.choice, delta, End::default(), timings))
    }

    fn end(&mut self, tally: &Tally) -> Option<Bytes> {
        let usage = Some(Nullable(Some(tally.usage())));
        let chunk = ChatChunk { usage, ..self.chunk(Vec::new(), None) };
        self.0.include_usage.then(|| encode(&chunk))
    }
}

/// Id, type and name come once: clients append what they get.
fn call_delta(piece: ToolCallPiece) -> ChatToolCallDelta {
    let place = |index| u32::try_from(index).unwrap_or(u32::MAX);
    match piece {
        ToolCallPiece::Begin { index, name } => ChatToolCallDelta {
            index: place(index),
            id: Some(Call::new_id()),
            kind: Some(FunctionType::Function),
            function: ChatFunctionDelta { name: Some(name), arguments: String::new() },
        },
        ToolCallPiece::Arguments { index, json } => ChatToolCallDelta {
            index: place(index),
            id: None,
            kind: None,
            function: ChatFunctionDelta { name: None, arguments: json },
        },
    }
}
