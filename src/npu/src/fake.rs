//! A vendor library made of Rust functions, for unit tests without one.
//!
//! It reads what it is given by the figures of `abi/rkllm-abi.json` and not by our structures, so a
//! field that is set at the wrong place is seen at the wrong place.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::Value;

use crate::{
    Library, OpenError,
    fingerprint::DefaultParamFn,
    raw::{
        ExtendParam, Handle, INPUT_MULTIMODAL, LastHiddenLayer, Logits, LoraAdapter, ParamHead,
        PerfStat, ResultCallback, RunResult, call_state, e, f,
    },
    table::{GroupFns, Table},
};

/// One call of the result callback.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    /// A token with its text; none is a null pointer.
    Normal(i32, Option<&'static str>),
    /// A token inside an unfinished character, with a text that must not be used.
    Waiting(i32),
    /// A state without a result.
    Bare(c_int),
    /// The end, with the number of prefilled tokens.
    Finish(c_int),
    /// Tokens until somebody aborts.
    UntilAborted,
}

/// What the fake does next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    pub(crate) init_status: c_int,
    pub(crate) no_handle: bool,
    pub(crate) calls: Vec<Call>,
    pub(crate) run_status: c_int,
    pub(crate) kv_tokens: c_int,
    pub(crate) clear_status: c_int,
    pub(crate) load_cache_status: c_int,
    pub(crate) load_lora_status: c_int,
}

/// What the fake was told.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) aborts: AtomicUsize,
}

impl Seen {
    fn note(&self, call: impl Into<String>) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call.into());
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Fields = BTreeMap<String, String>;

thread_local! {
    /// Taken by the next init on this thread: the functions have no other way to be told apart.
    static NEXT: RefCell<Option<(Script, Arc<Seen>)>> = const { RefCell::new(None) };
    /// What the last init and the last run on this thread got.
    static GOT: RefCell<BTreeMap<&'static str, Fields>> = const { RefCell::new(BTreeMap::new()) };
}

/// Prepares the next init on this thread.
pub(crate) fn prepare(script: Script) -> Arc<Seen> {
    let seen = Arc::new(Seen::default());
    NEXT.set(Some((script, Arc::clone(&seen))));
    seen
}

/// The fields of the structure `name` that this thread's last call passed.
pub(crate) fn got(name: &str) -> Fields {
    GOT.with_borrow(|got| got.get(name).cloned().unwrap_or_default())
}

pub(crate) fn library(version: &str) -> Library {
    try_library(version, if version.starts_with("1.2") { table_e() } else { table_f() })
        .expect("the fake's structures are those of its release")
}

pub(crate) fn try_library(version: &str, table: Table) -> Result<Library, OpenError> {
    Library::of_functions(version, table)
}

pub(crate) fn table_e() -> Table {
    Table { group: GroupFns::E { init: init_e, run: run_e }, ..table(default_e()) }
}

pub(crate) fn table_f() -> Table {
    Table { group: GroupFns::F { init: init_f, run: run_f }, ..table(default_f()) }
}

fn table(create_default_param: DefaultParamFn) -> Table {
    Table {
        create_default_param,
        group: GroupFns::E { init: init_e, run: run_e },
        destroy,
        abort,
        load_lora,
        load_prompt_cache,
        release_prompt_cache,
        set_chat_template,
        clear_kv_cache,
        kv_cache_size,
    }
}

/// How the callback is reached, which differs between the groups.
enum Back {
    Function(ResultCallback),
    /// Read at each run: the structure has to live as long as the handle.
    Structure(*const f::Callback),
}

struct Fake {
    script: Script,
    seen: Arc<Seen>,
    back: Back,
    /// Read at each run: the path has to live as long as the handle.
    model_path: *const c_char,
    stop: AtomicBool,
}

fn init(out: *mut Handle, back: Back, model_path: *const c_char) -> c_int {
    let (script, seen) = NEXT.take().expect("the test prepares the init");
    seen.note("init");
    let status = script.init_status;
    if status == 0 && !script.no_handle {
        let fake = Fake { script, seen, back, model_path, stop: AtomicBool::new(false) };
        // SAFETY: the caller passes a valid out pointer.
        unsafe { *out = Box::into_raw(Box::new(fake)).cast() };
    }
    status
}

