//! Images of a conversation: fetched, looked through before anything is queued, and their places in a
//! prompt's tokens.
//!
//! Which tokens an image has only its worker knows, who has loaded the encoder. Until then a
//! placeholder stands for it. Afterwards its tokens are numbers made of its content, so that the ledger
//! of the KV cache tells images apart as the runtime does.

use std::sync::Arc;

use rkllama_core::{Chat, EngineError, Image, ImageFetch, ImageSource, Message};
use rkllama_images::{Limits, decode};
use rkllama_protocol as protocol;
use rkllama_text::image_place;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Images of one conversation. Each takes a second or more of the NPU and hundreds of tokens.
const IMAGES_MAX: usize = 32;
/// Bytes of all of them: they travel to the worker in one frame.
const BYTES_MAX: usize = 48 << 20;

/// Ids of images' tokens are below this one; placeholders and unknown tokens are above.
const IMAGE_IDS_END: i32 = i32::MIN / 2;

/// What images may be, and how they are fetched.
#[derive(Clone)]
pub struct Pictures {
    /// Largest file of one, in bytes. 20 MiB is OpenAI's limit.
    pub bytes_max: usize,
    /// Largest image, in pixels: decoding takes up to eleven bytes for each.
    pub pixels_max: u64,
    /// Fetches images from addresses, where the operator allows it.
    pub fetch: Option<Arc<dyn ImageFetch>>,
}

impl std::fmt::Debug for Pictures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pictures")
            .field("bytes_max", &self.bytes_max)
            .field("pixels_max", &self.pixels_max)
            .field("fetches", &self.fetch.is_some())
            .finish()
    }
}

impl Default for Pictures {
    fn default() -> Self {
        let Limits { bytes_max, pixels_max } = Limits::default();
        Self { bytes_max, pixels_max, fetch: None }
    }
}

/// Takes a conversation's images, in the order of their marks, if all can be used.
pub(crate) async fn take(
    chat: &mut Chat,
    pictures: &Pictures,
    decodings: &Arc<Semaphore>,
) -> Result<Vec<protocol::Image>, EngineError> {
    // They stay in their messages too: how many there are is told by them.
    let images: Vec<Image> = chat.messages.iter().flat_map(images_of).cloned().collect();
    let looked = look_at(&images, pictures, decodings).await?;
    Ok(looked.into_iter().map(|looked| looked.image).collect())
}

/// An image that can be used.
pub(crate) struct Looked {
    pub(crate) image: protocol::Image,
    /// Its width and height, turned upright.
    pub(crate) size: (u32, u32),
}

/// Fetches images and looks at each, in their order, if all can be used.
pub(crate) async fn look_at(
    images: &[Image],
    pictures: &Pictures,
    decodings: &Arc<Semaphore>,
) -> Result<Vec<Looked>, EngineError> {
    if let Some(over) = images.get(IMAGES_MAX) {
        return Err(refused(
            over,
            format!("is one more than the {IMAGES_MAX} images that are taken"),
        ));
    }
    let mut taken = Vec::with_capacity(images.len());
    let mut bytes_left = BYTES_MAX;
    for image in images {
        let bytes = match &image.source {
            ImageSource::Bytes(bytes) => bytes.clone(),
            ImageSource::Url(url) => match &pictures.fetch {
                Some(fetch) => {
                    fetch.fetch(url.clone()).await.map_err(|reason| refused(image, reason))?
                }
                None => {
                    let reason = "is given as an address, which this server does not fetch: send it \
                                  as a data URL";
                    return Err(refused(image, reason.to_owned()));
                }
            },
        };
        bytes_left = bytes_left.checked_sub(bytes.len()).ok_or_else(|| {
            refused(
                image,
                format!("is too much: all images together have more than {BYTES_MAX} bytes"),
            )
        })?;
        let limits = Limits { bytes_max: pictures.bytes_max, pixels_max: pictures.pixels_max };
        let Ok(permit) = Arc::clone(decodings).acquire_owned().await else {
            return Err(EngineError::ShuttingDown);
        };
        let looked = spawn_blocking(move || {
            // Given back when the work is over, not when its client has gone.
            let _permit = permit;
            decode(&bytes, &limits).map(|picture| Looked {
                image: protocol::Image {
                    digest: Sha256::digest(&bytes).into(),
                    bytes: bytes.to_vec(),
                },
                size: (picture.width(), picture.height()),
            })
        });
        let looked = looked.await.map_err(|_| refused(image, "cannot be read".to_owned()))?;
        taken.push(looked.map_err(|error| refused(image, error.to_string()))?);
    }
    Ok(taken)
}

fn images_of(message: &Message) -> &[Image] {
    &message.images
}

pub(crate) fn refused(image: &Image, reason: String) -> EngineError {
    EngineError::Image { field: image.field.clone(), reason }
}

/// A prompt with so many tokens in the place of each placeholder.
pub(crate) fn expanded(tokens: &[i32], images: &[protocol::Image], image_tokens: u32) -> Vec<i32> {
    let mut all = Vec::with_capacity(tokens.len());
    for &token in tokens {
        match image_place(token).and_then(|place| images.get(place)) {
            Some(image) => all.extend((0..image_tokens).map(|at| id(&image.digest, at))),
            None => all.push(token),
        }
    }
    all
}

/// The number of one of an image's tokens: another one for each place in each image.
fn id(digest: &[u8; 32], at: u32) -> i32 {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(digest, at.into());
    let offset = i32::try_from(hash & 0x3fff_ffff).unwrap_or(0);
    i32::MIN + offset
}

/// Whether it is the number of a token of an image.
pub(crate) const fn is_image(token: i32) -> bool {
    token < IMAGE_IDS_END
}

#[cfg(test)]
mod tests {
    use rkllama_text::image_placeholder;

    use super::*;
    use crate::steering::TOKEN_UNKNOWN;

    fn image(of: u8) -> protocol::Image {
        protocol::Image { digest: [of; 32], bytes: Vec::new() }
    }

    #[test]
    fn an_images_tokens_tell_it_from_all_others() {
        let images = [image(1), image(2)];
        let prompt = [5, image_placeholder(0), 6, image_placeholder(1), 7];
        let tokens = expanded(&prompt, &images, 3);
        assert_eq!((tokens.len(), tokens[0], tokens[4], tokens[8]), (9, 5, 6, 7));
        let (first, second) = (&tokens[1..4], &tokens[5..8]);
        assert!(first.iter().chain(second).all(|token| is_image(*token)));
        assert!(first.iter().all(|token| !second.contains(token)));
        assert_eq!(expanded(&prompt, &[image(1), image(9)], 3)[..5], tokens[..5]);
        assert!(!is_image(image_placeholder(0)) && !is_image(TOKEN_UNKNOWN) && !is_image(0));
    }

    #[test]
    fn tokens_without_images_stay_as_they_are() {
        let tokens = [1, TOKEN_UNKNOWN, 3];
        assert_eq!(expanded(&tokens, &[], 3), tokens);
    }
}
