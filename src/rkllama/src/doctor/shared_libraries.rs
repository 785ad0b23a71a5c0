//! Where the dynamic linker would find a library.

use std::{
    fs::{self, File},
    io::Read,
    path::PathBuf,
};

use super::caller::Caller;
use crate::board::Root;

/// Most that is read of the C library, in bytes; it has about 2 MB.
const LIBC_BYTES_MAX: u64 = 16 << 20;
/// How the C library names its own release, in every distribution.
const RELEASE: &[u8] = b"release version ";

/// The libraries of the system.
pub(super) struct SharedLibraries<'a> {
    pub(super) root: &'a Root,
    pub(super) caller: &'a Caller,
}

impl SharedLibraries<'_> {
    /// Looks into the usual folders first; the linker's own list knows unusual ones.
    pub(super) fn find(&self, name: &str) -> Option<PathBuf> {
        let triplet = format!("{}-linux-gnu", self.caller.arch);
        let folders = [
            format!("/usr/lib/{triplet}"),
            format!("/lib/{triplet}"),
            "/usr/lib64".to_owned(),
            "/lib64".to_owned(),
            "/usr/lib".to_owned(),
            "/lib".to_owned(),
            "/usr/local/lib".to_owned(),
        ];
        let usual = folders.into_iter().map(|folder| PathBuf::from(folder).join(name));
        usual
            .into_iter()
            .find(|file| self.root.exists(file))
            .or_else(|| listed(&(self.caller.linker_cache)(), name))
    }

    /// The C library's release, such as `2.36`.
    pub(super) fn glibc(&self) -> Option<String> {
        let mut bytes = Vec::new();
        let file = self.root.path(self.find("libc.so.6")?);
        File::open(file).ok()?.take(LIBC_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let at = bytes.windows(RELEASE.len()).position(|window| window == RELEASE)?;
        let rest = bytes[at + RELEASE.len()..].iter();
        let release: String = rest
            .map(|byte| char::from(*byte))
            .take_while(|letter| letter.is_ascii_digit() || *letter == '.')
            .collect();
        Some(release.trim_end_matches('.').to_owned())
    }

    /// A library that the vendor ships beside the runtime: `folders` are where those were found.
    pub(super) fn find_beside(&self, name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
        let beside = folders.iter().map(|folder| folder.join(name));
        beside.into_iter().find(|file| fs::metadata(file).is_ok()).or_else(|| self.find(name))
    }
}

/// A line of `ldconfig -p`: `libgomp.so.1 (libc6,AArch64) => /lib/aarch64-linux-gnu/libgomp.so.1`.
fn listed(cache: &str, name: &str) -> Option<PathBuf> {
    cache.lines().find_map(|line| {
        let (entry, path) = line.split_once(" => ")?;
        let (entry, _kind) = entry.trim().split_once(' ')?;
        (entry == name).then(|| PathBuf::from(path.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linkers_list_is_read_by_the_whole_name() {
        let cache = "2 libs found in cache `/etc/ld.so.cache'\n\
                     \tlibgomp.so.1.0.0 (libc6,AArch64) => /opt/old/libgomp.so.1.0.0\n\
                     \tlibgomp.so.1 (libc6,AArch64) => /opt/gcc/libgomp.so.1\n";
        assert_eq!(listed(cache, "libgomp.so.1"), Some("/opt/gcc/libgomp.so.1".into()));
        assert_eq!(listed(cache, "libgomp.so"), None);
        assert_eq!(listed("garbage => \n=>\n", "libgomp.so.1"), None);
    }
}
