//! What to fetch for a model, and fetching it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rkllama_core::{ModelState, Pull, Source, StoreError};
use rkllama_hub::{Hub, HubError, RemoteFile, Repository};
use sha2::{Digest as _, Sha256};

use crate::{
    catalog::Catalog,
    draft::{Draft, clean_up_older, disk},
    files::{CONFIG_BYTES_MAX, TOKENIZER_BYTES_MAX, WEIGHTS_EXTENSION},
    folder::{TOKENIZER, stated, text_file},
    library::Sources,
    make::{folder_of, small_files},
    manifest::{self, MANIFEST},
    modelfile::{self, MODELFILE},
    names,
    reference::{self, Reference},
    settings::Settings,
    store::Store,
    transfer::{Progress, Report},
};

/// Where downloads are kept until they are whole.
const STAGING: &str = ".pulls";
/// How long a download that nobody goes on with is kept.
const STAGED_MAX: Duration = Duration::from_secs(14 * 24 * 3600);
/// What chips call themselves in the names of files.
const CHIPS: [&str; 5] = ["rk3588", "rk3576", "rk3562", "rk3566", "rv1126"];

/// A model of the hub, and where its files lie.
#[derive(Debug)]
pub(crate) struct Plan {
    repository: Repository,
    weights: RemoteFile,
    small: Vec<Small>,
    settings: Settings,
    /// The model's folder.
    folder: String,
}

/// A file about text, from whichever repository has it.
#[derive(Debug)]
struct Small {
    name: &'static str,
    repository: Repository,
    file: RemoteFile,
}

/// What the hub said, in the store's words.
fn hub_error(error: HubError) -> StoreError {
    let reason = error.to_string();
    match error {
        HubError::NotFound { .. } => StoreError::Absent { reason },
        HubError::Unauthorized { .. } | HubError::Gated { .. } => StoreError::Forbidden { reason },
        HubError::Space { .. } => StoreError::Space { reason },
        HubError::Disk { .. } => StoreError::Disk { reason },
        HubError::Offline
        | HubError::RateLimited { .. }
        | HubError::Refused { .. }
        | HubError::Unreachable { .. }
        | HubError::Mismatch { .. }
        | HubError::Size { .. }
        | HubError::TooLarge { .. }
        | HubError::Malformed { .. } => StoreError::Hub { reason },
    }
}

/// Removes downloads that broke off long ago.
pub(crate) fn clean_up(root: &Path) {
    clean_up_older(&root.join(STAGING), STAGED_MAX, |_| true);
}

/// Refuses what cannot be the name of anything.
pub(crate) fn check_name(sources: &Sources, pull: &Pull) -> Result<(), StoreError> {
    if let Some(name) = &pull.name {
        names::folder_for(name)?;
    }
    let source = pull.source.trim();
    if sources.catalog.find(source).is_some() || reference::parse(source)?.is_some() {
        return Ok(());
    }
    names::folder_for(source).map(drop)
}

impl Plan {
    /// Finds out what there is to fetch.
    pub(crate) async fn make(
        hub: &Hub,
        sources: &Sources,
        store: &Store,
        pull: &Pull,
    ) -> Result<Self, StoreError> {
        let chip = sources.chip.as_deref();
        let entry = sources.catalog.find(&pull.source);
        let source = match entry {
            Some(entry) => entry.source(chip).ok_or_else(|| StoreError::Absent {
                reason: format!(
                    "the list of short names has no '{}' for {}; a repository is named \
                     organisation/name",
                    pull.source.trim(),
                    chip.unwrap_or("this chip"),
                ),
            })?,
            None => &pull.source,
        };
        let absent = || StoreError::Absent {
            reason: format!(
                "'{}' is no short name of a model; known: {}. A repository is named organisation/name",
                pull.source.trim(),
                sources.catalog.names(chip).join(", "),
            ),
        };
        let reference = reference::parse(source)?.ok_or_else(absent)?;
        let repository = hub.repository(&reference.repository, reference.revision.as_deref()).await;
        let repository = repository.map_err(hub_error)?;
        let weights = choose(&repository, &reference, chip)?.clone();
        let name = match (&pull.name, entry) {
            (Some(name), _) => name.clone(),
            (None, Some(_)) => pull.source.trim().to_lowercase(),
            (None, None) => default_name(&repository, &weights),
        };
        let folder = folder_of(store, &name)?;
        let settings = said_there(hub, &repository).await?;
        let asked = match &pull.tokenizer {
            Some(name) => Some(tokenizers(hub, name).await?),
            None => None,
        };
        let of_entry = entry.and_then(|entry| entry.tokenizer.as_deref());
        let others = of_entry.into_iter().chain(settings.base_repository.as_deref());
        let others = others.chain(repository.base_models.iter().map(String::as_str));
        let others: Vec<String> = others.map(str::to_owned).collect();
        let beside = weights.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let near: Vec<(&Repository, &str)> =
            asked.iter().map(|asked| (asked, "")).chain([(&repository, beside)]).collect();
        let small = small_of(hub, &near, &others).await?;
        let plan = Self { repository, weights, small, settings, folder };
        plan.check_place(store)?;
        Ok(plan)
    }

