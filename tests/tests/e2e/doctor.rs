//! `rkllama doctor` on this machine, and what the server does to its own limits and cores.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rkllama_tests::{Chat, ModelDir, ServerSetup, Trace, executable, mock_library, until};
use serde_json::Value;
use tempfile::TempDir;

/// A scratch folder, in which `doctor` finds nothing of this machine's user.
struct Doctor {
    dir: TempDir,
    command: Command,
}

impl Doctor {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("models")).unwrap();
        let mut command = Command::new(executable());
        command
            .env_clear()
            .env("HOME", dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .arg("doctor")
            .arg("--models")
            .arg(dir.path().join("models"));
        Self { dir, command }
    }

    fn with(mut self, flag: &str, value: impl Into<OsString>) -> Self {
        self.command.arg(flag).arg(value.into());
        self
    }

    fn models(&self) -> PathBuf {
        self.dir.path().join("models")
    }

    fn run(&mut self) -> (ExitStatus, String) {
        let output = self.command.output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        (output.status, String::from_utf8(output.stdout).unwrap())
    }

    fn json(&mut self) -> (ExitStatus, Value) {
        self.command.arg("--json");
        let (status, text) = self.run();
        (status, serde_json::from_str(&text).unwrap())
    }
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Whether the machine that runs the tests is one of the boards: there more may be wrong.
fn on_board() -> bool {
    fs::read_to_string("/proc/device-tree/compatible").is_ok_and(|text| text.contains("rockchip,"))
}

#[test]
fn with_a_runtime_and_a_model_nothing_fails_here() {
    let mut doctor = Doctor::new().with("--runtime", mock_library("1.3.0"));
    ModelDir::demo("demo").write(&doctor.models());
    let (status, table) = doctor.run();
    let runtime = table.lines().find(|line| line.starts_with("runtime")).unwrap();
    assert!(runtime.starts_with("runtime 1.3.0 ") && runtime.contains(" ok"), "{table}");
    let model = table.lines().find(|line| line.starts_with("model demo ")).unwrap();
    assert!(model.contains("runtime 1.3.0"), "{table}");
    assert!(table.contains("model demo: no other one comes into question"), "{table}");
    let eyes = table.lines().find(|line| line.starts_with("librknnrt ")).unwrap();
    assert!(eyes.contains("librknnrt.so (release 2.3.2)"), "{table}");
    if !on_board() {
        assert!(status.success(), "{table}");
        let npu = table.lines().find(|line| line.starts_with("npu device")).unwrap();
        assert!(npu.contains("does not apply") && npu.contains("n/a"), "{table}");
    }
}

#[test]
fn a_model_and_a_runtime_that_do_not_go_together_well_are_a_warning() {
    let mut doctor = Doctor::new().with("--runtime", mock_library("1.3.0"));
    let model = ModelDir::demo("demo").weights_name("demo-v1.2.3.rkllm");
    model.write(&doctor.models());
    let (status, report) = doctor.json();
    let model = check(&report, "model");
    assert_eq!(model["verdict"], "warn");
    assert!(model["found"].as_str().unwrap().ends_with("runtime 1.3.0"), "{model}");
    let reason = model["reason"].as_str().unwrap();
    assert!(reason.contains("toolkit 1.2.3") && reason.contains("end of sequence"), "{reason}");
    assert!(status.success() || on_board(), "{report}");
    assert!(!doctor.dir.path().join(".local").exists(), "it only looks");
}

#[test]
fn without_a_runtime_it_fails_and_names_where_it_looked() {
    let (status, report) = Doctor::new().with("--runtime", "/nowhere").json();
    assert_eq!(status.code(), Some(1));
    assert_eq!(report["verdict"], "fail");
    let runtime = check(&report, "runtime");
    assert_eq!(runtime["verdict"], "fail");
    assert!(runtime["reason"].as_str().unwrap().contains("/nowhere"), "{runtime}");
    assert!(runtime["mend"].as_str().unwrap().contains("librkllmrt.so"), "{runtime}");
}

#[test]
fn an_incomplete_model_is_a_warning_with_the_missing_file() {
    let mut doctor = Doctor::new().with("--runtime", mock_library("1.3.0"));
    ModelDir::demo("half").write(&doctor.models());
    fs::remove_file(doctor.models().join("half/tokenizer.json")).unwrap();
    let (status, report) = doctor.json();
    let model = check(&report, "model");
    assert_eq!((&model["subject"], &model["verdict"]), (&"half".into(), &"warn".into()));
    assert!(model["reason"].as_str().unwrap().contains("tokenizer.json"), "{model}");
    assert!(status.success() || on_board(), "{report}");
}

#[test]
fn the_configuration_that_serve_would_read_is_read() {
    let doctor = Doctor::new();
    let file = doctor.dir.path().join("config.toml");
    fs::write(&file, "[board]\nafinity = true\n").unwrap();
    let (status, report) = doctor.with("--config", &file).json();
    assert_eq!(status.code(), Some(1));
    let configuration = check(&report, "configuration");
    assert_eq!(configuration["verdict"], "fail");
    assert!(configuration["reason"].as_str().unwrap().contains("`board.afinity`"));
}

