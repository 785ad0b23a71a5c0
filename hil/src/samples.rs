//! What a server and its machine look like while scenarios run.

use serde::{Deserialize, Serialize};

/// One look. What a machine does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the run began.
    pub at_s: f64,
    /// Memory of the server, and what its loaded models are planned with, in MB.
    pub memory_mb: Option<f64>,
    /// The hottest zone of the board, in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Mean load of the NPU's cores, in percent.
    pub npu_load_percent: Option<f64>,
}

/// The value of a series without labels.
pub fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Memory in what `/metrics` says.
pub fn memory_mb(metrics: &str) -> Option<f64> {
    let server = metric(metrics, "process_resident_memory_bytes")?;
    let models = metrics.lines().filter(|it| it.starts_with("rkllama_model_memory_bytes{"));
    let models: f64 = models.filter_map(|it| it.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    Some((server + models) / 1e6)
}

/// Temperature and load in what a board's files say: lines of thousandths of a degree, and the
/// driver's `NPU load:` line.
pub fn board(files: &str) -> (Option<f64>, Option<f64>) {
    let zones = files.lines().filter_map(|it| it.trim().parse::<f64>().ok());
    let hottest = zones
        .fold(None, |so_far: Option<f64>, it| Some(so_far.map_or(it, |hottest| hottest.max(it))));
    let line = files.lines().find_map(|it| it.split_once("NPU load:").map(|(_, rest)| rest));
    let cores: Vec<f64> = line
        .unwrap_or_default()
        .split(',')
        .filter_map(|it| it.rsplit(':').next()?.trim().strip_suffix('%')?.trim().parse().ok())
        .collect();
    let load = (!cores.is_empty()).then(|| cores.iter().sum::<f64>() / cores.len() as f64);
    (hottest.map(|it| it / 1000.0), load)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boards_files_give_the_hottest_zone_and_the_mean_load() {
        let files = "45300\n51200\nNPU load:  Core0: 30%, Core1: 60%, Core2:  0%,\n";
        assert_eq!(board(files), (Some(51.2), Some(30.0)));
        assert_eq!(board("cat: permission denied"), (None, None));
    }

    #[test]
    fn memory_is_the_servers_and_its_models() {
        let text = "process_resident_memory_bytes 20000000\n\
                    rkllama_model_memory_bytes{model_name=\"a\"} 30000000\n";
        assert_eq!(memory_mb(text), Some(50.0));
        assert_eq!(memory_mb(""), None);
    }
}
