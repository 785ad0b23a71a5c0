//! The bodies of the exported functions: decode, trace, call, never unwind.

use std::ffi::{OsString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStringExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};

use super::decode::{callback_of, input_of, param_of, request_of, trace_param, trace_request};
use super::default_param;
use super::layout::{Group, Layout};
use super::raw::{View, bytes_of};
use super::result::{Callback, CallbackSink};
use crate::handle::{Handle, RUNNING, Runtime};
use crate::init::InitFailure;
use crate::input::Input;
use crate::log;
use crate::request::Request;
use crate::run::Run;
use crate::trace::Call;
use crate::version::Version;

const OK: c_int = 0;
const FAILED: c_int = -1;

/// One library: its group and the version string that stands in its file.
#[derive(Clone, Copy, Debug)]
pub struct Library {
    /// ABI group.
    pub group: Group,
    /// Reads the version string where the tools that build variants of a group patch it.
    pub banner: fn() -> String,
}

impl Library {
    fn runtime(&self) -> Runtime {
        let banner = (self.banner)();
        let version = banner
            .split_once("version: ")
            .and_then(|(_, rest)| Version::parse(rest.split(' ').next()?))
            .expect("the version string has the vendor's form");
        Runtime { group: self.group, version }
    }
}

/// What lives behind the caller's opaque pointer.
struct Opened {
    library: Library,
    handle: Arc<Handle>,
    callback: Callback,
}

/// A panic ends here: it must not unwind into C.
fn guarded(body: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        log::mock("a bug in the mock made it panic; the call returns -1");
        FAILED
    })
}

/// # Safety
/// `handle` is NULL or came from [`init`] and is not destroyed.
unsafe fn opened<'a>(handle: *mut c_void) -> Option<&'a Opened> {
    // SAFETY: NULL or valid by the caller's duty.
    unsafe { handle.cast::<Opened>().as_ref() }
}

/// `rkllm_createDefaultParam`: writes the fields into the caller's struct.
///
/// # Safety
/// `param` points at an `RKLLMParam` of the library's group.
pub unsafe fn create_default_param(library: Library, param: *mut u8) -> *mut u8 {
    let traced = Call::enter("rkllm_createDefaultParam", || json!({}));
    for store in default_param::stores(library.group, 8) {
        let target = param.wrapping_add(store.offset);
        // SAFETY: the stores lie inside the struct of this group.
        unsafe { std::ptr::copy_nonoverlapping(store.bytes.as_ptr(), target, store.bytes.len()) };
    }
    traced.done(OK);
    param
}

/// `rkllm_init`.
///
/// # Safety
/// As the vendor's header demands; `callback` as the group has it.
pub unsafe fn init(
    library: Library,
    handle: *mut *mut c_void,
    param: *const c_void,
    callback: *const c_void,
) -> c_int {
    guarded(|| {
        let decoded = (!param.is_null()).then(|| {
            let layout = Layout::of(library.group).structure("RKLLMParam");
            // SAFETY: not NULL, and a param struct of this group by the caller's duty.
            param_of(library, unsafe { View::new(param, layout) })
        });
        let traced = Call::enter(
            "rkllm_init",
            || json!({ "version": library.runtime().version.to_string(), "param": decoded.as_ref().map(trace_param) }),
        );
        // SAFETY: the caller's duty.
        let (callback, services) = unsafe { callback_of(library, callback) };
        let opened = match Handle::init(library.runtime(), decoded, services) {
            Ok(opened) => opened,
            // 1.1 said 0 after a failure and left the handle as it was.
            Err(InitFailure::Refused) if library.group == Group::C => return traced.done(OK),
            Err(InitFailure::Refused) => return traced.done(FAILED),
            Err(InitFailure::NullHandle) => {
                // SAFETY: the caller's place for the handle.
                unsafe { handle.write(std::ptr::null_mut()) };
                return traced.done(OK);
            }
        };
        let opened = Box::new(Opened { library, handle: opened, callback });
        let opened = Box::into_raw(opened).cast();
        // SAFETY: the caller's place for the handle.
        unsafe { handle.write(opened) };
        traced.done(OK)
    })
}

/// `rkllm_destroy`.
///
/// # Safety
/// `handle` is NULL or came from [`init`]; it is not used afterwards.
pub unsafe fn destroy(handle: *mut c_void) -> c_int {
    guarded(|| {
        let traced = Call::enter("rkllm_destroy", || json!({ "null": handle.is_null() }));
        if handle.is_null() {
            return traced.done(FAILED);
        }
        // SAFETY: made by `Box::into_raw` in `init`, and given up by the caller now.
        let opened = unsafe { Box::from_raw(handle.cast::<Opened>()) };
        opened.handle.abort.ask();
        join_background(&opened.handle);
        drop(opened);
        traced.done(OK)
    })
}

