//! A text completion.

use bytes::Bytes;
use rkllama_core::{Event, Finish};

use super::{Choice, Envelope, Step, Tally, Whole, Work, Writer, encode};
use crate::wire::{
    Completion, CompletionChoice, CompletionChunk, CompletionChunkChoice, CompletionFinishReason,
    CompletionLogprobs, CompletionObject, Nullable, Timings,
};

/// The prompts, where answers begin with them.
pub(crate) struct Echoes {
    /// One for each prompt, or none.
    pub(crate) texts: Vec<String>,
    /// Answers to each prompt.
    pub(crate) n: usize,
}

impl Echoes {
    fn of(&self, choice: usize) -> Option<&str> {
        self.texts.get(choice / self.n).map(String::as_str)
    }
}

/// The answer in one piece.
pub(crate) fn whole_completion(whole: Whole, envelope: Envelope, echoes: &Echoes) -> Completion {
    let choices = whole.choices.into_iter().enumerate().map(|(place, choice)| {
        let Choice { text, finish, logprobs, .. } = choice;
        CompletionChoice {
            index: index(place),
            text: echoes.of(place).unwrap_or_default().to_owned() + &text,
            logprobs: Nullable(logprobs.map(CompletionLogprobs::of)),
            // Every choice that is shown has ended: the steps end with it or with an error.
            finish_reason: finish.unwrap_or(Finish::Length).into(),
        }
    });
    Completion {
        id: envelope.id,
        object: CompletionObject::TextCompletion,
        created: envelope.created,
        model: envelope.model,
        system_fingerprint: envelope.system_fingerprint,
        choices: choices.collect(),
        usage: whole.tally.usage(),
        timings: whole.tally.timings(),
    }
}

/// A choice's place on the wire. There are at most a few hundred: see the limits of a request.
fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// What the last chunk of an answer tells.
#[derive(Default)]
struct End {
    reason: Option<CompletionFinishReason>,
    logprobs: Option<CompletionLogprobs>,
}

/// Writes chunks.
pub(crate) struct CompletionWriter {
    pub(crate) envelope: Envelope,
    pub(crate) echoes: Echoes,
}

impl CompletionWriter {
    fn chunk(
        &self,
        choices: Vec<CompletionChunkChoice>,
        timings: Option<Timings>,
    ) -> CompletionChunk {
        let envelope = &self.envelope;
        CompletionChunk {
            id: envelope.id.clone(),
            object: CompletionObject::TextCompletion,
            created: envelope.created,
            model: envelope.model.clone(),
            system_fingerprint: envelope.system_fingerprint.clone(),
            choices,
            usage: envelope.include_usage.then_some(Nullable(None)),
            timings,
        }
    }

    fn piece(&self, choice: usize, text: String, end: End, timings: Option<Timings>) -> Bytes {
        let choice = CompletionChunkChoice {
            index: index(choice),
            text,
            logprobs: Nullable(end.logprobs),
            finish_reason: Nullable(end.reason),
        };
        encode(&self.chunk(vec![choice], timings))
    }
}

impl Writer for CompletionWriter {
    fn begin(&mut self, choice: usize) -> Option<Bytes> {
        let prompt = self.echoes.of(choice)?.to_owned();
        Some(self.piece(choice, prompt, End::default(), None))
    }

    fn step(&mut self, step: Step) -> Option<Bytes> {
        let timings = step.so_far.as_ref().map(Timings::from);
        match step.event {
            // Of a text nothing is taken apart, so that the others do not come.
            Event::Started(_) | Event::Reasoning(_) | Event::ToolCall(_) => None,
            Event::Text(text) => Some(self.piece(step.choice, text, End::default(), timings)),
            Event::Finished(finished) => {
                let timings = Some(Timings::from(&Work::from(&finished)));
                let end = End {
                    reason: Some(finished.finish.into()),
                    logprobs: finished.logprobs.map(CompletionLogprobs::of),
                };
                Some(self.piece(step.choice, String::new(), end, timings))
            }
        }
    }

    fn end(&mut self, tally: &Tally) -> Option<Bytes> {
        let usage = Some(Nullable(Some(tally.usage())));
        let chunk = CompletionChunk { usage, ..self.chunk(Vec::new(), None) };
        self.envelope.include_usage.then(|| encode(&chunk))
    }
}
