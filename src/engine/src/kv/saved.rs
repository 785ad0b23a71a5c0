//! Prompts whose KV cache is kept on disk: long beginnings, such as a system prompt with its list of
//! tools, that conversations taking turns on one model share.
//!
//! The runtime writes and reads the files; this side decides which there are. Beside each stands a
//! record with the tokens, the model, the runtime and a checksum: a file is given to the runtime only
//! if all of them are right, and removed otherwise. There are at most so many bytes of them; the
//! least recently used go first. Nothing in a file is of use without the very same tokens at the
//! beginning of a prompt, so nobody learns from them what others asked.
//!
//! A directory entry at a time:
//!
//! ```text
//!   NAME.part ── checked, record written ──▶ NAME.kv + NAME.json
//! ```
//!
//! Everything here blocks on the disk.

use std::{
    collections::HashMap,
    fs::{self, File},
    hash::Hash,
    io::{self, BufReader, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// Version of the records; others are not read.
const RECORD_VERSION: u32 = 1;
/// Version of llama.cpp's state files, which the vendor's format follows.
const STATE_VERSION: u32 = 8;
/// Files of one model. A model serves a few applications; more than that are prompts that change.
const FILES_PER_MODEL_MAX: usize = 32;

/// Which prompts are kept, and how many bytes of them.
#[derive(Debug, Clone)]
pub struct SavedPromptsConfig {
    /// The folder.
    pub dir: PathBuf,
    /// Bytes of all files together. A token of a model of 4 billion parameters takes 150 kB.
    pub bytes_max: u64,
    /// Tokens from which a beginning is worth a file: computing fewer takes about as long as reading
    /// them from a slow card.
    pub tokens_min: usize,
    /// Files that nobody has used for so long are removed at start.
    pub age_max: Duration,
}

/// What a file depends on besides its tokens: the weights, the runtime, the context.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ModelKey(String);

impl ModelKey {
    pub(crate) fn new(parts: &impl Hash) -> Self {
        let mut hasher = Xxh3::new();
        parts.hash(&mut hasher);
        Self(format!("{:016x}", hasher.digest()))
    }
}

/// What stands beside a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    version: u32,
    model: String,
    tokens: Vec<i32>,
    bytes: u64,
    xxh3: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    record: Record,
    used: SystemTime,
}

/// The files there are.
#[derive(Debug)]
pub(crate) struct SavedPrompts {
    config: SavedPromptsConfig,
    entries: Mutex<HashMap<String, Entry>>,
}

impl SavedPrompts {
    /// Looks through the folder; creates it when there is none. What does not belong there or is too
    /// old is removed.
    pub(crate) fn open(config: SavedPromptsConfig) -> io::Result<Self> {
        // What was asked is nobody else's business.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.dir)?;
        let mut entries = HashMap::new();
        for file in fs::read_dir(&config.dir)?.filter_map(Result::ok) {
            let path = file.path();
            let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => match read_record(&path, &config) {
                    Some(entry) => drop(entries.insert(name.to_owned(), entry)),
                    None => remove(&path),
                },
                // Left by a server that was killed while it saved.
                Some("part") => remove(&path),
                Some("kv") if !path.with_extension("json").exists() => remove(&path),
                _ => {}
            }
        }
        let kept = |name: &String| config.dir.join(format!("{name}.kv")).exists();
        entries.retain(|name, _| kept(name));
        let saved = Self { config, entries: Mutex::new(entries) };
        saved.make_room(0);
        Ok(saved)
    }

    pub(crate) const fn tokens_min(&self) -> usize {
        self.config.tokens_min
    }

    /// The file of exactly these tokens, checked; one that is wrong is removed.
    pub(crate) fn find(&self, model: &ModelKey, tokens: &[i32]) -> Option<PathBuf> {
        let name = name_of(model, tokens);
        let record = {
            let mut entries = self.lock();
            let entry = entries.get_mut(&name).filter(|entry| entry.record.tokens == tokens)?;
            entry.used = SystemTime::now();
            entry.record.clone()
        };
        let path = self.path(&name, "kv");
        match check(&path, &record.tokens) {
            Ok(found) if found == (record.bytes, record.xxh3) => {
                touch(&self.path(&name, "json"));
                Some(path)
            }
            Ok(_) => {
                tracing::warn!(path = %path.display(), "a saved prompt is damaged and is removed");
                self.discard(model, tokens);
                None
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a saved prompt is removed");
                self.discard(model, tokens);
                None
            }
        }
    }

    /// Where the runtime shall write the file of these tokens.
    pub(crate) fn place(&self, model: &ModelKey, tokens: &[i32]) -> PathBuf {
        self.path(&name_of(model, tokens), "part")
    }

    /// Takes a file that the runtime has written to its [`place`](Self::place).
    pub(crate) fn keep(&self, model: &ModelKey, tokens: &[i32]) -> io::Result<()> {
        let name = name_of(model, tokens);
        let part = self.path(&name, "part");
        let checked = check(&part, tokens).and_then(|(bytes, xxh3)| {
            if bytes > self.config.bytes_max {
                return Err(io::Error::other(format!("{bytes} bytes are more than all may take")));
            }
            let (model, tokens) = (model.0.clone(), tokens.to_vec());
            Ok(Record { version: RECORD_VERSION, model, tokens, bytes, xxh3 })
        });
        let record = checked.inspect_err(|_| remove(&part))?;
        self.make_room(record.bytes);
        fs::rename(&part, self.path(&name, "kv"))?;
        fs::write(self.path(&name, "json"), serde_json::to_vec(&record)?)?;
        let bytes = record.bytes;
        self.lock().insert(name, Entry { record, used: SystemTime::now() });
        tracing::info!(tokens = tokens.len(), bytes, "a prompt was saved");
        Ok(())
    }

    /// Removes the file of these tokens, finished or not.
    pub(crate) fn discard(&self, model: &ModelKey, tokens: &[i32]) {
        let name = name_of(model, tokens);
        self.lock().remove(&name);
        self.remove_files(&name);
    }

    /// Removes what was used least recently until there is room for so many bytes more.
    fn make_room(&self, bytes: u64) {
        let mut entries = self.lock();
        loop {
            let total: u64 = entries.values().map(|entry| entry.record.bytes).sum();
            let mut per_model: HashMap<&str, usize> = HashMap::new();
            for entry in entries.values() {
                *per_model.entry(&entry.record.model).or_default() += 1;
            }
            let crowded = |entry: &Entry| {
                per_model.get(&*entry.record.model).is_some_and(|n| *n > FILES_PER_MODEL_MAX)
            };
            let is_full = total.saturating_add(bytes) > self.config.bytes_max;
            let candidates = entries.iter().filter(|(_, entry)| is_full || crowded(entry));
            let oldest = candidates.min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else { return };
            entries.remove(&oldest);
            self.remove_files(&oldest);
        }
    }

    fn remove_files(&self, name: &str) {
        for extension in ["part", "kv", "json"] {
            remove(&self.path(name, extension));
        }
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.config.dir.join(format!("{name}.{extension}"))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_of(model: &ModelKey, tokens: &[i32]) -> String {
    let mut hasher = Xxh3::new();
    tokens.iter().for_each(|token| hasher.update(&token.to_le_bytes()));
    format!("{}-{:016x}", model.0, hasher.digest())
}

fn read_record(path: &Path, config: &SavedPromptsConfig) -> Option<Entry> {
    let record: Record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let used = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
    let is_old = used.elapsed().is_ok_and(|age| age > config.age_max);
    (record.version == RECORD_VERSION && !is_old).then_some(Entry { record, used })
}

/// Length and checksum of a file that holds exactly these tokens.
///
/// The head is the vendor's: a word whose meaning is not known, the version, the number of tokens,
/// their ids. A head of another form is refused: what cannot be read cannot be trusted.
fn check(path: &Path, tokens: &[i32]) -> io::Result<(u64, u64)> {
    let mut head = Vec::with_capacity(8 + 4 * tokens.len());
    head.extend(STATE_VERSION.to_le_bytes());
    head.extend(u32::try_from(tokens.len()).unwrap_or(u32::MAX).to_le_bytes());
    tokens.iter().for_each(|token| head.extend(token.to_le_bytes()));

    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut hasher = Xxh3::new();
    let mut found = vec![0; 4 + head.len()];
    reader.read_exact(&mut found).map_err(|_| io::Error::other("it is too short"))?;
    if found[4..] != head {
        return Err(io::Error::other("it holds other tokens, or has a form that is not known"));
    }
    hasher.update(&found);
    let mut bytes = u64::try_from(found.len()).unwrap_or(u64::MAX);
    let mut chunk = vec![0; 1 << 20];
    loop {
        let len = reader.read(&mut chunk)?;
        if len == 0 {
            return Ok((bytes, hasher.digest()));
        }
        hasher.update(&chunk[..len]);
        bytes += u64::try_from(len).unwrap_or(u64::MAX);
    }
}

/// The record's time is that of its last use, across restarts too.
fn touch(path: &Path) {
    let touched = File::options().append(true).open(path);
    if let Err(error) = touched.and_then(|file| file.set_modified(SystemTime::now())) {
        tracing::debug!(path = %path.display(), %error, "cannot note the use of a saved prompt");
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(path = %path.display(), %error, "cannot remove a file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: &[i32] = &[5, 6, 7];

    fn config(dir: &Path, bytes_max: u64) -> SavedPromptsConfig {
        let age_max = Duration::from_secs(3600);
        SavedPromptsConfig { dir: dir.join("kv"), bytes_max, tokens_min: 2, age_max }
    }

    fn open(dir: &Path, bytes_max: u64) -> SavedPrompts {
        SavedPrompts::open(config(dir, bytes_max)).unwrap()
    }

    fn model() -> ModelKey {
        ModelKey::new(&("a.rkllm", 1_u64))
    }

    /// A file as the vendor writes it, with a body of a hundred bytes.
    fn write(path: &Path, tokens: &[i32]) {
        let mut bytes = 43_u32.to_le_bytes().to_vec();
        bytes.extend(STATE_VERSION.to_le_bytes());
        bytes.extend(u32::try_from(tokens.len()).unwrap().to_le_bytes());
        tokens.iter().for_each(|token| bytes.extend(token.to_le_bytes()));
        bytes.resize(bytes.len() + 100, 1);
        fs::write(path, bytes).unwrap();
    }

    fn save(saved: &SavedPrompts, tokens: &[i32]) -> io::Result<()> {
        write(&saved.place(&model(), tokens), tokens);
        saved.keep(&model(), tokens)
    }

    fn files(dir: &Path) -> usize {
        fs::read_dir(dir.join("kv")).unwrap().count()
    }

    #[test]
    fn a_saved_prompt_is_found_again_by_its_tokens_and_its_model() {
        let dir = tempfile::tempdir().unwrap();
        let saved = open(dir.path(), 10_000);
        assert_eq!(saved.find(&model(), TOKENS), None);
        save(&saved, TOKENS).unwrap();
        for saved in [saved, open(dir.path(), 10_000)] {
            assert!(saved.find(&model(), TOKENS).is_some_and(|path| path.is_file()));
            assert_eq!(saved.find(&model(), &[5, 6, 8]), None);
            assert_eq!(saved.find(&ModelKey::new(&("b.rkllm", 1_u64)), TOKENS), None);
        }
    }

    #[test]
    fn a_file_of_other_tokens_or_another_form_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let saved = open(dir.path(), 10_000);
        let place = saved.place(&model(), TOKENS);
        for wrong in [&[5, 6][..], &[5, 6, 8], &[5, 6, 7, 8]] {
            write(&place, wrong);
            assert!(saved.keep(&model(), TOKENS).is_err(), "{wrong:?}");
        }
        fs::write(&place, "short").unwrap();
        assert!(saved.keep(&model(), TOKENS).is_err());
        assert!(saved.keep(&model(), TOKENS).is_err(), "nothing was written");
        assert_eq!(files(dir.path()), 0);
    }

    #[test]
    fn a_damaged_file_is_removed_and_not_used() {
        for damage in
            [|bytes: &mut Vec<u8>| bytes[60] ^= 1, |bytes: &mut Vec<u8>| bytes.truncate(80)]
        {
            let dir = tempfile::tempdir().unwrap();
            let saved = open(dir.path(), 10_000);
            save(&saved, TOKENS).unwrap();
            let path = saved.find(&model(), TOKENS).unwrap();
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
            assert_eq!(saved.find(&model(), TOKENS), None);
            assert_eq!(files(dir.path()), 0);
        }
    }

    #[test]
    fn the_least_recently_used_make_room() {
        let dir = tempfile::tempdir().unwrap();
        // Each has 124 bytes.
        let saved = open(dir.path(), 300);
        let old = |tokens: &[i32], seconds: u64| {
            let mut entries = saved.lock();
            let entry = entries.get_mut(&name_of(&model(), tokens)).unwrap();
            entry.used = SystemTime::now() - Duration::from_secs(seconds);
        };
        save(&saved, &[1, 2, 3]).unwrap();
        save(&saved, &[4, 5, 6]).unwrap();
        old(&[1, 2, 3], 10);
        old(&[4, 5, 6], 20);
        save(&saved, &[7, 8, 9]).unwrap();
        assert!(saved.find(&model(), &[1, 2, 3]).is_some());
        assert_eq!(saved.find(&model(), &[4, 5, 6]), None);
        assert_eq!(files(dir.path()), 4);

        assert!(save(&open(dir.path(), 100), &[1, 1, 1]).is_err(), "larger than all may be");
        assert_eq!(files(dir.path()), 0, "a smaller bound holds for what was there before");
    }

    #[test]
    fn what_does_not_belong_there_is_swept_at_start() {
        let dir = tempfile::tempdir().unwrap();
        save(&open(dir.path(), 10_000), TOKENS).unwrap();
        let kv = dir.path().join("kv");
        for (file, content) in [("a.part", "x"), ("b.kv", "x"), ("c.json", "{}"), ("d.json", "")] {
            fs::write(kv.join(file), content).unwrap();
        }
        assert!(open(dir.path(), 10_000).find(&model(), TOKENS).is_some());
        assert_eq!(files(dir.path()), 2);

        let aged = SavedPromptsConfig { age_max: Duration::ZERO, ..config(dir.path(), 10_000) };
        assert_eq!(SavedPrompts::open(aged).unwrap().find(&model(), TOKENS), None);
    }

    #[test]
    fn nobody_else_can_read_the_folder() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let _saved = open(dir.path(), 10_000);
        let mode = fs::metadata(dir.path().join("kv")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
