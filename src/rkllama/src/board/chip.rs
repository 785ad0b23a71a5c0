//! Which chip this is.
//!
//! Three witnesses, because each is missing somewhere: the device tree is masked in containers,
//! `/proc/cpuinfo` names the chip on the vendor's kernels only, and the NPU's address in the list of
//! clocks stands there only with the vendor's driver.

use std::fmt;

use super::root::Root;

/// A system on a chip by Rockchip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chip {
    /// RK3588 and its variants, of which RK3588S is the common one.
    Rk3588,
    /// RK3576 and its variants.
    Rk3576,
    /// Another one, by its name in capitals.
    Other(String),
}

impl Chip {
    /// How many cores its NPU has. `None` for chips of which nothing is known here.
    pub(crate) const fn npu_cores(&self) -> Option<usize> {
        match self {
            Self::Rk3588 => Some(3),
            Self::Rk3576 => Some(2),
            Self::Other(_) => None,
        }
    }

    /// From a name such as `rk3588s`.
    fn from_name(name: &str) -> Self {
        let name = name.to_ascii_uppercase();
        if name.starts_with("RK3588") {
            Self::Rk3588
        } else if name.starts_with("RK3576") {
            Self::Rk3576
        } else {
            Self::Other(name)
        }
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rk3588 => "RK3588",
            Self::Rk3576 => "RK3576",
            Self::Other(name) => name,
        })
    }
}

/// The chip of this machine, by its own clocks too.
pub(crate) fn of(root: &Root) -> Option<Chip> {
    read(root, super::devfreq::npu(root).as_ref().map(|npu| npu.name.as_str()))
}

/// What the board's maker calls it.
pub(super) fn board_name(root: &Root) -> Option<String> {
    let name = root.text("/proc/device-tree/model").ok()?;
    let name = name.trim_matches('\0').trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Asks the witnesses in turn. `npu` is the NPU's name in the list of clocks.
pub(super) fn read(root: &Root, npu: Option<&str>) -> Option<Chip> {
    let in_tree = root.text("/proc/device-tree/compatible").ok();
    let in_cpuinfo = || root.text("/proc/cpuinfo").ok().as_deref().and_then(named_in_cpuinfo);
    in_tree
        .as_deref()
        .and_then(named_in_compatible)
        .or_else(in_cpuinfo)
        .map(|name| Chip::from_name(&name))
        .or_else(|| npu.and_then(chip_of_address))
}

/// The list runs from the board to the chip, so the last name of Rockchip's is the chip's. Names of
/// its own boards begin with the chip's too.
fn named_in_compatible(compatible: &str) -> Option<String> {
    compatible.split('\0').rev().find_map(|entry| chip_name(entry.strip_prefix("rockchip,")?))
}

fn named_in_cpuinfo(cpuinfo: &str) -> Option<String> {
    cpuinfo.lines().find_map(|line| {
        let line = line.to_ascii_lowercase();
        let (_, name) = line.split_once("rockchip ")?;
        chip_name(name.trim_start())
    })
}

/// The chip's name at the start of a text: `rk3588s` of `rk3588s-evb`.
fn chip_name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(char::is_ascii_alphanumeric).collect();
    let family = name.starts_with("rk") || name.starts_with("rv") || name.starts_with("px");
    (family && name.chars().any(|letter| letter.is_ascii_digit())).then_some(name)
}

/// The NPU lies at an address of its own on each chip.
fn chip_of_address(npu: &str) -> Option<Chip> {
    match npu {
        "fdab0000.npu" => Some(Chip::Rk3588),
        "27700000.npu" => Some(Chip::Rk3576),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::fake::Fake;

    fn chip_in(file: &str, text: &str) -> Option<String> {
        let fake = Fake::empty().file(file, text);
        read(&fake.root(), None).map(|chip| chip.to_string())
    }

    #[test]
    fn the_device_tree_names_the_chip_last() {
        for (compatible, chip) in [
            ("xunlong,orangepi-5-plus\0rockchip,rk3588\0", Some("RK3588")),
            ("radxa,rock-5a\0rockchip,rk3588s\0", Some("RK3588")),
            ("rockchip,rk3576-evb1-v10\0rockchip,rk3576\0", Some("RK3576")),
            ("pine64,quartz64-a\0rockchip,rk3566\0", Some("RK3566")),
            ("rockchip,rv1126b\0", Some("RV1126B")),
            ("raspberrypi,5-model-b\0brcm,bcm2712\0", None),
            ("rockchip,\0", None),
            ("\u{fffd}\0\0,,", None),
            ("", None),
        ] {
            assert_eq!(
                chip_in("/proc/device-tree/compatible", compatible).as_deref(),
                chip,
                "{compatible:?}"
            );
        }
    }

    #[test]
    fn cpuinfo_and_the_npus_address_stand_in_for_a_masked_tree() {
        let cpuinfo = "processor\t: 0\nHardware\t: Rockchip RK3588 Board\n";
        assert_eq!(chip_in("/proc/cpuinfo", cpuinfo).as_deref(), Some("RK3588"));
        assert_eq!(chip_in("/proc/cpuinfo", "model name\t: An x86\n"), None);
        let fake = Fake::empty();
        assert_eq!(read(&fake.root(), Some("27700000.npu")), Some(Chip::Rk3576));
        assert_eq!(read(&fake.root(), Some("12340000.npu")), None);
    }
}
