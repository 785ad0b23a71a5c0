//! Pictures of screens, and where on them to click: what comes before and after the model of a GUI
//! actor.

use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};

use crate::{ImageError, Picture, resize::resized};

/// Grey around a screen: OpenCV's byte for 127.5.
const FILL: u8 = 128;
/// Ends of the cross, measured from its middle: OpenCV's marker of 25 pixels.
const ARM_LEN: i64 = 12;
const GREEN: [u8; 3] = [0, 255, 0];
const JPEG_QUALITY: u8 = 95;
/// Longest side of a picture as a JPEG file, in pixels.
pub const JPEG_SIDE_MAX: u32 = 65_535;
/// Patches with a score of more than this part of the best one count.
const SCORE_PART_MIN: f32 = 0.3;

/// How a screen lies in the encoder's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// The screen's width and height.
    pub screen: (u32, u32),
    /// The input's width and height.
    pub input: (u32, u32),
    /// Length in the input by length on the screen.
    pub ratio: f64,
    /// The screen's width in the input.
    pub width: u32,
    /// The screen's height in the input.
    pub height: u32,
    /// Rows of grey above it.
    pub top: u32,
    /// Rows of grey below it.
    pub bottom: u32,
    /// Columns of grey on its left.
    pub left: u32,
    /// Columns of grey on its right.
    pub right: u32,
}

impl Geometry {
    /// As large as the input allows, in the middle of it.
    pub fn new(screen: (u32, u32), input: (u32, u32)) -> Self {
        let (screen_width, screen_height) = (f64::from(screen.0), f64::from(screen.1));
        let ratio = (f64::from(input.1) / screen_height).min(f64::from(input.0) / screen_width);
        // At least one pixel is left of a screen that is a line.
        let side = |len: f64, len_max: u32| (rounded(len * ratio) as u32).max(1).min(len_max);
        let (width, height) = (side(screen_width, input.0), side(screen_height, input.1));
        let (left, right) = halves(input.0 - width);
        let (top, bottom) = halves(input.1 - height);
        Self { screen, input, ratio, width, height, top, bottom, left, right }
    }

    /// The screen's pixel at a point of the input, which is given as parts of its width and height.
    pub fn to_pixel(&self, (x, y): (f32, f32)) -> (u32, u32) {
        let on_axis = |part: f32, input: u32, pad: u32, screen: u32| {
            let place = (f64::from(part) * f64::from(input) - f64::from(pad)) / self.ratio;
            place.trunc().clamp(0.0, f64::from(screen.saturating_sub(1))) as u32
        };
        (
            on_axis(x, self.input.0, self.left, self.screen.0),
            on_axis(y, self.input.1, self.top, self.screen.1),
        )
    }
}

/// Halves go to the even number, as in Python and OpenCV.
fn rounded(number: f64) -> f64 {
    number.round_ties_even()
}

/// A margin on both sides; of an odd one the second side has the larger part.
fn halves(margin: u32) -> (u32, u32) {
    let half = f64::from(margin) / 2.0;
    (rounded(half - 0.1).max(0.0) as u32, rounded(half + 0.1) as u32)
}

/// The screen as the encoder's input: resized, in the middle of grey. Three bytes a pixel, row after
/// row.
pub fn letterbox(screen: &Picture, width: u32, height: u32) -> (Geometry, Vec<u8>) {
    let geometry = Geometry::new((screen.width(), screen.height()), (width, height));
    let inner = resized(screen, geometry.width, geometry.height);
    let mut rgb = vec![FILL; width as usize * height as usize * 3];
    let rows = rgb.chunks_exact_mut(width as usize * 3).skip(geometry.top as usize);
    let start = geometry.left as usize * 3;
    for (row, pixels) in rows.zip(inner.chunks_exact(geometry.width as usize * 3)) {
        row[start..start + pixels.len()].copy_from_slice(pixels);
    }
    (geometry, rgb)
}

