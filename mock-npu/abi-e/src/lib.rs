//! librkllmrt.so of ABI group E (1.2.1 to 1.2.3), as a mock.

mock_npu_core::export_library!(
    E,
    "RKLLM SDK (version: 1.2.3 | target: Linux | build: 77daf2e2 2025-11-24 00:00:00)",
    clear_kv_cache: four,
    since_1_2_1: yes
);
