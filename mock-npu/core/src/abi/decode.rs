//! The caller's structs decoded, and written to the trace.

use std::ffi::{OsString, c_void};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::entry::Library;
use super::layout::{Group, Layout};
use super::raw::{View, array_of};
use super::result::{Callback, ResultCallback};
use crate::faults;
use crate::handle::Param;
use crate::input::{Input, Multimodal, Rows};
use crate::request::{Mode, Request};
use crate::sampler::Sampling;
use crate::services::Services;

pub(super) fn param_of(library: Library, param: View<'_>) -> Param {
    let layout = Layout::of(library.group);
    let extend = param.nested("extend_param", layout.structure("RKLLMExtendParam"));
    let extend = extend.expect("every group has extend_param");
    let int = |name: &str| param.i32(name).unwrap_or_default();
    let path = param.text("model_path").flatten().unwrap_or_default();
    let tags = ["img_start", "img_end", "img_content"].map(|name| param.text(name));
    Param {
        model_path: PathBuf::from(OsString::from_vec(path)),
        max_context_len: int("max_context_len"),
        max_new_tokens: int("max_new_tokens"),
        n_keep: param.i32("n_keep").unwrap_or(-1),
        sampling: sampling_of(&param),
        skip_special_token: param.u8("skip_special_token") != Some(0),
        ignore_eos_token: param.u8("ignore_eos_token").is_some_and(|flag| flag != 0),
        image_tags: match tags {
            [Some(start), Some(end), Some(content)] => Some([start, end, content]),
            _ => None,
        },
        base_domain_id: extend.i32("base_domain_id").unwrap_or_default(),
        embed_flash: extend.u8("embed_flash").is_some_and(|flag| flag != 0),
        enabled_cpus_num: extend.u8("enabled_cpus_num").map(|num| i32::from(num as i8)),
        enabled_cpus_mask: extend.i32("enabled_cpus_mask").map(|mask| mask as u32),
        n_batch: extend.u8("n_batch"),
        use_cross_attn: extend.u8("use_cross_attn").is_some_and(|flag| flag != 0),
    }
}

fn sampling_of(view: &View<'_>) -> Sampling {
    let float = |name: &str| view.f32(name).unwrap_or_default();
    Sampling {
        top_k: view.i32("top_k").unwrap_or_default(),
        top_p: float("top_p"),
        temperature: float("temperature"),
        repeat_penalty: float("repeat_penalty"),
        frequency_penalty: float("frequency_penalty"),
        presence_penalty: float("presence_penalty"),
        mirostat: view.i32("mirostat").unwrap_or_default(),
        mirostat_tau: float("mirostat_tau"),
        mirostat_eta: float("mirostat_eta"),
    }
}

pub(super) fn trace_param(param: &Param) -> Value {
    let tags = param.image_tags.as_ref().map(|tags| {
        tags.each_ref().map(|tag| tag.as_ref().map(|tag| String::from_utf8_lossy(tag).into_owned()))
    });
    json!({
        "model_path": param.model_path.display().to_string(),
        "max_context_len": param.max_context_len,
        "max_new_tokens": param.max_new_tokens,
        "n_keep": param.n_keep,
        "sampling": param.sampling,
        "skip_special_token": param.skip_special_token,
        "ignore_eos_token": param.ignore_eos_token,
        "image_tags": tags,
        "base_domain_id": param.base_domain_id,
        "embed_flash": param.embed_flash,
        "enabled_cpus_num": param.enabled_cpus_num,
        "enabled_cpus_mask": param.enabled_cpus_mask,
        "n_batch": param.n_batch,
        "use_cross_attn": param.use_cross_attn,
    })
}

/// # Safety
/// `callback` is what the group's `rkllm_init` takes: a function, or from F on a struct.
pub(super) unsafe fn callback_of(
    library: Library,
    callback: *const c_void,
) -> (Callback, Services) {
    let mut services = Services::default();
    let (function, userdata) = if library.group >= Group::F {
        if callback.is_null() {
            faults::segfault("RKLLMCallback is NULL");
        }
        let layout = Layout::of(library.group).structure("RKLLMCallback");
        // SAFETY: the caller hands a callback struct of this group.
        let view = unsafe { View::new(callback, layout) };
        let pointer = |name: &str| view.pointer(name).unwrap_or(std::ptr::null());
        let tokenizer = (pointer("tokenizer_callback"), pointer("tokenizer_userdata"));
        let embed = (pointer("embed_callback"), pointer("embed_userdata"));
        // SAFETY: the caller hands functions of the vendor's types.
        services = unsafe { Services::new(tokenizer, embed) };
        (pointer("result_callback"), pointer("result_userdata").cast_mut())
    } else {
        (callback, std::ptr::null_mut())
    };
    // SAFETY: an optional function pointer and a nullable data pointer have one representation,
    // and the caller promises a function of this type.
    let function =
        unsafe { std::mem::transmute::<*const c_void, Option<ResultCallback>>(function) };
    (Callback { function, userdata }, services)
}

