//! The commands that need no server: what is made of the command line's definition, the configuration,
//! and the models of another folder.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::SystemTime,
};

use rkllama_tests::{ModelDir, ServerSetup, repository};
use tempfile::TempDir;

use crate::cli_support::{Hub, alone, complaint, printed, run, text};

/// The commands, as the help lists them.
fn commands() -> Vec<String> {
    let help = printed(&alone(&["--help"]).output().unwrap());
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    // What goes on in a second line is set in further.
    let commands = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands: Vec<String> =
        commands.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    assert!(commands.contains(&"serve".to_owned()) && commands.len() > 10, "{commands:?}");
    commands
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&alone(&["completions", shell]).output().unwrap());
        for command in commands() {
            let is_named = script
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == command);
            assert!(is_named, "{command} in {shell}");
        }
        assert!(script.contains("tokenizer"), "flags in {shell}");
    }
    let other = alone(&["completions", "tcsh"]).output().unwrap();
    assert_eq!(other.status.code(), Some(2), "{other:?}");
}

#[test]
fn there_is_a_page_for_every_command() {
    let page = printed(&alone(&["man"]).output().unwrap());
    assert!(page.contains(".TH rkllama 1"), "{page}");
    let dir = TempDir::new().unwrap();
    let into = dir.path().join("man/man1");
    assert_eq!(printed(&alone(&["man", "--dir", into.to_str().unwrap()]).output().unwrap()), "");
    for command in commands() {
        assert!(page.contains(&format!("rkllama\\-{command}(1)")), "{command} in {page}");
        let one = fs::read_to_string(into.join(format!("rkllama-{command}.1"))).unwrap();
        assert!(one.contains(".SH SYNOPSIS"), "{one}");
    }
    fs::write(dir.path().join("file"), "").unwrap();
    let file = dir.path().join("file");
    let refused = complaint(&alone(&["man", "--dir", file.to_str().unwrap()]).output().unwrap());
    assert!(refused.contains("/file"), "{refused}");
}

#[test]
fn the_configuration_in_force_is_printed_without_keys() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, "keep_alive = \"1m\"\n[auth]\nkeys = [\"ada:secret-of-ada-0123456789\"]\n")
        .unwrap();
    let path = file.to_str().unwrap();
    let mut command = alone(&["config", "--config", path, "--models", "/of/flags"]);
    command.env("RKLLAMA_AUTH__ALLOW_ANONYMOUS", "true").env("OLLAMA_CONTEXT_LENGTH", "8192");
    let shown = printed(&command.output().unwrap());
    assert!(!shown.contains("secret-of-ada"), "{shown}");
    assert!(shown.contains(path) && shown.contains("OLLAMA_CONTEXT_LENGTH"), "{shown}");
    let config: toml::Table = shown.parse().unwrap();
    assert_eq!(config["auth"]["keys"], toml::Value::from(vec!["ada:***"]));
    assert_eq!(config["auth"]["allow_anonymous"].as_bool(), Some(true));
    assert_eq!(config["models"].as_str(), Some("/of/flags"));
    assert_eq!(config["keep_alive"].as_float(), Some(60.0));
    assert_eq!(config["context_tokens_max"].as_integer(), Some(8192));
    // It can be given back.
    let printed_file = dir.path().join("printed.toml");
    fs::write(&printed_file, &shown).unwrap();
    let again = alone(&["config", "--config", printed_file.to_str().unwrap()]).output().unwrap();
    let again: toml::Table = printed(&again).parse().unwrap();
    assert_eq!(again, config);

    fs::write(&file, "lisen = \"127.0.0.1:1\"\n").unwrap();
    let wrong = complaint(&alone(&["config", "--config", path]).output().unwrap());
    assert!(wrong.contains("`lisen`"), "{wrong}");
}

/// Another program's folder of models: one that is whole, one without a tokenizer, one whose name we have
/// already, loose weights, and what is no model.
struct Others {
    dir: TempDir,
}

impl Others {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (theirs, ours) = (dir.path().join("theirs"), dir.path().join("ours"));
        for folder in [&theirs, &ours] {
            fs::create_dir(folder).unwrap();
            ModelDir::demo("taken").write(folder);
        }
        ModelDir::demo("whole").write(&theirs);
        ModelDir::demo("bare").write(&theirs);
        fs::remove_file(theirs.join("bare/tokenizer.json")).unwrap();
        fs::write(
            theirs.join("bare/Modelfile"),
            "FROM=\"bare.rkllm\"\nHUGGINGFACE_PATH=\"org/base\"\n",
        )
        .unwrap();
        fs::copy(theirs.join("whole/whole.rkllm"), theirs.join("loose.rkllm")).unwrap();
        fs::create_dir(theirs.join("notes")).unwrap();
        fs::write(theirs.join("notes/readme.txt"), "Read me.").unwrap();
        fs::write(dir.path().join("config.toml"), "").unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn adopt(&self, more: &[&str]) -> Output {
        let (theirs, ours, config) =
            (self.path("theirs"), self.path("ours"), self.path("config.toml"));
        let mut command = alone(&["adopt"]);
        command.arg(theirs).arg("--models").arg(ours).arg("--config").arg(config).args(more);
        command.output().unwrap()
    }
}

