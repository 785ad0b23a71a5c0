//! Files that are broken, lie about themselves or were made to hurt.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{fs, path::PathBuf};

use proptest::prelude::*;
use rkllama_images::{ImageError, Limits, Picture, decode, square};
use rstest::rstest;

fn file(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decode");
    fs::read(folder.join(name)).unwrap()
}

/// One of each format and kind.
const FILES: [&str; 12] = [
    "odd.png",
    "palette_alpha.png",
    "moving.png",
    "baseline.jpg",
    "progressive.jpg",
    "cmyk.jpg",
    "turned6.jpg",
    "lossy.webp",
    "alpha.webp",
    "moving.webp",
    "moving.gif",
    "palette.bmp",
];

fn refused(bytes: &[u8]) -> ImageError {
    decode(bytes, &Limits::default()).unwrap_err()
}

/// A PNG of one row's data whose header promises more.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut png = file("odd.png");
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), step))
}

/// Largest memory that this process ever had, in bytes.
fn memory_peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_header_of_ten_thousand_million_pixels_takes_no_memory() {
    let before = memory_peak();
    assert_eq!(
        refused(&png_of(100_000, 100_000)).to_string(),
        "has 100000x100000 pixels, more than the limit of 40000000"
    );
    assert_eq!(
        refused(&png_of(0x7FFF_FFFF, 1)).to_string(),
        "is too large for the limit of 40000000 pixels"
    );
    let grown = memory_peak() - before;
    assert!(grown < 32 << 20, "{grown} bytes");
}

#[test]
fn every_format_is_held_to_the_limits() {
    for name in FILES {
        let bytes = file(name);
        let few = Limits { pixels_max: 100, ..Limits::default() };
        let err = decode(&bytes, &few).unwrap_err();
        assert!(matches!(err, ImageError::TooManyPixels { .. }), "{name}: {err}");
        let small = Limits { bytes_max: bytes.len() - 1, ..Limits::default() };
        let text = decode(&bytes, &small).unwrap_err().to_string();
        let (len, max) = (bytes.len(), bytes.len() - 1);
        assert_eq!(text, format!("has {len} bytes, more than the limit of {max}"));
        let just = decode(&bytes, &Limits { bytes_max: len, ..Limits::default() }).unwrap();
        let pixels_max = u64::from(just.width()) * u64::from(just.height());
        decode(&bytes, &Limits { bytes_max: len, pixels_max }).unwrap();
    }
}

#[rstest]
#[case::nothing(b"")]
#[case::text(b"hello")]
#[case::page(b"<!doctype html><html><body>Not found</body></html>")]
#[case::drawing(b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>")]
#[case::tiff(b"II*\0\x08\0\0\0")]
#[case::pdf(b"%PDF-1.7\n")]
fn other_files_are_told_which_formats_there_are(#[case] bytes: &[u8]) {
    assert_eq!(refused(bytes).to_string(), "is not a JPEG, PNG, WebP, GIF or BMP image");
}

#[test]
fn files_that_break_off_are_damaged() {
    for name in FILES {
        let whole = file(name);
        // A moving picture may lose its other pictures.
        let first = if name.starts_with("moving") { whole.len() / 3 } else { whole.len() * 4 / 5 };
        for len in [whole.len() / 4, first] {
            let err = refused(&whole[..len]);
            assert!(matches!(err, ImageError::Damaged { .. }), "{name} cut at {len}: {err}");
            let text = err.to_string();
            assert!(text.starts_with("is damaged: ") && text.len() < 160, "{text}");
        }
    }
}

#[test]
fn a_jpeg_whose_preview_is_whole_still_breaks_off() {
    let photograph = file("baseline.jpg");
    let mut segment = vec![0xFF, 0xE1];
    segment.extend_from_slice(&u16::try_from(photograph.len() + 2).unwrap().to_be_bytes());
    segment.extend_from_slice(&photograph);
    let with_preview = [&photograph[..2], &segment, &photograph[2..]].concat();
    decode(&with_preview, &Limits::default()).unwrap();
    let cut = &with_preview[..with_preview.len() - 30];
    assert_eq!(refused(cut).to_string(), "is damaged: it breaks off");
}

#[test]
fn a_jpeg_of_endless_scans_is_refused() {
    let photograph = file("progressive.jpg");
    let scan = photograph.windows(2).position(|two| two == [0xFF, 0xDA]).unwrap();
    let scans = [0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 5, 0, 0].repeat(100_000);
    let bomb = [&photograph[..scan], &scans, &photograph[scan..]].concat();
    assert_eq!(
        refused(&bomb).to_string(),
        "is of a kind that is not supported: more than 500 scans"
    );
}

#[test]
fn a_gif_whose_picture_is_larger_than_its_screen_is_held_to_the_limits() {
    let mut gif = file("clear.gif");
    let at = gif.windows(9).position(|nine| nine[0] == 0x2C && nine[1..5] == [0; 4]).unwrap();
    gif[at + 5..at + 9].copy_from_slice(&[0xFF; 4]);
    let before = memory_peak();
    refused(&gif);
    assert!(memory_peak() - before < 512 << 20);
}

