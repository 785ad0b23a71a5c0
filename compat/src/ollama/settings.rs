//! What counts for a model, by the manifest's keys: each value with the place that says it.

use std::{path::Path, time::Duration};

use poem_openapi::Object;
use rkllama_core::{
    KeepAlive, Model, ModelTraits, Pooling, RerankFrame, chip_in_name, toolkit_in_name,
};
use serde::Serialize;

/// Where a value comes from that no file states.
const NAME: &str = "the file's name";
const FOLDER: &str = "the folder";
const TEMPLATE: &str = "the template";

/// A value that counts for a model.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
#[oai(rename = "OllamaSetting", skip_serializing_if_is_none)]
pub struct Setting {
    /// The manifest's key, or `toolkit` and `platform`, which only the file can say.
    pub name: String,
    /// Its value in words.
    pub value: String,
    /// The file that says it, or what it was read off; absent where it is this server's own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// All that counts, in the order in which it is shown.
pub(super) fn settings(model: &Model, traits: &ModelTraits) -> Vec<Setting> {
    let presets = &model.presets;
    let answers = model.pooling.is_none() && model.reranks.is_none();
    let format = |format: &str| (answers && !format.is_empty()).then(|| format.to_owned());
    let vision = model.vision.as_ref();
    let head = vision.and_then(|it| it.pointer_head.as_ref());
    let rows = [
        ("file", file_name(&model.weights), Some(FOLDER)),
        ("toolkit", toolkit_in_name(&model.weights), Some(NAME)),
        ("platform", chip_in_name(&model.weights).map(str::to_owned), Some(NAME)),
        ("type", Some(kind(model).to_owned()), None),
        ("runtime", model.runtime.clone(), None),
        ("memory_mb", model.memory_bytes.map(|bytes| (bytes / 1_000_000).to_string()), None),
        ("keep_alive", presets.keep_alive.map(length), None),
        ("aliases", joined(&presets.aliases), None),
        ("tool_format", format(&traits.tool_format), Some(TEMPLATE)),
        ("reasoning_format", format(&traits.reasoning_format), Some(TEMPLATE)),
        ("pooling", model.pooling.map(|pooling| pooled(pooling).to_owned()), None),
        ("query_instruction", model.query_instruction.clone(), None),
        ("rerank_frame", model.reranks.map(|frame| framed(frame).to_owned()), None),
        ("encoder", vision.and_then(|it| file_name(&it.encoder)), Some(FOLDER)),
        ("pointer_head", head.and_then(|it| file_name(&it.file)), None),
        ("adapter", adapter(model), None),
        ("parent", presets.parent.clone(), None),
        (
            "source",
            presets.source.as_ref().map(|it| format!("{}/{}", it.repository, it.file)),
            None,
        ),
    ];
    let stated = |name: &str| {
        let origin = presets.origins.iter().find(|(known, _)| known == name);
        origin.map(|(_, file)| file.clone())
    };
    let rows = rows.into_iter().filter_map(|(name, value, read_off)| {
        let origin = stated(name).or_else(|| read_off.map(str::to_owned));
        Some(Setting { name: name.to_owned(), value: value?, origin })
    });
    rows.collect()
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

const fn kind(model: &Model) -> &'static str {
    match (model.reranks, model.pooling) {
        (Some(_), _) => "rerank",
        (None, Some(_)) => "embed",
        (None, None) => "chat",
    }
}

const fn pooled(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::Last => "last",
        Pooling::Mean => "mean",
        Pooling::Cls => "cls",
    }
}

const fn framed(frame: RerankFrame) -> &'static str {
    match frame {
        RerankFrame::Qwen3 => "qwen3",
        RerankFrame::Bare => "bare",
    }
}

fn length(keep_alive: KeepAlive) -> String {
    match keep_alive {
        KeepAlive::Forever => "for ever".to_owned(),
        KeepAlive::For(Duration::ZERO) => "0".to_owned(),
        KeepAlive::For(time) => format!("{} s", time.as_secs_f64()),
    }
}

fn joined(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(", "))
}

/// The adapter's file, and its scale where that is not 1.
fn adapter(model: &Model) -> Option<String> {
    let adapter = model.adapter.as_ref()?;
    let file = file_name(&adapter.file)?;
    let is_plain = (adapter.scale - 1.0).abs() < f32::EPSILON;
    Some(if is_plain { file } else { format!("{file} (scale {})", adapter.scale) })
}