    /// Refuses to put itself in the place of a model that came from elsewhere.
    fn check_place(&self, store: &Store) -> Result<(), StoreError> {
        let id = names::id_of(&self.folder);
        let Some(there) = store.folder_like(&id) else { return Ok(()) };
        let source = there.model.presets.source.as_ref();
        let is_same = source
            .is_some_and(|source| source.repository.eq_ignore_ascii_case(&self.repository.id));
        // Its weights alone make no model: they may well be these.
        if is_same || !there.path.exists() {
            return Ok(());
        }
        Err(StoreError::Refused {
            reason: format!(
                "there is a model '{id}' already that did not come from {}: remove it first, or give \
                 this one another name",
                self.repository.id
            ),
        })
    }

    /// The model's id, where the same is there already and is whole.
    pub(crate) fn is_there_already(&self, store: &Store) -> Option<String> {
        let there = store.folder_like(&names::id_of(&self.folder))?;
        let same = there.model.presets.source.as_ref() == Some(&self.source());
        (same && there.model.state == ModelState::Ready).then(|| there.model.id.clone())
    }

    fn source(&self) -> Source {
        Source {
            repository: self.repository.id.clone(),
            revision: self.repository.revision.clone(),
            file: self.weights.path.clone(),
        }
    }

    /// Where its files are kept until all are there: another place for everything that differs.
    pub(crate) fn staging(&self, root: &Path) -> PathBuf {
        let mut hash = Sha256::new();
        let source = self.source();
        for part in [&source.repository, &source.revision, &source.file, &self.folder] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        for small in &self.small {
            hash.update(small.repository.id.as_bytes());
            hash.update(small.repository.revision.as_bytes());
            hash.update(small.file.path.as_bytes());
        }
        let hash = hash.finalize();
        let hash: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        root.join(STAGING).join(hash)
    }

    fn weights_name(&self) -> &str {
        self.weights.path.rsplit('/').next().unwrap_or(&self.weights.path)
    }

    /// Brings all files to a folder. The small ones first: one that cannot be had is then no reason to
    /// have fetched gigabytes.
    pub(crate) async fn fetch(
        &self,
        hub: &Hub,
        store: &Store,
        staging: &Path,
        report: &Report,
    ) -> Result<(), StoreError> {
        let there = store.folder_like(&names::id_of(&self.folder)).map(|there| there.path.clone());
        fs::create_dir_all(staging).map_err(|error| disk(staging, &error))?;
        self.check_space(staging)?;
        let small = self.small.iter().map(|small| (small.name, &small.repository, &small.file));
        let weights = (self.weights_name(), &self.repository, &self.weights);
        for (name, repository, file) in small.chain([weights]) {
            report.file(Progress {
                file: name.to_owned(),
                sha256: file.sha256.clone(),
                total: file.bytes,
                completed: 0,
            });
            let path = staging.join(name);
            if let Some(same) = there.as_deref().map(|there| there.join(name))
                && file.sha256.is_some()
                && same.metadata().is_ok_and(|same| same.len() == file.bytes)
            {
                // Compared before it is used, and fetched where it is another after all.
                let _ = fs::hard_link(same, &path);
            }
            let mut tell = |bytes| report.completed(bytes);
            hub.fetch(repository, file, &path, &mut tell).await.map_err(hub_error)?;
        }
        Ok(())
    }

