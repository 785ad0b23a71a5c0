//! Boards made of files, for tests: what the kernels of an RK3588, an RK3576 and a PC show.
//!
//! They are written after the facts known of these boards, not copied from one.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use rustix::fs::{major, minor};
use tempfile::TempDir;

use super::root::Root;

const CPU: &str = "/sys/devices/system/cpu";

/// A tree of files in the making.
pub(crate) struct Fake(TempDir);

/// What differs between the two chips.
struct Soc {
    compatible: &'static str,
    model: &'static str,
    npu: &'static str,
    little_capacity: u32,
    little_khz: u32,
    big_khz: u32,
    policies: &'static [(usize, &'static str)],
    load: &'static str,
}

impl Fake {
    pub(crate) fn empty() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// An RK3588 as it comes: governors that save power, everything in its place.
    pub(crate) fn rk3588() -> Self {
        Self::board(&Soc {
            compatible: "xunlong,orangepi-5-plus\0rockchip,rk3588\0",
            model: "Orange Pi 5 Plus\0",
            npu: "fdab0000.npu",
            little_capacity: 397,
            little_khz: 1_800_000,
            big_khz: 2_352_000,
            policies: &[(0, "0 1 2 3"), (4, "4 5"), (6, "6 7")],
            load: "NPU load:  Core0:  0%, Core1:  0%, Core2:  0%,\n",
        })
    }

    /// The same of an RK3576.
    pub(crate) fn rk3576() -> Self {
        Self::board(&Soc {
            compatible: "armsom,sige5\0rockchip,rk3576\0",
            model: "ArmSoM Sige5\0",
            npu: "27700000.npu",
            little_capacity: 465,
            little_khz: 2_208_000,
            big_khz: 2_304_000,
            policies: &[(0, "0 1 2 3"), (4, "4 5 6 7")],
            load: "NPU load:  Core0: 12%, Core1:  0%,\n",
        })
    }

    /// A PC with two equal cores.
    pub(crate) fn x86() -> Self {
        Self::empty()
            .file("/proc/cpuinfo", "processor\t: 0\nmodel name\t: An ordinary processor\n")
            .file("/proc/sys/kernel/osrelease", "6.12.0-amd64\n")
            .file(&format!("{CPU}/online"), "0-1\n")
            .file("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
            .libraries("x86_64-linux-gnu")
            .disk("vda", None, 128)
    }

    fn board(soc: &Soc) -> Self {
        let fake = Self::empty()
            .file("/proc/device-tree/compatible", soc.compatible)
            .file("/proc/device-tree/model", soc.model)
            .file("/proc/cpuinfo", "processor\t: 0\nCPU part\t: 0xd05\n")
            .file("/proc/sys/kernel/osrelease", "6.1.118-vendor-rk35xx\n")
            .file("/proc/meminfo", "MemTotal: 16252928 kB\nMemAvailable: 14680064 kB\n")
            .file("/sys/kernel/debug/rknpu/version", "RKNPU driver: v0.9.8\n")
            .file("/sys/kernel/debug/rknpu/load", soc.load)
            .device("/dev/dri/renderD128")
            .device("/dev/dri/renderD129")
            .file("/sys/class/drm/renderD128/device/uevent", "DRIVER=panthor\nOF_NAME=gpu\n")
            .file("/sys/class/drm/renderD129/device/uevent", "DRIVER=RKNPU\nOF_NAME=npu\n")
            .device("/dev/dma_heap/system")
            .clock(soc.npu, "rknpu_ondemand", 300_000_000, "300000000 700000000 1000000000")
            .clock("dmc", "dmc_ondemand", 528_000_000, "528000000 1068000000 2112000000")
            .libraries("aarch64-linux-gnu")
            .disk("nvme0n1", Some("nvme0n1p2"), 128);
        let fake = (0..8).fold(fake.file(&format!("{CPU}/online"), "0-7\n"), |fake, cpu| {
            let capacity = if cpu < 4 { soc.little_capacity } else { 1024 };
            let khz = if cpu < 4 { soc.little_khz } else { soc.big_khz };
            fake.file(&format!("{CPU}/cpu{cpu}/cpu_capacity"), &format!("{capacity}\n"))
                .file(&format!("{CPU}/cpu{cpu}/cpufreq/cpuinfo_max_freq"), &format!("{khz}\n"))
        });
        soc.policies.iter().fold(fake, |fake, (first, cpus)| {
            let khz = if *first < 4 { soc.little_khz } else { soc.big_khz };
            let file = |name: &str| format!("{CPU}/cpufreq/policy{first}/{name}");
            fake.file(&file("affected_cpus"), cpus)
                .file(&file("scaling_governor"), "ondemand\n")
                .file(&file("scaling_cur_freq"), &format!("{khz}\n"))
        })
    }

    /// The board with every governor at `performance`.
    pub(crate) fn tuned(self) -> Self {
        let policies = ["policy0", "policy4", "policy6"];
        let fake = policies.iter().fold(self, |fake, policy| {
            let file = format!("{CPU}/cpufreq/{policy}/scaling_governor");
            if fake.host(&file).exists() { fake.file(&file, "performance\n") } else { fake }
        });
        let on_rk3588 = fake.host("/sys/class/devfreq/fdab0000.npu").exists();
        let npu = if on_rk3588 { "fdab0000.npu" } else { "27700000.npu" };
        fake.clock(npu, "performance", 1_000_000_000, "300000000 700000000 1000000000").clock(
            "dmc",
            "performance",
            2_112_000_000,
            "528000000 1068000000 2112000000",
        )
    }

    /// A file with this text.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        let file = self.host(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        self
    }

