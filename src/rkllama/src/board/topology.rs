//! Big and little cores.
//!
//! The kernel's `cpu_capacity` says it best: it weighs design and clock. Where it is missing the
//! highest clock stands in, which can only tell designs apart that are clocked differently: on an
//! RK3576 (2.2 and 2.3 GHz) it cannot, and then nothing is claimed.

use super::{cpus::Cpus, root::Root};

const FOLDER: &str = "/sys/devices/system/cpu";
/// From which share of the strongest core's value, in percent, the weakest counts as its equal. The
/// two clusters of big cores of an RK3588 are clocked by the chip's own quality, some percent apart;
/// its little cores have under 80 % of the clock and under 60 % of the capacity.
const EQUAL_PERCENT: u64 = 90;

/// The cores that are online.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Topology {
    /// All of them.
    pub(crate) online: Cpus,
    /// The strong ones; all where there is only one kind.
    pub(crate) big: Cpus,
    /// The weak ones; none where there is only one kind.
    pub(crate) little: Cpus,
}

impl Topology {
    /// Reads which cores are online and how strong each is.
    pub(super) fn read(root: &Root) -> Self {
        let online: Cpus = root
            .text(format!("{FOLDER}/online"))
            .ok()
            .and_then(|list| list.parse().ok())
            .unwrap_or_default();
        let strengths = ["cpu_capacity", "cpufreq/cpuinfo_max_freq"]
            .into_iter()
            .find_map(|file| strengths(root, &online, file));
        match strengths.as_deref().and_then(border) {
            Some(border) => {
                let side = |big: bool| {
                    let of_core = |(cpu, strength): &(usize, u64)| {
                        ((*strength > border) == big).then_some(*cpu)
                    };
                    strengths.iter().flatten().filter_map(of_core).collect()
                };
                Self { big: side(true), little: side(false), online }
            }
            None => Self { big: online.clone(), little: Cpus::default(), online },
        }
    }

    /// Whether there are two kinds.
    pub(crate) fn is_mixed(&self) -> bool {
        !self.little.is_empty()
    }
}

/// The value of every core; of all or of none, since different measures cannot be compared.
fn strengths(root: &Root, online: &Cpus, file: &str) -> Option<Vec<(usize, u64)>> {
    online
        .iter()
        .map(|cpu| Some((cpu, root.number(format!("{FOLDER}/cpu{cpu}/{file}"))?)))
        .collect()
}

/// The value above which a core is big. `None` where all are of one kind.
fn border(strengths: &[(usize, u64)]) -> Option<u64> {
    let values = || strengths.iter().map(|(_, strength)| *strength);
    let (weakest, strongest) = (values().min()?, values().max()?);
    let equal = u128::from(weakest) * 100 >= u128::from(strongest) * u128::from(EQUAL_PERCENT);
    (!equal).then_some(weakest.midpoint(strongest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::fake::Fake;

    fn cores(fake: &Fake) -> (String, String) {
        let topology = Topology::read(&fake.root());
        (topology.little.to_string(), topology.big.to_string())
    }

    fn by_file(file: &str, values: &[u64]) -> (String, String) {
        let last = values.len() - 1;
        let fake = Fake::empty().file("/sys/devices/system/cpu/online", &format!("0-{last}\n"));
        let fake = values.iter().enumerate().fold(fake, |fake, (cpu, value)| {
            fake.file(&format!("/sys/devices/system/cpu/cpu{cpu}/{file}"), &value.to_string())
        });
        cores(&fake)
    }

    #[test]
    fn boards_have_little_cores_first() {
        assert_eq!(cores(&Fake::rk3588()), ("0-3".to_owned(), "4-7".to_owned()));
        assert_eq!(cores(&Fake::rk3576()), ("0-3".to_owned(), "4-7".to_owned()));
    }

    #[test]
    fn one_kind_is_not_split() {
        assert_eq!(cores(&Fake::x86()), (String::new(), "0-1".to_owned()));
        assert_eq!(by_file("cpu_capacity", &[1024, 1002, 1024]).0, "");
        assert_eq!(by_file("cpu_capacity", &[0, 0]).0, "");
    }

    #[test]
    fn the_clock_stands_in_where_it_can_tell() {
        let file = "cpufreq/cpuinfo_max_freq";
        let of = |little, big| by_file(file, &[little, little, big, big]).0;
        assert_eq!(of(1_800_000, 2_352_000), "0-1", "an RK3588's clocks");
        assert_eq!(of(2_208_000, 2_304_000), "", "an RK3576's clocks");
    }

    #[test]
    fn a_missing_or_odd_value_claims_nothing() {
        let fake = Fake::rk3588()
            .without("/sys/devices/system/cpu/cpu7/cpu_capacity")
            .without("/sys/devices/system/cpu/cpu5/cpufreq");
        assert_eq!(cores(&fake), (String::new(), "0-7".to_owned()));
        let odd = Fake::empty().file("/sys/devices/system/cpu/online", "many");
        assert_eq!(cores(&odd), (String::new(), String::new()));
    }
}