    /// All files together: each is looked at again when its turn comes.
    fn check_space(&self, staging: &Path) -> Result<(), StoreError> {
        let needed: u64 =
            self.small.iter().map(|small| small.file.bytes).chain([self.weights.bytes]).sum();
        let here = fs::read_dir(staging).into_iter().flatten().flatten();
        let here: u64 = here.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
        let found = rustix::fs::statvfs(staging).map_err(|error| disk(staging, &error.into()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if needed.saturating_sub(here) > free {
            return Err(StoreError::Space {
                reason: format!(
                    "{} needs {} MB and {} has {} MB free",
                    self.repository.id,
                    needed.saturating_sub(here) / 1_000_000,
                    staging.display(),
                    free / 1_000_000
                ),
            });
        }
        Ok(())
    }

    /// Makes the files a model; its id.
    pub(crate) fn install(&self, store: &Store, staging: PathBuf) -> Result<String, StoreError> {
        self.check_place(store)?;
        let draft = Draft::of(store.root(), staging);
        let mut settings =
            Settings { file: Some(PathBuf::from(self.weights_name())), ..Settings::default() };
        settings.presets.source = Some(self.source());
        settings.presets.licenses = self.repository.license.iter().cloned().collect();
        // Of a model that is replaced by a newer one of itself, what its owner wrote stays.
        let own = store.folder_like(&names::id_of(&self.folder));
        let own = own.and_then(|own| stated(&own.path).ok()).unwrap_or_default();
        let theirs = Settings { aliases: Vec::new(), ..self.settings.clone() };
        let settings = settings.or(own).or(theirs);
        draft.describe(&settings)?;
        draft.install(&self.folder, store.folder_like(&names::id_of(&self.folder)).is_some())?;
        store.rescan();
        Ok(names::id_of(&self.folder))
    }
}

/// The file that is meant, for this chip.
fn choose<'a>(
    repository: &'a Repository,
    reference: &Reference,
    chip: Option<&str>,
) -> Result<&'a RemoteFile, StoreError> {
    let id = &repository.id;
    if let Some(path) = &reference.file {
        let named = repository.files.iter().find(|file| file.path.eq_ignore_ascii_case(path));
        return named
            .ok_or_else(|| StoreError::Absent { reason: format!("{id} has no file {path}") });
    }
    let all: Vec<&RemoteFile> =
        repository.files.iter().filter(|file| is_weights(&file.path)).collect();
    if all.is_empty() {
        let reason =
            format!("{id} has no .{WEIGHTS_EXTENSION} file: no model for this runtime is in it");
        return Err(StoreError::Absent { reason });
    }
    let tag = reference.tag.as_deref().map(str::to_lowercase);
    let tagged = |file: &&&RemoteFile| {
        tag.as_deref().is_none_or(|tag| file.path.to_lowercase().contains(tag))
    };
    let fitting: Vec<&RemoteFile> = all
        .iter()
        .filter(|file| chip.is_none_or(|chip| fits(&file.path, id, chip)))
        .filter(tagged)
        .copied()
        .collect();
    match fitting.as_slice() {
        [only] => Ok(only),
        [] => Err(StoreError::Absent {
            reason: format!(
                "{id} has no model{} for {}; it has: {}",
                reference.tag.as_deref().map_or(String::new(), |tag| format!(" '{tag}'")),
                chip.unwrap_or("this chip"),
                all.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join(", ")
            ),
        }),
        several => Err(StoreError::Choice {
            source_name: id.clone(),
            choices: several.iter().map(|file| reference.of_file(&file.path)).collect(),
        }),
    }
}

fn is_weights(path: &str) -> bool {
    let extension = path.rsplit_once('.').map(|(_, extension)| extension);
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case(WEIGHTS_EXTENSION))
}

/// Whether a file is for this chip, as far as its name says it, else its repository's.
fn fits(path: &str, repository: &str, chip: &str) -> bool {
    let named = |text: &str| {
        let text = text.to_lowercase();
        let named: Vec<&str> = CHIPS.into_iter().filter(|chip| text.contains(chip)).collect();
        (!named.is_empty()).then(|| named.contains(&chip))
    };
    named(path).or_else(|| named(repository)).unwrap_or(true)
}

/// The repository's name, or the file's where it holds several models.
fn default_name(repository: &Repository, weights: &RemoteFile) -> String {
    // What no name has becomes what every name may have, and what none begins with is left out.
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let named = |path: &str| {
        let last: String = path.rsplit('/').next().unwrap_or(path).chars().map(plain).collect();
        last.trim_start_matches(['-', '.']).to_owned()
    };
    let stem = weights.path.rsplit_once('.').map_or("", |(stem, _)| stem);
    let of_file = named(stem);
    let is_only = repository.files.iter().filter(|file| is_weights(&file.path)).count() == 1;
    if is_only || of_file.is_empty() { named(&repository.id) } else { of_file }
}

/// What the repository's own manifest and Modelfile say; what cannot be read says nothing.
async fn said_there(hub: &Hub, repository: &Repository) -> Result<Settings, StoreError> {
    let mut settings = Settings::default();
    type Parser = fn(&str) -> Result<Settings, String>;
    let parsers: [(&str, Parser); 2] = [(MANIFEST, manifest::parse), (MODELFILE, modelfile::parse)];
    for (name, parse) in parsers {
        let Some(file) = repository.files.iter().find(|file| file.path == name) else { continue };
        let said = match hub.text(repository, file, CONFIG_BYTES_MAX).await {
            Ok(text) => parse(&text),
            Err(error @ (HubError::TooLarge { .. } | HubError::Malformed { .. })) => {
                Err(error.to_string())
            }
            Err(error) => return Err(hub_error(error)),
        };
        match said {
            Ok(said) => settings = settings.or(said),
            Err(reason) => tracing::warn!(repository = repository.id, reason, "left out"),
        }
    }
    Ok(settings)
}

