//! `rkllm_init`: the checks and log lines of the vendor's library, in its order.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::abi::layout::Group;
use crate::circumstances::Circumstances;
use crate::faults::{self, Faults};
use crate::handle::{Abort, Handle, Param, RUNNING, Runtime, Session};
use crate::log;
use crate::memory::{self, Reservation};
use crate::model_file::{self, Model, ModelError, ModelFile};
use crate::script::Script;
use crate::services::Services;
use crate::version::Version;

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

static INITS: AtomicU32 = AtomicU32::new(0);

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
        act_faults(runtime, &now.faults)?;
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
                spoilt: 0,
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

fn act_faults(runtime: Runtime, faults: &Faults) -> Result<(), InitFailure> {
    let this = Some(runtime.version.to_string());
    if faults.hang_in_init || faults.hang_in_init_of == this {
        faults::hang("rkllm_init");
    }
    if faults.sigbus_in_init || faults.sigbus_in_init_of == this {
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
    if (mismatch && !faults.eos_read) || faults.eos_unread {
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
