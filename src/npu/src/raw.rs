//! The vendor's structures as they lie in memory, for the ABI groups E (1.2.1 to 1.2.3) and F (1.3).
//!
//! A wrong offset here is a crash on a board and nothing at all in a unit test above the C ABI, so
//! every size and offset is compared with `abi/rkllm-abi.json`, which was computed from the vendor's
//! headers. `bool` is written as `u8` and enumerations as `i32`: the vendor may leave any bits there,
//! and with these types every bit pattern is a valid value.
#![allow(
    dead_code,
    reason = "the whole header is written down, so that the comparison with the figures is whole"
)]

use std::ffi::{c_char, c_int, c_void};

/// `LLMHandle`.
pub(crate) type Handle = *mut c_void;

/// `LLMResultCallback`. Returns an `int` on every group: harmless where the vendor expects `void`.
pub(crate) type ResultCallback =
    unsafe extern "C" fn(result: *mut RunResult, userdata: *mut c_void, state: c_int) -> c_int;

/// `LLMTokenizerCallback` of group F.
pub(crate) type TokenizerCallback =
    unsafe extern "C" fn(*mut c_void, *const c_char, i32, *mut i32, i32) -> c_int;

/// `LLMGetEmbedCallback` of group F.
pub(crate) type EmbedCallback =
    unsafe extern "C" fn(*mut c_void, *mut i32, u64, *mut c_void, u64) -> c_int;

/// `LLMCallState`, as numbered since 1.2.0.
pub(crate) mod call_state {
    use std::ffi::c_int;

    pub(crate) const NORMAL: c_int = 0;
    pub(crate) const WAITING: c_int = 1;
    pub(crate) const FINISH: c_int = 2;
    pub(crate) const ERROR: c_int = 3;
}

/// `RKLLM_INPUT_PROMPT`.
pub(crate) const INPUT_PROMPT: i32 = 0;
/// `RKLLM_INPUT_TOKEN`.
pub(crate) const INPUT_TOKEN: i32 = 1;
/// `RKLLM_INPUT_MULTIMODAL`.
pub(crate) const INPUT_MULTIMODAL: i32 = 3;
/// `RKLLM_INFER_GENERATE`.
pub(crate) const MODE_GENERATE: i32 = 0;
/// `RKLLM_INFER_GET_LAST_HIDDEN_LAYER`.
pub(crate) const MODE_HIDDEN: i32 = 1;
/// `RKLLM_INFER_GET_LOGITS`.
pub(crate) const MODE_LOGITS: i32 = 2;

/// The beginning of `RKLLMParam`, which both groups share.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ParamHead {
    pub(crate) model_path: *const c_char,
    pub(crate) max_context_len: i32,
    pub(crate) max_new_tokens: i32,
    pub(crate) top_k: i32,
    pub(crate) n_keep: i32,
    pub(crate) top_p: f32,
    pub(crate) temperature: f32,
    pub(crate) repeat_penalty: f32,
    pub(crate) frequency_penalty: f32,
    pub(crate) presence_penalty: f32,
    pub(crate) mirostat: i32,
    pub(crate) mirostat_tau: f32,
    pub(crate) mirostat_eta: f32,
}

/// `RKLLMExtendParam`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ExtendParam {
    pub(crate) base_domain_id: i32,
    pub(crate) embed_flash: i8,
    pub(crate) enabled_cpus_num: i8,
    pub(crate) enabled_cpus_mask: u32,
    pub(crate) n_batch: u8,
    pub(crate) use_cross_attn: i8,
    pub(crate) reserved: [u8; 104],
}

/// `RKLLMResultLastHiddenLayer`.
#[repr(C)]
pub(crate) struct LastHiddenLayer {
    pub(crate) hidden_states: *const f32,
    pub(crate) embd_size: c_int,
    pub(crate) num_tokens: c_int,
}

/// `RKLLMResultLogits`.
#[repr(C)]
pub(crate) struct Logits {
    pub(crate) logits: *const f32,
    pub(crate) vocab_size: c_int,
    pub(crate) num_tokens: c_int,
}

/// `RKLLMPerfStat`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PerfStat {
    pub(crate) prefill_time_ms: f32,
    pub(crate) prefill_tokens: c_int,
    pub(crate) generate_time_ms: f32,
    pub(crate) generate_tokens: c_int,
    pub(crate) memory_usage_mb: f32,
}

