//! Why an image cannot be used, in words for the client that sent it.

/// What is wrong with an image: the end of a sentence that begins with its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The file is larger than allowed.
    #[error("has {bytes} bytes, more than the limit of {bytes_max}")]
    TooManyBytes {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// By its header it has more pixels than allowed.
    #[error("has {width}x{height} pixels, more than the limit of {pixels_max}")]
    TooManyPixels {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
        /// The limit on their product.
        pixels_max: u64,
    },
    /// One of its sides alone is longer than any image's within the limit.
    #[error("is too large for the limit of {pixels_max} pixels")]
    TooLarge {
        /// The limit.
        pixels_max: u64,
    },
    /// A width or a height of nothing.
    #[error("has no pixels")]
    Empty,
    /// Its first bytes are those of no format we read.
    #[error("is not a JPEG, PNG, WebP, GIF or BMP image")]
    UnknownFormat,
    /// A valid file of a kind that we do not read.
    #[error("is of a kind that is not supported: {reason}")]
    Unsupported {
        /// Which.
        reason: String,
    },
    /// It breaks off or contradicts itself.
    #[error("is damaged: {reason}")]
    Damaged {
        /// Where.
        reason: String,
    },
    /// Pixels that are not three bytes for each of width times height.
    #[error("of {width}x{height} pixels does not have {bytes} bytes")]
    WrongLength {
        /// The width it was said to have.
        width: u32,
        /// The height it was said to have.
        height: u32,
        /// The bytes it has.
        bytes: usize,
    },
}

impl ImageError {
    pub(crate) fn damaged(reason: impl ToString) -> Self {
        Self::Damaged { reason: reason.to_string() }
    }
}
