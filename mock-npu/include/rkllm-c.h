/* The RKLLM interface of ABI group C; see rkllm-mock.h. */
#define RKLLM_MOCK_GROUP RKLLM_MOCK_C
#include "rkllm-mock.h"
