//! How long things take, in the model's own time and scaled.

use std::time::{Duration, Instant};

use serde::Deserialize;

/// Costs in ms; absent ones follow from chip, data type and size of the model.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Latency {
    pub(crate) prefill_ms_per_token: Option<f64>,
    /// Before the first token of a prefill.
    pub(crate) prefill_ms: Option<f64>,
    pub(crate) decode_ms_per_token: Option<f64>,
    pub(crate) load_ms: Option<f64>,
    /// Whether a long context makes tokens slower; by default where the chip decides the speed.
    pub(crate) slows_with_context: Option<bool>,
    /// Factor on all of these; 0 is as fast as possible.
    pub(crate) scale: Option<f64>,
}

impl Latency {
    /// What a model costs on a chip: the vendor's published figure for it, or else the line fitted
    /// through all of them, 10 % off at worst for plain decoders.
    pub(crate) fn of_chip(
        chip: &str,
        dtype: &str,
        architecture: &str,
        parameters_b: f64,
    ) -> Latency {
        let p = parameters_b;
        let four_bits = dtype.to_ascii_lowercase().starts_with("w4");
        let is_rk3588 = chip.eq_ignore_ascii_case("RK3588");
        let (decode, prefill, per_token) = match (is_rk3588, four_bits) {
            (true, _) => (9.2 + 31.5 * p, 35.0, 1.71 * p),
            (false, true) => (17.0 + 32.9 * p, 206.0, 336.0 * p / 128.0),
            (false, false) => (16.7 + 62.9 * p, 231.0, 293.0 * p / 128.0),
        };
        let published = Speed::find(chip, if four_bits { "w4" } else { "w8" }, architecture, p);
        let decode = published.as_ref().map_or(decode, |speed| 1e3 / speed.tokens_per_s);
        let per_token = published
            .as_ref()
            .map_or(per_token, |speed| (speed.ttft_ms - prefill).max(0.0) / PUBLISHED_PROMPT_LEN);
        let bytes_per_parameter = if four_bits { 0.55 } else { 1.05 };
        Latency {
            prefill_ms_per_token: Some(per_token),
            prefill_ms: Some(prefill),
            decode_ms_per_token: Some(decode),
            load_ms: Some(p * bytes_per_parameter / LOAD_GB_PER_S * 1e3),
            slows_with_context: Some(true),
            scale: None,
        }
    }

    /// The values of `other` where it has them.
    pub(crate) fn overlaid(self, other: Latency) -> Latency {
        Latency {
            prefill_ms_per_token: other.prefill_ms_per_token.or(self.prefill_ms_per_token),
            prefill_ms: other.prefill_ms.or(self.prefill_ms),
            decode_ms_per_token: other.decode_ms_per_token.or(self.decode_ms_per_token),
            load_ms: other.load_ms.or(self.load_ms),
            slows_with_context: other
                .slows_with_context
                .or(other.decode_ms_per_token.map(|_| false))
                .or(self.slows_with_context),
            scale: other.scale.or(self.scale),
        }
    }

    /// A time of the model's own as it passes here.
    pub(crate) fn scaled(&self, ms: f64) -> Duration {
        let scaled = ms * self.scale.unwrap_or(1.0);
        Duration::try_from_secs_f64(scaled.max(0.0) / 1e3).unwrap_or(Duration::MAX)
    }

    pub(crate) fn load(&self) -> Duration {
        self.scaled(self.load_ms.unwrap_or(0.0))
    }

    /// Time to compute `tokens` behind `held` that are in the cache.
    pub(crate) fn prefill(&self, tokens: usize, held: usize) -> Duration {
        let slower = self.factor(&PREFILL_SLOWER, held + tokens);
        let per_token = self.prefill_ms_per_token.unwrap_or(0.0) * slower;
        self.scaled(self.prefill_ms.unwrap_or(0.0) + per_token * tokens as f64)
    }

    /// Time of one token behind `held`.
    pub(crate) fn decode(&self, held: usize) -> Duration {
        let slower = self.factor(&DECODE_SLOWER, held);
        self.scaled(self.decode_ms_per_token.unwrap_or(0.0) * slower)
    }

    fn factor(&self, points: &[(f64, f64)], context_len: usize) -> f64 {
        if self.slows_with_context != Some(true) {
            return 1.0;
        }
        let x = context_len as f64;
        let between = points.windows(2).find(|pair| x < pair[1].0);
        match (between, points.last()) {
            (Some(pair), _) => {
                let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
                y0 + (y1 - y0) * ((x - x0) / (x1 - x0)).max(0.0)
            }
            (None, last) => last.map_or(1.0, |(_, factor)| *factor),
        }
    }
}

