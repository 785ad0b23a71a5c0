//! Bilinear resizing as OpenCV's `INTER_LINEAR` does it: each new pixel from the four nearest old
//! ones, however much smaller the picture becomes. Libraries average over all pixels that a new one
//! covers: that looks better, and is not what encoders are fed in the programs they are measured with.

use crate::Picture;

/// The picture in the middle of a square of `fill`, resized to `width` times `height`. Three bytes a
/// pixel, row after row.
///
/// The square is never made: of a picture of a hundred thousand pixels in one row it would take
/// gigabytes.
pub fn square(picture: &Picture, width: u32, height: u32, fill: u8) -> Vec<u8> {
    let side = picture.width().max(picture.height());
    let frame = Frame {
        picture,
        width: side,
        height: side,
        left: (side - picture.width()) / 2,
        top: (side - picture.height()) / 2,
        fill,
    };
    frame.resized(width, height)
}

/// The picture alone, resized.
pub(crate) fn resized(picture: &Picture, width: u32, height: u32) -> Vec<u8> {
    let (own_width, own_height) = (picture.width(), picture.height());
    let frame = Frame { picture, width: own_width, height: own_height, left: 0, top: 0, fill: 0 };
    frame.resized(width, height)
}

/// A picture with something around it, as if it were all there.
struct Frame<'a> {
    picture: &'a Picture,
    width: u32,
    height: u32,
    left: u32,
    top: u32,
    fill: u8,
}

/// Two neighbours on one axis, and how much of the second counts.
#[derive(Clone, Copy)]
struct Between {
    first: u32,
    second: u32,
    part: f64,
}

impl Frame<'_> {
    fn resized(&self, width: u32, height: u32) -> Vec<u8> {
        let columns: Vec<Between> = between(self.width, width).collect();
        let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
        for row in between(self.height, height) {
            for column in &columns {
                rgb.extend_from_slice(&self.mixed(*column, row));
            }
        }
        rgb
    }

    fn mixed(&self, column: Between, row: Between) -> [u8; 3] {
        let [upper_left, upper_right, lower_left, lower_right] = [
            self.at(column.first, row.first),
            self.at(column.second, row.first),
            self.at(column.first, row.second),
            self.at(column.second, row.second),
        ];
        std::array::from_fn(|colour| {
            let upper = mix(upper_left[colour].into(), upper_right[colour].into(), column.part);
            let lower = mix(lower_left[colour].into(), lower_right[colour].into(), column.part);
            mix(upper, lower, row.part).round() as u8
        })
    }

    fn at(&self, x: u32, y: u32) -> [u8; 3] {
        match (x.checked_sub(self.left), y.checked_sub(self.top)) {
            (Some(x), Some(y)) if x < self.picture.width() && y < self.picture.height() => {
                self.picture.at(x, y)
            }
            _ => [self.fill; 3],
        }
    }
}

fn mix(first: f64, second: f64, part: f64) -> f64 {
    first + (second - first) * part
}

/// For each of `to` places on an axis the two of `from` around it. Centres lie on centres, and what
/// lies outside takes the outermost.
fn between(from: u32, to: u32) -> impl Iterator<Item = Between> {
    let scale = f64::from(from) / f64::from(to);
    let last = f64::from(from - 1);
    (0..to).map(move |place| {
        let centre = ((f64::from(place) + 0.5) * scale - 0.5).clamp(0.0, last);
        let first = centre.floor();
        Between {
            first: first as u32,
            second: (first + 1.0).min(last) as u32,
            part: centre - first,
        }
    })
}
