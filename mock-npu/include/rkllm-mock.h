/*
 * The C interface of the RKLLM runtime, in our own words, for every ABI group the mock imitates.
 *
 * Include rkllm-c.h, rkllm-d.h, rkllm-d1.h, rkllm-e.h or rkllm-f.h: each sets RKLLM_MOCK_GROUP and
 * includes this file. Names of types, fields and functions are the vendor's, so that programs
 * written for the original compile unchanged. The conformance programs compare every size and
 * offset with abi/rkllm-abi.json.
 */
#ifndef RKLLM_MOCK_H
#define RKLLM_MOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RKLLM_MOCK_C 1  /* 1.1.x */
#define RKLLM_MOCK_D 2  /* 1.2.0 */
#define RKLLM_MOCK_D1 3 /* 1.2.1b1 */
#define RKLLM_MOCK_E 4  /* 1.2.1 to 1.2.3 */
#define RKLLM_MOCK_F 5  /* 1.3.x */

#ifndef RKLLM_MOCK_GROUP
#error "include the header of one group, rkllm-f.h for example"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define CPU0 (1 << 0)
#define CPU1 (1 << 1)
#define CPU2 (1 << 2)
#define CPU3 (1 << 3)
#define CPU4 (1 << 4)
#define CPU5 (1 << 5)
#define CPU6 (1 << 6)
#define CPU7 (1 << 7)

/* A loaded model. */
typedef void* LLMHandle;

/* Why the callback is called. */
typedef enum {
    RKLLM_RUN_NORMAL = 0,  /* a token */
    RKLLM_RUN_WAITING = 1, /* a token that ends inside a character: the text follows later */
    RKLLM_RUN_FINISH = 2,  /* the run is over */
    RKLLM_RUN_ERROR = 3,   /* the run failed */
#if RKLLM_MOCK_GROUP <= RKLLM_MOCK_C
    RKLLM_RUN_GET_LAST_HIDDEN_LAYER = 4, /* the last hidden layer is there */
#endif
} LLMCallState;

/* Which member of the input's union holds. */
typedef enum {
    RKLLM_INPUT_PROMPT = 0,
    RKLLM_INPUT_TOKEN = 1,
    RKLLM_INPUT_EMBED = 2,
    RKLLM_INPUT_MULTIMODAL = 3,
} RKLLMInputType;

/* What a run is for. */
typedef enum {
    RKLLM_INFER_GENERATE = 0,
    RKLLM_INFER_GET_LAST_HIDDEN_LAYER = 1,
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_D
    RKLLM_INFER_GET_LOGITS = 2,
#endif
} RKLLMInferMode;

typedef struct {
    int32_t base_domain_id; /* IOMMU domain in which the model begins */
#if RKLLM_MOCK_GROUP <= RKLLM_MOCK_C
    uint8_t reserved[112];
#else
    int8_t embed_flash;         /* leave the embedding table in the file */
    int8_t enabled_cpus_num;    /* bits set in the mask */
    uint32_t enabled_cpus_mask; /* CPU0 | CPU1 ... */
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_E
    uint8_t n_batch; /* inputs per run */
    int8_t use_cross_attn;
    uint8_t reserved[104];
#else
    uint8_t reserved[106];
#endif
#endif
} RKLLMExtendParam;

typedef struct {
    const char* model_path;
    int32_t max_context_len; /* tokens of prompt and answer together */
    int32_t max_new_tokens;  /* -1: until the model ends */
    int32_t top_k;
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_D
    int32_t n_keep; /* tokens that survive when the context is full */
#endif
    float top_p;
    float temperature;
    float repeat_penalty;
    float frequency_penalty;
    float presence_penalty;
    int32_t mirostat;
    float mirostat_tau;
    float mirostat_eta;
    bool skip_special_token; /* no text for special tokens */
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_F
    bool ignore_eos_token;
#endif
    bool is_async;
#if RKLLM_MOCK_GROUP < RKLLM_MOCK_F
    const char* img_start; /* never NULL */
    const char* img_end;
    const char* img_content;
#endif
    RKLLMExtendParam extend_param;
} RKLLMParam;

typedef struct {
    const char* lora_adapter_path;
    const char* lora_adapter_name;
    float scale;
} RKLLMLoraAdapter;

typedef struct {
    float* embed; /* [n_tokens][hidden width] */
    size_t n_tokens;
} RKLLMEmbedInput;

typedef struct {
    int32_t* input_ids;
    size_t n_tokens;
} RKLLMTokenInput;

#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_F
typedef struct {
    char* prompt; /* with one <image> per image */
    struct {
        float* image_embed; /* [n_image][n_image_tokens][width] */
        size_t n_image_tokens;
        size_t n_image;
        const char* image_start;
        const char* image_end;
        const char* image_content;
        size_t image_width;
        size_t image_height;
    } image;
    struct {
        float* video_embed;
        size_t n_frame_tokens;
        size_t n_frame_per_video;
        size_t n_video;
        const char* video_start;
        const char* video_end;
        const char* video_content;
        size_t frame_width;
        size_t frame_height;
    } video;
} RKLLMMultiModalInput;
#else
typedef struct {
    char* prompt; /* with one <image> per image */
    float* image_embed;
    size_t n_image_tokens;
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_D1
    size_t n_image;
    size_t image_width;
    size_t image_height;
#endif
} RKLLMMultiModalInput;
typedef RKLLMMultiModalInput RKLLMMultiModelInput; /* older spelling */
#endif

