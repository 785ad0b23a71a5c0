//! Tensors: their types, and what the mock computes of them.

use serde::Deserialize;

use crate::hidden::direction_of;
use crate::rng;

/// Types of elements, in the vendor's numbers.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub(crate) enum ElementType {
    Float32 = 0,
    #[default]
    Float16 = 1,
    Int8 = 2,
    Uint8 = 3,
}

impl ElementType {
    pub(crate) fn of(code: u32) -> Option<ElementType> {
        match code {
            0 => Some(ElementType::Float32),
            1 => Some(ElementType::Float16),
            2 => Some(ElementType::Int8),
            3 => Some(ElementType::Uint8),
            _ => None,
        }
    }

    pub(crate) fn len(self) -> usize {
        match self {
            ElementType::Float32 => 4,
            ElementType::Float16 => 2,
            ElementType::Int8 | ElementType::Uint8 => 1,
        }
    }

    /// Bytes to numbers; 8-bit pixels become 0 to 1.
    pub(crate) fn read(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            ElementType::Float32 => bytes
                .chunks_exact(4)
                .map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            ElementType::Float16 => bytes
                .chunks_exact(2)
                .map(|b| half_to_f32(u16::from_ne_bytes([b[0], b[1]])))
                .collect(),
            ElementType::Int8 => bytes.iter().map(|byte| f32::from(*byte as i8) / 127.0).collect(),
            ElementType::Uint8 => bytes.iter().map(|byte| f32::from(*byte) / 255.0).collect(),
        }
    }

    /// Numbers to bytes.
    pub(crate) fn write(self, values: &[f32]) -> Vec<u8> {
        match self {
            ElementType::Float32 => values.iter().flat_map(|value| value.to_ne_bytes()).collect(),
            ElementType::Float16 => {
                values.iter().flat_map(|value| f32_to_half(*value).to_ne_bytes()).collect()
            }
            ElementType::Int8 => {
                values.iter().map(|value| (value * 127.0).round() as i8 as u8).collect()
            }
            ElementType::Uint8 => {
                values.iter().map(|value| (value * 255.0).round() as u8).collect()
            }
        }
    }
}

fn half_to_f32(half: u16) -> f32 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(half >> 10 & 0x1f);
    let fraction = f32::from(half & 0x3ff) / 1024.0;
    match exponent {
        0 => sign * fraction * 2f32.powi(-14),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction) * 2f32.powi(exponent - 15),
    }
}

fn f32_to_half(value: f32) -> u16 {
    let sign = (value.to_bits() >> 16 & 0x8000) as u16;
    let size = value.abs();
    if !(2f32.powi(-14)..65520.0).contains(&size) {
        return if size.is_nan() {
            sign | 0x7e00
        } else if size >= 65520.0 {
            sign | 0x7c00
        } else {
            sign | (size * 2f32.powi(24)).round() as u16
        };
    }
    let exponent = size.log2().floor().clamp(-14.0, 15.0) as i32;
    // Rounding up may carry into the exponent, which the sum does by itself.
    let fraction = ((size / 2f32.powi(exponent) - 1.0) * 1024.0).round() as u16;
    sign | ((((exponent + 15) as u16) << 10) + fraction)
}

/// What the channels of an image show: of the first output their directions are those of the words.
const COLOURS: [&str; 3] = ["red", "green", "blue"];

/// An image as numbers in rows of pixels.
pub(crate) struct Image {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) channels: usize,
    /// Channels of a pixel lie `channel_step` apart, pixels `pixel_step`.
    pub(crate) planar: bool,
    pub(crate) values: Vec<f32>,
}

impl Image {
    fn at(&self, x: usize, y: usize, channel: usize) -> f32 {
        let pixel = y * self.width + x;
        let index = if self.planar {
            channel * self.width * self.height + pixel
        } else {
            pixel * self.channels + channel
        };
        self.values.get(index).copied().unwrap_or(0.0)
    }

    /// Mean of each channel over one cell of a grid.
    fn cell_mean(&self, cell: (usize, usize), grid: (usize, usize), channel: usize) -> f32 {
        let span = |index: usize, count: usize, len: usize| {
            let start = index * len / count;
            start..((index + 1) * len / count).max(start + 1)
        };
        let (xs, ys) = (span(cell.0, grid.0, self.width), span(cell.1, grid.1, self.height));
        let count = (xs.len() * ys.len()) as f32;
        let sum: f32 = ys
            .flat_map(|y| xs.clone().map(move |x| (x, y)))
            .map(|(x, y)| self.at(x, y, channel))
            .sum();
        sum / count
    }

