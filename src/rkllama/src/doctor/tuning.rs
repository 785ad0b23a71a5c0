//! What decides how fast the board is: cores, governors, limits, memory, disk.

use super::{caller::Caller, check::Check};
use crate::board::{Board, Devfreq, Policy, ReadAhead, affinity, limits::NOFILE_WANTED};

/// Cores of an RK3588 and of an RK3576, of which the last four are the big ones.
const CORES: usize = 8;
/// The mask that the vendor's runtime takes by itself on a machine of eight cores: 0xF0.
const RUNTIME_CPUS: &str = "4-7";
/// Reported by users as enough where the usual 1024 was not.
const NOFILE_ENOUGH: u64 = 9999;
/// What the kernel itself sets for a disk. Below it somebody has turned it down, and a model is
/// size that are read from the first to the last. Whether more would help is not known to us.
const READ_AHEAD_KIB_MIN: u64 = 128;
/// A clock this near to its highest, in percent, is at it: reported figures are rounded.
const FULL_SPEED_PERCENT: u64 = 95;
/// Governors that leave the clock where it was put.
const STEADY: [&str; 2] = ["performance", "userspace"];

pub(super) fn checks(board: &Board, caller: &Caller, affinity: bool) -> Vec<Check> {
    let mut checks = if board.is_rockchip() {
        vec![cores(board, caller, affinity), cpu_governor(board), npu_governor(board), ddr(board)]
    } else {
        ["cpu-cores", "cpu-governor", "npu-governor", "ddr-governor"]
            .map(Check::not_applicable)
            .to_vec()
    };
    checks.push(open_files(caller));
    checks
}

/// Who runs where, and whether the runtime's own choice of cores fits.
fn cores(board: &Board, caller: &Caller, wanted: bool) -> Check {
    const CHECK: &str = "cpu-cores";
    let topology = &board.topology;
    let known = board.chip.as_ref().and_then(crate::board::Chip::npu_cores);
    if known.is_some() && !topology.online.is_empty() && topology.online.len() < CORES {
        let found = format!("only {} online", topology.online);
        let why = "the chip has eight; the runtime chooses worse ones when some are off";
        return Check::warn(CHECK, found, why)
            .mend("echo 1 | sudo tee /sys/devices/system/cpu/cpu*/online");
    }
    if !topology.is_mixed() {
        let found = match topology.online.is_empty() {
            true => "not to be seen".to_owned(),
            false => format!("{}, all alike", topology.online),
        };
        return Check::unseen(CHECK, found)
            .because("the kernel does not say which are the big ones, so nothing is pinned");
    }
    let found = format!("little {}, big {}", topology.little, topology.big);
    let usable = topology.big.common(&caller.cpus).len();
    if let Some(npu_cores) = known.filter(|npu_cores| usable < *npu_cores) {
        let found = format!("{found}; of the big ones {usable} may be used");
        let why = format!(
            "the runtime needs a core for each of the NPU's {npu_cores}; a CPUAffinity of the \
             service or a container's set of CPUs keeps this process off them"
        );
        let mend = format!("taskset -c {} rkllama serve", topology.online);
        return Check::warn(CHECK, found, why).mend(mend);
    }
    if known.is_some() && topology.big.to_string() != RUNTIME_CPUS {
        let why = format!("the runtime takes {RUNTIME_CPUS} (0xF0) for the big ones");
        return Check::warn(CHECK, found, why);
    }
    if !wanted {
        let why = "users report a fall from 4 to under 0.1 tokens/s when a server thread is on the \
                   big cores";
        return Check::warn(CHECK, format!("{found}; pinning is turned off"), why)
            .mend("RKLLAMA_BOARD__AFFINITY=true rkllama serve");
    }
    match affinity::plan(board.chip.as_ref(), topology, &caller.cpus) {
        Some(plan) => Check::ok(
            CHECK,
            format!("{found}; server on {}, workers on {}", plan.server, plan.workers),
        ),
        None => Check::warn(
            CHECK,
            format!("{found}; nothing is pinned"),
            format!("this process may only use {}", listed(&caller.cpus)),
        )
        .mend(format!("taskset -c {} rkllama serve", topology.online)),
    }
}

fn listed(cpus: &crate::board::Cpus) -> String {
    if cpus.is_empty() { "none".to_owned() } else { cpus.to_string() }
}

/// Only the big cores count: they feed the NPU.
fn cpu_governor(board: &Board) -> Check {
    const CHECK: &str = "cpu-governor";
    if board.policies.is_empty() {
        return Check::unseen(CHECK, "the kernel shows no clock of the CPU");
    }
    let each: Vec<String> = board.policies.iter().map(describe).collect();
    let found = each.join("; ");
    let is_little = |policy: &Policy| {
        !policy.cpus.is_empty() && policy.cpus.common(&board.topology.little) == policy.cpus
    };
    let slow: Vec<&Policy> = board
        .policies
        .iter()
        .filter(|policy| !is_little(policy))
        .filter(|policy| !STEADY.contains(&policy.governor.as_str()))
        .collect();
    if slow.is_empty() {
        return Check::ok(CHECK, found);
    }
    let files: Vec<String> = slow
        .iter()
        .map(|policy| format!("/sys/devices/system/cpu/cpufreq/{}/scaling_governor", policy.name))
        .collect();
    let why = "the vendor's figures are taken with every clock at its highest";
    Check::warn(CHECK, found, why).mend(format!("echo performance | sudo tee {}", files.join(" ")))
}