/// A chunk of a WebP file.
fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut chunk = [&name[..], &u32::try_from(body.len()).unwrap().to_le_bytes(), body].concat();
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

/// The head of a picture whose every side has 16383 pixels, as both kinds write it.
fn huge(name: &[u8; 4]) -> Vec<u8> {
    let head: &[u8] = match name {
        b"VP8L" => &[0x2F, 0xFE, 0xBF, 0xFF, 0x0F],
        _ => &[0x10, 0, 0, 0x9D, 1, 0x2A, 0xFF, 0x3F, 0xFF, 0x3F],
    };
    chunk(name, &[head, &[0; 64]].concat())
}

/// A file of 16x16 pixels by its head, with these chunks.
fn webp(is_moving: bool, chunks: &[Vec<u8>]) -> Vec<u8> {
    let flags = if is_moving { 0x12 } else { 0x10 };
    let head = chunk(b"VP8X", &[flags, 0, 0, 0, 15, 0, 0, 15, 0, 0]);
    let body = [b"WEBP".to_vec(), head, chunks.concat()].concat();
    chunk(b"RIFF", &body)
}

/// A frame of 16x16 pixels by its head.
fn frame(chunks: &[Vec<u8>]) -> Vec<u8> {
    let head = [0, 0, 0, 0, 0, 0, 15, 0, 0, 15, 0, 0, 10, 0, 0, 0];
    chunk(b"ANMF", &[head.to_vec(), chunks.concat()].concat())
}

#[test]
fn a_webp_whose_picture_is_larger_than_its_head_says_is_held_to_the_limits() {
    let anim = || chunk(b"ANIM", &[0; 6]);
    let alpha = || chunk(b"ALPH", &[0; 300]);
    let small = || file("lossy.webp")[12..].to_vec();
    let before = memory_peak();
    for bomb in [
        webp(false, &[huge(b"VP8 ")]),
        webp(false, &[alpha(), huge(b"VP8 ")]),
        webp(false, &[huge(b"VP8L")]),
        webp(true, &[anim(), frame(&[huge(b"VP8 ")])]),
        webp(true, &[anim(), frame(&[huge(b"VP8L")])]),
        webp(true, &[anim(), frame(&[alpha(), huge(b"VP8 ")])]),
        // The second frame is never looked at, and refused all the same.
        webp(true, &[anim(), frame(&[small()]), frame(&[huge(b"VP8 ")])]),
    ] {
        let error = refused(&bomb);
        let is_held =
            matches!(error, ImageError::TooManyPixels { width: 16383, height: 16383, .. });
        assert!(is_held || error.to_string().contains("another size"), "{error}");
    }
    // Within the limits, and not as large as its frame: the decoder would look for its transparency
    // beyond the end.
    let other = webp(true, &[anim(), frame(&[alpha(), small()])]);
    assert_eq!(
        refused(&other).to_string(),
        "is damaged: a picture is of another size than its frame"
    );
    assert!(memory_peak() - before < 64 << 20);
}

#[test]
fn a_line_of_many_pixels_becomes_a_small_square() {
    let line = Picture::new(1_000_000, 1, vec![7; 3_000_000]).unwrap();
    let before = memory_peak();
    assert_eq!(square(&line, 448, 448, 128).len(), 448 * 448 * 3);
    assert!(memory_peak() - before < 32 << 20);
}

#[test]
fn a_picture_needs_its_pixels() {
    assert_eq!(Picture::new(0, 3, vec![]).unwrap_err(), ImageError::Empty);
    let text = Picture::new(2, 2, vec![0; 11]).unwrap_err().to_string();
    assert_eq!(text, "of 2x2 pixels does not have 11 bytes");
    assert!(Picture::new(u32::MAX, u32::MAX, vec![0; 3]).is_err());
}

/// Few enough pixels that a lie costs a test nothing.
const SMALL: Limits = Limits { bytes_max: 1 << 20, pixels_max: 100_000 };

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(start in 0..FILES.len(), rest: Vec<u8>) {
        let _ = decode(&rest, &SMALL);
        let whole = file(FILES[start]);
        let _ = decode(&[&whole[..whole.len().min(30)], &rest].concat(), &SMALL);
    }

    #[test]
    fn files_cut_anywhere_are_read_or_refused(which in 0..FILES.len(), part in 0.0..1.0) {
        let whole = file(FILES[which]);
        let _ = decode(&whole[..(whole.len() as f64 * part) as usize], &SMALL);
    }

    #[test]
    fn files_with_changed_bytes_are_read_or_refused(
        which in 0..FILES.len(),
        changes in prop::collection::vec((0.0..1.0, any::<u8>()), 1..8),
    ) {
        let mut bytes = file(FILES[which]);
        for (part, byte) in changes {
            let at = (bytes.len() as f64 * part) as usize;
            bytes[at] = byte;
        }
        if let Ok(picture) = decode(&bytes, &SMALL) {
            prop_assert_eq!(square(&picture, 8, 6, 128).len(), 8 * 6 * 3);
        }
    }
}
