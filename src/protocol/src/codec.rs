//! Frames to bytes and back, for blocking readers and for those who cut frames themselves.

use std::io::{self, ErrorKind, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// Longest frame body. A prompt of 16,384 tokens takes under 80 KiB; its images, as files, take the
/// rest. A longer length means that the other side writes garbage.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// A frame that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The socket failed or ended inside a frame.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The length is beyond [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes is longer than {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// The bytes are no frame.
    #[error("garbage instead of a frame: {0}")]
    Garbage(#[from] postcard::Error),
}

/// The frame with its length in front.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn encode<T: Serialize>(frame: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = postcard::to_extend(frame, vec![0; 4])?;
    let body_len = bytes.len() - 4;
    if body_len > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(body_len));
    }
    let length = u32::try_from(body_len).map_err(|_| FrameError::TooLong(body_len))?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// A frame from its body, without the length.
///
/// # Errors
/// [`FrameError::Garbage`], also when bytes are left over.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let (frame, rest) = postcard::take_from_bytes(body)?;
    if rest.is_empty() {
        Ok(frame)
    } else {
        Err(FrameError::Garbage(postcard::Error::DeserializeBadEncoding))
    }
}

/// Writes one frame in one call, so that frames of several threads under a lock stay whole.
///
/// # Errors
/// As [`encode`], and the socket's.
pub fn write_frame<T: Serialize>(to: &mut impl Write, frame: &T) -> Result<(), FrameError> {
    to.write_all(&encode(frame)?)?;
    Ok(())
}

/// Reads one frame; `None` at the end of the socket between two frames.
///
/// # Errors
/// As [`decode`], and the socket's.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut length = [0; 4];
    let mut filled = 0;
    while filled < length.len() {
        match from.read(&mut length[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(n) => filled += n,
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) => return Err(err.into()),
        }
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    decode(&body).map(Some)
}
