//! `rkllama.toml`: what its owner says about a model.
//!
//! Strict, because a misspelt key that is silently ignored costs an evening: anything unknown or
//! of the wrong type is an error with the line it stands on.

use std::path::PathBuf;

use rkllama_core::{KeepAlive, Message, Normalise, Pooling, Presets, RerankFrame, Role, Source};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::{
    adapter::{AdapterSettings, SCALE_DEFAULT, check_scale},
    settings::{
        Knob, Settings, check_context, check_inside, check_memory, check_side, check_tokens,
    },
    vision::VisionSettings,
};

/// The manifest's file name.
pub(crate) const MANIFEST: &str = "rkllama.toml";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Manifest {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<Spanned<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<Spanned<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<Spanned<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_mb: Option<Spanned<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pooling: Option<PoolingName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_instruction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rerank_frame: Option<FrameName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_format: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_format: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive: Option<Spanned<KeepAliveText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    go_template: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(skip_serializing_if = "SamplingTable::is_empty")]
    sampling: SamplingTable,
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    parameters: toml::Table,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SourceTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vision: Option<Spanned<VisionTable>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<AdapterTable>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<MessageTable>,
}

/// What changes the weights.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdapterTable {
    file: Spanned<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<Spanned<f32>>,
}

/// How the model sees.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct VisionTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    encoder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer_head: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fill: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean: Option<[f32; 3]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    std: Option<[f32; 3]>,
}

impl VisionTable {
    fn read(self) -> Result<VisionSettings, String> {
        let inside = |path: Option<String>| path.map(|path| check_inside(&path)).transpose();
        let normalise = match (self.mean, self.std) {
            (None, None) => None,
            (Some(mean), Some(std)) if std.iter().all(|it| *it > 0.0) => {
                Some(Normalise { mean, std })
            }
            _ => return Err("`mean` and `std` belong together, and `std` is positive".to_owned()),
        };
        Ok(VisionSettings {
            encoder: inside(self.encoder)?,
            pointer_head: inside(self.pointer_head)?,
            start: self.image_start,
            end: self.image_end,
            content: self.image_content,
            fill: self.fill,
            normalise,
            image_tokens: self.image_tokens.map(check_tokens).transpose()?,
            width: self.image_width.map(check_side).transpose()?,
            height: self.image_height.map(check_side).transpose()?,
        })
    }

    /// A table that says the same; none where there is nothing to say.
    fn of(vision: &VisionSettings) -> Option<Spanned<Self>> {
        let path = |path: &Option<PathBuf>| {
            path.as_deref().and_then(|path| path.to_str()).map(str::to_owned)
        };
        let table = Self {
            encoder: path(&vision.encoder),
            pointer_head: path(&vision.pointer_head),
            image_start: vision.start.clone(),
            image_end: vision.end.clone(),
            image_content: vision.content.clone(),
            image_tokens: vision.image_tokens,
            image_width: vision.width,
            image_height: vision.height,
            fill: vision.fill,
            mean: vision.normalise.map(|it| it.mean),
            std: vision.normalise.map(|it| it.std),
        };
        (table != Self::default()).then(|| Spanned::new(0..0, table))
    }
}

/// Seconds, or a text such as `5m`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum KeepAliveText {
    Seconds(f64),
    Text(String),
}

impl KeepAliveText {
    fn of(keep_alive: KeepAlive) -> Self {
        match keep_alive {
            KeepAlive::For(time) => Self::Seconds(time.as_secs_f64()),
            KeepAlive::Forever => Self::Seconds(-1.0),
        }
    }

    fn read(&self) -> Result<KeepAlive, String> {
        let read = match self {
            Self::Seconds(seconds) => KeepAlive::from_seconds(*seconds),
            Self::Text(text) => text.parse(),
        };
        read.map_err(|error| error.to_string())
    }
}

/// Where the model was pulled from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceTable {
    repository: String,
    revision: String,
    file: String,
}

/// A turn in front of every conversation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageTable {
    role: Role,
    content: String,
}

/// What a model is made for, as the manifest writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// To answer.
    Chat,
    /// To read texts into vectors.
    Embed,
    /// To compare documents with queries.
    Rerank,
}

/// The ways that [`Pooling`] knows, as the manifest writes them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
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

