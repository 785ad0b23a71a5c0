//! Making models of other models and of files that were sent. Blocks on the disk.

use std::path::{Path, PathBuf};

use rkllama_core::{Creation, Digest, Step, StoreError};

use crate::{
    adapter::{AdapterSettings, SCALE_DEFAULT},
    blobs::Blobs,
    draft::{Draft, disk, is_large, is_no_model},
    files::WEIGHTS_EXTENSION,
    folder::{CONFIG, Folder, TEXT_FILES, TOKENIZER, stated, text_file},
    generation_config::GENERATION_CONFIG,
    modelfile, names,
    settings::{Settings, check_inside},
    store::Store,
    template::{Language, language},
};

/// The files beside the weights that a model may have.
pub(crate) fn small_files() -> impl Iterator<Item = &'static str> {
    TEXT_FILES.into_iter().chain([GENERATION_CONFIG, CONFIG])
}

fn refused(reason: impl Into<String>) -> StoreError {
    StoreError::Refused { reason: reason.into() }
}

/// What the Modelfile of a request says.
fn said_in(modelfile: &str) -> Result<Settings, StoreError> {
    modelfile::parse(modelfile).map_err(refused)
}

/// The model that the Modelfile of a request names as its base.
pub(crate) fn from_of(creation: &Creation) -> Result<Option<String>, StoreError> {
    let Some(text) = creation.modelfile.as_deref().filter(|_| creation.files.is_empty()) else {
        return Ok(None);
    };
    let from = said_in(text)?.file.ok_or_else(|| refused("Invalid Modelfile: missing FROM"))?;
    Ok(Some(from.display().to_string()))
}

/// Refuses templates that no prompt can be made with, whoever says them: before anything is fetched or
/// written for the model.
pub(crate) fn check_templates(
    creation: &Creation,
    check_template: &TemplateCheck,
) -> Result<(), StoreError> {
    let said = creation.modelfile.as_deref().map(said_in).transpose()?.unwrap_or_default();
    let templates = [creation.template.as_ref(), said.template.as_ref()];
    let templates = templates.into_iter().chain([said.presets.go_template.as_ref()]).flatten();
    for template in templates.filter(|template| !template.trim().is_empty()) {
        check_template(template).map_err(|error| refused(format!("template error: {error}")))?;
    }
    Ok(())
}

/// Says what is wrong with a template.
pub type TemplateCheck = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Makes a model; what was done, and its id. `base` is the model it is made from.
pub(crate) fn make(
    store: &Store,
    blobs: &Blobs,
    check_template: &TemplateCheck,
    creation: &Creation,
    base: Option<&Folder>,
) -> Result<(Vec<Step>, String), StoreError> {
    let name = folder_of(store, &creation.name)?;
    if base.is_none() && creation.files.is_empty() {
        return Err(refused("neither 'from' or 'files' was specified"));
    }
    check_templates(creation, check_template)?;
    let mut settings = Settings::default();
    let draft = Draft::begin(store.root())?;
    let mut steps = Vec::new();
    if let Some(base) = base {
        settings = inherited(base, creation, &names::id_of(&name))?;
        steps.extend(take_base(&draft, base, creation, &mut settings)?);
    }
    let mut taken = Vec::new();
    for (path, digest) in &creation.files {
        steps.push(take_file(&draft, blobs, path, *digest, &mut settings, &mut taken)?);
    }
    if let Some((path, digest)) = &creation.adapter {
        steps.push(take_adapter(&draft, blobs, path, *digest, &mut settings)?);
    }
    if !draft.has(TOKENIZER) {
        return Err(refused(format!(
            "no {TOKENIZER} among the files: a model needs its tokenizer"
        )));
    }
    if settings.file.is_none() {
        return Err(refused(format!("no .{WEIGHTS_EXTENSION} file among the files")));
    }
    if let Some(modelfile) = &creation.modelfile {
        let mut said = Settings { file: None, ..said_in(modelfile)? };
        check_adapter(&draft, creation, &mut said)?;
        let below = Settings { file: settings.file.take(), ..Settings::default() };
        settings = below.or(said).or(settings);
    }
    change(&mut settings, creation)?;
    draft.describe(&settings)?;
    steps.push(Step::Writing);
    draft.install(&name, store.folder_like(&names::id_of(&name)).is_some())?;
    store.rescan();
    Ok((steps, names::id_of(&name)))
}

/// The folder of a new model: that of the model which has the name already, in whatever case. What has
/// the name and is no model is in the way.
pub(crate) fn folder_of(store: &Store, name: &str) -> Result<String, StoreError> {
    let folder = names::folder_for(name)?;
    let known = store.folder_like(&names::id_of(&folder));
    let known = known.and_then(|known| Some(known.path.file_name()?.to_str()?.to_owned()));
    match known {
        Some(known) => Ok(known),
        None if store.root().join(&folder).symlink_metadata().is_ok() => Err(is_no_model(&folder)),
        None => Ok(folder),
    }
}