/// Columns and rows of the squares that an encoder cuts its input of `width` times `height` pixels
/// into, where it cuts it into squares.
pub fn grid((width, height): (u32, u32), patches: u32) -> Option<(u32, u32)> {
    let side = (f64::from(width) * f64::from(height) / f64::from(patches.max(1))).sqrt() as u32;
    let fits = |side: u32| {
        side > 0
            && width.is_multiple_of(side)
            && height.is_multiple_of(side)
            && u64::from(width / side) * u64::from(height / side) == u64::from(patches)
    };
    fits(side).then(|| (width / side, height / side))
}

/// Where the patches with the best scores lie on average, as parts of the input's width and height.
/// `scores` go row after row. In the middle if no patch stands out.
///
/// The mean may lie between two regions; it is kept because clients know it.
pub fn point(scores: &[f32], columns: u32, rows: u32) -> (f32, f32) {
    let patches = &scores[..scores.len().min(columns as usize * rows as usize)];
    let best = patches.iter().copied().filter(|score| score.is_finite()).fold(f32::MIN, f32::max);
    let (mut x_sum, mut y_sum, mut sum) = (0.0, 0.0, 0.0);
    for (index, &score) in patches.iter().enumerate() {
        if score.is_finite() && score > SCORE_PART_MIN * best {
            let (row, column) = (index / columns as usize, index % columns as usize);
            let score = f64::from(score);
            x_sum += score * (column as f64 + 0.5) / f64::from(columns);
            y_sum += score * (row as f64 + 0.5) / f64::from(rows);
            sum += score;
        }
    }
    if sum > 0.0 { ((x_sum / sum) as f32, (y_sum / sum) as f32) } else { (0.5, 0.5) }
}

/// Draws a green cross around a pixel.
pub fn draw_cross(picture: &mut Picture, (x, y): (u32, u32)) {
    let (x, y) = (i64::from(x), i64::from(y));
    for step in -ARM_LEN..=ARM_LEN {
        picture.set(x + step, y, GREEN);
        picture.set(x, y + step, GREEN);
    }
}