    /// An embedding per patch: the patch's mean colours along fixed directions. Like images have
    /// like embeddings, and another output of the same encoder has other directions.
    pub(crate) fn embed(&self, tokens: usize, width: usize, output: usize) -> Vec<f32> {
        let grid = self.grid(tokens);
        let direction = |channel: usize, column: usize| {
            if let (0, Some(colour)) = (output, COLOURS.get(channel)) {
                return direction_of(0, colour, column) * 2.0;
            }
            let seed = rng::mix(rng::mix(output as u64, channel as u64), column as u64);
            rng::unit(seed) as f32 * 2.0 - 1.0
        };
        let mut rows = Vec::with_capacity(tokens * width);
        for token in 0..tokens {
            let cell = (token % grid.0, token / grid.0);
            let means: Vec<f32> =
                (0..self.channels).map(|channel| self.cell_mean(cell, grid, channel)).collect();
            rows.extend((0..width).map(|column| {
                let colour: f32 =
                    means.iter().enumerate().map(|(c, mean)| mean * direction(c, column)).sum();
                colour + 0.05 * direction(self.channels + token, column)
            }));
        }
        rows
    }

    /// Columns and rows of patches nearest to the image's own shape.
    fn grid(&self, tokens: usize) -> (usize, usize) {
        let wanted = self.width as f32 / self.height.max(1) as f32;
        let fits = (1..=tokens).filter(|columns| tokens.is_multiple_of(*columns));
        let distance = |columns: &usize| {
            let shape = (columns * columns) as f32 / tokens as f32;
            (shape / wanted).ln().abs()
        };
        let columns = fits.min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(1);
        (columns, tokens / columns)
    }
}

/// How much more is meant what is a little nearer: enough for grey around a picture to mean nothing.
const SHARPNESS: f32 = 24.0;

/// A pointer head: how much each row of `items` has of `query`, as shares that add up to 1.
pub(crate) fn point(items: &[f32], query: &[f32]) -> Vec<f32> {
    let width = query.len().max(1);
    let norm = |row: &[f32]| row.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    let scores: Vec<f32> = items
        .chunks_exact(width)
        .map(|row| {
            let dot: f32 = row.iter().zip(query).map(|(a, b)| a * b).sum();
            (SHARPNESS * dot / (norm(row) * norm(query))).exp()
        })
        .collect();
    let total: f32 = scores.iter().sum();
    scores.iter().map(|score| score / total.max(f32::MIN_POSITIVE)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(colour: [f32; 3]) -> Image {
        let values = (0..64).flat_map(|_| colour).collect();
        Image { width: 8, height: 8, channels: 3, planar: false, values }
    }

    #[test]
    fn halves_keep_what_they_can_hold() {
        for value in [0.0, 1.0, -2.5, 0.333, 65504.0, 6e-5, -1e-6] {
            let back = half_to_f32(f32_to_half(value));
            assert!((back - value).abs() <= value.abs() * 1e-3 + 6e-8, "{value} became {back}");
        }
        assert_eq!(half_to_f32(f32_to_half(1e6)), f32::INFINITY);
    }

    #[test]
    fn like_images_have_like_embeddings() {
        let distance = |a: &Image, b: &Image| -> f32 {
            let (a, b) = (a.embed(4, 16, 0), b.embed(4, 16, 0));
            a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum()
        };
        let red = flat([1.0, 0.0, 0.0]);
        assert!(distance(&red, &flat([0.9, 0.1, 0.0])) < distance(&red, &flat([0.0, 0.0, 1.0])));
        assert_eq!(distance(&red, &flat([1.0, 0.0, 0.0])), 0.0);
        assert_ne!(red.embed(4, 16, 0), red.embed(4, 16, 1), "outputs differ");
    }

    #[test]
    fn both_orders_of_pixels_mean_the_same() {
        let mut planar = flat([0.2, 0.5, 0.7]);
        planar.values = (0..192).map(|i| [0.2, 0.5, 0.7][i / 64]).collect();
        planar.planar = true;
        let packed = flat([0.2, 0.5, 0.7]).embed(4, 8, 0);
        let near = planar.embed(4, 8, 0).iter().zip(&packed).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near);
    }

    #[test]
    fn patches_follow_the_images_shape() {
        let wide = Image { width: 1148, height: 896, channels: 3, planar: false, values: vec![] };
        assert_eq!(wide.grid(1312), (41, 32));
    }

    #[test]
    fn a_pointer_finds_the_row_that_is_meant() {
        let scores = point(&[1.0, 0.0, 0.0, 1.0, -1.0, 0.0], &[0.1, 2.0]);
        assert!(scores[1] > 0.9 && (scores.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
}
