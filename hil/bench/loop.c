/*
 * The bare loop: what a program of C gets from the vendor's library, with nothing in between. The
 * server is measured against it.
 *
 *   cc -O2 -include mock-npu/include/rkllm-f.h hil/bench/loop.c -o loop -ldl
 *   ./loop LIBRARY MODEL CONTEXT
 *
 * The header is that of the library's ABI group: rkllm-e.h for 1.2.1 to 1.2.3, rkllm-f.h for 1.3.x.
 * It loads the model and says so in a line of JSON. Each line that it then reads, an answer's length
 * and the prompt's token ids, is a greedy run: one more line of JSON. It ends with its input. What the
 * library prints goes to standard error.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define IDS_MAX 65536
#define TEXT_MAX (1 << 20)

static double now_us(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec * 1e-3;
}

/* What a run has shown. */
static struct {
    double first_us, last_us;
    size_t tokens, text_len;
    int failed, tokens_max;
    LLMHandle handle;
    int32_t ids[IDS_MAX];
    char text[TEXT_MAX];
} seen;

static __typeof__(rkllm_abort)* stop;

static int note(RKLLMResult* result, void* userdata, LLMCallState state) {
    (void)userdata;
    if (state == RKLLM_RUN_ERROR) seen.failed = 1;
    if (state > RKLLM_RUN_WAITING || !result || seen.tokens == (size_t)seen.tokens_max) return 0;
    seen.last_us = now_us(CLOCK_MONOTONIC);
    if (!seen.tokens) seen.first_us = seen.last_us;
    seen.ids[seen.tokens++] = result->token_id;
    if (state == RKLLM_RUN_NORMAL && result->text) {
        size_t len = strlen(result->text);
        if (len > TEXT_MAX - seen.text_len) len = TEXT_MAX - seen.text_len;
        memcpy(seen.text + seen.text_len, result->text, len);
        seen.text_len += len;
    }
#if RKLLM_MOCK_GROUP < RKLLM_MOCK_F
    /* The length is fixed at load there: a shorter answer is ended by its reader. */
    if (seen.tokens == (size_t)seen.tokens_max) stop(seen.handle);
#endif
    return 0;
}

static void* symbol(void* library, const char* name) {
    void* found = dlsym(library, name);
    if (!found) {
        fprintf(stderr, "the library has no %s\n", name);
        exit(1);
    }
    return found;
}

static LLMHandle load(void* library, const char* model, int context) {
    __typeof__(rkllm_createDefaultParam)* defaults = symbol(library, "rkllm_createDefaultParam");
    __typeof__(rkllm_init)* init = symbol(library, "rkllm_init");
    RKLLMParam param = defaults();
    param.model_path = model;
    param.max_context_len = context;
    param.top_k = 1;
    param.top_p = param.temperature = param.repeat_penalty = 1;
    param.frequency_penalty = param.presence_penalty = 0;
    param.extend_param.n_batch = 1;
    LLMHandle handle = NULL;
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_F
    static RKLLMCallback callback;
    callback.result_callback = note;
    int status = init(&handle, &param, &callback);
#else
    int status = init(&handle, &param, note);
#endif
    if (status || !handle) {
        fprintf(stderr, "the model cannot be loaded\n");
        exit(1);
    }
    return handle;
}

/* Kibibytes of this process. */
static long memory_kib(const char* key) {
    FILE* file = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    long kib = -1;
    while (file && kib < 0 && fgets(line, sizeof line, file))
        if (!strncmp(line, key, strlen(key))) kib = atol(line + strlen(key));
    if (file) fclose(file);
    return kib;
}

static void print_text(FILE* out) {
    for (size_t i = 0; i < seen.text_len; i++) {
        unsigned char byte = (unsigned char)seen.text[i];
        if (byte < 0x20 || byte == '"' || byte == '\\') fprintf(out, "\\u%04x", byte);
        else putc(byte, out);
    }
}

/* A run of the prompt in a line; the line is used up. */
static int run(__typeof__(rkllm_run)* call, char* line, FILE* out) {
    static int32_t prompt[IDS_MAX];
    size_t len = 0;
    char* rest;
    seen.tokens_max = (int)strtol(strtok_r(line, " \n", &rest), NULL, 10);
    for (char* word; len < IDS_MAX && (word = strtok_r(NULL, " \n", &rest));)
        prompt[len++] = (int32_t)strtol(word, NULL, 10);
    if (seen.tokens_max < 1 || seen.tokens_max > IDS_MAX || !len) return -1;
    RKLLMInput input;
    RKLLMInferParam param;
    memset(&input, 0, sizeof input);
    memset(&param, 0, sizeof param);
    input.role = "user";
    input.input_type = RKLLM_INPUT_TOKEN;
    input.token_input.input_ids = prompt;
    input.token_input.n_tokens = len;
#if RKLLM_MOCK_GROUP >= RKLLM_MOCK_F
    RKLLMSamplingParam greedy = {1, 1, 1, 1, 0, 0, 0, 5, 0.1f};
    param.sampling_params = &greedy;
    param.max_new_tokens = seen.tokens_max;
#endif
    seen.tokens = seen.text_len = 0;
    seen.first_us = seen.last_us = 0;
    seen.failed = 0;
    double cpu_us = now_us(CLOCK_PROCESS_CPUTIME_ID), began_us = now_us(CLOCK_MONOTONIC);
    int status = call(seen.handle, &input, &param, NULL);
    double took_us = now_us(CLOCK_MONOTONIC) - began_us;
    cpu_us = now_us(CLOCK_PROCESS_CPUTIME_ID) - cpu_us;
    if (status || seen.failed || !seen.tokens) return -1;
    fprintf(out,
            "{\"tokens\":%zu,\"first_ms\":%.4f,\"last_ms\":%.4f,\"took_ms\":%.4f,\"cpu_us\":%.1f,"
            "\"rss_kib\":%ld,\"pss_kib\":%ld,\"ids\":[",
            seen.tokens, (seen.first_us - began_us) / 1e3, (seen.last_us - began_us) / 1e3,
            took_us / 1e3, cpu_us, memory_kib("Rss:"), memory_kib("Pss:"));
    for (size_t i = 0; i < seen.tokens; i++) fprintf(out, i ? ",%d" : "%d", seen.ids[i]);
    fputs("],\"text\":\"", out);
    print_text(out);
    fputs("\"}\n", out);
    return 0;
}

int main(int count, char** arguments) {
    if (count != 4) {
        fprintf(stderr, "loop LIBRARY MODEL CONTEXT\n");
        return 2;
    }
    FILE* out = fdopen(dup(STDOUT_FILENO), "w");
    if (!out || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) return 1;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    double began_us = now_us(CLOCK_MONOTONIC);
    void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    stop = symbol(library, "rkllm_abort");
    seen.handle = load(library, arguments[2], atoi(arguments[3]));
    fprintf(out, "{\"load_ms\":%.3f}\n", (now_us(CLOCK_MONOTONIC) - began_us) / 1e3);
    fflush(out);
    char* line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        if (run(symbol(library, "rkllm_run"), line, out)) {
            fprintf(stderr, "the run failed\n");
            return 1;
        }
        fflush(out);
    }
    free(line);
    __typeof__(rkllm_destroy)* destroy = symbol(library, "rkllm_destroy");
    return destroy(seen.handle);
}
