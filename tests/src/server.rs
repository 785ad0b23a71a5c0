//! A server process of its own for each test.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{ModelDir, Trace, executable, mock_library};

/// How long anything may take before the test fails. Generous: CI machines are slow, and a test
/// that passes never waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The file of a live script, in the server's folder.
const SCRIPT: &str = "script.toml";

/// Waits for a condition; fails with `what` when it does not come true.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The same, letting other futures of the task go on.
pub async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a test wants of its server.
pub struct ServerSetup {
    dir: TempDir,
    runtimes: Vec<PathBuf>,
    env: Vec<(OsString, OsString)>,
    args: Vec<OsString>,
    config: String,
}

impl Default for ServerSetup {
    fn default() -> Self {
        Self::new()
    }
}

impl ServerSetup {
    /// No models, no runtime, time at full speed.
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("models")).unwrap();
        Self {
            dir,
            runtimes: Vec::new(),
            env: vec![("MOCK_NPU_SCALE".into(), "0".into())],
            args: Vec::new(),
            config: String::new(),
        }
    }

    /// The mock of 1.3.0 with the demo model.
    pub fn demo() -> Self {
        Self::new().mock("1.3.0").model(&ModelDir::demo("demo"))
    }

    /// Adds the mock runtime of a release.
    #[must_use]
    pub fn mock(self, version: &str) -> Self {
        self.runtime(mock_library(version))
    }

    /// Adds a runtime library.
    #[must_use]
    pub fn runtime(mut self, path: impl Into<PathBuf>) -> Self {
        self.runtimes.push(path.into());
        self
    }

    /// Writes a model's folder.
    #[must_use]
    pub fn model(self, model: &ModelDir) -> Self {
        model.write(&self.models());
        self
    }

    /// Sets a variable for the server and its workers.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Has the mock follow a script, as fast as it can.
    #[must_use]
    pub fn script(self, toml: &str) -> Self {
        self.env("MOCK_NPU_SCRIPT", toml)
    }

    /// Has the mock follow a script with the latencies of the script and of the model.
    #[must_use]
    pub fn in_real_time(self, script: &str) -> Self {
        self.script(script).env("MOCK_NPU_SCALE", "1")
    }

    /// Has the mock follow a script in a file, which [`Server::rescript`] may rewrite while models
    /// run, with the latencies of the script and of the model.
    #[must_use]
    pub fn live_script(self, script: &str) -> Self {
        let file = self.dir.path().join(SCRIPT);
        std::fs::write(&file, script).unwrap();
        self.env("MOCK_NPU_SCRIPT", file).env("MOCK_NPU_SCALE", "1")
    }

    /// Adds lines to the configuration file.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// The models' folder.
    pub fn models(&self) -> PathBuf {
        self.dir.path().join("models")
    }

    /// The folder in which the server keeps what it has learned.
    pub fn state(&self) -> PathBuf {
        self.dir.path().join(".local/state/rkllama")
    }

    /// The command, for tests that expect it to fail.
    pub fn command(&self) -> Command {
        let config = self.dir.path().join("config.toml");
        std::fs::write(&config, &self.config).unwrap();
        let mut command = Command::new(executable());
        command
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_LOG", "debug,hyper=info")
            .env("MOCK_NPU_TRACE", self.dir.path().join("trace.jsonl"))
            .envs(self.env.iter().cloned())
            .arg("serve")
            .arg("--config")
            .arg(config)
            .args(["--listen", "127.0.0.1:0", "--models"])
            .arg(self.models());
        for runtime in &self.runtimes {
            command.arg("--runtime").arg(runtime);
        }
        command.args(&self.args);
        command
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Server {
        self.start_with_input(Stdio::null())
    }

    /// The same with this as its standard input.
    pub fn start_with_input(self, input: impl Into<Stdio>) -> Server {
        let mut child = self
            .command()
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stderr.take().unwrap(), Arc::clone(&log));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            match lines.next() {
                Some(line) => {
                    let line = line.unwrap();
                    if let Some((_, url)) = line.split_once("listening on ") {
                        break url.trim().to_owned();
                    }
                }
                None => panic!("the server ended at once:\n{}", log.lock().unwrap()),
            }
        };
        thread::spawn(move || lines.for_each(drop));
        Server { child, url, setup: Some(self), log }
    }
}

fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(len @ 1..) = from.read(&mut chunk) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..len]));
        }
    });
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// Taken only by a restart.
    setup: Option<ServerSetup>,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// What the mock has recorded so far.
    pub fn trace(&self) -> Trace {
        Trace::read(&self.dir().join("trace.jsonl"))
    }

    /// The folder that only this server uses.
    pub fn dir(&self) -> &Path {
        self.setup.as_ref().unwrap().dir.path()
    }

    /// What the mock is to do from the next load and the next run on. Needs a live script.
    pub fn rescript(&self, script: &str) {
        // Written beside and renamed: a run that begins now reads the old one or the new one.
        let (file, beside) = (self.dir().join(SCRIPT), self.dir().join("script.new"));
        std::fs::write(&beside, script).unwrap();
        std::fs::rename(beside, file).unwrap();
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection of one's own.
    pub fn connect(&self) -> TcpStream {
        let address: SocketAddr = self.url.strip_prefix("http://").unwrap().parse().unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Sends a signal to the server itself.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        until("the server has ended", || self.child.try_wait().unwrap())
    }

    /// Ends it as a service manager would and checks that it went well.
    pub fn stop(mut self) {
        self.end();
    }

    /// Ends it and starts it again on the same folder with the same settings. The trace goes on.
    #[must_use]
    pub fn restart(mut self) -> Self {
        self.end();
        self.setup.take().unwrap().start()
    }

    /// Starts it again after it was killed.
    #[must_use]
    pub fn start_again(mut self) -> Self {
        self.wait();
        self.setup.take().unwrap().start()
    }

    fn end(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the server's log ---\n{}--- end ---", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
