//! Compiles the C conformance program for every group against its header, links it with the
//! group's library and reads its TAP.
//!
//! `MOCK_NPU_LIBS` names a folder that `ci/mock` has filled; without it the libraries are built
//! here. `MOCK_NPU_CFLAGS` adds compiler flags, `-fsanitize=address` for example, and
//! `MOCK_NPU_WRAPPER` a program to run it under, `valgrind` for example.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use mock_npu_core::abi::default_param::DEFAULTS_JSON;
use mock_npu_core::abi::layout::{Group, Layout};
use mock_npu_core::generate::NewModel;
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout")
}

fn libraries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("MOCK_NPU_LIBS") {
            return PathBuf::from(folder);
        }
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
        let built = Command::new("bash")
            .arg(repository().join("ci/mock"))
            .env("CARGO_TARGET_DIR", target)
            .output()
            .expect("bash runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        target.join("mock")
    })
}

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
    let program = folder.join("rkllm");
    let mock = repository().join("mock-npu");
    let header = mock.join(format!("include/rkllm-{}.h", group.name().to_lowercase()));
    let flags = std::env::var("MOCK_NPU_CFLAGS").unwrap_or_default();
    let compiled = Command::new("cc")
        .args(["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g", "-include"])
        .arg(header)
        .args(flags.split_whitespace())
        .arg("-I")
        .arg(folder)
        .arg(mock.join("conformance/rkllm.c"))
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(library)
        .args(["-lrkllmrt", "-lpthread"])
        .output()
        .expect("cc runs");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    program
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
    let wrapper = std::env::var("MOCK_NPU_WRAPPER").unwrap_or_default();
    let mut words = wrapper.split_whitespace();
    let mut command = match words.next() {
        Some(wrapper) => {
            let mut command = Command::new(wrapper);
            command.args(words).arg(&program);
            command
        }
        None => Command::new(&program),
    };
    for name in ["MOCK_NPU_SCRIPT", "MOCK_NPU_FAULTS", "MOCK_NPU_SEED", "MOCK_NPU_TRACE"] {
        command.env_remove(name);
    }
    let output = command
        .arg(&path)
        .arg(folder.join("foreign"))
        .args(["64", &vocab_len(&tokenizer).to_string(), version])
        .arg(folder)
        .env("LD_LIBRARY_PATH", &library)
        .output()
        .expect("the program runs");
    let tap = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = tap.lines().filter(|line| line.starts_with("not ok")).collect();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(failed.is_empty(), "{version}:\n{}\n{stderr}", failed.join("\n"));
    let last = tap.lines().last().unwrap_or_default();
    let count = tap.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(last, format!("1..{count}"), "{version} ended early: {:?}\n{stderr}", output.status);
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