unsafe extern "C" fn init_e(out: *mut Handle, param: *mut e::Param, back: ResultCallback) -> c_int {
    // SAFETY: the caller passes this group's structure.
    let fields = unsafe { read_struct(param.cast(), "E", "RKLLMParam") };
    GOT.with_borrow_mut(|got| got.insert("RKLLMParam", fields));
    // SAFETY: as above.
    let model_path = unsafe { (*param).head.model_path };
    init(out, Back::Function(back), model_path)
}

unsafe extern "C" fn init_f(
    out: *mut Handle,
    param: *mut f::Param,
    back: *mut f::Callback,
) -> c_int {
    // SAFETY: the caller passes this group's structure.
    let fields = unsafe { read_struct(param.cast(), "F", "RKLLMParam") };
    GOT.with_borrow_mut(|got| got.insert("RKLLMParam", fields));
    // SAFETY: as above.
    let fields = unsafe { read_struct(back.cast(), "F", "RKLLMCallback") };
    GOT.with_borrow_mut(|got| got.insert("RKLLMCallback", fields));
    // SAFETY: as above.
    let model_path = unsafe { (*param).head.model_path };
    init(out, Back::Structure(back), model_path)
}

unsafe extern "C" fn run_e(
    handle: Handle,
    input: *mut e::Input,
    infer: *mut e::InferParam,
    userdata: *mut c_void,
) -> c_int {
    // SAFETY: the caller passes this group's structures and the handle of `init_e`.
    unsafe { run(handle, "E", input.cast(), infer.cast(), userdata) }
}

unsafe extern "C" fn run_f(
    handle: Handle,
    input: *mut f::Input,
    infer: *mut f::InferParam,
    userdata: *mut c_void,
) -> c_int {
    // SAFETY: the caller passes this group's structures and the handle of `init_f`.
    unsafe { run(handle, "F", input.cast(), infer.cast(), userdata) }
}

/// # Safety
/// A live handle of the fake, structures of `group`, and the userdata of a run.
unsafe fn run(
    handle: Handle,
    group: &str,
    input: *const u8,
    infer: *const u8,
    userdata: *mut c_void,
) -> c_int {
    // SAFETY: the caller's promise.
    let fake = unsafe { &*handle.cast::<Fake>() };
    // SAFETY: the caller's promise.
    let input = unsafe { read_input(input, group) };
    // SAFETY: the caller's promise.
    let infer = unsafe { read_struct(infer, group, "RKLLMInferParam") };
    GOT.with_borrow_mut(|got| got.extend([("RKLLMInput", input), ("RKLLMInferParam", infer)]));
    // SAFETY: the session promises to keep it.
    let path = unsafe { CStr::from_ptr(fake.model_path) };
    fake.seen.note(format!("run {}", path.to_str().expect("tests use plain paths")));
    for call in &fake.script.calls {
        match call {
            Call::UntilAborted => {
                while !fake.stop.swap(false, Ordering::SeqCst) {
                    fake.call(&Call::Normal(7, Some("on ")), userdata);
                    thread::yield_now();
                }
            }
            other => fake.call(other, userdata),
        }
    }
    fake.seen.note("run returns");
    fake.script.run_status
}

impl Fake {
    fn call(&self, call: &Call, userdata: *mut c_void) {
        let text;
        let (state, result) = match call {
            Call::Normal(token, words) => {
                text = words.map(|words| CString::new(words).expect("no zero bytes in tests"));
                let words = text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
                (call_state::NORMAL, Some(result(*token, words, 0)))
            }
            Call::Waiting(token) => {
                (call_state::WAITING, Some(result(*token, c"\xe6".as_ptr(), 0)))
            }
            Call::Finish(prefilled) => {
                (call_state::FINISH, Some(result(-1, ptr::null(), *prefilled)))
            }
            Call::Bare(state) => (*state, None),
            Call::UntilAborted => return,
        };
        let mut result = result;
        let result = result.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
        let back = match self.back {
            Back::Function(back) => back,
            Back::Structure(back) => {
                // SAFETY: the session promises to keep it.
                unsafe { (*back).result_callback }.expect("the session sets it")
            }
        };
        // SAFETY: as the library does: a result that lives during the call, the run's userdata.
        let answer = unsafe { back(result, userdata, state) };
        assert_eq!(answer, 0, "anything but 0 pauses the run or frees a buffer");
    }
}

