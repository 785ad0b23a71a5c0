//! This process, under the names that Prometheus' own clients use. The workers are processes of
//! their own and are not part of it.

use procfs::{ProcResult, process::Process};
use prometheus_client::{
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// Adds what the kernel says; nothing where it says nothing.
pub(super) fn register(registry: &mut Registry) {
    if let Err(error) = try_register(registry) {
        tracing::debug!(%error, "no metrics of the process");
    }
}

#[allow(clippy::cast_precision_loss, reason = "times and sizes are far below 2^53")]
fn try_register(registry: &mut Registry) -> ProcResult<()> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = procfs::ticks_per_second() as f64;
    let resident = stat.rss.saturating_mul(procfs::page_size());
    let cpu = (stat.utime + stat.stime) as f64 / ticks;
    let started = procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks;
    let descriptors = u64::try_from(process.fd_count()?).unwrap_or(u64::MAX);
    registry.register(
        "process_resident_memory_bytes",
        "Resident memory of the server, without its workers",
        ConstGauge::new(resident),
    );
    registry.register(
        "process_cpu_seconds",
        "CPU time of the server, without its workers",
        ConstCounter::new(cpu),
    );
    registry.register("process_open_fds", "Open file descriptors", ConstGauge::new(descriptors));
    registry.register(
        "process_start_time_seconds",
        "When the server started, in seconds since 1970",
        ConstGauge::new(started),
    );
    Ok(())
}
