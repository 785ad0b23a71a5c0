//! The whole way to a board, with an ssh and an scp that stay on this machine.
#![allow(clippy::unwrap_used, reason = "a failure is a failure")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

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
' "$tunnel" "$back"
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
        .args([
            "--target",
            "ssh:ada@board",
            "--only",
            "chat.whole,models.pull,faults",
            "--executable",
        ])
        .arg(built.join("rkllama"))
        .arg("--board-models")
        .arg(dir.path().join("my models"))
        .arg("--board-runtime")
        .arg(built.join("../mock").join(runtime))
        .arg("--demo")
        .arg(root.join("mock-npu/demo"))
        .arg("--reports")
        .arg(dir.path().join("reports"))
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

#[test]
fn a_server_that_fails_on_the_board_fails_the_run_and_leaves_nothing() {
    let tried = tried("no-such-release/librkllmrt.so");
    assert!(!tried.good, "{}", tried.said);
    assert!(!Path::new(folder(&tried.calls)).exists());
}
