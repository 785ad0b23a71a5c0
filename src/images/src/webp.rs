//! What a WebP file is asked before it is decoded.
//!
//! The decoder believes the size in the file's head, and finds out that a picture inside is of another
//! size when it has decoded it: a few bytes could stand for gigabytes.

use crate::{ImageError, Limits};

/// Bytes of a chunk's name and length.
const HEAD_LEN: usize = 8;
/// Where the chunks begin, behind `RIFF`, the length and `WEBP`.
const START: usize = 12;
/// Bytes of a frame in front of its own chunks: place, size, duration, flags.
const FRAME_HEAD_LEN: usize = 16;

/// Refuses a file with a picture inside that has too many pixels, or another size than its frame.
pub(crate) fn check(bytes: &[u8], limits: &Limits) -> Result<(), ImageError> {
    for chunk in chunks(bytes, START) {
        pixels(&chunk, limits)?;
        if chunk.name != *b"ANMF" {
            continue;
        }
        let frame =
            size_of_frame(chunk.body).ok_or_else(|| ImageError::damaged("a frame breaks off"))?;
        for inner in chunks(chunk.body, FRAME_HEAD_LEN) {
            if pixels(&inner, limits)?.is_some_and(|size| size != frame) {
                return Err(ImageError::damaged("a picture is of another size than its frame"));
            }
        }
    }
    Ok(())
}

/// A part of a file.
struct Chunk<'a> {
    name: [u8; 4],
    /// As much as there is of it.
    body: &'a [u8],
}

/// The chunks one behind the other; each begins at an even place.
fn chunks(bytes: &[u8], start: usize) -> impl Iterator<Item = Chunk<'_>> {
    let mut at = start;
    std::iter::from_fn(move || {
        let (name, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        at = at.checked_add(HEAD_LEN)?.checked_add(len)?.checked_add(len % 2)?;
        Some(Chunk { name: *name, body: rest.get(..len).unwrap_or(rest) })
    })
}

/// The size of the picture in a chunk, if it holds one and its head is there.
fn pixels(chunk: &Chunk<'_>, limits: &Limits) -> Result<Option<(u32, u32)>, ImageError> {
    let size = match &chunk.name {
        b"VP8 " => size_of_lossy(chunk.body),
        b"VP8L" => size_of_lossless(chunk.body),
        _ => None,
    };
    let Some((width, height)) = size else { return Ok(None) };
    let pixels_max = limits.pixels_max;
    if u64::from(width) * u64::from(height) > pixels_max {
        return Err(ImageError::TooManyPixels { width, height, pixels_max });
    }
    Ok(Some((width, height)))
}

/// 14 bits each behind the frame's tag and its start code.
fn size_of_lossy(body: &[u8]) -> Option<(u32, u32)> {
    let &[_, _, _, _, _, _, a, b, c, d, ..] = body else { return None };
    let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3FFF);
    Some((side([a, b]), side([c, d])))
}

/// 14 bits each, less one, behind the signature.
fn size_of_lossless(body: &[u8]) -> Option<(u32, u32)> {
    let &[_, a, b, c, d, ..] = body else { return None };
    let bits = u32::from_le_bytes([a, b, c, d]);
    Some(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
}

/// 24 bits each, less one, behind the frame's place.
fn size_of_frame(body: &[u8]) -> Option<(u32, u32)> {
    let &[_, _, _, _, _, _, a, b, c, d, e, f, ..] = body else { return None };
    let side = |bytes| u32::from_le_bytes(bytes) + 1;
    Some((side([a, b, c, 0]), side([d, e, f, 0])))
}
