//! A loaded model behind an `LLMHandle`: initialisation with its log lines, and what lives on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::abi::layout::Group;
use crate::chaos;
use crate::faults::{self, Faults};
use crate::generation::Generation;
use crate::latency::{self, Latency};
use crate::log;
use crate::lora::Adapter;
use crate::memory::{self, Reservation};
use crate::model_file::{self, Model, ModelError, ModelFile, Template};
use crate::sampler::Sampling;
use crate::script::Script;
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
    _memory: Reservation,
}

/// Token id of an input that has no more to say.
pub(crate) const RELEASED: i32 = -1;

/// How an initialisation ends without a handle.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InitFailure {
    /// -1.
    Refused,
    /// 0, and `*handle` is NULL.
    NullHandle,
}

fn refuse(line: &str) -> InitFailure {
    log::error(line);
    InitFailure::Refused
}

/// The script, faults and latencies that hold at this moment.
pub(crate) struct Circumstances {
    pub(crate) script: Script,
    pub(crate) faults: Faults,
    pub(crate) latency: Latency,
}

impl Circumstances {
    /// Model file, then script, then environment: the later wins. Rules of the script come first.
    pub(crate) fn now(model: Option<Script>) -> Result<Circumstances, String> {
        let outer = Script::from_environment()?;
        let own = model.unwrap_or_default();
        let environment = faults::from_environment();
        let faults = faults::merge(&[&own.faults, &outer.faults, &environment])?;
        let mut latency = own.latency.overlaid(outer.latency);
        latency.scale = latency::scale_from_environment().or(latency.scale);
        let mut script = outer;
        script.rules.extend(own.rules);
        Ok(Circumstances { script, faults, latency })
    }
}

static INITS: AtomicU32 = AtomicU32::new(0);

/// Runs in progress in this process.
pub(crate) static RUNNING: AtomicU32 = AtomicU32::new(0);

