//! What the name of a `.rkllm` file claims, by the vendor's convention
//! `{Family}-{Parameters}-{Chip}-{Quantisation}-v{Toolkit}.rkllm`.

use std::path::Path;

/// The chips that there are models for, as the vendor spells them.
const CHIPS: [&str; 4] = ["RK3588", "RK3576", "RK3562", "RV1126B"];

/// The chip for which a model was converted.
pub fn chip_in_name(weights: &Path) -> Option<&'static str> {
    let name = weights.file_name()?.to_string_lossy().to_ascii_uppercase();
    CHIPS.into_iter().find(|chip| name.contains(chip))
}

/// The toolkit that converted it, from the name's end: `…-v1.2.3.rkllm`, `…_1.2.3-RKLLM.rkllm`.
pub fn toolkit_in_name(weights: &Path) -> Option<String> {
    let stem = weights.file_stem()?.to_str()?;
    let stem = stem.strip_suffix("-RKLLM").unwrap_or(stem);
    let (_, last) = stem.rsplit_once(['-', '_'])?;
    let version = last.strip_prefix('v').unwrap_or(last);
    let parts: Vec<&str> = version.split('.').collect();
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (parts.len() == 3 && parts.iter().all(number)).then(|| version.to_owned())
}
