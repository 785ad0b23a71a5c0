//! Main memory, which the NPU shares.

use super::root::Root;

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) bytes_total: u64,
    /// What can be had without swapping, as the kernel estimates it.
    pub(crate) bytes_available: u64,
}

impl Memory {
    pub(super) fn read(root: &Root) -> Option<Self> {
        let text = root.text("/proc/meminfo").ok()?;
        let bytes = |field: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(field))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            kib.checked_mul(1024)
        };
        Some(Self { bytes_total: bytes("MemTotal:")?, bytes_available: bytes("MemAvailable:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::fake::Fake;

    #[test]
    fn both_sizes_are_needed() {
        let of = |text: &str| Memory::read(&Fake::empty().file("/proc/meminfo", text).root());
        let whole = "MemTotal:       16 kB\nMemFree: 1 kB\nMemAvailable:    8 kB\n";
        assert_eq!(of(whole), Some(Memory { bytes_total: 16384, bytes_available: 8192 }));
        assert_eq!(of("MemTotal: 16 kB\n"), None);
        assert_eq!(of("MemTotal: lots\nMemAvailable: 18446744073709551615 kB\n"), None);
    }
}
