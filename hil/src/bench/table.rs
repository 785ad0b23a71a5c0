//! The figures as a page of Markdown shows them.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, bail};

use super::figures::{BARE, Bench, Compared, Kind, Part, Side};
use crate::stats::Spread;

/// What stands around the tables in a page that has other words too.
const MARKS: [&str; 2] = ["<!-- figures -->", "<!-- end of figures -->"];

/// All parts, each as a table of medians with the lowest and the highest value.
pub fn table(bench: &Bench) -> String {
    let mut page =
        format!("rkllama {} on {}, rounds: {}\n\n", bench.version, bench.target, bench.runs);
    for line in &bench.machine {
        page += &format!("- {line}\n");
    }
    for part in &bench.parts {
        page += &format!("\n### {}\n\n{}\n", part.name, rows(part));
        page += &format!("{}\n", part.notes.join(" "));
    }
    page
}

fn rows(part: &Part) -> String {
    let mut sides = part.sides.iter().collect::<Vec<_>>();
    let bare = (sides.first().is_some_and(|it| it.name == BARE)).then(|| sides.remove(0));
    let mut names: Vec<&str> = bare.map(|it| it.name.as_str()).into_iter().collect();
    for (at, side) in sides.iter().enumerate() {
        names.push(&side.name);
        if bare.is_some() && at == 0 {
            names.push("against the loop");
        }
    }
    let mut rows = format!("| median (lowest to highest) | {} |\n", names.join(" | "));
    rows += &format!("| --- |{}\n", " --- |".repeat(names.len()));
    let kinds: BTreeSet<Kind> =
        part.sides.iter().flat_map(|it| it.figures.keys().copied()).collect();
    for kind in kinds {
        let of = |side: &Side| side.figures.get(&kind).copied();
        let mut cells: Vec<String> = bare.map(|it| cell(of(it))).into_iter().collect();
        for (at, side) in sides.iter().enumerate() {
            cells.push(cell(of(side)));
            if let (Some(bare), 0) = (bare, at) {
                cells.push(compared(kind, of(bare), of(side)));
            }
        }
        rows += &format!("| {} | {} |\n", kind.caption(), cells.join(" | "));
    }
    rows
}

fn cell(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |it| {
        format!("{} ({} to {})", number(it.median), number(it.min), number(it.max))
    })
}

fn compared(kind: Kind, bare: Option<Spread>, side: Option<Spread>) -> String {
    let (Some(bare), Some(side)) = (bare, side) else { return String::new() };
    let difference = side.median - bare.median;
    match kind.compared() {
        Compared::Share => format!("{:.2} %", side.median / bare.median * 100.0),
        Compared::Difference if difference < 0.0 => format!("−{}", number(-difference)),
        Compared::Difference => format!("+{}", number(difference)),
    }
}

/// Three digits or so: no more can be meant.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        it if it >= 100.0 => 0,
        it if it >= 10.0 => 1,
        it if it >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// Puts the tables between the marks of a page.
///
/// # Errors
/// It cannot be read or written, or has no marks.
pub fn put_into(page: &Path, bench: &Bench) -> anyhow::Result<()> {
    let of = || page.display().to_string();
    let text = std::fs::read_to_string(page).with_context(of)?;
    let parts = text
        .split_once(MARKS[0])
        .and_then(|(before, rest)| Some((before, rest.split_once(MARKS[1])?.1)));
    let Some((before, after)) = parts else {
        bail!("{} lacks the lines {} and {}", of(), MARKS[0], MARKS[1]);
    };
    let [begin, end] = MARKS;
    std::fs::write(page, format!("{before}{begin}\n\n{}\n{end}{after}", table(bench)))
        .with_context(of)
}
