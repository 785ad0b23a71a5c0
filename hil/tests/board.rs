//! The whole way to a board, with an ssh and an scp that stay on this machine.
#![allow(clippy::unwrap_used, reason = "a failure is a failure")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use rkllama_hil::bench::{Bench, Kind};
use serde_json::Value;
use tempfile::TempDir;

/// Runs the command here; a tunnel is a forwarder.
const SSH: &str = r#"#!/usr/bin/env bash
echo "$*" >>"$SSH_CALLS"
while [ $# -gt 0 ]; do
    case $1 in
        -o) shift 2 ;;
        -N) shift ;;
        -L) tunnel=$2; shift 2 ;;
        -R) back=$2; shift 2 ;;
        --) shift; break ;;
        *) exit 2 ;;
    esac
done
shift
[ -z "${tunnel:-}" ] || exec python3 -c '
import socket, sys, threading
def pump(one, other):
    while data := one.recv(65536): other.sendall(data)
    other.shutdown(socket.SHUT_WR)
def forward(way):
    _, port, host, there = way.split(":")
    listener = socket.create_server(("127.0.0.1", int(port)))
    while True:
        near, _ = listener.accept()
        far = socket.create_connection((host, int(there)))
        for pair in (near, far), (far, near): threading.Thread(target=pump, args=pair, daemon=True).start()
for way in sys.argv[2:]: threading.Thread(target=forward, args=(way,), daemon=True).start()
forward(sys.argv[1])
' "$tunnel" ${back:+"$back"}
exec sh -c "$*"
"#;

const SCP: &str = "#!/usr/bin/env bash\nexec cp \"$3\" \"${4#*:}\"\n";

fn tool(folder: &Path, name: &str, script: &str) {
    fs::write(folder.join(name), script).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
}

struct Tried {
    good: bool,
    said: String,
    calls: String,
    dir: TempDir,
}

fn tried(runtime: &str) -> Tried {
    on_board(runtime, |dir| {
        let reports = dir.join("reports").display().to_string();
        ["--target", "ssh:ada@board", "--only", "chat.whole,models.pull,faults", "--reports"]
            .map(str::to_owned)
            .into_iter()
            .chain([reports])
            .collect()
    })
}

