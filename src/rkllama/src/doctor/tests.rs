//! The doctor on boards made of files.

use std::{fs, path::PathBuf};

use super::{check::Check, *};
use crate::board::{Driver, Unseen, fake::Fake, limits::Nofile};

/// A user who may do everything the files' modes allow anybody, on all cores of a board.
fn caller(arch: &'static str, cpus: &str) -> Caller {
    Caller {
        arch,
        cpus: cpus.parse().unwrap(),
        nofile: Nofile { soft: Some(1024), hard: Some(524_288) },
        opens: |_| true,
        linker_cache: String::new,
    }
}

fn on_board() -> Caller {
    caller("aarch64", "0-7")
}

/// Examines a tree in which the models and the runtime are looked for below `/srv`, too.
struct Examined {
    report: Report,
    fake: Fake,
}

impl Examined {
    fn new(fake: Fake, caller: &Caller) -> Self {
        let fake = fake.file("/srv/config.toml", "").file("/srv/models/.keep", "");
        let args = ServeArgs {
            config: Some(fake.host("/srv/config.toml")),
            models: Some(fake.host("/srv/models")),
            runtime: vec![fake.host("/srv/runtime")],
            ..ServeArgs::default()
        };
        let mut report = examine(&fake.root(), caller, &args);
        report.rkllama = "[version]";
        // Where the tree lies differs from run to run.
        let root = fake.host("/").display().to_string();
        let stable = |text: &mut String| *text = text.replace(root.trim_end_matches('/'), "[root]");
        for check in &mut report.checks {
            let texts = [Some(&mut check.found), check.reason.as_mut(), check.mend.as_mut()];
            texts.into_iter().flatten().for_each(stable);
        }
        Self { report, fake }
    }

