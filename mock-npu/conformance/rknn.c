/*
 * Walks through the RKNN subset on two mock models and prints TAP.
 *
 *   rknn ENCODER.rknn POINTER.rknn FOREIGN_FILE
 *
 * The encoder has a 1x8x8x3 NHWC input and two outputs of 1x4x16; the pointer head scores 4 rows.
 */
#include "rknn-mock.h"

#include "tap.h"

static void fill(uint8_t* image, uint8_t red, uint8_t green, uint8_t blue) {
    for (int i = 0; i < 64; i++) image[3 * i] = red, image[3 * i + 1] = green, image[3 * i + 2] = blue;
}

static int encode(rknn_context encoder, uint8_t* image, float* first, float* second) {
    rknn_input input = {0, image, 192, 0, RKNN_TENSOR_UINT8, RKNN_TENSOR_NHWC};
    rknn_output outputs[2] = {{1, 0, 0, NULL, 0}, {1, 0, 0, NULL, 0}};
    if (rknn_inputs_set(encoder, 1, &input) || rknn_run(encoder, NULL)) return -1;
    if (rknn_outputs_get(encoder, 2, outputs, NULL)) return -1;
    int right = outputs[0].size == 256 && outputs[1].size == 256 && outputs[1].index == 1;
    memcpy(first, outputs[0].buf, 256);
    memcpy(second, outputs[1].buf, 256);
    return rknn_outputs_release(encoder, 2, outputs) || !right;
}