fn join_background(handle: &Handle) {
    let running = handle.background.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(thread) = running {
        // Its panic was already reported where it was caught.
        let _ = thread.join();
    }
}

/// `rkllm_run` and `rkllm_run_async`.
///
/// # Safety
/// As the vendor's header demands.
pub unsafe fn run(
    handle: *mut c_void,
    input: *const c_void,
    infer: *const c_void,
    userdata: *mut c_void,
    in_background: bool,
) -> c_int {
    guarded(|| {
        let name = if in_background { "rkllm_run_async" } else { "rkllm_run" };
        // SAFETY: the caller's duty.
        let opened = unsafe { opened(handle) };
        let (Some(opened), false, false) = (opened, input.is_null(), infer.is_null()) else {
            return Call::enter(name, || json!({ "null": true })).done(FAILED);
        };
        // SAFETY: not NULL, and as many as the handle has batches by the caller's duty.
        let inputs = unsafe { inputs_of(opened, input) };
        let requests: Vec<Request> = inputs
            .into_iter()
            // SAFETY: not NULL, and of this group by the caller's duty.
            .map(|input| unsafe { request_of(opened.library, input, infer) })
            .collect();
        let traced = Call::enter(name, || match &requests[..] {
            [request] => trace_request(request),
            requests => json!({ "batch": requests.iter().map(trace_request).collect::<Vec<_>>() }),
        });
        let mut callback = opened.callback;
        if opened.library.group < Group::F || !userdata.is_null() {
            callback.userdata = userdata;
        }
        // A second run beside one in progress is refused, and must not undo that one's abort.
        if !opened.handle.running.load(Ordering::Acquire) {
            opened.handle.abort.clear();
        }
        let returned = if in_background {
            start(opened, requests, callback)
        } else {
            perform(&opened.handle, &requests, callback)
        };
        traced.done(returned)
    })
}

/// The inputs of a run: an array of as many as the handle has batches. A caller that hands a single
/// one to a handle with more is read past its end, as by the original.
///
/// # Safety
/// `input` points at that many `RKLLMInput` of the group.
unsafe fn inputs_of(opened: &Opened, input: *const c_void) -> Vec<Input> {
    let count = usize::from(opened.handle.param.n_batch.unwrap_or(1));
    let stride = Layout::of(opened.library.group).structure("RKLLMInput").size;
    let at = |index: usize| input.cast::<u8>().wrapping_add(index * stride).cast::<c_void>();
    // SAFETY: each is an input of this group by the caller's duty.
    (0..count).filter_map(|index| unsafe { input_of(opened.library, at(index)) }).collect()
}

fn start(opened: &Opened, requests: Vec<Request>, callback: Callback) -> c_int {
    join_background(&opened.handle);
    let handle = Arc::clone(&opened.handle);
    handle.running.store(true, Ordering::Release);
    let thread = std::thread::spawn(move || {
        guarded(|| perform(&handle, &requests, callback));
    });
    let mut place = opened.handle.background.lock().unwrap_or_else(PoisonError::into_inner);
    *place = Some(thread);
    OK
}

fn perform(handle: &Handle, requests: &[Request], callback: Callback) -> c_int {
    let Ok(mut session) = handle.session.try_lock() else {
        log::mock("a run was started while another runs on the same handle");
        return FAILED;
    };
    handle.running.store(true, Ordering::Release);
    RUNNING.fetch_add(1, Ordering::AcqRel);
    let mut sink = CallbackSink::new(handle.runtime.group, callback);
    let mut run = Run { handle, session: &mut session, sink: &mut sink };
    let returned = match requests {
        [] => FAILED,
        [request] => run.run(request),
        requests => run.run_batch(requests),
    };
    RUNNING.fetch_sub(1, Ordering::AcqRel);
    handle.running.store(false, Ordering::Release);
    returned
}

/// Runs `body` on a handle that is not NULL and records the call.
///
/// # Safety
/// `handle` is NULL or came from [`init`].
unsafe fn on_handle(
    name: &'static str,
    handle: *mut c_void,
    arguments: impl FnOnce() -> Value,
    body: impl FnOnce(&Opened) -> c_int,
) -> c_int {
    guarded(|| {
        let traced = Call::enter(name, arguments);
        // SAFETY: the caller's duty.
        let returned = unsafe { opened(handle) }.map_or(FAILED, body);
        traced.done(returned)
    })
}