    fn check(&self, name: &str) -> &Check {
        let found = self.report.checks.iter().find(|check| check.check == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    }

    /// Verdict, then what was found, reason and remedy.
    fn says(&self, name: &str) -> String {
        let Check { verdict, found, reason, mend, .. } = self.check(name);
        let rest = [Some(found.clone()), reason.clone(), mend.clone()];
        let text = rest.into_iter().flatten().collect::<Vec<_>>().join(" | ");
        format!("{}: {text}", verdict.word())
    }

    fn table(&self) -> String {
        table::render(&self.report)
    }

    fn json(&self) -> String {
        self.report.to_json().unwrap()
    }
}

fn model(fake: Fake, id: &str, weights: &str) -> Fake {
    let tokenizer = r#"{"version":"1.0","model":{"type":"WordLevel","vocab":{"a":0}}}"#;
    fake.file(&format!("/srv/models/{id}/{weights}"), "weights")
        .file(&format!("/srv/models/{id}/tokenizer.json"), tokenizer)
        .file(&format!("/srv/models/{id}/tokenizer_config.json"), "{}")
}

#[test]
fn an_rk3588_as_it_comes() {
    let fake = model(Fake::rk3588(), "qwen", "qwen-rk3588-w8a8-v1.2.3.rkllm");
    let fake = model(fake, "elsewhere", "qwen-rk3576-w4a16-v1.2.3.rkllm");
    let fake = fake.file("/srv/models/half/half.rkllm", "weights");
    let examined = Examined::new(fake, &on_board());
    insta::assert_snapshot!("rk3588_table", examined.table());
    insta::assert_snapshot!("rk3588_json", examined.json());
}

#[test]
fn an_rk3576_with_its_clocks_up() {
    let examined = Examined::new(Fake::rk3576().tuned(), &on_board());
    insta::assert_snapshot!("rk3576_tuned_table", examined.table());
    insta::assert_snapshot!("rk3576_tuned_json", examined.json());
}

#[test]
fn a_pc() {
    let examined = Examined::new(Fake::x86(), &caller("x86_64", "0-1"));
    insta::assert_snapshot!("x86_table", examined.table());
    insta::assert_snapshot!("x86_json", examined.json());
}

#[test]
fn a_board_that_shows_nothing_but_its_chip() {
    let bare = Fake::empty().file("/proc/device-tree/compatible", "rockchip,rk3588s\0");
    let examined = Examined::new(bare, &on_board());
    insta::assert_snapshot!("bare_table", examined.table());
    insta::assert_snapshot!("bare_json", examined.json());
    assert!(examined.report.failed());
}

#[test]
fn nothing_at_all() {
    let examined = Examined::new(Fake::empty(), &on_board());
    insta::assert_snapshot!("empty_table", examined.table());
}

#[test]
fn garbage_is_reported_and_cannot_command_the_terminal() {
    let board = Fake::rk3588().garbled().file("/proc/device-tree/compatible", "rockchip,rk3588\0");
    let examined = Examined::new(board, &on_board());
    insta::assert_snapshot!("garbled_table", examined.table());
    insta::assert_snapshot!("garbled_json", examined.json());
    assert!(!examined.table().contains('\u{1b}'));
}

#[test]
fn the_npu_that_may_not_be_opened_names_the_group() {
    let locked = Caller { opens: |path| path.ends_with("renderD128"), ..on_board() };
    let says = Examined::new(Fake::rk3588(), &locked).says("npu-device");
    insta::assert_snapshot!(says, @r#"fail: /dev/dri/renderD129, may not be opened | this user may not read and write it | sudo usermod -aG render "$USER"  # then log in again"#);
}

#[test]
fn a_node_that_no_group_may_open_gets_a_rule() {
    let locked = Caller { opens: |_| false, ..on_board() };
    let fake = Fake::rk3588()
        .without("/dev/dri")
        .device("/dev/rknpu")
        .mode("/dev/rknpu", 0o600)
        .mode("/dev/dma_heap/system", 0o600);
    let examined = Examined::new(fake, &locked);
    insta::assert_snapshot!(examined.says("npu-device"), @r#"fail: /dev/rknpu, may not be opened | this user may not read and write it | echo 'KERNEL=="rknpu", GROUP="render", MODE="0660"' | sudo tee -a /etc/udev/rules.d/60-rkllama.rules && sudo udevadm control --reload && sudo udevadm trigger && sudo usermod -aG render "$USER"  # then log in again"#);
    insta::assert_snapshot!(examined.says("dma-heap"), @r#"warn: /dev/dma_heap/system, may not be opened | a driver with /dev/rknpu and no render node takes memory from these heaps | echo 'KERNEL=="system", SUBSYSTEM=="dma_heap", GROUP="render", MODE="0660"' | sudo tee -a /etc/udev/rules.d/60-rkllama.rules && sudo udevadm control --reload && sudo udevadm trigger && sudo usermod -aG render "$USER"  # then log in again"#);
}

#[test]
fn drivers_are_judged_by_their_release() {
    let version = |version: &str| {
        let text = format!("RKNPU driver: v{version}\n");
        let fake = Fake::rk3588().file("/sys/kernel/debug/rknpu/version", &text);
        Examined::new(fake, &on_board()).check("npu-driver").verdict
    };
    assert_eq!(version("0.9.8"), check::Verdict::Ok);
    assert_eq!(version("0.10.0"), check::Verdict::Ok);
    assert_eq!(version("0.9.6"), check::Verdict::Warn);
    assert_eq!(version("0.8.2"), check::Verdict::Fail);
}

#[test]
fn the_mainline_driver_is_no_use() {
    let fake = Fake::rk3588()
        .without("/sys/kernel/debug")
        .without("/dev/dri")
        .file("/sys/module/rocket/initstate", "live");
    let examined = Examined::new(fake, &on_board());
    assert!(examined.says("npu-driver").starts_with("fail: rocket"));
    assert!(examined.says("npu-device").starts_with("fail: none"));
}

#[test]
fn what_only_root_may_see_is_said_to_be_unseen() {
    let fake =
        Fake::rk3588().without("/sys/kernel/debug").file("/sys/module/rknpu/initstate", "live");
    let examined = Examined::new(fake, &on_board());
    let unmounted = [examined.says("npu-driver"), examined.says("npu-load")];

    // The tests may run as root, to whom nothing is denied.
    let mut board = Board::read(&examined.fake.root(), |_| true);
    board.driver = Driver::Unversioned(Unseen::Denied);
    let checks = hardware::checks(&board, &on_board());
    let driver = checks.iter().find(|check| check.check == "npu-driver").unwrap();
    assert_eq!(driver.mend.as_deref(), Some("sudo rkllama doctor"));
    insta::assert_snapshot!(unmounted.join("\n"), @r"
    unseen: rknpu, release not to be seen | /sys/kernel/debug/rknpu is not there | sudo mount -t debugfs none /sys/kernel/debug
    unseen: not to be seen | /sys/kernel/debug/rknpu is not there | sudo mount -t debugfs none /sys/kernel/debug
    ");
}

#[test]
fn chips_that_the_runtime_refuses_fail() {
    let chip = |name: &str| {
        let text = format!("rockchip,{name}\0");
        let fake = Fake::empty().file("/proc/device-tree/compatible", &text);
        Examined::new(fake, &on_board()).check("chip").verdict
    };
    assert_eq!(chip("rk3566"), check::Verdict::Fail);
    assert_eq!(chip("rk3562"), check::Verdict::Warn);
}

#[test]
fn a_kernel_with_a_bad_name_is_named() {
    let kernel = |release: &str| {
        let fake = Fake::rk3588().file("/proc/sys/kernel/osrelease", release);
        Examined::new(fake, &on_board()).check("kernel").verdict
    };
    assert_eq!(kernel("6.1.141-vendor"), check::Verdict::Warn);
    assert_eq!(kernel("6.1.1410"), check::Verdict::Ok);
    assert_eq!(kernel("6.1.118"), check::Verdict::Ok);
}

#[test]
fn cores_that_are_off_or_forbidden_are_named() {
    let off = Fake::rk3588().file("/sys/devices/system/cpu/online", "0-3\n");
    let off = Examined::new(off, &on_board()).says("cpu-cores");
    let two = Examined::new(Fake::rk3588(), &caller("aarch64", "0-5")).says("cpu-cores");
    let big = Examined::new(Fake::rk3588(), &caller("aarch64", "4-7")).says("cpu-cores");
    let enough = Examined::new(Fake::rk3576(), &caller("aarch64", "0-5")).says("cpu-cores");
    insta::assert_snapshot!([off, two, big, enough].join("\n"), @r"
    warn: only 0-3 online | the chip has eight; the runtime chooses worse ones when some are off | echo 1 | sudo tee /sys/devices/system/cpu/cpu*/online
    warn: little 0-3, big 4-7; of the big ones 2 may be used | the runtime needs a core for each of the NPU's 3; a CPUAffinity of the service or a container's set of CPUs keeps this process off them | taskset -c 0-7 rkllama serve
    warn: little 0-3, big 4-7; nothing is pinned | this process may only use 4-7 | taskset -c 0-7 rkllama serve
    ok: little 0-3, big 4-7; server on 0-3, workers on 4-5
    ");
}

#[test]
fn pinning_that_is_turned_off_is_a_warning() {
    let fake = Fake::rk3588().file("/srv/config.toml", "[board]\naffinity = false\n");
    let args = ServeArgs { config: Some(fake.host("/srv/config.toml")), ..ServeArgs::default() };
    let report = examine(&fake.root(), &on_board(), &args);
    let cores = report.checks.iter().find(|check| check.check == "cpu-cores").unwrap();
    assert_eq!(cores.verdict, check::Verdict::Warn);
    assert!(cores.found.contains("turned off"), "{}", cores.found);
}

#[test]
fn a_clock_that_is_capped_is_no_full_speed() {
    let folder = "/sys/class/devfreq/dmc";
    let fake = Fake::rk3588().tuned().file(&format!("{folder}/cur_freq"), "1068000000");
    let capped = Examined::new(fake, &on_board()).says("ddr-governor");
    assert!(capped.starts_with("warn: performance, 1068 of 2112 MHz"), "{capped}");
    assert!(capped.ends_with("echo 2112000000 | sudo tee /sys/class/devfreq/dmc/max_freq"));

    let fake = Fake::rk3588().tuned().file(&format!("{folder}/governor"), "userspace");
    assert_eq!(
        Examined::new(fake, &on_board()).says("ddr-governor"),
        "ok: userspace, 2112 of 2112 MHz"
    );
}

#[test]
fn few_open_files_are_a_warning() {
    let limited = |hard| Caller { nofile: Nofile { soft: Some(256), hard }, ..on_board() };
    let verdict = |hard| Examined::new(Fake::rk3588(), &limited(hard)).check("open-files").verdict;
    assert_eq!(verdict(Some(4096)), check::Verdict::Warn);
    assert_eq!(verdict(Some(9999)), check::Verdict::Ok);
    assert_eq!(verdict(None), check::Verdict::Ok);
}

#[test]
fn a_model_larger_than_the_memory_is_named() {
    let small = "MemTotal: 1 kB\nMemAvailable: 0 kB\n";
    let fake = model(Fake::rk3588().file("/proc/meminfo", small), "big", "big.rkllm");
    let examined = Examined::new(fake, &on_board());
    let says = examined.says("memory");
    assert!(says.starts_with("warn") && says.contains("'big'"), "{says}");
}

#[test]
fn missing_libraries_fail_on_a_board_only() {
    let without =
        |fake: Fake, triplet: &str| fake.without(&format!("/usr/lib/{triplet}/libgomp.so.1"));
    let board = Examined::new(without(Fake::rk3588(), "aarch64-linux-gnu"), &on_board());
    assert!(
        board.says("libgomp").starts_with("fail") && board.says("libgomp").ends_with("libgomp1")
    );
    let pc = without(Fake::x86(), "x86_64-linux-gnu");
    assert!(Examined::new(pc, &caller("x86_64", "0-1")).says("libgomp").starts_with("n/a"));

    let listed = || "\tlibgomp.so.1 (libc6,AArch64) => /opt/libgomp.so.1\n".to_owned();
    let knows = Caller { linker_cache: listed, ..on_board() };
    let board = Examined::new(without(Fake::rk3588(), "aarch64-linux-gnu"), &knows);
    assert_eq!(board.says("libgomp"), "ok: /opt/libgomp.so.1");
}

#[test]
fn an_old_c_library_fails() {
    let file = "/usr/lib/aarch64-linux-gnu/libc.so.6";
    let glibc =
        |text: &str| Examined::new(Fake::rk3588().file(file, text), &on_board()).says("glibc");
    assert!(glibc("stable release version 2.28.").starts_with("fail: 2.28"));
    assert_eq!(glibc("stable release version 2.31.\nmore"), "ok: 2.31");
    assert!(glibc("musl").starts_with("unseen"));
}

#[test]
fn a_wrong_configuration_fails_and_the_rest_is_still_examined() {
    let fake = Fake::rk3588().file("/srv/config.toml", "lisen = 1\n");
    let args = ServeArgs {
        config: Some(fake.host("/srv/config.toml")),
        models: Some(fake.host("/srv/models")),
        runtime: vec![PathBuf::from("/nowhere")],
        ..ServeArgs::default()
    };
    let report = examine(&fake.root(), &on_board(), &args);
    let configuration = &report.checks[0];
    assert_eq!(configuration.verdict, check::Verdict::Fail);
    assert!(configuration.reason.as_deref().unwrap().contains("`lisen`"));
    assert!(
        report
            .checks
            .iter()
            .any(|c| c.found.contains(&fake.host("/srv/models").display().to_string()))
    );
    assert!(report.failed());
}

#[test]
fn read_ahead_that_was_turned_down_is_named_with_its_file() {
    let setting = "/sys/devices/platform/block/nvme0n1/queue/read_ahead_kb";
    let says = Examined::new(Fake::rk3588().file(setting, "8\n"), &on_board()).says("read-ahead");
    assert!(says.starts_with("warn: 8 KiB (nvme0n1p2)"), "{says}");
    assert!(says.ends_with(&format!("echo 128 | sudo tee {setting}")), "{says}");
}

/// The words in the table and those in the JSON are the same.
#[test]
fn verdicts_are_printed_as_they_are_serialised() {
    use check::Verdict::{Fail, NotApplicable, Ok, Unseen, Warn};
    for verdict in [Ok, Warn, Fail, Unseen, NotApplicable] {
        assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.word());
    }
}

#[test]
fn the_runtimes_folder_is_no_part_of_the_tree_by_chance() {
    // `Examined` names a folder that does not exist: what it finds must come from nowhere else.
    let examined = Examined::new(Fake::rk3588(), &on_board());
    assert!(fs::metadata(examined.fake.host("/srv/runtime")).is_err());
    assert!(examined.says("runtime").contains("no librkllmrt.so in [root]/srv/runtime"));
}
