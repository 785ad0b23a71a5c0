//! Prints an answer as it comes.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

use super::chat::{Done, Heard, Timings, Usage};

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Writes an answer to standard output. Thoughts are for people: a program or a file gets the answer
/// alone.
pub(super) struct Printer {
    shows_thoughts: bool,
    is_thinking: bool,
    /// What was said, without thoughts.
    said: String,
}

impl Printer {
    pub(super) fn new(hides_thoughts: bool) -> Self {
        let shows_thoughts = io::stdout().is_terminal() && !hides_thoughts;
        Self { shows_thoughts, is_thinking: false, said: String::new() }
    }

    pub(super) fn hear(&mut self, heard: Heard) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        match heard {
            Heard::Thought(text) if self.shows_thoughts => {
                if !std::mem::replace(&mut self.is_thinking, true) {
                    writeln!(out, "{DIM}Thinking …")?;
                }
                write!(out, "{text}")?;
            }
            Heard::Thought(_) => {}
            Heard::Text(text) => {
                self.end_thought(&mut out)?;
                write!(out, "{text}")?;
                self.said.push_str(&text);
            }
        }
        out.flush()?;
        Ok(())
    }

    /// Ends the last line; gives what was said.
    pub(super) fn finish(mut self) -> anyhow::Result<String> {
        let mut out = io::stdout().lock();
        self.end_thought(&mut out)?;
        if !self.said.is_empty() && !self.said.ends_with('\n') {
            writeln!(out)?;
        }
        out.flush()?;
        Ok(self.said)
    }

    fn end_thought(&mut self, out: &mut impl Write) -> io::Result<()> {
        if std::mem::replace(&mut self.is_thinking, false) {
            write!(out, "\n… done thinking.{PLAIN}\n\n")?;
        }
        Ok(())
    }
}

/// Counts, times and speeds for people.
pub(super) fn figures(done: &Done) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    if let Some(timings) = &done.timings {
        let _ = writeln!(text, "total            {:.3} s", timings.total().as_secs_f64());
        let _ = writeln!(text, "queue and load   {:.1} ms", timings.queued_ms);
    }
    if let Some(Usage { prompt_tokens, completion_tokens, prompt_tokens_details }) = &done.usage {
        let cached = prompt_tokens_details.cached_tokens;
        let _ = writeln!(text, "prompt           {prompt_tokens} tokens, {cached} of them cached");
        let _ = writeln!(text, "answer           {completion_tokens} tokens");
    }
    if let Some(Timings { prompt_ms, prompt_per_second, .. }) = &done.timings {
        let _ =
            writeln!(text, "prefill          {prompt_ms:.1} ms, {prompt_per_second:.2} tokens/s");
    }
    if let Some(Timings { predicted_ms, predicted_per_second, .. }) = &done.timings {
        let _ = writeln!(
            text,
            "decode           {predicted_ms:.1} ms, {predicted_per_second:.2} tokens/s"
        );
    }
    if let Some(finish) = &done.finish {
        let _ = writeln!(text, "ended by         {finish}");
    }
    text
}
