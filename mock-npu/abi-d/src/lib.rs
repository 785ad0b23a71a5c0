//! librkllmrt.so of ABI group D (1.2.0), as a mock.

mock_npu_core::export_library!(
    D,
    "RKLLM SDK (version: 1.2.0 | target: Linux | build: 0d2f8b73 2025-04-08 00:00:00)",
    clear_kv_cache: two,
    since_1_2_1: no
);
