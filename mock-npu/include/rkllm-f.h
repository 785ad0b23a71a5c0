/* The RKLLM interface of ABI group F; see rkllm-mock.h. */
#define RKLLM_MOCK_GROUP RKLLM_MOCK_F
#include "rkllm-mock.h"
