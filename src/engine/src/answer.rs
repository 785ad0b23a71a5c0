//! One answer in the making: bytes to characters, characters to thoughts, text and calls, text past
//! the stop strings, counts and times.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rkllama_core::{EngineError, Event, Finish, Finished, Started, Timings, Usage};
use rkllama_text::{AnswerParser, Codec, StopStrings, Utf8Assembler};

use crate::{
    logprobs::{Thinking, Transcript},
    queue::Reply,
};

/// The text machines of one answer and what is measured on the way.
pub(crate) struct Answer {
    codec: Arc<Codec>,
    /// None for what is no conversation: all of it is text.
    parser: Option<AnswerParser>,
    prompt_tokens: u32,
    cached_tokens: u32,
    tokens: u32,
    reasoning_tokens: u32,
    /// Parameters of the request that have no effect.
    ignored: Vec<&'static str>,
    utf8: Utf8Assembler,
    stop: StopStrings,
    /// The answer is complete before its run is: by a stop string, or by the only call allowed.
    ended_early: Option<Finish>,
    /// A run has begun, and its client knows.
    is_started: bool,
    /// What was heard, where that is needed afterwards.
    transcript: Option<Transcript>,
    admitted_at: Instant,
    started_at: Option<Instant>,
    first_at: Option<Instant>,
    last_at: Option<Instant>,
}

impl Answer {
    pub(crate) fn new(
        codec: Arc<Codec>,
        parser: Option<AnswerParser>,
        stop: Vec<String>,
        prompt_tokens: u32,
        ignored: Vec<&'static str>,
    ) -> Self {
        Self {
            codec,
            parser,
            prompt_tokens,
            cached_tokens: 0,
            tokens: 0,
            reasoning_tokens: 0,
            ignored,
            utf8: Utf8Assembler::new(),
            stop: StopStrings::new(stop),
            ended_early: None,
            is_started: false,
            transcript: None,
            admitted_at: Instant::now(),
            started_at: None,
            first_at: None,
            last_at: None,
        }
    }

    /// Keeps what is heard.
    pub(crate) fn transcribed(self) -> Self {
        Self { transcript: Some(Transcript::default()), ..self }
    }

    /// What was heard, if it was kept.
    pub(crate) fn into_transcript(self) -> Option<Transcript> {
        self.transcript
    }

    /// Parameters of the request that have no effect, as far as is known.
    pub(crate) fn ignored(&self) -> &[&'static str] {
        &self.ignored
    }

    /// The events that follow from a reply; after a `Finished` there must be no further call.
    pub(crate) fn take(&mut self, reply: Reply) -> Result<Vec<Event>, EngineError> {
        match reply {
            _ if self.ended_early.is_some() => Ok(Vec::new()),
            Reply::Started { ignored, cached_tokens, prompt_tokens } => {
                self.started_at = Some(Instant::now());
                self.prompt_tokens = prompt_tokens.unwrap_or(self.prompt_tokens);
                self.cached_tokens = cached_tokens;
                Ok(self.started(ignored))
            }
            Reply::Piece { token, text, tokens } => Ok(self.piece(token, &text, tokens)),
            Reply::End { finish, tokens } => Ok(self.end(finish, tokens)),
            // Only jobs that want no answer are answered so.
            Reply::Loaded | Reply::Embedding(_) | Reply::Scores { .. } | Reply::Place { .. } => {
                Ok(Vec::new())
            }
            Reply::Failed(error) => Err(error),
        }
    }

    /// A job that is begun anew by another worker says so twice, and its client hears it once.
    fn started(&mut self, by_runtime: Vec<&'static str>) -> Vec<Event> {
        if std::mem::replace(&mut self.is_started, true) {
            return Vec::new();
        }
        self.ignored.extend(by_runtime);
        let (prompt_tokens, ignored) = (self.prompt_tokens, self.ignored.clone());
        vec![Event::Started(Started { prompt_tokens, ignored })]
    }

    fn piece(&mut self, token: i32, text: &[u8], tokens: u32) -> Vec<Event> {
        let now = Instant::now();
        self.first_at.get_or_insert(now);
        self.last_at = Some(now);
        self.tokens = self.tokens.saturating_add(tokens);
        // Whether the runtime shows special tokens is its affair; what they are here is ours.
        let special = self.codec.special_text(token);
        let shown = special.map_or(text, str::as_bytes);
        let text = self.utf8.push(shown);
        let before = self.parser.as_ref().is_some_and(AnswerParser::is_thinking);
        let events = self.parser.as_mut().map(|parser| parser.push(&text));
        let behind = self.parser.as_ref().is_some_and(AnswerParser::is_thinking);
        if let Some(transcript) = &mut self.transcript {
            let known = self.codec.token_bytes(token).filter(|_| special.is_none());
            let bytes = known.unwrap_or_else(|| shown.to_vec());
            transcript.hear(token, bytes, Thinking { before, behind });
        }
        let (Some(parser), Some(events)) = (&self.parser, events) else {
            return self.pass(vec![Event::Text(text)]);
        };
        if behind {
            self.reasoning_tokens = self.reasoning_tokens.saturating_add(tokens);
        }
        let is_over = parser.is_over();
        let events = self.pass(events);
        if is_over {
            self.ended_early.get_or_insert(Finish::ToolCalls);
        }
        events
    }

    /// Events with their text past the stop strings; a match ends the answer.
    fn pass(&mut self, events: Vec<Event>) -> Vec<Event> {
        let mut passed = Vec::with_capacity(events.len());
        for event in events {
            let Event::Text(text) = event else {
                passed.push(event);
                continue;
            };
            let checked = self.stop.push(&text);
            if !checked.text.is_empty() {
                self.said(&checked.text);
                passed.push(Event::Text(checked.text));
            }
            if checked.matched.is_some() {
                self.ended_early = Some(Finish::Stop);
                break;
            }
        }
        passed
    }

