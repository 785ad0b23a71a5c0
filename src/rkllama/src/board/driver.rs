//! The NPU's kernel driver: which one, which release, how busy.

use super::root::{Root, Unseen};

/// Only root may look in here.
const DEBUG: &str = "/sys/kernel/debug/rknpu";

/// What is known of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Driver {
    /// The vendor's, with its release, such as `0.9.8`.
    Vendor(String),
    /// The vendor's; its release cannot be seen.
    Unversioned(Unseen),
    /// The one of the mainline kernel, which the vendor's runtime cannot use.
    Rocket,
    /// No trace of any.
    Absent,
}

/// Looks for the driver.
pub(super) fn read(root: &Root) -> Driver {
    let in_debug = root.text(format!("{DEBUG}/version"));
    let in_module = || root.text("/sys/module/rknpu/version");
    let known = in_debug.clone().or_else(|_| in_module()).ok().as_deref().and_then(release);
    match (known, in_debug) {
        (Some(release), _) => Driver::Vendor(release),
        (None, Ok(text)) => Driver::Unversioned(Unseen::Odd(text)),
        (None, Err(unseen)) if is_loaded(root) => Driver::Unversioned(unseen),
        (None, Err(_)) if root.exists("/sys/module/rocket") => Driver::Rocket,
        (None, Err(_)) => Driver::Absent,
    }
}

/// Traces that everybody may see. A driver that is built into the kernel is no module but is bound to
/// its device.
fn is_loaded(root: &Root) -> bool {
    root.exists("/sys/module/rknpu")
        || root.exists("/sys/bus/platform/drivers/RKNPU")
        || root.exists("/dev/rknpu")
}

/// The release in `RKNPU driver: v0.9.8`.
fn release(text: &str) -> Option<String> {
    let (_, release) = text.rsplit_once('v').unwrap_or(("", text));
    let release: String = release
        .trim()
        .chars()
        .take_while(|letter| letter.is_ascii_digit() || *letter == '.')
        .collect();
    release.contains('.').then_some(release)
}

/// How busy each core is, in percent: `NPU load:  Core0:  0%, Core1:  0%,`, and where there is one
/// core `NPU load:  0%`.
pub(super) fn load(root: &Root) -> Result<Vec<u8>, Unseen> {
    let text = root.text(format!("{DEBUG}/load"))?;
    let percents = text.split('%').filter_map(|part| {
        let digits = part.rsplit([' ', ':']).next()?;
        digits.parse().ok()
    });
    let percents: Vec<u8> = percents.filter(|percent| *percent <= 100).collect();
    if percents.is_empty() { Err(Unseen::Odd(text)) } else { Ok(percents) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::fake::Fake;

    #[test]
    fn the_release_is_read_where_it_may_be() {
        let version =
            |text: &str| read(&Fake::empty().file(&format!("{DEBUG}/version"), text).root());
        assert_eq!(version("RKNPU driver: v0.9.8\n"), Driver::Vendor("0.9.8".into()));
        assert_eq!(version("???"), Driver::Unversioned(Unseen::Odd("???".into())));
        let module = Fake::empty().file("/sys/module/rknpu/version", "0.9.7\n");
        assert_eq!(read(&module.root()), Driver::Vendor("0.9.7".into()));
    }

    #[test]
    fn a_driver_without_a_release_is_still_a_driver() {
        let bound = Fake::empty().file("/sys/bus/platform/drivers/RKNPU/uevent", "");
        assert_eq!(read(&bound.root()), Driver::Unversioned(Unseen::Absent));
        let mainline = Fake::empty().file("/sys/module/rocket/initstate", "live");
        assert_eq!(read(&mainline.root()), Driver::Rocket);
        assert_eq!(read(&Fake::empty().root()), Driver::Absent);
    }

    #[test]
    fn the_load_is_one_number_a_core() {
        let of = |text: &str| load(&Fake::empty().file(&format!("{DEBUG}/load"), text).root());
        assert_eq!(of("NPU load:  Core0:  0%, Core1: 71%, Core2:100%,\n"), Ok(vec![0, 71, 100]));
        assert_eq!(of("NPU load:  5%"), Ok(vec![5]));
        assert_eq!(of("NPU load: full"), Err(Unseen::Odd("NPU load: full".into())));
        assert_eq!(load(&Fake::empty().root()), Err(Unseen::Absent));
    }
}
