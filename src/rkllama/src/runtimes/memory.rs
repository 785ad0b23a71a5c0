//! What loading models has taught, kept across restarts: which toolkit made them, which library
//! loaded them, which failed.
//!
//! It saves loads that are known to fail, and nothing rests on it: every load tells the truth anew.
//! So a file that is damaged, foreign or out of date costs a load and is no error.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use rkllama_core::Model;
use rkllama_engine::{Learned, LoadOutcome, ModelHeader};
use rkllama_npu::{Inspection, is_version};
use serde::{Deserialize, Serialize};

/// The file in the state folder.
const FILE: &str = "models.json";
/// Of the file. Another one's files are not read.
const FORMAT: u32 = 1;
/// Longest file that is read. What is written stays far below it.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Models remembered; those that were loaded longest ago are forgotten first.
const MODELS_MAX: usize = 256;
/// Failures remembered of one model; one for each library is usual.
const FAILURES_MAX: usize = 8;
/// Longest reason kept, in characters.
const REASON_CHARS_MAX: usize = 400;
/// How long a failure speaks against a library: by then something else may have been mended.
const FAILURE_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A library as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Library {
    version: String,
    build: String,
    path: String,
}

impl Library {
    fn of(library: &Inspection) -> Self {
        Self {
            version: library.version.clone(),
            build: library.build.clone(),
            path: library.path.to_string_lossy().into_owned(),
        }
    }
}

/// Weights as they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Weights {
    path: String,
    bytes: u64,
    modified_s: u64,
}

impl Weights {
    fn of(model: &Model) -> Self {
        Self {
            path: model.weights.to_string_lossy().into_owned(),
            bytes: model.weights_bytes,
            modified_s: model.created_s,
        }
    }
}

/// [`ModelHeader`] as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    toolkit: String,
    context_limit_tokens: Option<u32>,
    npu_cores: Option<u32>,
    platform: Option<String>,
    dtype: Option<String>,
}

impl From<ModelHeader> for Header {
    fn from(header: ModelHeader) -> Self {
        let ModelHeader { toolkit, context_limit_tokens, npu_cores, platform, dtype } = header;
        Self { toolkit, context_limit_tokens, npu_cores, platform, dtype }
    }
}

/// A library that could not load a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Failure {
    library: Library,
    ignore_eos: bool,
    reason: String,
    at_s: u64,
}

/// What is known of one model's weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    weights: Weights,
    loaded_s: u64,
    header: Option<Header>,
    worked: Option<Library>,
    failed: Vec<Failure>,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    format: u32,
    models: Vec<Entry>,
}

impl Contents {
    /// As it is written; without the oldest models where it would be too long to be read again.
    fn into_bytes(mut self) -> io::Result<Vec<u8>> {
        loop {
            let bytes = serde_json::to_vec_pretty(&self)?;
            if bytes.len() as u64 <= FILE_BYTES_MAX || self.models.is_empty() {
                return Ok(bytes);
            }
            self.models.truncate(self.models.len() / 2);
        }
    }
}

/// What is remembered of a model, as far as it still holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Recollection(Option<Entry>);

impl Recollection {
    /// The toolkit that made it.
    pub(super) fn toolkit(&self) -> Option<&str> {
        let header = self.0.as_ref()?.header.as_ref()?;
        is_version(&header.toolkit).then_some(header.toolkit.as_str())
    }

    /// The longest context it was made for, in tokens.
    pub(super) fn context_limit_tokens(&self) -> Option<u32> {
        self.0.as_ref()?.header.as_ref()?.context_limit_tokens
    }

    /// Whether this library was the last that loaded it.
    pub(super) fn worked(&self, library: &Inspection) -> bool {
        let worked = self.0.as_ref().and_then(|entry| entry.worked.as_ref());
        worked.is_some_and(|worked| *worked == Library::of(library))
    }