/// What a model made from this one says until it is told otherwise.
fn inherited(base: &Folder, creation: &Creation, id: &str) -> Result<Settings, StoreError> {
    let mut settings = stated(&base.path).map_err(refused)?;
    if base.model.id == id {
        return Ok(settings);
    }
    // Names are one model's own, and so is where it came from.
    settings.aliases = Vec::new();
    settings.presets.source = None;
    // A copy has its original's parent.
    if creation.from.is_some() {
        settings.presets.parent = Some(base.model.id.clone());
    }
    Ok(settings)
}

/// The base's files but for those that are sent anew.
fn take_base(
    draft: &Draft,
    base: &Folder,
    creation: &Creation,
    settings: &mut Settings,
) -> Result<Vec<Step>, StoreError> {
    let mut steps = Vec::new();
    let is_replaced = creation.files.iter().any(|(path, _)| is_weights(Path::new(path)));
    if is_replaced {
        settings.file = None;
        settings.presets.source = None;
        // It was made for the weights that were there.
        settings.adapter = None;
    } else {
        let weights = &base.model.weights;
        let name = weights.file_name().map(PathBuf::from);
        let name =
            name.ok_or_else(|| refused(format!("model '{}' has no weights", base.model.id)))?;
        draft.take(weights, &name)?;
        let file = name.display().to_string();
        settings.file = Some(name);
        steps.push(Step::Using { file, sha256: None });
        if let (None, Some(adapter)) = (&creation.adapter, &base.model.adapter) {
            let name = adapter.file.file_name().map(PathBuf::from).unwrap_or_default();
            draft.take(&adapter.file, &name)?;
            steps.push(Step::Using { file: name.display().to_string(), sha256: None });
            settings.adapter = Some(AdapterSettings { file: name, scale: adapter.scale });
        }
    }
    for name in small_files() {
        let path = text_file(&base.path, name);
        if path.is_file() {
            draft.take(&path, Path::new(name))?;
        }
    }
    let others = std::fs::read_dir(&base.path).into_iter().flatten().flatten();
    for path in others.map(|entry| entry.path()) {
        let name = path.file_name().map(PathBuf::from).unwrap_or_default();
        if path.is_file() && is_large(&name) && !is_weights(&name) {
            draft.take(&path, &name)?;
        }
    }
    Ok(steps)
}

fn is_weights(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case(WEIGHTS_EXTENSION))
}

/// A file that was sent. It lies in the model's folder itself, as the base's files do: a folder of it
/// could have the name of another file.
fn take_file(
    draft: &Draft,
    blobs: &Blobs,
    path: &str,
    digest: Digest,
    settings: &mut Settings,
    taken: &mut Vec<PathBuf>,
) -> Result<Step, StoreError> {
    let inside = check_inside(path).map_err(|_| refused("file path must be relative"))?;
    let is_small = small_files()
        .any(|name| inside == Path::new(name) || inside == Path::new("tokenizer").join(name));
    if !is_small && !is_large(&inside) {
        return Err(refused(format!(
            "{path:?} is no file of a model for this runtime: it runs .{WEIGHTS_EXTENSION} files, which \
             RKLLM-Toolkit makes, and takes the tokenizer's files beside them"
        )));
    }
    let blob = blobs.find(digest).ok_or(StoreError::NoBlob { digest })?;
    let name = inside.file_name().map(PathBuf::from).unwrap_or_default();
    if is_weights(&name) {
        if let Some(other) = &settings.file {
            return Err(refused(format!(
                "two models among the files: {} and {path}",
                other.display()
            )));
        }
        settings.file = Some(name.clone());
    }
    if taken.contains(&name) {
        return Err(refused(format!("two files called {}", name.display())));
    }
    draft.take(&blob, &name)?;
    taken.push(name);
    let sha256 = digest.to_string().trim_start_matches("sha256:").to_owned();
    Ok(Step::Using { file: path.to_owned(), sha256: Some(sha256) })
}

