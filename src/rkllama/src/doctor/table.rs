//! The report for people: a table, the reasons below it, one line that sums up.

use std::fmt::Write;

use super::check::{Check, Report, Verdict};

const HEAD: [&str; 4] = ["CHECK", "FOUND", "VERDICT", "HOW TO MEND"];
const GAP: &str = "  ";

/// The whole text, without a line feed at its end.
pub(super) fn render(report: &Report) -> String {
    let rows: Vec<[String; 4]> = report.checks.iter().map(row).collect();
    let widths: [usize; 3] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or_default()
    });
    let mut text = String::new();
    line(&mut text, &HEAD, &widths);
    for row in &rows {
        line(&mut text, &row.each_ref().map(String::as_str), &widths);
    }
    let reasons: Vec<&Check> = report.checks.iter().filter(|c| c.reason.is_some()).collect();
    if !reasons.is_empty() {
        text.push_str("\nWhy:\n");
    }
    for check in reasons {
        let reason = check.reason.as_deref().unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}: {}", name(check), plain(reason));
    }
    text + "\n" + &summary(report)
}

fn row(check: &Check) -> [String; 4] {
    [
        name(check),
        plain(&check.found),
        check.verdict.word().to_owned(),
        plain(check.mend.as_deref().unwrap_or_default()),
    ]
}

fn name(check: &Check) -> String {
    let what = check.check.replace('-', " ");
    check.subject.as_ref().map_or_else(|| what.clone(), |which| plain(&format!("{what} {which}")))
}

fn line(text: &mut String, cells: &[&str; 4], widths: &[usize; 3]) {
    let [check, found, verdict] = widths;
    let cells = format!(
        "{:check$}{GAP}{:found$}{GAP}{:verdict$}{GAP}{}",
        cells[0], cells[1], cells[2], cells[3]
    );
    text.push_str(cells.trim_end());
    text.push('\n');
}

fn summary(report: &Report) -> String {
    let count = |verdict| report.checks.iter().filter(|check| check.verdict == verdict).count();
    format!(
        "rkllama {}: {} ok, {} to improve, {} failed, {} not to be seen",
        report.rkllama,
        count(Verdict::Ok),
        count(Verdict::Warn),
        count(Verdict::Fail),
        count(Verdict::Unseen),
    )
}

/// On one line, and nothing that a terminal would obey: names of files and boards are others' words.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}
