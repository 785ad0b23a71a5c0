//! One folder as a model: what lies in it, what its files say, what is missing.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use rkllama_core::{Model, ModelState, Pooling, Presets, TextFiles, Vision};

use crate::{
    adapter::adapter,
    files::{
        CONFIG_BYTES_MAX, TOKENIZER_BYTES_MAX, Unreadable, WEIGHTS_EXTENSION, read, read_text,
    },
    fingerprint::Fingerprint,
    generation_config::{self, GENERATION_CONFIG},
    manifest::{self, Kind, MANIFEST},
    modelfile::{self, MODELFILE},
    settings::Settings,
    store::Defaults,
    vision,
};

pub(crate) const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The architecture, in `transformers`' words.
pub(crate) const CONFIG: &str = "config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// The files about text and nothing else.
pub(crate) const TEXT_FILES: [&str; 3] = [TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE];

/// A folder that is a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Folder {
    pub(crate) model: Arc<Model>,
    pub(crate) aliases: Vec<String>,
    /// The chat template, where the manifest has one.
    pub(crate) template: Option<String>,
    /// That of its family, for where its files have none.
    pub(crate) family_template: Option<&'static str>,
    pub(crate) tool_format: Option<String>,
    pub(crate) reasoning_format: Option<String>,
    pub(crate) path: PathBuf,
    /// Weights and adapter where they are named.
    pub(crate) named: Vec<PathBuf>,
    /// The files as they were when this was read.
    pub(crate) fingerprint: Fingerprint,
}

impl Folder {
    /// Looks into a folder. `None` if nothing in it makes it a model. `loose` are weights that lie
    /// beside it and are its own unless it holds others; it need not exist then.
    pub(crate) fn scan(
        path: &Path,
        loose: Option<PathBuf>,
        id: String,
        defaults: &Defaults,
    ) -> Option<Self> {
        // Before anything is read: what changes meanwhile is then found to have changed.
        let fingerprint = Fingerprint::of(path);
        let mut faults = Vec::new();
        let mut weights = match weights_in(path) {
            Ok(weights) => weights,
            Err(_) if loose.is_some() && !path.exists() => Vec::new(),
            Err(err) => {
                faults.push(err.to_string());
                Vec::new()
            }
        };
        let described = [MANIFEST, MODELFILE].iter().any(|name| path.join(name).exists());
        if weights.is_empty() && loose.is_none() && !described && faults.is_empty() {
            return None;
        }
        let settings = settings(path, &mut faults);
        for warning in &settings.warnings {
            tracing::warn!(model = id, "{warning}");
        }
        // What is named for something else is no model.
        let stated_adapter = settings.adapter.as_ref();
        weights.retain(|name| stated_adapter.is_none_or(|it| it.file != Path::new(name)));
        let loose = loose.filter(|_| weights.is_empty());
        weights.extend(loose.as_deref().and_then(Path::to_str).map(str::to_owned));
        let named = settings.file.as_deref().map(|file| path.join(file)).or(loose);
        let named: Vec<PathBuf> =
            named.into_iter().chain(stated_adapter.map(|it| path.join(&it.file))).collect();
        let fingerprint = fingerprint.and(named.clone());
        let weights = choose(path, weights, settings.file.as_deref(), &mut faults);
        let adapter = adapter(path, stated_adapter, weights.as_deref()).unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        if let Some(fault) = tokenizer_fault(path) {
            faults.push(fault);
        }
        let state = match faults.is_empty() {
            true => ModelState::Ready,
            false => ModelState::Incomplete(faults.join("; ")),
        };
        let names = names_of(&id, weights.as_deref());
        let vision = vision_of(path, &settings, &id, &names);
        let family_template = vision.as_ref().and_then(|_| vision::template(&names));
        let kind = settings.kind.unwrap_or_else(|| kind_of(&id, weights.as_deref()));
        let model = Model {
            id,
            created_s: weights.as_deref().map_or(0, modified_s),
            weights_bytes: weights.as_deref().map_or(0, size_bytes),
            memory_bytes: settings.memory_bytes,
            weights: weights.unwrap_or_default(),
            context_tokens_max: settings.context_tokens_max.unwrap_or(defaults.context_tokens_max),
            sampling: settings.sampling,
            tokens_max: settings.tokens_max,
            runtime: settings.runtime,
            pooling: settings.pooling.or((kind == Kind::Embed).then(Pooling::default)),
            reranks: (kind == Kind::Rerank).then(|| settings.rerank_frame.unwrap_or_default()),
            query_instruction: settings.query_instruction,
            vision,
            adapter,
            presets: Presets {
                aliases: settings.aliases.clone(),
                origins: settings.origins,
                ..settings.presets
            },
            state,
        };
        Some(Self {
            model: Arc::new(model),
            aliases: settings.aliases,
            template: settings.template,
            family_template,
            tool_format: settings.tool_format,
            reasoning_format: settings.reasoning_format,
            path: path.to_owned(),
            named,
            fingerprint,
        })
    }