typedef struct {
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_E
    const char* role; /* "user" or "tool" */
    bool enable_thinking;
#endif
    RKLLMInputType input_type;
    union {
        const char* prompt_input;
        RKLLMEmbedInput embed_input;
        RKLLMTokenInput token_input;
        RKLLMMultiModalInput multimodal_input;
    };
} RKLLMInput;

typedef struct {
    const char* lora_adapter_name;
} RKLLMLoraParam;

typedef struct {
    int save_prompt_cache;
    const char* prompt_cache_path;
} RKLLMPromptCacheParam;

#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_F
typedef struct {
    int32_t top_k;
    float top_p;
    float temperature;
    float repeat_penalty;
    float frequency_penalty;
    float presence_penalty;
    int32_t mirostat;
    float mirostat_tau;
    float mirostat_eta;
} RKLLMSamplingParam;
#endif

#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_E
typedef struct {
    float* encoder_k_cache; /* [layers][tokens][kv heads][head size] */
    float* encoder_v_cache; /* [layers][kv heads][head size][tokens] */
    float* encoder_mask;
    int32_t* encoder_pos;
    int num_tokens;
} RKLLMCrossAttnParam;
#endif

typedef struct {
    RKLLMInferMode mode;
    RKLLMLoraParam* lora_params;                /* NULL: the bare model */
    RKLLMPromptCacheParam* prompt_cache_params; /* NULL: nothing is saved */
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_F
    RKLLMSamplingParam* sampling_params; /* NULL: those of init */
#endif
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_D
    int keep_history; /* 1: the input is a further turn */
#endif
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_F
    int32_t max_new_tokens; /* 0 or less: that of init */
#endif
} RKLLMInferParam;

typedef struct {
    const float* hidden_states; /* [num_tokens][embd_size] */
    int embd_size;
    int num_tokens;
} RKLLMResultLastHiddenLayer;

#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_D
typedef struct {
    const float* logits; /* [num_tokens][vocab_size] */
    int vocab_size;
    int num_tokens;
} RKLLMResultLogits;
#endif

#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_E
typedef struct {
    float prefill_time_ms;
    int prefill_tokens;
    float generate_time_ms;
    int generate_tokens;
    float memory_usage_mb;
} RKLLMPerfStat;
#endif

/* Valid only inside the callback. */
typedef struct {
    const char* text;
    int32_t token_id;
    RKLLMResultLastHiddenLayer last_hidden_layer;
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_D
    RKLLMResultLogits logits;
#endif
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_E
    RKLLMPerfStat perf; /* in RKLLM_RUN_FINISH only */
#endif
} RKLLMResult;

/* Returns 0 to go on, 1 to pause, and from 1.3.0 on 2 to free the output at once. */
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_E
typedef int (*LLMResultCallback)(RKLLMResult* result, void* userdata, LLMCallState state);
#else
typedef void (*LLMResultCallback)(RKLLMResult* result, void* userdata, LLMCallState state);
#endif

#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_F
/* Text to ids for models without a tokenizer: number of ids, or less than 0. */
typedef int (*LLMTokenizerCallback)(void* userdata, const char* text, int32_t text_len,
                                    int32_t* tokens, int32_t n_max_tokens);
/* Ids to embeddings for models without a table: 0 when done. */
typedef int (*LLMGetEmbedCallback)(void* userdata, int32_t* tokens, uint64_t n_tokens, void* embed,
                                   uint64_t embed_bytes);
typedef struct {
    LLMResultCallback result_callback;
    void* result_userdata;
    LLMTokenizerCallback tokenizer_callback;
    void* tokenizer_userdata;
    LLMGetEmbedCallback embed_callback;
    void* embed_userdata;
} RKLLMCallback;
#endif

RKLLMParam rkllm_createDefaultParam(void);
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_F
int rkllm_init(LLMHandle* handle, RKLLMParam* param, RKLLMCallback* callback);
#else
int rkllm_init(LLMHandle* handle, RKLLMParam* param, LLMResultCallback callback);
#endif
int rkllm_load_lora(LLMHandle handle, RKLLMLoraAdapter* lora_adapter);
int rkllm_load_prompt_cache(LLMHandle handle, const char* prompt_cache_path);
int rkllm_release_prompt_cache(LLMHandle handle);
int rkllm_destroy(LLMHandle handle);
int rkllm_run(LLMHandle handle, RKLLMInput* rkllm_input, RKLLMInferParam* rkllm_infer_params,
              void* userdata);
int rkllm_run_async(LLMHandle handle, RKLLMInput* rkllm_input, RKLLMInferParam* rkllm_infer_params,
                    void* userdata);
int rkllm_abort(LLMHandle handle);
/* Up to 1.2.3: 0 while running. From 1.3.0 on: 1 while running. */
int rkllm_is_running(LLMHandle handle);
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_E
int rkllm_clear_kv_cache(LLMHandle handle, int keep_system_prompt, int* start_pos, int* end_pos);
#elif RKLLM_MOCK_GROUP >= RKLLM_MOCK_D
int rkllm_clear_kv_cache(LLMHandle handle, int keep_system_prompt);
#endif
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_D
int rkllm_set_chat_template(LLMHandle handle, const char* system_prompt, const char* prompt_prefix,
                            const char* prompt_postfix);
#endif
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_E
int rkllm_get_kv_cache_size(LLMHandle handle, int* cache_sizes);
int rkllm_set_function_tools(LLMHandle handle, const char* system_prompt, const char* tools,
                             const char* tool_response_str);
int rkllm_set_cross_attn_params(LLMHandle handle, RKLLMCrossAttnParam* cross_attn_params);
#endif

#ifdef __cplusplus
}
#endif
#endif
