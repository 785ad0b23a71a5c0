//! How far files are: bars for a terminal, else a line when one begins and one when it is there.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::lines::Line;
use crate::cli;

const DRAW_EVERY: Duration = Duration::from_millis(200);
/// The widest name of a file beside its bar.
const NAME_LEN_MAX: usize = 32;
const TEMPLATE: &str =
    "{prefix} {percent:>3}% ▕{wide_bar}▏ {decimal_total_bytes} {decimal_bytes_per_sec} {eta}";
const TEMPLATE_STILL: &str = "{prefix} {percent:>3}% ▕{wide_bar}▏ {decimal_total_bytes}";

/// Files on their way, in the order in which they began.
pub(super) struct Progress {
    /// None where nobody looks.
    bars: Option<MultiProgress>,
    files: Vec<File>,
}

struct File {
    name: String,
    bar: Option<ProgressBar>,
    /// Whether any of it is there.
    has_begun: bool,
    is_done: bool,
}

impl Progress {
    /// Bars where standard error is a terminal.
    pub(super) fn new() -> Self {
        let target = ProgressDrawTarget::stderr();
        let bars = io::stderr().is_terminal().then(|| MultiProgress::with_draw_target(target));
        Self { bars, files: Vec::new() }
    }

    /// So many of a file's bytes are there.
    pub(super) fn set(&mut self, name: &str, completed: u64, total: u64) -> anyhow::Result<()> {
        let at = match self.files.iter().position(|file| file.name == name) {
            Some(at) => at,
            None => self.begin(name, total)?,
        };
        let Some(file) = self.files.get_mut(at) else { return Ok(()) };
        if let Some(bar) = &file.bar {
            bar.set_position(completed);
            if completed > 0 && !std::mem::replace(&mut file.has_begun, true) {
                // What was there before says nothing about the speed: it is taken note of first.
                bar.tick();
                bar.reset_eta();
                bar.set_style(style(TEMPLATE));
                // From now on it is drawn by the clock: nothing is said of what stands still.
                bar.enable_steady_tick(DRAW_EVERY);
            }
        }
        if completed >= total { file.finish() } else { Ok(()) }
    }

    fn begin(&mut self, name: &str, total: u64) -> anyhow::Result<usize> {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(total).with_style(style(TEMPLATE_STILL)));
            bar.set_prefix(shortened(name));
            bar
        });
        if bar.is_none() {
            cli::print(&format!("{name}: {}", size(total)))?;
        }
        self.files.push(File { name: name.to_owned(), bar, has_begun: false, is_done: false });
        Ok(self.files.len() - 1)
    }

    /// What a server says in a line. Where it is about no file and no error, all that began are there.
    pub(super) fn hear(&mut self, line: &Line) -> anyhow::Result<()> {
        match (line.file.as_ref().or(line.digest.as_ref()), line.total) {
            _ if line.error.is_some() => Ok(()),
            (Some(name), Some(total)) => self.set(name, line.completed, total),
            _ => self.finish(),
        }
    }

    /// All that began are there.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        self.files.iter_mut().try_for_each(File::finish)
    }
}

/// Leaves the bars of what broke off as they are. What is printed next begins a line.
impl Drop for Progress {
    fn drop(&mut self) {
        let is_drawn = self.bars.is_some() && !self.files.is_empty();
        for bar in self.files.drain(..).filter(|file| !file.is_done).filter_map(|file| file.bar) {
            bar.abandon();
        }
        if is_drawn {
            // Nothing is left to be done if standard error is closed.
            let _ = writeln!(io::stderr());
        }
    }
}

impl File {
    fn finish(&mut self) -> anyhow::Result<()> {
        if std::mem::replace(&mut self.is_done, true) {
            return Ok(());
        }
        match &self.bar {
            Some(bar) => {
                bar.set_style(style(TEMPLATE_STILL));
                bar.finish();
                Ok(())
            }
            None => cli::print(&format!("{}: complete", self.name)),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    // The templates above are right, as a test shows.
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▌ ")
}

/// A name that leaves room for its bar, of one width so that bars stand below each other.
fn shortened(name: &str) -> String {
    let len = name.chars().count();
    if len <= NAME_LEN_MAX {
        return format!("{name:NAME_LEN_MAX$}");
    }
    // What tells files of a model apart stands at the end.
    let tail: String = name.chars().skip(len + 1 - NAME_LEN_MAX).collect();
    format!("…{tail}")
}

/// Bytes as people say them.
pub(super) fn size(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_right() {
        for template in [TEMPLATE, TEMPLATE_STILL] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn long_names_keep_their_ends() {
        assert_eq!(shortened("a").len(), NAME_LEN_MAX);
        let long = format!("{}-w8a8.rkllm", "x".repeat(40));
        let short = shortened(&long);
        assert_eq!(short.chars().count(), NAME_LEN_MAX);
        assert!(short.starts_with('…') && short.ends_with("-w8a8.rkllm"), "{short}");
    }
}
