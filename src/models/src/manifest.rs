//! `rkllama.toml`: what its owner says about a model.
//!
//! Strict, because a misspelt key that is silently ignored costs an evening: anything unknown or
//! of the wrong type is an error with the line it stands on.

use rkllama_core::Pooling;
use serde::Deserialize;
use toml::Spanned;

use crate::settings::{Knob, Settings, check_context, check_inside, check_memory, check_tokens};

/// The manifest's file name.
pub(crate) const MANIFEST: &str = "rkllama.toml";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Manifest {
    file: Option<Spanned<String>>,
    context_length: Option<Spanned<u32>>,
    max_tokens: Option<Spanned<u32>>,
    memory_mb: Option<Spanned<u32>>,
    runtime: Option<String>,
    pooling: Option<PoolingName>,
    query_instruction: Option<String>,
    aliases: Vec<String>,
    tool_format: Option<String>,
    reasoning_format: Option<String>,
    sampling: SamplingTable,
}

/// The ways that [`Pooling`] knows, as the manifest writes them.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PoolingName {
    Last,
    Mean,
    Cls,
}

impl From<PoolingName> for Pooling {
    fn from(name: PoolingName) -> Self {
        match name {
            PoolingName::Last => Self::Last,
            PoolingName::Mean => Self::Mean,
            PoolingName::Cls => Self::Cls,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SamplingTable {
    temperature: Option<Spanned<f32>>,
    top_p: Option<Spanned<f32>>,
    top_k: Option<u32>,
    repeat_penalty: Option<Spanned<f32>>,
    frequency_penalty: Option<Spanned<f32>>,
    presence_penalty: Option<Spanned<f32>>,
}

/// Parses a manifest; the error names the line and shows what stands there.
pub(crate) fn parse(text: &str) -> Result<Settings, String> {
    let manifest: Manifest = toml::from_str(text).map_err(|err| {
        let at = err.span().map_or(0, |span| span.start);
        error_at(text, at, err.message())
    })?;
    let checked =
        |reason: Result<_, String>, at: usize| reason.map_err(|reason| error_at(text, at, &reason));
    let mut settings = Settings {
        runtime: manifest.runtime,
        pooling: manifest.pooling.map(Pooling::from),
        query_instruction: manifest.query_instruction,
        aliases: manifest.aliases,
        tool_format: manifest.tool_format,
        reasoning_format: manifest.reasoning_format,
        ..Settings::default()
    };
    if let Some(file) = manifest.file {
        let inside = check_inside(file.get_ref());
        settings.file = Some(inside.map_err(|reason| error_at(text, file.span().start, &reason))?);
    }
    if let Some(tokens) = manifest.context_length {
        let at = tokens.span().start;
        settings.context_tokens_max = Some(checked(check_context(tokens.into_inner()), at)?);
    }
    if let Some(tokens) = manifest.max_tokens {
        let at = tokens.span().start;
        settings.tokens_max = Some(checked(check_tokens(tokens.into_inner()), at)?);
    }
    if let Some(megabytes) = manifest.memory_mb {
        let at = megabytes.span().start;
        let megabytes = checked(check_memory(megabytes.into_inner()), at)?;
        settings.memory_bytes = Some(u64::from(megabytes) * 1_000_000);
    }
    let table = manifest.sampling;
    settings.sampling.top_k = table.top_k;
    for (knob, value) in [
        (Knob::Temperature, table.temperature),
        (Knob::TopP, table.top_p),
        (Knob::RepeatPenalty, table.repeat_penalty),
        (Knob::FrequencyPenalty, table.frequency_penalty),
        (Knob::PresencePenalty, table.presence_penalty),
    ] {
        if let Some(value) = value {
            let at = value.span().start;
            let set = knob.set(&mut settings.sampling, value.into_inner());
            set.map_err(|reason| error_at(text, at, &reason))?;
        }
    }
    Ok(settings)
}

/// `rkllama.toml line 3 (top_k = "many"): …`: the line's text shows key and value at once.
fn error_at(text: &str, at: usize, reason: &str) -> String {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    let newlines = before.iter().filter(|byte| **byte == b'\n').count();
    let line = text.lines().nth(newlines).unwrap_or_default().trim();
    let reason = reason.trim_end();
    format!("{MANIFEST} line {} ({line}): {reason}", newlines + 1)
}

#[cfg(test)]
mod tests {
    use rkllama_core::Sampling;
    use rstest::rstest;

    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = "file = 'a.rkllm'\ncontext_length = 8192\nmax_tokens = 512\nmemory_mb = 2000\nruntime = '1.2.3'\npooling = 'mean'\nquery_instruction = 'Find it'\n\
            aliases = ['a', 'b']\ntool_format = 'hermes'\nreasoning_format = 'think'\n[sampling]\ntemperature = 0.6\ntop_p = 1\ntop_k = 20\n\
            repeat_penalty = 1.05\nfrequency_penalty = -0.5\npresence_penalty = 1.5\n";
        let expected = Settings {
            file: Some("a.rkllm".into()),
            context_tokens_max: Some(8192),
            tokens_max: Some(512),
            memory_bytes: Some(2_000_000_000),
            runtime: Some("1.2.3".to_owned()),
            pooling: Some(Pooling::Mean),
            query_instruction: Some("Find it".to_owned()),
            aliases: vec!["a".to_owned(), "b".to_owned()],
            tool_format: Some("hermes".to_owned()),
            reasoning_format: Some("think".to_owned()),
            sampling: Sampling {
                temperature: Some(0.6),
                top_p: Some(1.0),
                top_k: Some(20),
                repeat_penalty: Some(1.05),
                frequency_penalty: Some(-0.5),
                presence_penalty: Some(1.5),
            },
            warnings: Vec::new(),
        };
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("").unwrap(), Settings::default());
    }

    #[rstest]
    #[case::unknown("unknown", "file = 'a.rkllm'\ncontext = 4096\n")]
    #[case::unknown_sampling("unknown_sampling", "[sampling]\ntop_k = 1\n\nmin_p = 0.1\n")]
    #[case::wrong_type("wrong_type", "\n\ncontext_length = '4096'\n")]
    #[case::negative("negative", "max_tokens = -1")]
    #[case::fraction("fraction", "[sampling]\ntop_k = 1.5")]
    #[case::aliases("aliases", "aliases = 'a'")]
    #[case::syntax("syntax", "file = a.rkllm")]
    #[case::twice("twice", "file = 'a'\nfile = 'b'")]
    #[case::temperature("temperature", "[sampling]\ntemperature = 2.5")]
    #[case::nan("nan", "[sampling]\ntop_p = nan")]
    #[case::context("context", "context_length = 5000")]
    #[case::context_large("context_large", "context_length = 40960")]
    #[case::context_zero("context_zero", "context_length = 0")]
    #[case::tokens("tokens", "max_tokens = 0")]
    #[case::pooling("pooling", "pooling = 'first'")]
    #[case::parent("parent", "file = '../a.rkllm'")]
    fn a_bad_manifest_is_named_with_line_and_key(#[case] name: &str, #[case] text: &str) {
        insta::assert_snapshot!(format!("manifest_{name}"), parse(text).unwrap_err());
    }
}
