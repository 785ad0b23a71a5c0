//! From an image's file to the vectors that stand for it in a prompt.
//!
//! The network runs on the NPU for seconds, so the vectors of the last images are kept: a conversation
//! about an image sends it with each turn.

use std::{collections::VecDeque, sync::Arc};

use rkllama_images::{Layout, Limits, decode, gui, normalise, square};
use rkllama_npu::{ElementType, Network, Order, RknnLibrary, Tensor, Values};
use rkllama_protocol::{Encoder, Image, Load, Vision};

use crate::pointer::PointerHead;

/// Vectors that are kept, in bytes: some hundred images of 196 vectors of 1536 numbers.
const KEPT_BYTES_MAX: usize = 128 << 20;
/// Sides of what an encoder may see, in pixels; more is a file that was misread.
const SIDE_MAX: u32 = 8192;
/// Vectors of one image; the context holds no more.
const IMAGE_TOKENS_MAX: u32 = 16_384;

/// Vectors of one image, one behind the other.
pub(crate) type Vectors = Arc<[f32]>;

/// Makes vectors of images.
pub(crate) trait Sight {
    /// What is known of the encoder.
    fn encoder(&self) -> Encoder;
    /// The library's release, and the form in which the encoder takes an image, for the log.
    fn notes(&self) -> String;
    /// The vectors of an image; the error says what is wrong with it, or with the network.
    fn vectors(&mut self, image: &Image) -> Result<Vectors, String>;
    /// How much each of an image's vectors is meant by the token with this vector; the error says
    /// why nobody knows.
    fn point(&mut self, image: &[f32], token: &[f32]) -> Result<Vec<f32>, String>;
}

/// A network on the NPU, and what is known of it.
pub(crate) struct Eyes {
    network: Network,
    head: Option<PointerHead>,
    vision: Vision,
    encoder: Encoder,
    kept: Kept,
}

impl Eyes {
    /// Opens the library and loads the network.
    pub(crate) fn open(load: &Load, vision: &Vision) -> Result<Self, String> {
        let library = RknnLibrary::open_beside(&load.runtime).map_err(|err| err.to_string())?;
        let network = Network::load(&library, &vision.encoder).map_err(|err| err.to_string())?;
        let encoder = seen_by(&network)
            .map_err(|reason| format!("{}: {reason}", vision.encoder.display()))?;
        eprint(&network, &encoder);
        let head = match &vision.pointer_head {
            None => None,
            Some(file) => {
                let Encoder { width, height, image_tokens } = encoder;
                if gui::grid((width, height), image_tokens).is_none() {
                    return Err(format!(
                        "{}: {image_tokens} vectors are no patches of {width}x{height} pixels, so \
                         no place can be told from them",
                        vision.encoder.display()
                    ));
                }
                let len = network.outputs().iter().map(|output| output.len).sum();
                Some(PointerHead::load(&library, file, &encoder, len)?)
            }
        };
        Ok(Self { network, head, vision: vision.clone(), encoder, kept: Kept::default() })
    }

    /// How wide the vectors of one output are, which is how wide the model has to be.
    pub(crate) fn width(&self) -> usize {
        let output = self.network.outputs().first();
        output.map_or(0, |output| output.len / usize_of(self.encoder.image_tokens).max(1))
    }

    fn look(&mut self, image: &Image) -> Result<Vectors, String> {
        let limits = Limits { bytes_max: usize::MAX, pixels_max: self.vision.pixels_max };
        let picture = decode(&image.bytes, &limits).map_err(|err| format!("the image {err}"))?;
        let Encoder { width, height, image_tokens } = self.encoder;
        let rgb = match &self.head {
            None => square(&picture, width, height, self.vision.fill),
            Some(_) => gui::letterbox(&picture, width, height).1,
        };
        drop(picture);
        let outputs = match self.vision.normalise {
            None => self.network.run(&[Values::Pixels(&rgb)]),
            Some(by) => {
                let order = self.network.inputs().first().map_or(Order::Nhwc, |it| it.order);
                let (layout, order) = match order {
                    Order::Nchw => (Layout::Nchw, Order::Nchw),
                    Order::Nhwc | Order::Undefined => (Layout::Nhwc, Order::Nhwc),
                };
                let values = normalise(&rgb, by.mean, by.std, layout);
                self.network.run(&[Values::Floats(&values, order)])
            }
        };
        let outputs = outputs.map_err(|err| err.to_string())?;
        Ok(interleaved(&outputs, usize_of(image_tokens)).into())
    }
}