impl Handle {
    /// Loads a model, printing what the vendor's library prints.
    pub(crate) fn init(
        runtime: Runtime,
        param: Option<Param>,
        services: Services,
    ) -> Result<Arc<Handle>, InitFailure> {
        let started = Instant::now();
        let early = circumstances(None)?;
        let board = early.faults.board_platform.clone().unwrap_or_else(|| "RK3588".to_owned());
        let driver = early.faults.driver_version.clone().unwrap_or_else(|| "0.9.8".to_owned());
        log::info(&format!(
            "rkllm-runtime version: {}, rknpu driver version: {driver}, platform: {board}",
            runtime.version
        ));
        check_board(&board, &driver)?;
        let param = param.ok_or_else(|| refuse("RKLLMParam pointer is NULL"))?;
        let file = open_model(&param)?;
        let now = circumstances(Some(file.script()))?;
        let limit = now.faults.context_limit.unwrap_or(file.max_context_limit);
        print_model(runtime, &file, limit);
        check_param(runtime, &param, &file, limit, &board)?;
        let earlier = INITS.fetch_add(1, Ordering::Relaxed);
        act_faults(&now.faults)?;
        let memory = reserve(runtime, &param, &file, &now.faults, earlier)?;
        let model = Model::load(&param.model_path, file, model_file::seed_from_environment())
            .map_err(|error| {
                log::mock(&error);
                refuse("invalid rkllm model!")
            })?;
        std::thread::sleep(now.latency.load().saturating_sub(started.elapsed()));
        print_cpus(&param);
        let eos_ids = eos_ids(runtime, &model, &now.faults);
        if log::level() >= 2 {
            print_eos(runtime, &model, &eos_ids);
        }
        Ok(Arc::new(Handle {
            runtime,
            eos_ids,
            init_ms: started.elapsed().as_secs_f64() * 1e3,
            session: Mutex::new(Session {
                kv: Vec::new(),
                system_len: 0,
                template: model.file.template.clone(),
                template_is_custom: false,
                paused: None,
                last_keep_history: false,
                stale_token: None,
                is_aborted: false,
                adapters: Vec::new(),
                cache_is_loaded: false,
                other_kvs: Vec::new(),
                embedded: HashMap::new(),
            }),
            running: AtomicBool::new(false),
            abort: Abort::default(),
            background: Mutex::new(None),
            runs: AtomicU64::new(0),
            _memory: memory,
            services,
            param,
            model,
        }))
    }

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

fn circumstances(model: Option<Script>) -> Result<Circumstances, InitFailure> {
    Circumstances::now(model).map_err(|error| {
        log::mock(&error);
        refuse("rkllm_init failed")
    })
}

const PLATFORMS: [&str; 4] = ["RK3588", "RK3576", "RV1126B", "RK3562"];

fn check_board(board: &str, driver: &str) -> Result<(), InitFailure> {
    if Version::parse(driver).is_some_and(|version| version < Version::new(0, 9, 7)) {
        log::warn("Warning: Your rknpu driver version is too low, please upgrade to 0.9.7");
    }
    if PLATFORMS.contains(&board) {
        return Ok(());
    }
    log::out(&format!(
        "Platform error, must be either RK3588, RK3576, RV1126B or RK3562. Your platform is {board}"
    ));
    Err(InitFailure::Refused)
}

fn open_model(param: &Param) -> Result<ModelFile, InitFailure> {
    let shown = param.model_path.display().to_string();
    log::info(&format!("loading rkllm model from {shown}"));
    ModelFile::read(&param.model_path).map_err(|error| match error {
        ModelError::Open(reason) => refuse(&format!("failed to open '{shown}': '{reason}'")),
        ModelError::Foreign => refuse("invalid rkllm model!"),
        ModelError::Broken(reason) => {
            log::mock(&format!("{shown}: {reason}"));
            refuse("invalid rkllm model!")
        }
    })
}

fn print_model(runtime: Runtime, file: &ModelFile, limit: u32) {
    let mut line = format!(
        "rkllm-toolkit version: {}, max_context_limit: {limit}, npu_core_num: {}, target_platform: {}",
        file.toolkit_version, file.npu_core_num, file.target_platform
    );
    if runtime.group >= Group::E {
        line.push_str(&format!(", model_dtype: {}", file.model_dtype));
    }
    log::info(&line);
}

fn check_param(
    runtime: Runtime,
    param: &Param,
    file: &ModelFile,
    limit: u32,
    board: &str,
) -> Result<(), InitFailure> {
    let toolkit =
        Version::parse(&file.toolkit_version).ok_or_else(|| refuse("invalid version number"))?;
    if toolkit > runtime.version {
        return Err(refuse(&format!(
            "The rkllm-runtime version is lower than the rkllm-toolkit version. \
             Please update rkllm-runtime to {toolkit} or higher."
        )));
    }
    if toolkit < Version::new(1, 2, 0) && runtime.group >= Group::D {
        log::warn(
            "the model version is too old, please use the latest toolkit to reconvert the model",
        );
        return Err(refuse("rkllm_init failed"));
    }
    if !board.eq_ignore_ascii_case(&file.target_platform) {
        return Err(refuse("the model's target_platform does not match the real platform"));
    }
    if param.max_context_len <= 0 || param.max_context_len as u32 > limit {
        return Err(refuse(&format!(
            "max_context[{}] must be less than the model's max_context_limit[{limit}]",
            param.max_context_len
        )));
    }
    if param.n_keep >= param.max_context_len {
        return Err(refuse("The n_keep must be less than the max_context_len"));
    }
    check_cpus(param, file, board)?;
    match param.n_batch {
        Some(n) if !(1..=100).contains(&n) => {
            Err(refuse(&format!("The n_batch must be between 1 and 100, but got {n}")))
        }
        _ => check_tags(param),
    }
}

fn check_cpus(param: &Param, file: &ModelFile, board: &str) -> Result<(), InitFailure> {
    let (Some(num), Some(mask)) = (param.enabled_cpus_num, param.enabled_cpus_mask) else {
        return Ok(());
    };
    let max = if matches!(board, "RK3562" | "RV1126B") { 4 } else { 8 };
    if !(1..=max).contains(&num) {
        return Err(refuse(&format!(
            "Expected The number of enabled CPUs between 1 and {max} for {board}, but got {num}."
        )));
    }
    if mask.count_ones() != num as u32 {
        return Err(refuse(
            "Mismatch between enabled CPUs mask and expected count. Please check the configuration.",
        ));
    }
    if max == 4 && mask > 0xf {
        return Err(refuse(&format!(
            "For {board}, only CPUs 0 to 3 can be set, but additional CPUs are enabled."
        )));
    }
    if (num as u32) < file.npu_core_num {
        return Err(refuse(
            "The number of enabled CPUs must be greater than or equal to the number of NPU cores.",
        ));
    }
    Ok(())
}

/// The 1.2 releases take the tags' length without a look.
fn check_tags(param: &Param) -> Result<(), InitFailure> {
    match &param.image_tags {
        Some(tags) if tags.iter().any(Option::is_none) => {
            faults::segfault("img_start, img_end or img_content is NULL")
        }
        _ => Ok(()),
    }
}

/// Takes the model's NPU memory. Without it 1.3.0 dies where a model was loaded before, and the
/// other releases say so.
fn reserve(
    runtime: Runtime,
    param: &Param,
    file: &ModelFile,
    faults: &Faults,
    earlier: u32,
) -> Result<Reservation, InitFailure> {
    let domain_mb = faults.npu_domain_mb.unwrap_or(memory::DOMAIN_MB);
    let board = faults.npu_board.as_deref().map(Path::new);
    let mb = memory::model_mb(file.parameters_b, &file.model_dtype);
    let denied = faults.second_init_no_memory && earlier > 0;
    let reserved = (!denied).then(|| memory::reserve(mb, param.base_domain_id, domain_mb, board));
    if let Some(reservation) = reserved.flatten() {
        return Ok(reservation);
    }
    log::raw_stderr("E RKNN: failed to allocate handle, ret: -1, errno: 14, errstr: Bad address\n");
    if runtime.version == Version::new(1, 3, 0) && earlier > 0 {
        faults::segfault("no NPU memory for a further model");
    }
    Err(refuse("rkllm_init failed"))
}

fn act_faults(faults: &Faults) -> Result<(), InitFailure> {
    if faults.hang_in_init {
        faults::hang("rkllm_init");
    }
    if faults.sigbus_in_init {
        faults::die(libc::SIGBUS, "sigbus_in_init");
    }
    while faults.init_waits_for_runs && RUNNING.load(Ordering::Acquire) > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    if faults.init_null_handle {
        return Err(InitFailure::NullHandle);
    }
    if faults.init_fails { Err(refuse("rkllm_init failed")) } else { Ok(()) }
}

fn print_cpus(param: &Param) {
    if let (Some(num), Some(mask)) = (param.enabled_cpus_num, param.enabled_cpus_mask) {
        let cpus: Vec<String> =
            (0..32).filter(|cpu| mask >> cpu & 1 == 1).map(|cpu: u32| cpu.to_string()).collect();
        log::info(&format!("Enabled cpus: [{}]", cpus.join(", ")));
        log::info(&format!("Enabled cpus num: {num}"));
    }
}

/// The ids at which this runtime stops. 1.3 reads none from files of older toolkits and falls back
/// on its vocabulary's default, which is a comma in the Qwen family.
fn eos_ids(runtime: Runtime, model: &Model, faults: &Faults) -> Vec<u32> {
    let toolkit = Version::parse(&model.file.toolkit_version);
    let first_good = Version::new(1, 3, 0);
    let mismatch = runtime.group >= Group::F && toolkit.is_some_and(|toolkit| toolkit < first_good);
    if mismatch || faults.eos_unread {
        return vec![if model.vocabulary.is_bpe() { 11 } else { 2 }];
    }
    model.file.eos_ids.clone()
}

fn print_eos(runtime: Runtime, model: &Model, ids: &[u32]) {
    for (index, id) in ids.iter().enumerate() {
        let text = String::from_utf8_lossy(model.vocabulary.piece(*id)).into_owned();
        if runtime.group >= Group::F {
            log::info(&format!("EOS token[{index}]: {id} '{text}'"));
        } else if index == 0 {
            log::info(&format!("EOS token: {id} '{text}'"));
        }
    }
}
