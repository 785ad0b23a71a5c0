//! The network behind a model that finds a place on an image: it compares each of the image's vectors
//! with the vector of the token that points.

use std::path::Path;

use rkllama_npu::{Hidden, Network, Order, RknnLibrary, Tensor, Values};
use rkllama_protocol::Encoder;

/// A network on the NPU that compares.
pub(crate) struct PointerHead {
    network: Network,
}

impl PointerHead {
    /// Loads it, for images that the encoder makes `len` numbers of.
    pub(crate) fn load(
        library: &RknnLibrary,
        file: &Path,
        encoder: &Encoder,
        len: usize,
    ) -> Result<Self, String> {
        let network = Network::load(library, file).map_err(|err| err.to_string())?;
        fits(network.inputs(), network.outputs(), encoder, len)
            .map_err(|reason| format!("{}: {reason}", file.display()))?;
        Ok(Self { network })
    }

    /// How much each of the image's vectors is meant by the token with this vector.
    pub(crate) fn scores(&mut self, image: &[f32], token: &[f32]) -> Result<Vec<f32>, String> {
        let values = [image, token].map(|floats| Values::Floats(floats, Order::Undefined));
        let outputs = self.network.run(&values).map_err(|err| err.to_string())?;
        outputs.into_iter().next().ok_or_else(|| "the pointer head gave nothing".to_owned())
    }
}

/// Whether it takes an image's vectors and one more, and gives a number for each of the image's.
fn fits(
    inputs: &[Tensor],
    outputs: &[Tensor],
    encoder: &Encoder,
    len: usize,
) -> Result<(), String> {
    let tokens = usize::try_from(encoder.image_tokens).unwrap_or(usize::MAX).max(1);
    let ([image, token], [scores, ..]) = (inputs, outputs) else {
        return Err("a pointer head has two inputs: an image's vectors and a token's".to_owned());
    };
    if (image.len, token.len, scores.len) == (len, len / tokens, tokens) {
        return Ok(());
    }
    let (dims, width) = (&image.dims, len / tokens);
    Err(format!(
        "it takes an image of the sizes {dims:?} and a token of {} numbers, and gives {} scores; the \
         encoder makes {tokens} vectors of {width} numbers: it belongs to another model",
        token.len, scores.len
    ))
}

/// The vector of the token behind which so many stand.
pub(crate) fn row(hidden: Hidden<'_>, behind: u32) -> Option<Vec<f32>> {
    let behind = usize::try_from(behind).ok()?;
    hidden.values.chunks_exact(hidden.width).rev().nth(behind).map(<[f32]>::to_vec)
}

#[cfg(test)]
mod tests {
    use rkllama_npu::ElementType;

    use super::*;

    const ENCODER: Encoder = Encoder { image_tokens: 6, width: 84, height: 56 };

    fn tensor(dims: &[u32]) -> Tensor {
        let len = dims.iter().map(|dim| usize::try_from(*dim).unwrap()).product();
        let (order, element) = (Order::Undefined, ElementType::Wider);
        Tensor { name: String::new(), dims: dims.to_vec(), order, element, len }
    }

    #[test]
    fn a_head_of_another_model_is_refused_with_the_sizes_of_both() {
        let check = |inputs: &[&[u32]], outputs: &[&[u32]]| {
            let [inputs, outputs] =
                [inputs, outputs].map(|all| all.iter().map(|it| tensor(it)).collect::<Vec<_>>());
            fits(&inputs, &outputs, &ENCODER, 6 * 4)
        };
        assert_eq!(check(&[&[6, 4], &[1, 4]], &[&[1, 6]]), Ok(()));
        let other = check(&[&[9, 4], &[1, 4]], &[&[1, 9]]).unwrap_err();
        assert!(other.contains("[9, 4]") && other.contains("6 vectors of 4 numbers"), "{other}");
        let swapped = check(&[&[1, 4], &[6, 4]], &[&[1, 6]]).unwrap_err();
        assert!(swapped.contains("another model"), "{swapped}");
        assert!(check(&[&[6, 4]], &[&[1, 6]]).unwrap_err().contains("two inputs"));
    }

    #[test]
    fn rows_are_counted_from_the_end() {
        let hidden = || Hidden { values: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], width: 2 };
        assert_eq!(row(hidden(), 0), Some(vec![5.0, 6.0]));
        assert_eq!(row(hidden(), 1), Some(vec![3.0, 4.0]));
        assert_eq!(row(hidden(), 3), None);
    }
}
