//! The vendor's parameter structures, filled.
//!
//! Load parameters start from what the library itself writes as its defaults and are then changed
//! field by field: a field that is not known keeps a value the library chose. Everything else starts
//! from zeroes.

use std::{
    ffi::{CStr, CString, c_char, c_int},
    mem, ptr,
};

use crate::{
    LoadParams, Prompt,
    fingerprint::{Buffer, write_defaults},
    raw::{
        ExtendParam, Handle, INPUT_MULTIMODAL, INPUT_PROMPT, INPUT_TOKEN, LoraAdapter, LoraParam,
        ParamHead, PromptCacheParam, ResultCallback, TokenInput, e,
        f::{self, SamplingParam},
    },
    table::{InitE, InitF, Table},
};

/// What the library may look at as long as the handle lives. Raw pointers, because the library holds
/// copies of them.
pub(crate) struct Kept {
    model_path: *mut c_char,
    on_result: ResultCallback,
    callback: *mut f::Callback,
    /// Start, end and content of images.
    image_tags: [*mut c_char; 3],
}

impl Kept {
    pub(crate) fn new(
        model_path: CString,
        image_tags: Option<&[CString; 3]>,
        on_result: ResultCallback,
    ) -> Self {
        let tag = |index: usize| {
            let tag = image_tags.map_or_else(CString::default, |tags| tags[index].clone());
            tag.into_raw()
        };
        // The model brings its tokenizer and its embedding, so the library needs no callback for
        // them.
        let callback = Box::new(f::Callback {
            result_callback: Some(on_result),
            result_userdata: ptr::null_mut(),
            tokenizer_callback: None,
            tokenizer_userdata: ptr::null_mut(),
            embed_callback: None,
            embed_userdata: ptr::null_mut(),
        });
        Self {
            model_path: model_path.into_raw(),
            on_result,
            callback: Box::into_raw(callback),
            image_tags: [tag(0), tag(1), tag(2)],
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: from `into_raw` in `new`, and freed here only; the handle is gone by now.
        drop(unsafe { CString::from_raw(self.model_path) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.callback) });
        for tag in self.image_tags {
            // SAFETY: as above.
            drop(unsafe { CString::from_raw(tag) });
        }
    }
}

/// What only experiments set at load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extras {
    /// The limit on a run's tokens that is given at load; none leaves the runtime's own.
    pub(crate) tokens_max: Option<i32>,
    /// Prompts that are answered at once; none is 1.
    pub(crate) batches: Option<u8>,
}

/// What an init gave: its status, the handle (null where it wrote none), the sampling it was given.
pub(crate) type Initialised = (c_int, Handle, SamplingParam);

/// Calls group E's init.
pub(crate) fn init_e(
    table: &Table,
    init: InitE,
    params: &LoadParams,
    extras: Extras,
    kept: &Kept,
) -> Initialised {
    let defaults = defaults(table);
    // SAFETY: the buffer is larger and aligned, and every bit pattern is a valid `Param`; that the
    // library writes this group's structure was seen from its fingerprint.
    let mut param: e::Param = unsafe { ptr::read(defaults.0.as_ptr().cast()) };
    let sampling = patch_head(&mut param.head, params, extras, kept);
    param.skip_special_token = 1;
    param.is_async = 0;
    // The library reads them without a check.
    let [start, end, content] = kept.image_tags;
    param.img_start = start;
    param.img_end = end;
    param.img_content = content;
    patch_extend(&mut param.extend_param, params, extras);
    let mut handle: Handle = ptr::null_mut();
    // SAFETY: `handle` is a valid out pointer, `param` is this group's structure and its strings
    // live in `kept` or for ever. Every run passes what the callback needs.
    let status = unsafe { init(&raw mut handle, &raw mut param, kept.on_result) };
    (status, handle, sampling)
}

