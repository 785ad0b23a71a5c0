//! librkllmrt.so of ABI group D1 (1.2.1b1), as a mock.

mock_npu_core::export_library!(
    D1,
    "RKLLM SDK (version: 1.2.1b1 | target: Linux | build: 27637c95 2025-05-02 17:46:07)",
    clear_kv_cache: two,
    since_1_2_1: no
);