/// # Safety
/// `input` points at an `RKLLMInput` of the library's group.
pub(super) unsafe fn input_of(library: Library, input: *const c_void) -> Option<Input> {
    let layout = Layout::of(library.group);
    // SAFETY: the caller's duty.
    let view = unsafe { View::new(input, layout.structure("RKLLMInput")) };
    match view.i32("input_type")? {
        0 => Some(Input::Prompt {
            role: view.text("role").flatten(),
            enable_thinking: view.u8("enable_thinking").is_some_and(|flag| flag != 0),
            text: view.text("prompt_input").flatten().unwrap_or_default(),
        }),
        1 => {
            let tokens = view.nested("token_input", layout.structure("RKLLMTokenInput"))?;
            let ids = tokens.pointer("input_ids")?;
            let len = tokens.usize("n_tokens")?;
            // SAFETY: pointer and length describe the caller's array.
            Some(Input::Tokens(unsafe { array_of(ids, len) }))
        }
        2 => {
            let embed = view.nested("embed_input", layout.structure("RKLLMEmbedInput"))?;
            Some(Input::Embed(Rows {
                values: embed.pointer("embed")?.cast(),
                rows: embed.usize("n_tokens")?,
            }))
        }
        3 => multimodal_of(library, &view, layout),
        other => faults::segfault(&format!("input_type is {other}: struct of another version?")),
    }
}

/// The image part, which F keeps in a struct of its own beside the video, with tags that the older
/// groups take at init.
fn multimodal_of(library: Library, view: &View<'_>, layout: &Layout) -> Option<Input> {
    let media = view.nested("multimodal_input", layout.structure("RKLLMMultiModalInput"))?;
    let own_tags = library.group >= Group::F;
    let name = |field: &str| if own_tags { format!("image.{field}") } else { field.to_owned() };
    let size = |field: &str| media.usize(&name(field));
    let tag = |field: &str| media.text(&name(field)).flatten().unwrap_or_default();
    let tags = own_tags.then(|| [tag("image_start"), tag("image_end"), tag("image_content")]);
    Some(Input::Multimodal(Multimodal {
        role: view.text("role").flatten(),
        enable_thinking: view.u8("enable_thinking").is_some_and(|flag| flag != 0),
        text: media.text("prompt").flatten().unwrap_or_default(),
        embed: media.pointer(&name("image_embed"))?.cast(),
        n_image_tokens: size("n_image_tokens")?,
        n_image: size("n_image").unwrap_or(1),
        width: size("image_width").unwrap_or(0),
        height: size("image_height").unwrap_or(0),
        tags,
        has_video: media.usize("video.n_video").is_some_and(|n| n > 0),
    }))
}

/// # Safety
/// `infer` is an `RKLLMInferParam` of the library's group.
pub(super) unsafe fn request_of(library: Library, input: Input, infer: *const c_void) -> Request {
    let layout = Layout::of(library.group);
    // SAFETY: the caller's duty.
    let view = unsafe { View::new(infer, layout.structure("RKLLMInferParam")) };
    let sampling = view.pointer("sampling_params").filter(|params| !params.is_null());
    let mode = match view.i32("mode") {
        Some(0) | None => Mode::Generate,
        Some(1) => Mode::LastHiddenLayer,
        Some(2) => Mode::Logits,
        Some(other) => {
            faults::segfault(&format!("infer mode is {other}: another version's struct?"))
        }
    };
    Request {
        input,
        mode,
        lora: view.pointer("lora_params").filter(|lora| !lora.is_null()).map(|lora| {
            // SAFETY: not NULL, and of this group by the caller's duty.
            let lora = unsafe { View::new(lora, layout.structure("RKLLMLoraParam")) };
            let name = lora.text("lora_adapter_name").flatten().unwrap_or_default();
            String::from_utf8_lossy(&name).into_owned()
        }),
        save_cache: view.pointer("prompt_cache_params").filter(|cache| !cache.is_null()).and_then(
            |cache| {
                // SAFETY: not NULL, and of this group by the caller's duty.
                let cache = unsafe { View::new(cache, layout.structure("RKLLMPromptCacheParam")) };
                (cache.i32("save_prompt_cache") == Some(1)).then(|| {
                    cache
                        .text("prompt_cache_path")
                        .flatten()
                        .map(OsString::from_vec)
                        .map(PathBuf::from)
                })
            },
        ),
        keep_history: view.i32("keep_history").unwrap_or(0) != 0,
        sampling: sampling.map(|params| {
            // SAFETY: not NULL, and of this group by the caller's duty.
            sampling_of(&unsafe { View::new(params, layout.structure("RKLLMSamplingParam")) })
        }),
        max_new_tokens: view.i32("max_new_tokens"),
    }
}

pub(super) fn trace_request(request: &Request) -> Value {
    let input = match &request.input {
        Input::Prompt { role, enable_thinking, text } => json!({
            "type": "PROMPT",
            "role": role.as_ref().map(|role| String::from_utf8_lossy(role).into_owned()),
            "enable_thinking": enable_thinking,
            "text": String::from_utf8_lossy(text),
        }),
        Input::Tokens(ids) => json!({ "type": "TOKEN", "tokens": ids }),
        Input::Embed(rows) => json!({ "type": "EMBED", "n_tokens": rows.rows }),
        Input::Multimodal(media) => json!({
            "type": "MULTIMODAL",
            "role": media.role.as_ref().map(|role| String::from_utf8_lossy(role).into_owned()),
            "enable_thinking": media.enable_thinking,
            "text": String::from_utf8_lossy(&media.text),
            "n_image": media.n_image,
            "n_image_tokens": media.n_image_tokens,
            "width": media.width,
            "height": media.height,
            "tags": media.tags.as_ref().map(|tags| {
                tags.each_ref().map(|tag| String::from_utf8_lossy(tag).into_owned())
            }),
        }),
    };
    json!({
        "input": input,
        "mode": format!("{:?}", request.mode),
        "keep_history": request.keep_history,
        "lora": request.lora,
        "save_prompt_cache": request.save_cache,
        "sampling": request.sampling,
        "max_new_tokens": request.max_new_tokens,
    })
}
