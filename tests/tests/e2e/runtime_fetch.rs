//! `rkllama runtime fetch` from a server that is played here: what it installs, and what it does not.

use std::{fs, path::PathBuf, process::Output};

use rkllama_tests::mock_library;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

use crate::cli_support::{alone, complaint, printed, text};

/// A vendor with one file, and a home to fetch into.
struct Vendor {
    home: TempDir,
    server: MockServer,
    /// The server stops with it.
    _runtime: Runtime,
}

impl Vendor {
    fn of(content: &[u8]) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(async {
            let server = MockServer::start().await;
            let answer = ResponseTemplate::new(200).set_body_bytes(content.to_vec());
            Mock::given(path("/librkllmrt.so")).respond_with(answer).mount(&server).await;
            let moved = ResponseTemplate::new(302).insert_header("location", "/librkllmrt.so");
            Mock::given(path("/moved")).respond_with(moved).mount(&server).await;
            server
        });
        Self { home: TempDir::new().unwrap(), server, _runtime: runtime }
    }

    fn run(&self, args: &[&str]) -> Output {
        alone(args)
            .env("HOME", self.home.path())
            .env("XDG_DATA_HOME", self.data())
            .output()
            .unwrap()
    }

    fn fetch(&self, at: &str, more: &[&str]) -> Output {
        let (url, into) = (format!("{}{at}", self.server.uri()), self.runtimes());
        let mut args = vec!["runtime", "fetch", "--from", &url];
        args.extend(["--into", into.to_str().unwrap()]);
        args.extend(more);
        self.run(&args)
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Where `serve` looks.
    fn runtimes(&self) -> PathBuf {
        self.data().join("rkllama/runtimes")
    }

    /// What lies there, hidden files too.
    fn installed(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.runtimes()) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn library(version: &str) -> Vec<u8> {
    fs::read(mock_library(version)).unwrap()
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn releases_whose_hash_is_given_lie_side_by_side_where_doctor_and_serve_look() {
    let (old, new) = (library("1.2.3"), library("1.3.0"));
    let vendor = Vendor::of(&old);
    let said = printed(&vendor.fetch("/librkllmrt.so", &["--sha256", &sha256(&old)]));
    let place = vendor.runtimes().join("1.2.3/librkllmrt.so");
    assert!(said.contains(&format!("installed {}", place.display())), "{said}");
    assert_eq!(fs::read(&place).unwrap(), old);

    let other = Vendor { home: vendor.home, ..Vendor::of(&new) };
    // Upper case is the same number, and addresses may lead on.
    printed(&other.fetch("/moved", &["1.3.0", "--sha256", &sha256(&new).to_uppercase()]));
    assert_eq!(other.installed(), ["1.2.3", "1.3.0"]);
    let report = other.run(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let found: Vec<&str> = checks
        .iter()
        .filter(|check| check["check"] == "runtime" && check["verdict"] == "ok")
        .filter_map(|check| check["found"].as_str())
        .filter(|found| found.contains("rkllama/runtimes/"))
        .collect();
    assert_eq!(found.len(), 2, "{report:#}");
    assert!(found[0].contains("/1.3.0/") && found[1].contains("/1.2.3/"), "{found:?}");
}

#[test]
fn an_unknown_hash_is_printed_and_installed_only_on_trust() {
    let content = library("1.2.3");
    let vendor = Vendor::of(&content);
    let refused = vendor.fetch("/librkllmrt.so", &[]);
    assert!(text(&refused.stdout).contains(&sha256(&content)), "{refused:?}");
    let complaint = complaint(&refused);
    assert!(complaint.contains("nothing is installed") && complaint.contains("--trust"));
    assert!(complaint.contains(&format!("--sha256 {}", sha256(&content))), "{complaint}");
    assert_eq!(vendor.installed(), [""; 0]);
    printed(&vendor.fetch("/librkllmrt.so", &["--trust"]));
    assert_eq!(vendor.installed(), ["1.2.3"]);
}

#[test]
fn another_content_than_the_known_one_is_not_installed_even_on_trust() {
    let content = library("1.3.1");
    let vendor = Vendor::of(&content);
    for more in [&["1.3.1", "--trust"][..], &["--sha256", &"0".repeat(64), "--trust"]] {
        let refused = complaint(&vendor.fetch("/librkllmrt.so", more));
        assert!(refused.contains(&sha256(&content)), "{refused}");
        assert!(refused.contains("instead of"), "{refused}");
    }
    let complaint = complaint(&vendor.fetch("/librkllmrt.so", &["--trust"]));
    assert!(complaint.contains("release 1.3.1 is known with SHA-256 f25e9b09"), "{complaint}");
    assert_eq!(vendor.installed(), [""; 0]);
}

#[test]
fn what_is_no_runtime_or_another_release_is_not_installed() {
    let page = Vendor::of(b"<html>sign in</html>");
    let no_library = complaint(&page.fetch("/librkllmrt.so", &["--trust"]));
    assert!(no_library.contains("is not a shared library"), "{no_library}");
    assert!(!no_library.contains(".incoming"), "{no_library}");
    assert_eq!(page.installed(), [""; 0]);

    let vendor = Vendor::of(&library("1.2.3"));
    let other = complaint(&vendor.fetch("/librkllmrt.so", &["1.2.2", "--trust"]));
    assert!(other.contains("is release 1.2.3, not 1.2.2"), "{other}");
    let nothing = complaint(&vendor.fetch("/elsewhere", &["--trust"]));
    assert!(nothing.contains("there is nothing at http://"), "{nothing}");
    assert_eq!(vendor.installed(), [""; 0]);
}
