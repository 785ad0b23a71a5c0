//! A decoded image.

use crate::ImageError;

/// Pixels of three bytes (red, green, blue), row after row from the top, at least one of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Picture {
    /// A picture of pixels that are there.
    ///
    /// # Errors
    /// If there are none, or `rgb` does not have three bytes for each.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self, ImageError> {
        if width == 0 || height == 0 {
            return Err(ImageError::Empty);
        }
        let bytes = u128::from(width) * u128::from(height) * 3;
        if bytes != rgb.len() as u128 {
            return Err(ImageError::WrongLength { width, height, bytes: rgb.len() });
        }
        Ok(Self { width, height, rgb })
    }

    /// Pixels in a row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// All bytes.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// All bytes, for somebody who keeps them.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }

    /// The pixel in column `x` of row `y`, both inside the picture.
    pub(crate) fn at(&self, x: u32, y: u32) -> [u8; 3] {
        let start = self.offset(x, y);
        [self.rgb[start], self.rgb[start + 1], self.rgb[start + 2]]
    }

    /// Changes a pixel; outside of the picture nothing happens.
    pub(crate) fn set(&mut self, x: i64, y: i64, colour: [u8; 3]) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
        if x < self.width && y < self.height {
            let start = self.offset(x, y);
            self.rgb[start..start + 3].copy_from_slice(&colour);
        }
    }

    fn offset(&self, x: u32, y: u32) -> usize {
        (y as usize * self.width as usize + x as usize) * 3
    }
}

impl std::fmt::Debug for Picture {
    /// Without the pixels, which would fill a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}x{})", self.width, self.height)
    }
}