/// `RKLLMResult`.
#[repr(C)]
pub(crate) struct RunResult {
    pub(crate) text: *const c_char,
    pub(crate) token_id: i32,
    pub(crate) last_hidden_layer: LastHiddenLayer,
    pub(crate) logits: Logits,
    pub(crate) perf: PerfStat,
}

/// `RKLLMEmbedInput`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct EmbedInput {
    pub(crate) embed: *mut f32,
    pub(crate) n_tokens: usize,
}

/// `RKLLMTokenInput`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TokenInput {
    pub(crate) input_ids: *mut i32,
    pub(crate) n_tokens: usize,
}

/// `RKLLMLoraAdapter`.
#[repr(C)]
pub(crate) struct LoraAdapter {
    pub(crate) lora_adapter_path: *const c_char,
    pub(crate) lora_adapter_name: *const c_char,
    pub(crate) scale: f32,
}

/// `RKLLMLoraParam`.
#[repr(C)]
pub(crate) struct LoraParam {
    pub(crate) lora_adapter_name: *const c_char,
}

/// `RKLLMPromptCacheParam`.
#[repr(C)]
pub(crate) struct PromptCacheParam {
    pub(crate) save_prompt_cache: c_int,
    pub(crate) prompt_cache_path: *const c_char,
}

/// `RKLLMCrossAttnParam`.
#[repr(C)]
pub(crate) struct CrossAttnParam {
    pub(crate) encoder_k_cache: *mut f32,
    pub(crate) encoder_v_cache: *mut f32,
    pub(crate) encoder_mask: *mut f32,
    pub(crate) encoder_pos: *mut i32,
    pub(crate) num_tokens: c_int,
}

/// Group E: 1.2.1, 1.2.2 and 1.2.3.
pub(crate) mod e {
    use super::{
        EmbedInput, ExtendParam, LoraParam, ParamHead, PromptCacheParam, TokenInput, c_char, c_int,
    };

    /// `RKLLMParam`.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(crate) struct Param {
        pub(crate) head: ParamHead,
        pub(crate) skip_special_token: u8,
        pub(crate) is_async: u8,
        pub(crate) img_start: *const c_char,
        pub(crate) img_end: *const c_char,
        pub(crate) img_content: *const c_char,
        pub(crate) extend_param: ExtendParam,
    }

    /// `RKLLMMultiModalInput`.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(crate) struct MultiModalInput {
        pub(crate) prompt: *mut c_char,
        pub(crate) image_embed: *mut f32,
        pub(crate) n_image_tokens: usize,
        pub(crate) n_image: usize,
        pub(crate) image_width: usize,
        pub(crate) image_height: usize,
    }

    /// The union inside [`Input`].
    #[repr(C)]
    pub(crate) union InputOf {
        pub(crate) prompt_input: *const c_char,
        pub(crate) embed_input: EmbedInput,
        pub(crate) token_input: TokenInput,
        pub(crate) multimodal_input: MultiModalInput,
    }

    /// `RKLLMInput`.
    #[repr(C)]
    pub(crate) struct Input {
        pub(crate) role: *const c_char,
        pub(crate) enable_thinking: u8,
        pub(crate) input_type: i32,
        pub(crate) of: InputOf,
    }

    /// `RKLLMInferParam`.
    #[repr(C)]
    pub(crate) struct InferParam {
        pub(crate) mode: i32,
        pub(crate) lora_params: *mut LoraParam,
        pub(crate) prompt_cache_params: *mut PromptCacheParam,
        pub(crate) keep_history: c_int,
    }
}

/// Group F: 1.3.
pub(crate) mod f {
    use super::{
        EmbedCallback, EmbedInput, ExtendParam, LoraParam, ParamHead, PromptCacheParam,
        ResultCallback, TokenInput, TokenizerCallback, c_char, c_int, c_void,
    };