/// An adapter that was sent. It lies beside the weights and cannot be called as they are.
fn take_adapter(
    draft: &Draft,
    blobs: &Blobs,
    path: &str,
    digest: Digest,
    settings: &mut Settings,
) -> Result<Step, StoreError> {
    let inside = check_inside(path).map_err(|_| refused("file path must be relative"))?;
    let name = inside.file_name().map(PathBuf::from).unwrap_or_default();
    if !is_weights(&name) {
        return Err(refused(format!(
            "{path:?} is no adapter for this runtime: it takes .{WEIGHTS_EXTENSION} files, which \
             RKLLM-Toolkit makes"
        )));
    }
    if settings.file.as_deref() == Some(&*name) {
        let name = name.display();
        return Err(refused(format!("the adapter has the name of the model's own file, {name}")));
    }
    let blob = blobs.find(digest).ok_or(StoreError::NoBlob { digest })?;
    draft.take(&blob, &name)?;
    settings.adapter = Some(AdapterSettings { file: name, scale: SCALE_DEFAULT });
    let sha256 = digest.to_string().trim_start_matches("sha256:").to_owned();
    Ok(Step::Using { file: path.to_owned(), sha256: Some(sha256) })
}

/// A Modelfile names the adapter; its file is the one that was sent, or the base's.
fn check_adapter(
    draft: &Draft,
    creation: &Creation,
    said: &mut Settings,
) -> Result<(), StoreError> {
    let Some(named) = &mut said.adapter else { return Ok(()) };
    let name = named.file.file_name().map(PathBuf::from).unwrap_or_default();
    let is_there = match &creation.adapter {
        Some((path, _)) => Path::new(path).file_name() == Some(name.as_os_str()),
        None => name.to_str().is_some_and(|name| is_weights(Path::new(name)) && draft.has(name)),
    };
    if !is_there {
        return Err(refused(format!(
            "ADAPTER {}: no such file was sent; `adapters` names it with its digest",
            named.file.display()
        )));
    }
    named.file = name;
    Ok(())
}

/// What the request says, over what its base says.
fn change(settings: &mut Settings, creation: &Creation) -> Result<(), StoreError> {
    let presets = &mut settings.presets;
    // An empty text says nothing.
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(system) = said(&creation.system) {
        presets.system = Some(system);
    }
    if let Some(template) = said(&creation.template) {
        (settings.template, presets.go_template) = match language(&template) {
            Language::Jinja => (Some(template), None),
            Language::Go => (None, Some(template)),
        };
    }
    if let Some(messages) = &creation.messages {
        presets.messages.clone_from(messages);
    }
    presets.licenses.extend(creation.licenses.iter().cloned());
    if let Some(word) = said(&creation.model_type) {
        let kind = modelfile::kind_of(&word);
        settings.kind = Some(kind.map_err(|reason| refused(format!("model_type: {reason}")))?);
    }
    for (name, json) in &creation.parameters {
        parameter(settings, name, json)?;
    }
    settings.warnings.clear();
    Ok(())
}

/// One parameter; texts that end an answer may be a list.
fn parameter(settings: &mut Settings, name: &str, json: &str) -> Result<(), StoreError> {
    let wrong = |reason: String| refused(format!("parameter {name:?}: {reason}"));
    let value: serde_json::Value =
        serde_json::from_str(json).map_err(|error| wrong(error.to_string()))?;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(wrong("no name of a parameter".to_owned()));
    }
    let key = name.to_ascii_uppercase();
    let is_stop = key == "STOP";
    let values = match value {
        serde_json::Value::Null => return Ok(()),
        serde_json::Value::Array(values) if is_stop => values,
        value => vec![value],
    };
    if is_stop {
        settings.presets.stop.clear();
    }
    for value in values {
        let text = match value {
            // It would end every answer at once.
            serde_json::Value::String(text) if is_stop && text.is_empty() => continue,
            serde_json::Value::String(text) => text,
            value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => {
                value.to_string()
            }
            _ => return Err(wrong("expected a number, a text or a switch".to_owned())),
        };
        modelfile::parameter(settings, &key, &text, true).map_err(&wrong)?;
    }
    Ok(())
}

/// Removes a model: its folder or the link to it, what lies loose in the root as its weights, used or
/// not, and the files they and its adapter were sent as.
pub(crate) fn unmake(store: &Store, blobs: &Blobs, folder: &Folder) -> Result<(), StoreError> {
    let adapter = folder.model.adapter.as_ref().map(|adapter| &adapter.file);
    let files = [Some(&folder.model.weights), adapter].into_iter().flatten();
    let found: Vec<_> = files.filter_map(|file| std::fs::symlink_metadata(file).ok()).collect();
    crate::draft::remove(store.root(), &folder.path)?;
    for loose in loose_weights(store.root(), &folder.path) {
        std::fs::remove_file(&loose).map_err(|error| disk(&loose, &error))?;
    }
    for found in &found {
        blobs.forget(found);
    }
    store.rescan();
    Ok(())
}

/// The files of the root that would be this folder's weights if it held none.
fn loose_weights(root: &Path, folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .filter(move |path| is_weights(path) && path.with_extension("") == folder && path.is_file())
}