    /// A device file that its group may open; the group is called `render`.
    pub(crate) fn device(self, path: &str) -> Self {
        let fake = self.file(path, "");
        let file = fake.host(path);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).unwrap();
        let gid = fs::metadata(&file).unwrap().gid();
        fake.file("/etc/group", &format!("nogroup:x:none:\nrender:x:{gid}:\n"))
    }

    /// Changes who may open a file.
    pub(crate) fn mode(self, path: &str, mode: u32) -> Self {
        fs::set_permissions(self.host(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Takes a file, or a folder with all in it, away.
    pub(crate) fn without(self, path: &str) -> Self {
        let file = self.host(path);
        let removed = if file.is_dir() { fs::remove_dir_all(file) } else { fs::remove_file(file) };
        removed.unwrap_or_else(|err| panic!("{path}: {err}"));
        self
    }

    /// Fills every file below `/proc` and `/sys` with what none of them may hold.
    pub(crate) fn garbled(self) -> Self {
        let mut folders = vec![self.host("/proc"), self.host("/sys"), self.host("/etc")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_symlink() {
                    continue;
                } else if path.is_dir() {
                    folders.push(path);
                } else {
                    fs::write(path, b"\x1b[31m\xff\0-1 99999999999999999999:\n,,%").unwrap();
                }
            }
        }
        self
    }

    fn clock(self, name: &str, governor: &str, hz: u64, known: &str) -> Self {
        let file = |file: &str| format!("/sys/class/devfreq/{name}/{file}");
        self.file(&file("governor"), &format!("{governor}\n"))
            .file(&file("cur_freq"), &format!("{hz}\n"))
            .file(&file("max_freq"), &format!("{hz}\n"))
            .file(&file("available_frequencies"), &format!("{known}\n"))
    }

    fn libraries(self, triplet: &str) -> Self {
        let lib = |name: &str| format!("/usr/lib/{triplet}/{name}");
        let libc = "GNU C Library (GNU libc) stable release version 2.36.\n";
        self.file(&lib("libc.so.6"), &format!("\u{7f}ELF\0{libc}\0"))
            .file(&lib("libgomp.so.1"), "")
            .file(&lib("libstdc++.so.6"), "")
    }

    /// Says that the disk on which this tree really lies is called so.
    fn disk(self, disk: &str, partition: Option<&str>, kib: u64) -> Self {
        let folder = format!("/sys/devices/platform/block/{disk}");
        let own = partition.map_or(folder.clone(), |partition| format!("{folder}/{partition}"));
        let fake = self
            .file(&format!("{folder}/queue/read_ahead_kb"), &format!("{kib}\n"))
            .file(&format!("{own}/uevent"), "");
        let device = fs::metadata(fake.0.path()).unwrap().dev();
        let link = fake.host(&format!("/sys/dev/block/{}:{}", major(device), minor(device)));
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(fake.host(&own), link).unwrap();
        fake
    }

    /// Where the tree begins.
    pub(crate) fn root(&self) -> Root {
        Root::at(self.0.path())
    }

    /// Where a path of the tree really lies.
    pub(crate) fn host(&self, path: &str) -> PathBuf {
        self.root().path(Path::new(path))
    }
}