fn result(token_id: i32, text: *const c_char, prefill_tokens: c_int) -> RunResult {
    RunResult {
        text,
        token_id,
        last_hidden_layer: LastHiddenLayer {
            hidden_states: ptr::null(),
            embd_size: 0,
            num_tokens: 0,
        },
        logits: Logits { logits: ptr::null(), vocab_size: 0, num_tokens: 0 },
        perf: PerfStat {
            prefill_time_ms: 12.5,
            prefill_tokens,
            generate_time_ms: 90.0,
            generate_tokens: 3,
            memory_usage_mb: 800.0,
        },
    }
}

unsafe extern "C" fn abort(handle: Handle) -> c_int {
    // SAFETY: the session promises that the handle is live.
    let fake = unsafe { &*handle.cast::<Fake>() };
    fake.seen.aborts.fetch_add(1, Ordering::SeqCst);
    fake.stop.store(true, Ordering::SeqCst);
    0
}

unsafe extern "C" fn load_lora(handle: Handle, adapter: *mut LoraAdapter) -> c_int {
    // SAFETY: the session promises that the handle is live.
    let fake = unsafe { &*handle.cast::<Fake>() };
    // SAFETY: the session passes a structure and strings that live until this call returns. Its layout is
    // the same in both groups.
    let fields = unsafe { read_struct(adapter.cast(), "F", "RKLLMLoraAdapter") };
    GOT.with_borrow_mut(|got| got.insert("RKLLMLoraAdapter", fields));
    fake.seen.note("load_lora");
    fake.script.load_lora_status
}

unsafe extern "C" fn load_prompt_cache(handle: Handle, path: *const c_char) -> c_int {
    // SAFETY: the session promises that the handle is live.
    let fake = unsafe { &*handle.cast::<Fake>() };
    // SAFETY: the session passes a string that lives until this call returns.
    let path = unsafe { CStr::from_ptr(path) };
    fake.seen.note(format!("load_prompt_cache {}", path.to_string_lossy()));
    fake.script.load_cache_status
}

unsafe extern "C" fn release_prompt_cache(handle: Handle) -> c_int {
    // SAFETY: the session promises that the handle is live.
    let fake = unsafe { &*handle.cast::<Fake>() };
    fake.seen.note("release_prompt_cache");
    0
}

unsafe extern "C" fn set_chat_template(
    handle: Handle,
    system: *const c_char,
    prefix: *const c_char,
    postfix: *const c_char,
) -> c_int {
    // SAFETY: the session promises that the handle is live.
    let fake = unsafe { &*handle.cast::<Fake>() };
    let texts = [system, prefix, postfix].map(|text| {
        // SAFETY: the session passes strings that live until this call returns.
        unsafe { CStr::from_ptr(text) }
    });
    fake.seen.note(format!("set_chat_template {texts:?}"));
    0
}

unsafe extern "C" fn destroy(handle: Handle) -> c_int {
    // SAFETY: made by `init`; the session promises that this is the handle's last use.
    let fake = unsafe { Box::from_raw(handle.cast::<Fake>()) };
    fake.seen.note("destroy");
    0
}

unsafe extern "C" fn clear_kv_cache(
    handle: Handle,
    keep_system: c_int,
    start: *mut c_int,
    end: *mut c_int,
) -> c_int {
    // SAFETY: the session promises that the handle is live.
    let fake = unsafe { &*handle.cast::<Fake>() };
    let (start, end) = (start.is_null(), end.is_null());
    fake.seen.note(format!("clear_kv_cache {keep_system} {start} {end}"));
    fake.script.clear_status
}

unsafe extern "C" fn kv_cache_size(handle: Handle, sizes: *mut c_int) -> c_int {
    // SAFETY: the session promises that the handle is live.
    let fake = unsafe { &*handle.cast::<Fake>() };
    // SAFETY: the session promises room for one number per batch.
    unsafe { *sizes = fake.script.kv_tokens };
    if fake.script.kv_tokens < 0 { -1 } else { 0 }
}

const HEAD: ParamHead = ParamHead {
    model_path: ptr::null(),
    max_context_len: 512,
    max_new_tokens: -1,
    top_k: 40,
    n_keep: -1,
    top_p: 0.9,
    temperature: 0.8,
    repeat_penalty: 1.1,
    frequency_penalty: 0.0,
    presence_penalty: 0.0,
    mirostat: 0,
    mirostat_tau: 5.0,
    mirostat_eta: 0.1,
};

