//! Which cores the server and its workers keep to.
//!
//! The runtime's own threads feed the NPU from the big cores. A server that parses and renders
//! there takes them away: board users report a fall from 4 to under 0.1 tokens/s. So the server
//! keeps to the little cores and each worker to the big ones. The server decides and tells its
//! workers, since a process inherits the mask of the thread that started it.

use super::{Chip, Cpus, Root, Topology, devfreq};

/// Which cores are whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Affinity {
    pub(crate) server: Cpus,
    pub(crate) workers: Cpus,
}

/// The plan for this machine, if there is anything to plan.
pub(crate) fn here() -> Option<Affinity> {
    let root = Root::system();
    let npu = devfreq::npu(&root);
    let chip = super::chip::read(&root, npu.as_ref().map(|npu| npu.name.as_str()));
    plan(chip.as_ref(), &Topology::read(&root), &Cpus::allowed().ok()?)
}

/// The plan for a machine on which this process may use the cores `allowed`.
///
/// Only Rockchip's boards are split: elsewhere nothing fits that would need the big cores. Where a
/// service file or a container leaves cores of one kind only, its word holds and nothing is done.
pub(crate) fn plan(chip: Option<&Chip>, topology: &Topology, allowed: &Cpus) -> Option<Affinity> {
    chip?;
    let server = topology.little.common(allowed);
    let workers = topology.big.common(allowed);
    (!server.is_empty() && !workers.is_empty()).then_some(Affinity { server, workers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{Board, fake::Fake};

    fn planned(fake: &Fake, allowed: &str) -> Option<(String, String)> {
        let board = Board::read(&fake.root(), |_| true);
        plan(board.chip.as_ref(), &board.topology, &allowed.parse().unwrap())
            .map(|plan| (plan.server.to_string(), plan.workers.to_string()))
    }

    #[test]
    fn a_board_gives_the_server_its_little_cores_and_workers_the_big_ones() {
        let halves = Some(("0-3".to_owned(), "4-7".to_owned()));
        assert_eq!(planned(&Fake::rk3588(), "0-7"), halves);
        assert_eq!(planned(&Fake::rk3576(), "0-7"), halves);
    }

    #[test]
    fn the_operators_mask_is_kept() {
        let some = Some(("1-3".to_owned(), "4-5".to_owned()));
        assert_eq!(planned(&Fake::rk3588(), "1-5"), some);
        assert_eq!(planned(&Fake::rk3588(), "4-7"), None, "no little core is left");
        assert_eq!(planned(&Fake::rk3588(), "0-3"), None, "no big core is left");
    }

    #[test]
    fn nothing_is_done_elsewhere() {
        assert_eq!(planned(&Fake::x86(), "0-1"), None);
        let unknown = Fake::rk3588()
            .without("/proc/device-tree")
            .without("/proc/cpuinfo")
            .without("/sys/class/devfreq");
        assert_eq!(planned(&unknown, "0-7"), None);
    }
}