/// The repository that a client wants the tokenizer from.
async fn tokenizers(hub: &Hub, name: &str) -> Result<Repository, StoreError> {
    let refused = || StoreError::Refused {
        reason: format!("the tokenizer's repository {name:?} is not written organisation/name"),
    };
    let reference = reference::parse(name)?.filter(|it| it.file.is_none()).ok_or_else(refused)?;
    let repository = hub.repository(&reference.repository, reference.revision.as_deref()).await;
    let repository = repository.map_err(hub_error)?;
    let mut found = Vec::new();
    take_small(&mut found, &repository, "");
    match found.iter().any(|small| small.name == TOKENIZER) {
        true => Ok(repository),
        false => Err(StoreError::Absent { reason: format!("no {TOKENIZER} in {}", repository.id) }),
    }
}

/// The files about text: from the repositories that are known, each with the folder in which to look
/// first, what they lack from the others in turn.
async fn small_of(
    hub: &Hub,
    near: &[(&Repository, &str)],
    others: &[String],
) -> Result<Vec<Small>, StoreError> {
    let mut found: Vec<Small> = Vec::new();
    for (repository, beside) in near {
        take_small(&mut found, repository, beside);
    }
    let mut asked: Vec<&str> = near.iter().map(|(repository, _)| repository.id.as_str()).collect();
    let mut failed = None;
    for other in others {
        if found.len() == small_files().count() || asked.contains(&other.as_str()) {
            continue;
        }
        asked.push(other);
        match hub.repository(other, None).await {
            Ok(repository) => take_small(&mut found, &repository, ""),
            Err(error) => {
                tracing::warn!(repository = other, %error, "asked for a tokenizer in vain");
                failed = failed.or(Some(error));
            }
        }
    }
    if found.iter().any(|small| small.name == TOKENIZER) {
        return Ok(found);
    }
    match failed {
        Some(error) => Err(hub_error(error)),
        None => Err(StoreError::Absent {
            reason: format!(
                "no {TOKENIZER} in {}: name the repository of the model's makers as the tokenizer's",
                asked.join(", ")
            ),
        }),
    }
}

/// What a repository has of the files that are not found yet: beside the weights, at the top, or in
/// `tokenizer/`.
fn take_small(found: &mut Vec<Small>, repository: &Repository, beside: &str) {
    for name in small_files() {
        if found.iter().any(|small| small.name == name) {
            continue;
        }
        let places = [format!("{beside}/{name}"), name.to_owned(), format!("tokenizer/{name}")];
        let bytes_max = if name == TOKENIZER { TOKENIZER_BYTES_MAX } else { CONFIG_BYTES_MAX };
        let file = places.iter().find_map(|place| {
            repository.files.iter().find(|file| file.path == *place && file.bytes <= bytes_max)
        });
        if let Some(file) = file {
            let (repository, file) = (repository.clone(), file.clone());
            found.push(Small { name, repository, file });
        }
    }
}

/// Fetches what a folder lacks of the files about text; their names.
pub(crate) async fn complete(
    hub: &Hub,
    catalog: &Catalog,
    folder: &Path,
    name: &str,
    tokenizer: Option<&str>,
) -> Result<Vec<String>, StoreError> {
    let settings = stated(folder).map_err(|reason| StoreError::Refused { reason })?;
    let short = names::simple_name(name);
    let known = short.as_deref().and_then(|short| catalog.find(short));
    let known = known.and_then(|known| known.tokenizer.clone());
    let others = tokenizer.map(str::to_owned).into_iter().chain(settings.base_repository);
    let mut others: Vec<String> = others.collect();
    if others.is_empty() {
        others.extend(known);
    }
    if text_file(folder, TOKENIZER).is_file() {
        return Ok(Vec::new());
    }
    if others.is_empty() {
        return Err(StoreError::Refused {
            reason: format!(
                "{} has no {TOKENIZER}, and no Modelfile with HUGGINGFACE_PATH that says where to find it: \
                 --tokenizer ORGANISATION/REPOSITORY does",
                folder.display()
            ),
        });
    }
    let small = small_of(hub, &[], &others).await?;
    let mut names = Vec::new();
    for Small { name, repository, file } in small {
        if text_file(folder, name).is_file() {
            continue;
        }
        let path = folder.join(name);
        hub.fetch(&repository, &file, &path, &mut |_| ()).await.map_err(hub_error)?;
        names.push(name.to_owned());
    }
    Ok(names)
}
