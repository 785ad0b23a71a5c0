//! One page with everything in it: tables, and plots drawn here as SVG, so that it opens without a
//! network and without a script.

use std::fmt::Write;

use crate::run::{Outcome, Run};

/// A plot's size, in points.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 200.0;
const MARGIN: f64 = 48.0;
/// Colours of this run and of the one before.
const COLOURS: [&str; 2] = ["#0a6", "#c50"];

/// What can be drawn: a caption and how to read it from a run, as points of seconds and value.
type Read = fn(&Run) -> Vec<(f64, f64)>;
const PLOTS: [(&str, Read); 5] = [
    ("Time to first token, ms", |run| {
        run.figures.iter().map(|it| (it.at_s, it.first_token_ms)).collect()
    }),
    ("Tokens a second", |run| {
        run.figures.iter().filter_map(|it| Some((it.at_s, it.tokens_per_s?))).collect()
    }),
    ("Memory, MB", |run| {
        run.samples.iter().filter_map(|it| Some((it.at_s, it.memory_mb?))).collect()
    }),
    ("Temperature, °C", |run| {
        run.samples.iter().filter_map(|it| Some((it.at_s, it.temperature_c?))).collect()
    }),
    ("NPU load, %", |run| {
        run.samples.iter().filter_map(|it| Some((it.at_s, it.npu_load_percent?))).collect()
    }),
];

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page of a run, beside an earlier one where there is one.
pub fn html(run: &Run, before: Option<&Run>) -> String {
    let runs: Vec<&Run> = [Some(run), before].into_iter().flatten().collect();
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>\
         body{{font:15px sans-serif;margin:2em;max-width:60em}}table{{border-collapse:collapse}}\
         td,th{{padding:.2em .8em;text-align:left;border-bottom:1px solid #ccc}}\
         .failed{{color:#c00;font-weight:bold}}.skipped{{color:#777}}text{{font:12px sans-serif}}\
         </style><h1>{title}</h1>",
        title = escaped(&format!("rkllama {} on {}", run.version, run.target)),
    );
    for (one, colour) in runs.iter().zip(COLOURS) {
        let words = escaped(&format!("{} {}: {}", one.target, one.version, one.summary()));
        page += &format!("<p class=\"summary\" style=\"color:{colour}\">■ {words}</p>");
    }
    for (caption, read) in PLOTS {
        let series: Vec<Vec<(f64, f64)>> = runs.iter().map(|it| read(it)).collect();
        page += &format!("<h2>{caption}</h2>{}", plot(caption, &series));
    }
    page + &table(run, before) + "</html>\n"
}

fn plot(caption: &str, series: &[Vec<(f64, f64)>]) -> String {
    let points = || series.iter().flatten();
    if points().next().is_none() {
        return "<p class=\"skipped\">The target does not tell.</p>".to_owned();
    }
    let end = points().map(|it| it.0).fold(f64::MIN_POSITIVE, f64::max);
    let top = points().map(|it| it.1).fold(f64::MIN_POSITIVE, f64::max) * 1.1;
    let x = |at: f64| MARGIN + at / end * (WIDTH - 2.0 * MARGIN);
    let y = |value: f64| HEIGHT - MARGIN / 2.0 - value / top * (HEIGHT - MARGIN);
    let mut svg = format!(
        "<svg role=\"img\" aria-label=\"{caption}\" width=\"{WIDTH}\" height=\"{HEIGHT}\">\
         <path d=\"M{MARGIN} 0V{bottom}H{WIDTH}\" fill=\"none\" stroke=\"#888\"/>\
         <text x=\"0\" y=\"12\">{top:.1}</text><text x=\"0\" y=\"{bottom}\">0</text>\
         <text x=\"{right}\" y=\"{HEIGHT}\">{end:.1} s</text>",
        bottom = y(0.0),
        right = WIDTH - MARGIN,
    );
    for (points, colour) in series.iter().zip(COLOURS) {
        let line: String =
            points.iter().map(|it| format!("{:.1},{:.1} ", x(it.0), y(it.1))).collect();
        svg += &format!("<polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\"/>");
        for point in points {
            svg += &format!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"><title>{:.1}</title>\
                 </circle>",
                x(point.0),
                y(point.1),
                point.1
            );
        }
    }
    svg + "</svg>"
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed(_) => "failed",
        Outcome::Skipped(_) => "skipped",
    }
}

fn table(run: &Run, before: Option<&Run>) -> String {
    let mut table = "<h2>Scenarios</h2><table><tr><th>scenario<th>result<th>seconds<th>before\
                     <th>reason</tr>"
        .to_owned();
    for case in &run.cases {
        let earlier = before
            .and_then(|it| it.cases.iter().find(|it| it.name == case.name))
            .map(|it| format!("{} {:.2}", word(&it.outcome), it.took_s));
        let reason = match &case.outcome {
            Outcome::Passed => "",
            Outcome::Failed(why) | Outcome::Skipped(why) => why,
        };
        let row = write!(
            table,
            "<tr><td>{}<td class=\"{word}\">{word}<td>{:.2}<td>{}<td>{}</tr>",
            escaped(&case.name),
            case.took_s,
            earlier.unwrap_or_default(),
            escaped(reason),
            word = word(&case.outcome),
        );
        debug_assert!(row.is_ok(), "a string takes everything");
    }
    table + "</table>"
}
