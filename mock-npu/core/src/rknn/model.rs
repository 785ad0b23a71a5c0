//! A mock encoder: TOML text after the line `RKNN-MOCK 1` in the place of a `.rknn` file.

use std::time::Duration;

use serde::Deserialize;

use super::tensor::{ElementType, Image, point};
use crate::script::one_line;

const HEADER: &str = "RKNN-MOCK 1";

/// Order of an image's numbers.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Format {
    Nchw,
    Nhwc,
    #[default]
    Undefined,
}

impl Format {
    pub(crate) fn code(self) -> u32 {
        match self {
            Format::Nchw => 0,
            Format::Nhwc => 1,
            Format::Undefined => 3,
        }
    }
}

/// One input or output.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dims: Vec<u32>,
    #[serde(default)]
    pub(crate) fmt: Format,
    #[serde(default, rename = "type")]
    pub(crate) element: ElementType,
}

impl Tensor {
    pub(crate) fn elements(&self) -> usize {
        self.dims.iter().map(|dim| *dim as usize).product()
    }
}

/// What the file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RknnModel {
    pub(crate) target_platform: String,
    /// `encoder`: image to embeddings; `pointer`: embeddings and a vector to scores.
    #[serde(default)]
    pub(crate) kind: Kind,
    #[serde(default)]
    pub(crate) run_ms: f64,
    /// Taken from domain 0.
    #[serde(default)]
    pub(crate) memory_mb: u64,
    pub(crate) input: Vec<Tensor>,
    pub(crate) output: Vec<Tensor>,
}

/// What a model computes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    #[default]
    Encoder,
    Pointer,
}

impl RknnModel {
    /// Parses a file; the error is a line for the user.
    pub(crate) fn parse(bytes: &[u8]) -> Result<RknnModel, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "not a mock model".to_owned())?;
        let (first, rest) = text.split_once('\n').ok_or("not a mock model")?;
        if first.trim_end() != HEADER {
            return Err("not a mock model".to_owned());
        }
        let body = format!("\n{rest}");
        let model: RknnModel = toml::from_str(&body).map_err(|error| one_line(&body, &error))?;
        let wanted = if model.kind == Kind::Pointer { 2 } else { 1 };
        if model.input.len() != wanted || model.output.is_empty() {
            return Err(format!("a model of this kind has {wanted} inputs and some output"));
        }
        let too_deep = |tensor: &&Tensor| tensor.dims.is_empty() || tensor.dims.len() > 16;
        match model.input.iter().chain(&model.output).find(too_deep) {
            Some(tensor) => Err(format!("{}: 1 to 16 dims", tensor.name)),
            None => Ok(model),
        }
    }

    pub(crate) fn run_time(&self, scale: f64) -> Duration {
        Duration::try_from_secs_f64((self.run_ms * scale).max(0.0) / 1e3).unwrap_or(Duration::MAX)
    }

    /// All outputs for these inputs.
    pub(crate) fn run(&self, inputs: &[Vec<f32>], planar: bool) -> Vec<Vec<f32>> {
        match self.kind {
            Kind::Pointer => vec![point(&inputs[0], &inputs[1])],
            Kind::Encoder => {
                let image = self.image(inputs[0].clone(), planar);
                let of = |(index, tensor): (usize, &Tensor)| {
                    let width = *tensor.dims.last().unwrap_or(&1) as usize;
                    image.embed(tensor.elements() / width.max(1), width, index)
                };
                self.output.iter().enumerate().map(of).collect()
            }
        }
    }

    fn image(&self, values: Vec<f32>, planar: bool) -> Image {
        let tensor = &self.input[0];
        let dims: Vec<usize> = tensor.dims.iter().rev().map(|dim| *dim as usize).collect();
        let dim = |index: usize| dims.get(index).copied().unwrap_or(1);
        let (width, height, channels) = match tensor.fmt {
            Format::Nchw => (dim(0), dim(1), dim(2)),
            Format::Nhwc | Format::Undefined => (dim(1), dim(2), dim(0)),
        };
        Image { width, height, channels, planar, values }
    }
}
