/* The RKLLM interface of ABI group E; see rkllm-mock.h. */
#define RKLLM_MOCK_GROUP RKLLM_MOCK_E
#include "rkllm-mock.h"