    /// Whether the files are no longer those that were read.
    pub(crate) fn has_changed(&self) -> bool {
        Fingerprint::of(&self.path).and(self.named.clone()) != self.fingerprint
    }

    /// Reads the files about text. `Ok(Err)` says what is missing.
    pub(crate) fn text_files(&self) -> Result<Result<TextFiles, String>, Unreadable> {
        let Some(tokenizer) = read(&text_file(&self.path, TOKENIZER), TOKENIZER_BYTES_MAX)? else {
            return Ok(Err(no_tokenizer(&self.path)));
        };
        let config = |name| read(&text_file(&self.path, name), CONFIG_BYTES_MAX);
        Ok(Ok(TextFiles {
            tokenizer,
            tokenizer_config: config(TOKENIZER_CONFIG)?,
            generation_config: config(GENERATION_CONFIG)?,
            config: config(CONFIG)?,
            chat_template: match &self.template {
                Some(template) => Some(template.clone()),
                None => read_text(&text_file(&self.path, CHAT_TEMPLATE), CONFIG_BYTES_MAX)?,
            },
            family_template: self.family_template,
            tool_format: self.tool_format.clone(),
            reasoning_format: self.reasoning_format.clone(),
            image_tags: self.model.vision.as_ref().map(|vision| vision.tags.clone()),
        }))
    }
}

/// How the model sees. One whose encoder cannot be used still reads and writes.
fn vision_of(path: &Path, settings: &Settings, id: &str, names: &[&str]) -> Option<Vision> {
    vision::vision(path, &settings.vision, names).unwrap_or_else(|fault| {
        tracing::warn!(model = id, "{MANIFEST}: {fault}; until then it sees no images");
        None
    })
}

/// The model's name and its weights'.
fn names_of<'a>(id: &'a str, weights: Option<&'a Path>) -> Vec<&'a str> {
    let file = weights.and_then(Path::file_name).and_then(|name| name.to_str());
    [Some(id), file].into_iter().flatten().collect()
}

/// What a model is made for, as its name says it, or its weights'.
fn kind_of(id: &str, weights: Option<&Path>) -> Kind {
    let file = weights.and_then(Path::file_name).and_then(|name| name.to_str());
    let says =
        |word| [Some(id), file].into_iter().flatten().any(|it| it.to_lowercase().contains(word));
    match () {
        () if says("rerank") => Kind::Rerank,
        () if says("embedding") => Kind::Embed,
        () => Kind::Chat,
    }
}

/// A text file's place: in the folder, else in `tokenizer/` below it.
pub(crate) fn text_file(folder: &Path, name: &str) -> PathBuf {
    let beside = folder.join(name);
    if beside.exists() { beside } else { folder.join("tokenizer").join(name) }
}

fn no_tokenizer(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "no {TOKENIZER} in {folder} or {folder}/tokenizer: put the model's tokenizer files there"
    )
}

