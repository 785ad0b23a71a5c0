/*
 * Callbacks per second of the bare library at zero delay: the ceiling against which a program on
 * top of it is measured.
 *
 *   cc -O2 -include include/rkllm-f.h conformance/bench.c -L LIBS/1.3.0 -lrkllmrt -o bench
 *   MOCK_NPU_SCALE=0 LD_LIBRARY_PATH=LIBS/1.3.0 ./bench demo/demo.rkllm 20000
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long called;

static int count(RKLLMResult* result, void* userdata, LLMCallState state) {
    (void)result, (void)userdata;
    if (state <= RKLLM_RUN_WAITING) called++;
    return 0;
}

static double seconds(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void run(LLMHandle handle, RKLLMSamplingParam* sampling, int n) {
    RKLLMInput input;
    RKLLMInferParam param;
    memset(&input, 0, sizeof input);
    memset(&param, 0, sizeof param);
    input.role = "user";
    input.prompt_input = "Tell me about the board";
    param.sampling_params = sampling;
    param.max_new_tokens = n;
    called = 0;
    rkllm_run(handle, &input, &param, NULL);
}

static void measure(LLMHandle handle, const char* name, const char* script, RKLLMSamplingParam* sampling,
                    int n) {
    setenv("MOCK_NPU_SCRIPT", script, 1);
    double start = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    run(handle, sampling, n);
    double wall = seconds(CLOCK_MONOTONIC) - start;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("%-28s %8ld callbacks  %10.0f /s  %7.2f us of CPU each\n", name, called,
           (double)called / wall, cpu * 1e6 / (double)called);
}

int main(int count_of, char** arguments) {
    if (count_of != 3) return 2;
    int n = atoi(arguments[2]);
    RKLLMParam param = rkllm_createDefaultParam();
    param.model_path = arguments[1];
    param.max_context_len = 16384;
    RKLLMCallback callback;
    memset(&callback, 0, sizeof callback);
    callback.result_callback = count;
    LLMHandle handle = NULL;
    double start = seconds(CLOCK_MONOTONIC);
    if (rkllm_init(&handle, &param, &callback) || !handle) return 1;
    printf("init %.0f ms\n", (seconds(CLOCK_MONOTONIC) - start) * 1e3);
    RKLLMSamplingParam top_40 = {40, 0.9f, 0.8f, 1.1f, 0, 0, 0, 5, 0.1f};
    RKLLMSamplingParam greedy = {1, 1, 0, 1, 0, 0, 0, 5, 0.1f};
    RKLLMSamplingParam whole = {0, 0.9f, 0.8f, 1.1f, 0, 0, 0, 5, 0.1f};
    const char* endless = "[[rule]]\nno_eos = true";
    measure(handle, "scripted", "[[rule]]\nsay = \"one two three \"\nno_eos = true", NULL, n);
    measure(handle, "model, top_k 40", endless, &top_40, n);
    measure(handle, "model, greedy", endless, &greedy, n);
    measure(handle, "model, whole vocabulary", endless, &whole, n / 20);
    return rkllm_destroy(handle);
}