    fn said(&mut self, text: &str) {
        if let Some(transcript) = &mut self.transcript {
            transcript.say(text);
        }
    }

    /// The end of an answer that was complete before its run: the caller ends the run. What that
    /// went on to generate is not part of the answer.
    pub(crate) fn ended_early(&self) -> Option<Finished> {
        Some(self.finished(self.ended_early?, self.tokens))
    }

    fn end(&mut self, finish: Finish, tokens: u32) -> Vec<Event> {
        let rest = self.utf8.finish();
        let (rest, calls) = match &mut self.parser {
            Some(parser) => {
                let mut events = parser.push(&rest);
                events.extend(parser.finish());
                (events, Some(parser.calls()))
            }
            None => (vec![Event::Text(rest)], None),
        };
        let mut events = self.pass(rest);
        if let Some(finished) = self.ended_early() {
            events.push(Event::Finished(finished));
            return events;
        }
        let held = self.stop.finish();
        if !held.is_empty() {
            self.said(&held);
            events.push(Event::Text(held));
        }
        let finish = match (finish, calls) {
            // A call that breaks off is none that could be made.
            (Finish::Stop, Some(calls)) if calls.cut => Finish::Length,
            (Finish::Stop, Some(calls)) if calls.made > 0 => Finish::ToolCalls,
            (finish, _) => finish,
        };
        events.push(Event::Finished(self.finished(finish, tokens)));
        events
    }

    /// The last event's content.
    pub(crate) fn finished(&self, finish: Finish, completion_tokens: u32) -> Finished {
        let between = |from: Option<Instant>, to: Option<Instant>| match (from, to) {
            (Some(from), Some(to)) => to.saturating_duration_since(from),
            _ => Duration::ZERO,
        };
        Finished {
            finish,
            stopped_by: self.stop.matched(),
            usage: Usage {
                prompt_tokens: self.prompt_tokens,
                cached_tokens: self.cached_tokens,
                completion_tokens,
                reasoning_tokens: self.reasoning_tokens,
            },
            timings: Timings {
                queued: between(Some(self.admitted_at), self.started_at),
                prefill: between(self.started_at, self.first_at),
                decode: between(self.first_at, self.last_at),
            },
            logprobs: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rkllama_core::TextFiles;

    use super::*;

    fn codec() -> Arc<Codec> {
        let tokenizer = concat!(env!("CARGO_MANIFEST_DIR"), "/../../mock-npu/demo/tokenizer.json");
        let tokenizer = std::fs::read(tokenizer).unwrap();
        Arc::new(Codec::new(&TextFiles { tokenizer, ..TextFiles::default() }).unwrap())
    }

    fn texts(events: &[Event]) -> String {
        let text = |event: &Event| match event {
            Event::Text(text) => text.clone(),
            Event::Started(_) | Event::Reasoning(_) | Event::ToolCall(_) | Event::Finished(_) => {
                String::new()
            }
        };
        events.iter().map(text).collect()
    }

    fn run(stop: &[&str], pieces: &[&[u8]], finish: Finish, tokens: u32) -> (String, Finished) {
        let stop = stop.iter().map(ToString::to_string).collect();
        let mut answer = Answer::new(codec(), None, stop, 7, Vec::new());
        let started = Reply::Started { ignored: Vec::new(), cached_tokens: 3, prompt_tokens: None };
        let mut events = answer.take(started).unwrap();
        let replies =
            pieces.iter().map(|piece| Reply::Piece { token: -1, text: piece.to_vec(), tokens: 1 });
        for reply in replies.chain([Reply::End { finish, tokens }]) {
            events.extend(answer.take(reply).unwrap());
            if let Some(Event::Finished(finished)) = events.last() {
                return (texts(&events), finished.clone());
            }
            if let Some(finished) = answer.ended_early() {
                return (texts(&events), finished);
            }
        }
        panic!("no end in {events:?}")
    }

    #[test]
    fn characters_are_whole_and_counts_are_the_runtimes() {
        let euro = "€".as_bytes();
        let (text, finished) = run(&[], &[b"5 ", &euro[..1], &euro[1..]], Finish::Length, 3);
        assert_eq!(text, "5 €");
        assert_eq!(finished.finish, Finish::Length);
        let usage =
            Usage { prompt_tokens: 7, cached_tokens: 3, completion_tokens: 3, reasoning_tokens: 0 };
        assert_eq!(finished.usage, usage);
    }

    #[test]
    fn a_stop_string_over_two_tokens_leaves_no_trace() {
        let (text, finished) = run(&["END"], &[b"go E", b"ND more"], Finish::Stop, 9);
        assert_eq!(text, "go ");
        assert_eq!((finished.finish, finished.stopped_by), (Finish::Stop, Some(0)));
        assert_eq!(finished.usage.completion_tokens, 2);
        assert_eq!(finished.usage.cached_tokens, 3, "the runtime says so when it has ended");
    }

    #[test]
    fn what_only_looked_like_a_stop_string_is_given_at_the_end() {
        let (text, finished) = run(&["END"], &[b"go E", b"N"], Finish::Stop, 3);
        assert_eq!(text, "go EN");
        assert_eq!(finished.usage.completion_tokens, 3);
    }

    #[test]
    fn half_a_character_at_the_end_is_marked() {
        let (text, _) = run(&[], &[b"a", &"é".as_bytes()[..1]], Finish::Length, 2);
        assert_eq!(text, "a\u{fffd}");
    }
}
