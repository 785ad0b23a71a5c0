//! The server's processes and their machine, as the kernel tells of them.

use anyhow::Context;

use crate::{machine::Machine, ssh::quoted};

/// A process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Process {
    /// Time on processors since it began, in seconds.
    pub(super) cpu_s: f64,
    pub(super) rss_mb: f64,
    /// Memory, of which pages that several processes have count by shares.
    pub(super) pss_mb: f64,
}

/// The server first, then its workers. One may leave while it is looked at.
pub(super) async fn processes(machine: &Machine) -> anyhow::Result<Vec<Process>> {
    let command = format!(
        "getconf CLK_TCK; server={}; for it in $server $(cat /proc/$server/task/*/children); do \
         cat /proc/$it/stat && grep -E '^(Rss|Pss):' /proc/$it/smaps_rollup; done 2>/dev/null; true",
        machine.server()
    );
    let said = machine.shell(&command).await?;
    parsed(&said).with_context(|| format!("the server's processes cannot be read: {said:?}"))
}

fn parsed(said: &str) -> Option<Vec<Process>> {
    let mut lines = said.lines();
    let ticks_per_s: f64 = lines.next()?.trim().parse().ok()?;
    let mut processes: Vec<Process> = Vec::new();
    for line in lines {
        let kib = |rest: &str| rest.trim().strip_suffix("kB")?.trim().parse::<f64>().ok();
        if let Some(rest) = line.strip_prefix("Rss:") {
            processes.last_mut()?.rss_mb = kib(rest)? * 1024.0 / 1e6;
        } else if let Some(rest) = line.strip_prefix("Pss:") {
            processes.last_mut()?.pss_mb = kib(rest)? * 1024.0 / 1e6;
        } else {
            // A name in parentheses may hold anything; user and system time are fields 14 and 15.
            let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
            let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
            let cpu_s = (ticks(11)? + ticks(12)?) / ticks_per_s;
            processes.push(Process { cpu_s, ..Process::default() });
        }
    }
    (!processes.is_empty()).then_some(processes)
}

/// The library that a worker has open.
pub(super) async fn library(machine: &Machine) -> anyhow::Result<String> {
    let command = format!(
        "for it in $(cat /proc/{}/task/*/children); do \
         sed -n 's|^[^/]*\\(/.*librkllmrt[^/]*\\)$|\\1|p' /proc/$it/maps; done | head -n 1",
        machine.server()
    );
    let path = machine.shell(&command).await?.trim().to_owned();
    anyhow::ensure!(!path.is_empty(), "no worker has the vendor's library open");
    Ok(path)
}

/// The one file of this name in a folder of models.
pub(super) async fn weights(machine: &Machine, models: &str, file: &str) -> anyhow::Result<String> {
    let command = format!("find -L {} -type f -name {}", quoted(models), quoted(file));
    let found = machine.shell(&command).await?;
    match found.lines().collect::<Vec<_>>().as_slice() {
        [one] => Ok((*one).to_owned()),
        files => anyhow::bail!("{} files in {models} are called {file}", files.len()),
    }
}

/// The machine in a few lines.
pub(super) async fn described(machine: &Machine) -> anyhow::Result<Vec<String>> {
    let command = "sed -n 's/^model name[^:]*: /processor: /p' /proc/cpuinfo | head -n 1; \
         if [ -e /proc/device-tree/model ]; then \
         echo \"board: $(tr -d '\\000' </proc/device-tree/model)\"; fi; \
         echo \"cores: $(nproc)\"; echo \"system: $(uname -srm)\"; \
         echo \"processes that wanted a core in the minute before: $(cut -d' ' -f1 /proc/loadavg)\"";
    Ok(machine.shell(command).await?.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_give_time_and_memory() {
        let said = "100\n7 (a (b) c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0\nRss:  1000 kB\n\
                    Pss:  500 kB\n8 (w) S 7 7 7 0 -1 4194560 9 0 0 0 1 2 0 0 20 0\n";
        let server = Process { cpu_s: 2.0, rss_mb: 1.024, pss_mb: 0.512 };
        let worker = Process { cpu_s: 0.03, ..Process::default() };
        assert_eq!(parsed(said), Some(vec![server, worker]));
        assert_eq!(parsed("100\n"), None);
        assert_eq!(parsed("no such process\n"), None);
    }
}