fn describe(policy: &Policy) -> String {
    let clock = policy.frequency_khz.map(|khz| format!(" {} MHz", khz / 1000)).unwrap_or_default();
    format!("{} {}{clock}", listed(&policy.cpus), policy.governor)
}

fn npu_governor(board: &Board) -> Check {
    const CHECK: &str = "npu-governor";
    let Some(npu) = &board.npu else {
        return Check::unseen(CHECK, "the kernel shows no clock of the NPU");
    };
    let why = "the vendor's figures are taken with every clock at its highest; a user reports 24.5 \
               instead of the vendor's 45 tokens/s with the governors as they come (MiniCPM4 0.5B)";
    clock(CHECK, npu, why)
}

fn ddr(board: &Board) -> Check {
    const CHECK: &str = "ddr-governor";
    let Some(ddr) = &board.ddr else {
        return Check::unseen(CHECK, "the kernel shows no clock of the memory").because(
            "it stays as the boot loader set it; a user reports a third of the speed on a kernel \
             that cannot raise it",
        );
    };
    let why = "a user reports 5.5 tokens/s with dmc_ondemand (528 MHz) and 11.2 with performance \
               (Qwen3 1.7B, RK3576): decoding waits for memory";
    clock(CHECK, ddr, why)
}

/// A clock is as it should be when it stands still at its highest.
fn clock(check: &'static str, device: &Devfreq, why: &'static str) -> Check {
    let (Some(governor), Some(hz)) = (&device.governor, device.frequency_hz) else {
        return Check::unseen(check, format!("{}: governor or clock unreadable", device.name));
    };
    let mhz = |hz: u64| hz / 1_000_000;
    let Some(hz_max) = device.frequency_hz_max else {
        return Check::unseen(check, format!("{governor}, {} MHz of unknown", mhz(hz)));
    };
    let found = format!("{governor}, {} of {} MHz", mhz(hz), mhz(hz_max));
    let folder = device.folder();
    if !STEADY.contains(&governor.as_str()) {
        return Check::warn(check, found, why)
            .mend(format!("echo performance | sudo tee {folder}/governor"));
    }
    let full = u128::from(hz) * 100 >= u128::from(hz_max) * u128::from(FULL_SPEED_PERCENT);
    if full {
        return Check::ok(check, found);
    }
    let file = if governor == "userspace" { "userspace/set_freq" } else { "max_freq" };
    Check::warn(check, found, format!("it is held below its highest, or too hot; {why}"))
        .mend(format!("echo {hz_max} | sudo tee {folder}/{file}"))
}

fn open_files(caller: &Caller) -> Check {
    const CHECK: &str = "open-files";
    let shown = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |n| n.to_string());
    let (now, served) = (caller.nofile, caller.nofile.raised());
    let found = format!(
        "{}, at most {}; serve takes {}",
        shown(now.soft),
        shown(now.hard),
        shown(served.soft)
    );
    if served.soft.is_none_or(|files| files >= NOFILE_ENOUGH) {
        return Check::ok(CHECK, found);
    }
    let why = format!(
        "users report \"Too many open files\" at load with low limits; {NOFILE_ENOUGH} was enough. \
         In a service: LimitNOFILE={NOFILE_WANTED}"
    );
    Check::warn(CHECK, found, why)
        .mend(format!("sudo prlimit --pid $$ --nofile={NOFILE_WANTED}:{NOFILE_WANTED}"))
}

/// The weights lie in memory as they lie in the file, or nearly.
pub(super) fn memory(board: &Board, largest: Option<(&str, u64)>) -> Check {
    const CHECK: &str = "memory";
    let Some(memory) = board.memory else {
        return Check::unseen(CHECK, "/proc/meminfo does not say");
    };
    let found = format!("{} free of {}", size(memory.bytes_available), size(memory.bytes_total));
    let Some((model, bytes)) = largest.filter(|(_, bytes)| *bytes > memory.bytes_available) else {
        return Check::ok(CHECK, found);
    };
    let needs = format!("the weights of '{model}' alone are {}", size(bytes));
    if bytes > memory.bytes_total {
        return Check::warn(CHECK, found, format!("{needs}: take a smaller model"));
    }
    let why =
        format!("{needs}: something else holds the memory, perhaps a server that runs already");
    Check::warn(CHECK, found, why).mend("ps -eo rss,comm --sort=-rss | head")
}

pub(super) fn read_ahead(found: Option<&ReadAhead>) -> Check {
    const CHECK: &str = "read-ahead";
    let Some(ReadAhead { device, kib, file }) = found else {
        return Check::unseen(CHECK, "the models' folder is on no disk of its own");
    };
    let found = format!("{kib} KiB ({device})");
    if *kib >= READ_AHEAD_KIB_MIN {
        return Check::ok(CHECK, found);
    }
    let why = format!("less than the kernel's own {READ_AHEAD_KIB_MIN} KiB makes loading slower");
    Check::warn(CHECK, found, why).mend(format!("echo {READ_AHEAD_KIB_MIN} | sudo tee {file}"))
}

/// As the vendor counts: a GB is 10⁹ bytes.
pub(super) fn size(bytes: u64) -> String {
    let (unit, tenth) = match bytes {
        0..1_000_000 => ("kB", 100),
        1_000_000..1_000_000_000 => ("MB", 100_000),
        1_000_000_000.. => ("GB", 100_000_000),
    };
    format!("{}.{} {unit}", bytes / tenth / 10, bytes / tenth % 10)
}