/// Writes the extension without its reserved bytes, as the vendor does.
fn write_extend(to: &mut ExtendParam) {
    to.base_domain_id = 0;
    to.embed_flash = 1;
    to.enabled_cpus_num = 4;
    to.enabled_cpus_mask = 0xF0;
    to.n_batch = 1;
    to.use_cross_attn = 0;
}

/// Writes the fields and not what lies between them, as the vendor does.
fn write_default_e(to: &mut e::Param) {
    to.head = HEAD;
    to.skip_special_token = 1;
    to.is_async = 0;
    to.img_start = c"".as_ptr();
    to.img_end = c"".as_ptr();
    to.img_content = c"".as_ptr();
    write_extend(&mut to.extend_param);
}

/// As `write_default_e`.
fn write_default_f(to: &mut f::Param) {
    to.head = HEAD;
    to.skip_special_token = 1;
    to.ignore_eos_token = 0;
    to.is_async = 0;
    write_extend(&mut to.extend_param);
}

#[cfg(target_arch = "x86_64")]
mod default_param {
    use super::{DefaultParamFn, write_default_e, write_default_f};

    pub(super) fn default_e() -> DefaultParamFn {
        unsafe extern "C" fn function(to: *mut u8) -> *mut u8 {
            // SAFETY: the caller passes a buffer of its own, larger and aligned, and every bit pattern
            // is a valid structure.
            write_default_e(unsafe { &mut *to.cast() });
            to
        }
        function
    }

    pub(super) fn default_f() -> DefaultParamFn {
        unsafe extern "C" fn function(to: *mut u8) -> *mut u8 {
            // SAFETY: the caller passes a buffer of its own, larger and aligned, and every bit pattern
            // is a valid structure.
            write_default_f(unsafe { &mut *to.cast() });
            to
        }
        function
    }
}

/// On aarch64 a Rust function that returns a large structure takes the hidden pointer in x8, as the
/// vendor's does.
#[cfg(target_arch = "aarch64")]
mod default_param {
    use std::mem;

    use super::{DefaultParamFn, e, f, write_default_e, write_default_f};

    pub(super) fn default_e() -> DefaultParamFn {
        extern "C" fn function() -> e::Param {
            // SAFETY: zeroes are valid in every field.
            let mut param = unsafe { mem::zeroed() };
            write_default_e(&mut param);
            param
        }
        // SAFETY: both are function pointers, and the shim calls it with the registers it expects.
        unsafe { mem::transmute::<extern "C" fn() -> e::Param, DefaultParamFn>(function) }
    }

    pub(super) fn default_f() -> DefaultParamFn {
        extern "C" fn function() -> f::Param {
            // SAFETY: zeroes are valid in every field.
            let mut param = unsafe { mem::zeroed() };
            write_default_f(&mut param);
            param
        }
        // SAFETY: both are function pointers, and the shim calls it with the registers it expects.
        unsafe { mem::transmute::<extern "C" fn() -> f::Param, DefaultParamFn>(function) }
    }
}

use default_param::{default_e, default_f};

static FIGURES: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../abi/rkllm-abi.json")).expect("the figures are JSON")
});

/// Reads an input by the figures, as its type says.
///
/// # Safety
/// `at` points to the input of `group`.
unsafe fn read_input(at: *const u8, group: &str) -> Fields {
    let fields = FIGURES["groups"][group]["structs"]["RKLLMInput"]["fields"].as_array();
    let offset = |name: &str| {
        let field = fields.expect("figures").iter().find(|field| field["name"] == name);
        usize::try_from(field.expect("figures")["offset"].as_u64().expect("figures"))
            .expect("figures")
    };
    // SAFETY: within the structure, by the caller's promise.
    let kind = unsafe { at.add(offset("input_type")) };
    // SAFETY: an enumeration, by the figures.
    if unsafe { kind.cast::<i32>().read_unaligned() } != INPUT_MULTIMODAL {
        // SAFETY: the caller's promise.
        return unsafe { read_struct(at, group, "RKLLMInput") };
    }
    // SAFETY: within the structure, by the caller's promise.
    let media = unsafe { at.add(offset("multimodal_input")) };
    // SAFETY: what the type says.
    unsafe { read_struct(media, group, "RKLLMMultiModalInput") }
}