fn tokenizer_fault(folder: &Path) -> Option<String> {
    (!text_file(folder, TOKENIZER).is_file()).then(|| no_tokenizer(folder))
}

/// What manifest and Modelfile say.
pub(crate) fn stated(folder: &Path) -> Result<Settings, String> {
    let mut faults = Vec::new();
    let stated = said_beside(folder, &mut faults);
    if faults.is_empty() { Ok(stated) } else { Err(faults.join("; ")) }
}

/// Manifest over Modelfile; what cannot be read is a fault and says nothing.
fn said_beside(folder: &Path, faults: &mut Vec<String>) -> Settings {
    let mut parsed = |name: &str, parse: fn(&str) -> Result<Settings, String>| {
        let settings = match read_text(&folder.join(name), CONFIG_BYTES_MAX) {
            Ok(Some(text)) => parse(&text),
            Ok(None) => Ok(Settings::default()),
            Err(err) => Err(err.to_string()),
        };
        let settings = settings.unwrap_or_else(|fault| {
            faults.push(fault);
            Settings::default()
        });
        settings.stated_by(name)
    };
    parsed(MANIFEST, manifest::parse).or(parsed(MODELFILE, modelfile::parse))
}

/// Manifest over Modelfile over `generation_config.json`; what cannot be read is a fault and says
/// nothing.
fn settings(folder: &Path, faults: &mut Vec<String>) -> Settings {
    let mut settings = said_beside(folder, faults);
    let recommended = match read(&text_file(folder, GENERATION_CONFIG), CONFIG_BYTES_MAX) {
        Ok(Some(bytes)) => generation_config::parse(&bytes),
        Ok(None) => return settings,
        Err(err) => Err(err.to_string()),
    };
    match recommended {
        Ok((sampling, warnings)) => {
            let recommended = Settings { sampling, warnings, ..Settings::default() };
            settings = settings.or(recommended.stated_by(GENERATION_CONFIG));
        }
        Err(fault) => faults.push(fault),
    }
    settings
}

/// The names of the weights in the folder itself, sorted.
pub(crate) fn weights_in(folder: &Path) -> Result<Vec<String>, Unreadable> {
    files_in(folder, WEIGHTS_EXTENSION)
}

/// The names of the files with this extension in the folder itself, sorted.
pub(crate) fn files_in(folder: &Path, wanted: &str) -> Result<Vec<String>, Unreadable> {
    let unreadable =
        |err: std::io::Error| Unreadable { path: folder.to_owned(), reason: err.to_string() };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_wanted = extension.is_some_and(|ext| ext.eq_ignore_ascii_case(wanted));
        let name = path.file_name().and_then(|name| name.to_str());
        if let (true, Some(name)) = (is_wanted && path.is_file(), name) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The file that is named, else the only one.
fn choose(
    folder: &Path,
    mut found: Vec<String>,
    named: Option<&Path>,
    faults: &mut Vec<String>,
) -> Option<PathBuf> {
    if let Some(named) = named {
        let path = folder.join(named);
        if path.is_file() {
            return Some(path);
        }
        faults.push(format!(
            "no file {} in {}: correct `file` in {MANIFEST} or FROM in {MODELFILE}",
            named.display(),
            folder.display()
        ));
        return None;
    }
    if found.len() > 1 {
        let names = found.join(", ");
        faults.push(format!(
            "{} holds several models ({names}): name one with `file` in {MANIFEST}",
            folder.display()
        ));
        return None;
    }
    let only = found.pop().map(|name| folder.join(name));
    if only.is_none() {
        faults.push(format!("no .{WEIGHTS_EXTENSION} file in {}", folder.display()));
    }
    only
}

/// A file's size; 0 where it cannot be read, which the state says already.
fn size_bytes(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// When a file was last written, in seconds since 1970; 0 where it cannot be read.
pub(crate) fn modified_s(path: &Path) -> u64 {
    let modified = path.metadata().and_then(|metadata| metadata.modified());
    let since = modified.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}