#[allow(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// A server behind another program that sets its circumstances; killed when dropped.
struct Wrapped {
    child: Child,
    url: String,
    trace: PathBuf,
    _setup: ServerSetup,
}

impl Wrapped {
    /// Starts `sh -c SCRIPT` with the server's command as its arguments. `None` when the script
    /// gives up before it becomes the server.
    fn start(setup: ServerSetup, script: &str) -> Option<Self> {
        let inner = setup.command();
        let trace = inner.get_envs().find(|(name, _)| *name == "MOCK_NPU_TRACE").unwrap().1;
        let trace = PathBuf::from(trace.unwrap());
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(inner.get_program())
            .args(inner.get_args())
            .env_clear()
            .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Some((_, url)) = line.split_once("listening on ") else {
            child.wait().unwrap();
            return None;
        };
        let url = url.trim().to_owned();
        Some(Self { child, url, trace, _setup: setup })
    }

    /// Has a model loaded; the process that did it.
    async fn worker(&self) -> u32 {
        let answer = reqwest::Client::new()
            .post(format!("{}/v1/chat/completions", self.url))
            .json(&Chat::user("Hi").with("max_tokens", 1).0)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        Trace::read(&self.trace).workers()[0]
    }
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A field of a file of `/proc`, such as the second number of `Max open files  256  4096  files`.
fn field(pid: u32, file: &str, line: &str, column: usize) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let rest = text.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    rest.split_whitespace().nth(column).unwrap().to_owned()
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_for_the_server_and_its_workers() {
    let script = "ulimit -Sn 256 && ulimit -Hn 4096 && exec \"$0\" \"$@\"";
    let server = Wrapped::start(ServerSetup::demo(), script).expect("it starts");
    let worker = server.worker().await;
    for pid in [server.child.id(), worker] {
        assert_eq!(field(pid, "limits", "Max open files", 0), "4096");
    }
}

/// The shell puts itself on one core, the worker is told another: what is inherited does not hold.
#[test]
fn a_worker_keeps_to_the_cores_it_is_told() {
    let cores = std::thread::available_parallelism().unwrap().get();
    if cores < 2 {
        skipped("one core leaves no choice");
        return;
    }
    let all = field(std::process::id(), "status", "Cpus_allowed_list:", 0);
    let number = |text: &str| text.split(['-', ',']).next().unwrap().to_owned();
    let (first, last) = (number(&all), all.rsplit(['-', ',']).next().unwrap().to_owned());
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut worker = Command::new("taskset")
        .args(["-c", &first])
        .arg(executable())
        .args(["worker", &last])
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = worker.id();
    until("the worker is on its core", || {
        (field(pid, "status", "Cpus_allowed_list:", 0) == last).then_some(())
    });
    drop(ours);
    worker.wait().unwrap();
}

/// What the kernel of a small board with one little and one big core would show.
fn board_of_two(dir: &Path) {
    fs::write(dir.join("cpuinfo"), "processor\t: 0\nHardware\t: Rockchip RK3588\n").unwrap();
    let cpu = dir.join("cpu");
    for (core, capacity) in [("cpu0", "397\n"), ("cpu1", "1024\n")] {
        fs::create_dir_all(cpu.join(core)).unwrap();
        fs::write(cpu.join(core).join("cpu_capacity"), capacity).unwrap();
    }
    fs::write(cpu.join("online"), "0-1\n").unwrap();
}

/// The server of [`board_of_two`], in a view of the file system of its own. `None` where the system
/// does not let the tests have one.
fn on_board_of_two(setup: ServerSetup) -> Option<Wrapped> {
    let all = field(std::process::id(), "status", "Cpus_allowed_list:", 0);
    if on_board() || !all.starts_with("0-") {
        skipped("the first two cores are needed, and no real board");
        return None;
    }
    let dir = TempDir::new().unwrap();
    board_of_two(dir.path());
    let script = format!(
        "exec unshare --user --map-root-user --mount sh -c '\
         mount --bind {dir}/cpuinfo /proc/cpuinfo && \
         mount --bind {dir}/cpu /sys/devices/system/cpu && exec \"$0\" \"$@\"' \"$0\" \"$@\"",
        dir = dir.path().display()
    );
    let server = Wrapped::start(setup, &script);
    if server.is_none() {
        skipped("no mounts of one's own here (unshare)");
    }
    server
}

#[tokio::test]
async fn on_a_board_the_server_takes_the_little_cores_and_its_workers_the_big_ones() {
    let Some(server) = on_board_of_two(ServerSetup::demo()) else { return };
    let worker = server.worker().await;
    let cores = |pid| field(pid, "status", "Cpus_allowed_list:", 0);
    assert_eq!((cores(server.child.id()), cores(worker)), ("0".to_owned(), "1".to_owned()));
    for thread in fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    }
}

#[tokio::test]
async fn pinning_can_be_turned_off() {
    let setup = ServerSetup::demo().config("[board]\naffinity = false");
    let Some(server) = on_board_of_two(setup) else { return };
    let worker = server.worker().await;
    let all = field(std::process::id(), "status", "Cpus_allowed_list:", 0);
    for pid in [server.child.id(), worker] {
        assert_eq!(field(pid, "status", "Cpus_allowed_list:", 0), all);
    }
}
