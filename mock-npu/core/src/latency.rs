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
    /// Factor on all of these; 0 is as fast as possible.
    pub(crate) scale: Option<f64>,
}

impl Latency {
    /// What a model of this size costs on a chip: lines fitted through the vendor's published
    /// table, 10 % off at worst for plain decoders. Files load at 0.75 GB/s from a cold cache.
    pub(crate) fn of_chip(platform: &str, dtype: &str, parameters_b: f64) -> Latency {
        let p = parameters_b;
        let four_bits = dtype.to_ascii_lowercase().starts_with("w4");
        let (decode, prefill, per_token) =
            match (platform.eq_ignore_ascii_case("RK3588"), four_bits) {
                (true, _) => (9.2 + 31.5 * p, 35.0, 1.71 * p),
                (false, true) => (17.0 + 32.9 * p, 206.0, 336.0 * p / 128.0),
                (false, false) => (16.7 + 62.9 * p, 231.0, 293.0 * p / 128.0),
            };
        let bytes_per_parameter = if four_bits { 0.55 } else { 1.05 };
        Latency {
            prefill_ms_per_token: Some(per_token),
            prefill_ms: Some(prefill),
            decode_ms_per_token: Some(decode),
            load_ms: Some(p * bytes_per_parameter / 0.75 * 1e3),
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

    pub(crate) fn prefill(&self, tokens: usize) -> Duration {
        let per_token = self.prefill_ms_per_token.unwrap_or(0.0);
        self.scaled(self.prefill_ms.unwrap_or(0.0) + per_token * tokens as f64)
    }

    pub(crate) fn decode(&self) -> Duration {
        self.scaled(self.decode_ms_per_token.unwrap_or(0.0))
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
    fn the_fit_is_near_the_published_figures() {
        // Qwen3 0.6B on RK3588, w8a8: 32.91 tokens/s, 199 ms to the first of 128 tokens.
        let small = Latency::of_chip("RK3588", "W8A8", 0.6);
        let decode = small.decode_ms_per_token.expect("fitted");
        assert!((1e3 / decode - 32.91).abs() < 4.0, "{decode}");
        assert!((small.prefill(128).as_secs_f64() * 1e3 - 199.0).abs() < 40.0);
        // Phi3 3.8B on RK3576, w4a16: 6.58 tokens/s.
        let large = Latency::of_chip("RK3576", "W4A16", 3.8).decode_ms_per_token.expect("fitted");
        assert!((1e3 / large - 6.58).abs() < 0.7, "{large}");
    }

    #[test]
    fn a_scale_of_zero_takes_no_time() {
        let latency = Latency { scale: Some(0.0), ..Latency::of_chip("RK3588", "W8A8", 7.0) };
        assert!(latency.decode().is_zero() && latency.load().is_zero());
    }
}