impl From<Pooling> for PoolingName {
    fn from(pooling: Pooling) -> Self {
        match pooling {
            Pooling::Last => Self::Last,
            Pooling::Mean => Self::Mean,
            Pooling::Cls => Self::Cls,
        }
    }
}

/// The frames that [`RerankFrame`] knows, as the manifest writes them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FrameName {
    Qwen3,
    Bare,
}

impl From<FrameName> for RerankFrame {
    fn from(name: FrameName) -> Self {
        match name {
            FrameName::Qwen3 => Self::Qwen3,
            FrameName::Bare => Self::Bare,
        }
    }
}

impl From<RerankFrame> for FrameName {
    fn from(frame: RerankFrame) -> Self {
        match frame {
            RerankFrame::Qwen3 => Self::Qwen3,
            RerankFrame::Bare => Self::Bare,
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SamplingTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<Spanned<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<Spanned<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat_penalty: Option<Spanned<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<Spanned<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<Spanned<f32>>,
}

impl SamplingTable {
    fn is_empty(&self) -> bool {
        let Self { temperature, top_p, top_k, repeat_penalty, frequency_penalty, presence_penalty } =
            self;
        let decimals = [temperature, top_p, repeat_penalty, frequency_penalty, presence_penalty];
        top_k.is_none() && decimals.iter().all(|decimal| decimal.is_none())
    }
}

/// Parses a manifest; the error names the line and shows what stands there.
pub(crate) fn parse(text: &str) -> Result<Settings, String> {
    let manifest: Manifest = toml::from_str(text).map_err(|err| {
        let at = err.span().map_or(0, |span| span.start);
        error_at(text, at, err.message())
    })?;
    fn checked<T>(text: &str, at: usize, value: Result<T, String>) -> Result<T, String> {
        value.map_err(|reason| error_at(text, at, &reason))
    }
    let mut settings = Settings {
        runtime: manifest.runtime,
        kind: manifest.kind,
        pooling: manifest.pooling.map(Pooling::from),
        query_instruction: manifest.query_instruction,
        rerank_frame: manifest.rerank_frame.map(RerankFrame::from),
        aliases: manifest.aliases,
        tool_format: manifest.tool_format,
        reasoning_format: manifest.reasoning_format,
        template: manifest.template,
        presets: Presets {
            system: manifest.system,
            messages: manifest.messages.into_iter().map(Message::from).collect(),
            stop: manifest.stop,
            keep_alive: None,
            go_template: manifest.go_template,
            licenses: manifest.licenses,
            parent: manifest.parent,
            parameters: manifest.parameters.iter().map(as_json).collect(),
            source: manifest.source.map(Source::from),
            aliases: Vec::new(),
            origins: Vec::new(),
        },
        ..Settings::default()
    };
    if let Some(keep_alive) = manifest.keep_alive {
        let read = keep_alive.get_ref().read();
        settings.presets.keep_alive = Some(checked(text, keep_alive.span().start, read)?);
    }
    if let Some(file) = manifest.file {
        let inside = check_inside(file.get_ref());
        settings.file = Some(inside.map_err(|reason| error_at(text, file.span().start, &reason))?);
    }
    if let Some(tokens) = manifest.context_length {
        let at = tokens.span().start;
        settings.context_tokens_max = Some(checked(text, at, check_context(tokens.into_inner()))?);
    }
    if let Some(tokens) = manifest.max_tokens {
        let at = tokens.span().start;
        settings.tokens_max = Some(checked(text, at, check_tokens(tokens.into_inner()))?);
    }
    if let Some(megabytes) = manifest.memory_mb {
        let at = megabytes.span().start;
        let megabytes = checked(text, at, check_memory(megabytes.into_inner()))?;
        settings.memory_bytes = Some(u64::from(megabytes) * 1_000_000);
    }
    if let Some(vision) = manifest.vision {
        let at = vision.span().start;
        settings.vision = checked(text, at, vision.into_inner().read())?;
    }
    if let Some(AdapterTable { file, scale }) = manifest.adapter {
        let inside = checked(text, file.span().start, check_inside(file.get_ref()))?;
        let scale = match scale {
            Some(scale) => checked(text, scale.span().start, check_scale(*scale.get_ref()))?,
            None => SCALE_DEFAULT,
        };
        settings.adapter = Some(AdapterSettings { file: inside, scale });
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

impl From<MessageTable> for Message {
    fn from(table: MessageTable) -> Self {
        Self::new(table.role, table.content)
    }
}

impl From<SourceTable> for Source {
    fn from(table: SourceTable) -> Self {
        let SourceTable { repository, revision, file } = table;
        Self { repository, revision, file }
    }
}

/// A parameter as JSON text.
fn as_json((name, value): (&String, &toml::Value)) -> (String, String) {
    // What TOML knows and JSON does not becomes a text.
    (
        name.clone(),
        serde_json::to_string(value).unwrap_or_else(|_| format!("{:?}", value.to_string())),
    )
}

/// Writes a manifest that says the same.
pub(crate) fn print(settings: &Settings) -> Result<String, String> {
    fn spanned<T>(value: T) -> Spanned<T> {
        Spanned::new(0..0, value)
    }
    let presets = &settings.presets;
    let sampling = &settings.sampling;
    let file = settings.file.as_deref().and_then(|file| file.to_str()).map(str::to_owned);
    let megabytes = settings.memory_bytes.and_then(|bytes| u32::try_from(bytes / 1_000_000).ok());
    let message =
        |message: &Message| MessageTable { role: message.role, content: message.content.clone() };
    let source = presets.source.as_ref().map(|source| SourceTable {
        repository: source.repository.clone(),
        revision: source.revision.clone(),
        file: source.file.clone(),
    });
    let adapter = settings.adapter.as_ref().and_then(|AdapterSettings { file, scale }| {
        let scale = (*scale != SCALE_DEFAULT).then_some(*scale).map(spanned);
        Some(AdapterTable { file: spanned(file.to_str()?.to_owned()), scale })
    });
    let manifest = Manifest {
        file: file.map(spanned),
        context_length: settings.context_tokens_max.map(spanned),
        max_tokens: settings.tokens_max.map(spanned),
        memory_mb: megabytes.map(spanned),
        runtime: settings.runtime.clone(),
        kind: settings.kind,
        pooling: settings.pooling.map(PoolingName::from),
        query_instruction: settings.query_instruction.clone(),
        rerank_frame: settings.rerank_frame.map(FrameName::from),
        aliases: settings.aliases.clone(),
        tool_format: settings.tool_format.clone(),
        reasoning_format: settings.reasoning_format.clone(),
        keep_alive: presets.keep_alive.map(KeepAliveText::of).map(spanned),
        system: presets.system.clone(),
        template: settings.template.clone(),
        go_template: presets.go_template.clone(),
        stop: presets.stop.clone(),
        licenses: presets.licenses.clone(),
        parent: presets.parent.clone(),
        sampling: SamplingTable {
            temperature: sampling.temperature.map(spanned),
            top_p: sampling.top_p.map(spanned),
            top_k: sampling.top_k,
            repeat_penalty: sampling.repeat_penalty.map(spanned),
            frequency_penalty: sampling.frequency_penalty.map(spanned),
            presence_penalty: sampling.presence_penalty.map(spanned),
        },
        parameters: presets.parameters.iter().filter_map(as_toml).collect(),
        source,
        vision: VisionTable::of(&settings.vision),
        adapter,
        messages: presets.messages.iter().map(message).collect(),
    };
    toml::to_string_pretty(&manifest).map_err(|error| error.to_string())
}

/// A parameter as TOML has it; `null` says nothing.
fn as_toml((name, json): &(String, String)) -> Option<(String, toml::Value)> {
    let value: serde_json::Value =
        serde_json::from_str(json).ok().filter(|it| *it != serde_json::Value::Null)?;
    // What JSON knows and TOML does not, such as numbers of 64 bits, becomes a text.
    Some((name.clone(), toml::Value::try_from(value).unwrap_or_else(|_| json.clone().into())))
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
        let text = "file = 'a.rkllm'\ncontext_length = 8192\nmax_tokens = 512\nmemory_mb = 2000\nruntime = '1.2.3'\ntype = 'embed'\npooling = 'mean'\nquery_instruction = 'Find it'\nrerank_frame = 'bare'\n\
            aliases = ['a', 'b']\ntool_format = 'hermes'\nreasoning_format = 'think'\nkeep_alive = '10m'\n\
            system = 'Be brief.'\ntemplate = '{{ messages }}'\ngo_template = '{{ .Prompt }}'\nstop = ['END']\nlicenses = ['MIT']\nparent = 'b'\n\
            [parameters]\nnum_keep = 5\nseed = 1.5\n[source]\nrepository = 'org/repo'\nrevision = 'c0ffee'\nfile = 'a/b.rkllm'\n\
            [[messages]]\nrole = 'user'\ncontent = 'Hi'\n[[messages]]\nrole = 'assistant'\ncontent = 'Yo'\n[sampling]\ntemperature = 0.6\ntop_p = 1\ntop_k = 20\n\
            repeat_penalty = 1.05\nfrequency_penalty = -0.5\npresence_penalty = 1.5\n\
            [vision]\nencoder = 'eye.rknn'\npointer_head = './head.rknn'\nimage_start = '<s>'\nimage_end = ''\nimage_content = '<c>'\n\
            fill = 127\nmean = [0.5, 0.5, 0.5]\nstd = [0.25, 0.5, 1]\nimage_tokens = 196\nimage_width = 392\nimage_height = 336\n\
            [adapter]\nfile = './lora.rkllm'\nscale = 0.5\n";
        let expected = Settings {
            file: Some("a.rkllm".into()),
            context_tokens_max: Some(8192),
            tokens_max: Some(512),
            memory_bytes: Some(2_000_000_000),
            runtime: Some("1.2.3".to_owned()),
            kind: Some(Kind::Embed),
            pooling: Some(Pooling::Mean),
            query_instruction: Some("Find it".to_owned()),
            rerank_frame: Some(RerankFrame::Bare),
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
            template: Some("{{ messages }}".to_owned()),
            base_repository: None,
            vision: VisionSettings {
                encoder: Some("eye.rknn".into()),
                pointer_head: Some("head.rknn".into()),
                start: Some("<s>".to_owned()),
                end: Some(String::new()),
                content: Some("<c>".to_owned()),
                fill: Some(127),
                normalise: Some(Normalise { mean: [0.5; 3], std: [0.25, 0.5, 1.0] }),
                image_tokens: Some(196),
                width: Some(392),
                height: Some(336),
            },
            adapter: Some(AdapterSettings { file: "lora.rkllm".into(), scale: 0.5 }),
            presets: Presets {
                system: Some("Be brief.".to_owned()),
                messages: vec![Message::new(Role::User, "Hi"), Message::new(Role::Assistant, "Yo")],
                stop: vec!["END".to_owned()],
                keep_alive: Some(KeepAlive::For(std::time::Duration::from_secs(600))),
                go_template: Some("{{ .Prompt }}".to_owned()),
                licenses: vec!["MIT".to_owned()],
                parent: Some("b".to_owned()),
                parameters: vec![
                    ("num_keep".to_owned(), "5".to_owned()),
                    ("seed".to_owned(), "1.5".to_owned()),
                ],
                source: Some(Source {
                    repository: "org/repo".to_owned(),
                    revision: "c0ffee".to_owned(),
                    file: "a/b.rkllm".to_owned(),
                }),
                aliases: Vec::new(),
                origins: Vec::new(),
            },
            warnings: Vec::new(),
            origins: Vec::new(),
        };
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse(&print(&expected).unwrap()).unwrap(), expected);
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
    #[case::adapter("adapter", "[adapter]\nfile = '../lora.rkllm'")]
    #[case::adapter_without_file("adapter_without_file", "[adapter]\nscale = 2")]
    #[case::scale("scale", "[adapter]\nfile = 'lora.rkllm'\nscale = 0")]
    #[case::side("side", "[vision]\nimage_height = 8193")]
    #[case::kind("type", "type = 'image'")]
    #[case::pooling("pooling", "pooling = 'first'")]
    #[case::parent("parent", "file = '../a.rkllm'")]
    #[case::keep_alive("keep_alive", "keep_alive = 'soon'")]
    #[case::role("role", "[[messages]]\nrole = 'boss'\ncontent = ''")]
    fn a_bad_manifest_is_named_with_line_and_key(#[case] name: &str, #[case] text: &str) {
        insta::assert_snapshot!(format!("manifest_{name}"), parse(text).unwrap_err());
    }
}
