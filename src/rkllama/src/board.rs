//! The board as its kernel shows it: chip, cores, frequencies, NPU driver, device nodes, memory.
//!
//! Everything is read below one root, so that the tests can lay out the files of any board. Nothing
//! here judges; that is `doctor`'s part. What cannot be read is said to be so and never guessed.

pub(crate) mod affinity;
pub(crate) mod chip;
mod cpus;
mod devfreq;
mod driver;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod limits;
mod memory;
mod nodes;
mod read_ahead;
mod root;
mod topology;

use std::path::Path;

pub(crate) use self::{
    chip::Chip,
    cpus::Cpus,
    devfreq::{Devfreq, Policy},
    driver::Driver,
    memory::Memory,
    nodes::{Node, Nodes},
    read_ahead::ReadAhead,
    root::{Root, Unseen},
    topology::Topology,
};

/// What is read of a board.
#[derive(Debug)]
pub(crate) struct Board {
    /// The system on the chip. `None` where no Rockchip one is named.
    pub(crate) chip: Option<Chip>,
    /// The board's own name, as its device tree has it.
    pub(crate) name: Option<String>,
    /// The kernel's release.
    pub(crate) kernel: Option<String>,
    /// Which cores there are, and which are the big ones.
    pub(crate) topology: Topology,
    /// The CPU's frequency domains.
    pub(crate) policies: Vec<Policy>,
    /// The NPU's clock.
    pub(crate) npu: Option<Devfreq>,
    /// The memory's clock.
    pub(crate) ddr: Option<Devfreq>,
    /// The NPU's driver.
    pub(crate) driver: Driver,
    /// How busy each core of the NPU is, in percent.
    pub(crate) npu_load: Result<Vec<u8>, Unseen>,
    /// The files through which a program reaches the NPU.
    pub(crate) nodes: Nodes,
    /// Main memory.
    pub(crate) memory: Option<Memory>,
}

impl Board {
    /// Reads everything. `opens` says whether this user may read and write a file.
    pub(crate) fn read(root: &Root, opens: fn(&Path) -> bool) -> Self {
        let npu = devfreq::npu(root);
        Self {
            chip: chip::of(root),
            name: chip::board_name(root),
            kernel: root.text("/proc/sys/kernel/osrelease").ok(),
            topology: Topology::read(root),
            policies: devfreq::policies(root),
            ddr: devfreq::ddr(root),
            driver: driver::read(root),
            npu_load: driver::load(root),
            nodes: Nodes::read(root, opens),
            memory: Memory::read(root),
            npu,
        }
    }

    /// Whether this is one of Rockchip's boards: by its chip or, where that is hidden, by its driver.
    pub(crate) const fn is_rockchip(&self) -> bool {
        self.chip.is_some() || matches!(self.driver, Driver::Vendor(_) | Driver::Unversioned(_))
    }
}