    /// `RKLLMParam`.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(crate) struct Param {
        pub(crate) head: ParamHead,
        pub(crate) skip_special_token: u8,
        pub(crate) ignore_eos_token: u8,
        pub(crate) is_async: u8,
        pub(crate) extend_param: ExtendParam,
    }

    /// The images inside [`MultiModalInput`].
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(crate) struct Images {
        pub(crate) image_embed: *mut f32,
        pub(crate) n_image_tokens: usize,
        pub(crate) n_image: usize,
        pub(crate) image_start: *const c_char,
        pub(crate) image_end: *const c_char,
        pub(crate) image_content: *const c_char,
        pub(crate) image_width: usize,
        pub(crate) image_height: usize,
    }

    /// The videos inside [`MultiModalInput`].
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(crate) struct Videos {
        pub(crate) video_embed: *mut f32,
        pub(crate) n_frame_tokens: usize,
        pub(crate) n_frame_per_video: usize,
        pub(crate) n_video: usize,
        pub(crate) video_start: *const c_char,
        pub(crate) video_end: *const c_char,
        pub(crate) video_content: *const c_char,
        pub(crate) frame_width: usize,
        pub(crate) frame_height: usize,
    }

    /// `RKLLMMultiModalInput`.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(crate) struct MultiModalInput {
        pub(crate) prompt: *mut c_char,
        pub(crate) image: Images,
        pub(crate) video: Videos,
    }

    /// The union inside [`Input`].
    #[repr(C)]
    pub(crate) union InputOf {
        pub(crate) prompt_input: *const c_char,
        pub(crate) embed_input: EmbedInput,
        pub(crate) token_input: TokenInput,
        pub(crate) multimodal_input: MultiModalInput,
    }

    /// `RKLLMInput`.
    #[repr(C)]
    pub(crate) struct Input {
        pub(crate) role: *const c_char,
        pub(crate) enable_thinking: u8,
        pub(crate) input_type: i32,
        pub(crate) of: InputOf,
    }

    /// `RKLLMSamplingParam`.
    #[repr(C)]
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub(crate) struct SamplingParam {
        pub(crate) top_k: i32,
        pub(crate) top_p: f32,
        pub(crate) temperature: f32,
        pub(crate) repeat_penalty: f32,
        pub(crate) frequency_penalty: f32,
        pub(crate) presence_penalty: f32,
        pub(crate) mirostat: i32,
        pub(crate) mirostat_tau: f32,
        pub(crate) mirostat_eta: f32,
    }

    /// `RKLLMInferParam`.
    #[repr(C)]
    pub(crate) struct InferParam {
        pub(crate) mode: i32,
        pub(crate) lora_params: *mut LoraParam,
        pub(crate) prompt_cache_params: *mut PromptCacheParam,
        pub(crate) sampling_params: *mut SamplingParam,
        pub(crate) keep_history: c_int,
        pub(crate) max_new_tokens: i32,
    }

    /// `RKLLMCallback`.
    #[repr(C)]
    pub(crate) struct Callback {
        pub(crate) result_callback: Option<ResultCallback>,
        pub(crate) result_userdata: *mut c_void,
        pub(crate) tokenizer_callback: Option<TokenizerCallback>,
        pub(crate) tokenizer_userdata: *mut c_void,
        pub(crate) embed_callback: Option<EmbedCallback>,
        pub(crate) embed_userdata: *mut c_void,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, mem::offset_of};

    use serde_json::Value;

    use super::*;

    type Fields = BTreeMap<String, (usize, usize)>;
    type Structs = BTreeMap<String, (usize, Fields)>;

    /// Size of the field that `_field` points into; never called.
    fn field_size<T, F>(_field: fn(&T) -> *const F) -> usize {
        size_of::<F>()
    }

    /// The layout of our structures under the header's names. The prefixes are ours: parts that we
    /// name and the header does not.
    macro_rules! layout {
        ($into:ident: $($header:literal = $ours:ty { $($($field:ident).+),+ $(,)? })+) => {$({
            let mut fields = Fields::new();
            $({
                let name = stringify!($($field).+).replace(' ', "");
                let name = name.trim_start_matches("head.").trim_start_matches("of.").to_owned();
                let size = field_size::<$ours, _>(|it| &raw const it.$($field).+);
                fields.insert(name, (offset_of!($ours, $($field).+), size));
            })+
            $into.insert($header.to_owned(), (size_of::<$ours>(), fields));
        })+};
    }

    fn shared() -> Structs {
        let mut all = Structs::new();
        layout! { all:
            "RKLLMExtendParam" = ExtendParam {
                base_domain_id, embed_flash, enabled_cpus_num, enabled_cpus_mask, n_batch,
                use_cross_attn, reserved,
            }
            "RKLLMResult" = RunResult { text, token_id, last_hidden_layer, logits, perf }
            "RKLLMEmbedInput" = EmbedInput { embed, n_tokens }
            "RKLLMTokenInput" = TokenInput { input_ids, n_tokens }
            "RKLLMLoraAdapter" = LoraAdapter { lora_adapter_path, lora_adapter_name, scale }
            "RKLLMLoraParam" = LoraParam { lora_adapter_name }
            "RKLLMPromptCacheParam" = PromptCacheParam { save_prompt_cache, prompt_cache_path }
            "RKLLMCrossAttnParam" = CrossAttnParam {
                encoder_k_cache, encoder_v_cache, encoder_mask, encoder_pos, num_tokens,
            }
            "RKLLMResultLastHiddenLayer" = LastHiddenLayer { hidden_states, embd_size, num_tokens }
            "RKLLMResultLogits" = Logits { logits, vocab_size, num_tokens }
            "RKLLMPerfStat" = PerfStat {
                prefill_time_ms, prefill_tokens, generate_time_ms, generate_tokens, memory_usage_mb,
            }
        }
        all
    }

    fn group_e() -> Structs {
        let mut all = shared();
        layout! { all:
            "RKLLMParam" = e::Param {
                head.model_path, head.max_context_len, head.max_new_tokens, head.top_k, head.n_keep,
                head.top_p, head.temperature, head.repeat_penalty, head.frequency_penalty,
                head.presence_penalty, head.mirostat, head.mirostat_tau, head.mirostat_eta,
                skip_special_token, is_async, img_start, img_end, img_content, extend_param,
            }
            "RKLLMInput" = e::Input {
                role, enable_thinking, input_type, of.prompt_input, of.embed_input, of.token_input,
                of.multimodal_input,
            }
            "RKLLMMultiModalInput" = e::MultiModalInput {
                prompt, image_embed, n_image_tokens, n_image, image_width, image_height,
            }
            "RKLLMInferParam" = e::InferParam {
                mode, lora_params, prompt_cache_params, keep_history,
            }
        }
        all
    }

    fn group_f() -> Structs {
        let mut all = shared();
        layout! { all:
            "RKLLMParam" = f::Param {
                head.model_path, head.max_context_len, head.max_new_tokens, head.top_k, head.n_keep,
                head.top_p, head.temperature, head.repeat_penalty, head.frequency_penalty,
                head.presence_penalty, head.mirostat, head.mirostat_tau, head.mirostat_eta,
                skip_special_token, ignore_eos_token, is_async, extend_param,
            }
            "RKLLMInput" = f::Input {
                role, enable_thinking, input_type, of.prompt_input, of.embed_input, of.token_input,
                of.multimodal_input,
            }
            "RKLLMMultiModalInput" = f::MultiModalInput {
                prompt, image.image_embed, image.n_image_tokens, image.n_image, image.image_start,
                image.image_end, image.image_content, image.image_width, image.image_height,
                video.video_embed, video.n_frame_tokens, video.n_frame_per_video, video.n_video,
                video.video_start, video.video_end, video.video_content, video.frame_width,
                video.frame_height,
            }
            "RKLLMInferParam" = f::InferParam {
                mode, lora_params, prompt_cache_params, sampling_params, keep_history,
                max_new_tokens,
            }
            "RKLLMSamplingParam" = f::SamplingParam {
                top_k, top_p, temperature, repeat_penalty, frequency_penalty, presence_penalty,
                mirostat, mirostat_tau, mirostat_eta,
            }
            "RKLLMCallback" = f::Callback {
                result_callback, result_userdata, tokenizer_callback, tokenizer_userdata,
                embed_callback, embed_userdata,
            }
        }
        all
    }

    /// The figures of one group, in the same shape.
    fn figures(group: &str) -> Structs {
        let figures: Value = serde_json::from_str(include_str!("../abi/rkllm-abi.json")).unwrap();
        let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
        let structs = figures["groups"][group]["structs"].as_object().unwrap();
        structs
            .iter()
            .map(|(name, shape)| {
                let fields = shape["fields"].as_array().unwrap().iter().map(|field| {
                    let place = (number(&field["offset"]), number(&field["size"]));
                    (field["name"].as_str().unwrap().to_owned(), place)
                });
                (name.clone(), (number(&shape["size"]), fields.collect()))
            })
            .collect()
    }

    #[test]
    fn group_e_lies_in_memory_as_in_the_header() {
        pretty_assertions::assert_eq!(group_e(), figures("E"));
    }

    #[test]
    fn group_f_lies_in_memory_as_in_the_header() {
        pretty_assertions::assert_eq!(group_f(), figures("F"));
    }

    #[test]
    fn the_two_groups_differ_where_a_mix_up_would_crash() {
        assert_ne!(size_of::<e::Param>(), size_of::<f::Param>());
        assert_ne!(
            offset_of!(e::InferParam, keep_history),
            offset_of!(f::InferParam, keep_history)
        );
    }
}