/// The picture as a JPEG file of quality 95.
///
/// # Errors
/// If it is longer than the format's 65535 pixels.
pub fn encode_jpeg(picture: &Picture) -> Result<Vec<u8>, ImageError> {
    let mut file = Vec::new();
    let (width, height) = (picture.width(), picture.height());
    JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY)
        .encode(picture.rgb(), width, height, ExtendedColorType::Rgb8)
        .map_err(|err| ImageError::Unsupported { reason: err.to_string() })?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case((1920, 1080), (1148, 646), (125, 125), (0, 0))]
    #[case((1366, 768), (1148, 645), (125, 126), (0, 0))]
    #[case((1280, 720), (1148, 646), (125, 125), (0, 0))]
    #[case((1000, 1000), (896, 896), (0, 0), (126, 126))]
    #[case((803, 601), (1148, 859), (18, 19), (0, 0))]
    fn a_screen_lies_where_the_model_was_trained_to_find_it(
        #[case] screen: (u32, u32),
        #[case] inner: (u32, u32),
        #[case] above_and_below: (u32, u32),
        #[case] left_and_right: (u32, u32),
    ) {
        let geometry = Geometry::new(screen, (1148, 896));
        assert_eq!((geometry.width, geometry.height), inner);
        assert_eq!((geometry.top, geometry.bottom), above_and_below);
        assert_eq!((geometry.left, geometry.right), left_and_right);
    }

    #[rstest]
    #[case((1, 100_000))]
    #[case((100_000, 1))]
    #[case((1, 1))]
    fn a_line_still_fills_the_input(#[case] screen: (u32, u32)) {
        let pixels = vec![7; screen.0 as usize * screen.1 as usize * 3];
        let (geometry, rgb) = letterbox(&Picture::new(screen.0, screen.1, pixels).unwrap(), 56, 28);
        assert_eq!(geometry.left + geometry.width + geometry.right, 56);
        assert_eq!(geometry.top + geometry.height + geometry.bottom, 28);
        let inner = (geometry.width * geometry.height * 3) as usize;
        assert_eq!(rgb.iter().filter(|&&byte| byte == 7).count(), inner);
        assert_eq!(rgb.iter().filter(|&&byte| byte == FILL).count(), 56 * 28 * 3 - inner);
    }

    #[test]
    fn a_point_is_the_mean_of_what_scores_above_a_third_of_the_best() {
        let mut scores = vec![0.0; 41 * 32];
        scores[5 * 41 + 10] = 1.0;
        scores[5 * 41 + 12] = 1.0;
        // Exactly at the threshold: it does not count.
        scores[0] = 0.3;
        let (x, y) = point(&scores, 41, 32);
        assert!((x - 11.5 / 41.0).abs() < 1e-6, "{x}");
        assert!((y - 5.5 / 32.0).abs() < 1e-6, "{y}");
    }

    #[rstest]
    #[case::empty(&[])]
    #[case::zeros(&[0.0; 4])]
    #[case::negative(&[-1.0, -2.0, -1.0, -1.0])]
    #[case::not_a_number(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0])]
    fn without_a_patch_that_stands_out_the_point_is_the_middle(#[case] scores: &[f32]) {
        assert_eq!(point(scores, 2, 2), (0.5, 0.5));
    }

    #[test]
    fn scores_beyond_the_patches_and_patches_of_nothing_do_no_harm() {
        assert_eq!(point(&[1.0, 0.0, 9.0], 2, 1), (0.25, 0.5));
        assert_eq!(point(&[1.0], 0, 0), (0.5, 0.5));
    }

    #[test]
    fn points_become_pixels_of_the_screen_and_never_lie_outside() {
        let geometry = Geometry::new((1920, 1080), (1148, 896));
        assert_eq!(geometry.to_pixel((0.5, 0.5)), (960, 540));
        // In the grey above and below.
        assert_eq!(geometry.to_pixel((0.0, 0.0)), (0, 0));
        assert_eq!(geometry.to_pixel((1.0, 1.0)), (1919, 1079));
        assert_eq!(geometry.to_pixel((0.1, 0.2)), (192, 90));
    }

    #[test]
    fn an_input_is_cut_into_squares_or_it_is_not() {
        assert_eq!(grid((1148, 896), 1312), Some((41, 32)));
        assert_eq!(grid((84, 56), 6), Some((3, 2)));
        assert_eq!(grid((448, 448), 196), Some((14, 14)));
        assert_eq!(grid((448, 448), 256), Some((16, 16)));
        for (input, patches) in
            [((1148, 896), 1311), ((448, 448), 64 * 3), ((9, 9), 0), ((2, 2), 9)]
        {
            assert_eq!(grid(input, patches), None, "{input:?} {patches}");
        }
    }

    #[test]
    fn a_cross_is_cut_at_the_edges_and_survives_as_a_file() {
        let mut picture = Picture::new(40, 30, vec![0; 40 * 30 * 3]).unwrap();
        draw_cross(&mut picture, (0, 29));
        let green = picture.rgb().chunks(3).filter(|pixel| pixel == &GREEN).count();
        assert_eq!(green, 1 + 12 + 12);
        let file = encode_jpeg(&picture).unwrap();
        let again = crate::decode(&file, &crate::Limits::default()).unwrap();
        assert_eq!((again.width(), again.height()), (40, 30));
        assert!(again.at(6, 29)[1] > 128 && again.at(20, 10)[1] < 16);
    }

    #[test]
    fn a_picture_longer_than_the_format_is_refused() {
        let long = Picture::new(70_000, 1, vec![0; 210_000]).unwrap();
        assert!(matches!(encode_jpeg(&long), Err(ImageError::Unsupported { .. })));
    }
}
