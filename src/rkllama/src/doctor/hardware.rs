//! The chip, its NPU, and the way to it.

use super::{caller::Caller, check::Check};
use crate::board::{Board, Chip, Driver, Node, Unseen};

/// Below this the vendor's runtime warns and newer models are not supported; the vendor recommends it.
const DRIVER_RECOMMENDED: &str = "0.9.8";
/// Below this w8a8 models fail: users report "matmul(w8a8) run failed" with 0.8.2.
const DRIVER_MIN: &str = "0.9.0";
/// A kernel with which users report a broken NPU; 6.1.118 works for them.
const KERNEL_BROKEN: &str = "6.1.141";
const DEBUG_AS_ROOT: &str = "sudo rkllama doctor";

pub(super) fn checks(board: &Board, caller: &Caller) -> Vec<Check> {
    let mut checks = vec![chip(board, caller)];
    if board.is_rockchip() {
        checks.extend([kernel(board), driver(board), npu_device(board), dma_heap(board)]);
        checks.push(npu_load(board));
    } else {
        let others = ["kernel", "npu-driver", "npu-device", "dma-heap", "npu-load"];
        checks.extend(others.map(Check::not_applicable));
    }
    checks
}

fn chip(board: &Board, caller: &Caller) -> Check {
    const CHECK: &str = "chip";
    let Some(chip) = &board.chip else {
        let found = format!("no Rockchip chip is named ({})", caller.arch);
        // On a PC there is nothing to see; a board may hide its device tree from a container.
        return if caller.arch == "aarch64" || board.is_rockchip() {
            Check::unseen(CHECK, found).because(
                "neither the device tree nor /proc/cpuinfo names it; containers hide the device tree",
            )
        } else {
            Check::not_applicable(CHECK).because(
                "the vendor's runtime needs an RK3588 or RK3576; a runtime for this machine is used \
                 as it is",
            )
        };
    };
    let found = match &board.name {
        Some(name) => format!("{chip} ({name})"),
        None => chip.to_string(),
    };
    match chip {
        Chip::Rk3588 | Chip::Rk3576 => Check::ok(CHECK, found),
        Chip::Other(name) if name.starts_with("RK3566") || name.starts_with("RK3568") => {
            Check::fail(CHECK, found, "the vendor's runtime for language models refuses this chip")
        }
        Chip::Other(_) => {
            Check::warn(CHECK, found, "rkllama is made for RK3588 and RK3576; others are untried")
        }
    }
}

fn kernel(board: &Board) -> Check {
    const CHECK: &str = "kernel";
    let Some(release) = &board.kernel else { return Check::unseen(CHECK, "no release") };
    // Followed by the distribution's own suffix, never by another digit.
    let broken = release
        .strip_prefix(KERNEL_BROKEN)
        .is_some_and(|suffix| !suffix.starts_with(|next: char| next.is_ascii_digit()));
    if broken {
        let why = "users report that the NPU does not work with this kernel and does with 6.1.118";
        return Check::warn(CHECK, release, why);
    }
    Check::ok(CHECK, release)
}

fn driver(board: &Board) -> Check {
    const CHECK: &str = "npu-driver";
    const UPGRADE: &str = "sudo apt update && sudo apt full-upgrade  # then reboot";
    match &board.driver {
        Driver::Vendor(release) => {
            let found = format!("rknpu {release}");
            if numbers(release) < numbers(DRIVER_MIN) {
                let why = "users report that w8a8 models fail with 0.8.2; the driver comes with the \
                           kernel";
                Check::fail(CHECK, found, why).mend(UPGRADE)
            } else if numbers(release) < numbers(DRIVER_RECOMMENDED) {
                let why = format!(
                    "the vendor recommends {DRIVER_RECOMMENDED}; the driver comes with the kernel"
                );
                Check::warn(CHECK, found, why).mend(UPGRADE)
            } else {
                Check::ok(CHECK, found)
            }
        }
        Driver::Unversioned(unseen) => unseen_debug(CHECK, "rknpu, release not to be seen", unseen),
        Driver::Rocket => {
            let why = "the vendor's runtime needs the vendor's driver; the mainline kernel's does \
                       not serve it: install a kernel of the board's maker";
            Check::fail(CHECK, "rocket", why)
        }
        Driver::Absent => {
            let why =
                "the vendor's runtime needs it; it comes with the kernels of the boards' makers";
            Check::fail(CHECK, "none", why).mend("sudo modprobe rknpu")
        }
    }
}

