//! One page with everything in it: tables, and plots drawn here as SVG, so that it opens without a
//! network and without a script.

use std::fmt::Write;

use super::plot::{LOOKS, Series, plot};
use crate::{
    run::{Outcome, Run},
    stats::Spread,
};

/// What can be drawn: a caption, a unit, and how to read it from a run.
struct Figure {
    caption: &'static str,
    unit: &'static str,
    read: fn(&Run) -> Series,
}

const FIGURES: [Figure; 5] = [
    Figure {
        caption: "Time to first token",
        unit: "ms",
        read: |run| run.figures.iter().map(|it| (it.at_s, it.first_token_ms)).collect(),
    },
    Figure {
        caption: "Speed of answers",
        unit: "tokens/s",
        read: |run| run.figures.iter().filter_map(|it| Some((it.at_s, it.tokens_per_s?))).collect(),
    },
    Figure {
        caption: "Memory of the server and its models",
        unit: "MB",
        read: |run| run.samples.iter().filter_map(|it| Some((it.at_s, it.memory_mb?))).collect(),
    },
    Figure {
        caption: "Temperature of the hottest zone",
        unit: "°C",
        read: |run| {
            run.samples.iter().filter_map(|it| Some((it.at_s, it.temperature_c?))).collect()
        },
    },
    Figure {
        caption: "NPU load, mean of the cores",
        unit: "%",
        read: |run| {
            run.samples.iter().filter_map(|it| Some((it.at_s, it.npu_load_percent?))).collect()
        },
    },
];

const STYLE: &str = "body{font:15px sans-serif;margin:2em auto;max-width:62em;padding:0 1em;color:#222}\
     table{border-collapse:collapse;margin:1em 0}h2{margin:1.6em 0 .3em}\
     td,th{padding:.25em .8em;text-align:left;border-bottom:1px solid #ccc;vertical-align:top}\
     .failed{color:#c00;font-weight:bold}.skipped,.absent{color:#666}\
     p.run,p.legend{margin:.2em 0}p.legend span{margin-right:1.5em}\
     svg{display:block;max-width:100%;height:auto}svg text{font:12px sans-serif;fill:#333}\
     svg .grid{stroke:#e2e2e2}svg .axis{stroke:#666;fill:none}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A run with what it is called on this page.
struct Named<'a> {
    run: &'a Run,
    name: &'static str,
    colour: &'static str,
    class: &'static str,
}

/// The page of a run, beside an earlier one where there is one.
pub fn html(run: &Run, before: Option<&Run>) -> String {
    let runs: Vec<Named<'_>> = [Some(run), before]
        .into_iter()
        .zip(["this run", "the run before"])
        .zip(&LOOKS)
        .filter_map(|((run, name), look)| {
            Some(Named { run: run?, name, colour: look.colour, class: look.class })
        })
        .collect();
    let title = escaped(&format!("rkllama {} on {}", run.version, run.target));
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style><h1>{title}</h1>"
    );
    for Named { run, name, .. } in &runs {
        let words = format!("{name}: rkllama {} on {}: {}", run.version, run.target, run.summary());
        page += &format!("<p class=\"run\">{}</p>", escaped(&words));
    }
    page += &medians(&runs);
    for figure in &FIGURES {
        page += &drawn(figure, &runs);
    }
    page + &scenarios(run, before) + "</html>\n"
}

fn drawn(figure: &Figure, runs: &[Named<'_>]) -> String {
    let Figure { caption, unit, read } = figure;
    let series: Vec<Series> = runs.iter().map(|it| read(it.run)).collect();
    let Some(picture) = plot(caption, unit, &series) else {
        return format!("<h2>{caption}</h2><p class=\"absent\">The target does not tell.</p>");
    };
    let legend: String = runs
        .iter()
        .zip(&series)
        .map(|(Named { name, colour, class, .. }, points)| match points.is_empty() {
            true => format!("<span class=\"absent\">{name} has no such figure</span>"),
            false => {
                let mark = if *class == LOOKS[0].class { "●" } else { "■" };
                format!("<span class=\"{class}\" style=\"color:{colour}\">{mark} {name}</span>")
            }
        })
        .collect();
    format!("<h2>{caption}</h2><p class=\"legend\">{legend}</p>{picture}")
}

/// Each figure as its median and range, and how the median has changed.
fn medians(runs: &[Named<'_>]) -> String {
    let names: String = runs.iter().map(|it| format!("<th>{}", it.name)).collect();
    let change = if runs.len() > 1 { "<th>change" } else { "" };
    let mut table =
        format!("<table id=\"medians\"><tr><th>median (lowest to highest){names}{change}</tr>");
    for Figure { caption, unit, read } in &FIGURES {
        let spreads: Vec<Option<Spread>> = runs
            .iter()
            .map(|it| Spread::of(&read(it.run).into_iter().map(|it| it.1).collect::<Vec<_>>()))
            .collect();
        table += &format!("<tr><td>{caption}, {unit}");
        for spread in &spreads {
            table += &match spread {
                Some(it) => format!("<td>{:.1} ({:.1} to {:.1})", it.median, it.min, it.max),
                None => "<td class=\"absent\">not told".to_owned(),
            };
        }
        if let [Some(now), Some(then)] = spreads.as_slice()
            && then.median > 0.0
        {
            table += &format!("<td>{:+.1} %", (now.median / then.median - 1.0) * 100.0);
        }
        table += "</tr>";
    }
    table + "</table>"
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed(_) => "failed",
        Outcome::Skipped(_) => "skipped",
    }
}

fn scenarios(run: &Run, before: Option<&Run>) -> String {
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