/// Time per token against that of a short context, as measured on a board: 71.9, 59.1 and 36.7
/// tokens/s of prefill at 1,024, 4,096 and 8,192 tokens; 7 % less decode at 1,800 than at 500.
const PREFILL_SLOWER: [(f64, f64); 4] =
    [(1024.0, 1.0), (4096.0, 1.217), (8192.0, 1.959), (16384.0, 3.4)];
const DECODE_SLOWER: [(f64, f64); 3] = [(500.0, 1.0), (1800.0, 1.075), (16384.0, 1.9)];

/// From a cold cache of the kernel's.
const LOAD_GB_PER_S: f64 = 0.75;

const PUBLISHED_PROMPT_LEN: f64 = 128.0;

/// One published figure.
struct Speed {
    ttft_ms: f64,
    tokens_per_s: f64,
}

impl Speed {
    /// The figure of that architecture at about that size.
    fn find(chip: &str, dtype: &str, architecture: &str, parameters_b: f64) -> Option<Speed> {
        include_str!("speeds.tsv").lines().filter(|line| !line.starts_with('#')).find_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [of, p, on, with, ttft, rate] = fields[..] else { return None };
            let p: f64 = p.parse().ok()?;
            let is_it = of.eq_ignore_ascii_case(architecture)
                && on.eq_ignore_ascii_case(chip)
                && with == dtype
                && (p - parameters_b).abs() <= 0.15 * p;
            is_it.then_some(())?;
            Some(Speed { ttft_ms: ttft.parse().ok()?, tokens_per_s: rate.parse().ok()? })
        })
    }
}

/// `MOCK_NPU_SCALE`, if it is a number.
pub(crate) fn scale_from_environment() -> Option<f64> {
    std::env::var("MOCK_NPU_SCALE").ok()?.trim().parse().ok().filter(|scale: &f64| *scale >= 0.0)
}

/// Keeps the pace of decoding: a late wake-up shortens the next sleep, so that tokens per second
/// are those of the profile and not those of the kernel's timer.
pub(crate) struct Pace {
    late: Duration,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Pace { late: Duration::ZERO }
    }

    /// Sleeps until `cost` after `from`.
    pub(crate) fn wait(&mut self, from: Instant, cost: Duration) {
        if cost.is_zero() {
            return;
        }
        let until = from + cost.saturating_sub(self.late.min(cost));
        let now = Instant::now();
        if until > now {
            std::thread::sleep(until - now);
        }
        self.late = Instant::now().saturating_duration_since(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_models_have_their_figures_and_others_the_fit() {
        let rate = |latency: Latency| 1e3 / latency.decode_ms_per_token.expect("known");
        let qwen = Latency::of_chip("RK3588", "W8A8", "qwen3", 0.6);
        assert!((rate(qwen) - 32.91).abs() < 0.01);
        assert!((qwen.prefill(128, 0).as_secs_f64() * 1e3 - 199.09).abs() < 0.1);
        let phi = Latency::of_chip("rk3576", "W4A16_G128", "phi3", 3.8);
        assert!((rate(phi) - 6.58).abs() < 0.01);
        let other = Latency::of_chip("RK3588", "W8A8", "unknown", 0.6);
        assert!((rate(other) - 32.91).abs() < 4.0, "the fit is near: {}", rate(other));
    }

    #[test]
    fn a_long_context_is_slower_unless_the_time_is_given() {
        let chip = Latency::of_chip("RK3588", "W8A8", "qwen3", 1.7);
        let ratio = chip.decode(1800).as_secs_f64() / chip.decode(500).as_secs_f64();
        assert!((ratio - 1.075).abs() < 0.001, "{ratio}");
        assert!(chip.prefill(100, 8092) > chip.prefill(100, 0).mul_f64(1.5));
        let given = Latency { decode_ms_per_token: Some(20.0), ..Latency::default() };
        assert_eq!(chip.overlaid(given).decode(16000), Duration::from_millis(20));
    }

    #[test]
    fn a_scale_of_zero_takes_no_time() {
        let chip = Latency::of_chip("RK3588", "W8A8", "qwen3", 7.0);
        let latency = Latency { scale: Some(0.0), ..chip };
        assert!(latency.decode(0).is_zero() && latency.load().is_zero());
    }
}
