//! A figure over time as SVG: one line for each run, on axes that say what they count.

use std::fmt::Write;

/// The picture's size, and the room around the axes for their words, in points.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;
/// An axis has about so many marks.
const MARKS: f64 = 5.0;

/// Points of one run: seconds since it began, and the value.
pub(super) type Series = Vec<(f64, f64)>;

/// How a run looks: also without colours they are told apart by their lines and points.
pub(super) struct Look {
    /// The class of its line and its points.
    pub(super) class: &'static str,
    /// The colour of both.
    pub(super) colour: &'static str,
    dashes: &'static str,
    is_round: bool,
}

/// The looks of this run and of the one before.
pub(super) const LOOKS: [Look; 2] = [
    Look { class: "this-run", colour: "#07735a", dashes: "none", is_round: true },
    Look { class: "run-before", colour: "#c2500a", dashes: "6 4", is_round: false },
];

/// An axis from 0 to a round number.
struct Axis {
    step: f64,
    end: f64,
}

impl Axis {
    fn up_to(most: f64) -> Self {
        let rough = most.max(f64::MIN_POSITIVE) / MARKS;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|it| it * magnitude);
        let step = step.into_iter().find(|it| *it >= rough).unwrap_or(rough);
        Self { step, end: (most / step).ceil().max(1.0) * step }
    }

    fn marks(&self) -> impl Iterator<Item = (f64, String)> {
        let decimals = if self.step < 1.0 { (-self.step.log10()).ceil() as usize } else { 0 };
        let count = (self.end / self.step).round() as u32;
        (0..=count)
            .map(move |it| f64::from(it) * self.step)
            .map(move |it| (it, format!("{it:.decimals$}")))
    }
}

/// The picture of a figure, where any run has it.
pub(super) fn plot(caption: &str, unit: &str, runs: &[Series]) -> Option<String> {
    let points = || runs.iter().flatten();
    let most = |of: fn(&(f64, f64)) -> f64| points().map(of).reduce(f64::max);
    let (across, up) = (Axis::up_to(most(|it| it.0)?), Axis::up_to(most(|it| it.1)?));
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let x = |at: f64| LEFT + at / across.end * (right - LEFT);
    let y = |value: f64| bottom - value / up.end * (bottom - TOP);
    let mut svg = format!(
        "<svg role=\"img\" aria-label=\"{caption}, {unit}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\">"
    );
    for (value, words) in up.marks() {
        let (at, text) = (y(value), LEFT - 8.0);
        svg += &format!(
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>\
             <text x=\"{text}\" y=\"{at:.1}\" dy=\"4\" text-anchor=\"end\">{words}</text>"
        );
    }
    for (value, words) in across.marks() {
        let (at, text) = (x(value), bottom + 16.0);
        svg += &format!(
            "<path class=\"axis\" d=\"M{at:.1} {bottom}v4\"/>\
             <text x=\"{at:.1}\" y=\"{text}\" text-anchor=\"middle\">{words}</text>"
        );
    }
    let (middle, centre) = (f64::midpoint(TOP, bottom), f64::midpoint(LEFT, right));
    svg += &format!(
        "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\
         <text class=\"unit\" transform=\"translate(14 {middle}) rotate(-90)\" \
         text-anchor=\"middle\">{unit}</text>\
         <text class=\"unit\" x=\"{centre}\" y=\"{}\" text-anchor=\"middle\">seconds since the \
         run began</text>",
        HEIGHT - 8.0
    );
    for (points, look) in runs.iter().zip(&LOOKS) {
        let points: Vec<_> = points.iter().map(|it| (x(it.0), y(it.1), it.1)).collect();
        svg += &line(&points, look);
    }
    Some(svg + "</svg>")
}

/// A run's line and its points, each of which tells its value to a mouse.
fn line(points: &[(f64, f64, f64)], look: &Look) -> String {
    let Look { class, colour, dashes, is_round } = look;
    let way: String = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1} ")).collect();
    let mut svg = format!(
        "<g class=\"{class}\" fill=\"{colour}\"><polyline points=\"{way}\" fill=\"none\" \
         stroke=\"{colour}\" stroke-width=\"1.5\" stroke-dasharray=\"{dashes}\"/>"
    );
    for (x, y, value) in points {
        let told = format!("<title>{value:.1}</title>");
        let written = match is_round {
            true => write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\">{told}</circle>"),
            false => {
                let (x, y) = (x - 3.0, y - 3.0);
                write!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"6\" height=\"6\">{told}</rect>"
                )
            }
        };
        debug_assert!(written.is_ok(), "a string takes everything");
    }
    svg + "</g>"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(most: f64) -> Vec<String> {
        Axis::up_to(most).marks().map(|it| it.1).collect()
    }

    #[test]
    fn an_axis_ends_at_a_round_number_beyond_everything() {
        assert_eq!(marks(58.3), ["0", "20", "40", "60"]);
        assert_eq!(marks(0.31), ["0.0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(marks(100.0), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(marks(0.0).len(), 2, "{:?}", marks(0.0));
    }

    #[test]
    fn what_no_run_has_is_not_drawn() {
        assert_eq!(plot("Load", "%", &[Vec::new(), Vec::new()]), None);
        let one = plot("Load", "%", &[Vec::new(), vec![(1.0, 2.0)]]).unwrap_or_default();
        assert!(one.contains("<rect") && !one.contains("<circle"), "{one}");
    }
}
