//! The first half of a run: the input goes into the cache, as far as it is not there already.

use std::time::Instant;

use crate::circumstances::Circumstances;
use crate::faults::{Faults, segfault};
use crate::generation::Generation;
use crate::input::{Cells, EMBEDDED, Input, cells_of};
use crate::log;
use crate::request::Request;
use crate::run::{Run, ms};
use crate::sink::Perf;

impl Run<'_> {
    /// Everything up to the first token: the input in the cache, and time passed.
    pub(crate) fn prefill(
        &mut self,
        request: &Request,
        circumstances: &Circumstances,
    ) -> Result<(Perf, Option<Generation>), String> {
        let started = Instant::now();
        let paused = self.session.paused.take();
        let fresh = match &paused {
            Some(paused) => self.feed_paused(paused, &request.input)?,
            None => {
                let Cells { cells, system_len } =
                    cells_of(self.handle, self.session, &request.input, request.keep_history)?;
                let begins = self.session.kv.is_empty() || !request.keep_history;
                let cells = self.stale(cells, &circumstances.faults);
                let fresh = self.enter(cells, request.keep_history, &circumstances.faults)?;
                if begins {
                    self.session.system_len = system_len;
                }
                fresh
            }
        };
        self.session.last_keep_history = request.keep_history;
        self.session.is_aborted = false;
        // Nothing interrupts a prefill: an abort during it is heard when it ends.
        std::thread::sleep(circumstances.latency.prefill(fresh, self.session.kv.len() - fresh));
        let perf = Perf {
            prefill_time_ms: ms(started.elapsed()),
            prefill_tokens: fresh as i32,
            ..Perf::default()
        };
        Ok((perf, paused))
    }

    /// With the fault, the image of the last run in the place of this one's.
    pub(crate) fn stale(&self, mut cells: Vec<u32>, faults: &Faults) -> Vec<u32> {
        if faults.stale_image {
            let held = self.session.kv.iter().filter(|cell| **cell & EMBEDDED != 0);
            let new = cells.iter_mut().filter(|cell| **cell & EMBEDDED != 0);
            new.zip(held).for_each(|(new, held)| *new = *held);
        }
        cells
    }

    /// A paused generation goes on with the caller's tokens, or with its own: the text of a prompt
    /// is ignored then.
    pub(crate) fn feed_paused(
        &mut self,
        paused: &Generation,
        input: &Input,
    ) -> Result<usize, String> {
        let fed = match input {
            Input::Tokens(_) => cells_of(self.handle, self.session, input, true)?.cells,
            _ => paused.pending.into_iter().collect(),
        };
        self.session.kv.extend(&fed);
        Ok(fed.len())
    }

    pub(crate) fn resumed(&self, mut paused: Generation) -> Generation {
        paused.pending = None;
        paused.reader = self.handle.model.language.read(&self.session.readable());
        paused
    }

    /// Puts the prompt into the cache; returns how many tokens had to be computed.
    pub(crate) fn enter(
        &mut self,
        mut ids: Vec<u32>,
        keep_history: bool,
        faults: &Faults,
    ) -> Result<usize, String> {
        let max = self.handle.param.max_context_len as usize;
        if log::level() >= 2 {
            let shown: Vec<String> = ids.iter().map(u32::to_string).collect();
            log::info(&format!("prompt tokens: {}, total: {}", shown.join(" "), ids.len()));
            log::info(&format!("current kv cache size: {}", self.session.kv.len()));
            log::info(&format!("keep history status: {}", i32::from(keep_history)));
            log::info(&format!("n_keep = {}", self.handle.param.n_keep));
        }
        if ids.len() > max {
            return Err(format!(
                "the length of prompt is greater than max context (prompt: {} tokens, max context: {max})",
                ids.len()
            ));
        }
        let free = max - ids.len();
        if faults.crash_near_context.is_some_and(|least| free < least as usize) {
            segfault("crash_near_context");
        }
        if keep_history {
            if faults.history_forgotten {
                self.session.kv.clear();
            }
            let fresh = ids.len();
            self.make_room(fresh)?;
            self.session.kv.extend(ids);
            return Ok(fresh);
        }
        if faults.kv_not_matched {
            self.session.kv.clear();
        }
        if faults.kv_leaks && !ids.starts_with(&self.session.kv) {
            ids.splice(0..0, self.session.kv.iter().copied());
        }
        let same = self.session.kv.iter().zip(&ids).take_while(|(held, new)| held == new).count();
        // The last token is always computed, or there would be no logits to sample from.
        let same = same.min(ids.len().saturating_sub(1));
        if log::level() >= 2 {
            log::info(&format!("kv cache matches {same} / {} tokens of prompt", ids.len()));
            log::info(&format!("kv cache size after matching is: {same}"));
        }
        let fresh = ids.len() - same;
        self.session.spoilt = self.session.spoilt.min(same);
        self.session.kv = ids;
        Ok(fresh)
    }

    /// Drops the oldest part after the first `n_keep` entries when the window is full.
    pub(crate) fn make_room(&mut self, wanted: usize) -> Result<(), String> {
        let max = self.handle.param.max_context_len as usize;
        let held = self.session.kv.len();
        if held + wanted <= max {
            return Ok(());
        }
        let keep = usize::try_from(self.handle.param.n_keep).unwrap_or(0).min(held);
        let discard = (held + wanted - max).max((held - keep) / 2);
        if keep + discard > held {
            return Err(format!(
                "the context is not enough! history_s: {held}, cur_input_s: {wanted}, \
                 discard_s: {discard}, max_context: {max}!"
            ));
        }
        log::info(&format!(
            "context to be full[{held} + {wanted}], delete the kv cache in [{keep}, {}), total: {discard}",
            keep + discard
        ));
        self.session.kv.drain(keep..keep + discard);
        Ok(())
    }
}