    /// Why this library, told so, could not load it within the last day.
    pub(super) fn failure(&self, library: &Inspection, ignore_eos: bool) -> Option<&str> {
        let (now_s, library) = (now_s(), Library::of(library));
        let failed = &self.0.as_ref()?.failed;
        let failure = failed.iter().find(|failure| {
            failure.library == library && failure.ignore_eos == ignore_eos && failure.holds(now_s)
        })?;
        Some(&failure.reason)
    }
}

impl Failure {
    /// A time to come is a clock that was wrong, now or then.
    fn holds(&self, now_s: u64) -> bool {
        let age = now_s.checked_sub(self.at_s);
        age.is_some_and(|age| age < FAILURE_AGE_MAX.as_secs())
    }
}

/// The entries, and the file that holds them.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// `None` keeps everything in this process.
    file: Option<PathBuf>,
    entries: Mutex<Vec<Entry>>,
    /// Held while the file is written, and before `entries`: the last to write has the newest.
    writing: Mutex<()>,
}

impl Memory {
    /// What the state folder holds.
    pub(super) fn read(state: &Path) -> Self {
        let file = state.join(FILE);
        let entries = match read(&file) {
            Ok(entries) => entries,
            Err(why) => {
                tracing::warn!(file = %file.display(), why, "what was learned of models is lost");
                Vec::new()
            }
        };
        Self { file: Some(file), entries: Mutex::new(entries), writing: Mutex::default() }
    }

    /// What is remembered of these very weights.
    pub(super) fn of(&self, model: &Model) -> Recollection {
        let weights = Weights::of(model);
        Recollection(self.lock().iter().find(|entry| entry.weights == weights).cloned())
    }

    /// Takes note of an attempt to load a model with this library.
    pub(super) fn note(&self, model: &Model, library: &Inspection, learned: &Learned) {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = {
            let mut entries = self.lock();
            note(&mut entries, Weights::of(model), Library::of(library), learned, now_s());
            Contents { format: FORMAT, models: entries.clone() }
        };
        let Some(file) = &self.file else { return };
        if let Err(error) = contents.into_bytes().and_then(|bytes| replace(file, &bytes)) {
            tracing::warn!(file = %file.display(), %error, "what was learned of models is not kept");
        }
        drop(writing);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(
    entries: &mut Vec<Entry>,
    weights: Weights,
    library: Library,
    learned: &Learned,
    now_s: u64,
) {
    let known = entries.iter().position(|entry| entry.weights.path == weights.path);
    let known = known.map(|at| entries.remove(at)).filter(|entry| entry.weights == weights);
    let fresh = Entry { weights, loaded_s: 0, header: None, worked: None, failed: Vec::new() };
    let mut entry = known.unwrap_or(fresh);
    entry.loaded_s = now_s;
    if let Some(header) = &learned.header {
        entry.header = Some(header.clone().into());
    }
    let ignore_eos = learned.choice.ignore_eos;
    let same = |failure: &Failure| failure.library == library && failure.ignore_eos == ignore_eos;
    match &learned.outcome {
        LoadOutcome::Worked => {
            entry.failed.retain(|failure| !same(failure));
            entry.worked = Some(library);
        }
        LoadOutcome::Failed(reason) => {
            entry.failed.retain(|failure| !same(failure) && failure.holds(now_s));
            entry.failed.truncate(FAILURES_MAX - 1);
            let reason = reason.chars().take(REASON_CHARS_MAX).collect();
            entry.failed.insert(0, Failure { library, ignore_eos, reason, at_s: now_s });
        }
        LoadOutcome::Inconclusive => {}
    }
    entries.insert(0, entry);
    entries.truncate(MODELS_MAX);
}

/// The entries in a file, none where there is no file.
fn read(file: &Path) -> Result<Vec<Entry>, String> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    let read = opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("longer than {FILE_BYTES_MAX} bytes"));
    }
    let Contents { format, mut models } =
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if format != FORMAT {
        return Err(format!("its format is {format}, not {FORMAT}"));
    }
    models.truncate(MODELS_MAX);
    Ok(models)
}