/// Calls group F's init.
pub(crate) fn init_f(
    table: &Table,
    init: InitF,
    params: &LoadParams,
    extras: Extras,
    kept: &Kept,
) -> Initialised {
    let defaults = defaults(table);
    // SAFETY: as in `init_e`.
    let mut param: f::Param = unsafe { ptr::read(defaults.0.as_ptr().cast()) };
    let sampling = patch_head(&mut param.head, params, extras, kept);
    // Where the runtime ignores the end of sequence the stop tokens are ours to recognise, so
    // nothing about special tokens may be hidden.
    param.skip_special_token = u8::from(!params.ignore_eos);
    param.ignore_eos_token = u8::from(params.ignore_eos);
    param.is_async = 0;
    patch_extend(&mut param.extend_param, params, extras);
    let mut handle: Handle = ptr::null_mut();
    // SAFETY: `handle` is a valid out pointer, `param` is this group's structure, its strings and
    // the callbacks live in `kept`, which outlives the handle.
    let status = unsafe { init(&raw mut handle, &raw mut param, kept.callback) };
    (status, handle, sampling)
}

fn defaults(table: &Table) -> Buffer {
    let mut buffer = Buffer::filled(0);
    // SAFETY: the table's function is the library's, which was fingerprinted with this same call.
    unsafe { write_defaults(table.create_default_param, &mut buffer) };
    buffer
}

fn patch_head(
    head: &mut ParamHead,
    params: &LoadParams,
    extras: Extras,
    kept: &Kept,
) -> SamplingParam {
    head.model_path = kept.model_path;
    // The caller has checked that it is small.
    head.max_context_len = params.context_tokens_max.cast_signed();
    if let Some(tokens_max) = extras.tokens_max {
        head.max_new_tokens = tokens_max;
    }
    let sampling = SamplingParam::of_load(head).with(&params.sampling);
    sampling.put_into(head);
    sampling
}

fn patch_extend(extend: &mut ExtendParam, params: &LoadParams, extras: Extras) {
    if let Some(domain) = params.base_domain {
        extend.base_domain_id = domain.into();
    }
    if let Some(mask) = params.cpu_mask {
        extend.enabled_cpus_mask = mask;
        // The caller has checked that it is 1 to 8.
        extend.enabled_cpus_num = i8::try_from(mask.count_ones()).unwrap_or(1);
    }
    // Releases before 1.2.1 left it unwritten, and 0 is refused.
    extend.n_batch = extras.batches.unwrap_or(extend.n_batch).max(1);
}

/// A prompt with everything that its structure points to. The library takes pointers that it could
/// write through, so it gets copies of its own.
pub(crate) enum Given {
    Tokens(Vec<i32>),
    /// A text that the runtime is to tokenise, behind its own template.
    Text(Vec<u8>),
    Pictured {
        text: Vec<u8>,
        vectors: Vec<f32>,
        image_tokens: usize,
        images: usize,
        width: usize,
        height: usize,
    },
}

impl Given {
    pub(crate) fn of(prompt: &Prompt<'_>) -> Result<Self, String> {
        Ok(match prompt {
            Prompt::Tokens(tokens) => Self::Tokens(tokens.to_vec()),
            Prompt::Pictured(pictured) => Self::Pictured {
                text: CString::new(pictured.text)
                    .map_err(|_| "a zero byte in the prompt".to_owned())?
                    .into_bytes_with_nul(),
                vectors: pictured.vectors.to_vec(),
                image_tokens: pictured.image_tokens,
                images: pictured.images,
                width: pictured.width,
                height: pictured.height,
            },
        })
    }
}

fn token_input(tokens: &mut [i32]) -> TokenInput {
    TokenInput { input_ids: tokens.as_mut_ptr(), n_tokens: tokens.len() }
}