/// Every file below a folder: what it holds, and when it was written.
fn tree(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            found.extend(tree(&path));
        }
        let content = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        found.insert(path, (content, metadata.modified().unwrap()));
    }
    found
}

#[test]
fn models_of_another_folder_are_linked_and_left_alone() {
    let others = Others::new();
    let (theirs, taken) = (tree(&others.path("theirs")), tree(&others.path("ours/taken")));
    assert_eq!(
        printed(&others.adopt(&[])),
        "bare: linked; the tokenizer is missing (--fetch looks for it)\n\
         loose.rkllm: linked; the tokenizer is missing (--fetch looks for it)\n\
         taken: name is taken\n\
         whole: linked\n"
    );
    for name in ["bare", "loose.rkllm", "whole"] {
        let link = fs::read_link(others.path("ours").join(name)).unwrap();
        assert_eq!(link, fs::canonicalize(others.path("theirs")).unwrap().join(name));
    }
    assert!(!others.path("ours/notes").exists());
    assert!(printed(&others.adopt(&[])).ends_with("taken: name is taken\nwhole: already there\n"));
    assert_eq!(tree(&others.path("theirs")), theirs);
    assert_eq!(tree(&others.path("ours/taken")), taken);

    let setup = ServerSetup::new().mock("1.3.0");
    fs::remove_dir(setup.models()).unwrap();
    fs::rename(others.path("ours"), setup.models()).unwrap();
    let listed = printed(&run(&setup.start(), &["list"]));
    for (name, status) in [("whole", "unloaded"), ("bare", "incomplete"), ("loose", "incomplete")] {
        let row = listed.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row.contains(status), "{row}");
    }
}

#[test]
fn missing_tokenizers_are_fetched_on_request() {
    let tokenizer = fs::read(repository().join("mock-npu/demo/tokenizer.json")).unwrap();
    let hub = Hub::of(&[("org/base", "tokenizer.json", &tokenizer)]);
    let others = Others::new();
    fs::write(others.path("config.toml"), hub.config()).unwrap();
    let before = tree(&others.path("theirs"));
    let told = printed(&others.adopt(&["--fetch", "--tokenizer", "org/base"]));
    assert!(told.starts_with("bare: linked; fetched tokenizer.json\n"), "{told}");
    assert_eq!(fs::read(others.path("theirs/bare/tokenizer.json")).unwrap(), tokenizer);
    // A loose file has no folder of theirs: what belongs to it lies in ours, where the server looks.
    assert!(told.contains("\nloose.rkllm: linked; fetched tokenizer.json\n"), "{told}");
    assert_eq!(fs::read(others.path("ours/loose/tokenizer.json")).unwrap(), tokenizer);
    let after = tree(&others.path("theirs"));
    let touched = |path: &&PathBuf| before.get(*path) != after.get(*path);
    let touched: Vec<&PathBuf> = after.keys().filter(touched).collect();
    let (folder, file) = (others.path("theirs/bare"), others.path("theirs/bare/tokenizer.json"));
    assert_eq!(touched, [&folder, &file]);

    // A file whose name amounts to a short name has its makers' tokenizer.
    let others = Others::new();
    let hub = Hub::of(&[
        ("org/base", "tokenizer.json", &tokenizer),
        ("Qwen/Qwen3-1.7B", "tokenizer.json", &tokenizer),
    ]);
    fs::write(others.path("config.toml"), hub.config()).unwrap();
    let named = "Qwen3-1.7B-rk3588-w8a8.rkllm";
    fs::rename(others.path("theirs/loose.rkllm"), others.path("theirs").join(named)).unwrap();
    let told = printed(&others.adopt(&["--fetch"]));
    assert!(told.contains(&format!("{named}: linked; fetched tokenizer.json\n")), "{told}");

    // What cannot be fetched is said, and fails, and keeps the others from nothing.
    let others = Others::new();
    let nobody = Hub::of(&[]);
    fs::write(others.path("config.toml"), nobody.config()).unwrap();
    let output = others.adopt(&["--fetch"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let complained = text(&output.stderr);
    assert!(complained.contains("bare") && complained.contains("loose.rkllm"), "{output:?}");
    assert!(complained.contains("--tokenizer"), "{complained}");
    assert!(text(&output.stdout).contains("whole: linked\n"), "{output:?}");
}

#[test]
fn there_must_be_something_to_adopt() {
    let others = Others::new();
    let of = |dir: &Path| {
        let mut command = alone(&["adopt"]);
        command.arg(dir).arg("--models").arg(others.path("ours"));
        complaint(&command.output().unwrap())
    };
    assert!(of(&others.path("nowhere")).contains("nowhere"));
    assert!(of(&others.path("theirs/notes")).contains("holds no .rkllm file"));
    assert!(of(&others.path("ours")).contains("itself"));
}
