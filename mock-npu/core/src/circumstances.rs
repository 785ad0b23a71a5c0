//! What holds at this moment: the script, the faults, the speed.

use crate::faults::{self, Faults};
use crate::latency::{self, Latency};
use crate::script::Script;

/// The script, faults and latencies that hold at this moment.
pub(crate) struct Circumstances {
    pub(crate) script: Script,
    pub(crate) faults: Faults,
    pub(crate) latency: Latency,
}

impl Circumstances {
    /// Model file, then script, then environment: the later wins. Rules of the script come first.
    pub(crate) fn now(model: Option<Script>) -> Result<Circumstances, String> {
        let outer = Script::from_environment()?;
        let own = model.unwrap_or_default();
        let environment = faults::from_environment();
        let faults = faults::merge(&[&own.faults, &outer.faults, &environment])?;
        let mut latency = own.latency.overlaid(outer.latency);
        latency.scale = latency::scale_from_environment().or(latency.scale);
        let mut script = outer;
        script.rules.extend(own.rules);
        Ok(Circumstances { script, faults, latency })
    }
}
