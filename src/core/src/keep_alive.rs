//! How long a model stays loaded when nobody uses it.

use std::{str::FromStr, time::Duration};

/// Longest time that is told apart from "for ever": a hundred years.
const FOREVER_S: f64 = 100.0 * 365.0 * 86_400.0;

/// How long a model stays loaded after its last use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// This long; zero unloads it at once.
    For(Duration),
    /// Until it is unloaded or has to make room.
    Forever,
}

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no length of time: use seconds, or a text such as \"5m\", \"1h30m\", \"0\", \"-1\""
)]
pub struct InvalidKeepAlive(String);

impl KeepAlive {
    /// From seconds; a negative number means for ever.
    ///
    /// # Errors
    /// [`InvalidKeepAlive`] for what is no number.
    pub fn from_seconds(seconds: f64) -> Result<Self, InvalidKeepAlive> {
        if seconds.is_nan() {
            return Err(InvalidKeepAlive(seconds.to_string()));
        }
        if !(0.0..=FOREVER_S).contains(&seconds) {
            return Ok(Self::Forever);
        }
        Ok(Self::For(Duration::from_secs_f64(seconds)))
    }
}

/// As Ollama's clients write it: `"300"`, `"5m"`, `"1h30m"`, `"-1s"`.
impl FromStr for KeepAlive {
    type Err = InvalidKeepAlive;

    fn from_str(text: &str) -> Result<Self, InvalidKeepAlive> {
        let invalid = || InvalidKeepAlive(text.to_owned());
        if let Ok(seconds) = text.parse::<f64>() {
            return Self::from_seconds(seconds).map_err(|_| invalid());
        }
        let (sign, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (-1.0, rest),
            None => (1.0, text.strip_prefix('+').unwrap_or(text)),
        };
        let mut seconds = 0.0;
        if rest.is_empty() {
            return Err(invalid());
        }
        while !rest.is_empty() {
            let number_len =
                rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
            let number: f64 = rest[..number_len].parse().map_err(|_| invalid())?;
            rest = &rest[number_len..];
            let unit_len =
                rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            seconds += number * unit_seconds(&rest[..unit_len]).ok_or_else(invalid)?;
            rest = &rest[unit_len..];
        }
        Self::from_seconds(sign * seconds).map_err(|_| invalid())
    }
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_clients_write_them() {
        for (text, millis) in
            [("5m", 300_000), ("1h30m", 5_400_000), ("0", 0), ("1.5s", 1500), ("250ms", 250)]
        {
            let expected = KeepAlive::For(Duration::from_millis(millis));
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["-1", "-1s", "-5m", "9999999h"] {
            assert_eq!(text.parse(), Ok(KeepAlive::Forever), "{text}");
        }
        for text in ["", "-", "five", "5 m", "5x", "m", "1..5s", "NaN"] {
            assert!(text.parse::<KeepAlive>().is_err(), "{text}");
        }
    }
}