/// A prompt for group E. Valid as long as `given` is not moved or dropped.
pub(crate) fn input_e(given: &mut Given) -> e::Input {
    // SAFETY: null pointers and zeroes are valid in every field.
    let mut input: e::Input = unsafe { mem::zeroed() };
    input.role = c"user".as_ptr();
    match given {
        Given::Tokens(tokens) => {
            input.input_type = INPUT_TOKEN;
            input.of.token_input = token_input(tokens);
        }
        Given::Text(text) => {
            input.input_type = INPUT_PROMPT;
            input.of.prompt_input = text.as_ptr().cast();
        }
        Given::Pictured { text, vectors, image_tokens, images, width, height } => {
            input.input_type = INPUT_MULTIMODAL;
            input.of.multimodal_input = e::MultiModalInput {
                prompt: text.as_mut_ptr().cast(),
                image_embed: vectors.as_mut_ptr(),
                n_image_tokens: *image_tokens,
                n_image: *images,
                image_width: *width,
                image_height: *height,
            };
        }
    }
    input
}

/// A prompt for group F, which takes the tags of images with each of them. Valid as long as `given` is
/// not moved or dropped, and the tags live.
pub(crate) fn input_f(given: &mut Given, tags: Option<&[CString; 3]>) -> f::Input {
    // SAFETY: null pointers and zeroes are valid in every field.
    let mut input: f::Input = unsafe { mem::zeroed() };
    input.role = c"user".as_ptr();
    match given {
        Given::Tokens(tokens) => {
            input.input_type = INPUT_TOKEN;
            input.of.token_input = token_input(tokens);
        }
        Given::Text(text) => {
            input.input_type = INPUT_PROMPT;
            input.of.prompt_input = text.as_ptr().cast();
        }
        Given::Pictured { text, vectors, image_tokens, images, width, height } => {
            let tag = |index: usize| tags.map_or(c"".as_ptr(), |tags| tags[index].as_ptr());
            input.input_type = INPUT_MULTIMODAL;
            // SAFETY: null pointers and zeroes are valid in every field.
            let mut media: f::MultiModalInput = unsafe { mem::zeroed() };
            media.prompt = text.as_mut_ptr().cast();
            media.image = f::Images {
                image_embed: vectors.as_mut_ptr(),
                n_image_tokens: *image_tokens,
                n_image: *images,
                image_start: tag(0),
                image_end: tag(1),
                image_content: tag(2),
                image_width: *width,
                image_height: *height,
            };
            input.of.multimodal_input = media;
        }
    }
    input
}

/// The order to save the KV cache. Valid as long as `path` is not moved or dropped.
pub(crate) const fn save_to(path: &CStr) -> PromptCacheParam {
    PromptCacheParam { save_prompt_cache: 1, prompt_cache_path: path.as_ptr() }
}

/// What a model's only adapter is called when it is loaded and in every run.
const ADAPTER: &CStr = c"adapter";

/// An adapter to load. Valid as long as `path` is not moved or dropped.
pub(crate) const fn adapter(path: &CStr, scale: f32) -> LoraAdapter {
    LoraAdapter { lora_adapter_path: path.as_ptr(), lora_adapter_name: ADAPTER.as_ptr(), scale }
}

/// The order to run with the adapter that was loaded.
pub(crate) const fn with_adapter() -> LoraParam {
    LoraParam { lora_adapter_name: ADAPTER.as_ptr() }
}

/// How group E runs, in one of the modes of `raw`. Valid as long as `lora` and `cache` point to
/// something live or are null.
pub(crate) fn infer_e(
    mode: i32,
    append: bool,
    lora: *mut LoraParam,
    cache: *mut PromptCacheParam,
) -> e::InferParam {
    e::InferParam {
        mode,
        lora_params: lora,
        prompt_cache_params: cache,
        keep_history: c_int::from(append),
    }
}

/// How group F runs, in one of the modes of `raw`. Valid as long as `sampling` is not moved or
/// dropped, and `lora` and `cache` point to something live or are null.
pub(crate) fn infer_f(
    mode: i32,
    sampling: &mut SamplingParam,
    tokens_max: i32,
    append: bool,
    lora: *mut LoraParam,
    cache: *mut PromptCacheParam,
) -> f::InferParam {
    f::InferParam {
        mode,
        lora_params: lora,
        prompt_cache_params: cache,
        sampling_params: sampling,
        keep_history: c_int::from(append),
        max_new_tokens: tokens_max,
    }
}
