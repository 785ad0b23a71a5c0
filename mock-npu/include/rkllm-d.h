/* The RKLLM interface of ABI group D; see rkllm-mock.h. */
#define RKLLM_MOCK_GROUP RKLLM_MOCK_D
#include "rkllm-mock.h"
