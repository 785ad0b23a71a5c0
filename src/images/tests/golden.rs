//! Against what OpenCV, Pillow and NumPy make of the same images: `golden/generate.py`.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{fs, path::PathBuf};

use rkllama_images::{
    Layout, Limits, Normalisation, Picture, decode,
    gui::{self, Geometry},
    normalise, square,
};
use rstest::rstest;

fn read(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

fn expected(name: &str) -> Picture {
    let file = read(name);
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    Picture::new(number(0), number(4), file[8..].to_vec()).unwrap()
}

/// The same as in `generate.py`.
fn pattern(width: u32, height: u32) -> Picture {
    let mut rgb = Vec::new();
    for y in 0..u64::from(height) {
        for x in 0..u64::from(width) {
            for c in 0..3 {
                rgb.push(((x * x * 31 + y * y * 17 + x * y * 7 + c * 50 + c * x * 3) % 256) as u8);
            }
        }
    }
    Picture::new(width, height, rgb).unwrap()
}

#[track_caller]
fn assert_close(ours: &[u8], theirs: &[u8], most: u8) {
    assert_eq!(ours.len(), theirs.len());
    let differences = ours.iter().zip(theirs).map(|(ours, theirs)| ours.abs_diff(*theirs));
    let (at, difference) =
        differences.enumerate().max_by_key(|&(_, difference)| difference).unwrap();
    assert!(difference <= most, "byte {at}: {} and not {}", ours[at], theirs[at]);
}

/// What files hold without loss comes out as it is.
#[rstest]
fn lossless_files_are_read_as_pillow_and_opencv_read_them(
    #[values(
        "odd.png",
        "grey.png",
        "alpha.png",
        "grey_alpha.png",
        "one_bit.png",
        "palette.png",
        "palette_alpha.png",
        "wide.png",
        "wide_grey.png",
        "line.png",
        "moving.png",
        "turned6.png",
        "lossless.webp",
        "alpha.webp",
        "turned8.webp",
        "moving.webp",
        "moving.gif",
        "clear.gif",
        "odd.bmp",
        "palette.bmp",
        "grey.bmp"
    )]
    name: &str,
) {
    let ours = decode(&read(&format!("decode/{name}")), &Limits::default()).unwrap();
    let theirs = expected(&format!("decode/{name}.rgb"));
    assert_eq!((ours.width(), ours.height()), (theirs.width(), theirs.height()));
    assert_close(ours.rgb(), theirs.rgb(), 0);
}

/// How far decoders of lossy formats are apart: their cosines and colours are whole numbers, rounded
/// at other places.
const LOSSY: u8 = 3;

#[rstest]
#[case("baseline.jpg")]
#[case("full_colour.jpg")]
#[case("progressive.jpg")]
#[case("grey.jpg")]
#[case("cmyk.jpg")]
#[case("lossy.webp")]
fn lossy_files_are_read_as_pillow_reads_them(#[case] name: &str) {
    let ours = decode(&read(&format!("decode/{name}")), &Limits::default()).unwrap();
    let theirs = expected(&format!("decode/{name}.rgb"));
    assert_eq!((ours.width(), ours.height()), (theirs.width(), theirs.height()));
    assert_close(ours.rgb(), theirs.rgb(), LOSSY);
}

#[rstest]
fn photographs_are_turned_upright(#[values(1, 2, 3, 4, 5, 6, 7, 8)] orientation: u8) {
    let name = format!("decode/turned{orientation}.jpg");
    let ours = decode(&read(&name), &Limits::default()).unwrap();
    let theirs = expected(&format!("{name}.rgb"));
    assert_eq!((ours.width(), ours.height()), (theirs.width(), theirs.height()));
    assert_close(ours.rgb(), theirs.rgb(), LOSSY);
}

#[rstest]
#[case((37, 23), (28, 28), 128)]
#[case((23, 38), (28, 28), 127)]
#[case((9, 5), (40, 33), 128)]
#[case((64, 64), (32, 32), 0)]
#[case((1, 51), (14, 14), 128)]
#[case((400, 1), (20, 20), 128)]
#[case((1920, 1080), (56, 56), 128)]
#[case((1999, 3001), (48, 31), 128)]
#[case((1, 1), (4, 4), 0)]
#[case((45, 45), (45, 45), 128)]
fn squares_are_those_of_opencv(
    #[case] source: (u32, u32),
    #[case] target: (u32, u32),
    #[case] fill: u8,
) {
    let ours = square(&pattern(source.0, source.1), target.0, target.1, fill);
    let theirs = expected(&format!(
        "pixels/square_{}x{}_{}x{}_{fill}.rgb",
        source.0, source.1, target.0, target.1
    ));
    assert_eq!((theirs.width(), theirs.height()), target);
    assert_close(&ours, theirs.rgb(), 1);
}

#[rstest]
#[case(803, 601)]
#[case(1000, 1000)]
#[case(82, 64)]
#[case(50, 31)]
#[case(1366, 768)]
fn letterboxes_are_those_of_opencv(#[case] width: u32, #[case] height: u32) {
    let (_, ours) = gui::letterbox(&pattern(width, height), 82, 64);
    let theirs = expected(&format!("pixels/letterbox_{width}x{height}_82x64.rgb"));
    assert_close(&ours, theirs.rgb(), 1);
}

#[rstest]
#[case(30, 20)]
#[case(0, 0)]
#[case(59, 39)]
#[case(3, 37)]
fn crosses_are_those_of_opencv(#[case] x: u32, #[case] y: u32) {
    let mut ours = pattern(60, 40);
    gui::draw_cross(&mut ours, (x, y));
    assert_close(ours.rgb(), expected(&format!("pixels/cross_{x}_{y}.rgb")).rgb(), 0);
}

#[rstest]
#[case("clip", Normalisation::CLIP)]
#[case("imagenet", Normalisation::IMAGENET)]
#[case("half", Normalisation::HALF)]
fn numbers_are_those_of_numpy_to_the_bit(#[case] name: &str, #[case] kind: Normalisation) {
    let pixels = pattern(16, 16);
    for (layout, extension) in [(Layout::Nhwc, "nhwc"), (Layout::Nchw, "nchw")] {
        let ours = normalise(pixels.rgb(), kind.mean, kind.std, layout);
        let ours: Vec<u8> = ours.iter().flat_map(|number| number.to_le_bytes()).collect();
        assert!(ours == read(&format!("pixels/{name}.{extension}")), "{extension}");
    }
}

/// The same as in `generate.py`.
fn scores(seed: u64) -> Vec<f32> {
    let score = |i: u64| {
        let score = (((i * i * 31 + i * 7 * seed) % 1009) as f64 / 1009.0) as f32;
        let apart = i % 41 + 6 * seed > 41 || i / 41 > 10;
        if apart { score * 0.1 } else { score }
    };
    (0..41 * 32).map(score).collect()
}

#[test]
fn points_and_pixels_are_those_of_numpy() {
    let text = String::from_utf8(read("pixels/points.txt")).unwrap();
    assert_eq!(text.lines().count(), 5);
    for line in text.lines() {
        let numbers: Vec<f64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let [width, height, seed, x, y, px, py] = numbers[..] else { panic!("{line}") };
        let point = gui::point(&scores(seed as u64), 41, 32);
        assert!((f64::from(point.0) - x).abs() < 1e-6, "{line}: {point:?}");
        assert!((f64::from(point.1) - y).abs() < 1e-6, "{line}: {point:?}");
        let geometry = Geometry::new((width as u32, height as u32), (1148, 896));
        assert_eq!(geometry.to_pixel(point), (px as u32, py as u32), "{line}");
    }
}
