/*
 * A small program in the manner of the vendor's demos, for tests of faults: loads a model, runs
 * prompts, prints one line per callback. Built against the header of group E or F.
 *
 *   say MODEL [KEY=VALUE ...] PROMPT ...
 *
 * Keys: mode (0 generate, 1 hidden layer, 2 logits), keep_history, tokens=1 (send "1 5 6" as ids),
 * again=1 (load a second handle first), null_tags=1, domain, abort_at, load_cache.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static LLMHandle handle;
static int abort_at = -1, called;

static int print(RKLLMResult* result, void* userdata, LLMCallState state) {
    static const char* const names[] = {"NORMAL", "WAITING", "FINISH", "ERROR"};
    (void)userdata;
    if (!result) {
        printf("%s NULL\n", names[state]);
        return 0;
    }
    printf("%s %d %s\n", names[state], result->token_id, result->text ? result->text : "(null)");
    fflush(stdout);
    if (called++ == abort_at) rkllm_abort(handle);
    return 0;
}

static int init(LLMHandle* to, RKLLMParam* param) {
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_F
    static RKLLMCallback callback;
    callback.result_callback = print;
    return rkllm_init(to, param, &callback);
#else
    return rkllm_init(to, param, print);
#endif
}

static size_t ids_of(char* text, int32_t* ids) {
    size_t n = 0;
    for (char* word = strtok(text, " "); word && n < 64; word = strtok(NULL, " ")) ids[n++] = atoi(word);
    return n;
}

int main(int count, char** arguments) {
    RKLLMInferParam infer;
    memset(&infer, 0, sizeof infer);
    RKLLMParam param = rkllm_createDefaultParam();
    param.model_path = arguments[1];
    param.max_new_tokens = 30;
    int tokens = 0, handles = 0;
    for (int i = 2; i < count; i++) {
        char* value = strchr(arguments[i], '=');
        if (value && !strncmp(arguments[i], "mode=", 5)) infer.mode = (RKLLMInferMode)atoi(++value);
        else if (value && !strncmp(arguments[i], "keep_history=", 13)) infer.keep_history = atoi(++value);
        else if (value && !strncmp(arguments[i], "tokens=", 7)) tokens = atoi(++value);
        else if (value && !strncmp(arguments[i], "domain=", 7)) param.extend_param.base_domain_id = atoi(++value);
        else if (value && !strncmp(arguments[i], "abort_at=", 9)) abort_at = atoi(++value), called = 0;
        else if (value && !strncmp(arguments[i], "again=", 6)) handles = -atoi(++value);
        else if (value && !strncmp(arguments[i], "load_cache=", 11))
            printf("load_cache %d\n", rkllm_load_prompt_cache(handle, ++value));
#if RKLLM_MOCK_GROUP < RKLLM_MOCK_F
        else if (value && !strncmp(arguments[i], "null_tags=", 10)) param.img_start = NULL;
#endif
        else {
            for (; handles <= 0; handles++) {
                int returned = init(&handle, &param);
                printf("init %d %s\n", returned, handle ? "handle" : "NULL");
                fflush(stdout);
                if (returned || !handle) return 1;
            }
            RKLLMInput input;
            int32_t ids[64];
            memset(&input, 0, sizeof input);
            input.role = "user";
            input.prompt_input = arguments[i];
            if (tokens) {
                input.input_type = RKLLM_INPUT_TOKEN;
                input.token_input.n_tokens = ids_of(arguments[i], ids);
                input.token_input.input_ids = ids;
            }
            printf("run %d\n", rkllm_run(handle, &input, &infer, NULL));
            fflush(stdout);
        }
    }
    return rkllm_destroy(handle);
}
