//! Runs of several inputs at once: static batching, as the runtime does it. All inputs go in
//! together, each step gives one result per input, and FINISH comes when the last is done.

use std::time::Instant;

use crate::generation::Generation;
use crate::handle::RELEASED;
use crate::latency::Pace;
use crate::log;
use crate::request::{Mode, Request};
use crate::run::Run;
use crate::sink::{Output, Perf, Reply, State};

/// One input on its way.
struct Lane {
    generation: Generation,
    is_done: bool,
    /// What this step says; `None` while it waits for the rest of a character.
    text: Option<Vec<u8>>,
    token_id: i32,
}

/// Cost of each further input in a step, per billion parameters. No figure is published; this one
/// is that of reading activations next to weights.
const EXTRA_MS: f64 = 1.7;

impl Run<'_> {
    /// Answers as many inputs as the handle has batches.
    pub(crate) fn run_batch(&mut self, requests: &[Request]) -> i32 {
        if requests.iter().any(|request| request.mode != Mode::Generate) {
            log::error("Getting the logits is not supported for multiple batches");
            return self.fail(&self.faults_or_default());
        }
        let mut perf = Perf::default();
        let mut lanes = Vec::with_capacity(requests.len());
        for (index, request) in requests.iter().enumerate() {
            match self.in_lane(index, |run| run.begin_lane(request)) {
                Ok((lane, prefilled)) => {
                    perf.prefill_tokens += prefilled.prefill_tokens;
                    perf.prefill_time_ms += prefilled.prefill_time_ms;
                    lanes.push(lane);
                }
                Err(line) => {
                    log::error(&line);
                    return self.fail(&self.faults_or_default());
                }
            }
        }
        self.decode_batch(lanes, perf)
    }

    /// Does something with the cache of one input in the place of the first's.
    fn in_lane<T>(&mut self, index: usize, body: impl FnOnce(&mut Self) -> T) -> T {
        if index == 0 {
            return body(self);
        }
        let others = &mut self.session.other_kvs;
        others.resize(others.len().max(index), Vec::new());
        std::mem::swap(&mut self.session.kv, &mut self.session.other_kvs[index - 1]);
        let done = body(self);
        std::mem::swap(&mut self.session.kv, &mut self.session.other_kvs[index - 1]);
        done
    }

    fn begin_lane(&mut self, request: &Request) -> Result<(Lane, Perf), String> {
        let now = self.handle.circumstances()?;
        let (perf, _) = self.prefill(request, &now)?;
        let generation = self.generation(request, now);
        Ok((Lane { generation, is_done: false, text: None, token_id: RELEASED }, perf))
    }

    fn decode_batch(&mut self, mut lanes: Vec<Lane>, mut perf: Perf) -> i32 {
        let started = Instant::now();
        let mut pace = Pace::new();
        let parameters_b = self.handle.model.file.parameters_b;
        let mut is_first = true;
        while lanes.iter().any(|lane| !lane.is_done) {
            let step = Instant::now();
            let latency = lanes[0].generation.latency;
            if self.handle.abort.is_heard(&lanes[0].generation.faults) {
                return self.end_batch(lanes.len(), Perf::default());
            }
            let extra = EXTRA_MS * parameters_b * (lanes.len() - 1) as f64;
            for (index, lane) in lanes.iter_mut().enumerate() {
                self.in_lane(index, |run| run.step_lane(lane));
                perf.generate_tokens += i32::from(lane.token_id >= 0);
            }
            if !is_first {
                pace.wait(step, latency.decode(self.session.kv.len()) + latency.scaled(extra));
            }
            is_first = false;
            // Inputs that ended in this very step may leave nothing to say.
            if lanes.iter().any(|lane| lane.token_id >= 0)
                && self.emit_lanes(&lanes) == Reply::Pause
            {
                return 0;
            }
        }
        perf.generate_time_ms = (started.elapsed().as_secs_f64() * 1e3) as f32;
        self.end_batch(lanes.len(), perf)
    }

    fn step_lane(&mut self, lane: &mut Lane) {
        (lane.text, lane.token_id) = (None, RELEASED);
        if lane.is_done {
            return;
        }
        match self.next_of(&mut lane.generation) {
            Some((token, text)) => {
                (lane.text, lane.token_id) = (text, token as i32);
                lane.is_done = self.is_full(&lane.generation);
            }
            None => lane.is_done = true,
        }
    }

    fn emit_lanes(&mut self, lanes: &[Lane]) -> Reply {
        let outputs: Vec<Output<'_>> = lanes
            .iter()
            .map(|lane| Output {
                text: lane.text.as_deref(),
                token_id: lane.token_id,
                ..Output::default()
            })
            .collect();
        let said = lanes.iter().any(|lane| lane.text.is_some());
        self.emit_all(if said { State::Normal } else { State::Waiting }, &outputs)
    }

    fn end_batch(&mut self, lanes: usize, perf: Perf) -> i32 {
        let mut outputs = vec![Output { token_id: RELEASED, ..Output::default() }; lanes];
        outputs[0].perf = Some(perf);
        self.emit_all(State::Finish, &outputs);
        0
    }
}
