/* The RKLLM interface of ABI group D1; see rkllm-mock.h. */
#define RKLLM_MOCK_GROUP RKLLM_MOCK_D1
#include "rkllm-mock.h"