impl Sight for Eyes {
    fn encoder(&self) -> Encoder {
        self.encoder
    }

    fn notes(&self) -> String {
        let input = self.network.inputs().first();
        let own = match input.map(|input| input.element) {
            Some(ElementType::EightBits) => "8 bits",
            Some(ElementType::Wider) | None => "more than 8 bits",
        };
        let order = match input.map(|input| input.order) {
            Some(Order::Nchw) => "NCHW",
            Some(Order::Nhwc | Order::Undefined) | None => "NHWC",
        };
        let given = if self.vision.normalise.is_some() { "normalised numbers" } else { "bytes" };
        format!("librknnrt {}, {given} for {order} of {own}", self.network.version())
    }

    fn vectors(&mut self, image: &Image) -> Result<Vectors, String> {
        if let Some(vectors) = self.kept.recall(&image.digest) {
            return Ok(vectors);
        }
        let vectors = self.look(image)?;
        self.kept.keep(image.digest, &vectors);
        Ok(vectors)
    }

    fn point(&mut self, image: &[f32], token: &[f32]) -> Result<Vec<f32>, String> {
        let head = self.head.as_mut().ok_or("the model was not loaded to find places")?;
        head.scores(image, token)
    }
}

#[expect(clippy::print_stderr, reason = "a worker's own words go there, beside the library's")]
fn eprint(network: &Network, encoder: &Encoder) {
    let Encoder { image_tokens, width, height } = encoder;
    let version = network.version();
    eprintln!("librknnrt {version}: images of {width}x{height} pixels, {image_tokens} tokens each");
}

/// Sizes of what the network sees and gives, by the vendor's own reading of them.
fn seen_by(network: &Network) -> Result<Encoder, String> {
    let ([image], [first, others @ ..]) = (network.inputs(), network.outputs()) else {
        return Err("an encoder has one input".to_owned());
    };
    if others.iter().any(|output| output.len != first.len) {
        return Err("its outputs differ in size".to_owned());
    }
    sizes(image, first)
}

fn sizes(image: &Tensor, output: &Tensor) -> Result<Encoder, String> {
    let (height, width) = match (image.order, image.dims.as_slice()) {
        (Order::Nchw, &[_, 3, height, width, ..])
        | (Order::Nhwc | Order::Undefined, &[_, height, width, 3, ..]) => (height, width),
        (_, dims) => return Err(format!("its input of the sizes {dims:?} is no image")),
    };
    let image_tokens = output.dims.iter().take(4).copied().find(|dim| *dim > 1);
    let image_tokens = image_tokens.filter(|tokens| {
        *tokens <= IMAGE_TOKENS_MAX && output.len.is_multiple_of(usize_of(*tokens))
    });
    let image_tokens = image_tokens
        .ok_or_else(|| format!("its output of the sizes {:?} holds no vectors", output.dims))?;
    if [width, height].iter().any(|side| !(1..=SIDE_MAX).contains(side)) {
        return Err(format!("it sees images of {width}x{height} pixels"));
    }
    Ok(Encoder { image_tokens, width, height })
}

