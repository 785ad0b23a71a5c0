//! What a manifest or a Modelfile may say about a model, in one record, and its limits.

use std::path::{Component, Path, PathBuf};

use rkllama_core::{Pooling, Presets, RerankFrame, Sampling};

use crate::{adapter::AdapterSettings, manifest::Kind, vision::VisionSettings};

/// Settings as far as one file states them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Settings {
    /// The weights, relative to the model's folder.
    pub(crate) file: Option<PathBuf>,
    pub(crate) context_tokens_max: Option<u32>,
    pub(crate) tokens_max: Option<u32>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) runtime: Option<String>,
    /// What the model is made for.
    pub(crate) kind: Option<Kind>,
    pub(crate) pooling: Option<Pooling>,
    pub(crate) query_instruction: Option<String>,
    pub(crate) rerank_frame: Option<RerankFrame>,
    pub(crate) aliases: Vec<String>,
    pub(crate) tool_format: Option<String>,
    pub(crate) reasoning_format: Option<String>,
    pub(crate) vision: VisionSettings,
    pub(crate) adapter: Option<AdapterSettings>,
    pub(crate) sampling: Sampling,
    /// The chat template, in Jinja, in place of the tokenizer's own.
    pub(crate) template: Option<String>,
    /// The repository that has the tokenizer.
    pub(crate) base_repository: Option<String>,
    pub(crate) presets: Presets,
    /// Values of other people's files that were mended or skipped.
    pub(crate) warnings: Vec<String>,
    /// What is stated, by Ollama's names and the manifest's keys, each with the file that states it.
    pub(crate) origins: Vec<(String, String)>,
}

impl Settings {
    /// The same, as this file states it.
    pub(crate) fn stated_by(mut self, file: &str) -> Self {
        let Sampling {
            temperature,
            top_p,
            top_k,
            repeat_penalty,
            frequency_penalty,
            presence_penalty,
        } = self.sampling;
        let presets = &self.presets;
        let stated = [
            ("temperature", temperature.is_some()),
            ("top_p", top_p.is_some()),
            ("top_k", top_k.is_some()),
            ("repeat_penalty", repeat_penalty.is_some()),
            ("frequency_penalty", frequency_penalty.is_some()),
            ("presence_penalty", presence_penalty.is_some()),
            ("num_predict", self.tokens_max.is_some()),
            ("num_ctx", self.context_tokens_max.is_some()),
            ("stop", !presets.stop.is_empty()),
            ("system", presets.system.is_some()),
            ("template", self.template.is_some() || presets.go_template.is_some()),
            ("file", self.file.is_some()),
            ("type", self.kind.is_some()),
            ("runtime", self.runtime.is_some()),
            ("memory_mb", self.memory_bytes.is_some()),
            ("keep_alive", presets.keep_alive.is_some()),
            ("aliases", !self.aliases.is_empty()),
            ("tool_format", self.tool_format.is_some()),
            ("reasoning_format", self.reasoning_format.is_some()),
            ("pooling", self.pooling.is_some()),
            ("query_instruction", self.query_instruction.is_some()),
            ("rerank_frame", self.rerank_frame.is_some()),
            ("encoder", self.vision.encoder.is_some()),
            ("pointer_head", self.vision.pointer_head.is_some()),
            ("adapter", self.adapter.is_some()),
            ("parent", presets.parent.is_some()),
            ("source", presets.source.is_some()),
        ];
        let stated = stated.into_iter().filter_map(|(name, is_stated)| is_stated.then_some(name));
        let others = presets.parameters.iter().map(|(name, _)| name.as_str());
        let origin = |name: &str| (name.to_owned(), file.to_owned());
        self.origins = stated.chain(others).map(origin).collect();
        self
    }

    /// Fills what is unset from `lower`.
    pub(crate) fn or(self, lower: Self) -> Self {
        Self {
            file: self.file.or(lower.file),
            context_tokens_max: self.context_tokens_max.or(lower.context_tokens_max),
            tokens_max: self.tokens_max.or(lower.tokens_max),
            memory_bytes: self.memory_bytes.or(lower.memory_bytes),
            runtime: self.runtime.or(lower.runtime),
            kind: self.kind.or(lower.kind),
            pooling: self.pooling.or(lower.pooling),
            query_instruction: self.query_instruction.or(lower.query_instruction),
            rerank_frame: self.rerank_frame.or(lower.rerank_frame),
            aliases: if self.aliases.is_empty() { lower.aliases } else { self.aliases },
            tool_format: self.tool_format.or(lower.tool_format),
            reasoning_format: self.reasoning_format.or(lower.reasoning_format),
            vision: self.vision.or(lower.vision),
            adapter: self.adapter.or(lower.adapter),
            sampling: self.sampling.or(lower.sampling),
            template: self.template.or(lower.template),
            base_repository: self.base_repository.or(lower.base_repository),
            presets: merged(self.presets, lower.presets),
            warnings: [self.warnings, lower.warnings].concat(),
            origins: first_of(self.origins, lower.origins),
        }
    }
}

/// What is named in `upper`, and what is named in `lower` alone.
fn first_of(
    mut upper: Vec<(String, String)>,
    lower: Vec<(String, String)>,
) -> Vec<(String, String)> {
    for (name, value) in lower {
        if upper.iter().all(|(known, _)| *known != name) {
            upper.push((name, value));
        }
    }
    upper
}

