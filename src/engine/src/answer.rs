//! One answer in the making: bytes to characters, characters past the stop strings, counts and
//! times.

use std::time::{Duration, Instant};

use rkllama_core::{EngineError, Event, Finish, Finished, Started, Timings, Usage};
use rkllama_text::{StopStrings, Utf8Assembler};

use crate::queue::Reply;

/// The text machines of one answer and what is measured on the way.
pub(crate) struct Answer {
    prompt_tokens: u32,
    cached_tokens: u32,
    tokens: u32,
    utf8: Utf8Assembler,
    stop: StopStrings,
    /// A stop string was found: the text is complete.
    stopped: bool,
    admitted_at: Instant,
    started_at: Option<Instant>,
    first_at: Option<Instant>,
    last_at: Option<Instant>,
}

impl Answer {
    pub(crate) fn new(stop: Vec<String>, prompt_tokens: u32) -> Self {
        Self {
            prompt_tokens,
            cached_tokens: 0,
            tokens: 0,
            utf8: Utf8Assembler::new(),
            stop: StopStrings::new(stop),
            stopped: false,
            admitted_at: Instant::now(),
            started_at: None,
            first_at: None,
            last_at: None,
        }
    }

    /// The events that follow from a reply; after a `Finished` there must be no further call.
    pub(crate) fn take(&mut self, reply: Reply) -> Result<Vec<Event>, EngineError> {
        match reply {
            _ if self.stopped => Ok(Vec::new()),
            Reply::Started { ignored, cached_tokens } => {
                self.started_at = Some(Instant::now());
                self.cached_tokens = cached_tokens;
                Ok(vec![Event::Started(Started { prompt_tokens: self.prompt_tokens, ignored })])
            }
            Reply::Piece(text) => Ok(self.piece(&text)),
            Reply::End { finish, tokens } => Ok(self.end(finish, tokens)),
            // Only a job without a prompt is answered so.
            Reply::Loaded => Ok(Vec::new()),
            Reply::Failed(error) => Err(error),
        }
    }

    fn piece(&mut self, text: &[u8]) -> Vec<Event> {
        let now = Instant::now();
        self.first_at.get_or_insert(now);
        self.last_at = Some(now);
        self.tokens += 1;
        let text = self.utf8.push(text);
        self.pass(&text)
    }

    /// Text past the stop strings; a match ends the text.
    fn pass(&mut self, text: &str) -> Vec<Event> {
        let passed = self.stop.push(text);
        self.stopped = passed.matched.is_some();
        if passed.text.is_empty() { Vec::new() } else { vec![Event::Text(passed.text)] }
    }

    /// Whether a stop string has ended the text before the run: the caller ends the run and asks
    /// for [`Answer::stopped`].
    pub(crate) const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The end of an answer that a stop string ended. What the run went on to generate before it was
    /// aborted is not part of the answer.
    pub(crate) fn stopped(&self) -> Finished {
        self.finished(Finish::Stop, self.tokens)
    }

    fn end(&mut self, finish: Finish, tokens: u32) -> Vec<Event> {
        let rest = self.utf8.finish();
        let mut events = self.pass(&rest);
        if self.stopped {
            events.push(Event::Finished(self.stopped()));
            return events;
        }
        let held = self.stop.finish();
        if !held.is_empty() {
            events.push(Event::Text(held));
        }
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
            usage: Usage {
                prompt_tokens: self.prompt_tokens,
                cached_tokens: self.cached_tokens,
                completion_tokens,
                reasoning_tokens: 0,
            },
            timings: Timings {
                queued: between(Some(self.admitted_at), self.started_at),
                prefill: between(self.started_at, self.first_at),
                decode: between(self.first_at, self.last_at),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut answer = Answer::new(stop.iter().map(ToString::to_string).collect(), 7);
        let started = Reply::Started { ignored: Vec::new(), cached_tokens: 3 };
        let mut events = answer.take(started).unwrap();
        let replies = pieces.iter().map(|piece| Reply::Piece(piece.to_vec()));
        for reply in replies.chain([Reply::End { finish, tokens }]) {
            events.extend(answer.take(reply).unwrap());
            if let Some(Event::Finished(finished)) = events.last() {
                return (texts(&events), finished.clone());
            }
            if answer.is_stopped() {
                return (texts(&events), answer.stopped());
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
        assert_eq!(finished.finish, Finish::Stop);
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
