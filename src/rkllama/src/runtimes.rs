//! The vendor libraries on this machine, and which of them a model gets.
//!
//! They are read as files at start and never loaded here. What is known of their releases comes
//! from `rkllama-npu`, what was learned of models from [`memory`]; [`ranking`] puts the two together.
//! The engine, which must not see that crate, asks through its port.

mod memory;
mod ranking;

use std::{
    cmp::Reverse,
    fs,
    path::{Path, PathBuf},
};

use rkllama_core::{EngineError, Model, Problem};
use rkllama_engine::{Learned, RuntimeChoice, Runtimes};
use rkllama_npu::{Inspection, inspect};

use self::{memory::Memory, ranking::Ranking};
use crate::{
    config::{self, Config},
    runtime_profiles::RuntimeProfiles,
};

/// The name under which the vendor ships it.
pub(crate) const FILE_NAME: &str = "librkllmrt.so";
/// Where root's releases lie side by side, for every user of the machine.
pub(crate) const SYSTEM_FOLDER: &str = "/var/lib/rkllama/runtimes";
/// Where installers put it.
const USUAL_FOLDERS: [&str; 4] =
    ["/usr/lib", "/usr/local/lib", "/usr/lib/aarch64-linux-gnu", SYSTEM_FOLDER];

/// What was found where.
#[derive(Debug, Default)]
pub(crate) struct Libraries {
    usable: Vec<Inspection>,
    /// One text for each file that cannot be used, naming it and its version.
    refused: Vec<String>,
    /// Places in which there was nothing.
    empty: Vec<PathBuf>,
    /// What the operator says of releases.
    configured: RuntimeProfiles,
    /// What a probe of the hardware found out about them.
    probed: RuntimeProfiles,
    /// Why what a probe found out is not used.
    unprobed: Option<String>,
    /// What loading models has taught.
    memory: Memory,
}

impl Libraries {
    /// What is there, and what is known of it.
    pub(crate) fn of(config: &Config) -> Self {
        let (probed, unprobed) = match RuntimeProfiles::probed(&config.state) {
            Ok(probed) => (probed, None),
            Err(why) => (RuntimeProfiles::default(), Some(why)),
        };
        let configured = config.runtime_profiles.clone();
        let memory = Memory::read(&config.state);
        Self { configured, probed, unprobed, memory, ..Self::find(&config.runtime) }
    }

    /// Looks at the files and folders that were named, or at the usual folders.
    fn find(named: &[PathBuf]) -> Self {
        let usual: Vec<PathBuf>;
        let places = if named.is_empty() {
            usual = usual_folders();
            &usual
        } else {
            named
        };
        let mut found = Self::default();
        for place in places {
            found.look_at(place);
        }
        found
    }

    /// Those that can be used, in the order in which they are tried.
    pub(crate) fn usable(&self) -> &[Inspection] {
        &self.usable
    }

    /// Why others cannot, a text for each.
    pub(crate) fn refused(&self) -> &[String] {
        &self.refused
    }

    /// What a probe of the hardware found out about a release, a line each.
    pub(crate) fn probed(&self, release: &str) -> Vec<String> {
        self.probed.lines_of(release)
    }

    /// Why what a probe of the hardware found out is not used.
    pub(crate) fn unprobed(&self) -> Option<&str> {
        self.unprobed.as_deref()
    }

    fn look_at(&mut self, place: &Path) {
        let files = if place.is_dir() { libraries_in(place) } else { vec![place.to_owned()] };
        if files.is_empty() || !place.exists() {
            self.empty.push(place.to_owned());
            return;
        }
        let mut usable = Vec::new();
        for file in files {
            match inspect(&file) {
                Ok(inspection) => {
                    let Inspection { version, build, .. } = &inspection;
                    tracing::info!(path = %file.display(), version, build, "runtime found");
                    usable.push(inspection);
                }
                Err(error) => self.refused.push(error.to_string()),
            }
        }
        // Within one folder the newest is tried first; the order of places is the operator's.
        usable.sort_by_key(|library| Reverse(release(&library.version)));
        self.usable.extend(usable);
    }

    /// Why there is nothing to use, naming every file and folder.
    pub(crate) fn nothing_usable(&self) -> String {
        let mut reasons = self.refused.clone();
        if !self.empty.is_empty() {
            let places: Vec<String> =
                self.empty.iter().map(|place| place.display().to_string()).collect();
            reasons.push(format!("no {FILE_NAME} in {}", places.join(", ")));
        }
        format!(
            "no usable RKLLM runtime: {}. Get the vendor's library with \
             `rkllama runtime fetch`, or name it with --runtime",
            reasons.join("; ")
        )
    }
}

