/*
 * Walks through all functions of one ABI group and prints TAP.
 *
 * Built once per group with -include rkllm-<group>.h; sizes, offsets and defaults come from
 * layout.inc and defaults.inc, which the test generates from the data files in abi/.
 *
 *   rkllm MODEL FOREIGN_FILE IMAGE_WIDTH VOCAB_LEN VERSION SCRATCH_FOLDER
 */
#include <pthread.h>
#include <time.h>

#include "tap.h"

#define GROUP RKLLM_MOCK_GROUP
#define IS_E (GROUP >= RKLLM_MOCK_E)
#define IS_F (GROUP >= RKLLM_MOCK_F)

static const char *model, *foreign, *version, *scratch;
static size_t image_width;
static int vocab_len;

/* What the callback has seen since `reset`. */
static struct {
    int normal, waiting, finish, error, hidden_rows, logits_rows, other_state, without_text;
    int32_t first_token, last_token;
    int after_finish;
    char text[1 << 16];
    int pause_at, abort_at;
    LLMHandle handle;
    void* userdata;
    float last_row[4];
    int row_len;
#if IS_E
    RKLLMPerfStat perf;
#endif
} seen;

static void reset(void) {
    LLMHandle handle = seen.handle;
    memset(&seen, 0, sizeof seen);
    seen.handle = handle;
    seen.pause_at = seen.abort_at = -1;
    seen.first_token = -1;
}

static int note(RKLLMResult* result, void* userdata, LLMCallState state) {
    seen.userdata = userdata;
    seen.after_finish += seen.finish;
    switch ((int)state) {
    case RKLLM_RUN_WAITING:
        seen.waiting++;
        break;
    case RKLLM_RUN_FINISH:
        seen.finish++;
        seen.without_text = result && result->text == NULL;
#if IS_E
        seen.perf = result->perf;
#endif
        return 0;
    case RKLLM_RUN_ERROR:
        seen.error++;
        return 0;
    case RKLLM_RUN_NORMAL:
        seen.normal++;
        break;
    case 4:
        seen.other_state++;
        break;
    }
    if (result->last_hidden_layer.num_tokens > 0) {
        seen.hidden_rows = result->last_hidden_layer.num_tokens;
        seen.row_len = result->last_hidden_layer.embd_size;
        const float* row = result->last_hidden_layer.hidden_states +
                           (size_t)(seen.hidden_rows - 1) * seen.row_len;
        memcpy(seen.last_row, row, sizeof seen.last_row);
        return 0;
    }
#if GROUP >= RKLLM_MOCK_D
    if (result->logits.num_tokens > 0) {
        seen.logits_rows = result->logits.num_tokens;
        seen.row_len = result->logits.vocab_size;
        const float* row =
            result->logits.logits + (size_t)(seen.logits_rows - 1) * seen.row_len;
        for (int i = 1, best = 0; i < seen.row_len; i++)
            if (row[i] > row[best]) seen.first_token = best = i;
        return 0;
    }
#endif
    if (seen.first_token < 0) seen.first_token = result->token_id;
    seen.last_token = result->token_id;
    if (result->text && state == RKLLM_RUN_NORMAL)
        strncat(seen.text, result->text, sizeof seen.text - strlen(seen.text) - 1);
    int token = seen.normal + seen.waiting - 1;
    if (token == seen.abort_at) rkllm_abort(seen.handle);
    return token == seen.pause_at;
}

#if IS_E
static LLMResultCallback callback = note;
#else
static void note_void(RKLLMResult* result, void* userdata, LLMCallState state) {
    note(result, userdata, state);
}
static LLMResultCallback callback = note_void;
#endif

static int init(LLMHandle* handle, RKLLMParam* param) {
#if IS_F
    static RKLLMCallback callbacks;
    callbacks.result_callback = callback;
    callbacks.result_userdata = &callbacks;
    return rkllm_init(handle, param, &callbacks);
#else
    return rkllm_init(handle, param, callback);
#endif
}

static int clear(LLMHandle handle, int keep_system) {
#if IS_E
    return rkllm_clear_kv_cache(handle, keep_system, NULL, NULL);
#elif GROUP >= RKLLM_MOCK_D
    return rkllm_clear_kv_cache(handle, keep_system);
#else
    (void)handle, (void)keep_system;
    return 0;
#endif
}

static RKLLMInput prompt(const char* text) {
    RKLLMInput input;
    memset(&input, 0, sizeof input);
#if IS_E
    input.role = "user";
#endif
    input.input_type = RKLLM_INPUT_PROMPT;
    input.prompt_input = text;
    return input;
}

static RKLLMInput tokens(int32_t* ids, size_t n) {
    RKLLMInput input = prompt(NULL);
    input.input_type = RKLLM_INPUT_TOKEN;
    input.token_input.input_ids = ids;
    input.token_input.n_tokens = n;
    return input;
}

