//! A set of CPUs, written as the kernel writes it: `0-3,6`.

use std::{collections::BTreeSet, fmt, io, str::FromStr};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// CPUs by their numbers, each below [`CpuSet::MAX_CPU`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cpus(BTreeSet<usize>);

impl Cpus {
    /// Those on which this thread may run.
    pub(crate) fn allowed() -> io::Result<Self> {
        let set = sched_getaffinity(None)?;
        Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
    }

    /// Keeps this thread, and those it starts from now on, on these CPUs.
    pub(crate) fn pin(&self) -> io::Result<()> {
        let mut set = CpuSet::new();
        for cpu in &self.0 {
            set.set(*cpu);
        }
        Ok(sched_setaffinity(None, &set)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those in both.
    pub(crate) fn common(&self, other: &Self) -> Self {
        self.0.intersection(&other.0).copied().collect()
    }
}

impl FromIterator<usize> for Cpus {
    /// Numbers that no set of the kernel's can hold are left out.
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Self {
        Self(cpus.into_iter().filter(|cpu| *cpu < CpuSet::MAX_CPU).collect())
    }
}

/// It is no list of CPUs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoCpus;

impl fmt::Display for NoCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected numbers and ranges below {} such as 0-3,6", CpuSet::MAX_CPU)
    }
}

impl std::error::Error for NoCpus {}

impl FromStr for Cpus {
    type Err = NoCpus;

    fn from_str(text: &str) -> Result<Self, NoCpus> {
        let number = |text: &str| match text.trim().parse::<usize>() {
            Ok(cpu) if cpu < CpuSet::MAX_CPU => Ok(cpu),
            _ => Err(NoCpus),
        };
        let mut cpus = BTreeSet::new();
        for part in text.trim().split(',') {
            match part.split_once('-') {
                Some((first, last)) => cpus.extend(number(first)?..=number(last)?),
                None => cpus.extend([number(part)?]),
            }
        }
        if cpus.is_empty() { Err(NoCpus) } else { Ok(Self(cpus)) }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.iter().peekable();
        let mut comma = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if_eq(&(last + 1)) {
                last = next;
            }
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        for (text, written) in
            [("0-3", "0-3"), ("4-7,0", "0,4-7"), ("5", "5"), ("0,1,2,6\n", "0-2,6"), ("1-1", "1")]
        {
            assert_eq!(text.parse::<Cpus>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", "a", "3-1", "1-", "-1", "0,,1", "0-999999999999", "1024", "0x3"] {
            assert_eq!(text.parse::<Cpus>(), Err(NoCpus), "{text:?}");
        }
    }

    #[test]
    fn a_pinned_thread_and_its_children_stay_where_they_are_put() {
        let first: Cpus = Cpus::allowed().unwrap().iter().take(1).collect();
        let of_child = thread::spawn({
            let first = first.clone();
            move || {
                first.pin().unwrap();
                thread::spawn(|| Cpus::allowed().unwrap()).join().unwrap()
            }
        });
        assert_eq!(of_child.join().unwrap(), first);
    }
}