/// Reads a structure by the figures: every field that this crate could set, as text.
///
/// # Safety
/// `at` points to the structure `name` of `group`.
unsafe fn read_struct(at: *const u8, group: &str, name: &str) -> Fields {
    let mut fields = Fields::new();
    for field in FIGURES["groups"][group]["structs"][name]["fields"].as_array().expect("figures") {
        let name = field["name"].as_str().expect("figures");
        let offset = field["offset"].as_u64().expect("figures");
        let kind = field["type"].as_str().expect("figures");
        // The other members of the input's union, and bytes nobody sets.
        if matches!(name, "prompt_input" | "embed_input" | "multimodal_input" | "reserved") {
            continue;
        }
        let offset = usize::try_from(offset).expect("figures");
        // SAFETY: within the structure, by the caller's promise.
        let at = unsafe { at.add(offset) };
        // SAFETY: a field of this type, by the caller's promise.
        unsafe { read_field(&mut fields, at, group, name, kind) };
    }
    fields
}

/// # Safety
/// `at` points to a field of the type `kind`.
unsafe fn read_field(fields: &mut Fields, at: *const u8, group: &str, name: &str, kind: &str) {
    let text = match kind {
        "bool" | "uint8_t" | "int8_t" => {
            // SAFETY: the caller's promise.
            unsafe { at.read() }.to_string()
        }
        "int32_t" | "int" | "RKLLMInputType" | "RKLLMInferMode" => {
            // SAFETY: the caller's promise.
            unsafe { at.cast::<i32>().read_unaligned() }.to_string()
        }
        "uint32_t" => {
            // SAFETY: the caller's promise.
            let number = unsafe { at.cast::<u32>().read_unaligned() };
            format!("{number:#x}")
        }
        "size_t" => {
            // SAFETY: the caller's promise.
            unsafe { at.cast::<usize>().read_unaligned() }.to_string()
        }
        "float" => {
            // SAFETY: the caller's promise.
            unsafe { at.cast::<f32>().read_unaligned() }.to_string()
        }
        "RKLLMExtendParam" | "RKLLMTokenInput" => {
            // SAFETY: the caller's promise.
            let inner = unsafe { read_inner(at, group, kind) };
            fields.extend(inner.into_iter().map(|(inner, text)| (format!("{name}.{inner}"), text)));
            return;
        }
        pointer => {
            // SAFETY: the caller's promise: everything else is a pointer.
            let to = unsafe { at.cast::<*const u8>().read_unaligned() };
            // SAFETY: null or what its type says.
            unsafe { read_pointee(to, group, pointer) }
        }
    };
    fields.insert(name.to_owned(), text);
}

/// # Safety
/// `at` points to a structure of this kind.
unsafe fn read_inner(at: *const u8, group: &str, kind: &str) -> Fields {
    if kind != "RKLLMTokenInput" {
        // SAFETY: the caller's promise.
        return unsafe { read_struct(at, group, kind) };
    }
    // SAFETY: the figures have the pointer at 0.
    let ids = unsafe { at.cast::<*const i32>().read_unaligned() };
    // SAFETY: the figures have the count at 8.
    let count = unsafe { at.add(8) };
    // SAFETY: as above.
    let count = unsafe { count.cast::<usize>().read_unaligned() };
    // SAFETY: the caller passes as many ids as it says.
    let ids = unsafe { std::slice::from_raw_parts(ids, count) };
    Fields::from([("input_ids".to_owned(), format!("{ids:?}"))])
}

/// # Safety
/// `to` is null or points to what `kind` says.
unsafe fn read_pointee(to: *const u8, group: &str, kind: &str) -> String {
    if to.is_null() {
        return "null".to_owned();
    }
    match kind {
        "const char*" | "char*" => {
            // SAFETY: the caller's promise.
            let text = unsafe { CStr::from_ptr(to.cast()) };
            format!("{text:?}")
        }
        "RKLLMSamplingParam*" | "RKLLMPromptCacheParam*" | "RKLLMLoraParam*" => {
            // SAFETY: the caller's promise.
            let fields = unsafe { read_struct(to, group, kind.trim_end_matches('*')) };
            format!("{fields:?}")
        }
        _ => "set".to_owned(),
    }
}