static RKLLMInferParam infer(RKLLMInferMode mode) {
    RKLLMInferParam param;
    memset(&param, 0, sizeof param);
    param.mode = mode;
    return param;
}

static int run(RKLLMInput input, RKLLMInferParam param) {
    int pause_at = seen.pause_at, abort_at = seen.abort_at;
    reset();
    seen.pause_at = pause_at, seen.abort_at = abort_at;
    int returned = rkllm_run(seen.handle, &input, &param, &seen);
    seen.pause_at = seen.abort_at = -1;
    return returned;
}

static int say(const char* text) {
    return run(prompt(text), infer(RKLLM_INFER_GENERATE));
}

static void check_layout(void) {
#define SIZE(type, size) ok(sizeof(type) == size, "sizeof(" #type ") is " #size);
#define OFFSET(type, field, offset) \
    ok(offsetof(type, field) == offset, "offsetof(" #type ", " #field ") is " #offset);
#include "layout.inc"
}

static void check_defaults(void) {
    RKLLMParam param = rkllm_createDefaultParam();
#define DEFAULT(path, value) ok(param.path == value, #path " defaults to " #value);
#define DEFAULT_TEXT(path) ok(param.path && !*param.path, #path " defaults to an empty text");
#include "defaults.inc"
#ifdef __x86_64__
    /* The hidden result pointer is the first argument here, so that padding can be watched. */
    unsigned char first[1024], second[1024];
    void* (*write_to)(void*) = (void* (*)(void*))(void (*)(void))rkllm_createDefaultParam;
    memset(first, 0xa5, sizeof first);
    memset(second, 0x5a, sizeof second);
    ok(write_to(first) == first, "the result pointer comes back");
    write_to(second);
    int last = -1;
    for (int i = 0; i < 1024; i++)
        if (first[i] == second[i]) last = i;
    ok(last < (int)sizeof(RKLLMParam), "nothing is written behind the struct");
    ok(first[offsetof(RKLLMParam, extend_param.reserved)] == 0xa5, "reserved bytes are untouched");
    ok(first[GROUP == RKLLM_MOCK_C ? 54 : 59] == 0xa5, "padding is untouched");
#endif
}

#if GROUP == RKLLM_MOCK_C
#define INIT_FAILS 0 /* 1.1 says 0 and leaves the handle alone */
#else
#define INIT_FAILS -1
#endif

static void expect_refusal(RKLLMParam* param, const char* line) {
    LLMHandle handle = (LLMHandle)0x1234;
    printed();
    int returned = init(&handle, param);
    const char* log = printed();
    ok(returned == INIT_FAILS && handle == (LLMHandle)0x1234 && has(log, line), "init fails with: %s",
       line);
}

static RKLLMParam param_for(const char* path) {
    RKLLMParam param = rkllm_createDefaultParam();
    param.model_path = path;
    param.max_context_len = 1024;
    param.max_new_tokens = 40;
    return param;
}

static void check_refusals(void) {
    RKLLMParam param = param_for("/nonexistent.rkllm");
    expect_refusal(NULL, "E rkllm: RKLLMParam pointer is NULL");
    expect_refusal(&param, "failed to open '/nonexistent.rkllm': 'No such file or directory'");
    param = param_for(foreign);
    expect_refusal(&param, "E rkllm: invalid rkllm model!");
    param = param_for(model);
    param.max_context_len = 1 << 20;
    expect_refusal(&param, "must be less than the model's max_context_limit[16384]");
    setenv("MOCK_NPU_FAULTS", "board_platform=RK3576", 1);
    param = param_for(model);
    expect_refusal(&param, "the model's target_platform does not match the real platform");
    setenv("MOCK_NPU_FAULTS", "board_platform=RK3399", 1);
    expect_refusal(&param, "Platform error, must be either RK3588, RK3576, RV1126B or RK3562. "
                           "Your platform is RK3399");
    unsetenv("MOCK_NPU_FAULTS");
#if GROUP >= RKLLM_MOCK_D
    param.n_keep = 1024;
    expect_refusal(&param, "E rkllm: The n_keep must be less than the max_context_len");
    param = param_for(model);
    param.extend_param.enabled_cpus_num = 3;
    expect_refusal(&param, "Mismatch between enabled CPUs mask and expected count");
    param.extend_param.enabled_cpus_num = 2;
    param.extend_param.enabled_cpus_mask = CPU4 | CPU5;
    expect_refusal(&param, "must be greater than or equal to the number of NPU cores");
    param.extend_param.enabled_cpus_num = 9;
    expect_refusal(&param, "Expected The number of enabled CPUs between 1 and 8 for RK3588, but got 9.");
#endif
#if IS_E
    param = param_for(model);
    param.extend_param.n_batch = 0;
    expect_refusal(&param, "E rkllm: The n_batch must be between 1 and 100, but got 0");
#endif
}

static void check_null(void) {
    RKLLMInput input = prompt("x");
    RKLLMInferParam param = infer(RKLLM_INFER_GENERATE);
    ok(rkllm_run(NULL, &input, &param, NULL) == -1, "run on NULL is -1");
    ok(rkllm_run_async(NULL, &input, &param, NULL) == -1, "run_async on NULL is -1");
    ok(rkllm_run(seen.handle, NULL, &param, NULL) == -1, "run without input is -1");
    ok(rkllm_run(seen.handle, &input, NULL, NULL) == -1, "run without parameters is -1");
    ok(rkllm_abort(NULL) == -1 && rkllm_is_running(NULL) == -1, "abort, is_running on NULL are -1");
    ok(rkllm_destroy(NULL) == -1 && rkllm_load_lora(NULL, NULL) == -1, "destroy, lora on NULL are -1");
    ok(rkllm_load_prompt_cache(NULL, "x") == -1 && rkllm_release_prompt_cache(NULL) == -1,
       "prompt cache on NULL is -1");
#if GROUP >= RKLLM_MOCK_D
    ok(clear(NULL, 1) == -1 && rkllm_set_chat_template(NULL, "", "", "") == -1,
       "cache and template on NULL are -1");
#endif
#if IS_E
    int size;
    ok(rkllm_get_kv_cache_size(NULL, &size) == -1 && rkllm_set_function_tools(NULL, "", "", "") == -1 &&
           rkllm_set_cross_attn_params(NULL, NULL) == -1,
       "the functions of 1.2.1 on NULL are -1");
#endif
}

#if IS_E
static int cache_size(void) {
    int size = -1;
    rkllm_get_kv_cache_size(seen.handle, &size);
    return size;
}
#endif

static void check_generate(void) {
    ok(say("What is the capital of France?") == 0, "run returns 0");
    ok(seen.normal > 3 && seen.finish == 1 && seen.error == 0 && seen.after_finish == 0,
       "tokens come as NORMAL, then FINISH once");
    ok(seen.without_text, "FINISH has no text");
    ok(has(seen.text, "Paris"), "the answer makes sense: %s", seen.text);
    ok(seen.userdata == &seen, "userdata comes back");
    ok(rkllm_is_running(seen.handle) == !IS_F, "is_running has the polarity of the group");
    char first[sizeof seen.text];
    strcpy(first, seen.text);
    say("What is the capital of France?");
    ok(!strcmp(first, seen.text), "the same prompt has the same answer");
#if IS_E
    ok(seen.perf.prefill_tokens == 1, "all but the last token were in the cache: %d computed",
       seen.perf.prefill_tokens);
    ok(seen.perf.generate_tokens == seen.normal && seen.perf.memory_usage_mb > 1,
       "perf counts the tokens");
    clear(seen.handle, 0);
    ok(cache_size() == 0, "the cache is empty after clear");
    say("What is the capital of France?");
    ok(seen.perf.prefill_tokens > 10, "after clear everything is computed");
    ok(!strcmp(first, seen.text), "and the answer is still the same");
#endif
    setenv("MOCK_NPU_SCRIPT", "[[rule]]\nsay = \"Grüße 日本 😀\"\nsplit_utf8 = true", 1);
    say("x");
    ok(!strcmp(seen.text, "Grüße 日本 😀") && seen.waiting == 9,
       "split characters wait and come whole: %d WAITING", seen.waiting);
    setenv("MOCK_NPU_SCRIPT", "[[rule]]\nsay = \"abc\"\nno_eos = true", 1);
    say("x");
    ok(seen.normal == 40 && seen.finish == 1, "max_new_tokens ends a loop: %d", seen.normal);
    setenv("MOCK_NPU_SCRIPT", "[[rule]]\nsay = \"one two three four\"\nfail_at_token = 2", 1);
    ok(say("x") == -1 && seen.normal == 2 && seen.error == 1 && seen.finish == 0,
       "a failure is ERROR and -1");
    unsetenv("MOCK_NPU_SCRIPT");
}

static void check_tokens(void) {
    int32_t ids[] = {1, 5, 6, 7, 8, 9, 10, 12};
    clear(seen.handle, 0);
    ok(run(tokens(ids, 8), infer(RKLLM_INFER_GENERATE)) == 0 && seen.finish == 1, "TOKEN input runs");
#if IS_E
    setenv("MOCK_NPU_SCRIPT", "[[rule]]\nsay = \"abc\"\nno_eos = true", 1);
    run(tokens(ids, 8), infer(RKLLM_INFER_GENERATE));
    ok(cache_size() == 8 + 40 - 1, "the last token is not in the cache: %d", cache_size());
    run(tokens(ids, 5), infer(RKLLM_INFER_GENERATE));
    ok(seen.perf.prefill_tokens == 1 && cache_size() == 5 + 40 - 1, "a shorter prompt drops the rest");
    RKLLMInferParam keep = infer(RKLLM_INFER_GENERATE);
    keep.keep_history = 1;
    run(tokens(ids, 8), keep);
    ok(cache_size() == 44 + 8 + 39, "keep_history appends: %d", cache_size());
    unsetenv("MOCK_NPU_SCRIPT");
#endif
    clear(seen.handle, 0);
    static int32_t many[1100];
    for (int i = 0; i < 1100; i++) many[i] = 5 + i % 100;
#if GROUP >= RKLLM_MOCK_D
    RKLLMInferParam further = infer(RKLLM_INFER_GENERATE);
    further.keep_history = 1;
    seen.abort_at = 0;
    run(tokens(many, 600), further);
    printed();
    seen.abort_at = 0;
    run(tokens(many, 600), further);
    ok(has(printed(), "I rkllm: context to be full[600 + 600], delete the kv cache in [0, 300), total: 300"),
       "a full window loses its oldest part");
    clear(seen.handle, 0);
#endif
    printed();
    ok(run(tokens(many, 1100), infer(RKLLM_INFER_GENERATE)) == -1 && seen.error == 1 &&
           has(printed(), "E rkllm: the length of prompt is greater than max context (prompt: 1100 "
                          "tokens, max context: 1024)"),
       "a prompt that is too long is an ERROR");
    ok(say("Hello") == 0 && seen.finish == 1, "and the next run is fine");
}

static void* abort_later(void* handle) {
    usleep(120000);
    rkllm_abort(handle);
    return NULL;
}

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

static void check_abort(void) {
    setenv("MOCK_NPU_SCALE", "1", 1);
    setenv("MOCK_NPU_SCRIPT",
           "[latency]\nprefill_ms = 1\nprefill_ms_per_token = 0\ndecode_ms_per_token = 20\n"
           "[[rule]]\nsay = \"abc\"\nno_eos = true",
           1);
    pthread_t thread;
    pthread_create(&thread, NULL, abort_later, seen.handle);
    ok(say("x") == 0 && seen.finish == 1, "an aborted run returns 0 after FINISH");
    pthread_join(thread, NULL);
    ok(seen.normal >= 3 && seen.normal <= 9, "it stops at the next token: %d", seen.normal);
#if IS_E
    ok(seen.perf.generate_tokens == 0, "no perf after an abort");
#endif
    setenv("MOCK_NPU_SCRIPT", "[latency]\nprefill_ms = 400\n[[rule]]\nsay = \"abc\"\nno_eos = true", 1);
    double start = now_ms();
    pthread_create(&thread, NULL, abort_later, seen.handle);
    ok(say("y") == 0 && seen.normal == 0 && seen.finish == 1, "no token comes after a late abort");
    pthread_join(thread, NULL);
    ok(now_ms() - start >= 400, "a prefill is not interrupted: %.0f ms", now_ms() - start);
    setenv("MOCK_NPU_SCALE", "0", 1);
    setenv("MOCK_NPU_SCRIPT", "[[rule]]\nsay = \"abc\"\nno_eos = true", 1);
    seen.abort_at = 2;
    ok(say("x") == 0 && seen.normal == 3, "abort inside the callback: %d tokens", seen.normal);
    setenv("MOCK_NPU_SCRIPT",
           "[latency]\nprefill_ms = 1\nprefill_ms_per_token = 0\ndecode_ms_per_token = 20\n"
           "[[rule]]\nsay = \"abc\"\nno_eos = true",
           1);
    setenv("MOCK_NPU_SCALE", "1", 1);
    reset();
    RKLLMInput input = prompt("x");
    RKLLMInferParam param = infer(RKLLM_INFER_GENERATE);
    ok(rkllm_run_async(seen.handle, &input, &param, &seen) == 0 && seen.finish == 0,
       "run_async returns before the end");
    usleep(60000);
    ok(rkllm_is_running(seen.handle) == IS_F, "is_running while it runs");
    rkllm_abort(seen.handle);
    for (int i = 0; i < 200 && !seen.finish; i++) usleep(10000);
    ok(seen.finish == 1, "FINISH comes on the library's thread");
    usleep(20000);
    setenv("MOCK_NPU_SCALE", "0", 1);
    unsetenv("MOCK_NPU_SCRIPT");
}

#if IS_E
static void check_pause(void) {
    setenv("MOCK_NPU_SCRIPT", "[[rule]]\nsay = \"one two three four five\"", 1);
    seen.pause_at = 1;
    ok(say("x") == 0 && seen.normal == 2 && seen.finish == 0, "1 pauses: no FINISH");
    static char begun[2 * sizeof seen.text];
    strcpy(begun, seen.text);
    ok(say("this is not read") == 0 && seen.finish == 1, "the next prompt resumes");
    strcat(begun, seen.text);
    ok(!strcmp(begun, "one two three four five"), "the answer goes on: %s", begun);
    seen.pause_at = 1;
    say("x");
    int size = cache_size(), start = 0, end = 2;
    rkllm_clear_kv_cache(seen.handle, 0, &start, &end);
    ok(cache_size() == size - 2, "a range is cleared while paused");
    clear(seen.handle, 0);
    rkllm_clear_kv_cache(seen.handle, 0, &start, &end);
    ok(has(printed(), "W rkllm"), "and only then");
    seen.pause_at = 1;
    say("x");
    size = cache_size();
    int32_t own[] = {5, 6, 7};
    ok(run(tokens(own, 3), infer(RKLLM_INFER_GENERATE)) == 0 && seen.perf.prefill_tokens == 3,
       "tokens are appended to a paused generation");
    ok(cache_size() == size + 3 + seen.normal, "in the place of the one that was sampled: %d, %d", size,
       cache_size());
    unsetenv("MOCK_NPU_SCRIPT");
}
#endif

static void check_data(void) {
    int32_t ids[] = {17, 5, 6, 7, 8, 9}; /* no prefix of an earlier run: group C cannot clear */
    clear(seen.handle, 0);
    ok(run(tokens(ids, 6), infer(RKLLM_INFER_GET_LAST_HIDDEN_LAYER)) == 0 && seen.hidden_rows == 6 &&
           seen.row_len == 64,
       "hidden layer: %d rows of %d", seen.hidden_rows, seen.row_len);
    ok(seen.finish == !IS_E, "FINISH in hidden mode is %d", !IS_E);
    ok(seen.other_state == (GROUP == RKLLM_MOCK_C), "the state of its own exists in group C only");
    ok(seen.last_row[0] != 0 || seen.last_row[1] != 0, "the rows hold something");
#if GROUP >= RKLLM_MOCK_D
    clear(seen.handle, 0);
    ok(run(tokens(ids, 6), infer(RKLLM_INFER_GET_LOGITS)) == 0 && seen.logits_rows == 6 &&
           seen.row_len == vocab_len,
       "logits: %d rows of %d", seen.logits_rows, seen.row_len);
    int best = seen.first_token;
    run(tokens(ids, 6), infer(RKLLM_INFER_GET_LOGITS));
    ok(seen.logits_rows == 1 && seen.first_token == best,
       "matched tokens have no rows, the last is the same");
#if IS_F
    RKLLMSamplingParam greedy = {1, 1, 0, 1, 0, 0, 0, 5, 0.1f};
    RKLLMInferParam param = infer(RKLLM_INFER_GENERATE);
    param.sampling_params = &greedy;
    param.max_new_tokens = 1;
    run(tokens(ids, 6), param);
    ok(seen.first_token == best, "greedy GENERATE says what GET_LOGITS ranks first: %d and %d", best,
       seen.first_token);
#endif
#endif
}

static void check_lora(void) {
    char path[512];
    snprintf(path, sizeof path, "%s/adapter.rkllm", scratch);
    FILE* file = fopen(path, "w");
    fputs("RKLLM-MOCK-LORA 1\n[[rule]]\nsay = \"from the adapter\"\n", file);
    fclose(file);
    RKLLMLoraAdapter adapter = {"/nonexistent", "a", 1};
    ok(rkllm_load_lora(seen.handle, &adapter) == -1 && has(printed(), "Lora adapter path does not exist!"),
       "an absent adapter is refused");
    adapter.lora_adapter_path = path;
    ok(rkllm_load_lora(seen.handle, &adapter) == 0, "an adapter is loaded");
    ok(rkllm_load_lora(seen.handle, &adapter) == -1 &&
           has(printed(), "Lora adapter 'a' is already initialized!"),
       "but not twice");
    RKLLMLoraParam chosen = {"a"};
    RKLLMInferParam param = infer(RKLLM_INFER_GENERATE);
    param.lora_params = &chosen;
    run(prompt("x"), param);
    ok(!strcmp(seen.text, "from the adapter"), "a run uses it");
    chosen.lora_adapter_name = "b";
    ok(run(prompt("x"), param) == -1 && seen.error == 1 && has(printed(), "Not Found Lora adapter named: b"),
       "an unknown name is an ERROR");
}

static void check_prompt_cache(void) {
    char path[512];
    snprintf(path, sizeof path, "%s/cache.bin", scratch);
    int32_t ids[] = {1, 5, 6, 7, 8, 9};
    RKLLMPromptCacheParam cache = {1, path};
    RKLLMInferParam param = infer(RKLLM_INFER_GENERATE);
    param.prompt_cache_params = &cache;
    clear(seen.handle, 0);
    seen.abort_at = 0; /* a cache of the prompt alone */
    run(tokens(ids, 6), param);
    ok(has(printed(), "saved prompt cache to"), "a cache is saved");
    uint32_t head[9] = {0};
    FILE* file = fopen(path, "rb");
    size_t words = file ? fread(head, 4, 9, file) : 0;
    if (file) fclose(file);
    ok(words == 9 && head[1] == 8 && head[2] == 6 && head[3] == 1 && head[8] == 9,
       "the file begins with version 8 and the tokens");
    clear(seen.handle, 0);
    ok(rkllm_load_prompt_cache(seen.handle, "/nonexistent") == -1 &&
           has(printed(), "E rkllm: prompt cache file '/nonexistent' does not exist"),
       "an absent cache is refused");
    ok(rkllm_load_prompt_cache(seen.handle, path) == 0 &&
           has(printed(), "I rkllm: loaded a prompt cache with prompt size of 6 tokens"),
       "a cache is loaded");
#if IS_E
    ok(cache_size() == 6, "its tokens are in the cache");
    run(tokens(ids, 6), infer(RKLLM_INFER_GENERATE));
    ok(seen.perf.prefill_tokens == 1, "and are matched");
#endif
    ok(rkllm_release_prompt_cache(seen.handle) == 0, "it is released");
}

#if GROUP >= RKLLM_MOCK_D
static void check_template(void) {
    printed();
    ok(rkllm_set_chat_template(seen.handle, "", "", "") == 0 && has(printed(), "I rkllm: reset chat template:"),
       "the template can be emptied");
#if IS_E
    ok(rkllm_set_function_tools(seen.handle, "s", "[]", "tool_response") == -1 &&
           has(printed(), "E rkllm: Failed to set function tools, possibly because the chat_template "
                          "is empty."),
       "then there are no tools");
#endif
}
#endif

#if IS_E
static void check_tools(void) {
    ok(rkllm_set_function_tools(seen.handle, "Be brief.", "[{\"name\": \"f\"}]", "tool_response") == 0,
       "tools are taken");
    setenv("MOCK_NPU_SCRIPT",
           "[[rule]]\nafter_tool = true\nsay = \"done\"\n"
           "[[rule]]\nsystem_contains = \"<tools>\"\ntool_call = { name = \"f\", arguments = { a = 1 } }",
           1);
    say("x");
    ok(!strcmp(seen.text, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>"),
       "the model calls: %s", seen.text);
    RKLLMInput result = prompt("[{\"a\": 2}]");
    result.role = "tool";
    run(result, infer(RKLLM_INFER_GENERATE));
    ok(!strcmp(seen.text, "done"), "the result is a turn of its own: %s", seen.text);
    unsetenv("MOCK_NPU_SCRIPT");
    RKLLMCrossAttnParam cross;
    memset(&cross, 0, sizeof cross);
    ok(rkllm_set_cross_attn_params(seen.handle, &cross) == -1, "no cross attention without its flag");
}
#endif

static RKLLMInput image(const char* text, float* embed, size_t n_tokens) {
    RKLLMInput input = prompt(NULL);
    input.input_type = RKLLM_INPUT_MULTIMODAL;
    input.multimodal_input.prompt = (char*)text;
#if IS_F
    input.multimodal_input.image.image_embed = embed;
    input.multimodal_input.image.n_image_tokens = n_tokens;
    input.multimodal_input.image.n_image = 1;
    input.multimodal_input.image.image_start = "<|vision_start|>";
    input.multimodal_input.image.image_end = "<|vision_end|>";
    input.multimodal_input.image.image_content = "<|image_pad|>";
#else
    input.multimodal_input.image_embed = embed;
    input.multimodal_input.n_image_tokens = n_tokens;
#if GROUP >= RKLLM_MOCK_D1
    input.multimodal_input.n_image = 1;
#endif
#endif
    return input;
}

static void check_image(void) {
    float* embed = calloc(4 * image_width, sizeof *embed);
    for (size_t i = 0; i < 4 * image_width; i++) embed[i] = (float)i;
    clear(seen.handle, 0);
    RKLLMInferParam param = infer(RKLLM_INFER_GENERATE);
    ok(run(image("<image>What do you see?", embed, 4), param) == 0 && seen.finish == 1, "an image runs");
    char first[sizeof seen.text];
    strcpy(first, seen.text);
    run(image("<image>What do you see?", embed, 4), param);
    ok(!strcmp(first, seen.text), "the same image has the same answer: %s", first);
#if IS_E
    for (size_t i = 0; i < 4 * image_width; i++) embed[i] = -(float)i;
    setenv("MOCK_NPU_FAULTS", "stale_image", 1);
    run(image("<image>What do you see?", embed, 4), param);
    ok(!strcmp(first, seen.text) && seen.perf.prefill_tokens == 1, "a stale image on demand");
    unsetenv("MOCK_NPU_FAULTS");
    run(image("<image>What do you see?", embed, 4), param);
    ok(seen.perf.prefill_tokens > 4, "another image is computed: %d", seen.perf.prefill_tokens);
    setenv("MOCK_NPU_SCRIPT", "[[rule]]\nsay = \"abc\"\nno_eos = true", 1);
    run(image("<image>What do you see?", embed, 4), param);
    int size = cache_size();
    run(image("<image>What do you see?", embed, 3), param);
    ok(cache_size() == size - 1, "each image token is a cell: %d and %d", size, cache_size());
    unsetenv("MOCK_NPU_SCRIPT");
#endif
    ok(run(image("What do you see?", embed, 4), param) == -1 &&
           has(printed(), "E rkllm: multimodal input must contain the <image> tag, for plain text "
                          "input, please use prompt_input"),
       "a prompt without <image> is refused");
    ok(run(image("<image>x", embed, 0), param) == -1 &&
           has(printed(), "E rkllm: The n_image/n_image_token of multimodal_input is not set"),
       "so is one without a size");
    ok(run(image("<image>x", NULL, 4), param) == -1 &&
           has(printed(), "E rkllm: The image_embed of multimodal_input is empty"),
       "and one without an embedding");
    RKLLMInput rows = prompt(NULL);
    rows.input_type = RKLLM_INPUT_EMBED;
    rows.embed_input.embed = embed;
    rows.embed_input.n_tokens = 3;
    clear(seen.handle, 0);
    ok(run(rows, param) == 0 && seen.finish == 1, "EMBED input runs");
    free(embed);
}

#if IS_F
static void check_per_run(void) {
    RKLLMInferParam param = infer(RKLLM_INFER_GENERATE);
    param.max_new_tokens = 3;
    run(prompt("Tell me about the board"), param);
    ok(seen.normal == 3, "max_new_tokens per run");
    RKLLMSamplingParam cold = {1, 1, 0, 1, 0, 0, 0, 5, 0.1f}, hot = {0, 1, 4, 1, 0, 0, 0, 5, 0.1f};
    param.max_new_tokens = 0;
    param.sampling_params = &cold;
    run(prompt("Tell me about the board"), param);
    char first[sizeof seen.text];
    strcpy(first, seen.text);
    param.sampling_params = &hot;
    run(prompt("Tell me about the board"), param);
    ok(strcmp(first, seen.text), "sampling per run: %s", seen.text);
    RKLLMInput input = prompt("x");
    param = infer(RKLLM_INFER_GENERATE);
    reset();
    rkllm_run(seen.handle, &input, &param, NULL);
    ok(seen.userdata != NULL && seen.userdata != &seen, "without userdata that of init comes");
}
#endif

#if IS_E
#define BATCH 3

static struct {
    char text[BATCH][1 << 12];
    int steps, finish, released;
    RKLLMPerfStat perf;
} batch;

static int note_batch(RKLLMResult* results, void* userdata, LLMCallState state) {
    (void)userdata;
    if (state == RKLLM_RUN_FINISH) {
        batch.finish++;
        batch.perf = results[0].perf;
        return 0;
    }
    if (state > RKLLM_RUN_WAITING) return 0;
    batch.steps++;
    for (int i = 0; i < BATCH; i++) {
        if (results[i].token_id < 0) batch.released += results[i].text == NULL;
        else if (results[i].text) strcat(batch.text[i], results[i].text);
    }
    return 0;
}

static void check_batch(void) {
    RKLLMParam param = param_for(model);
    param.extend_param.n_batch = BATCH;
    LLMHandle outer = seen.handle, handle = NULL;
    LLMResultCallback usual = callback;
    callback = note_batch;
    ok(init(&handle, &param) == 0 && handle, "a handle for %d inputs", BATCH);
    setenv("MOCK_NPU_SCRIPT",
           "[[rule]]\nuser_contains = \"long\"\nsay = \"one two three four five six\"\n"
           "[[rule]]\nuser_contains = \"split\"\nsay = \"😀\"\nsplit_utf8 = true\n"
           "[[rule]]\nuser_contains = \"short\"\nsay = \"one\"",
           1);
    RKLLMInput inputs[BATCH] = {prompt("short"), prompt("a long one"), prompt("split")};
    RKLLMInferParam infer_param = infer(RKLLM_INFER_GENERATE);
    ok(rkllm_run(handle, inputs, &infer_param, NULL) == 0 && batch.finish == 1, "a batch runs");
    ok(!strcmp(batch.text[0], "one") && !strcmp(batch.text[1], "one two three four five six") &&
           !strcmp(batch.text[2], "😀"),
       "each input has its answer: %s, %s, %s", batch.text[0], batch.text[1], batch.text[2]);
    ok(batch.steps < 10 && batch.released > 0, "they go in step, and those that are done say nothing");
    ok(batch.perf.generate_tokens > batch.steps, "perf counts all: %d", batch.perf.generate_tokens);
    int sizes[BATCH] = {0};
    rkllm_get_kv_cache_size(handle, sizes);
    ok(sizes[0] > 0 && sizes[1] > sizes[0] && sizes[2] > 0, "each has its cache: %d, %d, %d", sizes[0],
       sizes[1], sizes[2]);
    unsetenv("MOCK_NPU_SCRIPT");
    infer_param = infer(RKLLM_INFER_GET_LOGITS);
    printed();
    ok(rkllm_run(handle, inputs, &infer_param, NULL) == -1 &&
           has(printed(), "Getting the logits is not supported for multiple batches"),
       "no logits of a batch");
    rkllm_destroy(handle);
    callback = usual;
    seen.handle = outer;
}
#endif

#if IS_F
static struct { int tokenized, embedded, fails; } served;

static int tokenize(void* userdata, const char* text, int32_t text_len, int32_t* ids, int32_t max) {
    served.tokenized += userdata == &served && (size_t)text_len == strlen(text);
    if (served.fails || text_len > max) return -1;
    for (int i = 0; i < text_len; i++) ids[i] = 100 + text[i] % 50;
    return text_len;
}

static int embed(void* userdata, int32_t* ids, uint64_t n, void* out, uint64_t bytes) {
    served.embedded += userdata == &served && bytes == n * 64 * sizeof(float);
    for (uint64_t i = 0; i < n * 64; i++) ((float*)out)[i] = (float)ids[i / 64];
    return served.fails == 2 ? -1 : 0;
}

/* The model of the command line with one more line after its first. */
static const char* model_with(const char* line) {
    static char path[512];
    char text[8192];
    FILE* file = fopen(model, "r");
    size_t len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = 0;
    char* rest = strchr(text, '\n') + 1;
    snprintf(path, sizeof path, "%s/with.rkllm", scratch);
    file = fopen(path, "w");
    fprintf(file, "RKLLM-MOCK 1\n%s%s", line, rest);
    fclose(file);
    return path;
}

static void check_services(void) {
    RKLLMCallback callbacks = {note, &seen, tokenize, &served, embed, &served};
    RKLLMParam param = param_for(model_with("external_tokenizer = true\nexternal_embedding = true\n"));
    LLMHandle outer = seen.handle;
    seen.handle = NULL;
    ok(rkllm_init(&seen.handle, &param, &callbacks) == 0, "a model without tokenizer and embedding");
    ok(say("abc") == 0 && seen.finish == 1, "runs on the caller's");
    ok(served.tokenized >= 1 && served.embedded > seen.normal, "which are called: %d, %d",
       served.tokenized, served.embedded);
    ok(seen.text[0] == 0 && seen.first_token >= 0, "ids come without text");
    served.fails = 1;
    ok(say("abc") == -1 && seen.error == 1, "a failing tokenizer is an ERROR");
    int32_t ids[] = {100, 101, 102};
    served.fails = 2;
    ok(run(tokens(ids, 3), infer(RKLLM_INFER_GENERATE)) == -1, "so is a failing embedding");
    rkllm_destroy(seen.handle);
    seen.handle = outer;
}
#endif

static void check_walk(void) {
    check_null();
    check_generate();
    check_tokens();
    check_abort();
#if IS_E
    check_pause();
    check_batch();
#endif
    check_data();
    check_lora();
    check_prompt_cache();
    check_image();
#if IS_F
    check_per_run();
    check_services();
#endif
#if IS_E
    check_tools();
#endif
#if GROUP >= RKLLM_MOCK_D
    check_template();
#endif
}

int main(int count, char** arguments) {
    if (count != 7) return 2;
    model = arguments[1], foreign = arguments[2], version = arguments[5], scratch = arguments[6];
    vocab_len = atoi(arguments[4]);
    image_width = (size_t)atoi(arguments[3]);
    setenv("MOCK_NPU_SCALE", "0", 1);
    tap_begin();
    check_layout();
    check_defaults();
    check_refusals();
    RKLLMParam param = param_for(model);
    char line[256];
    printed();
    ok(init(&seen.handle, &param) == 0 && seen.handle, "init of %s", model);
    const char* log = printed();
    snprintf(line, sizeof line,
             "I rkllm: rkllm-runtime version: %s, rknpu driver version: 0.9.8, platform: RK3588\n",
             version);
    ok(!strncmp(log, line, strlen(line)), "the first line names version %s", version);
    snprintf(line, sizeof line, "I rkllm: rkllm-toolkit version: %s, max_context_limit: 16384, npu_core_num: "
                                "3, target_platform: RK3588%s\n", version, IS_E ? ", model_dtype: W8A8" : "");
    ok(has(log, line), "the toolkit line");
#if GROUP >= RKLLM_MOCK_D
    ok(has(log, "I rkllm: Enabled cpus: [4, 5, 6, 7]\nI rkllm: Enabled cpus num: 4\n"), "the CPU lines");
#endif
    reset();
    if (seen.handle) check_walk();
    ok(rkllm_destroy(seen.handle) == 0, "destroy");
    return tap_end();
}