static float distance(const float* a, const float* b) {
    float sum = 0;
    for (int i = 0; i < 64; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

static void check_encoder(rknn_context encoder) {
    rknn_input_output_num count = {0, 0};
    ok(!rknn_query(encoder, RKNN_QUERY_IN_OUT_NUM, &count, sizeof count) && count.n_input == 1 &&
           count.n_output == 2,
       "one input, two outputs");
    rknn_tensor_attr attr;
    memset(&attr, 0, sizeof attr);
    ok(!rknn_query(encoder, RKNN_QUERY_INPUT_ATTR, &attr, sizeof attr) && attr.n_dims == 4 &&
           attr.dims[1] == 8 && attr.dims[3] == 3 && attr.fmt == RKNN_TENSOR_NHWC && attr.n_elems == 192 &&
           attr.type == RKNN_TENSOR_UINT8 && !strcmp(attr.name, "pixels"),
       "the input's attributes");
    attr.index = 1;
    ok(!rknn_query(encoder, RKNN_QUERY_OUTPUT_ATTR, &attr, sizeof attr) && attr.n_dims == 3 &&
           attr.dims[1] == 4 && attr.dims[2] == 16 && attr.size == 128,
       "the second output's attributes");
    attr.index = 2;
    ok(rknn_query(encoder, RKNN_QUERY_OUTPUT_ATTR, &attr, sizeof attr) == RKNN_ERR_PARAM_INVALID,
       "there is no third");
    ok(rknn_query(encoder, RKNN_QUERY_IN_OUT_NUM, &count, 4) == RKNN_ERR_PARAM_INVALID, "a short place");
    rknn_sdk_version versions;
    ok(!rknn_query(encoder, RKNN_QUERY_SDK_VERSION, &versions, sizeof versions) &&
           !strncmp(versions.api_version, "2.3.2 (", 7),
       "versions: %s", versions.api_version);
    ok(rknn_set_core_mask(encoder, RKNN_NPU_CORE_0_1_2) == 0, "three cores");
    ok(rknn_set_core_mask(encoder, (rknn_core_mask)9) == RKNN_ERR_PARAM_INVALID, "no such cores");
    ok(rknn_run(encoder, NULL) == RKNN_ERR_INPUT_INVALID, "nothing runs without input");
    uint8_t image[192];
    float red[64], near[64], blue[64], again[64], second[64];
    rknn_input small = {0, image, 191, 0, RKNN_TENSOR_UINT8, RKNN_TENSOR_NHWC};
    ok(rknn_inputs_set(encoder, 1, &small) == RKNN_ERR_INPUT_INVALID, "an input of the wrong size");
    fill(image, 255, 0, 0);
    ok(!encode(encoder, image, red, second), "an image runs");
    ok(distance(red, second) > 0, "the outputs differ");
    fill(image, 0, 0, 255);
    encode(encoder, image, blue, second);
    fill(image, 240, 10, 0);
    encode(encoder, image, near, second);
    ok(distance(red, near) < distance(red, blue), "like images have like embeddings");
    fill(image, 255, 0, 0);
    encode(encoder, image, again, second);
    ok(distance(red, again) == 0, "the same image has the same embedding");
    float pixels[192];
    for (int i = 0; i < 192; i++) pixels[i] = i % 3 == 0;
    rknn_input floats = {0, pixels, sizeof pixels, 0, RKNN_TENSOR_FLOAT32, RKNN_TENSOR_NHWC};
    uint16_t halves[64];
    float copy[64];
    rknn_output outputs[2] = {{1, 1, 0, copy, sizeof copy}, {0, 1, 1, halves, sizeof halves}};
    ok(!rknn_inputs_set(encoder, 1, &floats) && !rknn_run(encoder, NULL) &&
           !rknn_outputs_get(encoder, 2, outputs, NULL) && distance(red, copy) < 1e-6f,
       "float pixels into the caller's buffers");
    outputs[0].size = 8;
    ok(rknn_outputs_get(encoder, 2, outputs, NULL) == RKNN_ERR_OUTPUT_INVALID, "a buffer too small");
}

static void check_pointer(rknn_context pointer) {
    float items[64], query[16], scores[4];
    for (int i = 0; i < 64; i++) items[i] = (float)(i % 16 == i / 16);
    for (int i = 0; i < 16; i++) query[i] = (float)(i == 2);
    rknn_input inputs[2] = {{0, items, sizeof items, 0, RKNN_TENSOR_FLOAT32, RKNN_TENSOR_UNDEFINED},
                            {1, query, sizeof query, 0, RKNN_TENSOR_FLOAT32, RKNN_TENSOR_UNDEFINED}};
    rknn_output output = {1, 1, 0, scores, sizeof scores};
    ok(!rknn_inputs_set(pointer, 2, inputs) && !rknn_run(pointer, NULL) &&
           !rknn_outputs_get(pointer, 1, &output, NULL) && scores[2] > scores[0] && scores[2] > scores[3],
       "the row that is meant scores highest");
}

int main(int count, char** arguments) {
    if (count != 4) return 2;
    setenv("MOCK_NPU_SCALE", "0", 1);
    tap_begin();
    rknn_context encoder = 1, pointer = 1;
    ok(rknn_init(&encoder, "/nonexistent", 0, 0, NULL) == RKNN_ERR_FAIL && encoder == 0, "an absent file");
    ok(rknn_init(&encoder, arguments[3], 0, 0, NULL) == RKNN_ERR_MODEL_INVALID, "a foreign file");
    setenv("MOCK_NPU_FAULTS", "rknn_no_device", 1);
    ok(rknn_init(&encoder, arguments[1], 0, 0, NULL) == RKNN_ERR_FAIL, "no device");
    setenv("MOCK_NPU_FAULTS", "board_platform=RK3576", 1);
    ok(rknn_init(&encoder, arguments[1], 0, 0, NULL) == RKNN_ERR_TARGET_PLATFORM_UNMATCH, "another chip");
    unsetenv("MOCK_NPU_FAULTS");
    ok(rknn_run(0, NULL) == RKNN_ERR_CTX_INVALID && rknn_destroy(0) == RKNN_ERR_CTX_INVALID &&
           rknn_query(0, RKNN_QUERY_IN_OUT_NUM, NULL, 0) == RKNN_ERR_CTX_INVALID,
       "context 0 is invalid");
    ok(rknn_init(&encoder, arguments[1], 0, 0, NULL) == 0 && encoder != 0, "the encoder loads");
    check_encoder(encoder);
    char bytes[4096];
    FILE* file = fopen(arguments[2], "rb");
    size_t len = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    ok(rknn_init(&pointer, bytes, (uint32_t)len, 0, NULL) == 0, "a pointer head loads from memory");
    check_pointer(pointer);
    setenv("MOCK_NPU_FAULTS", "rknn_run_fails", 1);
    ok(rknn_run(pointer, NULL) == RKNN_ERR_FAIL, "a run fails on demand");
    ok(rknn_destroy(encoder) == 0 && rknn_destroy(pointer) == 0, "destroy");
    return tap_end();
}
