//! A loaded model behind an `LLMHandle`: what lives on between calls.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::abi::layout::Group;
use crate::chaos;
use crate::circumstances::Circumstances;
use crate::faults::Faults;
use crate::generation::Generation;
use crate::lora::Adapter;
use crate::memory::Reservation;
use crate::model_file::{Model, Template};
use crate::sampler::Sampling;
use crate::services::Services;
use crate::version::Version;

/// Which library this is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runtime {
    pub(crate) group: Group,
    pub(crate) version: Version,
}

/// `RKLLMParam` of any group, decoded.
#[derive(Clone, Debug)]
pub(crate) struct Param {
    pub(crate) model_path: PathBuf,
    pub(crate) max_context_len: i32,
    pub(crate) max_new_tokens: i32,
    pub(crate) n_keep: i32,
    pub(crate) sampling: Sampling,
    pub(crate) skip_special_token: bool,
    pub(crate) ignore_eos_token: bool,
    /// Start, end and content tag, where the group has them here; `None` inside for NULL.
    pub(crate) image_tags: Option<[Option<Vec<u8>>; 3]>,
    pub(crate) base_domain_id: i32,
    pub(crate) embed_flash: bool,
    pub(crate) enabled_cpus_num: Option<i32>,
    pub(crate) enabled_cpus_mask: Option<u32>,
    pub(crate) n_batch: Option<u8>,
    pub(crate) use_cross_attn: bool,
}

/// The request to stop, made by any thread.
#[derive(Default)]
pub(crate) struct Abort {
    at: Mutex<Option<Instant>>,
    /// Looked at for every token: spares the lock while nobody asks.
    asked: AtomicBool,
}

impl Abort {
    pub(crate) fn ask(&self) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.get_or_insert_with(Instant::now);
        self.asked.store(true, Ordering::Release);
    }

    pub(crate) fn clear(&self) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.asked.store(false, Ordering::Release);
    }

    /// Whether an abort takes effect now.
    pub(crate) fn is_heard(&self, faults: &Faults) -> bool {
        if !self.asked.load(Ordering::Acquire) || faults.abort_ignored {
            return false;
        }
        let deaf = Duration::from_millis(faults.abort_ignored_ms.unwrap_or(0));
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|at| at.elapsed() >= deaf)
    }
}

/// What changes from run to run.
pub(crate) struct Session {
    /// Tokens whose keys and values are in the cache.
    pub(crate) kv: Vec<u32>,
    /// How much of the cache is the system prompt.
    pub(crate) system_len: usize,
    pub(crate) template: Template,
    /// `rkllm_set_chat_template` was called: nothing is automatic any more.
    pub(crate) template_is_custom: bool,
    /// A generation that the callback paused.
    pub(crate) paused: Option<Generation>,
    pub(crate) last_keep_history: bool,
    pub(crate) stale_token: Option<u32>,
    /// The last run was aborted, and the cache not cleared since.
    pub(crate) is_aborted: bool,
    /// How many tokens at the cache's beginning an abort has spoilt.
    pub(crate) spoilt: usize,
    pub(crate) adapters: Vec<Adapter>,
    pub(crate) cache_is_loaded: bool,
    /// Caches of the further inputs of a batch.
    pub(crate) other_kvs: Vec<Vec<u32>>,
    /// Which token a cell with an embedding from the caller stands for.
    pub(crate) embedded: HashMap<u32, u32>,
}

/// What an `LLMHandle` points at.
pub(crate) struct Handle {
    pub(crate) runtime: Runtime,
    pub(crate) param: Param,
    pub(crate) model: Model,
    pub(crate) services: Services,
    pub(crate) eos_ids: Vec<u32>,
    pub(crate) init_ms: f64,
    pub(crate) session: Mutex<Session>,
    pub(crate) running: AtomicBool,
    pub(crate) abort: Abort,
    pub(crate) background: Mutex<Option<JoinHandle<()>>>,
    /// Runs begun so far: chaos counts them.
    pub(crate) runs: AtomicU64,
    pub(crate) _memory: Reservation,
}

/// Token id of an input that has no more to say.
pub(crate) const RELEASED: i32 = -1;

/// Runs in progress in this process.
pub(crate) static RUNNING: AtomicU32 = AtomicU32::new(0);

impl Handle {
    /// Faults that hold outside of a run.
    pub(crate) fn faults_now(&self) -> Result<Faults, String> {
        Circumstances::now(Some(self.model.file.script())).map(|now| now.faults)
    }

    /// Circumstances of a run that starts now.
    pub(crate) fn circumstances(&self) -> Result<Circumstances, String> {
        let mut now = Circumstances::now(Some(self.model.file.script()))?;
        if let Some(seed) = now.faults.chaos {
            let run = self.runs.fetch_add(1, Ordering::Relaxed);
            chaos::disturb(&mut now.faults, seed, run);
        }
        Ok(now)
    }
}
