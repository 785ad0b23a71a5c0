//! librkllmrt.so of ABI group C (1.1.x, for refusals), as a mock.

mock_npu_core::export_library!(
    C,
    "RKLLM SDK (version: 1.1.4 | target: Linux | build: 9fbb6a14 2024-12-26 00:00:00)",
    clear_kv_cache: none,
    since_1_2_1: no
);
