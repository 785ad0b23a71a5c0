//! Clocks and who sets them: the NPU's and the memory's (`devfreq`), the CPU's (`cpufreq`).

use super::{cpus::Cpus, root::Root};

/// Devices with a clock of their own.
const DEVICES: &str = "/sys/class/devfreq";
/// The CPU's frequency domains.
const POLICIES: &str = "/sys/devices/system/cpu/cpufreq";

/// The clock of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Devfreq {
    /// Its name in the kernel's list, such as `fdab0000.npu`.
    pub(crate) name: String,
    /// Who sets it.
    pub(crate) governor: Option<String>,
    /// Now, in Hz.
    pub(crate) frequency_hz: Option<u64>,
    /// The highest that the device knows, in Hz.
    pub(crate) frequency_hz_max: Option<u64>,
}

impl Devfreq {
    /// Where its files lie.
    pub(crate) fn folder(&self) -> String {
        format!("{DEVICES}/{}", self.name)
    }

    fn read(root: &Root, name: String) -> Self {
        let file = |file: &str| format!("{DEVICES}/{name}/{file}");
        let known = root.text(file("available_frequencies")).unwrap_or_default();
        let highest = known.split_whitespace().filter_map(|hz| hz.parse().ok()).max();
        Self {
            governor: word(root, &file("governor")),
            frequency_hz: root.number(file("cur_freq")),
            // `max_freq` is where somebody may have put a cap.
            frequency_hz_max: highest.or_else(|| root.number(file("max_freq"))),
            name,
        }
    }
}

/// A frequency domain of the CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Its name, such as `policy4`.
    pub(crate) name: String,
    /// The cores in it.
    pub(crate) cpus: Cpus,
    /// Who sets it.
    pub(crate) governor: String,
    /// Now, in kHz.
    pub(crate) frequency_khz: Option<u64>,
}

/// The NPU's clock.
pub(super) fn npu(root: &Root) -> Option<Devfreq> {
    find(root, |name| name.ends_with(".npu") || name == "npu")
}

/// The memory's clock. The vendor's kernels have it; others leave the speed that the boot loader set.
pub(super) fn ddr(root: &Root) -> Option<Devfreq> {
    find(root, |name| name == "dmc" || name.ends_with(".dmc"))
}

fn find(root: &Root, wanted: impl Fn(&str) -> bool) -> Option<Devfreq> {
    let name = root.names(DEVICES).into_iter().find(|name| wanted(name))?;
    Some(Devfreq::read(root, name))
}

/// All of the CPU's domains whose governor can be read.
pub(super) fn policies(root: &Root) -> Vec<Policy> {
    let read = |name: String| {
        let file = |file: &str| format!("{POLICIES}/{name}/{file}");
        let cpus = root.text(file("affected_cpus")).unwrap_or_default();
        Some(Policy {
            governor: word(root, &file("scaling_governor"))?,
            cpus: cpus.split_whitespace().filter_map(|cpu| cpu.parse().ok()).collect(),
            frequency_khz: root.number(file("scaling_cur_freq")),
            name,
        })
    };
    let names = root.names(POLICIES).into_iter();
    names.filter(|name| name.starts_with("policy")).filter_map(read).collect()
}

/// A governor's name. What is none is left out: it would end up in lines for a shell.
fn word(root: &Root, file: &str) -> Option<String> {
    let of_name = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
    root.text(file).ok().filter(|text| !text.is_empty() && text.chars().all(of_name))
}
