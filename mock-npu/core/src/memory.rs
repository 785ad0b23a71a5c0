//! NPU memory: 16 IOMMU domains of 4 GiB, and what the loaded models take of them.
//!
//! A model that fits a domain must fit what is left of its base domain; a larger one takes whole
//! domains from there on. Processes know of each other only when they share a board: a file that
//! the fault `npu_board` names, locked while it is read and written.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Size of a domain: the NPU has 32-bit addresses.
pub(crate) const DOMAIN_MB: u64 = 4096;
const DOMAINS: u32 = 16;

/// What one model takes of one domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    pid: u32,
    model: u64,
    domain: u32,
    mb: u64,
}

static OWN: Mutex<Vec<Entry>> = Mutex::new(Vec::new());
static MODELS: AtomicU64 = AtomicU64::new(1);

/// Memory that a loaded model holds until it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    model: u64,
    board: Option<PathBuf>,
}

/// NPU memory of a model in MB: its weights and buffers.
pub(crate) fn model_mb(parameters_b: f64, dtype: &str) -> u64 {
    let per_billion = if dtype.to_ascii_lowercase().starts_with("w4") { 550.0 } else { 1000.0 };
    (parameters_b * per_billion) as u64 + 70
}

/// Takes memory from a domain on; `None` when it is not there.
pub(crate) fn reserve(
    mb: u64,
    base_domain: i32,
    domain_mb: u64,
    board: Option<&Path>,
) -> Option<Reservation> {
    let base = u32::try_from(base_domain).ok().filter(|base| *base < DOMAINS)?;
    let model = MODELS.fetch_add(1, Ordering::Relaxed);
    let fits = on_entries(board, |entries| match place(entries, mb, base, domain_mb) {
        Some(parts) => {
            let pid = std::process::id();
            entries.extend(parts.into_iter().map(|(domain, mb)| Entry { pid, model, domain, mb }));
            true
        }
        None => false,
    });
    fits.then(|| Reservation { model, board: board.map(Path::to_owned) })
}

/// The domains and shares that a model of this size gets.
fn place(entries: &[Entry], mb: u64, base: u32, domain_mb: u64) -> Option<Vec<(u32, u64)>> {
    let used = |domain| entries.iter().filter(|e| e.domain == domain).map(|e| e.mb).sum::<u64>();
    let mut parts = Vec::new();
    let mut left = mb;
    for domain in base..DOMAINS {
        let share = left.min(domain_mb);
        if used(domain) + share > domain_mb {
            return None;
        }
        parts.push((domain, share));
        left -= share;
        if left == 0 {
            return Some(parts);
        }
    }
    None
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let (pid, model) = (std::process::id(), self.model);
        on_entries(self.board.as_deref(), |entries| {
            entries.retain(|entry| (entry.pid, entry.model) != (pid, model));
            true
        });
    }
}

fn on_entries(board: Option<&Path>, change: impl FnOnce(&mut Vec<Entry>) -> bool) -> bool {
    let Some(path) = board else {
        return change(&mut OWN.lock().unwrap_or_else(PoisonError::into_inner));
    };
    match shared(path, change) {
        Ok(changed) => changed,
        Err(error) => {
            crate::log::mock(&format!("npu_board: {}: {error}", path.display()));
            false
        }
    }
}

fn shared(path: &Path, change: impl FnOnce(&mut Vec<Entry>) -> bool) -> std::io::Result<bool> {
    let mut file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    lock(&file)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // The driver frees what a dead process held.
    let mut entries: Vec<Entry> = text.lines().filter_map(parse).filter(is_alive).collect();
    let changed = change(&mut entries);
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    for Entry { pid, model, domain, mb } in &entries {
        writeln!(file, "{pid} {model} {domain} {mb}")?;
    }
    Ok(changed)
}

/// Waits for the board; closing the file lets go of it.
fn lock(file: &File) -> std::io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file`.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
    if locked == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn parse(line: &str) -> Option<Entry> {
    let numbers: Option<Vec<u64>> = line.split(' ').map(|word| word.parse().ok()).collect();
    match numbers?[..] {
        [pid, model, domain, mb] => {
            Some(Entry { pid: pid as u32, model, domain: domain as u32, mb })
        }
        _ => None,
    }
}

fn is_alive(entry: &Entry) -> bool {
    Path::new("/proc").join(entry.pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("board")
    }

    #[test]
    fn as_many_models_fit_a_domain_as_on_a_board() {
        for (parameters_b, fit) in [(0.6, 6), (1.7, 2), (4.0, 1)] {
            let folder = tempfile::tempdir().expect("a folder");
            let mb = model_mb(parameters_b, "W8A8");
            let board = board(&folder);
            let take = |_| reserve(mb, 0, DOMAIN_MB, Some(&board));
            let held: Vec<Reservation> = (0..10).map_while(take).collect();
            assert_eq!(held.len(), fit, "{parameters_b} B");
            assert!(reserve(mb, 1, DOMAIN_MB, Some(&board)).is_some(), "another domain is free");
        }
    }

    #[test]
    fn a_large_model_takes_domains_in_a_row_and_gives_them_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let board = board(&folder);
        let large = reserve(9000, 1, DOMAIN_MB, Some(&board)).expect("three domains");
        assert!(reserve(4096, 2, DOMAIN_MB, Some(&board)).is_none());
        assert!(reserve(4096, 4, DOMAIN_MB, Some(&board)).is_some());
        drop(large);
        assert!(reserve(4096, 2, DOMAIN_MB, Some(&board)).is_some());
    }

    #[test]
    fn the_dead_hold_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let board = board(&folder);
        std::fs::write(&board, "4194304 1 0 4096\n").expect("written");
        assert!(reserve(4096, 0, DOMAIN_MB, Some(&board)).is_some());
    }
}
