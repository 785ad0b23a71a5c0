//! The walls between the rooms: ARCHITECTURE.md's table against the manifests, and the ban on
//! unsafe code against every crate's root file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
};

use rkllama_tests::repository;
use serde_json::Value;

type Edges = BTreeMap<String, BTreeSet<String>>;

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn ours(name: &str) -> bool {
    name.starts_with("rkllama") || name.starts_with("mock-npu")
}

/// What the manifests say. Dependencies of tests do not count: they are in no product.
fn built() -> Edges {
    let of_package = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let names = dependencies
            .filter(|dependency| dependency["kind"] != "dev")
            .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
            .filter(|name| ours(name))
            .collect();
        (package["name"].as_str().unwrap().to_owned(), names)
    };
    packages().iter().map(of_package).collect()
}

fn crates_in(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What ARCHITECTURE.md says.
fn written() -> Edges {
    let page = fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    let rooms = page.split("## Rooms").nth(1).unwrap().split("\n## ").next().unwrap();
    rooms
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            let name = crates_in(cells[1]).pop_first().unwrap();
            (name, crates_in(cells[3]))
        })
        .collect()
}

#[test]
fn the_manifests_keep_the_walls_of_the_architecture() {
    let (built, mut written) = (built(), written());
    // One row stands for all crates of the mock, which may use each other and nothing else.
    written.remove("mock-npu-*").expect("a row for the mock");
    for (name, uses) in &built {
        if name.starts_with("mock-npu") {
            assert!(uses.iter().all(|used| used.starts_with("mock-npu")), "{name}: {uses:?}");
        }
    }
    let product: Edges =
        built.into_iter().filter(|(name, _)| !name.starts_with("mock-npu")).collect();
    assert_eq!(product, written);
}

#[test]
fn unsafe_code_is_forbidden_outside_the_two_rooms_that_need_it() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        if name == "rkllama-npu" || name.starts_with("mock-npu") {
            continue;
        }
        for target in package["targets"].as_array().unwrap() {
            let kind = target["kind"][0].as_str().unwrap();
            if kind == "lib" || kind == "bin" {
                let root = PathBuf::from(target["src_path"].as_str().unwrap());
                let source = fs::read_to_string(&root).unwrap();
                assert!(source.contains("#![forbid(unsafe_code)]"), "{}", root.display());
            }
        }
    }
}

/// The mock is found by its path alone: no line of the product may know it.
#[test]
fn the_server_does_not_know_the_mock() {
    let mut folders = vec![repository().join("src"), repository().join("openapi")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Tests do use it.
                if !path.ends_with("tests") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).unwrap();
                let product = source.split("#[cfg(test)]").next().unwrap();
                assert!(!product.to_lowercase().contains("mock"), "{}", path.display());
                files += 1;
            }
        }
    }
    assert!(files > 20, "only {files} files looked at");
}
