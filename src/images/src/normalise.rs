//! Bytes of colour to the numbers that an encoder without its own normalisation takes.

/// In which order numbers stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The three colours of a pixel together.
    Nhwc,
    /// All of the red, then all of the green, then all of the blue.
    Nchw,
}

/// What is taken off each colour (as a part of 1) and what it is divided by then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalisation {
    /// Red, green and blue of the average picture.
    pub mean: [f32; 3],
    /// How far each differs from it.
    pub std: [f32; 3],
}

impl Normalisation {
    /// Of CLIP: Qwen2-VL, Qwen2.5-VL and what is made from them.
    pub const CLIP: Self = Self {
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
    };
    /// Of ImageNet: InternVL.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    /// To −1 … 1: most others.
    pub const HALF: Self = Self { mean: [0.5; 3], std: [0.5; 3] };
}

/// `(x/255 − mean)/std` of each byte of `rgb`, whose pixels are three bytes each.
pub fn normalise(rgb: &[u8], mean: [f32; 3], std: [f32; 3], layout: Layout) -> Vec<f32> {
    let (pixels, _) = rgb.as_chunks::<3>();
    let value = |byte: u8, colour: usize| (f32::from(byte) / 255.0 - mean[colour]) / std[colour];
    match layout {
        Layout::Nhwc => {
            pixels.iter().flat_map(|&[r, g, b]| [value(r, 0), value(g, 1), value(b, 2)]).collect()
        }
        Layout::Nchw => (0..3)
            .flat_map(|colour| pixels.iter().map(move |pixel| value(pixel[colour], colour)))
            .collect(),
    }
}