/// What is unset in `upper` from `lower`; lists are taken whole.
fn merged(upper: Presets, lower: Presets) -> Presets {
    fn list<T>(upper: Vec<T>, lower: Vec<T>) -> Vec<T> {
        if upper.is_empty() { lower } else { upper }
    }
    Presets {
        system: upper.system.or(lower.system),
        messages: list(upper.messages, lower.messages),
        stop: list(upper.stop, lower.stop),
        keep_alive: upper.keep_alive.or(lower.keep_alive),
        go_template: upper.go_template.or(lower.go_template),
        licenses: list(upper.licenses, lower.licenses),
        parent: upper.parent.or(lower.parent),
        parameters: first_of(upper.parameters, lower.parameters),
        source: upper.source.or(lower.source),
        // Known when all files are read.
        aliases: Vec::new(),
        origins: Vec::new(),
    }
}

/// The runtime takes no longer context.
const CONTEXT_TOKENS_MAX: u32 = 16_384;
/// The runtime wants the context in blocks of this many tokens.
const CONTEXT_TOKENS_STEP: u32 = 32;

/// Megabytes of memory.
pub(crate) fn check_memory(megabytes: u32) -> Result<u32, String> {
    if megabytes == 0 {
        return Err("`memory_mb` must be at least 1".to_owned());
    }
    Ok(megabytes)
}

/// The context nearest to this one that the runtime accepts.
pub(crate) fn nearest_context(tokens: u32) -> u32 {
    let step = CONTEXT_TOKENS_STEP;
    let nearest = tokens.saturating_add(step / 2) / step * step;
    nearest.clamp(step, CONTEXT_TOKENS_MAX)
}

/// A context the runtime accepts, or what is wrong and the nearest one that is right.
pub(crate) fn check_context(tokens: u32) -> Result<u32, String> {
    let nearest = nearest_context(tokens);
    if tokens == nearest {
        return Ok(tokens);
    }
    Err(format!(
        "{tokens} is not a multiple of {CONTEXT_TOKENS_STEP} up to {CONTEXT_TOKENS_MAX}; the \
         nearest is {nearest}"
    ))
}

/// A number of tokens, counted from 1.
pub(crate) fn check_tokens(tokens: u32) -> Result<u32, String> {
    if tokens == 0 { Err("0 tokens would answer nothing".to_owned()) } else { Ok(tokens) }
}

/// Longest side of what an encoder sees, in pixels; more is a mistake.
const SIDE_MAX: u32 = 8192;

/// A width or a height of what an encoder sees.
pub(crate) fn check_side(pixels: u32) -> Result<u32, String> {
    match pixels {
        1..=SIDE_MAX => Ok(pixels),
        _ => Err(format!("{pixels} is not a number of pixels from 1 to {SIDE_MAX}")),
    }
}

/// The sampling parameters that are numbers with a fraction, by the names all formats share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Knob {
    Temperature,
    TopP,
    RepeatPenalty,
    FrequencyPenalty,
    PresencePenalty,
}

impl Knob {
    /// The range OpenAI and the runtime agree on.
    const fn range(self) -> (f32, f32) {
        match self {
            Self::Temperature => (0.0, 2.0),
            Self::TopP => (0.0, 1.0),
            #[expect(clippy::cast_possible_truncation, reason = "the runtime's parameters are f32")]
            Self::RepeatPenalty => {
                (Sampling::REPEAT_PENALTY_MIN as f32, Sampling::REPEAT_PENALTY_MAX as f32)
            }
            Self::FrequencyPenalty | Self::PresencePenalty => (-2.0, 2.0),
        }
    }

    /// Sets the parameter, or says why it cannot be this.
    pub(crate) fn set(self, sampling: &mut Sampling, value: f32) -> Result<(), String> {
        let (least, most) = self.range();
        // Written so that NaN fails too.
        if !(least..=most).contains(&value) {
            return Err(format!("{value} is not a number from {least} to {most}"));
        }
        let field = match self {
            Self::Temperature => &mut sampling.temperature,
            Self::TopP => &mut sampling.top_p,
            Self::RepeatPenalty => &mut sampling.repeat_penalty,
            Self::FrequencyPenalty => &mut sampling.frequency_penalty,
            Self::PresencePenalty => &mut sampling.presence_penalty,
        };
        *field = Some(value);
        Ok(())
    }
}

/// A path that stays inside the model's folder however it is joined.
pub(crate) fn check_inside(path: &str) -> Result<PathBuf, String> {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let inside = !path.contains(['\0', '\\']) && Path::new(path).components().all(plain);
    let names_a_file = Path::new(path).file_name().is_some();
    if inside && names_a_file {
        // Without `./`, so that paths compare.
        Ok(Path::new(path).components().filter(|part| *part != Component::CurDir).collect())
    } else {
        Err(format!("{path:?} is not the name of a file inside the model's folder"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_refused_context_is_told_an_accepted_one(tokens in any::<u32>()) {
            match check_context(tokens) {
                Ok(same) => prop_assert_eq!(same, tokens),
                Err(reason) => {
                    let nearest: u32 = reason.rsplit(' ').next().unwrap().parse().unwrap();
                    prop_assert_eq!(check_context(nearest), Ok(nearest));
                    let distance = tokens.abs_diff(nearest);
                    for other in [nearest.saturating_sub(32), nearest + 32] {
                        prop_assert!(check_context(other).is_err() || tokens.abs_diff(other) >= distance);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_stated_above_wins_key_by_key() {
        let upper = Settings {
            tokens_max: Some(1),
            sampling: Sampling { top_k: Some(1), ..Sampling::default() },
            ..Settings::default()
        };
        let lower = Settings {
            file: Some("a".into()),
            tokens_max: Some(2),
            sampling: Sampling { top_k: Some(2), top_p: Some(0.5), ..Sampling::default() },
            ..Settings::default()
        };
        let merged = upper.or(lower);
        assert_eq!(merged.file, Some("a".into()));
        assert_eq!(merged.tokens_max, Some(1));
        assert_eq!((merged.sampling.top_k, merged.sampling.top_p), (Some(1), Some(0.5)));
    }
}
