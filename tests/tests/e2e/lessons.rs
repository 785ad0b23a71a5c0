//! What other servers got wrong and which tests hold it here: `tests/lessons.toml` against the
//! source tree, so that a test that is renamed or removed shows.

use std::{collections::BTreeSet, fs};

use rkllama_tests::repository;
use toml::{Table, Value};

/// Sections and how many lessons each has.
const SECTIONS: [(&str, usize); 9] = [
    ("A", 24),
    ("B", 16),
    ("C", 13),
    ("D", 19),
    ("E", 8),
    ("F", 11),
    ("G", 9),
    ("H", 11),
    ("I", 11),
];

fn lessons() -> Table {
    toml::from_str(&fs::read_to_string(repository().join("tests/lessons.toml")).unwrap()).unwrap()
}

#[test]
fn every_lesson_is_held_or_has_a_reason() {
    let expected: BTreeSet<String> = SECTIONS
        .iter()
        .flat_map(|(section, count)| (1..=*count).map(move |number| format!("{section}{number}")))
        .collect();
    let lessons = lessons();
    assert_eq!(lessons.keys().cloned().collect::<BTreeSet<_>>(), expected);
    let faults: Vec<String> = lessons
        .iter()
        .filter_map(|(id, lesson)| Some(format!("{id}: {}", fault(lesson.as_table().unwrap())?)))
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// What is wrong with a lesson's entry.
fn fault(lesson: &Table) -> Option<String> {
    let known = ["must", "held_by", "not_applicable"];
    if let Some(key) = lesson.keys().find(|key| !known.contains(&key.as_str())) {
        return Some(format!("'{key}' is no answer"));
    }
    let text = |key: &str| lesson.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if text("must").is_none() {
        return Some("what must be is not said".to_owned());
    }
    match (lesson.get("held_by").and_then(Value::as_array), text("not_applicable")) {
        (None, Some(_)) => None,
        (Some(tests), None) if !tests.is_empty() => {
            tests.iter().find_map(|test| missing(test.as_str().unwrap()))
        }
        _ => Some("either held_by or not_applicable".to_owned()),
    }
}

/// Why a test that is named as `file::function` is none.
fn missing(test: &str) -> Option<String> {
    let Some((file, function)) = test.rsplit_once("::") else {
        return Some(format!("{test}: not of the form file::function"));
    };
    let Ok(source) = fs::read_to_string(repository().join(file)) else {
        return Some(format!("{file} is not there"));
    };
    if file.ends_with(".py") {
        // What pytest takes for a test.
        let is_there = source.contains(&format!("\ndef {function}("));
        return (!is_there || !function.starts_with("test_"))
            .then(|| format!("no test {function} in {file}"));
    }
    let Some((before, _)) = source.split_once(&format!("fn {function}(")) else {
        return Some(format!("no {function} in {file}"));
    };
    // Attributes and comments stand between the function and the blank line or brace before it.
    let from = before.rfind("\n\n").max(before.rfind("{\n")).unwrap_or(0);
    let attributes = &before[from..];
    if attributes.contains("#[ignore") {
        return Some(format!("{test} is ignored"));
    }
    (!attributes.contains("test")).then(|| format!("{test} is no test"))
}

#[test]
fn a_name_that_is_no_test_is_noticed() {
    let here = "tests/tests/e2e/lessons.rs";
    assert_eq!(missing(&format!("{here}::a_name_that_is_no_test_is_noticed")), None);
    let python = "tests/sdk/test_openai_tools.py";
    assert_eq!(missing(&format!("{python}::test_the_loop_comes_to_its_end")), None);
    for wrong in [
        "a_name_that_is_no_test_is_noticed".to_owned(),
        "tests/nowhere.rs::a_name".to_owned(),
        format!("{here}::renamed_long_ago"),
        format!("{here}::lessons"),
        format!("{python}::test_renamed_long_ago"),
        format!("{python}::arguments_of"),
    ] {
        assert!(missing(&wrong).is_some(), "{wrong}");
    }
}

/// The guide's sections in the document of what is covered, against the tests of its requests.
#[test]
fn every_request_of_the_guide_has_its_test_in_the_document() {
    let read = |file: &str| fs::read_to_string(repository().join(file)).unwrap();
    let document = read("openapi/coverage.md");
    let (_, guide) = document.split_once("\n# The guide").unwrap();
    let named: BTreeSet<&str> = guide.split('`').filter(|word| word.starts_with("test_")).collect();
    let source = read("tests/spec/test_openai_guide.py");
    let tests = python_tests(&source);
    assert!(tests.len() > 10);
    assert_eq!(named, tests);
}

/// The tests of a file for pytest.
fn python_tests(source: &str) -> BTreeSet<&str> {
    source
        .lines()
        .filter_map(|line| line.strip_prefix("def test_").map(|_| &line["def ".len()..]))
        .map(|line| line.split_once('(').unwrap().0)
        .collect()
}

/// The same for the guides to other APIs, each with the file of its tests in its title.
#[test]
fn every_request_of_the_other_guides_has_its_test_in_the_document() {
    let read = |file: &str| fs::read_to_string(repository().join(file)).unwrap();
    let document = read("compat/COVERAGE.md");
    let (guides, _) = document.split_once("\n# Where answers differ").unwrap();
    let mut count = 0;
    for guide in guides.split("\n## ").skip(1) {
        let (title, table) = guide.split_once('\n').unwrap();
        let file = title.split('`').nth(1).unwrap();
        let named: BTreeSet<&str> =
            table.split('`').filter(|word| word.starts_with("test_")).collect();
        let source = read(file);
        assert_eq!(named, python_tests(&source), "{file}");
        count += 1;
    }
    assert_eq!(count, 3);
}
