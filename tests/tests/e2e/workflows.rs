//! The workflows against what they call: a renamed script or group would otherwise be noticed by whoever pushes next.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use regex::Regex;
use rkllama_tests::repository;

/// The workflows without their comments, by name.
fn workflows() -> BTreeMap<String, String> {
    let folder = repository().join(".github/workflows");
    let comment = Regex::new(r"(?m)(^|\s)#.*$").unwrap();
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, comment.replace_all(&text, "").into_owned())
    };
    fs::read_dir(folder).unwrap().map(read).collect()
}

/// The words of an array of `ci/test`.
fn groups(array: &str) -> BTreeSet<String> {
    let script = fs::read_to_string(repository().join("ci/test")).unwrap();
    let find = Regex::new(&format!(r"(?m)^{array}=\((.*)\)$")).unwrap();
    let found = find.captures(&script).unwrap_or_else(|| panic!("no {array} in ci/test"));
    found[1].split_whitespace().map(str::to_owned).collect()
}

/// What a workflow gives to `ci/test`: its matrix, one list of groups a line, or what stands behind the command.
fn tested(workflow: &str) -> BTreeSet<String> {
    let matrix = Regex::new(r"(?m)^ +groups:\n((?: +- .*\n)+)").unwrap();
    let direct = Regex::new(r"ci/test((?: [a-z-]+)+)").unwrap();
    let lists = matrix.captures_iter(workflow).chain(direct.captures_iter(workflow));
    let lists: Vec<String> = lists.map(|found| found[1].replace("- ", " ")).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).map(str::to_owned).collect()
}

#[test]
fn every_action_is_pinned_to_a_commit() {
    let uses = Regex::new(r"(?m)^[ -]*uses:\s*(\S+)\s*$").unwrap();
    let pinned = Regex::new(r"^[\w.-]+/[\w./-]+@[0-9a-f]{40}$").unwrap();
    let mut pins: BTreeMap<String, String> = BTreeMap::new();
    for (name, text) in workflows() {
        assert_eq!(uses.find_iter(&text).count(), text.matches("uses:").count(), "{name}");
        for found in uses.captures_iter(&text) {
            assert!(pinned.is_match(&found[1]), "{name}: {}", &found[1]);
            let (action, commit) = found[1].split_once('@').unwrap();
            let before = pins.entry(action.to_owned()).or_insert_with(|| commit.to_owned());
            assert_eq!(before, commit, "{name}: two versions of {action}");
        }
    }
    assert!(pins.contains_key("actions/checkout"), "{pins:?}");
}

#[test]
fn every_script_that_a_workflow_calls_is_there() {
    let script = Regex::new(r"(?m)[\s(](ci/[\w-]+)").unwrap();
    let mut called = BTreeSet::new();
    for (name, text) in workflows() {
        for found in script.captures_iter(&text) {
            assert!(repository().join(&found[1]).is_file(), "{name}: {}", &found[1]);
            called.insert(found[1].to_owned());
        }
    }
    for must in ["ci/setup", "ci/test", "ci/package", "ci/arm64"] {
        assert!(called.contains(must), "no workflow calls {must}");
    }
}

#[test]
fn the_workflows_test_every_group_that_there_is() {
    let (every_day, by_name) = (groups("every_day"), groups("by_name"));
    let workflows = workflows();
    let (daily, nightly) = (tested(&workflows["ci"]), tested(&workflows["nightly"]));
    let known = &every_day | &by_name;
    for (name, text) in &workflows {
        let unknown = &tested(text) - &known;
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
    }
    assert_eq!(&daily | &nightly, known);
    assert!(by_name.is_subset(&nightly), "{nightly:?}");
}

/// A board is somebody's: what a stranger wrote must not get there by a pull request alone.
#[test]
fn nobody_from_outside_reaches_the_board_by_a_pull_request() {
    let workflows = workflows();
    let job = Regex::new(r"(?m)^  \w+:$").unwrap();
    for (name, text) in &workflows {
        assert!(!text.contains("pull_request_target"), "{name}");
        assert_eq!(text.contains("self-hosted"), name == "hil", "{name}");
        assert!(text.contains("\npermissions:"), "{name} names no rights");
        let jobs = text.split("\njobs:\n").nth(1).unwrap();
        assert_eq!(jobs.matches("timeout-minutes:").count(), job.find_iter(jobs).count(), "{name}");
    }
    let hil = &workflows["hil"];
    let guard = "github.event_name != 'pull_request' ||\n      (github.event.label.name == 'hil' && \
                 github.event.pull_request.head.repo.full_name == github.repository)";
    assert!(hil.contains(guard), "{hil}");
    assert!(hil.contains("  pull_request:\n    types: [labeled]\n"), "{hil}");
    assert!(
        hil.contains("needs: build\n    runs-on: [self-hosted, rk3588]\n    environment: board")
    );
}
