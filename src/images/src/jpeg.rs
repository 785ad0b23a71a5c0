//! What a JPEG file is asked before it is decoded.
//!
//! The decoder makes do with less than a whole file and fills the rest with grey, and it goes over the
//! whole picture once for every scan, of which a small file can hold a million. Both show in the
//! file's markers.

use memchr::memmem;

use crate::ImageError;

/// Encoders make about ten scans of a progressive picture; one for each bit of each coefficient of
/// three colours would be a few hundred.
const SCANS_MAX: usize = 500;

const START_OF_SCAN: [u8; 2] = [0xFF, 0xDA];
const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];

/// Refuses a file that breaks off or was made to take for ever.
pub(crate) fn check(bytes: &[u8]) -> Result<(), ImageError> {
    let scans = &bytes[first_scan(bytes)?..];
    // In a scan's data 0xFF is always followed by a zero or a restart marker.
    if memmem::find(scans, &END_OF_IMAGE).is_none() {
        return Err(ImageError::damaged("it breaks off"));
    }
    if memmem::find_iter(scans, &START_OF_SCAN).take(SCANS_MAX + 1).count() > SCANS_MAX {
        return Err(ImageError::Unsupported { reason: format!("more than {SCANS_MAX} scans") });
    }
    Ok(())
}

/// Where the first scan begins. The segments before it are passed by their lengths: one of them may
/// hold a preview, a whole JPEG of its own.
fn first_scan(bytes: &[u8]) -> Result<usize, ImageError> {
    let mut at = 2;
    while let Some(&[mark, kind, ref rest @ ..]) = bytes.get(at..) {
        match (mark, kind, rest) {
            // Bytes to fill up with, before a marker.
            (0xFF, 0xFF, _) => at += 1,
            (0xFF, 0xDA, _) => return Ok(at),
            // Markers without a segment.
            (0xFF, 0x01 | 0xD0..=0xD8, _) => at += 2,
            (0xFF, _, [high, low, ..]) => {
                at += 2 + usize::from(u16::from_be_bytes([*high, *low]));
            }
            (0xFF, _, _) => break,
            // Stray bytes between segments, as some cameras leave them.
            _ => at += 1,
        }
    }
    Err(ImageError::damaged("it breaks off"))
}
