//! From a file's bytes to pixels, never believing what the bytes say of themselves.

use std::io::Cursor;

use image::{
    ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage,
    metadata::Orientation,
};

use crate::{ImageError, Picture, jpeg, webp};

/// What an image may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest file, in bytes.
    pub bytes_max: usize,
    /// Largest picture, in pixels. One takes three bytes as a picture, up to eight while it is decoded.
    pub pixels_max: u64,
}

impl Default for Limits {
    /// 20 MiB, OpenAI's limit for an image. 40 megapixels: more than the cameras of phones make by
    /// default, and at most some 450 MB while decoding, which a board of 4 GB can still give.
    fn default() -> Self {
        Self { bytes_max: 20 << 20, pixels_max: 40_000_000 }
    }
}

/// Largest memory for one pixel in a decoder: four channels of 16 bits.
const PIXEL_BYTES_MAX: u64 = 8;
/// What a decoder may take for itself besides pixels: tables, profiles, rows.
const DECODER_BYTES_MAX: u64 = 16 << 20;

/// Reads a JPEG, PNG, WebP, GIF (its first frame) or BMP image, told apart by its content, and turns
/// it upright as its EXIF data says. Transparency is dropped: a pixel keeps its colour.
///
/// # Errors
/// If it is larger than `limits`, which is found out before memory is taken for it, is of another
/// format, or does not hold what it promises.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, ImageError> {
    if bytes.len() > limits.bytes_max {
        return Err(ImageError::TooManyBytes { bytes: bytes.len(), bytes_max: limits.bytes_max });
    }
    let format = image::guess_format(bytes).map_err(|_| ImageError::UnknownFormat)?;
    match format {
        ImageFormat::Jpeg => jpeg::check(bytes)?,
        ImageFormat::WebP => webp::check(bytes, limits)?,
        ImageFormat::Png | ImageFormat::Gif | ImageFormat::Bmp => {}
        _ => return Err(ImageError::UnknownFormat),
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(decoder_limits(limits));
    let mut decoder = reader.into_decoder().map_err(|err| in_our_words(err, limits))?;
    let (width, height) = decoder.dimensions();
    check_pixels(width, height, limits)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let colours = decoder.color_type();
    let mut raw = vec![0; usize::try_from(decoder.total_bytes()).map_err(ImageError::damaged)?];
    decoder.read_image(&mut raw).map_err(|err| in_our_words(err, limits))?;
    upright(Picture::new(width, height, to_rgb(raw, colours)?)?, orientation)
}

fn decoder_limits(limits: &Limits) -> image::Limits {
    let side_max = u32::try_from(limits.pixels_max).unwrap_or(u32::MAX);
    let mut ours = image::Limits::default();
    ours.max_image_width = Some(side_max);
    ours.max_image_height = Some(side_max);
    let pixels = limits.pixels_max.saturating_mul(PIXEL_BYTES_MAX);
    ours.max_alloc = Some(pixels.saturating_add(DECODER_BYTES_MAX));
    ours
}

fn check_pixels(width: u32, height: u32, limits: &Limits) -> Result<(), ImageError> {
    if width == 0 || height == 0 {
        return Err(ImageError::Empty);
    }
    let pixels_max = limits.pixels_max;
    if u64::from(width) * u64::from(height) > pixels_max {
        return Err(ImageError::TooManyPixels { width, height, pixels_max });
    }
    Ok(())
}

/// Three bytes for each pixel, of as much memory as there is already where that is enough. Of 16
/// bits the upper 8 count, as in OpenCV and Pillow.
fn to_rgb(mut raw: Vec<u8>, colours: ColorType) -> Result<Vec<u8>, ImageError> {
    let (size, grey, wide) = match colours {
        ColorType::Rgb8 => return Ok(raw),
        ColorType::L8 => (1, true, false),
        ColorType::La8 => (2, true, false),
        ColorType::Rgba8 => (4, false, false),
        ColorType::L16 => (2, true, true),
        ColorType::La16 => (4, true, true),
        ColorType::Rgb16 => (6, false, true),
        ColorType::Rgba16 => (8, false, true),
        other => return Err(ImageError::Unsupported { reason: format!("{other:?}") }),
    };
    let channel = |pixel: &[u8], index: usize| match wide {
        true => (u16::from_ne_bytes([pixel[2 * index], pixel[2 * index + 1]]) >> 8) as u8,
        false => pixel[index],
    };
    let colour = |pixel: &[u8]| match grey {
        true => [channel(pixel, 0); 3],
        false => [channel(pixel, 0), channel(pixel, 1), channel(pixel, 2)],
    };
    if size < 3 {
        return Ok(raw.chunks_exact(size).flat_map(colour).collect());
    }
    let pixels = raw.len() / size;
    for pixel in 0..pixels {
        let rgb = colour(&raw[pixel * size..]);
        raw[pixel * 3..pixel * 3 + 3].copy_from_slice(&rgb);
    }
    raw.truncate(pixels * 3);
    raw.shrink_to_fit();
    Ok(raw)
}

fn upright(picture: Picture, orientation: Orientation) -> Result<Picture, ImageError> {
    if orientation == Orientation::NoTransforms {
        return Ok(picture);
    }
    let (width, height) = (picture.width(), picture.height());
    let lying = RgbImage::from_raw(width, height, picture.into_rgb()).ok_or(ImageError::Empty)?;
    let mut image = DynamicImage::ImageRgb8(lying);
    image.apply_orientation(orientation);
    Picture::new(image.width(), image.height(), image.into_rgb8().into_raw())
}

fn in_our_words(err: image::ImageError, limits: &Limits) -> ImageError {
    match err {
        image::ImageError::Limits(_) => ImageError::TooLarge { pixels_max: limits.pixels_max },
        image::ImageError::Unsupported(err) => ImageError::Unsupported { reason: err.to_string() },
        image::ImageError::IoError(_) => ImageError::damaged("it breaks off"),
        other => ImageError::damaged(other),
    }
}