impl Runtimes for Libraries {
    fn choose(&self, model: &Model) -> Result<Vec<RuntimeChoice>, EngineError> {
        let ranking = Ranking {
            libraries: &self.usable,
            configured: &self.configured,
            probed: &self.probed,
            known: &self.memory.of(model),
        };
        let choices = ranking.of(model);
        if !choices.is_empty() {
            return Ok(choices);
        }
        let reason = match &model.runtime {
            Some(wanted) if !self.usable.is_empty() => {
                let there: Vec<String> = self
                    .usable
                    .iter()
                    .map(|library| format!("{} ({})", library.version, library.path.display()))
                    .collect();
                format!(
                    "model '{}' asks for RKLLM runtime {wanted}; there is {}",
                    model.id,
                    there.join(", ")
                )
            }
            _ => self.nothing_usable(),
        };
        Err(EngineError::Runtime { reason })
    }

    fn learned(&self, model: &Model, learned: &Learned) {
        // Gone only if the list of libraries has been made anew.
        if let Some(library) = self.usable.iter().find(|it| it.path == learned.choice.path) {
            self.memory.note(model, library, learned);
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let mut details =
            if self.usable.is_empty() { vec![self.nothing_usable()] } else { self.refused.clone() };
        details.extend(self.unprobed.clone());
        let problem = |detail| Problem { subject: "runtime".to_owned(), detail };
        details.into_iter().map(problem).collect()
    }
}

fn usual_folders() -> Vec<PathBuf> {
    let own = own_folder();
    // The service's own folder is the system's.
    let others = USUAL_FOLDERS.map(PathBuf::from).into_iter().filter(|folder| *folder != own);
    [own.clone()].into_iter().chain(others).collect()
}

/// Where this user's releases lie side by side.
pub(crate) fn own_folder() -> PathBuf {
    config::data_home().join("rkllama/runtimes")
}

/// The libraries in a folder and one folder below it, where releases lie side by side.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = entries(folder)
        .into_iter()
        .map(|entry| if entry.is_dir() { entry.join(FILE_NAME) } else { entry })
        .filter(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("librkllmrt") && name.contains(".so") && file.is_file()
        })
        .collect();
    files.sort();
    files
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(Result::ok).map(|entry| entry.path()).collect()
}

/// The numbers of a version, for ordering only.
fn release(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use rkllama_core::{ModelState, Sampling};
    use rkllama_npu::Profile;

    use super::*;

    /// A library of a release, in a folder of its own.
    pub(crate) fn library(version: &str) -> Inspection {
        Inspection {
            path: format!("/lib/{version}/librkllmrt.so").into(),
            version: version.to_owned(),
            build: "77daf2e2 2025-11-24 09:00:00".to_owned(),
            profile: Profile::of(version).unwrap(),
        }
    }

    /// A model whose file's name does not tell its toolkit.
    pub(crate) fn model(id: &str) -> Model {
        Model { id: id.to_owned(), ..model_in(&format!("{id}/weights.rkllm")) }
    }

    /// A model in this file.
    pub(crate) fn model_in(weights: &str) -> Model {
        Model {
            id: "m".to_owned(),
            created_s: 1_700_000_000,
            weights: Path::new("/models").join(weights),
            weights_bytes: 1000,
            memory_bytes: None,
            context_tokens_max: 4096,
            sampling: Sampling::default(),
            tokens_max: None,
            runtime: None,
            pooling: None,
            reranks: None,
            query_instruction: None,
            vision: None,
            adapter: None,
            presets: rkllama_core::Presets::default(),
            state: ModelState::Ready,
        }
    }

    #[test]
    fn newer_releases_come_first() {
        assert!(release("1.10.0") > release("1.9.3"));
        assert!(release("1.3.1") > release("1.3.0"));
    }

    #[test]
    fn nothing_found_names_every_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("librkllmrt.so");
        fs::write(&file, "text").unwrap();
        let found = Libraries::find(&[file.clone(), "/nowhere".into()]);
        let text = found.problems().remove(0).detail;
        assert!(text.contains(&file.display().to_string()), "{text}");
        assert!(text.contains("no librkllmrt.so in /nowhere"), "{text}");
    }
}