fn on_board(runtime: &str, args: impl Fn(&Path) -> Vec<String>) -> Tried {
    let dir = TempDir::new().unwrap();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let runner = PathBuf::from(env!("CARGO_BIN_EXE_rkllama-hil"));
    let built = runner.parent().unwrap();
    let model = dir.path().join("my models/demo");
    fs::create_dir_all(&model).unwrap();
    for file in ["demo.rkllm", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(root.join("mock-npu/demo").join(file), model.join(file)).unwrap();
    }
    tool(dir.path(), "ssh", SSH);
    tool(dir.path(), "scp", SCP);
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new(&runner)
        .env("PATH", path)
        .env("HOME", dir.path())
        .env("SSH_CALLS", dir.path().join("calls"))
        .current_dir(&root)
        .args(args(dir.path()))
        .arg("--executable")
        .arg(built.join("rkllama"))
        .arg("--board-models")
        .arg(dir.path().join("my models"))
        .arg("--board-runtime")
        .arg(built.join("../mock").join(runtime))
        .arg("--demo")
        .arg(root.join("mock-npu/demo"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let calls = fs::read_to_string(dir.path().join("calls")).unwrap();
    Tried {
        good: output.status.success(),
        said: String::from_utf8_lossy(&said).into_owned(),
        calls,
        dir,
    }
}

/// The folder that was made on the board.
fn folder(calls: &str) -> &str {
    let from = calls.rfind("rm -rf '").unwrap() + "rm -rf '".len();
    calls[from..].split('\'').next().unwrap()
}

#[test]
fn a_board_is_tried_and_left_as_it_was() {
    let tried = tried("1.3.0/librkllmrt.so");
    assert!(tried.good, "{}\n{}", tried.said, tried.calls);
    assert!(tried.said.contains("4 passed, 0 failed, 2 skipped"), "{}", tried.said);
    let reports = tried.dir.path().join("reports");
    let report: Value =
        serde_json::from_str(&fs::read_to_string(reports.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["target"], "ssh:ada@board");
    assert!(report["doctor"]["checks"].is_array(), "{report}");
    assert!(fs::read_to_string(reports.join("server.log")).unwrap().contains("answered"));
    assert!(folder(&tried.calls).starts_with("/tmp/rkllama-hil."), "{}", tried.calls);
    assert!(!Path::new(folder(&tried.calls)).exists());
}

/// The figures of a bench, which has to go well.
fn measured(tried: &Tried) -> Bench {
    assert!(tried.good, "{}\n{}", tried.said, tried.calls);
    assert!(folder(&tried.calls).starts_with("/tmp/rkllama-hil."), "{}", tried.calls);
    assert!(!Path::new(folder(&tried.calls)).exists());
    let figures = fs::read_to_string(tried.dir.path().join("figures.json")).unwrap();
    serde_json::from_str(&figures).unwrap()
}

fn bench(dir: &Path, more: &[&str]) -> Vec<String> {
    let figures = dir.join("figures.json").display().to_string();
    let args = ["bench", "--target", "ssh:ada@board", "--short", "--runs", "1", "--json", &figures];
    [args.as_slice(), more].concat().into_iter().map(str::to_owned).collect()
}

#[test]
fn a_board_is_measured_beside_a_loop_of_its_own_and_left_as_it_was() {
    let tried = on_board("1.3.0/librkllmrt.so", |dir| bench(dir, &[]));
    let figures = measured(&tried);
    assert_eq!(figures.target, "ssh:ada@board");
    let [part] = figures.parts.as_slice() else { panic!("{figures:?}") };
    let names: Vec<&str> = part.sides.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["bare C loop", "rkllama"]);
    for kind in [Kind::TokensPerS, Kind::LoadMs, Kind::WorkerRssMb] {
        assert!(part.sides.iter().all(|it| it.figures[&kind].min > 0.0), "{kind:?} {part:?}");
    }
    for kind in [Kind::StartMs, Kind::IdleRssMb, Kind::ServerRssMb, Kind::RoundTripMs] {
        assert!(part.sides[1].figures[&kind].min > 0.0, "{kind:?} {part:?}");
    }
    assert_eq!(part.notes[1], "5 of 5 answers are the same, token for token.");
}

#[test]
fn a_board_without_a_loop_is_measured_all_the_same() {
    // Nothing is compiled where programs were built elsewhere, and these are none.
    let tried = on_board("1.3.0/librkllmrt.so", |dir| {
        fs::write(dir.join("loop-f"), "no program").unwrap();
        bench(dir, &["--loops", dir.to_str().unwrap()])
    });
    assert!(!tried.good && tried.said.contains("the bare loop failed"), "{}", tried.said);
    assert!(!Path::new(folder(&tried.calls)).exists());
    let tried = on_board("1.3.0/librkllmrt.so", |dir| bench(dir, &["--loops", "hil/src"]));
    let figures = measured(&tried);
    let names: Vec<&str> = figures.parts[0].sides.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["rkllama"]);
    assert!(figures.parts[0].notes[1].starts_with("There is no bare loop: "), "{figures:?}");
}

#[test]
fn a_server_that_fails_on_the_board_fails_the_run_and_leaves_nothing() {
    let tried = tried("no-such-release/librkllmrt.so");
    assert!(!tried.good, "{}", tried.said);
    assert!(!Path::new(folder(&tried.calls)).exists());
}

#[test]
fn a_board_is_asked_what_only_it_can_tell() {
    let tried = on_board("1.3.0/librkllmrt.so", |dir| {
        let reports = dir.join("reports").display().to_string();
        let args = ["probe", "--target", "ssh:ada@board", "--only", "layout,logits", "--reports"];
        args.map(str::to_owned).into_iter().chain([reports]).collect()
    });
    assert!(tried.good, "{}\n{}", tried.said, tried.calls);
    assert!(tried.said.contains("logits = true"), "{}", tried.said);
    let reports = tried.dir.path().join("reports");
    let facts = fs::read_to_string(reports.join("capabilities.toml")).unwrap();
    assert!(facts.contains("[runtime_profiles.\"1.3.0\"]"), "{facts}");
    let report = fs::read_to_string(reports.join("capabilities.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["facts"]["logits"], true, "{report:#}");
    assert!(folder(&tried.calls).starts_with("/tmp/rkllama-hil."), "{}", tried.calls);
    assert!(!Path::new(folder(&tried.calls)).exists());
}

#[test]
fn a_probe_that_cannot_be_made_fails_and_leaves_nothing() {
    let tried = on_board("no-such-release/librkllmrt.so", |_| {
        ["probe", "--target", "ssh:ada@board"].map(str::to_owned).into()
    });
    assert!(!tried.good, "{}", tried.said);
    assert!(!Path::new(folder(&tried.calls)).exists());
}