/// Replaces the file as a whole: who reads it finds the old or the new one, also after a power cut.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = file.with_extension(format!("json.{}", std::process::id()));
    let written = (|| {
        let mut opened = File::create(&new)?;
        opened.write_all(bytes)?;
        opened.sync_all()?;
        fs::rename(&new, file)
    })();
    if written.is_err() {
        // What cannot be written may be there in part.
        let _ = fs::remove_file(&new);
    }
    written
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use rkllama_engine::RuntimeChoice;

    use super::*;
    use crate::runtimes::tests::{library, model};

    fn header(toolkit: &str) -> ModelHeader {
        ModelHeader {
            toolkit: toolkit.to_owned(),
            context_limit_tokens: Some(2048),
            npu_cores: Some(3),
            platform: Some("RK3588".to_owned()),
            dtype: None,
        }
    }

    fn learned(toolkit: &str, outcome: LoadOutcome) -> Learned {
        Learned { choice: RuntimeChoice::new("/lib"), header: Some(header(toolkit)), outcome }
    }

    fn failed(reason: &str) -> LoadOutcome {
        LoadOutcome::Failed(reason.to_owned())
    }

    #[test]
    fn what_was_learned_outlives_the_process() {
        let state = tempfile::tempdir().unwrap();
        let deep = state.path().join("a/b");
        let (good, bad) = (library("1.2.3"), library("1.3.0"));
        let memory = Memory::read(&deep);
        memory.note(&model("m"), &bad, &learned("1.2.3", failed("was ended by signal 7")));
        memory.note(&model("m"), &good, &learned("1.2.3", LoadOutcome::Worked));

        let known = Memory::read(&deep).of(&model("m"));
        assert_eq!(known.toolkit(), Some("1.2.3"));
        assert_eq!(known.context_limit_tokens(), Some(2048));
        assert!(known.worked(&good) && !known.worked(&bad));
        assert_eq!(known.failure(&bad, false), Some("was ended by signal 7"));
        assert_eq!(known.failure(&bad, true), None, "it was not told to ignore the end");
        assert_eq!(known.failure(&good, false), None);
        let files: Vec<_> =
            fs::read_dir(&deep).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(files, [FILE], "nothing is left beside it");
    }

    #[test]
    fn other_weights_and_other_libraries_are_others() {
        let memory = Memory::default();
        let (old, m) = (library("1.3.0"), model("m"));
        memory.note(&m, &old, &learned("1.2.3", failed("x")));
        for other in [
            Model { weights_bytes: m.weights_bytes + 1, ..m.clone() },
            Model { created_s: m.created_s + 1, ..m.clone() },
            model("n"),
        ] {
            assert_eq!(memory.of(&other).toolkit(), None);
        }
        let rebuilt = Inspection { build: "0000000 2027".to_owned(), ..old.clone() };
        let moved = Inspection { path: "/elsewhere".into(), ..old.clone() };
        let known = memory.of(&m);
        assert!(known.failure(&old, false).is_some());
        for other in [rebuilt, moved] {
            assert_eq!(known.failure(&other, false), None);
        }
        // New weights at the old path replace what was known of that path.
        let new = Model { created_s: m.created_s + 1, ..m.clone() };
        memory.note(&new, &old, &learned("1.3.0", LoadOutcome::Worked));
        assert_eq!(memory.of(&m).toolkit(), None);
    }

    #[test]
    fn a_failure_is_forgotten_after_a_day_and_after_a_success() {
        let (m, lib) = (Weights::of(&model("m")), Library::of(&library("1.3.0")));
        let mut entries = Vec::new();
        let now = now_s();
        let mut at = |outcome: LoadOutcome, at_s: u64| {
            note(&mut entries, m.clone(), lib.clone(), &learned("1.3.0", outcome), at_s);
            Recollection(entries.first().cloned())
        };
        let speaks = |known: Recollection| known.failure(&library("1.3.0"), false).is_some();
        assert!(speaks(at(failed("x"), now - 60)));
        assert!(!speaks(at(failed("x"), now - FAILURE_AGE_MAX.as_secs())));
        assert!(!speaks(at(failed("x"), now + 3600)), "the clock was wrong");
        assert!(speaks(at(failed("x"), now)));
        assert!(!speaks(at(LoadOutcome::Worked, now)));
        assert!(!speaks(at(LoadOutcome::Inconclusive, now)));
    }

    #[test]
    fn it_stays_small() {
        let memory = Memory::default();
        let long = "é".repeat(10_000);
        for number in 0..MODELS_MAX + 5 {
            let m = model(&number.to_string());
            memory.note(&m, &library("1.3.0"), &learned("1.3.0", LoadOutcome::Worked));
        }
        let m = model("many failures");
        for number in 0..20 {
            let mut lib = library("1.3.0");
            lib.path = format!("/{number}").into();
            memory.note(&m, &lib, &learned("1.3.0", failed(&long)));
        }
        let entries = memory.lock();
        assert_eq!(entries.len(), MODELS_MAX);
        assert_eq!(entries[0].failed.len(), FAILURES_MAX);
        assert_eq!(entries[0].failed[0].reason.chars().count(), REASON_CHARS_MAX);
        assert!(!entries.iter().any(|entry| entry.weights == Weights::of(&model("0"))));
    }

    #[test]
    fn what_is_written_can_be_read_again_however_long_the_paths_are() {
        let state = tempfile::tempdir().unwrap();
        let memory = Memory::read(state.path());
        let deep = "/x".repeat(16_000);
        let names: Vec<_> = (0..MODELS_MAX).map(|number| format!("{deep}/{number}")).collect();
        {
            let mut entries = memory.lock();
            for name in &names {
                let (weights, lib) = (Weights::of(&model(name)), Library::of(&library("1.3.0")));
                note(&mut entries, weights, lib, &learned("1.3.0", LoadOutcome::Worked), 1);
            }
        }
        memory.note(&model("last"), &library("1.3.0"), &learned("1.2.3", LoadOutcome::Worked));
        let again = Memory::read(state.path());
        assert_eq!(again.of(&model("last")).toolkit(), Some("1.2.3"));
        assert!((50..MODELS_MAX).contains(&again.lock().len()));
    }

    #[test]
    fn a_damaged_file_is_forgotten_and_replaced() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join(FILE);
        let whole = {
            let memory = Memory::read(state.path());
            memory.note(&model("m"), &library("1.3.0"), &learned("1.3.0", LoadOutcome::Worked));
            fs::read_to_string(&file).unwrap()
        };
        let lie = whole.replace("\"toolkit\": \"1.3.0\"", "\"toolkit\": \"the newest\"");
        assert_ne!(lie, whole);
        for damaged in [
            "",
            "{",
            "[]",
            "\0\0\0\0",
            &whole[..whole.len() / 2],
            &whole.replace("\"format\": 1", "\"format\": 2"),
            &whole.replace("2048", "-1"),
            &lie,
        ] {
            fs::write(&file, damaged).unwrap();
            let memory = Memory::read(state.path());
            assert_eq!(memory.of(&model("m")).toolkit(), None, "{damaged}");
            memory.note(&model("m"), &library("1.3.0"), &learned("1.2.3", LoadOutcome::Worked));
            let known = Memory::read(state.path()).of(&model("m"));
            assert_eq!(known.toolkit(), Some("1.2.3"));
        }
        fs::write(&file, vec![b' '; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(read(&file).unwrap_err().contains("longer than"));
    }

    #[test]
    fn a_folder_that_cannot_be_written_costs_only_the_memory() {
        let state = tempfile::tempdir().unwrap();
        let taken = state.path().join("file");
        fs::write(&taken, "").unwrap();
        let memory = Memory::read(&taken.join("state"));
        memory.note(&model("m"), &library("1.3.0"), &learned("1.3.0", LoadOutcome::Worked));
        assert_eq!(memory.of(&model("m")).toolkit(), Some("1.3.0"));
    }
}
