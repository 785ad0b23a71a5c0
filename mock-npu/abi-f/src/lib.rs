//! librkllmrt.so of ABI group F (1.3.0 and 1.3.1), as a mock.

mock_npu_core::export_library!(
    F,
    "RKLLM SDK (version: 1.3.0 | target: Linux | build: 00000130 2026-06-17 00:00:00)",
    clear_kv_cache: four,
    since_1_2_1: yes
);