/// What several outputs say of a token, one behind the other, token by token: Qwen3-VL's models take
/// what intermediate layers see too.
fn interleaved(outputs: &[Vec<f32>], tokens: usize) -> Vec<f32> {
    let [first, ..] = outputs else { return Vec::new() };
    let width = (first.len() / tokens.max(1)).max(1);
    let rows: Vec<_> = outputs.iter().map(|output| output.chunks_exact(width)).collect();
    let mut all = Vec::with_capacity(first.len() * outputs.len());
    for token in 0..tokens {
        for row in &rows {
            all.extend(row.clone().nth(token).unwrap_or_default());
        }
    }
    all
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Vectors of images that were looked at, the latest last.
#[derive(Default)]
struct Kept {
    vectors: VecDeque<([u8; 32], Vectors)>,
}

impl Kept {
    fn recall(&mut self, digest: &[u8; 32]) -> Option<Vectors> {
        let at = self.vectors.iter().position(|(of, _)| of == digest)?;
        let found = self.vectors.remove(at)?;
        let vectors = Arc::clone(&found.1);
        self.vectors.push_back(found);
        Some(vectors)
    }

    fn keep(&mut self, digest: [u8; 32], vectors: &Vectors) {
        self.vectors.push_back((digest, Arc::clone(vectors)));
        let bytes = |kept: &Vectors| size_of_val::<[f32]>(kept);
        let mut total: usize = self.vectors.iter().map(|(_, kept)| bytes(kept)).sum();
        while total > KEPT_BYTES_MAX {
            let Some((_, oldest)) = self.vectors.pop_front() else { return };
            total -= bytes(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use rkllama_npu::ElementType;

    use super::*;

    fn tensor(dims: &[u32], order: Order) -> Tensor {
        let len = dims.iter().map(|dim| usize_of(*dim)).product();
        let element = ElementType::Wider;
        Tensor { name: String::new(), dims: dims.to_vec(), order, element, len }
    }

    #[test]
    fn sizes_are_read_as_the_vendors_example_reads_them() {
        let output = tensor(&[1, 196, 2048], Order::Undefined);
        let seen = Encoder { image_tokens: 196, width: 448, height: 392 };
        for image in [
            tensor(&[1, 392, 448, 3], Order::Nhwc),
            tensor(&[1, 3, 392, 448], Order::Nchw),
            tensor(&[1, 392, 448, 3], Order::Undefined),
        ] {
            assert_eq!(sizes(&image, &output), Ok(seen));
        }
        let flat = tensor(&[64, 2304], Order::Undefined);
        let image = tensor(&[1, 448, 448, 3], Order::Nhwc);
        assert_eq!(sizes(&image, &flat).unwrap().image_tokens, 64);
    }

    #[test]
    fn what_is_no_encoder_is_refused_in_words() {
        let image = tensor(&[1, 448, 448, 3], Order::Nhwc);
        let output = tensor(&[1, 196, 64], Order::Undefined);
        let no_image = tensor(&[1, 1312, 2048], Order::Undefined);
        let refused = sizes(&no_image, &output).unwrap_err();
        assert_eq!(refused, "its input of the sizes [1, 1312, 2048] is no image");
        let refused = sizes(&image, &tensor(&[1, 1], Order::Undefined)).unwrap_err();
        assert_eq!(refused, "its output of the sizes [1, 1] holds no vectors");
        let huge = tensor(&[1, 90_000, 448, 3], Order::Nhwc);
        assert_eq!(sizes(&huge, &output).unwrap_err(), "it sees images of 448x90000 pixels");
    }

    #[test]
    fn outputs_of_several_layers_stand_token_by_token() {
        let outputs = [vec![1.0, 2.0, 3.0, 4.0], vec![5.0, 6.0, 7.0, 8.0]];
        assert_eq!(interleaved(&outputs, 2), [1.0, 2.0, 5.0, 6.0, 3.0, 4.0, 7.0, 8.0]);
        assert_eq!(interleaved(&outputs[..1], 2), outputs[0]);
    }

    #[test]
    fn the_image_that_was_longest_not_asked_for_goes_first() {
        let mut kept = Kept::default();
        let large: Vectors = vec![0.0; KEPT_BYTES_MAX / 8].into();
        kept.keep([1; 32], &large);
        kept.keep([2; 32], &large);
        assert!(kept.recall(&[1; 32]).is_some());
        kept.keep([3; 32], &large);
        assert!(kept.recall(&[2; 32]).is_none());
        assert!(kept.recall(&[1; 32]).is_some() && kept.recall(&[3; 32]).is_some());
    }
}
