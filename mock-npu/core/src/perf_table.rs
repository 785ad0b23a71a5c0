//! The table that `RKLLM_LOG_LEVEL=1` prints after each run.

use crate::log;
use crate::sink::Perf;

/// Prints the table.
pub(crate) fn print(init_ms: f64, perf: &Perf) {
    let rule = "-".repeat(86);
    log::info(&rule);
    log::info(&format!(
        " {:<12}  {:<15}  {:<8}  {:<23}  {:<23}",
        "Stage", "Total Time (ms)", "Tokens", "Time per Token (ms)", "Tokens per Second"
    ));
    log::info(&rule);
    log::info(&format!(" {:<12}  {init_ms:<15.2}  {:<8}  {:<23}  {:<23}", "Init", "/", "/", "/"));
    log::info(&row("Prefill", perf.prefill_time_ms, perf.prefill_tokens));
    log::info(&row("Generate", perf.generate_time_ms, perf.generate_tokens));
    log::info(&rule);
    log::info(&format!(" {:<12}", "Peak Memory Usage (GB)"));
    log::info(&format!(" {:<12.2}", perf.memory_usage_mb / 1024.0));
    log::info(&rule);
}

fn row(stage: &str, total_ms: f32, tokens: i32) -> String {
    let per_token = if tokens == 0 { 0.0 } else { total_ms / tokens as f32 };
    let per_second = tokens as f32 * 1e3 / total_ms;
    format!(" {stage:<12}  {total_ms:<15.2}  {tokens:<8}  {per_token:<23.2}  {per_second:<23.2}")
}