/// `rkllm_abort`.
///
/// # Safety
/// `handle` is NULL or came from [`init`].
pub unsafe fn abort(handle: *mut c_void) -> c_int {
    let body = |opened: &Opened| {
        opened.handle.abort.ask();
        OK
    };
    // SAFETY: the caller's duty.
    unsafe { on_handle("rkllm_abort", handle, || json!({}), body) }
}

/// `rkllm_is_running`: 0 means running up to 1.2.3, and not running from 1.3.0 on.
///
/// # Safety
/// `handle` is NULL or came from [`init`].
pub unsafe fn is_running(handle: *mut c_void) -> c_int {
    let body = |opened: &Opened| {
        let running = opened.handle.running.load(Ordering::Acquire);
        c_int::from(running == (opened.library.group >= Group::F))
    };
    // SAFETY: the caller's duty.
    unsafe { on_handle("rkllm_is_running", handle, || json!({}), body) }
}

/// `rkllm_clear_kv_cache`; ranges as the groups from E on have them.
///
/// # Safety
/// `handle` is NULL or came from [`init`]; the ranges hold one entry per batch or are NULL.
pub unsafe fn clear_kv_cache(
    handle: *mut c_void,
    keep_system_prompt: c_int,
    start: *const c_int,
    end: *const c_int,
) -> c_int {
    // SAFETY: NULL or one entry per batch by the caller's duty.
    let start = unsafe { start.as_ref() }.copied();
    // SAFETY: NULL or one entry per batch by the caller's duty.
    let end = unsafe { end.as_ref() }.copied();
    let arguments =
        || json!({ "keep_system_prompt": keep_system_prompt, "start": start, "end": end });
    let body = |opened: &Opened| {
        let Ok(mut session) = opened.handle.session.try_lock() else {
            log::error("failed to clear kv cache");
            return FAILED;
        };
        session.clear(keep_system_prompt != 0, start.zip(end));
        OK
    };
    // SAFETY: the caller's duty.
    unsafe { on_handle("rkllm_clear_kv_cache", handle, arguments, body) }
}

/// `rkllm_get_kv_cache_size`.
///
/// # Safety
/// `handle` is NULL or came from [`init`]; `sizes` has one entry per batch.
pub unsafe fn get_kv_cache_size(handle: *mut c_void, sizes: *mut c_int) -> c_int {
    let body = |opened: &Opened| {
        let Ok(session) = opened.handle.session.try_lock() else { return FAILED };
        if sizes.is_null() {
            return FAILED;
        }
        let batches = usize::from(opened.handle.param.n_batch.unwrap_or(1));
        let lens = std::iter::once(session.kv.len());
        let others = session.other_kvs.iter().map(Vec::len).chain(std::iter::repeat(0));
        for (index, len) in lens.chain(others).take(batches).enumerate() {
            // SAFETY: not NULL, with one entry per batch by the caller's duty.
            unsafe { sizes.wrapping_add(index).write(len as c_int) };
        }
        OK
    };
    // SAFETY: the caller's duty.
    unsafe { on_handle("rkllm_get_kv_cache_size", handle, || json!({}), body) }
}

/// `rkllm_set_chat_template`.
///
/// # Safety
/// `handle` is NULL or came from [`init`]; the strings are NULL or NUL-terminated.
pub unsafe fn set_chat_template(
    handle: *mut c_void,
    system: *const c_char,
    prefix: *const c_char,
    postfix: *const c_char,
) -> c_int {
    let [system, prefix, postfix] = [system, prefix, postfix].map(|text| {
        // SAFETY: NULL or NUL-terminated by the caller's duty.
        let bytes = unsafe { bytes_of(text) };
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    });
    let arguments = || json!({ "system": system, "prefix": prefix, "postfix": postfix });
    let body = |opened: &Opened| {
        let Ok(mut session) = opened.handle.session.try_lock() else { return FAILED };
        log::info("reset chat template:");
        log::info(&format!("system_prompt: {system}"));
        log::info(&format!("prompt_prefix: {prefix}"));
        log::info(&format!("prompt_postfix: {postfix}"));
        if opened.library.group >= Group::E {
            log::info(
                "Calling rkllm_set_chat_template will disable the internal automatic chat \
                 template parsing, including enable_thinking",
            );
        }
        session.set_template(&system, &prefix, &postfix);
        OK
    };
    // SAFETY: the caller's duty.
    unsafe { on_handle("rkllm_set_chat_template", handle, arguments, body) }
}

