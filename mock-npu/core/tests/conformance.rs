//! Compiles the C conformance program for every group against its header, links it with the
//! group's library and reads its TAP.
//!
//! `MOCK_NPU_LIBS` names a folder that `ci/mock` has filled; without it the libraries are built
//! here. `MOCK_NPU_CFLAGS` adds compiler flags, `-fsanitize=address` for example, and
//! `MOCK_NPU_WRAPPER` a program to run it under, `valgrind` for example.

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use mock_npu_core::abi::default_param::DEFAULTS_JSON;
use mock_npu_core::abi::layout::{Group, Layout};
use mock_npu_core::generate::NewModel;
use serde_json::Value;

use common::{command, compile, libraries, repository};

/// Every size and offset of the group as a line for the C program.
fn layout_checks(group: Group) -> String {
    let layout = Layout::of(group);
    let mut text = String::new();
    for name in layout.names() {
        let structure = layout.structure(name);
        writeln!(text, "SIZE({name}, {})", structure.size).expect("written");
        for field in &structure.fields {
            writeln!(text, "OFFSET({name}, {}, {})", field.name, field.offset).expect("written");
        }
    }
    text
}

fn default_checks(group: Group) -> String {
    let defaults: Value = serde_json::from_str(DEFAULTS_JSON).expect("JSON");
    let layout = Layout::of(group);
    let mut text = String::new();
    for (name, prefix) in [("RKLLMParam", ""), ("RKLLMExtendParam", "extend_param.")] {
        let fields = &layout.structure(name).fields;
        for (key, value) in defaults[name].as_object().expect("a table") {
            let Some(field) = fields.iter().find(|field| field.name == *key) else { continue };
            let line = match value {
                Value::Null => format!("DEFAULT({prefix}{key}, NULL)"),
                Value::String(_) => format!("DEFAULT_TEXT({prefix}{key})"),
                number if field.c_type == "float" => {
                    format!("DEFAULT({prefix}{key}, {:?}f)", number.as_f64().expect("a number"))
                }
                number => format!("DEFAULT({prefix}{key}, {number})"),
            };
            writeln!(text, "{line}").expect("written");
        }
    }
    text
}

fn build(group: Group, library: &Path, folder: &Path) -> PathBuf {
    std::fs::write(folder.join("layout.inc"), layout_checks(group)).expect("written");
    std::fs::write(folder.join("defaults.inc"), default_checks(group)).expect("written");
    let header = format!("rkllm-{}.h", group.name().to_lowercase());
    compile("rkllm.c", Some(&header), library, "-lrkllmrt", folder)
}

/// Ids of the demo's tokenizer, counted in its file.
fn vocab_len(tokenizer: &Path) -> usize {
    let text = std::fs::read_to_string(tokenizer).expect("there");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let vocab = file["model"]["vocab"].as_object().expect("a table").values();
    let added = file["added_tokens"].as_array().expect("a list").iter().map(|token| &token["id"]);
    let ids = vocab.chain(added).filter_map(Value::as_u64);
    ids.max().map_or(0, |max| max as usize + 1)
}

fn conform(group: Group, version: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let library = libraries().join(version);
    let program = build(group, &library, folder);
    let tokenizer = repository().join("mock-npu/demo/tokenizer.json");
    let model = NewModel { toolkit: version.to_owned(), ..NewModel::around(&tokenizer) };
    let path = folder.join("model.rkllm");
    std::fs::write(&path, model.text(folder).expect("a model")).expect("written");
    std::fs::write(folder.join("foreign"), "GGUF").expect("written");
    let output = command(&program, &library)
        .arg(&path)
        .arg(folder.join("foreign"))
        .args(["64", &vocab_len(&tokenizer).to_string(), version])
        .arg(folder)
        .output()
        .expect("the program runs");
    expect_tap(version, &output);
}

/// Every line is `ok`, and the plan at the end says that none is missing.
fn expect_tap(name: &str, output: &std::process::Output) {
    let tap = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = tap.lines().filter(|line| line.starts_with("not ok")).collect();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(failed.is_empty(), "{name}:\n{}\n{stderr}", failed.join("\n"));
    let last = tap.lines().last().unwrap_or_default();
    let count = tap.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(last, format!("1..{count}"), "{name} ended early: {:?}\n{stderr}", output.status);
    assert!(output.status.success(), "{:?}\n{stderr}", output.status);
}

#[test]
fn group_c_conforms() {
    conform(Group::C, "1.1.4");
}

#[test]
fn group_d_conforms() {
    conform(Group::D, "1.2.0");
}

#[test]
fn group_d1_conforms() {
    conform(Group::D1, "1.2.1b1");
}

#[test]
fn group_e_conforms() {
    for version in ["1.2.1", "1.2.2", "1.2.3"] {
        conform(Group::E, version);
    }
}

#[test]
fn group_f_conforms() {
    for version in ["1.3.0", "1.3.1"] {
        conform(Group::F, version);
    }
}

const ENCODER: &str = r#"RKNN-MOCK 1
target_platform = "RK3588"
[[input]]
name = "pixels"
dims = [1, 8, 8, 3]
fmt = "NHWC"
type = "uint8"
[[output]]
name = "embed"
dims = [1, 4, 16]
[[output]]
name = "deep"
dims = [1, 4, 16]
"#;

const POINTER: &str = r#"RKNN-MOCK 1
target_platform = "RK3588"
kind = "pointer"
[[input]]
name = "items"
dims = [4, 16]
[[input]]
name = "query"
dims = [1, 16]
[[output]]
name = "scores"
dims = [1, 4]
"#;

#[test]
fn the_encoder_library_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let library = libraries().join("1.3.0");
    let program = compile("rknn.c", None, &library, "-lrknnrt", folder);
    let files = [("encoder.rknn", ENCODER), ("pointer.rknn", POINTER), ("foreign", "RKNN")];
    let paths = files.map(|(name, text)| {
        std::fs::write(folder.join(name), text).expect("written");
        folder.join(name)
    });
    let output = command(&program, &library).args(paths).output().expect("the program runs");
    expect_tap("rknn", &output);
}