/// What lies in the kernel's debug folder: root's only, and often not mounted in containers.
fn unseen_debug(check: &'static str, found: &str, unseen: &Unseen) -> Check {
    match unseen {
        Unseen::Denied => Check::unseen(check, found)
            .because("only root may read /sys/kernel/debug")
            .mend(DEBUG_AS_ROOT),
        Unseen::Absent => Check::unseen(check, found)
            .because("/sys/kernel/debug/rknpu is not there")
            .mend("sudo mount -t debugfs none /sys/kernel/debug"),
        Unseen::Odd(text) => {
            Check::unseen(check, found).because(format!("the kernel says: {text}"))
        }
    }
}

fn npu_device(board: &Board) -> Check {
    const CHECK: &str = "npu-device";
    let nodes: Vec<&Node> = board.nodes.npu().collect();
    if nodes.is_empty() {
        let why = "there is no /dev/rknpu and no render node of the NPU: the driver is not loaded, \
                   or a container was started without the device";
        return Check::fail(CHECK, "none", why).mend("sudo modprobe rknpu");
    }
    if let Some(node) = nodes.iter().find(|node| node.opens) {
        return Check::ok(CHECK, format!("{}, may be opened", node.path));
    }
    let found = format!("{}, may not be opened", paths(&nodes));
    let check = Check::fail(CHECK, found, "this user may not read and write it");
    check.mend(let_in(nodes[0]))
}

/// The line that lets this user open a node; a group counts from the next login.
fn let_in(node: &Node) -> String {
    const JOIN: &str = "\"$USER\"  # then log in again";
    if let Some(group) = &node.group {
        return format!("sudo usermod -aG {group} {JOIN}");
    }
    let (folder, kernel) = node.path.rsplit_once('/').unwrap_or(("", &node.path));
    // Every heap's name is a common word.
    let subsystem = match folder {
        "/dev/dma_heap" => "SUBSYSTEM==\"dma_heap\", ",
        _ => "",
    };
    format!(
        "echo 'KERNEL==\"{kernel}\", {subsystem}GROUP=\"render\", MODE=\"0660\"' | \
         sudo tee -a /etc/udev/rules.d/60-rkllama.rules && sudo udevadm control --reload && \
         sudo udevadm trigger && sudo usermod -aG render {JOIN}"
    )
}

/// A driver with a render node gives memory through it; one without leaves that to the heaps.
fn dma_heap(board: &Board) -> Check {
    const CHECK: &str = "dma-heap";
    let heaps: Vec<&Node> = board.nodes.heaps.iter().collect();
    let opened = heaps.iter().find(|node| node.opens);
    if let Some(node) = opened {
        return Check::ok(CHECK, format!("{}, may be opened", node.path));
    }
    let found =
        heaps.first().map_or("none".to_owned(), |node| format!("{}, may not be opened", node.path));
    if !board.nodes.render.is_empty() {
        return Check::ok(CHECK, format!("{found}; not needed beside a render node"));
    }
    let why = "a driver with /dev/rknpu and no render node takes memory from these heaps";
    let check = Check::warn(CHECK, found, why);
    match heaps.first() {
        Some(node) => check.mend(let_in(node)),
        None => check,
    }
}

fn npu_load(board: &Board) -> Check {
    const CHECK: &str = "npu-load";
    match &board.npu_load {
        Ok(percents) => {
            let each: Vec<String> = percents.iter().map(|percent| format!("{percent} %")).collect();
            Check::ok(CHECK, each.join(", "))
        }
        Err(unseen) => unseen_debug(CHECK, "not to be seen", unseen),
    }
}

fn paths(nodes: &[&Node]) -> String {
    nodes.iter().map(|node| node.path.as_str()).collect::<Vec<_>>().join(", ")
}

/// A release as something to compare.
fn numbers(release: &str) -> Vec<u32> {
    release.split('.').map_while(|part| part.parse().ok()).collect()
}