/// `rkllm_set_function_tools`.
///
/// # Safety
/// `handle` is NULL or came from [`init`]; the strings are NULL or NUL-terminated.
pub unsafe fn set_function_tools(
    handle: *mut c_void,
    system: *const c_char,
    tools: *const c_char,
    tag: *const c_char,
) -> c_int {
    let [system, tools, tag] = [system, tools, tag].map(|text| {
        // SAFETY: NULL or NUL-terminated by the caller's duty.
        let bytes = unsafe { bytes_of(text) };
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    });
    let arguments = || json!({ "system": system, "tools": tools, "tool_response_tag": tag });
    let body = |opened: &Opened| {
        let Ok(mut session) = opened.handle.session.try_lock() else { return FAILED };
        if session.set_tools(&system, &tools, &tag) {
            return OK;
        }
        log::error("Failed to set function tools, possibly because the chat_template is empty.");
        FAILED
    };
    // SAFETY: the caller's duty.
    unsafe { on_handle("rkllm_set_function_tools", handle, arguments, body) }
}

/// `rkllm_set_cross_attn_params`: looked at and otherwise without effect, since no mock model has
/// an encoder.
///
/// # Safety
/// `handle` is NULL or came from [`init`]; `param` is NULL or a struct of the group.
pub unsafe fn set_cross_attn_params(handle: *mut c_void, param: *const c_void) -> c_int {
    let body = |opened: &Opened| {
        if param.is_null() || !opened.handle.param.use_cross_attn {
            return FAILED;
        }
        let layout = Layout::of(opened.library.group).structure("RKLLMCrossAttnParam");
        // SAFETY: not NULL, and of this group by the caller's duty.
        let view = unsafe { View::new(param, layout) };
        let parts = ["encoder_k_cache", "encoder_v_cache", "encoder_mask", "encoder_pos"];
        let whole = parts.iter().all(|name| view.pointer(name).is_some_and(|p| !p.is_null()));
        if whole && view.i32("num_tokens").is_some_and(|n| n > 0) { OK } else { FAILED }
    };
    let arguments = || json!({ "null": param.is_null() });
    // SAFETY: the caller's duty.
    unsafe { on_handle("rkllm_set_cross_attn_params", handle, arguments, body) }
}

/// `rkllm_load_lora`.
///
/// # Safety
/// `handle` is NULL or came from [`init`]; `adapter` is NULL or a struct of the group.
pub unsafe fn load_lora(handle: *mut c_void, adapter: *const c_void) -> c_int {
    // SAFETY: the caller's duty.
    let view = unsafe { opened(handle) }.filter(|_| !adapter.is_null()).map(|opened| {
        let layout = Layout::of(opened.library.group).structure("RKLLMLoraAdapter");
        // SAFETY: not NULL, and of this group by the caller's duty.
        unsafe { View::new(adapter, layout) }
    });
    let text = |name: &str| view.and_then(|view| view.text(name)).flatten().unwrap_or_default();
    let name = String::from_utf8_lossy(&text("lora_adapter_name")).into_owned();
    let path = PathBuf::from(OsString::from_vec(text("lora_adapter_path")));
    let scale = view.and_then(|view| view.f32("scale")).unwrap_or(1.0);
    let arguments = || json!({ "name": name, "path": path.display().to_string(), "scale": scale });
    let body = |opened: &Opened| {
        let Ok(mut session) = opened.handle.session.try_lock() else { return FAILED };
        if view.is_some() && session.load_lora(&name, &path, scale) { OK } else { FAILED }
    };
    // SAFETY: the caller's duty.
    unsafe { on_handle("rkllm_load_lora", handle, arguments, body) }
}

/// `rkllm_load_prompt_cache`.
///
/// # Safety
/// `handle` is NULL or came from [`init`]; `path` is NULL or NUL-terminated.
pub unsafe fn load_prompt_cache(handle: *mut c_void, path: *const c_char) -> c_int {
    // SAFETY: NULL or NUL-terminated by the caller's duty.
    let path = PathBuf::from(OsString::from_vec(unsafe { bytes_of(path) }.unwrap_or_default()));
    let arguments = || json!({ "path": path.display().to_string() });
    let body = |opened: &Opened| {
        let Ok(mut session) = opened.handle.session.try_lock() else { return FAILED };
        if session.load_cache(&opened.handle, &path) { OK } else { FAILED }
    };
    // SAFETY: the caller's duty.
    unsafe { on_handle("rkllm_load_prompt_cache", handle, arguments, body) }
}

/// `rkllm_release_prompt_cache`.
///
/// # Safety
/// `handle` is NULL or came from [`init`].
pub unsafe fn release_prompt_cache(handle: *mut c_void) -> c_int {
    let body = |opened: &Opened| {
        let Ok(mut session) = opened.handle.session.try_lock() else { return FAILED };
        session.release_cache();
        OK
    };
    // SAFETY: the caller's duty.
    unsafe { on_handle("rkllm_release_prompt_cache", handle, || json!({}), body) }
}
