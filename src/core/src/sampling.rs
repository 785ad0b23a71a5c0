//! How the next token is chosen.

/// Sampling parameters as far as somebody stated them; `None` means "whoever comes next decides".
///
/// Layers are merged with [`Sampling::or`]: request, then manifest, then the model's
/// `generation_config.json`, then [`Sampling::FALLBACK`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sampling {
    /// Softmax temperature, 0 to 2; 0 is greedy.
    pub temperature: Option<f32>,
    /// Nucleus mass, 0 to 1.
    pub top_p: Option<f32>,
    /// Number of most likely tokens to choose from; `None` leaves the runtime's own (40).
    pub top_k: Option<u32>,
    /// Multiplicative penalty on tokens already present; 1 is off.
    pub repeat_penalty: Option<f32>,
    /// Additive penalty per earlier occurrence, -2 to 2; 0 is off.
    pub frequency_penalty: Option<f32>,
    /// Additive penalty for having occurred at all, -2 to 2; 0 is off.
    pub presence_penalty: Option<f32>,
}

impl Sampling {
    /// The smallest `repeat_penalty`: below 1 it rewards repetition, and 0 would divide by nothing.
    pub const REPEAT_PENALTY_MIN: f64 = 0.01;
    /// The largest `repeat_penalty`: beyond 2 no token comes twice, and a score stays finite.
    pub const REPEAT_PENALTY_MAX: f64 = 10.0;

    /// What applies where nobody said anything.
    pub const FALLBACK: Self = Self {
        temperature: Some(1.0),
        top_p: Some(1.0),
        top_k: None,
        repeat_penalty: Some(1.0),
        frequency_penalty: Some(0.0),
        presence_penalty: Some(0.0),
    };

    /// Fills what is unset from `lower`.
    #[must_use]
    pub fn or(self, lower: Self) -> Self {
        Self {
            temperature: self.temperature.or(lower.temperature),
            top_p: self.top_p.or(lower.top_p),
            top_k: self.top_k.or(lower.top_k),
            repeat_penalty: self.repeat_penalty.or(lower.repeat_penalty),
            frequency_penalty: self.frequency_penalty.or(lower.frequency_penalty),
            presence_penalty: self.presence_penalty.or(lower.presence_penalty),
        }
    }

    /// The names of the parameters that are set here and differ from `other`.
    ///
    /// Used where a runtime fixes its sampling at load: what the request asked for in vain is
    /// named, never dropped in silence.
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        let mut names = Vec::new();
        let mut compare = |name, mine: Option<f32>, theirs: Option<f32>| {
            if mine.is_some() && mine != theirs {
                names.push(name);
            }
        };
        compare("temperature", self.temperature, other.temperature);
        compare("top_p", self.top_p, other.top_p);
        compare("repeat_penalty", self.repeat_penalty, other.repeat_penalty);
        compare("frequency_penalty", self.frequency_penalty, other.frequency_penalty);
        compare("presence_penalty", self.presence_penalty, other.presence_penalty);
        if self.top_k.is_some() && self.top_k != other.top_k {
            names.push("top_k");
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_layer_wins_and_gaps_are_filled() {
        let request = Sampling { temperature: Some(0.0), ..Sampling::default() };
        let model = Sampling { temperature: Some(0.7), top_k: Some(20), ..Sampling::default() };
        let merged = request.or(model).or(Sampling::FALLBACK);
        assert_eq!(merged.temperature, Some(0.0));
        assert_eq!(merged.top_k, Some(20));
        assert_eq!(merged.top_p, Some(1.0));
    }

    #[test]
    fn only_stated_differences_are_named() {
        let loaded = Sampling { top_k: Some(20), ..Sampling::FALLBACK };
        let asked = Sampling { temperature: Some(0.2), top_p: Some(1.0), ..Sampling::default() };
        assert_eq!(asked.differing(&loaded), ["temperature"]);
        assert_eq!(Sampling::default().differing(&loaded), [""; 0]);
    }
}
