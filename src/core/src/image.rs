//! Images in conversations.

use std::{path::PathBuf, pin::Pin};

use bytes::Bytes;

/// Stands in a message's content where one of its images stands. A noncharacter: Unicode reserves it
/// for use inside programs, no text may carry it.
pub const IMAGE_MARK: char = '\u{fdd1}';

/// An image that a client has sent, or told where to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The field of the request in which it came, for messages about it.
    pub field: String,
    /// Where it is.
    pub source: ImageSource,
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// Here: the file, whatever it holds.
    Bytes(Bytes),
    /// At an address, which may not be looked at without the operator's leave.
    Url(String),
}

/// Fetches images from addresses that clients name.
pub trait ImageFetch: Send + Sync + 'static {
    /// The file at an address, within the operator's limits; the error says why there is none, as the
    /// end of a sentence, and nothing about the network behind this server.
    fn fetch(&self, url: String) -> Fetching;
}

/// An image on its way.
pub type Fetching = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

/// How a model sees: the network that makes vectors of images for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Vision {
    /// The `.rknn` file.
    pub encoder: PathBuf,
    /// Its size, in bytes.
    pub encoder_bytes: u64,
    /// The tokens around images.
    pub tags: ImageTags,
    /// What an image that is no square is filled up with, 0 to 255.
    pub fill: u8,
    /// What is taken off each colour and what it is divided by, where the encoder does not do that by
    /// itself.
    pub normalise: Option<Normalise>,
    /// Tokens of an image, as far as somebody says so before the encoder is loaded.
    pub image_tokens: Option<u32>,
    /// Width and height of what the encoder sees, in pixels, as far as somebody says so: its own file
    /// is believed.
    pub sizes: (Option<u32>, Option<u32>),
    /// The network behind the model that finds a place on a picture, if it has one. Its pictures are
    /// put into the encoder's input as they are, and not into a square.
    pub pointer_head: Option<PointerHead>,
}

/// A network that finds a place on a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointerHead {
    /// The `.rknn` file.
    pub file: PathBuf,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// Mean and deviation of red, green and blue, as parts of 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalise {
    /// What is taken off.
    pub mean: [f32; 3],
    /// What it is divided by then.
    pub std: [f32; 3],
}

/// Names of the tokens that the runtime writes where an image stands; each may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageTags {
    /// In front of it.
    pub start: String,
    /// Behind it.
    pub end: String,
    /// In its place, once for each of its vectors.
    pub content: String,
}
